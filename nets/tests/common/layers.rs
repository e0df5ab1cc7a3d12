//! Plain `f64` implementations of the layers other than convolution, pooling and activation.

use super::{U, Value, extents};
use nets::{AdaptivePool, ConvTranspose, FractionalPool, Layer, Lrn, Norm, NormKind, Shape};

/// The inputs of a layer: shapes and values.
pub type Inputs<'a> = [(Shape, &'a [Value])];

/// The output of a layer. `tensor` returns its parameters by name.
pub fn other<'a>(
    layer: &Layer,
    inputs: &Inputs<'_>,
    output: Shape,
    tensor: impl Fn(&str) -> Option<&'a [f32]>,
) -> Vec<Value> {
    let (shape, input) = inputs[0];
    let channel = |i: usize| i / (extents(shape).1 * extents(shape).2);
    match layer {
        Layer::Dropout | Layer::Reshape(_) => input.to_vec(),
        Layer::Concat => inputs.iter().flat_map(|(_, values)| values.iter().copied()).collect(),
        Layer::Add => (0..input.len()).map(|i| sum(inputs.iter().map(|(_, values)| values[i]))).collect(),
        Layer::Mul => {
            let (other, factors) = inputs[1];
            let factor = |i: usize| if other == shape { factors[i] } else { factors[channel(i)] };
            input.iter().enumerate().map(|(i, &x)| product(x, factor(i))).collect()
        }
        Layer::Scale { .. } => {
            let number =
                |name, i: usize, absent: f32| tensor(name).map_or(absent, |numbers| numbers[channel(i)]);
            let one = |(i, &x): (usize, &Value)| affine(x, number("weight", i, 1.0), number("bias", i, 0.0));
            input.iter().enumerate().map(one).collect()
        }
        &Layer::HardSigmoid { alpha, beta } => {
            let limited = |x: Value| Value { value: x.value.clamp(0.0, 1.0), ..x };
            input.iter().map(|&x| limited(affine(x, alpha, beta))).collect()
        }
        Layer::ConvTranspose(conv) => transposed(conv, shape, input, output, tensor),
        Layer::Norm(norm) => normalise(norm, shape, input, tensor),
        Layer::Lrn(lrn) => response(lrn, shape, input),
        Layer::Maxout { pieces } => {
            let (_, h, w) = extents(shape);
            let places = (0..output.len().unwrap()).map(|i| (i / (h * w) * pieces, i % (h * w)));
            let most = |(c, pixel)| (c..c + pieces).map(|c| input[c * h * w + pixel]).reduce(larger).unwrap();
            places.map(most).collect()
        }
        Layer::Pad(pad) => moved(shape, input, output, |c, y, x| {
            Some((c, y.checked_sub(pad.top)?, x.checked_sub(pad.left)?))
        }),
        Layer::ShortcutA { stride, .. } => {
            moved(shape, input, output, |c, y, x| Some((c, y * stride, x * stride)))
        }
        Layer::AdaptivePool(pool) => adaptive(*pool, shape, input),
        Layer::FractionalPool(pool) => fractional(*pool, shape, input),
        Layer::Rbf { codes } => {
            let weight = tensor("weight").unwrap();
            let distance = |code: usize| {
                let pairs = input.iter().zip(&weight[code * input.len()..]);
                let squares = pairs.map(|(&x, &w)| {
                    let difference = sum([x, Value::exact(-w)].into_iter());
                    product(difference, difference)
                });
                sum(squares)
            };
            (0..*codes).map(distance).collect()
        }
        // The output must never be read.
        Layer::Unknown { .. } => vec![Value { value: f64::NAN, error: 0.0 }; output.len().unwrap()],
        other => panic!("{other:?} has no second implementation"),
    }
}

