//! Extents, axes and training flags of an ONNX model are computed correctly or rejected. Wrong outputs and
//! wrong totals never pass silently.

#[macro_use]
#[path = "../model/mod.rs"]
mod model;
#[path = "../program/mod.rs"]
mod program;

mod batch;
mod constants;
mod hostile;
mod shapes;
mod training;
mod unknown;

use kernels::Threads;
use nets::import::onnx::{ImportOptions, load_bytes};
use nets::{Net, NetError, NetOptions};

/// Runs a model, imported with default options, on `batch` images.
fn run(bytes: &[u8], batch: usize, x: &[f32]) -> Result<Vec<f32>, NetError> {
    let model = load_bytes(bytes, "it", &ImportOptions::default())?;
    let weights = model.weights.read(&model.graph)?;
    let mut net = Net::new(&model.graph, &weights, &NetOptions::default().batch(batch))?;
    Ok(net.run(x, Threads::Seq)?.to_vec())
}

/// Runs the program on a model and a tensor. Returns the extents and elements of the output, or the last line
/// of the error.
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

/// A function of `x` and of another tensor that is broadcast to it as NumPy does: aligned at the last axis.
fn broadcast(
    dims: &[usize],
    x: &[f32],
    (other_dims, other): (&[usize], &[f32]),
    f: impl Fn(f32, f32) -> f32,
) -> Vec<f32> {
    let place = |number: usize| {
        let (mut rest, mut place, mut step) = (number, 0, 1);
        for (axis, &dim) in dims.iter().enumerate().rev() {
            let index = rest % dim;
            rest /= dim;
            let from_end = dims.len() - axis;
            if let Some(&own) = other_dims.len().checked_sub(from_end).map(|axis| &other_dims[axis]) {
                place += if own == 1 { 0 } else { index * step };
                step *= own;
            }
        }
        place
    };
    x.iter().enumerate().map(|(number, &x)| f(x, other[place(number)])).collect()
}

fn close(a: &[f32], b: &[f32]) -> bool {
    let near = |(&a, &b): (&f32, &f32)| a == b || (a - b).abs() <= 1e-5 * b.abs().max(1.0);
    a.len() == b.len() && a.iter().zip(b).all(near)
}

/// The expected outcome for a model and a tensor.
enum Outcome<'a> {
    /// This output, as ONNX defines it.
    Is(&'a [usize], &'a [f32]),
    /// An error that contains this text.
    Refused(&'a str),
}
use Outcome::{Is, Refused};

/// Checks the outcome of the program. The library imports a model for one image and then runs any batch size,
/// so it may also reject another batch.
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
