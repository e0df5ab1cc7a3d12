//! `Resize` and `Upsample`: one weighted sum along each axis.

use super::super::dims::positive;
use super::super::importer::Importer;
use super::super::node::{Call, Outcome, axis, unsupported, wrong};
use super::super::proto::AttributeValue;
use super::super::value::Value;
use super::dims_of;
use crate::layer::{Blend, Pick, TensorOp, cubic};
use std::sync::Arc;

/// Maximum extent of a resized axis.
const MOST_OUTPUTS: usize = 1 << 20;
/// Maximum number of weights along an axis. A smoothing filter reaches over more elements, the smaller the factor is.
const MOST_WEIGHTS: f64 = (1 << 24) as f64;

/// How places of the output are related to places of the input.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    CropAndResize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Nearest {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Nearest(Nearest),
    Linear,
    /// The parameter of the cubic convolution (Keys 1981).
    Cubic(f64),
}

/// The attributes of a node.
struct Settings {
    mode: Mode,
    coordinates: Coordinates,
    antialias: bool,
    exclude_outside: bool,
    extrapolation: f32,
}

/// One axis to resize.
#[derive(Debug, Clone, Copy)]
struct Axis {
    input: usize,
    output: usize,
    scale: f64,
    region: (f64, f64),
}

/// A sampled place: weighted sources, or nothing for the extrapolation value.
type Sources = Vec<(usize, f32)>;

pub(super) fn resize<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let dims = dims_of(call, 0)?;
    let settings = settings(call)?;
    let axes = axes(call, &dims, &settings)?;
    let mut value = call.value(0)?.clone();
    // The last axis first, so that the longest rows are read while there are the fewest.
    for (number, axis) in axes.iter().enumerate().rev() {
        let same = axis.input == axis.output && axis.scale == 1.0 && axis.region == (0.0, 1.0);
        if same && settings.coordinates != Coordinates::CropAndResize {
            continue;
        }
        let sources: Vec<Sources> = (0..axis.output).map(|x| settings.sources(axis, x)).collect();
        let op = operation(number, dims.len(), sources, settings.extrapolation);
        value = importer.emit(call, op, &[value])?;
    }
    Ok(value)
}

/// A selection if every output has one source with weight 1, else weighted sums.
fn operation(axis: usize, rank: usize, outputs: Vec<Sources>, fill: f32) -> TensorOp {
    let single = |sources: &Sources| sources.len() == 1 && sources[0].1 == 1.0 || sources.is_empty();
    if outputs.iter().all(single) {
        let index = outputs.iter().map(|sources| sources.first().map(|&(place, _)| place)).collect();
        let mut axes = vec![Pick::All; rank];
        axes[axis] = Pick::Index(index);
        return TensorOp::Pick { axes, fill };
    }
    TensorOp::Blend(Blend { axis, outputs: Arc::from(outputs), fill })
}

fn settings(call: &Call<'_>) -> Outcome<Settings> {
    let opset = call.opset;
    // Before opset 11 there is one way to map places.
    let old = call.def.op == "Upsample" || opset < 11;
    let coordinates = match call.text("coordinate_transformation_mode")? {
        _ if old => Coordinates::Asymmetric,
        None | Some("half_pixel") => Coordinates::HalfPixel,
        Some("half_pixel_symmetric") => Coordinates::HalfPixelSymmetric,
        Some("pytorch_half_pixel") => Coordinates::PytorchHalfPixel,
        Some("align_corners") => Coordinates::AlignCorners,
        Some("asymmetric") => Coordinates::Asymmetric,
        Some("tf_crop_and_resize") => Coordinates::CropAndResize,
        Some(other) => return unsupported(format!("opset {opset}: coordinates of `{other}`")),
    };
    let nearest = match call.text("nearest_mode")? {
        _ if old => Nearest::Floor,
        None | Some("round_prefer_floor") => Nearest::PreferFloor,
        Some("round_prefer_ceil") => Nearest::PreferCeil,
        Some("floor") => Nearest::Floor,
        Some("ceil") => Nearest::Ceil,
        Some(other) => return wrong(format!("expected a known nearest_mode, got `{other}`")),
    };
    let mode = match call.text("mode")? {
        None | Some("nearest") => Mode::Nearest(nearest),
        Some("linear" | "bilinear") => Mode::Linear,
        Some("cubic") => Mode::Cubic(f64::from(call.float("cubic_coeff_a", -0.75)?)),
        Some(other) => return wrong(format!("expected nearest, linear or cubic as mode, got `{other}`")),
    };
    Ok(Settings {
        mode,
        coordinates,
        antialias: call.flag("antialias")?,
        exclude_outside: call.flag("exclude_outside")?,
        extrapolation: call.float("extrapolation_value", 0.0)?,
    })
}