/// Every input times every tap is added to an output of its group.
fn transposed<'a>(
    conv: &ConvTranspose,
    shape: Shape,
    input: &[Value],
    output: Shape,
    tensor: impl Fn(&str) -> Option<&'a [f32]>,
) -> Vec<Value> {
    let ((channels, h, w), (outputs, oh, ow)) = (extents(shape), extents(output));
    let (per_group, out_per_group) = (channels / conv.groups, outputs / conv.groups);
    let (weight, bias) = (tensor("weight").unwrap(), tensor("bias"));
    let mut terms: Vec<Vec<Value>> = (0..outputs * oh * ow)
        .map(|i| bias.map(|bias| Value::exact(bias[i / (oh * ow)])).into_iter().collect())
        .collect();
    for (place, &x) in input.iter().enumerate() {
        let (c, y, column) = (place / (h * w), place / w % h, place % w);
        for (o, tap) in
            (0..out_per_group).flat_map(|o| (0..conv.kernel.h * conv.kernel.w).map(move |tap| (o, tap)))
        {
            let (i, j) = (tap / conv.kernel.w, tap % conv.kernel.w);
            let row =
                (y * conv.stride.h + i * conv.dilation.h).checked_sub(conv.pad.top).filter(|&row| row < oh);
            let at = (column * conv.stride.w + j * conv.dilation.w)
                .checked_sub(conv.pad.left)
                .filter(|&at| at < ow);
            let Some((row, at)) = row.zip(at) else { continue };
            let factor = weight[(c * out_per_group + o) * conv.kernel.h * conv.kernel.w + tap];
            let target = ((c / per_group * out_per_group + o) * oh + row) * ow + at;
            terms[target].push(product(x, Value::exact(factor)));
        }
    }
    terms.into_iter().map(|terms| sum(terms.into_iter())).collect()
}

pub fn sum(values: impl Iterator<Item = Value>) -> Value {
    let (mut total, mut magnitude, mut terms) = (Value::ZERO, 0.0, 0.0f64);
    for value in values {
        total = Value { value: total.value + value.value, error: total.error + value.error };
        magnitude += value.value.abs();
        terms += 1.0;
    }
    Value { error: total.error + terms.sqrt() * U * magnitude, ..total }
}

fn product(a: Value, b: Value) -> Value {
    let value = a.value * b.value;
    let error = a.error * b.value.abs() + b.error * a.value.abs() + a.error * b.error;
    Value { value, error: error + U * value.abs() }
}

pub fn affine(x: Value, scale: f32, shift: f32) -> Value {
    sum([product(x, Value::exact(scale)), Value::exact(shift)].into_iter())
}

fn larger(a: Value, b: Value) -> Value {
    Value { value: a.value.max(b.value), error: a.error.max(b.error) }
}

fn normalise<'a>(
    norm: &Norm,
    shape: Shape,
    input: &[Value],
    tensor: impl Fn(&str) -> Option<&'a [f32]>,
) -> Vec<Value> {
    let (channels, h, w) = extents(shape);
    let part = |name, c: usize, absent: f32| tensor(name).map_or(absent, |numbers| numbers[c]);
    let groups = match norm.kind {
        NormKind::Batch | NormKind::Instance => channels,
        NormKind::Group(groups) => groups,
        _ => 1,
    };
    let run = input.len() / groups;
    let one = |(i, x): (usize, &Value)| {
        let (c, group) = (i / (h * w), &input[i / run * run..][..run]);
        let mut mean = group.iter().map(|x| x.value).sum::<f64>() / run as f64;
        let mut var = group.iter().map(|x| (x.value - mean).powi(2)).sum::<f64>() / run as f64;
        let mut error = x.error + group.iter().map(|x| x.error + 4.0 * U * x.value.abs()).fold(0.0, f64::max);
        if norm.kind == NormKind::Batch {
            mean = part("running_mean", c, 0.0).into();
            var = part("running_var", c, 0.0).into();
            error = x.error;
        }
        let deviation = (var + f64::from(norm.eps)).sqrt();
        let scale = f64::from(part("weight", c, 1.0)) / deviation;
        let shift = f64::from(part("bias", c, 0.0));
        let value = (x.value - mean) * scale + shift;
        let magnitude = (x.value.abs() + mean.abs()) * scale.abs() + shift.abs();
        Value { value, error: error * scale.abs() * (1.0 + value.abs()) + 8.0 * U * magnitude }
    };
    input.iter().enumerate().map(one).collect()
}

