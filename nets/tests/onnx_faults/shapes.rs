//! Operators that change extents give the values that ONNX defines, and extents without a number are no mistake.

use crate::Outcome::{Is, Refused};
use crate::model::Attribute::{Int, Text};
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
