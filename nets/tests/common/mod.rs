//! Plain `f64` implementations of every layer, with bounds on the errors of `f32` computations.
#![allow(dead_code)] // each test uses a part

mod layers;

use kernels::{
    Activation, Algorithm, ConvIo, ConvPlan, Layout, Numerics, PlanOptions, PoolKind, TensorMut, TensorRef,
    Threads, Weights, Workspace,
};
use layers::Inputs;
use nets::{
    Conv, Graph, Layer, Linear, Net, NetOptions, Node, NodeId, NormKind, Pool, Shape, WeightSet,
    to_safetensors,
};

/// Unit roundoff of `f32`.
const U: f64 = f32::EPSILON as f64 / 2.0;
/// Rounding errors are treated as random: `sqrt(K) u sum|w x|` instead of `K u sum|w x|` (N. Higham and T.
/// Mary, "A new approach to probabilistic rounding error analysis", 2019), multiplied by this factor.
const LAMBDA: f64 = 4.0;

/// A value, and a bound on the error of an `f32` computation of it, for one image.
#[derive(Clone, Copy, Debug)]
pub struct Value {
    pub value: f64,
    pub error: f64,
}

impl Value {
    pub const ZERO: Self = Self { value: 0.0, error: 0.0 };

    pub fn exact(value: f32) -> Self {
        Self { value: value.into(), error: 0.0 }
    }
}

/// `|a - b| / |b|`.
pub fn relative_l2(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let difference: f64 = a.iter().zip(b).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    (difference / b.iter().map(|&b| square(b.into())).sum::<f64>()).sqrt()
}

/// Runs the forward pass of one image.
pub fn forward(graph: &Graph, weights: &WeightSet, image: &[f32]) -> Vec<Value> {
    let mut values: Vec<Vec<Value>> = Vec::new();
    for node in graph.nodes() {
        let inputs = node.inputs.iter().map(|&id| (graph.node(id).output, values[id.index()].as_slice()));
        let value = match node.layer {
            Layer::Input(_) => image.iter().map(|&x| Value::exact(x)).collect(),
            _ => layer(node, &inputs.collect::<Vec<_>>(), weights),
        };
        assert_eq!(value.len(), node.output.len().unwrap(), "{}", node.name);
        values.push(value);
    }
    values.swap_remove(graph.output_id().index())
}

/// Random values for every tensor of `graph`, scaled so that activations keep their size. Variances are positive.
pub fn weights(graph: &Graph) -> WeightSet {
    let mut tensors = Vec::new();
    for (seed, (name, param)) in (1..).zip(graph.params()) {
        let fan_in: usize = param.dims.iter().skip(1).product();
        let bound = (3.0 / fan_in.max(1) as f32).sqrt().min(1.0);
        let scaled = noise(param.dims.iter().product(), seed).into_iter().map(|x| match param.name {
            "running_var" => x.abs() + 0.5,
            _ => x * bound,
        });
        tensors.push((name, param.dims, scaled.collect::<Vec<f32>>()));
    }
    let views: Vec<_> = tensors.iter().map(|(name, dims, data)| (&**name, &**dims, &**data)).collect();
    WeightSet::from_safetensors(graph, &to_safetensors(&views), "noise").unwrap()
}

/// Plans `graph` with random weights, runs it on noise, and compares the output with [`forward`]. It uses the
/// default layout, NCHW, and blocks of channels.
pub fn check(graph: &Graph, options: &NetOptions) {
    let weights = weights(graph);
    let input = noise(options.batch * graph.input().len().unwrap(), 3);
    // The bounds hold for reordered sums only.
    let options = options.numerics(Numerics::Strict);
    for options in [options, options.layout(Layout::Nchw), options.layout(Layout::Nchw16c)] {
        let mut net = Net::new(graph, &weights, &options).unwrap();
        // Twice, because no state may be left from the first run.
        for _ in 0..2 {
            let got = net.run(&input, Threads::Seq).unwrap();
            compare(graph, &weights, &input, got, &options);
        }
    }
}

