//! The name of this machine's processor.

/// The brand name, or the architecture if the brand is not readily available.
pub(super) fn name() -> String {
    brand().unwrap_or_else(|| format!("{} processor", std::env::consts::ARCH))
}

#[cfg(target_arch = "x86_64")]
fn brand() -> Option<String> {
    let brand = raw_cpuid::CpuId::new().get_processor_brand_string()?;
    Some(brand.as_str().trim().to_owned()).filter(|brand| !brand.is_empty())
}

#[cfg(not(target_arch = "x86_64"))]
fn brand() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name") || line.starts_with("Model"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
