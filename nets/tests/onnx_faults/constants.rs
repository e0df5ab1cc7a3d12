//! Constants are matched by position, as ONNX broadcasts them, and not by their number of elements.

use crate::Outcome::{Is, Refused};
use crate::model::Attribute::{Float, Int};
use crate::model::{self, Extent, Model};
use crate::{broadcast, expect, program};
use nets::import::onnx::{ImportOptions, load_bytes};

const MINUS: [f32; 4] = [-1.0, -2.0, -3.0, -4.0];
const TENFOLD: [f32; 4] = [-10.0, -20.0, -300.0, -400.0];

/// `PRelu` of a tensor with a slope, with the given extents.
fn prelu(opset: i64, extents: &[Extent<'_>], slope: &[i64], values: &[f32]) -> Vec<u8> {
    Model::new(opset, extents).floats("slope", slope, values).node("PRelu", &["x", "slope"], &["y"]).done()
}

#[test]
fn a_prelu_slope_along_another_axis_is_not_taken_for_channels() {
    for opset in [7, 9, 16] {
        let refused = Refused("PRelu");
        // The values of the report: the slope runs along the last axis.
        let model = prelu(opset, extents![1, 2, 1, 2], &[2], &[10.0, 100.0]);
        expect(&model, &[1, 2, 1, 2], &MINUS, &Is(&[1, 2, 1, 2], &[-10.0, -200.0, -30.0, -400.0]));
        let right = |dims: &[usize], slope: &[i64]| {
            let slope: Vec<usize> = slope.iter().map(|&dim| dim as usize).collect();
            let values = [10.0, 100.0];
            broadcast(dims, &MINUS, (&slope, &values), |x, slope| x * slope)
        };
        for slope in [&[1i64, 1, 2, 1][..], &[2, 1], &[1, 2, 1]] {
            let model = prelu(opset, extents![1, 2, 2, 1], slope, &[10.0, 100.0]);
            expect(&model, &[1, 2, 2, 1], &MINUS, &Is(&[1, 2, 2, 1], &right(&[1, 2, 2, 1], slope)));
        }
        let model = prelu(opset, extents![2, 2, 1, 1], &[2, 1, 1, 1], &[10.0, 100.0]);
        expect(&model, &[2, 2, 1, 1], &MINUS, &Is(&[2, 2, 1, 1], &[-10.0, -20.0, -300.0, -400.0]));
        let model = prelu(opset, extents![2, 2], &[2, 1], &[10.0, 100.0]);
        expect(&model, &[2, 2], &MINUS, &Is(&[2, 2], &[-10.0, -20.0, -300.0, -400.0]));
        let model = prelu(opset, extents![1, 2, 2], &[2], &[10.0, 100.0]);
        expect(&model, &[1, 2, 2], &MINUS, &Is(&[1, 2, 2], &[-10.0, -200.0, -30.0, -400.0]));
        let model = prelu(opset, extents![1, 2, 1, 2], &[1, 1, 2, 1, 1], &[10.0, 100.0]);
        expect(&model, &[1, 2, 1, 2], &MINUS, &refused);
        let model = prelu(opset, extents![1, 2, 1, 2], &[1, 2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        expect(&model, &[1, 2, 1, 2], &MINUS, &Is(&[1, 2, 1, 2], &[-1.0, -4.0, -9.0, -16.0]));
    }
}

#[test]
fn a_prelu_slope_along_the_channels_is_computed() {
    let tenfold = Is(&[1, 2, 1, 2], &TENFOLD);
    for slope in [&[2i64, 1, 1][..], &[1, 2, 1, 1]] {
        let model = prelu(16, extents![1, 2, 1, 2], slope, &[10.0, 100.0]);
        expect(&model, &[1, 2, 1, 2], &MINUS, &tenfold);
    }
    // Up to opset 6 a slope has one number per channel, whatever its extents.
    expect(&prelu(6, extents![1, 2, 1, 2], &[2], &[10.0, 100.0]), &[1, 2, 1, 2], &MINUS, &tenfold);
    let pairs = [-10.0, -200.0, -30.0, -400.0];
    expect(&prelu(16, extents!["N", 2], &[2], &[10.0, 100.0]), &[2, 2], &MINUS, &Is(&[2, 2], &pairs));
    for slope in [&[1i64][..], &[], &[1, 1, 1, 1]] {
        let shared = Is(&[1, 2, 1, 2], &[-10.0, -20.0, -30.0, -40.0]);
        expect(&prelu(9, extents![1, 2, 1, 2], slope, &[10.0]), &[1, 2, 1, 2], &MINUS, &shared);
    }
    expect(&prelu(9, extents![1, 2, 1, 2], &[3, 1, 1], &[1.0; 3]), &[1, 2, 1, 2], &MINUS, &Refused("PRelu"));
}

#[test]
fn the_addend_of_a_gemm_is_broadcast_to_rows_and_columns() {
    let model = |dims: &[i64], values: &[f32]| {
        let model = Model::new(13, extents![2, 2]).floats("w", &[2, 2], &[1.0, 0.0, 0.0, 1.0]);
        model.floats("c", dims, values).node("Gemm", &["x", "w", "c"], &["y"]).done()
    };
    let identity = [1.0, 0.0, 0.0, 1.0];
    let columns = Is(&[2, 2], &[11.0, 20.0, 10.0, 21.0]);
    let rows = Is(&[2, 2], &[11.0, 10.0, 20.0, 21.0]);
    expect(&model(&[2, 1], &[10.0, 20.0]), &[2, 2], &identity, &rows);
    let full = Is(&[2, 2], &[2.0, 2.0, 3.0, 5.0]);
    expect(&model(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), &[2, 2], &identity, &full);
    expect(&model(&[1, 2, 1], &[10.0, 20.0]), &[2, 2], &identity, &Refused("Gemm"));
    expect(&model(&[2], &[10.0, 20.0]), &[2, 2], &identity, &columns);
    expect(&model(&[1, 2], &[10.0, 20.0]), &[2, 2], &identity, &columns);
    for one in [&[][..], &[1], &[1, 1]] {
        expect(&model(one, &[10.0]), &[2, 2], &identity, &Is(&[2, 2], &[11.0, 10.0, 10.0, 11.0]));
    }
}

#[test]
fn the_constant_of_a_sum_or_product_is_matched_by_position() {
    let dims = [1, 2, 2, 1];
    let x = [1.0, 2.0, 3.0, 4.0];
    let model = |op: &str, constant: &[i64]| {
        let values = [10.0, 100.0][..constant.iter().product::<i64>() as usize].to_vec();
        let model = Model::new(13, extents![1, 2, 2, 1]).floats("c", constant, &values);
        model.node(op, &["x", "c"], &["y"]).done()
    };
    let values = |op: &str, c: [f32; 4]| -> Vec<f32> {
        let one = |(x, c): (&f32, f32)| match op {
            "Add" => x + c,
            "Sub" => x - c,
            "Mul" => x * c,
            _ => x / c,
        };
        x.iter().zip(c).map(one).collect()
    };
    for op in ["Add", "Sub", "Mul", "Div"] {
        for constant in [&[2i64, 1, 1][..], &[1, 2, 1, 1]] {
            let expected = values(op, [10.0, 10.0, 100.0, 100.0]);
            expect(&model(op, constant), &dims, &x, &Is(&dims, &expected));
        }
        for constant in [&[][..], &[1], &[1, 1, 1, 1]] {
            expect(&model(op, constant), &dims, &x, &Is(&dims, &values(op, [10.0; 4])));
        }
        let one = |x: f32, c: f32| match op {
            "Add" => x + c,
            "Sub" => x - c,
            "Mul" => x * c,
            _ => x / c,
        };
        for constant in [&[2i64, 1][..], &[1, 1, 2, 1]] {
            let own: Vec<usize> = constant.iter().map(|&dim| dim as usize).collect();
            let right = broadcast(&dims, &x, (&own, &[10.0, 100.0]), one);
            expect(&model(op, constant), &dims, &x, &Is(&dims, &right));
        }
        // A constant can also make the output larger, as it does in NumPy.
        let wide: Vec<f32> = x.iter().flat_map(|&x| [one(x, 10.0), one(x, 100.0)]).collect();
        expect(&model(op, &[2]), &dims, &x, &Is(&[1, 2, 2, 2], &wide));
        let both: Vec<f32> = [10.0, 100.0].iter().flat_map(|&c| x.map(|x| one(x, c))).collect();
        expect(&model(op, &[2, 1, 1, 1]), &dims, &x, &Is(&[2, 2, 2, 1], &both));
        expect(&model(op, &[1, 1, 1, 1, 1]), &dims, &x, &Is(&[1, 1, 2, 2, 1], &values(op, [10.0; 4])));
        let five = broadcast(&[1, 1, 2, 2, 1], &x, (&[1, 1, 2, 1, 1], &[10.0, 100.0]), one);
        expect(&model(op, &[1, 1, 2, 1, 1]), &dims, &x, &Is(&[1, 1, 2, 2, 1], &five));
    }
}

#[test]
fn until_opset_6_sums_and_products_say_how_they_broadcast() {
    let dims = [1, 2, 1, 2];
    let x = [1.0, 2.0, 3.0, 4.0];
    let model = |constant: &[i64], attributes: &[(&str, model::Attribute<'_>)]| {
        let values = [10.0, 100.0][..constant.iter().product::<i64>() as usize].to_vec();
        let model = Model::new(6, extents![1, 2, 1, 2]).floats("c", constant, &values);
        model.node_with("Mul", &["x", "c"], &["y"], attributes).done()
    };
    let along = |axis| [("broadcast", Int(1)), ("axis", Int(axis))];
    let channels = Is(&dims, &[10.0, 20.0, 300.0, 400.0]);
    expect(&model(&[2], &along(1)), &dims, &x, &channels);
    expect(&model(&[2, 1], &along(1)), &dims, &x, &channels);
    let last = Is(&dims, &[10.0, 200.0, 30.0, 400.0]);
    expect(&model(&[2], &along(3)), &dims, &x, &last);
    expect(&model(&[2], &[("broadcast", Int(1))]), &dims, &x, &last);
    expect(&model(&[2], &[]), &dims, &x, &Refused("Mul"));
    expect(&model(&[1], &[("broadcast", Int(1))]), &dims, &x, &Is(&dims, &[10.0, 20.0, 30.0, 40.0]));
    // Two constants: the sum of [[1, 2], [3, 4]] and [10, 100] with axis 0.
    let model = Model::new(6, extents![1, 2, 1, 2]).floats("a", &[2, 1], &[1.0, 2.0]).floats(
        "b",
        &[2],
        &[10.0, 100.0],
    );
    let model = model.node_with("Add", &["a", "b"], &["c"], &along(0));
    let model = model.node_with("Mul", &["x", "c"], &["y"], &along(1)).done();
    expect(&model, &dims, &x, &Is(&dims, &[11.0, 22.0, 306.0, 408.0]));
}

#[test]
fn the_numbers_of_a_normalisation_are_one_for_each_channel() {
    let batch = |len: i64| {
        let model = Model::new(9, extents![1, 2, 1, 2]).filled("s", &[len], 2.0).filled("b", &[len], 0.0);
        let model = model.filled("m", &[len], 0.0).filled("v", &[len], 1.0);
        model
            .node_with("BatchNormalization", &["x", "s", "b", "m", "v"], &["y"], &[("epsilon", Float(0.0))])
            .done()
    };
    let (dims, x) = ([1, 2, 1, 2], [1.0, 2.0, 3.0, 4.0]);
    expect(&batch(2), &dims, &x, &Is(&dims, &[2.0, 4.0, 6.0, 8.0]));
    expect(&batch(1), &dims, &x, &Refused("BatchNormalization"));
    let instance = Model::new(9, extents![1, 2, 1, 2]).filled("s", &[1], 2.0).filled("b", &[2], 0.0);
    let instance = instance.node("InstanceNormalization", &["x", "s", "b"], &["y"]).done();
    expect(&instance, &dims, &x, &Refused("InstanceNormalization"));
    let layer = |scale: &[i64]| {
        let model = Model::new(17, extents![1, 2, 1, 1]).floats("s", scale, &[10.0, 100.0]);
        model
            .node_with(
                "LayerNormalization",
                &["x", "s"],
                &["y"],
                &[("axis", Int(1)), ("epsilon", Float(0.0))],
            )
            .done()
    };
    expect(&layer(&[2, 1, 1]), &[1, 2, 1, 1], &[1.0, 3.0], &Is(&[1, 2, 1, 1], &[-10.0, 100.0]));
    expect(&layer(&[2]), &[1, 2, 1, 1], &[1.0, 3.0], &Refused("LayerNormalization"));
}

/// An error names the node, the operator and the opset, what was expected and what was given.
#[test]
fn a_constant_that_cannot_be_broadcast_is_named() {
    let model = prelu(13, extents![1, 2, 1, 2], &[3], &[10.0, 100.0, 1.0]);
    let strict = ImportOptions::default().strict(true);
    let error = load_bytes(&model, "it", &strict).unwrap_err().to_string();
    for part in ["node `y_PRelu` (PRelu)", "opset 13", "expected ", "[1, 2, 1, 2]", "got [3]"] {
        assert!(error.contains(part), "no `{part}` in {error}");
    }
}

#[test]
fn a_transposed_matrix_that_is_reshaped_keeps_its_order() {
    let model = Model::new(13, extents!["N", 3]).floats("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let model = model.ints("shape", &[2, 3]).node("Transpose", &["w"], &["t"]).node(
        "Reshape",
        &["t", "shape"],
        &["r"],
    );
    let right = [1.0, 4.0, 2.0];
    let once = model.node_with("Gemm", &["x", "r"], &["y"], &[("transB", Int(1))]).done();
    expect(&once, &[1, 3], &[1.0, 0.0, 0.0], &Is(&[1, 2], &[right[0], 5.0]));
    let model = Model::new(13, extents!["N", 2]).floats("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let model = model.ints("shape", &[2, 3]).node("Transpose", &["w"], &["t"]).node(
        "Reshape",
        &["t", "shape"],
        &["r"],
    );
    let twice = model.node("MatMul", &["x", "r"], &["y"]).done();
    match program(&twice, &[1, 2], &[1.0, 0.0]) {
        Ok((_, numbers)) => assert_eq!(numbers, right),
        Err(error) => assert!(error.contains("Transpose") || error.contains("Reshape"), "{error}"),
    }
}
