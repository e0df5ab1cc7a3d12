//! Attributes and constants that no exporter writes: an error, and neither a panic nor an allocation of their size.

use crate::model::Attribute::{Float, Int, Text};
use crate::model::Model;
use crate::{Outcome::Refused, expect};

#[track_caller]
fn refused(model: &[u8], part: &str) {
    expect(model, &[1, 4], &[1.0, 2.0, 3.0, 4.0], &Refused(part));
}

#[test]
fn a_split_in_absurdly_many_parts() {
    let attributes = [("axis", Int(1)), ("num_outputs", Int(1 << 62))];
    let model = Model::new(18, extents!["N", 4]).node_with("Split", &["x"], &["y"], &attributes);
    refused(&model.done(), "at most 4 parts");
}

#[test]
fn a_choice_between_two_operands() {
    for inputs in [&["c", "x"][..], &["c", "", "x"]] {
        let model = Model::new(16, extents!["N", 4]).node("IsNaN", &["x"], &["c"]);
        refused(&model.node("Where", inputs, &["y"]).done(), "Where");
    }
}

#[test]
fn a_recurrent_layer_that_clips_to_nothing() {
    for clip in [-1.0, f32::NAN] {
        let model =
            Model::new(14, extents![1, 1, 4]).filled("w", &[1, 2, 4], 0.5).filled("r", &[1, 2, 2], 0.5);
        let attributes = [("hidden_size", Int(2)), ("clip", Float(clip))];
        let model = model.node_with("RNN", &["x", "w", "r"], &["y"], &attributes).done();
        expect(&model, &[1, 1, 4], &[1.0; 4], &Refused("`clip` of at least 0"));
    }
}

#[test]
fn empty_constants() {
    let empty = || Model::new(18, extents!["N", 4]).floats("e", &[1, 0], &[]);
    for mode in ["edge", "wrap", "reflect", "constant"] {
        let model = empty().ints("pads", &[0, 1, 0, 1]);
        let model = model.node_with("Pad", &["e", "pads"], &["p"], &[("mode", Text(mode))]);
        refused(&model.node("Add", &["x", "p"], &["y"]).done(), "`p_Pad`");
    }
    let model = empty().ints("repeats", &[1 << 62, 1 << 62]).node("Tile", &["e", "repeats"], &["t"]);
    refused(&model.node("Add", &["x", "t"], &["y"]).done(), "`t_Tile`");
}

/// Each of the rows was visited, although they are empty.
#[test]
fn empty_rows_without_end() {
    let model = Model::new(18, extents!["N", 4]).floats("e", &[1 << 50, 0], &[]);
    let model = model.node_with("Concat", &["e", "e"], &["c"], &[("axis", Int(1))]);
    refused(&model.node("Add", &["x", "c"], &["y"]).done(), "`y_Add`");
}

#[test]
fn a_constant_of_terabytes() {
    let model = Model::new(13, extents!["N", 4]).ints("shape", &[1 << 20, 1 << 19]);
    let model = model.node("ConstantOfShape", &["shape"], &["c"]).node("ReduceSum", &["c"], &["s"]);
    refused(&model.node("Add", &["x", "s"], &["y"]).done(), "memory limit");
}

#[test]
fn a_long_chain_of_constants() {
    let mut model = Model::new(13, extents!["N", 4]).floats("c0", &[2000], &[0.25; 2000]);
    let names: Vec<String> = (0..200).map(|i| format!("c{i}")).collect();
    for pair in names.windows(2) {
        model = model.node("Sin", &[&pair[0]], &[&pair[1]]);
    }
    let model = model.node("ReduceSum", &[&names[199]], &["s"]);
    refused(&model.node("Add", &["x", "s"], &["y"]).done(), "`c65_Sin`");
}

/// Weights are not read. The file has holes, so it takes no room on the disk.
#[test]
#[cfg(target_os = "linux")]
fn a_file_of_500_megabytes_is_counted_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.onnx");
    let model = Model::new(17, extents!["N", 11_000]).node("MatMul", &["x", "w"], &["y"]);
    let (bytes, length) = model.ending_in("w", &[11_000, 11_000]);
    std::fs::write(&path, bytes).unwrap();
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().set_len(length).unwrap();
    assert!(length > 484_000_000);

    // The limit is for addresses, which include the program and the libraries.
    let program = assert_cmd::cargo::cargo_bin!("nets");
    let limited = |kibibytes: u32, script: &str| {
        let script = format!("ulimit -v {kibibytes}; {script}");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(program).arg(&path).output().unwrap()
    };
    let done = limited(100_000, r#"exec "$1" count "$2" --format json"#);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&report["params"], &report["macs"]), (&121_000_000.into(), &121_000_000.into()));
    assert!(!limited(1_000, r#"exec "$1" count "$2""#).status.success(), "the limit holds");
}