/// A sum of products, computed by lowering to a matrix product.
fn convolution(conv: &Conv, shape: Shape, input: &[f32], weights: Weights<'_>) -> Vec<f32> {
    let desc = conv.desc(shape.batched(1), Layout::Nchw, Activation::None).unwrap();
    let options = PlanOptions::default().force(Algorithm::Im2colGemm).max_threads(1);
    let plan = ConvPlan::new(&desc, weights, &options).unwrap();
    let mut output = vec![0.0; desc.output().len(Layout::Nchw).unwrap()];
    let io = ConvIo::new(
        TensorRef::packed(input, desc.input(), Layout::Nchw).unwrap(),
        TensorMut::packed(&mut output, desc.output(), Layout::Nchw).unwrap(),
    );
    plan.run(io, &mut Workspace::for_req(plan.workspace_req()).unwrap(), Threads::Seq).unwrap();
    output
}

/// Runs the forward pass of one image layer by layer in NCHW, without fusion, merging, blocks or shared
/// memory. Convolutions and fully connected layers are in `f32`, because [`forward`] would take minutes. The
/// other layers are those of [`forward`].
pub fn layer_by_layer(graph: &Graph, weights: &WeightSet, image: &[f32]) -> Vec<f32> {
    let mut values: Vec<Vec<f32>> = Vec::new();
    for node in graph.nodes() {
        let first = node.inputs.first().map(|&id| (graph.node(id).output, values[id.index()].as_slice()));
        let tensor = |name: &str| weights.get(&format!("{}.{name}", node.name)).map(|tensor| tensor.data());
        let own = || Weights { filter: tensor("weight").unwrap(), bias: tensor("bias"), slope: None };
        let value = match (&node.layer, first) {
            (Layer::Input(_), _) => image.to_vec(),
            (Layer::Conv(conv), Some((shape, input))) => convolution(conv, shape, input, own()),
            (Layer::Linear(linear), Some((shape, input))) => {
                let conv = Conv { bias: linear.bias, ..Conv::new(linear.out_features, 1) };
                convolution(&conv, shape, input, own())
            }
            (&Layer::Activation(function), Some((_, input))) if function != Activation::PRelu => {
                input.iter().map(|&x| function.eval(x.into(), 0.0) as f32).collect()
            }
            (Layer::Add, Some((_, input))) => {
                let mut sum = input.to_vec();
                for id in &node.inputs[1..] {
                    sum.iter_mut().zip(&values[id.index()]).for_each(|(sum, x)| *sum += x);
                }
                sum
            }
            (Layer::Norm(norm), Some((shape, input))) if norm.kind == NormKind::Batch => {
                let numbers = ["weight", "bias", "running_mean", "running_var"];
                let numbers = numbers.map(|name| tensor(name).unwrap());
                let maps = input.chunks_exact(input.len() / shape.channels()).enumerate();
                let map = |(c, map): (usize, &[f32])| {
                    let [weight, bias, mean, var] = numbers.map(|numbers| f64::from(numbers[c]));
                    let scale = weight / (var + f64::from(norm.eps)).sqrt();
                    map.iter().map(|&x| ((f64::from(x) - mean) * scale + bias) as f32).collect::<Vec<f32>>()
                };
                maps.flat_map(map).collect()
            }
            _ => {
                let exact = |&id: &NodeId| values[id.index()].iter().copied().map(Value::exact).collect();
                let inputs: Vec<Vec<Value>> = node.inputs.iter().map(exact).collect();
                let shapes = node.inputs.iter().map(|&id| graph.node(id).output);
                let inputs: Vec<_> = shapes.zip(&inputs).map(|(shape, input)| (shape, &input[..])).collect();
                layer(node, &inputs, weights).iter().map(|value| value.value as f32).collect()
            }
        };
        values.push(value);
    }
    values.swap_remove(graph.output_id().index())
}

pub fn compare(graph: &Graph, weights: &WeightSet, input: &[f32], got: &[f32], options: &NetOptions) {
    let images = input.chunks_exact(graph.input().len().unwrap());
    let expected: Vec<Value> = images.flat_map(|image| forward(graph, weights, image)).collect();
    assert_eq!(got.len(), expected.len());
    for (i, (&got, Value { value, error })) in got.iter().zip(expected).enumerate() {
        let difference = (f64::from(got) - value).abs();
        assert!(
            difference <= LAMBDA * error,
            "{options:?}: output {i} is {got}, not {value} within {error:e}"
        );
    }
}

