//! The gradients of every kind of layer against finite differences of the loss.

mod train_common;

use kernels::{Activation, Layout, Pad2, PoolKind, Size2, Threads};
use nets::train::{Loss, TrainNet, TrainOptions};
use nets::{
    AdaptivePool, Conv, FractionalPool, Graph, GraphBuilder, Layer, Linear, Lrn, Norm, Pool, Shape,
    SparseConv, Subsample, WeightSet,
};
use train_common::{labels, moved, noise, weights};

const BATCH: usize = 4;

/// The loss at weights that are moved along a direction.
fn loss_at(net: &mut TrainNet, weights: &WeightSet, images: &[f32], labels: &[u32]) -> f64 {
    net.set_weights(weights, Threads::Seq).unwrap();
    net.gradients(images, labels, Threads::Seq).unwrap().value
}

/// Compares the derivative along a direction with differences of fourth order,
/// `(8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h`.
///
/// A difference is wrong by the terms of higher order, by the units whose activation bends within the step, and by rounding.
/// The first two fall with the step and the last one grows, so one of several steps must agree.
fn check_direction(
    net: &mut TrainNet,
    (graph, weights, name): (&Graph, &WeightSet, &str),
    (gradient, direction): (&[f32], &[f32]),
    (images, labels): (&[f32], &[u32]),
    context: &str,
) {
    const STEPS: [f32; 3] = [1.0 / 128.0, 1.0 / 512.0, 1.0 / 2048.0];
    let mut at = |step: f32| loss_at(net, &moved(weights, graph, name, direction, step), images, labels);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let expected = dot(gradient, direction);
    let norm =
        dot(gradient, gradient).sqrt() * dot(direction, direction).sqrt() / (gradient.len() as f64).sqrt();
    let middle = at(0.0).abs().max(1.0);
    let mut tried = Vec::new();
    for step in STEPS {
        let differences = 8.0 * (at(step) - at(-step)) - (at(2.0 * step) - at(-2.0 * step));
        let slope = differences / (12.0 * f64::from(step));
        // The loss is a mean of `f32` numbers, whose rounding the difference divides by the step.
        let rounding = 2.0 * f64::from(f32::EPSILON) * middle / f64::from(step);
        let bound = 1e-3 * norm.max(expected.abs()) + rounding;
        if (slope - expected).abs() <= bound {
            return;
        }
        tried.push((slope, bound));
    }
    panic!("{context}, {name}: gradient {expected:e}, differences and bounds {tried:?}");
}

/// Checks every parameter of a network: along its gradient, and along random directions. Returns the number of parameters
/// without a gradient, which only stochastic depth causes.
fn check_with(graph: &Graph, options: &TrainOptions) -> usize {
    let mut zeros = 0;
    for layout in [None, Some(Layout::Nchw), Some(Layout::Nchw16c)] {
        let options = options.clone().batch(BATCH).seed(5);
        let options = layout.map_or(options.clone(), |layout| options.layout(layout));
        let weights = weights(graph, 7);
        let images = noise(BATCH * graph.input().len().unwrap(), 3);
        let mut net = TrainNet::new(graph, &weights, &options).unwrap();
        let classes = graph.output().channels();
        let labels = labels(BATCH, classes);
        net.gradients(&images, &labels, Threads::Seq).unwrap();
        let mut gradients: Vec<(String, Vec<f32>)> = Vec::new();
        // Without a step, so that random masks stay.
        let step = net.step();
        net.update(|_, p| gradients.push((p.name.to_owned(), p.gradient.to_vec())), Threads::Seq).unwrap();
        net.set_step(step);
        assert!(!gradients.is_empty(), "{}", graph.name());
        for (name, gradient) in &gradients {
            let context = format!("{} in {layout:?}", graph.name());
            let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
            let is_dropped = norm == 0.0 && options.survival < 1.0;
            assert!(
                norm.is_finite() && (norm > 1e-6 || is_dropped),
                "{context}, {name}: a gradient of {norm}"
            );
            zeros += usize::from(is_dropped);
            let along: Vec<f32> = gradient.iter().map(|g| g / norm.max(1e-6)).collect();
            let random =
                |seed| noise(gradient.len(), seed).into_iter().map(|x| x / (gradient.len() as f32).sqrt());
            for direction in [along, random(11).collect(), random(12).collect()] {
                let batch = (&images[..], &labels[..]);
                check_direction(&mut net, (graph, &weights, name), (gradient, &direction), batch, &context);
            }
        }
    }
    zeros
}