/// The factors and extents: an attribute up to opset 8, input 1 up to opset 10, and inputs 2 and 3 since.
fn axes(call: &Call<'_>, dims: &[usize], settings: &Settings) -> Outcome<Vec<Axis>> {
    let chosen: Vec<usize> = match call.ints("axes")? {
        Some(axes) => axes.iter().map(|&along| axis(along, dims.len())).collect::<Outcome<_>>()?,
        None => (0..dims.len()).collect(),
    };
    let mut axes: Vec<Axis> =
        dims.iter().map(|&dim| Axis { input: dim, output: dim, scale: 1.0, region: (0.0, 1.0) }).collect();
    let new = call.def.op == "Resize" && call.opset >= 11;
    let given = |numbers: Option<Arc<[f64]>>, what: &str| match numbers.filter(|numbers| !numbers.is_empty())
    {
        Some(numbers) if numbers.len() != chosen.len() => {
            wrong(format!("expected {} {what}, got {}", chosen.len(), numbers.len()))
        }
        numbers => Ok(numbers),
    };
    let scales = match call.any(&["scales"]) {
        Some(AttributeValue::Floats(scales)) => Some(scales.iter().map(|&scale| scale.into()).collect()),
        _ => call.numbers(if new { 2 } else { 1 })?,
    };
    let sizes = if new { given(call.numbers(3)?, "sizes")? } else { None };
    if let Some(sizes) = sizes {
        by_sizes(call, &mut axes, &chosen, &positive(&sizes)?)?;
    } else if let Some(scales) = given(scales, "scales")? {
        for (&along, &scale) in chosen.iter().zip(scales.iter()) {
            let axis = &mut axes[along];
            // ONNX defines the product in single precision.
            let output = (axis.input as f32 * scale as f32).floor();
            (axis.scale, axis.output) = (scale, positive(&[f64::from(output)])?[0]);
        }
    } else {
        return wrong("expected scales or sizes, got neither");
    }
    if settings.coordinates == Coordinates::CropAndResize {
        let Some(region) = call.numbers(1)?.filter(|region| region.len() == 2 * chosen.len()) else {
            return wrong("expected a region of two numbers for each axis");
        };
        for (number, &along) in chosen.iter().enumerate() {
            axes[along].region = (region[number], region[number + chosen.len()]);
        }
    }
    if !axes.iter().all(|axis| axis.output > 0 && axis.scale > 0.0 && axis.output <= MOST_OUTPUTS) {
        return unsupported(format!(
            "an output without elements, or of more than {MOST_OUTPUTS} along an axis"
        ));
    }
    // A cubic filter reaches two elements to both sides.
    let weights = |axis: &Axis| axis.output as f64 * 4.0 / axis.scale.min(1.0);
    if settings.antialias && axes.iter().any(|axis| weights(axis) > MOST_WEIGHTS) {
        return unsupported(format!("a smoothing filter of more than {MOST_WEIGHTS} weights along an axis"));
    }
    Ok(axes)
}

/// The factors that lead to these extents, or to as large ones as keep the ratio of the axes.
fn by_sizes(call: &Call<'_>, axes: &mut [Axis], chosen: &[usize], sizes: &[usize]) -> Outcome<()> {
    let ratios = || chosen.iter().zip(sizes).map(|(&along, &size)| size as f64 / axes[along].input as f64);
    let common = match call.text("keep_aspect_ratio_policy")? {
        None | Some("stretch") => None,
        Some("not_larger") => Some(ratios().fold(f64::INFINITY, f64::min)),
        Some("not_smaller") => Some(ratios().fold(0.0, f64::max)),
        Some(other) => return wrong(format!("expected a known keep_aspect_ratio_policy, got `{other}`")),
    };
    for (&along, &size) in chosen.iter().zip(sizes) {
        let axis = &mut axes[along];
        (axis.scale, axis.output) = match common {
            None => (size as f64 / axis.input as f64, size),
            Some(scale) => (scale, (scale * axis.input as f64 + 0.5).floor() as usize),
        };
    }
    Ok(())
}

