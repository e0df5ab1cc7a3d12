//! Operators that change extents give the values that ONNX defines, and extents without a number are no mistake.

use crate::Outcome::{Is, Refused};
use crate::model::Attribute::{Int, Ints, Text};
use crate::model::Model;
use crate::{expect, program};
use nets::Shape;
use nets::import::onnx::{ImportOptions, load_bytes};

/// One output of these coordinates comes from the first element (ONNX, operator Resize: `length_resized > 1 ? ... : 0`).
/// Random graphs against ONNX Runtime found that it came from the half before it.
#[test]
fn one_resized_element_is_the_first_one() {
    let model = Model::new(13, extents![1, 1, 1, 3]).floats("none", &[0], &[]).ints("sizes", &[1, 1, 1, 1]);
    let attributes =
        [("mode", Text("cubic")), ("coordinate_transformation_mode", Text("pytorch_half_pixel"))];
    let model = model.node_with("Resize", &["x", "none", "none", "sizes"], &["y"], &attributes).done();
    expect(&model, &[1, 1, 1, 3], &[5.0, 7.0, 9.0], &Is(&[1, 1, 1, 1], &[5.0]));
}

#[test]
fn resized_images_have_the_values_of_onnx() {
    let model = |mode: &'static str, how: &'static str| {
        let model = Model::new(13, extents![1, 1, 1, 2]).floats("none", &[0], &[]);
        let model = model.floats("scales", &[4], &[1.0, 1.0, 1.0, 2.0]);
        let attributes = [("mode", Text(mode)), ("coordinate_transformation_mode", Text(how))];
        model.node_with("Resize", &["x", "none", "scales"], &["y"], &attributes).done()
    };
    for (mode, how, right) in [
        ("nearest", "asymmetric", [0.0, 0.0, 4.0, 4.0]),
        ("linear", "half_pixel", [0.0, 1.0, 3.0, 4.0]),
        ("linear", "asymmetric", [0.0, 2.0, 4.0, 4.0]),
        ("linear", "align_corners", [0.0, 4.0 / 3.0, 8.0 / 3.0, 4.0]),
    ] {
        expect(&model(mode, how), &[1, 1, 1, 2], &[0.0, 4.0], &Is(&[1, 1, 1, 4], &right));
    }
}

#[test]
fn blocks_of_channels_become_pixels() {
    let model = |mode: &'static str| {
        let model = Model::new(13, extents![1, 4, 1, 2]);
        let attributes = [("blocksize", Int(2)), ("mode", Text(mode))];
        let model = model.node_with("DepthToSpace", &["x"], &["d"], &attributes);
        model.filled("w", &[1, 1, 1, 1], 1.0).node("Conv", &["d", "w"], &["y"]).done()
    };
    let x = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
    let right = [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0];
    // With one output channel, both orders are the same.
    for mode in ["DCR", "CRD"] {
        expect(&model(mode), &[1, 4, 1, 2], &x, &Is(&[1, 1, 2, 4], &right));
    }
    let odd = Model::new(13, extents![1, 3, 1, 2]).node_with(
        "DepthToSpace",
        &["x"],
        &["y"],
        &[("blocksize", Int(2))],
    );
    expect(&odd.done(), &[1, 3, 1, 2], &[0.0; 6], &Refused("DepthToSpace"));
}

/// Some exporters write -1 for an extent that has no number.
#[test]
fn an_extent_of_minus_one_has_no_number() {
    let model = Model::new(13, extents![-1, 3, -1, -1]).filled("w", &[2, 3, 1, 1], 1.0);
    let model = model.node("Conv", &["x", "w"], &["y"]).done();
    let ran = program(&model, &[2, 3, 1, 1], &[1.0; 6]).unwrap();
    assert_eq!(ran, (vec![2, 2, 1, 1], vec![3.0; 4]));
    let error = load_bytes(&model, "it", &ImportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("--input"), "{error}");
    let options = ImportOptions::default().input(Shape::map(3, 4, 5));
    assert_eq!(load_bytes(&model, "it", &options).unwrap().count(1).unwrap().macs, 2 * 3 * 20);
}

