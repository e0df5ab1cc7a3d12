//! Memory statistics of a process.

/// Peak resident memory of a process in bytes, including code, packed weights, activations and temporary
/// allocations. `process` is a process id or `self`. Returns `None` on systems without Linux's `/proc`.
pub fn peak_bytes(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_nobody_has_none() {
        assert_eq!(peak_bytes("self").is_some(), cfg!(target_os = "linux"));
        assert!(peak_bytes("self").is_none_or(|bytes| bytes > 100_000));
        assert_eq!(peak_bytes("nobody"), None);
    }
}
