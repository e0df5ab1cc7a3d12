//! What an ONNX model means by its extents, axes and training flags is computed right or refused: no wrong number
//! and no wrong total without a word.

#[macro_use]
mod model;
mod program;

use kernels::Threads;
use model::Attribute::{Float, Int, Ints, Text};
use model::{Extent, Model};
use nets::import::onnx::{ImportOptions, load_bytes};
use nets::{Net, NetError, NetOptions};

/// Runs a model that was imported as it is for `batch` images.
fn run(bytes: &[u8], batch: usize, x: &[f32]) -> Result<Vec<f32>, NetError> {
    let model = load_bytes(bytes, "it", &ImportOptions::default())?;
    let weights = model.weights.read(&model.graph)?;
    let mut net = Net::new(&model.graph, &weights, &NetOptions::default().batch(batch))?;
    Ok(net.run(x, Threads::Seq)?.to_vec())
}

/// What the program makes of a model and a tensor: the extents and the numbers that come out, or the last line that
/// it says.
fn program(bytes: &[u8], dims: &[usize], x: &[f32]) -> Result<(Vec<usize>, Vec<f32>), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (model, input, output) = (path("it.onnx"), path("x.npy"), path("y.npy"));
    std::fs::write(&model, bytes).unwrap();
    nets::npy::write(input.as_ref(), dims, x).unwrap();
    let arguments = ["run", &model, "--input", &input, "--output", &output, "--threads", "1"];
    let done = assert_cmd::cargo::cargo_bin_cmd!("nets").args(arguments).output().unwrap();
    match done.status.success() {
        true => Ok(nets::npy::read(output.as_ref()).unwrap()),
        false => Err(String::from_utf8(done.stderr).unwrap().trim_end().to_owned()),
    }
}

fn close(a: &[f32], b: &[f32]) -> bool {
    let near = |(&a, &b): (&f32, &f32)| a == b || (a - b).abs() <= 1e-5 * b.abs().max(1.0);
    a.len() == b.len() && a.iter().zip(b).all(near)
}

/// What must come of a model and a tensor.
enum Outcome<'a> {
    /// These extents and numbers, as ONNX defines them.
    Is(&'a [usize], &'a [f32]),
    /// An error that says this.
    Refused(&'a str),
}
use Outcome::{Is, Refused};

/// The program must do as it is told. The library, which imports a model for one image and then runs as many as there
/// are, may also refuse another batch than that.
#[track_caller]
fn expect(bytes: &[u8], dims: &[usize], x: &[f32], outcome: &Outcome<'_>) {
    let (library, program) = (run(bytes, dims[0], x), program(bytes, dims, x));
    match (outcome, program) {
        (Is(extents, values), Ok((got, numbers))) => {
            assert!(
                got == *extents && close(&numbers, values),
                "expected {extents:?} {values:?}, got {got:?} {numbers:?}"
            );
        }
        (Is(extents, values), Err(error)) => panic!("expected {extents:?} {values:?}, got {error}"),
        (Refused(part), Ok((got, numbers))) => panic!("expected `{part}`, got {got:?} {numbers:?}"),
        (Refused(part), Err(error)) => assert!(error.contains(part), "expected `{part}`, got {error}"),
    }
    match (outcome, library) {
        (Is(_, values), Ok(numbers)) => {
            assert!(close(&numbers, values), "expected {values:?}, got {numbers:?}")
        }
        (Is(..), Err(error)) => assert!(error.to_string().starts_with("batch: expected "), "{error}"),
        (Refused(_), Ok(numbers)) => panic!("the library gave {numbers:?}"),
        (Refused(_), Err(_)) => {}
    }
}

// Row 1: constants are matched by position, as ONNX broadcasts.

const MINUS: [f32; 4] = [-1.0, -2.0, -3.0, -4.0];
const TENFOLD: [f32; 4] = [-10.0, -20.0, -300.0, -400.0];

