//! The output of an unknown operator has unknown extents. Totals are then lower bounds and reported as such.

use crate::model::Attribute::{Int, Ints, Text};
use crate::model::Model;
use nets::import::onnx::{ImportOptions, load_bytes};

/// The multiply-accumulates that the program counts, whether it reports them as a lower bound, and its error
/// with `--strict`.
fn counted(bytes: &[u8], more: &[&str]) -> (u64, bool, Option<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.onnx").to_str().unwrap().to_owned();
    std::fs::write(&path, bytes).unwrap();
    let count = |options: &[&str]| {
        let arguments = [&["count", &path][..], more, options].concat();
        assert_cmd::cargo::cargo_bin_cmd!("nets").args(arguments).output().unwrap()
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (json, table, strict) = (count(&["--format", "json"]), count(&[]), count(&["--strict"]));
    assert!(json.status.success() && table.status.success(), "{}", text(json.stderr));
    let parsed: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let (table, partial) = (text(table.stdout), parsed["unknown_layers"].as_u64().unwrap_or(0) > 0);
    assert_eq!(table.contains("at least"), partial, "{table}");
    let strict = (!strict.status.success()).then(|| text(strict.stderr));
    (parsed["macs"].as_u64().unwrap(), partial, strict)
}

/// A 6x6 image passes through one operator and then through a convolution from 5 to 5 channels with 3x3 filters.
fn before_conv(opset: i64, change: impl Fn(Model) -> Model, channels: i64) -> Model {
    let model = change(Model::new(opset, extents![1, 5, 6, 6]));
    model.filled("w", &[5, channels, 3, 3], 1.0).node("Conv", &["r", "w"], &["y"])
}

/// The count must be right, or lower and reported as a lower bound.
#[track_caller]
fn counts(model: Model, right: u64) {
    let (macs, partial, strict) = counted(&model.done(), &[]);
    assert!(macs == right || partial && macs < right, "expected {right}, got {macs} (at least: {partial})");
    assert!(
        strict.is_some() || !partial && macs == right,
        "strict has nothing to say of {macs}, not {right}"
    );
}

#[test]
fn extents_are_not_kept_past_an_operator_that_changes_them() {
    let nodes = |op: &'static str, inputs: &'static [&'static str], attributes: &'static [(&str, i64)]| {
        move |model: Model| {
            let model = model.floats("scales", &[4], &[1.0, 1.0, 2.0, 2.0]).floats("none", &[0], &[]);
            let model = model
                .ints("sizes", &[1, 5, 12, 12])
                .ints("pads", &[0, 0, 1, 1, 0, 0, 1, 1])
                .ints("two", &[2]);
            let model = model
                .ints("repeats", &[1, 1, 2, 2])
                .ints("wide", &[1, 5, 6, 6])
                .ints("three", &[3])
                .ints("six", &[6]);
            let attributes: Vec<_> = attributes.iter().map(|&(name, value)| (name, Int(value))).collect();
            model.node_with(op, inputs, &["r"], &attributes)
        }
    };
    counts(before_conv(13, nodes("Resize", &["x", "none", "scales"], &[]), 5), 22_500);
    counts(before_conv(13, nodes("Resize", &["x", "none", "none", "sizes"], &[]), 5), 22_500);
    counts(before_conv(10, nodes("Resize", &["x", "scales"], &[]), 5), 22_500);
    counts(before_conv(9, nodes("Upsample", &["x", "scales"], &[]), 5), 22_500);
    let reflect = |mode: &'static str| {
        move |model: Model| {
            let model = model.ints("pads", &[0, 0, 1, 1, 0, 0, 1, 1]);
            model.node_with("Pad", &["x", "pads"], &["r"], &[("mode", Text(mode))])
        }
    };
    for mode in ["reflect", "edge", "wrap", "constant"] {
        counts(before_conv(19, reflect(mode), 5), 8_100);
    }
    let old_pad = |model: Model| {
        let attributes = [("mode", Text("reflect")), ("pads", Ints(&[0, 0, 1, 1, 0, 0, 1, 1]))];
        model.node_with("Pad", &["x"], &["r"], &attributes)
    };
    counts(before_conv(9, old_pad, 5), 8_100);
    counts(before_conv(13, nodes("Concat", &["x", "x"], &[("axis", 3)]), 5), 9_000);
    counts(before_conv(13, nodes("Concat", &["x", "x"], &[("axis", -2)]), 5), 9_000);
    counts(before_conv(13, nodes("Slice", &["x", "two", "six", "three"], &[]), 5), 1_800);
    counts(before_conv(13, nodes("Tile", &["x", "repeats"], &[]), 5), 22_500);
    counts(before_conv(13, nodes("Gather", &["x", "repeats"], &[("axis", 3)]), 5), 1_800);
    counts(before_conv(13, nodes("MyCrop", &["x"], &[]), 5), 225);
    counts(before_conv(13, nodes("MaxUnpool", &["x", "two"], &[]), 5), 22_500);
    counts(before_conv(13, nodes("RoiAlign", &["x", "two", "three"], &[]), 5), 225);
    counts(before_conv(13, nodes("MaxUnpool", &["x", "sizes"], &[]), 5), 225);
    // The number of channels of the convolution's input changes too.
    let wide = Model::new(13, extents![1, 20, 6, 6]).node_with(
        "DepthToSpace",
        &["x"],
        &["r"],
        &[("blocksize", Int(2))],
    );
    counts(wide.filled("w", &[5, 5, 3, 3], 1.0).node("Conv", &["r", "w"], &["y"]), 22_500);
    let deep = Model::new(13, extents![1, 5, 6, 6]).node_with(
        "SpaceToDepth",
        &["x"],
        &["r"],
        &[("blocksize", Int(2))],
    );
    counts(deep.filled("w", &[5, 20, 3, 3], 1.0).node("Conv", &["r", "w"], &["y"]), 900);
    let unequal = Model::new(13, extents![1, 5, 6, 6]).ints("parts", &[1, 5]);
    let unequal = unequal.node_with("Split", &["x", "parts"], &["q", "r"], &[("axis", Int(3))]);
    counts(unequal.filled("w", &[5, 5, 3, 3], 1.0).node("Conv", &["r", "w"], &["y"]), 2_700);
}

#[test]
fn what_is_not_known_stays_so_through_every_layer() {
    let tail = |model: Model| {
        let model = model.node("Relu", &["u"], &["a"]).filled("s", &[5], 1.0);
        let model = model.node("BatchNormalization", &["a", "s", "s", "s", "s"], &["b"]);
        let model = model.node("Shape", &["b"], &["size"]).node("Reshape", &["b", "size"], &["c"]);
        model.node("Add", &["c", "a"], &["r"])
    };
    let unknown = |model: Model| tail(model.node("MaxUnpool", &["x", "x"], &["u"]));
    let model = before_conv(16, unknown, 5).done();
    let (macs, partial, strict) = counted(&model, &[]);
    assert_eq!((macs, partial), (0, true));
    assert!(strict.unwrap().contains("(MaxUnpool)"));
    // A model that states the extents of the output is counted with them.
    let known =
        |model: Model| tail(model.node("MaxUnpool", &["x", "x"], &["u"]).info("u", extents![1, 5, 12, 12]));
    let (macs, partial, strict) = counted(&before_conv(16, known, 5).done(), &[]);
    assert_eq!((macs, partial), (22_500, true));
    assert!(strict.unwrap().contains("(MaxUnpool)"));
    // The stated extents do not hold for another input.
    let (macs, partial, _) = counted(&before_conv(16, known, 5).done(), &["--input", "5x8x8"]);
    assert_eq!((macs, partial), (0, true));
}

#[test]
fn parameters_behind_an_unknown_operator_are_counted() {
    let model = before_conv(16, |model| model.node("MaxUnpool", &["x", "x"], &["r"]), 5);
    let model = load_bytes(&model.done(), "it", &ImportOptions::default()).unwrap();
    let count = model.count(1).unwrap();
    assert_eq!((count.params, count.macs), (225, 0));
    assert!(model.warnings.iter().any(|warning| warning.contains("`r_MaxUnpool`")), "{:?}", model.warnings);
}

#[test]
fn an_operator_that_keeps_the_extents_is_counted_past() {
    for op in ["Erf", "Softplus", "Exp", "Abs", "HardSigmoid", "Gelu", "LogSoftmax", "Selu"] {
        let model = before_conv(20, |model| model.node(op, &["x"], &["r"]), 5).done();
        let (macs, partial, strict) = counted(&model, &[]);
        assert_eq!((macs, partial, strict.is_some()), (3_600, false, false), "{op}");
    }
    // It keeps the extents, but its values are random.
    let model = before_conv(20, |model| model.node("Bernoulli", &["x"], &["r"]), 5).done();
    let (macs, partial, strict) = counted(&model, &[]);
    assert_eq!((macs, partial, strict.is_some()), (3_600, true, true));
}
