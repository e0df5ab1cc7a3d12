//! Networks with algorithms chosen by timing, in the library and on the command line, with a wisdom file.

mod common;
mod pictures;

use assert_cmd::cargo::cargo_bin_cmd;
use kernels::{Select, Threads, Wisdom};
use nets::{CompiledNet, Net, NetOptions, zoo};
use pictures::Picture;
use serde_json::Value;
use std::fs;
use std::path::Path;

#[test]
fn equal_layers_are_timed_once_and_remembered() {
    let graph = zoo::find("resnet20-cifar").unwrap().graph().unwrap();
    let weights = common::weights(&graph);
    let options = NetOptions::default().max_threads(1).select(Select::Measured);
    let wisdom = Wisdom::new();
    let compile = || CompiledNet::with_wisdom(&graph, &weights, &options, &wisdom).unwrap();
    let algorithms = |net: &CompiledNet| net.steps().map(|step| step.algorithm).collect::<Vec<_>>();
    let first = compile();
    let convolutions = first.explain().count();
    assert!((5..convolutions / 2 + 3).contains(&wisdom.len()), "{} of {convolutions}", wisdom.len());
    let known = wisdom.to_string();
    let second = compile();
    assert_eq!(wisdom.to_string(), known);
    assert_eq!(algorithms(&first), algorithms(&second));
    let timed = |net: &CompiledNet| {
        net.explain().filter(|(_, report)| report.choice.candidate().unwrap().measured.is_some()).count()
    };
    assert!(timed(&first) >= convolutions - 1 && timed(&second) == timed(&first), "{}", timed(&first));

    // With and without the caller's wisdom, the output must match the model's choice.
    let input = common::noise(first.input_len(), 3);
    let run = |net: CompiledNet| Net::try_from(net).unwrap().run(&input, Threads::Seq).unwrap().to_vec();
    let expected = run(CompiledNet::new(&graph, &weights, &options.select(Select::Auto)).unwrap());
    for net in [second, CompiledNet::new(&graph, &weights, &options).unwrap()] {
        for (got, expected) in run(net).iter().zip(&expected) {
            assert!((got - expected).abs() <= 1e-3 * expected.abs().max(1.0), "{got} {expected}");
        }
    }
}

/// Standard output and warnings of a successful run.
fn run(arguments: &[&str]) -> (String, String) {
    let output = cargo_bin_cmd!("nets").args(arguments).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    assert!(stderr.lines().all(|line| line.starts_with("warning: ")), "{arguments:?}: {stderr}");
    (stdout, stderr)
}

fn explain<'a>(wisdom: &'a str, threads: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["explain", "lenet5", "--measured", "--threads", threads, "--wisdom", wisdom], more].concat()
}

fn path(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

#[test]
fn times_are_in_the_file_and_in_what_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(&folder, "wisdom");
    for threads in ["1", "2"] {
        let (text, warnings) = run(&explain(&file, threads, &["--json"]));
        assert_eq!(warnings, "");
        let rows: Value = serde_json::from_str(&text).unwrap();
        let timed = |row: &&Value| row["candidates"][0]["measured_ms"].as_f64().is_some_and(|ms| ms > 0.0);
        assert!(rows.as_array().unwrap().iter().filter(timed).count() >= 2, "{text}");
        let known = fs::read(&file).unwrap();
        assert!(known.starts_with(b"kernels wisdom 3\n") && Wisdom::load(&file).ignored.is_empty());
        // All times are known now, so further commands do not change the file.
        let (text, _) = run(&explain(&file, threads, &[]));
        assert!(text.contains("the fastest of those that were timed"), "{text}");
        let (digits, measured) = (["--threads", threads], ["--measured", "--wisdom", &file]);
        run(&[&["bench", "lenet5", "--seconds", "0.01"], &digits[..], &measured].concat());
        let picture = path(&folder, "digit.png");
        let stroke = |x: usize, _: usize| [if x.abs_diff(10) < 2 { 0 } else { 255 }];
        fs::write(&picture, Picture::from_fn(20, 20, stroke).png()).unwrap();
        run(&[&["run", "lenet5", "--image", &picture], &digits[..], &measured].concat());
        assert_eq!(fs::read(&file).unwrap(), known);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "something was left behind");
}

#[test]
fn whatever_is_wrong_with_the_file_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(&folder, "wisdom");
    for (broken, reason) in [(&b"\x00\xff\nmany=5"[..], "line 1"), (b"kernels wisdom 3\nx\ty\n", "line 2")] {
        fs::write(&file, broken).unwrap();
        let (text, warnings) = run(&explain(&file, "1", &[]));
        assert!(text.contains("chosen"), "{text}");
        assert!(warnings.contains(&file) && warnings.contains(reason), "{warnings}");
        // The file that replaced the damaged one is valid.
        assert!(Wisdom::load(&file).ignored.is_empty());
        assert_eq!(run(&explain(&file, "1", &[])).1, "");
    }
    for (file, reason) in [
        (path(&folder, "none/wisdom"), "cannot write"),
        (folder.path().to_str().unwrap().to_owned(), "cannot write"),
    ] {
        let (text, warnings) = run(&explain(&file, "1", &[]));
        assert!(text.contains("chosen") && warnings.contains(reason), "{warnings}");
    }
    assert!(!Path::new(&path(&folder, "none")).exists());
    let output = cargo_bin_cmd!("nets").args(["explain", "lenet5", "--wisdom", &file]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--measured"));
}
