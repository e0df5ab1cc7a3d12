//! The batch is an axis like any other: operators along it are computed, and data must have as many axes as the model.

use crate::Outcome::{Is, Refused};
use crate::model::Attribute::{Int, Ints};
use crate::model::{self, Extent, Model};
use crate::{expect, program, run};
use kernels::Threads;
use nets::import::onnx::{ImportOptions, InputExtents, load_bytes_for};
use nets::{Net, NetOptions};

#[test]
fn a_transpose_that_moves_the_batch_is_computed() {
    let model =
        Model::new(13, extents!["N", 2]).node_with("Transpose", &["x"], &["t"], &[("perm", Ints(&[1, 0]))]);
    let model = model.node("Relu", &["t"], &["y"]).done();
    expect(&model, &[2, 2], &[1.0, 2.0, 3.0, 4.0], &Is(&[2, 2], &[1.0, 3.0, 2.0, 4.0]));
    expect(&model, &[1, 2], &[1.0, 2.0], &Is(&[2, 1], &[1.0, 2.0]));
    for perm in [[1i64, 0, 2, 3], [2, 1, 0, 3], [3, 1, 2, 0]] {
        let model = Model::new(13, extents!["N", 2, 2, 2]);
        let model = model.node_with("Transpose", &["x"], &["t"], &[("perm", Ints(&perm))]);
        let model = model.node("Relu", &["t"], &["y"]).done();
        let x: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let dims = [3, 2, 2, 2];
        let moved: Vec<usize> = perm.iter().map(|&axis| dims[axis as usize]).collect();
        let steps = [8, 4, 2, 1];
        let mut right = Vec::new();
        for place in 0..24 {
            let (mut rest, mut from) = (place, 0);
            for axis in (0..4).rev() {
                from += rest % moved[axis] * steps[perm[axis] as usize];
                rest /= moved[axis];
            }
            right.push(from as f32);
        }
        expect(&model, &dims, &x, &Is(&moved, &right));
    }
}

#[test]
fn a_reshape_that_folds_the_batch_is_followed() {
    let model = |shape: &[i64], op: &str| {
        let model =
            Model::new(13, extents!["N", 2]).ints("shape", shape).node("Reshape", &["x", "shape"], &["r"]);
        model.node(op, &["r"], &["y"]).done()
    };
    let x = [1.0, 2.0, 3.0, 4.0];
    let whole = [0.032_058_604, 0.087_144_32, 0.236_882_84, 0.643_914_3];
    expect(&model(&[1, -1], "Softmax"), &[2, 2], &x, &Is(&[1, 4], &whole));
    expect(&model(&[1, -1], "Softmax"), &[1, 2], &[5.0; 2], &Is(&[1, 2], &[0.5, 0.5]));
    expect(&model(&[1, -1], "Relu"), &[2, 2], &x, &Is(&[1, 4], &x));
    expect(&model(&[-1, 1], "Relu"), &[2, 2], &x, &Is(&[4, 1], &x));
    expect(&model(&[-1], "Relu"), &[2, 2], &x, &Is(&[4], &x));
    expect(&model(&[-1, 1], "Softmax"), &[2, 2], &x, &Is(&[4, 1], &[1.0; 4]));
    expect(&model(&[0, 2], "Relu"), &[2, 2], &x, &Is(&[2, 2], &x));
    // A model for one image cannot run on two.
    expect(&model(&[1, 2], "Relu"), &[2, 2], &x, &Refused("Reshape"));
}