/// Checks a network in which `layers` stand between a convolution and a fully connected layer.
fn check(name: &str, channels: usize, layers: impl Fn(&mut GraphBuilder)) {
    check_with(&network(name, channels, layers), &TrainOptions::default());
}

fn network(name: &str, channels: usize, layers: impl Fn(&mut GraphBuilder)) -> Graph {
    let mut net = GraphBuilder::new(name, Shape::map(3, 7, 6));
    // Without a bias, whose gradient would be zero in front of a normalisation.
    net.then("stem", Conv::new(channels, 3).pad(1).no_bias());
    layers(&mut net);
    net.then("flatten", Layer::Flatten).then("fc", Linear::new(5));
    net.build().unwrap()
}

#[test]
fn convolutions() {
    check("conv 3x3", 16, |net| {
        net.then("conv", Conv::new(8, 3).pad(1)).act(Activation::Tanh);
    });
    check("conv 3x3, stride 2", 5, |net| {
        net.then("conv", Conv::new(7, 3).pad(1).stride(2));
    });
    check("conv 1x1", 20, |net| {
        net.then("conv", Conv::new(33, 1).no_bias());
    });
    check("groups", 8, |net| {
        net.then("conv", Conv::new(4, 3).groups(2)).act(Activation::Sigmoid);
    });
    check("depthwise", 16, |net| {
        net.then("conv", Conv::new(16, 3).pad(1).groups(16));
    });
    check("dilation", 4, |net| {
        net.then("conv", Conv { dilation: Size2::square(2), ..Conv::new(6, 3) });
    });
    let table = vec![vec![0, 2], vec![1], vec![0, 1, 3]];
    check("connections", 4, |net| {
        net.then("conv", Layer::SparseConv(SparseConv { conv: Conv::new(3, 3), table: table.clone() }));
    });
}

#[test]
fn convolutions_of_whole_images() {
    check("whole image", 16, |net| {
        net.then("whole", Conv { kernel: Size2::new(7, 6), ..Conv::new(9, 1) }).act(Activation::Tanh);
    });
    check("few maps before blocks", 6, |net| {
        net.act(Activation::Tanh).then("pool", Pool::average(2, 1)).then("wide", Conv::new(16, 3));
        net.act(Activation::Tanh).then("pool2", Pool::max(2, 1));
        net.then("whole", Conv { kernel: Size2::new(3, 2), ..Conv::new(20, 1) }).act(Activation::Tanh);
    });
}

#[test]
fn fully_connected_layers() {
    check("linear", 4, |net| {
        net.then("flat", Layer::Flatten).then("linear", Linear::new(9)).act(Activation::Tanh);
        net.then("second", Linear::new(6).no_bias());
    });
    // More weights than are packed.
    check("large linear", 40, |net| {
        net.then("flat", Layer::Flatten).then("linear", Linear::new(200)).act(Activation::Tanh);
    });
    let dropped = network("dropconnect", 4, |net| {
        net.then("flat", Layer::Flatten).then("linear", Linear::new(9)).act(Activation::Tanh);
    });
    check_with(&dropped, &TrainOptions::default().drop_connect(0.3));
}

#[test]
fn pooling() {
    check("max", 16, |net| {
        net.then("pool", Pool::max(3, 2).pad(1));
    });
    check("average", 5, |net| {
        net.then("pool", Pool::average(2, 2));
    });
    check("global average", 20, |net| {
        net.then("pool", Pool::global_average());
    });
    check("global max", 5, |net| {
        net.then("pool", Pool::global_max());
    });
    check("adaptive", 5, |net| {
        net.then("pool", Layer::AdaptivePool(AdaptivePool { output: Size2::new(3, 4) }));
    });
    for channels in [5, 18] {
        check("fractional", channels, |net| {
            net.then("pool", FractionalPool::new(2, 4)).act(Activation::Tanh);
        });
    }
    check("subsample", 6, |net| {
        let subsample = Subsample { window: Size2::new(2, 2) };
        net.then("cut", Pool { kind: PoolKind::Max, ..Pool::average(2, 1) });
        net.then("subsample", Layer::Subsample(subsample)).act(Activation::Tanh);
    });
}