impl Settings {
    /// The sources of one place of the output along an axis.
    fn sources(&self, axis: &Axis, x: usize) -> Sources {
        let Some(at) = self.original(axis, x as f64) else { return Vec::new() };
        let floor = at.floor();
        // Of two neighbours at the same distance, the left one is preferred.
        let (base, ratio) = if at == floor { (floor - 1.0, 1.0) } else { (floor, at - floor) };
        let (start, mut weights) = self.weights(ratio, axis.scale);
        let place = |number: usize| base as i64 + start + number as i64;
        let last = axis.input as i64 - 1;
        if self.exclude_outside {
            for (number, weight) in weights.iter_mut().enumerate() {
                *weight *= f64::from(u8::from((0..=last).contains(&place(number))));
            }
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        let mut sources: Sources = Vec::new();
        for (number, &weight) in weights.iter().enumerate().filter(|&(_, &weight)| weight != 0.0) {
            let at = place(number).clamp(0, last) as usize;
            match sources.iter_mut().find(|(other, _)| *other == at) {
                Some((_, sum)) => *sum += weight as f32,
                None => sources.push((at, weight as f32)),
            }
        }
        sources
    }

    /// The place of the input that an output comes from; `None` outside of the region.
    fn original(&self, axis: &Axis, x: f64) -> Option<f64> {
        let (input, output) = (axis.input as f64, axis.scale * axis.input as f64);
        Some(match self.coordinates {
            Coordinates::HalfPixel => (x + 0.5) / axis.scale - 0.5,
            Coordinates::PytorchHalfPixel if axis.output == 1 => 0.0,
            Coordinates::PytorchHalfPixel => (x + 0.5) / axis.scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let offset = input / 2.0 * (1.0 - axis.output as f64 / output);
                offset + (x + 0.5) / axis.scale - 0.5
            }
            Coordinates::AlignCorners if output == 1.0 || axis.output == 1 => 0.0,
            Coordinates::AlignCorners => x * (input - 1.0) / (output - 1.0),
            Coordinates::Asymmetric => x / axis.scale,
            Coordinates::CropAndResize => {
                let (start, end) = axis.region;
                let inside = match output {
                    1.0 => (end - start) * (input - 1.0) / 2.0,
                    _ => x * (end - start) * (input - 1.0) / (output - 1.0),
                };
                let at = inside + start * (input - 1.0);
                return (0.0..=input - 1.0).contains(&at).then_some(at);
            }
        })
    }

    /// The offset of the first neighbour from the left one, and the weight of each.
    fn weights(&self, ratio: f64, scale: f64) -> (i64, Vec<f64>) {
        let shrink = if self.antialias { scale.min(1.0) } else { 1.0 };
        let spread = |reach: f64, f: &dyn Fn(f64) -> f64| {
            let start = (-reach / shrink).floor() as i64 + 1;
            let weights: Vec<f64> = (start..2 - start).map(|i| f((i as f64 - ratio) * shrink)).collect();
            let sum: f64 = weights.iter().sum();
            (start, weights.into_iter().map(|weight| weight / sum).collect())
        };
        match self.mode {
            Mode::Nearest(nearest) => {
                let right = ratio == 1.0
                    || match nearest {
                        Nearest::PreferFloor => ratio > 0.5,
                        Nearest::PreferCeil => ratio >= 0.5,
                        Nearest::Floor => false,
                        Nearest::Ceil => true,
                    };
                (i64::from(right), vec![1.0])
            }
            Mode::Linear => spread(1.0, &|x| (1.0 - x.abs()).clamp(0.0, 1.0)),
            Mode::Cubic(a) => spread(2.0, &|x| cubic(x.abs(), a)),
        }
    }
}