#[test]
fn operators_along_the_batch_are_computed() {
    let plain = |op: &str, inputs: &[&str], attributes: &[(&str, model::Attribute<'_>)]| {
        let model = Model::new(12, extents!["N", 2]).ints("zero", &[0]).ints("one", &[1]);
        let model = model.floats("s", &[2], &[1.0, 1.0]);
        model.node_with(op, inputs, &["r"], attributes).node("Relu", &["r"], &["y"]).done()
    };
    let axis = || [("axis", Int(0))];
    let x = [1.0, 2.0, 3.0, 4.0];
    let whole = [0.032_058_604, 0.087_144_32, 0.236_882_84, 0.643_914_3];
    let of = |model: Vec<u8>, dims: &[usize], right: &[f32]| expect(&model, &[2, 2], &x, &Is(dims, right));
    // Up to opset 12, softmax runs over all axes from this one on.
    of(plain("Softmax", &["x"], &axis()), &[2, 2], &whole);
    of(plain("Concat", &["x", "x"], &axis()), &[4, 2], &[1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
    of(plain("ReduceMean", &["x"], &[("axes", Ints(&[0]))]), &[1, 2], &[2.0, 3.0]);
    of(plain("ReduceMax", &["x"], &[("axes", Ints(&[0])), ("keepdims", Int(0))]), &[2], &[3.0, 4.0]);
    of(plain("ReduceMean", &["x"], &[("keepdims", Int(0))]), &[], &[2.5]);
    of(plain("Slice", &["x", "zero", "one", "zero"], &[]), &[1, 2], &[1.0, 2.0]);
    of(plain("Gather", &["x", "zero"], &axis()), &[1, 2], &[1.0, 2.0]);
    let normal = [0.0, 0.0, 0.447_211_84, 1.341_635_5];
    of(plain("LayerNormalization", &["x", "s"], &axis()), &[2, 2], &normal);
    of(plain("Split", &["x"], &axis()), &[2, 2], &x);
    let model = Model::new(12, extents!["N", 2]).node_with("Flatten", &["x"], &["f"], &axis());
    of(model.node_with("Softmax", &["f"], &["y"], &[("axis", Int(1))]).done(), &[1, 4], &whole);
    let squeeze = plain("Squeeze", &["x"], &[("axes", Ints(&[0]))]);
    expect(&squeeze, &[2, 2], &x, &Refused("Squeeze"));
    expect(&squeeze, &[1, 2], &x[..2], &Is(&[2], &x[..2]));
    let unsqueezed =
        Model::new(12, extents!["N", 2]).node_with("Unsqueeze", &["x"], &["u"], &[("axes", Ints(&[0]))]);
    expect(&unsqueezed.node("Relu", &["u"], &["y"]).done(), &[2, 2], &x, &Is(&[1, 2, 2], &x));
}

/// The library imports a model for one image. It then runs other batch sizes only if its numbers are right for them.
#[test]
fn an_import_for_one_image_is_right_for_others_or_refuses_them() {
    let softmax =
        Model::new(12, extents!["N", 2]).node_with("Softmax", &["x"], &["y"], &[("axis", Int(0))]).done();
    match run(&softmax, 3, &[0.0; 6]) {
        Ok(numbers) => assert_eq!(numbers, [1.0 / 6.0; 6]),
        Err(error) => assert!(error.to_string().starts_with("batch: expected "), "{error}"),
    }
    let folded =
        Model::new(13, extents!["N", 2]).ints("shape", &[1, -1]).node("Reshape", &["x", "shape"], &["r"]);
    let folded = folded.node_with("Softmax", &["r"], &["y"], &[("axis", Int(1))]).done();
    match run(&folded, 3, &[0.0; 6]) {
        Ok(numbers) => assert_eq!(numbers, [1.0 / 6.0; 6]),
        Err(error) => assert!(error.to_string().starts_with("batch: expected "), "{error}"),
    }
}

#[test]
fn numbers_that_depend_on_the_batch_are_those_of_the_batch() {
    let model = Model::new(13, extents!["N", 2]).ints("zero", &[0]).node("Shape", &["x"], &["s"]);
    let model = model.node_with("Gather", &["s", "zero"], &["n"], &[("axis", Int(0))]);
    let model =
        model.node_with("Cast", &["n"], &["f"], &[("to", Int(1))]).node("Mul", &["x", "f"], &["y"]).done();
    expect(&model, &[1, 2], &[1.0, 2.0], &Is(&[1, 2], &[1.0, 2.0]));
    expect(&model, &[3, 2], &[1.0; 6], &Is(&[3, 2], &[3.0; 6]));
    assert!(run(&model, 3, &[1.0; 6]).is_err(), "the import for one image multiplies by one");
}

#[test]
fn an_import_that_holds_for_every_batch_runs_with_any() {
    let model = Model::new(13, extents!["N", 2, 1, 2]).floats("w", &[1, 2, 1, 1], &[1.0, 10.0]);
    let model = model.node("Conv", &["x", "w"], &["c"]).ints("shape", &[0, -1]);
    let model = model.node("Reshape", &["c", "shape"], &["y"]).done();
    let x: Vec<f32> = (1..=12).map(|i| i as f32).collect();
    let y = [31.0, 42.0, 75.0, 86.0, 119.0, 130.0];
    assert_eq!(run(&model, 3, &x).unwrap(), y);
    expect(&model, &[3, 2, 1, 2], &x, &Is(&[3, 2], &y));
}

#[test]
fn the_first_axis_of_the_data_is_the_batch() {
    let softmax =
        Model::new(13, extents!["N", 1, 10]).node_with("Softmax", &["x"], &["y"], &[("axis", Int(1))]).done();
    let x: Vec<f32> = (0..30).map(|i| i as f32).collect();
    expect(&softmax, &[3, 1, 10], &x, &Is(&[3, 1, 10], &[1.0; 30]));
    let conv = Model::new(13, extents!["N", 3, 10]).filled("w", &[1, 3, 3], 1.0);
    let conv = conv.node("Conv", &["x", "w"], &["y"]).done();
    expect(&conv, &[2, 3, 10], &[1.0; 60], &Is(&[2, 1, 8], &[9.0; 16]));
    let last = Model::new(13, extents!["N", 1, 10])
        .node_with("Softmax", &["x"], &["y"], &[("axis", Int(-1))])
        .done();
    let mut right: Vec<f32> = (0..10).map(|i| (i as f32).exp()).collect();
    let sum: f32 = right.iter().sum();
    right.iter_mut().for_each(|x| *x /= sum);
    expect(&last, &[3, 1, 10], &x, &Is(&[3, 1, 10], &right.repeat(3)));
}

#[test]
fn data_of_another_rank_is_refused() {
    let relu = |extents: &[Extent<'_>]| Model::new(13, extents).node("Relu", &["x"], &["y"]).done();
    let cases: &[(Vec<u8>, &[&[usize]])] = &[
        (relu(extents!["N", 1, 10]), &[&[1, 10], &[10], &[3, 1, 1, 10]]),
        (relu(extents!["N", 3, 4, 4]), &[&[3, 4, 4], &[48], &[1, 48], &[1, 1, 3, 4, 4]]),
        (relu(extents!["N", 10]), &[&[10], &[1, 1, 10], &[1, 10, 1, 1]]),
        (relu(extents![2, 3, 4]), &[&[3, 4], &[2, 3, 1, 4], &[1, 2, 3, 4]]),
    ];
    for (model, wrong) in cases {
        for dims in *wrong {
            let x = vec![1.0; dims.iter().product()];
            let error = program(model, dims, &x).unwrap_err();
            assert!(error.contains("axes") && error.contains(&format!("{dims:?}")), "{dims:?}: {error}");
        }
    }
}

/// A model for two images can run on three only if its output is right for three.
#[test]
fn a_model_that_says_its_batch_runs_with_another_only_if_that_is_right() {
    let folded = Model::new(13, extents![2, 4]).ints("shape", &[2, -1]).node("Relu", &["x"], &["r"]);
    let folded = folded.node("Reshape", &["r", "shape"], &["y"]).done();
    let x: Vec<f32> = (0..8).map(|i| i as f32).collect();
    expect(&folded, &[2, 4], &x, &Is(&[2, 4], &x));
    // The program imports it for the batch of the data: the output then is [2, 6], as ONNX defines.
    let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
    assert_eq!(program(&folded, &[3, 4], &x).unwrap(), (vec![2, 6], x));
    let plain = Model::new(13, extents![2, 4]).node("Relu", &["x"], &["y"]).done();
    expect(&plain, &[3, 4], &[1.0; 12], &Is(&[3, 4], &[1.0; 12]));
}

/// The elements that are selected from a batch of eight do not exist in one of two.
#[test]
fn what_lies_outside_of_another_batch_is_refused() {
    for (op, inputs) in [("Slice", &["x", "from", "to", "axis"][..]), ("Gather", &["x", "places"])] {
        let model = Model::new(13, extents!["N", 2]);
        let model = model.ints("from", &[4]).ints("to", &[6]).ints("axis", &[0]).ints("places", &[4, 5]);
        let model = model.node_with(op, inputs, &["r"], &[]).node("Relu", &["r"], &["y"]).done();
        let data = [InputExtents { name: "", dims: &[8, 2] }];
        let imported = load_bytes_for(&model, "it", &ImportOptions::default(), &data).unwrap();
        let weights = imported.weights.read(&imported.graph).unwrap();
        let run = |batch: usize| {
            let mut net = Net::new(&imported.graph, &weights, &NetOptions::default().batch(batch))?;
            let x: Vec<f32> = (0..2 * batch).map(|x| x as f32).collect();
            net.run(&x, Threads::Seq).map(<[f32]>::to_vec)
        };
        assert_eq!(run(8).unwrap(), [8.0, 9.0, 10.0, 11.0], "{op}");
        assert!(run(2).is_err(), "{op}");
    }
}
