//! What this machine's processor calls itself.

/// The model, or the architecture where the system does not say as Linux does.
pub(super) fn name() -> String {
    model().unwrap_or_else(|| format!("{} processor", std::env::consts::ARCH))
}

fn model() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name") || line.starts_with("Model"))?;
    Some(line.split_once(':')?.1.trim().to_owned()).filter(|model| !model.is_empty())
}
