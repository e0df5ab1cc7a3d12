//! What this CPU is called: times of another one mean nothing here.

use std::fs::read_to_string;
use std::num::NonZero;

/// Lines of `/proc/cpuinfo` that tell CPUs apart, on x86-64 and on AArch64.
const TELLING: [&str; 8] = [
    "model name",
    "cpu family",
    "model",
    "stepping",
    "CPU implementer",
    "CPU variant",
    "CPU part",
    "CPU revision",
];

/// Model and caches, as Linux tells; elsewhere the architecture and the number of cores.
pub(crate) fn model() -> String {
    let info = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of_first = info.split("\n\n").next().unwrap_or_default();
    let value = |name: &&str| {
        let line = |line: &str| {
            let (field, value) = line.split_once(':')?;
            (field.trim() == *name).then(|| value.trim().to_owned())
        };
        of_first.lines().find_map(line)
    };
    let mut parts = vec![std::env::consts::ARCH.to_owned()];
    parts.extend(TELLING.iter().filter_map(value));
    if parts.len() == 1 {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        parts.push(format!("{cores} cores"));
    }
    // Virtual machines share a model's name and differ in what they get of its caches.
    parts.extend(
        [2, 3]
            .iter()
            .filter_map(|&level| Some((crate::choose::profile::cache_bytes(level)? >> 10).to_string())),
    );
    let text = parts.join(" ");
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}
