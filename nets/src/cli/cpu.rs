//! What this machine's processor calls itself, and its unit for bf16 products.

use kernels::Isa;

/// The model, or the architecture where the system does not say as Linux does.
pub(super) fn name() -> String {
    model().unwrap_or_else(|| format!("{} processor", std::env::consts::ARCH))
}

/// The unit with which an instruction set computes bf16 products, if it has one.
pub(super) fn bf16_unit(isa: Isa) -> Option<&'static str> {
    match isa {
        Isa::Amx => Some("matrix tiles"),
        Isa::Avx512Bf16 => Some("dot products"),
        _ => None,
    }
}

fn model() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name") || line.starts_with("Model"))?;
    Some(line.split_once(':')?.1.trim().to_owned()).filter(|model| !model.is_empty())
}
