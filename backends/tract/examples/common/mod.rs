//! Loads ONNX files, and compares tract with and without this crate.

use convkernels_tract::{Options, Report, accelerate_with_report};
use std::path::Path;
use std::time::{Duration, Instant};
use tract_linalg::multithread::{Executor, multithread_tract_scope};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{bail, ensure, format_err};

/// A network, ready to run with and without this crate.
pub struct Pair {
    with: Arc<TypedRunnableModel>,
    without: Arc<TypedRunnableModel>,
    inputs: TVec<TValue>,
    /// What was replaced.
    pub report: Report,
}

/// Times and difference of one comparison.
pub struct Outcome {
    /// Relative distance of the outputs in the Euclidean norm: the largest of all outputs.
    pub error: f64,
    /// Sorted times of tract alone.
    pub without: Vec<Duration>,
    /// Sorted times with this crate.
    pub with: Vec<Duration>,
}

impl Outcome {
    /// The median time of tract alone, divided by that with this crate.
    pub fn ratio(&self) -> f64 {
        median(&self.without).as_secs_f64() / median(&self.with).as_secs_f64()
    }
}

/// The median of sorted times.
pub fn median(times: &[Duration]) -> Duration {
    times[times.len() / 2]
}

/// A shape for an input: `name=1x3x224x224`, or `1x3x224x224` for the first one.
pub fn parse_shape(text: &str) -> TractResult<(Option<String>, Vec<usize>)> {
    let (name, shape) = match text.split_once('=') {
        Some((name, shape)) => (Some(name.to_string()), shape),
        None => (None, text),
    };
    let extents = shape.split(['x', ',']).map(|extent| extent.trim().parse::<usize>());
    let shape = extents
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format_err!("Expected a shape such as 1x3x224x224, got {shape:?}: {error}"))?;
    Ok((name, shape))
}

impl Pair {
    /// Loads a file. `shapes` replaces the shapes of inputs, which must be known.
    pub fn load(
        path: &Path,
        shapes: &[(Option<String>, Vec<usize>)],
        options: &Options,
    ) -> TractResult<Self> {
        let mut model = tract_onnx::onnx().model_for_path(path)?;
        for index in 0..model.inputs.len() {
            let name = model.node(model.inputs[index].node).name.clone();
            let given = shapes.iter().find(|(wanted, _)| match wanted {
                Some(wanted) => *wanted == name,
                None => index == 0,
            });
            if let Some((_, shape)) = given {
                model.set_input_fact(index, InferenceFact::dt_shape(f32::datum_type(), shape))?;
            }
        }
        for (name, _) in shapes {
            let known = |name: &String| model.inputs.iter().any(|input| model.node(input.node).name == *name);
            ensure!(name.as_ref().is_none_or(known), "{} has no input {name:?}", path.display());
        }
        let model = model.into_typed()?;
        let inputs = (0..model.inputs.len()).map(|index| page(&model, index));
        let inputs = inputs.collect::<TractResult<TVec<TValue>>>()?;
        let without = model.clone().into_optimized()?.into_runnable()?;
        let (with, report) = accelerate_with_report(model, options)?;
        let with = with.into_optimized()?.into_runnable()?;
        Ok(Self { with, without, inputs, report })
    }

    /// Runs both in turns, for at least five rounds and two seconds.
    pub fn compare(&self, threads: usize) -> TractResult<Outcome> {
        let executor = match threads {
            0 | 1 => Executor::SingleThread,
            _ => Executor::multithread(threads),
        };
        multithread_tract_scope(executor, || {
            // The first run of each packs weights and touches memory.
            let (with, without) =
                (self.with.run(self.inputs.clone())?, self.without.run(self.inputs.clone())?);
            let error = difference(&with, &without)?;
            drop((with, without));
            let mut outcome = Outcome { error, with: vec![], without: vec![] };
            let begin = Instant::now();
            while outcome.with.len() < 5
                || (begin.elapsed() < Duration::from_secs(2) && outcome.with.len() < 101)
            {
                outcome.without.push(time(&self.without, &self.inputs)?);
                outcome.with.push(time(&self.with, &self.inputs)?);
            }
            outcome.with.sort();
            outcome.without.sort();
            Ok(outcome)
        })
    }
}

fn time(model: &Arc<TypedRunnableModel>, inputs: &TVec<TValue>) -> TractResult<Duration> {
    let inputs = inputs.clone();
    let begin = Instant::now();
    model.run(inputs)?;
    Ok(begin.elapsed())
}

/// A page with lines of words made of strokes, and some noise, in the shape of an input; the same in every run.
///
/// Text detection answers noise alone with probabilities of 1e-7, whose relative differences say nothing.
fn page(model: &TypedModel, index: usize) -> TractResult<TValue> {
    let fact = model.input_fact(index)?;
    let name = &model.node(model.inputs[index].node).name;
    if fact.datum_type != f32::datum_type() {
        bail!("Input {name} is {:?}, where f32 is expected", fact.datum_type);
    }
    let shape = fact.shape.as_concrete().ok_or_else(|| {
        format_err!("Input {name} has the shape {:?}; give one, such as {name}=1x3x224x224", fact.shape)
    })?;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let width = shape.last().copied().unwrap_or(1).max(1);
    let elements = (0..shape.iter().product()).map(|at: usize| {
        let (y, x) = (at / width % 640, at % width);
        let in_line = y % 40 >= 12 && y % 40 < 34;
        let in_word = x / 12 % 7 < 5 && x % 12 < 9;
        let stroke = (x % 12) / 3 != 1 || (y % 40).is_multiple_of(7) || (y + x / 12) % 11 < 3;
        let ink = if in_line && in_word && stroke { -1.0 } else { 1.0 };
        ink * (0.9 + 0.1 * noise())
    });
    let elements: Vec<f32> = elements.collect();
    Ok(Tensor::from_shape(shape, &elements)?.into_tvalue())
}

/// The relative distance of two sets of outputs in the Euclidean norm. A NaN on one side counts as infinite.
fn difference(with: &[TValue], without: &[TValue]) -> TractResult<f64> {
    let mut worst = 0.0f64;
    for (with, without) in with.iter().zip(without) {
        ensure!(with.shape() == without.shape(), "Shapes differ: {with:?} and {without:?}");
        if with.datum_type() != f32::datum_type() {
            ensure!(with == without, "Outputs that are not f32 differ");
            continue;
        }
        let (with, without) = (with.view(), without.view());
        let (with, without) = (with.as_slice::<f32>()?, without.as_slice::<f32>()?);
        let square = |x: f64| x * x;
        let norm: f64 = without.iter().map(|x| square(f64::from(*x))).sum();
        let distance: f64 =
            with.iter().zip(without).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
        let relative = (distance / norm.max(f64::MIN_POSITIVE)).sqrt();
        worst = worst.max(if relative.is_finite() { relative } else { f64::INFINITY });
    }
    Ok(worst)
}
