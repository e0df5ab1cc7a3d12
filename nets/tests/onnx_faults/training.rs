//! Training-only features, missing limits, images with two axes, and weights of another network.

use crate::Outcome::{Is, Refused};
use crate::expect;
use crate::model::Attribute::{Float, Int};
use crate::model::{self, Model};
use nets::import::onnx::{ImportOptions, load_bytes};

#[test]
fn dropout_in_training_is_refused() {
    let (dims, x) = ([1, 4], [1.0, 2.0, 3.0, 4.0]);
    let same = Is(&dims, &x);
    let new = |training: Option<bool>| {
        let model = Model::new(13, extents!["N", 4]).floats("ratio", &[], &[0.5]);
        match training {
            None => model.node("Dropout", &["x"], &["y"]).done(),
            Some(flag) => model.truth("t", flag).node("Dropout", &["x", "ratio", "t"], &["y"]).done(),
        }
    };
    expect(&new(None), &dims, &x, &same);
    expect(&new(Some(false)), &dims, &x, &same);
    expect(&new(Some(true)), &dims, &x, &Refused("Dropout"));
    let strict = load_bytes(&new(Some(true)), "it", &ImportOptions::default().strict(true));
    assert!(strict.unwrap_err().to_string().contains("training"));
    let old = |opset: i64, attributes: &[(&str, model::Attribute<'_>)]| {
        Model::new(opset, extents!["N", 4]).node_with("Dropout", &["x"], &["y"], attributes).done()
    };
    expect(&old(7, &[("ratio", Float(0.5))]), &dims, &x, &same);
    expect(&old(6, &[("is_test", Int(1))]), &dims, &x, &same);
    expect(&old(6, &[("is_test", Int(0))]), &dims, &x, &Refused("Dropout"));
    expect(&old(6, &[]), &dims, &x, &Refused("Dropout"));
    // Also on constants.
    let constant =
        Model::new(13, extents!["N", 4]).filled("c", &[4], 1.0).floats("ratio", &[], &[0.5]).truth("t", true);
    let constant =
        constant.node("Dropout", &["c", "ratio", "t"], &["d"]).node("Mul", &["x", "d"], &["y"]).done();
    expect(&constant, &dims, &x, &Refused("Dropout"));
}

#[test]
fn batch_normalisation_in_training_is_refused() {
    let model = |opset: i64, outputs: &[&str], attributes: &[(&str, model::Attribute<'_>)]| {
        let model = Model::new(opset, extents!["N", 2]).filled("s", &[2], 2.0).filled("b", &[2], 0.0);
        let model = model.filled("m", &[2], 0.0).filled("v", &[2], 1.0);
        let inputs = ["x", "s", "b", "m", "v"];
        let attributes: Vec<_> = attributes.iter().map(|(name, _)| (*name, Int(1))).collect();
        model.node_with("BatchNormalization", &inputs, outputs, &attributes).done()
    };
    let (dims, x) = ([2, 2], [1.0, 2.0, 3.0, 4.0]);
    let refused = Refused("BatchNormalization");
    expect(&model(15, &["y"], &[]), &dims, &x, &Is(&dims, &[1.99999, 3.99998, 5.99997, 7.99996]));
    expect(&model(15, &["y"], &[("training_mode", Int(1))]), &dims, &x, &refused);
    expect(&model(15, &["y", "rm", "rv"], &[("training_mode", Int(1))]), &dims, &x, &refused);
    expect(&model(9, &["y", "rm", "rv", "sm", "sv"], &[]), &dims, &x, &refused);
    expect(
        &model(6, &["y"], &[("is_test", Int(1))]),
        &dims,
        &x,
        &Is(&dims, &[1.99999, 3.99998, 5.99997, 7.99996]),
    );
    expect(&model(6, &["y"], &[]), &dims, &x, &refused);
}

#[test]
fn clip_without_a_limit_ends_at_the_largest_number() {
    let x = [f32::INFINITY, f32::NEG_INFINITY, -1.0, 3.0];
    let dims = [1, 4];
    let new = |inputs: &[&str]| {
        let model = Model::new(13, extents!["N", 4]).floats("zero", &[], &[0.0]).floats("two", &[], &[2.0]);
        model.node("Clip", inputs, &["y"]).done()
    };
    expect(&new(&["x", "zero"]), &dims, &x, &Is(&dims, &[f32::MAX, 0.0, 0.0, 3.0]));
    expect(&new(&["x", "", "two"]), &dims, &x, &Is(&dims, &[2.0, f32::MIN, -1.0, 2.0]));
    expect(&new(&["x"]), &dims, &x, &Is(&dims, &[f32::MAX, f32::MIN, -1.0, 3.0]));
    expect(&new(&["x", "two", "zero"]), &dims, &x, &Is(&dims, &[0.0; 4]));
    let infinite =
        Model::new(13, extents!["N", 4]).floats("lo", &[], &[0.0]).floats("hi", &[], &[f32::INFINITY]);
    let infinite = infinite.node("Clip", &["x", "lo", "hi"], &["y"]).done();
    expect(&infinite, &dims, &x, &Is(&dims, &[f32::INFINITY, 0.0, 0.0, 3.0]));
    for opset in [6, 10] {
        let old = |attributes: &[(&str, model::Attribute<'_>)]| {
            Model::new(opset, extents!["N", 4]).node_with("Clip", &["x"], &["y"], attributes).done()
        };
        expect(&old(&[("min", Float(0.0))]), &dims, &x, &Is(&dims, &[f32::MAX, 0.0, 0.0, 3.0]));
        expect(&old(&[]), &dims, &x, &Is(&dims, &[f32::MAX, f32::MIN, -1.0, 3.0]));
    }
    // After a convolution, into which the operator is fused.
    let fused = Model::new(13, extents!["N", 1, 2, 2]).floats("w", &[1, 1, 1, 1], &[1e38]).floats(
        "zero",
        &[],
        &[0.0],
    );
    let fused = fused.node("Conv", &["x", "w"], &["c"]).node("Clip", &["c", "zero"], &["y"]).done();
    expect(&fused, &[1, 1, 2, 2], &[10.0, -10.0, 1.0, 0.0], &Is(&[1, 1, 2, 2], &[f32::MAX, 0.0, 1e38, 0.0]));
}

#[test]
fn flatten_gives_two_extents_wherever_it_cuts() {
    let x: Vec<f32> = (0..24).map(|i| i as f32).collect();
    for (axis, dims) in
        [(0, [1, 24]), (1, [2, 12]), (2, [4, 6]), (3, [12, 2]), (4, [24, 1]), (-1, [12, 2]), (-3, [2, 12])]
    {
        let model = Model::new(13, extents!["N", 2, 3, 2]).node_with(
            "Flatten",
            &["x"],
            &["f"],
            &[("axis", Int(axis))],
        );
        let model = model.node("Relu", &["f"], &["y"]).done();
        expect(&model, &[2, 2, 3, 2], &x, &Is(&dims, &x));
    }
}

#[test]
fn a_trained_network_is_not_rebuilt_with_random_weights() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.npy").to_str().unwrap().to_owned();
    for dims in [&[3usize, 32, 32][..], &[1, 3, 32, 32], &[1, 1, 36, 36]] {
        nets::npy::write(file.as_ref(), dims, &vec![0.5; dims.iter().product()]).unwrap();
        let plain = assert_cmd::cargo::cargo_bin_cmd!("nets")
            .args(["run", "lenet5", "--input", &file])
            .output()
            .unwrap();
        let said = String::from_utf8(plain.stderr).unwrap();
        assert!(
            !plain.status.success() && (said.contains("1x32x32") || said.contains("layer")),
            "{dims:?}: {said}"
        );
    }
    // Requested random weights are generated.
    nets::npy::write(file.as_ref(), &[3, 32, 32], &[0.5; 3072]).unwrap();
    crate::program::success(&["run", "lenet5", "--input", &file, "--seed", "1"]);
}