/// Numbers in [-1, 1) from a 64-bit linear congruential generator (Knuth's MMIX).
pub fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn layer(node: &Node, inputs: &Inputs<'_>, weights: &WeightSet) -> Vec<Value> {
    let (shape, input) = inputs[0];
    let tensor = |name: &str| weights.get(&format!("{}.{name}", node.name)).map(|tensor| tensor.data());
    match &node.layer {
        Layer::Conv(desc) => conv(desc, shape, node.output, input, tensor("weight").unwrap(), tensor("bias")),
        Layer::Linear(linear) => fully_connected(linear, input, tensor("weight").unwrap(), tensor("bias")),
        Layer::Pool(desc) => pool(desc, shape, node.output, input),
        &Layer::Activation(function) => activate(function, shape, input, tensor("weight")),
        Layer::Softmax => softmax(shape, input),
        Layer::Flatten => input.to_vec(),
        Layer::SparseConv(sparse) => {
            // The dense filter, rebuilt from the table.
            let (kernel, channels) = (tensor("weight").unwrap(), shape.channels());
            let taps = sparse.conv.kernel.h * sparse.conv.kernel.w;
            let pairs = sparse.table.iter().enumerate().flat_map(|(o, row)| row.iter().map(move |&i| (o, i)));
            let mut dense = vec![0.0; sparse.table.len() * channels * taps];
            for (number, (o, i)) in pairs.enumerate() {
                for tap in 0..taps {
                    dense[(o * channels + i) * taps + tap] = kernel[number * taps + tap];
                }
            }
            conv(&sparse.conv, shape, node.output, input, &dense, tensor("bias"))
        }
        Layer::Subsample(subsample) => {
            let window = subsample.window;
            let mean = Pool { window: Some(window), stride: window, ..Pool::average(1, 1) };
            let (scale, shift) = (tensor("weight").unwrap(), tensor("bias").unwrap());
            let averages = pool(&mean, shape, node.output, input);
            let per_map = averages.len() / shape.channels();
            let times = (window.h * window.w) as f32;
            let one =
                |(i, &x): (usize, &Value)| layers::affine(x, times * scale[i / per_map], shift[i / per_map]);
            averages.iter().enumerate().map(one).collect()
        }
        other => layers::other(other, inputs, node.output, tensor),
    }
}

/// A sum of products of exact weights and inexact values.
#[derive(Default)]
struct Dot {
    value: f64,
    magnitude: f64,
    variance: f64,
    terms: f64,
}

impl Dot {
    fn add(&mut self, weight: f32, x: Value) {
        let weight = f64::from(weight);
        self.value += weight * x.value;
        self.magnitude += (weight * x.value).abs();
        self.variance += (weight * x.error).powi(2);
        self.terms += 1.0;
    }

    fn done(mut self, bias: Option<f32>) -> Value {
        if let Some(bias) = bias {
            self.add(bias, Value { value: 1.0, error: 0.0 });
        }
        Value {
            value: self.value,
            error: self.variance.sqrt() + (self.terms + 1.0).sqrt() * U * self.magnitude,
        }
    }
}

fn extents(shape: Shape) -> (usize, usize, usize) {
    let shape = shape.batched(1);
    (shape.c, shape.h, shape.w)
}

/// The element at a position in padded coordinates; `None` outside the image.
fn at(input: &[Value], shape: Shape, c: usize, y: usize, x: usize, top: usize, left: usize) -> Option<Value> {
    let (_, h, w) = extents(shape);
    let (y, x) = (y.checked_sub(top)?, x.checked_sub(left)?);
    (y < h && x < w).then(|| input[(c * h + y) * w + x])
}

fn conv(
    desc: &Conv,
    shape: Shape,
    output: Shape,
    input: &[Value],
    weight: &[f32],
    bias: Option<&[f32]>,
) -> Vec<Value> {
    let ((channels, ..), (outputs, oh, ow)) = (extents(shape), extents(output));
    let (per_group, out_per_group) = (channels / desc.groups, outputs / desc.groups);
    let mut values = Vec::new();
    for o in 0..outputs {
        for (oy, ox) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
            let mut dot = Dot::default();
            for c in 0..per_group {
                for (i, j) in (0..desc.kernel.h).flat_map(|i| (0..desc.kernel.w).map(move |j| (i, j))) {
                    let (y, x) =
                        (oy * desc.stride.h + i * desc.dilation.h, ox * desc.stride.w + j * desc.dilation.w);
                    let channel = o / out_per_group * per_group + c;
                    let value = at(input, shape, channel, y, x, desc.pad.top, desc.pad.left);
                    let w = weight[((o * per_group + c) * desc.kernel.h + i) * desc.kernel.w + j];
                    dot.add(w, value.unwrap_or(Value::ZERO));
                }
            }
            values.push(dot.done(bias.map(|bias| bias[o])));
        }
    }
    values
}

