//! Writes a graph as an ONNX file, imports and runs it, and compares all leaves.

use super::dump::name;
use super::{Attr, Draw, Id, Kind, Origin, Value, graph};
use crate::model::{Attribute, Extent, Model};
use arbitrary::Unstructured;
use kernels::Threads;
use nets::import::onnx::{ImportOptions, Imported, load_bytes};
use nets::{CompiledNet, NetOptions};
use std::sync::OnceLock;

/// Parts of the messages of graphs that the importer may refuse.
const REFUSALS: &[&str] = &[
    // Operators are drawn without regard to it.
    "more than 6 axes",
];

/// Relative error of one operator, and absolute error of numbers below 1. It covers sums of a thousand numbers and the
/// functions that amplify an error a hundredfold.
const TOLERANCE: f64 = 1e-4;

/// What became of a graph.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All leaves agree.
    Agrees,
    /// No operator was drawn.
    Empty,
    /// The importer refused it, as documented.
    Refused,
}

/// Draws a graph and checks it. An error describes the graph.
pub fn check(u: &mut Unstructured<'_>) -> Result<Outcome, String> {
    check_with(u, None).map(|(outcome, _)| outcome)
}

/// [`check`] for a graph that begins with an operator, by its place in the tables. Also returns the operators of the
/// graph.
pub fn check_with(
    u: &mut Unstructured<'_>,
    only: Option<(usize, usize)>,
) -> Result<(Outcome, Vec<&'static str>), String> {
    let Ok(draw) = graph(u, only) else { return Ok((Outcome::Empty, Vec::new())) };
    let ops: Vec<&str> = draw.nodes().iter().map(|node| node.op).collect();
    if ops.is_empty() {
        return Ok((Outcome::Empty, ops));
    }
    let with_threads = draw.value(0).data.iter().sum::<f64>().rem_euclid(1.0) == 0.25;
    match agrees(&draw, with_threads) {
        Ok(()) => Ok((Outcome::Agrees, ops)),
        Err(problem) if REFUSALS.iter().any(|part| problem.contains(part)) => Ok((Outcome::Refused, ops)),
        Err(problem) => Err(format!("{problem}\n{draw}")),
    }
}

fn agrees(draw: &Draw<'_, '_>, with_threads: bool) -> Result<(), String> {
    let leaves = draw.leaves();
    let bytes = bytes(draw, &leaves);
    let inputs: Vec<Vec<f32>> =
        inputs(draw).map(|value| value.data.iter().map(|&x| x as f32).collect()).collect();
    let batch = draw.value(0).dims[0];
    let options = ImportOptions::default().batch(batch).strict(true);
    let model = load_bytes(&bytes, "drawn", &options).map_err(|error| format!("import: {error}"))?;
    let results = run(&model, &inputs, batch, with_threads)?;
    for ((output, dims), got) in model.extents.outputs.iter().zip(&results) {
        let id = *leaves.iter().find(|&&id| name(id) == *output).ok_or("an output of another name")?;
        let expected = draw.value(id);
        if dims.as_ref() != Some(&expected.dims) {
            return Err(format!("{output}: expected extents {:?}, got {dims:?}", expected.dims));
        }
        compare(expected, got, draw.nodes().len()).map_err(|problem| format!("{output}: {problem}"))?;
    }
    Ok(())
}

fn inputs<'a>(draw: &'a Draw<'_, '_>) -> impl Iterator<Item = &'a Value> {
    draw.values.iter().filter(|(origin, _)| *origin == Origin::Input).map(|(_, value)| value)
}