/// A window that is larger than the padded image: rounded up, one output is left (ONNX, operator MaxPool: `ceil` of the number
/// of strides).
#[test]
fn a_window_beyond_the_image_in_ceil_mode() {
    let model = |op: &str, dims: &[i64; 3], stride: &[i64], ceil: i64| {
        let extents: Vec<_> =
            [1, 1].iter().chain(dims).map(|&extent| crate::model::Extent::from(extent)).collect();
        let attributes =
            [("kernel_shape", Ints(&[1, 3, 3])), ("strides", Ints(stride)), ("ceil_mode", Int(ceil))];
        Model::new(19, &extents).node_with(op, &["x"], &["y"], &attributes).done()
    };
    let flat = |op: &str, stride: &[i64], ceil: i64| {
        let attributes =
            [("kernel_shape", Ints(&[3, 3])), ("strides", Ints(stride)), ("ceil_mode", Int(ceil))];
        Model::new(19, extents![1, 1, 2, 2]).node_with(op, &["x"], &["y"], &attributes).done()
    };
    let x = [1.0, 2.0, 3.0, 6.0];
    for (op, right) in [("MaxPool", 6.0), ("AveragePool", 3.0)] {
        expect(&flat(op, &[2, 2], 1), &[1, 1, 2, 2], &x, &Is(&[1, 1, 1, 1], &[right]));
        expect(&model(op, &[1, 2, 2], &[1, 2, 2], 1), &[1, 1, 1, 2, 2], &x, &Is(&[1, 1, 1, 1, 1], &[right]));
        // One element is missing, which is a whole stride.
        expect(&flat(op, &[1, 2], 1), &[1, 1, 2, 2], &x, &Refused("kernel"));
        expect(&flat(op, &[2, 2], 0), &[1, 1, 2, 2], &x, &Refused("kernel"));
    }
}

/// The filter of a much smaller image reads all of a larger one for every output.
#[test]
fn a_smoothing_filter_of_absurd_length() {
    let model =
        Model::new(18, extents![1, 1, 1, 8_000_000]).floats("none", &[0], &[]).ints("sizes", &[1, 1, 1, 1]);
    let attributes = [("mode", Text("cubic")), ("antialias", Int(1))];
    let model = model.node_with("Resize", &["x", "none", "none", "sizes"], &["y"], &attributes).done();
    let strict = load_bytes(&model, "it", &ImportOptions::default().strict(true));
    assert!(strict.unwrap_err().to_string().contains("a smoothing filter of more than 16777216 weights"));
}

/// An LSTM has three results. The two that nobody reads are not computed.
#[test]
fn results_that_nobody_reads_are_no_layers() {
    let model = |output: usize| {
        let names = ["all", "h", "c"];
        let outputs: Vec<&str> =
            (0..3).map(|index| if index == output { "y" } else { names[index] }).collect();
        let model =
            Model::new(14, extents![2, 1, 4]).filled("w", &[1, 12, 4], 0.1).filled("r", &[1, 12, 3], 0.1);
        model.node_with("LSTM", &["x", "w", "r"], &outputs, &[("hidden_size", Int(3))]).done()
    };
    for output in 0..3 {
        let model = load_bytes(&model(output), "it", &ImportOptions::default()).unwrap();
        assert_eq!((model.graph.nodes().len(), model.count(1).unwrap().params), (2, 12 * 7), "{output}");
    }
    let top =
        Model::new(11, extents![1, 6]).ints("k", &[2]).node("TopK", &["x", "k"], &["y", "places"]).done();
    assert_eq!(load_bytes(&top, "it", &ImportOptions::default()).unwrap().graph.nodes().len(), 2);
}