#[test]
fn activations() {
    let kinds = [
        Activation::Relu,
        Activation::LeakyRelu { alpha: 0.1 },
        Activation::LeakyRelu { alpha: -0.1 },
        Activation::RELU6,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Elu { alpha: 1.0 },
        Activation::PRelu,
        Activation::HardSwish,
        Activation::Silu,
    ];
    for kind in kinds {
        check(kind.name(), 18, |net| {
            net.act(kind);
        });
        check(&format!("{} behind pooling", kind.name()), 18, |net| {
            net.then("pool", Pool::average(2, 2)).act(kind);
        });
    }
}

#[test]
fn normalisations() {
    check("batch norm", 16, |net| {
        net.then("norm", Norm::batch());
    });
    check("batch norm and relu", 18, |net| {
        net.then("norm", Norm::batch()).act(Activation::Relu);
    });
    check("batch norm and tanh", 5, |net| {
        net.then("norm", Norm::batch()).act(Activation::Tanh);
    });
    check("batch norm of a vector", 4, |net| {
        net.then("flat", Layer::Flatten).then("linear", Linear::new(9).no_bias());
        net.then("norm", Norm::batch()).act(Activation::Relu);
    });
    check("layer norm", 6, |net| {
        net.then("norm", Norm::layer());
    });
    check("instance norm", 6, |net| {
        net.then("norm", Norm::instance());
    });
    check("group norm", 18, |net| {
        net.then("norm", Norm::group(3));
    });
    check("lrn", 20, |net| {
        net.then("norm", Lrn { size: 5, alpha: 0.5, beta: 0.75, k: 1.0 });
    });
    check("scale", 6, |net| {
        net.then("scale", Layer::Scale { scale: true, shift: true }).act(Activation::Relu);
    });
}

/// Nothing needs the gradient of the images, but the layer's parameters have theirs.
#[test]
fn first_layers() {
    let layers: [Layer; 4] =
        [Norm::batch().into(), Norm::layer().into(), Norm::group(3).into(), Activation::PRelu.into()];
    for layer in layers {
        let mut net = GraphBuilder::new("first", Shape::map(6, 7, 6));
        net.then("first", layer).then("flatten", Layer::Flatten).then("fc", Linear::new(5));
        check_with(&net.build().unwrap(), &TrainOptions::default());
    }
}

#[test]
fn branches() {
    check("concatenation", 16, |net| {
        let stem = net.last();
        let a = net.then("a", Conv::new(16, 1)).act(Activation::Tanh).last();
        let b = net.at(stem).then("b", Conv::new(5, 3).pad(1)).last();
        net.add("concat", Layer::Concat, &[a, stem, b]);
        net.then("behind", Conv::new(4, 1));
    });
    check("a part that is read twice", 16, |net| {
        let stem = net.last();
        let a = net.then("a", Conv::new(16, 1)).act(Activation::Tanh).last();
        let all = net.add("concat", Layer::Concat, &[stem, a]);
        let first = net.then("first", Conv::new(6, 1)).last();
        let second = net.at(a).then("second", Conv::new(6, 1)).last();
        let third = net.at(all).then("third", Conv::new(6, 3).pad(1)).last();
        net.add("sum", Layer::Add, &[first, second, third]);
    });
    check("residual", 16, |net| {
        for block in 0..3 {
            let input = net.last();
            net.then(&format!("{block}.conv1"), Conv::new(16, 3).pad(1)).act(Activation::Tanh);
            let body = net.then(&format!("{block}.conv2"), Conv::new(16, 3).pad(1)).last();
            net.add(&format!("{block}.add"), Layer::Add, &[body, input]);
            net.act(Activation::Tanh);
        }
    });
    check("the same twice", 5, |net| {
        let stem = net.last();
        net.add("sum", Layer::Add, &[stem, stem]);
    });
    check("sum of three with activations before it", 16, |net| {
        let stem = net.act(Activation::Tanh).last();
        let a = net.then("a", Conv::new(16, 1)).act(Activation::Tanh).last();
        let b = net.at(stem).then("b", Conv::new(16, 1)).act(Activation::Sigmoid).last();
        net.add("sum", Layer::Add, &[a, b, stem]);
        net.act(Activation::Sigmoid);
    });
}