/// The outputs. With threads, the network is planned for two, and one and two must compute the same bits.
fn run(
    model: &Imported,
    inputs: &[Vec<f32>],
    batch: usize,
    with_threads: bool,
) -> Result<Vec<Vec<f32>>, String> {
    static POOL: OnceLock<rayon::ThreadPool> = OnceLock::new();
    let pool = || POOL.get_or_init(|| rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
    let threads = if with_threads { 2 } else { 1 };
    let options = NetOptions::default().batch(batch).all_outputs(true).max_threads(threads);
    let problem = |error: nets::NetError| format!("run: {error}");
    let net = CompiledNet::new(&model.graph, &model.weights, &options).map_err(problem)?;
    let mut memory = net.memory().map_err(problem)?;
    let given: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut run_on = |threads: Threads<'_>| {
        let lens = net.outputs().iter().map(|shape| shape.elements(batch).unwrap_or(0));
        let mut results: Vec<Vec<f32>> = lens.map(|len| vec![f32::NAN; len]).collect();
        let mut outputs: Vec<&mut [f32]> = results.iter_mut().map(Vec::as_mut_slice).collect();
        net.run_all(&given, &mut outputs, &mut memory, threads).map_err(problem)?;
        Ok::<_, String>(results)
    };
    let results = run_on(Threads::Seq)?;
    if with_threads {
        let same = run_on(Threads::Pool(pool()))?;
        let bits = |all: &[Vec<f32>]| all.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
        if bits(&same) != bits(&results) {
            return Err("two threads compute other bits".to_owned());
        }
    }
    Ok(results)
}

/// The ONNX file.
fn bytes(draw: &Draw<'_, '_>, leaves: &[Id]) -> Vec<u8> {
    let signed = |dims: &[usize]| dims.iter().map(|&dim| dim as i64).collect::<Vec<_>>();
    let extents = |value: &Value| value.dims.iter().map(|&dim| Extent::Is(dim as i64)).collect::<Vec<_>>();
    let mut model = Model::empty(draw.opset);
    for (id, (origin, value)) in draw.values.iter().enumerate() {
        let (name, dims) = (name(id), signed(&value.dims));
        model = match (origin, value.kind) {
            (Origin::Input, _) => model.input(&name, &extents(value)),
            (Origin::Computed | Origin::Folded, _) => model,
            (Origin::Constant, Kind::Float) => {
                model.floats(&name, &dims, &value.data.iter().map(|&x| x as f32).collect::<Vec<_>>())
            }
            (Origin::Constant, Kind::Whole) => {
                model.ints_of(&name, &dims, &value.data.iter().map(|&x| x as i64).collect::<Vec<_>>())
            }
            (Origin::Constant, Kind::Truth) => {
                model.truths(&name, &dims, &value.data.iter().map(|&x| x != 0.0).collect::<Vec<_>>())
            }
        };
    }
    for node in draw.nodes() {
        let inputs: Vec<String> = node.inputs.iter().map(|id| id.map_or_else(String::new, name)).collect();
        let outputs: Vec<String> = node.outputs.iter().map(|&id| name(id)).collect();
        let attrs: Vec<(&str, Attribute<'_>)> =
            node.attrs.iter().map(|(name, value)| (*name, attribute(value))).collect();
        model = model.node_with(node.op, &texts(&inputs), &texts(&outputs), &attrs);
    }
    let names: Vec<String> = leaves.iter().map(|&id| name(id)).collect();
    model.outputs(&texts(&names))
}

fn texts(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn attribute(value: &Attr) -> Attribute<'_> {
    match value {
        Attr::Int(value) => Attribute::Int(*value),
        Attr::Float(value) => Attribute::Float(*value),
        Attr::Ints(values) => Attribute::Ints(values),
        Attr::Floats(values) => Attribute::Floats(values),
        Attr::Text(value) => Attribute::Text(value),
    }
}

fn compare(expected: &Value, got: &[f32], ops: usize) -> Result<(), String> {
    if got.len() != expected.len() {
        return Err(format!("expected {} elements, got {}", expected.len(), got.len()));
    }
    for (number, (&x, &got)) in expected.data.iter().zip(got).enumerate() {
        let most = if expected.exact { 0.0 } else { TOLERANCE * x.abs().max(1.0) * (1.0 + ops as f64 / 2.0) };
        let (wide, rounded) = (f64::from(got), x as f32);
        let same = (x.is_nan() && got.is_nan()) || rounded == got || (wide - x).abs() <= most;
        if !same {
            return Err(format!("element {number}: expected {x}, got {got}"));
        }
    }
    Ok(())
}