fn fully_connected(linear: &Linear, input: &[Value], weight: &[f32], bias: Option<&[f32]>) -> Vec<Value> {
    let output = |o: usize| {
        let mut dot = Dot::default();
        input.iter().zip(&weight[o * input.len()..]).for_each(|(&x, &w)| dot.add(w, x));
        dot.done(bias.map(|bias| bias[o]))
    };
    (0..linear.out_features).map(output).collect()
}

/// Padding counts as zeros in averages if the layer says so; elements beyond the padding never count.
fn pool(desc: &Pool, shape: Shape, output: Shape, input: &[Value]) -> Vec<Value> {
    let (_, h, w) = extents(shape);
    let (window_h, window_w) = desc.window.map_or((h, w), |window| (window.h, window.w));
    let (channels, oh, ow) = extents(output);
    let mut values = Vec::new();
    for c in 0..channels {
        for (oy, ox) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
            let places = (0..window_h).flat_map(|i| (0..window_w).map(move |j| (i, j)));
            let seen: Vec<Value> = places
                .filter_map(|(i, j)| {
                    let (i, j) = (i * desc.dilation.h, j * desc.dilation.w);
                    let (y, x) = (oy * desc.stride.h + i, ox * desc.stride.w + j);
                    at(input, shape, c, y, x, desc.pad.top, desc.pad.left)
                })
                .collect();
            let inside = |start: usize, window: usize, end: usize| {
                (start..start + window).filter(|&i| i < end).count()
            };
            let size = match desc.kind {
                PoolKind::Average { count_include_pad: false } => seen.len() as f64,
                _ => {
                    let rows = inside(oy * desc.stride.h, window_h, h + desc.pad.top + desc.pad.bottom);
                    (rows * inside(ox * desc.stride.w, window_w, w + desc.pad.left + desc.pad.right)) as f64
                }
            };
            let error = seen.iter().map(|x| x.error).fold(0.0, f64::max);
            values.push(match desc.kind {
                PoolKind::Max => {
                    Value { value: seen.iter().map(|x| x.value).fold(f64::MIN, f64::max), error }
                }
                PoolKind::Average { .. } => {
                    let magnitude: f64 = seen.iter().map(|x| x.value.abs()).sum();
                    let value = seen.iter().map(|x| x.value).sum::<f64>() / size;
                    Value { value, error: error + (size.sqrt() + 1.0) * U * magnitude / size }
                }
                kind => unimplemented!("{kind}"),
            });
        }
    }
    values
}

/// The function passes on the error of its argument; the kernels add a few roundings.
fn activate(function: Activation, shape: Shape, input: &[Value], slopes: Option<&[f32]>) -> Vec<Value> {
    let (_, h, w) = extents(shape);
    let one = |(i, x): (usize, &Value)| {
        let slope = slopes.map_or(0.0, |slopes| slopes[i / (h * w)].into());
        let [low, value, high] = [-x.error, 0.0, x.error].map(|error| function.eval(x.value + error, slope));
        let carried = (low - value).abs().max((high - value).abs());
        Value { value, error: carried + 8.0 * U * value.abs().max(U) }
    };
    input.iter().enumerate().map(one).collect()
}

fn softmax(shape: Shape, input: &[Value]) -> Vec<Value> {
    let (channels, h, w) = extents(shape);
    let mut values = vec![Value::ZERO; input.len()];
    for pixel in 0..h * w {
        let column: Vec<Value> = (0..channels).map(|c| input[c * h * w + pixel]).collect();
        let largest = column.iter().map(|x| x.value).fold(f64::MIN, f64::max);
        let error = column.iter().map(|x| x.error).fold(0.0, f64::max);
        let sum: f64 = column.iter().map(|x| (x.value - largest).exp()).sum();
        for (c, x) in column.iter().enumerate() {
            let value = (x.value - largest).exp() / sum;
            // exp(x - max) turns the rounding error of x - max into a relative error.
            let relative = 2.0 * error + (8.0 + (largest - x.value) + (channels as f64).sqrt()) * U;
            values[c * h * w + pixel] = Value { value, error: value * relative };
        }
    }
    values
}
