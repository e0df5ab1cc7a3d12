//! Runs the program through its command line.
#![allow(dead_code)] // each test uses a part

use assert_cmd::cargo::cargo_bin_cmd;
use serde_json::Value;
use std::process::Output;

fn run(arguments: &[&str]) -> Output {
    cargo_bin_cmd!("nets").args(arguments).output().unwrap()
}

/// Runs successfully and returns standard output; standard error must be empty.
pub fn success(arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && stderr.is_empty(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs successfully and parses standard output as JSON.
pub fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&success(arguments)).unwrap()
}

/// Fails with exit code 2 and one line on standard error; standard output must be empty.
pub fn failure(arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{arguments:?}: {stderr}");
    assert!(lines[0].starts_with("error: "), "{arguments:?}: {stderr}");
    lines[0].to_owned()
}

/// Fails like [`failure`], and the line contains `part`.
pub fn fails_with(arguments: &[&str], part: &str) {
    let message = failure(arguments);
    assert!(message.contains(part), "{arguments:?}: `{message}` does not say `{part}`");
}
