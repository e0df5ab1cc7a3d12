//! The name of this CPU. Times measured on another CPU are not valid here.

use std::fs::read_to_string;
use std::num::NonZero;

/// Fields of `/proc/cpuinfo` that distinguish CPU models, on x86-64 and on AArch64.
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

/// Model and cache sizes on Linux; elsewhere the architecture and the number of cores.
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
    // Virtual machines with the same model name can have different shares of its caches.
    parts.extend(
        [2, 3]
            .iter()
            .filter_map(|&level| Some((crate::choose::profile::cache_bytes(level)? >> 10).to_string())),
    );
    let text = parts.join(" ");
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}