/// `PRelu` of a tensor of these extents with a slope of those.
fn prelu(opset: i64, extents: &[Extent<'_>], slope: &[i64], values: &[f32]) -> Vec<u8> {
    Model::new(opset, extents).floats("slope", slope, values).node("PRelu", &["x", "slope"], &["y"]).done()
}

#[test]
fn a_prelu_slope_along_another_axis_is_not_taken_for_channels() {
    for opset in [7, 9, 16] {
        let refused = Refused("PRelu");
        let model = prelu(opset, extents![1, 2, 1, 2], &[2], &[10.0, 100.0]);
        expect(&model, &[1, 2, 1, 2], &MINUS, &refused);
        for slope in [&[1i64, 1, 2, 1][..], &[2, 1], &[1, 2, 1]] {
            let model = prelu(opset, extents![1, 2, 2, 1], slope, &[10.0, 100.0]);
            expect(&model, &[1, 2, 2, 1], &MINUS, &refused);
        }
        let model = prelu(opset, extents![2, 2, 1, 1], &[2, 1, 1, 1], &[10.0, 100.0]);
        expect(&model, &[2, 2, 1, 1], &MINUS, &refused);
        let model = prelu(opset, extents![2, 2], &[2, 1], &[10.0, 100.0]);
        expect(&model, &[2, 2], &MINUS, &refused);
        let model = prelu(opset, extents![1, 2, 2], &[2], &[10.0, 100.0]);
        expect(&model, &[1, 2, 2], &MINUS, &refused);
        let model = prelu(opset, extents![1, 2, 1, 2], &[1, 1, 2, 1, 1], &[10.0, 100.0]);
        expect(&model, &[1, 2, 1, 2], &MINUS, &refused);
        let model = prelu(opset, extents![1, 2, 1, 2], &[1, 2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        expect(&model, &[1, 2, 1, 2], &MINUS, &refused);
    }
}

#[test]
fn a_prelu_slope_along_the_channels_is_computed() {
    let tenfold = Is(&[1, 2, 1, 2], &TENFOLD);
    for slope in [&[2i64, 1, 1][..], &[1, 2, 1, 1]] {
        let model = prelu(16, extents![1, 2, 1, 2], slope, &[10.0, 100.0]);
        expect(&model, &[1, 2, 1, 2], &MINUS, &tenfold);
    }
    // Until opset 6 a slope has a number for each channel, whatever the extents.
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
    expect(&model(&[2, 1], &[10.0, 20.0]), &[2, 2], &identity, &Refused("Gemm"));
    expect(&model(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), &[2, 2], &identity, &Refused("Gemm"));
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
        for constant in
            [&[2i64, 1][..], &[2], &[1, 1, 2, 1], &[2, 1, 1, 1], &[1, 1, 2, 1, 1], &[1, 1, 1, 1, 1]]
        {
            expect(&model(op, constant), &dims, &x, &Refused(op));
        }
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
    let broadcast = |axis| [("broadcast", Int(1)), ("axis", Int(axis))];
    let channels = Is(&dims, &[10.0, 20.0, 300.0, 400.0]);
    expect(&model(&[2], &broadcast(1)), &dims, &x, &channels);
    expect(&model(&[2, 1], &broadcast(1)), &dims, &x, &channels);
    expect(&model(&[2], &broadcast(3)), &dims, &x, &Refused("Mul"));
    expect(&model(&[2], &[("broadcast", Int(1))]), &dims, &x, &Refused("Mul"));
    expect(&model(&[2], &[]), &dims, &x, &Refused("Mul"));
    expect(&model(&[1], &[("broadcast", Int(1))]), &dims, &x, &Is(&dims, &[10.0, 20.0, 30.0, 40.0]));
    // Two constants: the sum of [[1, 2], [3, 4]] and [10, 100] from axis 0 on.
    let model = Model::new(6, extents![1, 2, 1, 2]).floats("a", &[2, 1], &[1.0, 2.0]).floats(
        "b",
        &[2],
        &[10.0, 100.0],
    );
    let model = model.node_with("Add", &["a", "b"], &["c"], &broadcast(0));
    let model = model.node_with("Mul", &["x", "c"], &["y"], &broadcast(1)).done();
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

/// What is refused is named: the node, the operator, the opset, what was expected and what was got.
#[test]
fn a_constant_that_cannot_be_broadcast_is_named() {
    let model = prelu(13, extents![1, 2, 1, 2], &[2], &[10.0, 100.0]);
    let strict = ImportOptions::default().strict(true);
    let error = load_bytes(&model, "it", &strict).unwrap_err().to_string();
    for part in ["node `y_PRelu` (PRelu)", "opset 13", "expected ", "[1, 2, 1, 2]", "got [2]"] {
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

// Row 2: the first axis is the batch, and other images are not mixed in.

#[test]
fn a_transpose_that_moves_the_batch_is_refused() {
    let model =
        Model::new(13, extents!["N", 2]).node_with("Transpose", &["x"], &["t"], &[("perm", Ints(&[1, 0]))]);
    let model = model.node("Relu", &["t"], &["y"]).done();
    expect(&model, &[2, 2], &[1.0, 2.0, 3.0, 4.0], &Refused("Transpose"));
    expect(&model, &[1, 2], &[1.0, 2.0], &Is(&[2, 1], &[1.0, 2.0]));
    for perm in [[1i64, 0, 2, 3], [2, 1, 0, 3], [3, 1, 2, 0]] {
        let model = Model::new(13, extents!["N", 2, 2, 2]);
        let model = model.node_with("Transpose", &["x"], &["t"], &[("perm", Ints(&perm))]);
        let model = model.node("Relu", &["t"], &["y"]).done();
        let x: Vec<f32> = (0..24).map(|i| i as f32).collect();
        expect(&model, &[3, 2, 2, 2], &x, &Refused("Transpose"));
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
    expect(&model(&[1, -1], "Softmax"), &[2, 2], &x, &Refused("Softmax"));
    expect(&model(&[1, -1], "Softmax"), &[1, 2], &[5.0; 2], &Is(&[1, 2], &[0.5, 0.5]));
    expect(&model(&[1, -1], "Relu"), &[2, 2], &x, &Is(&[1, 4], &x));
    expect(&model(&[-1, 1], "Relu"), &[2, 2], &x, &Is(&[4, 1], &x));
    expect(&model(&[-1], "Relu"), &[2, 2], &x, &Is(&[4], &x));
    expect(&model(&[-1, 1], "Softmax"), &[2, 2], &x, &Refused("Softmax"));
    expect(&model(&[0, 2], "Relu"), &[2, 2], &x, &Is(&[2, 2], &x));
    // A model for one image is not one for two.
    expect(&model(&[1, 2], "Relu"), &[2, 2], &x, &Refused("Reshape"));
}

#[test]
fn operators_along_the_batch_are_refused() {
    let plain = |op: &str, inputs: &[&str], attributes: &[(&str, model::Attribute<'_>)]| {
        let model = Model::new(12, extents!["N", 2]).ints("zero", &[0]).ints("one", &[1]);
        model.node_with(op, inputs, &["r"], attributes).node("Relu", &["r"], &["y"]).done()
    };
    let axis = || [("axis", Int(0))];
    let cases = [
        ("Softmax", plain("Softmax", &["x"], &axis())),
        ("Concat", plain("Concat", &["x", "x"], &axis())),
        ("ReduceMean", plain("ReduceMean", &["x"], &[("axes", Ints(&[0]))])),
        ("ReduceMax", plain("ReduceMax", &["x"], &[("axes", Ints(&[0])), ("keepdims", Int(0))])),
        ("Slice", plain("Slice", &["x", "zero", "one", "zero"], &[])),
        ("Gather", plain("Gather", &["x", "zero"], &axis())),
        ("Squeeze", plain("Squeeze", &["x"], &[("axes", Ints(&[0]))])),
        ("LayerNormalization", plain("LayerNormalization", &["x", "x"], &axis())),
        ("Split", plain("Split", &["x"], &axis())),
        ("Flatten", {
            let model = Model::new(12, extents!["N", 2]).node_with("Flatten", &["x"], &["f"], &axis());
            model.node_with("Softmax", &["f"], &["y"], &[("axis", Int(1))]).done()
        }),
    ];
    for (op, model) in cases {
        let part = if op == "Flatten" { "Softmax" } else { op };
        expect(&model, &[2, 2], &[1.0, 2.0, 3.0, 4.0], &Refused(part));
        // Nor may an import for one image be run for more.
        let one = load_bytes(&model, "it", &ImportOptions::default());
        let ran = one.and_then(|_| run(&model, 3, &[1.0; 6]));
        assert!(ran.is_err(), "{op}: {ran:?}");
    }
    let unsqueezed =
        Model::new(12, extents!["N", 2]).node_with("Unsqueeze", &["x"], &["u"], &[("axes", Ints(&[0]))]);
    let x = [1.0, 2.0, 3.0, 4.0];
    expect(&unsqueezed.node("Relu", &["u"], &["y"]).done(), &[2, 2], &x, &Is(&[1, 2, 2], &x));
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

// Row 3: a tensor has as many axes as the model says.

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
    expect(&last, &[3, 1, 10], &x, &Refused("Softmax"));
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

// Row 4: what is only meant for training, and limits that are not given.

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
    // Of constants too.
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
    // After a convolution, into which it is fused.
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
    // Asked for, they are made.
    nets::npy::write(file.as_ref(), &[3, 32, 32], &[0.5; 3072]).unwrap();
    program::success(&["run", "lenet5", "--input", &file, "--seed", "1"]);
}

// Row 5: what comes out of an operator that is not known is not known.

/// The multiply-accumulates that the program counts, whether it says that there may be more, and what it says with
/// `--strict` if that is an error.
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

/// Before a convolution from 5 to 5 channels by 3x3 filters: an image of 6x6 through one operator.
fn before_conv(opset: i64, change: impl Fn(Model) -> Model, channels: i64) -> Model {
    let model = change(Model::new(opset, extents![1, 5, 6, 6]));
    model.filled("w", &[5, channels, 3, 3], 1.0).node("Conv", &["r", "w"], &["y"])
}

/// The right number, or fewer and a word.
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
    counts(before_conv(13, nodes("CenterCropPad", &["x", "two"], &[]), 5), 225);
    counts(before_conv(13, nodes("GridSample", &["x", "sizes"], &[]), 5), 225);
    // The convolution sees other channels too.
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
    let unknown = |model: Model| tail(model.node("GridSample", &["x", "x"], &["u"]));
    let model = before_conv(16, unknown, 5).done();
    let (macs, partial, strict) = counted(&model, &[]);
    assert_eq!((macs, partial), (0, true));
    assert!(strict.unwrap().contains("(GridSample)"));
    // A model that says what comes out is counted by that.
    let known =
        |model: Model| tail(model.node("GridSample", &["x", "x"], &["u"]).info("u", extents![1, 5, 12, 12]));
    let (macs, partial, strict) = counted(&before_conv(16, known, 5).done(), &[]);
    assert_eq!((macs, partial), (22_500, true));
    assert!(strict.unwrap().contains("(GridSample)"));
    // But not with another input than the one it was written for.
    let (macs, partial, _) = counted(&before_conv(16, known, 5).done(), &["--input", "5x8x8"]);
    assert_eq!((macs, partial), (0, true));
}

#[test]
fn parameters_behind_an_unknown_operator_are_counted() {
    let model = before_conv(16, |model| model.node("GridSample", &["x", "x"], &["r"]), 5);
    let model = load_bytes(&model.done(), "it", &ImportOptions::default()).unwrap();
    let count = model.count(1).unwrap();
    assert_eq!((count.params, count.macs), (225, 0));
    assert!(model.warnings.iter().any(|warning| warning.contains("`r_GridSample`")), "{:?}", model.warnings);
}

#[test]
fn an_operator_that_keeps_the_extents_is_counted_past() {
    for op in ["Erf", "Softplus", "Exp", "Abs", "HardSigmoid", "Gelu", "LogSoftmax", "Selu"] {
        let model = before_conv(20, |model| model.node(op, &["x"], &["r"]), 5).done();
        let (macs, partial, strict) = counted(&model, &[]);
        assert_eq!((macs, partial, strict.is_some()), (3_600, true, true), "{op}");
    }
}