fn response(lrn: &Lrn, shape: Shape, input: &[Value]) -> Vec<Value> {
    let (channels, h, w) = extents(shape);
    let before = (lrn.size - 1) / 2;
    let one = |(i, x): (usize, &Value)| {
        let (c, pixel) = (i / (h * w), i % (h * w));
        let window = c.saturating_sub(before)..(c + lrn.size - before).min(channels);
        let squares: f64 = window.map(|c| input[c * h * w + pixel].value.powi(2)).sum();
        let base = f64::from(lrn.k) + f64::from(lrn.alpha) / lrn.size as f64 * squares;
        let value = x.value / base.powf(lrn.beta.into());
        Value { value, error: 2.0 * x.error + 32.0 * U * value.abs() }
    };
    input.iter().enumerate().map(one).collect()
}

/// Moves elements: each output is the input element at the position `from`, or zero outside the image.
fn moved(
    shape: Shape,
    input: &[Value],
    output: Shape,
    from: impl Fn(usize, usize, usize) -> Option<(usize, usize, usize)>,
) -> Vec<Value> {
    let ((channels, h, w), (_, oh, ow)) = (extents(shape), extents(output));
    let one = |i: usize| {
        let place =
            from(i / (oh * ow), i / ow % oh, i % ow).filter(|&(c, y, x)| c < channels && y < h && x < w);
        place.map_or(Value::ZERO, |(c, y, x)| input[(c * h + y) * w + x])
    };
    (0..output.len().unwrap()).map(one).collect()
}

/// PyTorch's windows: from the floor of an output's start to the ceiling of its end.
fn adaptive(pool: AdaptivePool, shape: Shape, input: &[Value]) -> Vec<Value> {
    let (channels, h, w) = extents(shape);
    let range =
        |i: usize, outputs: usize, inputs: usize| i * inputs / outputs..((i + 1) * inputs).div_ceil(outputs);
    let mut values = Vec::new();
    for c in 0..channels {
        for (y, x) in (0..pool.output.h).flat_map(|y| (0..pool.output.w).map(move |x| (y, x))) {
            let (rows, columns) = (range(y, pool.output.h, h), range(x, pool.output.w, w));
            let size = (rows.len() * columns.len()) as f64;
            let seen = rows.flat_map(|y| columns.clone().map(move |x| input[(c * h + y) * w + x]));
            let total = sum(seen);
            let (value, error) = (total.value / size, total.error / size);
            values.push(Value { value, error: error + U * value.abs() });
        }
    }
    values
}

/// Maxima of windows at unequal distances, whose starts are rounded.
fn fractional(pool: FractionalPool, shape: Shape, input: &[Value]) -> Vec<Value> {
    let (channels, h, w) = extents(shape);
    let starts = |inputs: usize, window: usize, outputs: usize| -> Vec<usize> {
        let step = (inputs - window) as f64 / (outputs - 1).max(1) as f64;
        let start = |i: usize| (i as f64 * step + 0.5).floor();
        (0..outputs).map(|i| if i + 1 == outputs { inputs - window } else { start(i) as usize }).collect()
    };
    let rows = starts(h, pool.window.h, pool.output.h);
    let columns = starts(w, pool.window.w, pool.output.w);
    let places = (0..channels).flat_map(|c| rows.iter().map(move |row| (c, row)));
    let places = places.flat_map(|(c, row)| columns.iter().map(move |column| (c, row, column)));
    let most = |(c, row, column): (usize, &usize, &usize)| {
        let seen =
            (*row..row + pool.window.h).flat_map(|y| (*column..column + pool.window.w).map(move |x| (y, x)));
        seen.map(|(y, x)| input[(c * h + y) * w + x]).reduce(larger).unwrap()
    };
    places.map(most).collect()
}
