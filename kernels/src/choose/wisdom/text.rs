//! The text form of wisdom.

use super::{Loaded, MOST_TIMES, Times, Wisdom, WisdomKey};
use crate::describe::Method;
use std::fmt;

/// The first line. Every incompatible format has another number.
const HEADER: &str = "kernels wisdom 3";
/// Measured times are only valid for one version of the library.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Maximum number of reasons reported.
const MOST_REASONS: usize = 24;
/// Upper bound of a plausible time in nanoseconds: about three days.
const MOST_NANOSECONDS: u64 = 1 << 48;

/// Reasons why lines were ignored, capped at [`MOST_REASONS`].
#[derive(Default)]
struct Reasons {
    given: Vec<String>,
    more: usize,
}

impl Reasons {
    fn add(&mut self, reason: String) {
        if self.given.len() < MOST_REASONS { self.given.push(reason) } else { self.more += 1 }
    }

    fn all(mut self) -> Vec<String> {
        if self.more > 0 {
            self.given.push(format!("and {} more", self.more));
        }
        self.given
    }
}

pub(super) fn parse(text: &[u8]) -> Loaded {
    let (wisdom, mut reasons) = (Wisdom::new(), Reasons::default());
    let mut lines = text.split(|&byte| byte == b'\n').enumerate();
    let first = lines.next().map_or(&[][..], |(_, line)| line);
    if first != HEADER.as_bytes() {
        let got = String::from_utf8_lossy(&first[..first.len().min(40)]);
        reasons.add(format!("line 1: expected {HEADER:?}, got {got:?}; the whole file is ignored"));
        return Loaded { wisdom, ignored: reasons.all() };
    }
    for (index, line) in lines.filter(|(_, line)| !line.is_empty()) {
        match entry(line, &wisdom.cpu) {
            Ok((key, times)) => wisdom.remember(key, times),
            Err(reason) => reasons.add(format!("line {}: {reason}", index + 1)),
        }
    }
    // A truncated file ends without a newline. Its last number may have lost digits.
    if !text.ends_with(b"\n") {
        reasons.add("the last line has no end-of-line character".to_owned());
        let cut_off = text.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
        if let Ok((key, _)) = entry(cut_off, &wisdom.cpu) {
            wisdom.lock().by_key.remove(&key);
        }
    }
    Loaded { wisdom, ignored: reasons.all() }
}

/// Parses the key and times of one line, or says why the line is ignored.
fn entry(line: &[u8], cpu: &str) -> Result<(WisdomKey, Times), String> {
    let line = std::str::from_utf8(line).map_err(|_| "expected UTF-8, got other bytes")?;
    let fields: Vec<&str> = line.split('\t').collect();
    let [version, of_cpu, key, times] = fields[..] else {
        return Err(format!("expected 4 fields between tabs, got {}", fields.len()));
    };
    if version != VERSION {
        return Err(format!("written by library version {version:?}, this is version {VERSION}"));
    }
    if of_cpu != cpu {
        return Err(format!("measured on another CPU, {of_cpu:?}"));
    }
    let key = key.parse()?;
    let times: Times = times.split(',').map(time).collect::<Result<_, String>>()?;
    let twice = (1..times.len()).any(|i| times[..i].iter().any(|other| other.0 == times[i].0));
    if times.len() > MOST_TIMES || twice {
        return Err("expected one time per algorithm, got several for one of them".to_owned());
    }
    Ok((key, times))
}

fn time(text: &str) -> Result<(Method, f64), String> {
    let (name, nanoseconds) = text.split_once('=').ok_or_else(|| format!("expected a time, got {text:?}"))?;
    let method: Method = name.parse().map_err(|_| format!("there is no algorithm {name:?}"))?;
    let number: Option<u64> = nanoseconds.parse().ok();
    let number = number.filter(|number| (1..=MOST_NANOSECONDS).contains(number));
    let number = number.ok_or_else(|| format!("expected nanoseconds, got {nanoseconds:?}"))?;
    Ok((method, number as f64 * 1e-9))
}

pub(super) fn write(wisdom: &Wisdom, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{HEADER}")?;
    for (key, times) in wisdom.in_order() {
        write!(f, "{VERSION}\t{}\t{key}\t", wisdom.cpu)?;
        for (index, (method, seconds)) in times.iter().enumerate() {
            let nanoseconds = ((seconds * 1e9) as u64).clamp(1, MOST_NANOSECONDS);
            write!(f, "{}{method}={nanoseconds}", if index > 0 { "," } else { "" })?;
        }
        writeln!(f)?;
    }
    Ok(())
}