#[test]
fn products_and_moves() {
    check("gate", 18, |net| {
        let stem = net.last();
        let gate = net.then("pool", Pool::global_average()).then("gate", Conv::new(18, 1));
        let gate = gate.act(Activation::Sigmoid).last();
        net.add("product", Layer::Mul, &[stem, gate]);
    });
    check("product", 5, |net| {
        let stem = net.last();
        let other = net.then("other", Conv::new(5, 1)).last();
        net.add("product", Layer::Mul, &[stem, other]);
    });
    check("padding", 5, |net| {
        net.then("pad", Layer::Pad(Pad2::all(1))).then("conv", Conv::new(3, 3));
    });
    check("shortcut A", 16, |net| {
        let stem = net.last();
        let body = net.then("body", Conv::new(32, 3).pad(1).stride(2)).last();
        let shortcut = net.at(stem).then("shortcut", Layer::ShortcutA { stride: 2, channels: 32 }).last();
        net.add("add", Layer::Add, &[body, shortcut]);
    });
    check("maxout", 18, |net| {
        net.then("maxout", Layer::Maxout { pieces: 3 });
    });
    check("reshape", 6, |net| {
        net.then("view", Layer::Reshape(Shape::map(3, 14, 6))).then("c", Conv::new(4, 3));
    });
}

#[test]
fn random_masks() {
    let dropout = network("dropout", 18, |net| {
        net.act(Activation::Tanh)
            .then("dropout", Layer::Dropout)
            .then("conv", Conv::new(6, 1))
            .act(Activation::Tanh);
        net.then("flat", Layer::Flatten).then("second", Layer::Dropout);
    });
    check_with(&dropout, &TrainOptions::default());
}

/// Two of three blocks are dropped with this seed. Their parameters have no gradient, and changing them changes nothing.
#[test]
fn dropped_blocks() {
    let graph = network("stochastic depth", 16, |net| {
        for block in 0..3 {
            let input = net.last();
            net.then(&format!("{block}.conv1"), Conv::new(16, 3).pad(1).no_bias()).act(Activation::Tanh);
            let body = net.then(&format!("{block}.conv2"), Conv::new(16, 3).pad(1).no_bias()).last();
            net.add(&format!("{block}.add"), Layer::Add, &[body, input]);
        }
    });
    // In three layouts.
    assert_eq!(check_with(&graph, &TrainOptions::default().survival(0.2)), 3 * 2 * 2);
}

#[test]
fn losses_and_side_classifiers() {
    let hinge = network("hinge", 5, |net| {
        net.act(Activation::Tanh);
    });
    check_with(&hinge, &TrainOptions::default().loss(Loss::Hinge { margin: 1.0 }));
    let mut net = GraphBuilder::new("side", Shape::map(3, 7, 6));
    let stem = net.then("stem", Conv::new(16, 3)).act(Activation::Tanh).last();
    net.then("side.flat", Layer::Flatten).then("side", Linear::new(5));
    net.at(stem).then("conv", Conv::new(6, 3)).then("flat", Layer::Flatten).then("fc", Linear::new(5));
    check_with(&net.build().unwrap(), &TrainOptions::default());
    let mut net = GraphBuilder::new("softmax", Shape::map(3, 7, 6));
    net.then("conv", Conv::new(5, 3)).then("pool", Pool::global_average()).then("softmax", Layer::Softmax);
    check_with(&net.build().unwrap(), &TrainOptions::default());
    let mut net = GraphBuilder::new("codes", Shape::map(1, 4, 4));
    net.then("flat", Layer::Flatten).then("fc", Linear::new(6)).act(Activation::Tanh);
    net.then("codes", Layer::Rbf { codes: 5 });
    check_with(&net.build().unwrap(), &TrainOptions::default());
}
