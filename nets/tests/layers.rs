//! Every layer computes what plain loops compute, alone and fused. Shapes, parameters and errors are right.

mod common;

use kernels::{Activation, Isa, Pad2, Size2};
use nets::{
    AdaptivePool, Conv, ConvTranspose, FractionalPool, Graph, GraphBuilder, Init, Layer, Linear, Lrn, Net,
    NetError, NetOptions, Norm, Pool, Shape, SparseConv, Subsample, WeightSet, count, zoo,
};

const MAP: Shape = Shape::map(6, 8, 10);

fn alone(input: Shape, layer: impl Into<Layer>) -> Result<Graph, NetError> {
    let mut net = GraphBuilder::new("test", input);
    net.then("it", layer);
    net.build()
}

fn sparse() -> Layer {
    let table = vec![vec![0, 2], vec![1], vec![0, 1, 2, 3, 4, 5]];
    Layer::SparseConv(SparseConv { conv: Conv::new(3, 3).pad(1), table })
}

#[test]
fn every_layer_alone_agrees_with_plain_loops() {
    let adaptive = |h, w| Layer::AdaptivePool(AdaptivePool { output: Size2::new(h, w) });
    let layers: Vec<Layer> = vec![
        sparse(),
        Layer::Subsample(Subsample { window: Size2::square(2) }),
        Pool { dilation: Size2::square(2), ..Pool::max(3, 1) }.into(),
        Pool::global_max().into(),
        adaptive(4, 5),
        adaptive(3, 7),
        adaptive(9, 11),
        FractionalPool::new(2, 5).into(),
        FractionalPool { window: Size2::new(3, 2), output: Size2::new(4, 6) }.into(),
        Norm::batch().into(),
        Norm { affine: false, ..Norm::batch().eps(1e-3) }.into(),
        Norm::layer().into(),
        Norm::instance().into(),
        Norm::group(3).into(),
        Lrn { size: 5, alpha: 0.5, beta: 0.75, k: 2.0 }.into(),
        Lrn { size: 4, alpha: 1.0, beta: 0.6, k: 1.0 }.into(),
        Layer::Scale { scale: true, shift: false },
        Layer::Scale { scale: false, shift: true },
        Layer::Scale { scale: true, shift: true },
        Layer::Maxout { pieces: 2 },
        Layer::Pad(Pad2 { top: 1, bottom: 0, left: 2, right: 3 }),
        Layer::ShortcutA { stride: 2, channels: 9 },
        Layer::ShortcutA { stride: 3, channels: 6 },
        Layer::Reshape(Shape::map(3, 16, 10)),
    ];
    for isa in Isa::available() {
        for layer in &layers {
            let mut net = GraphBuilder::new("test", MAP);
            // A layer before it, so that it does not read the caller's memory, and one after it, which can be fused.
            net.then("before", Activation::Tanh).then("it", layer.clone()).act(Activation::Relu);
            common::check(&net.build().unwrap(), &NetOptions::default().isa(isa).batch(2));
        }
    }
}

#[test]
fn vectors_pass_too() {
    for layer in [
        Layer::Rbf { codes: 3 },
        Layer::Dropout,
        Norm::batch().into(),
        Norm::layer().into(),
        Layer::Maxout { pieces: 4 },
        Layer::Scale { scale: true, shift: true },
        Layer::Reshape(Shape::map(2, 3, 2)),
        Activation::PRelu.into(),
    ] {
        let mut net = GraphBuilder::new("test", Shape::vector(12));
        net.then("before", Linear::new(12)).then("it", layer).then("after", Layer::Flatten);
        common::check(&net.build().unwrap(), &NetOptions::default().batch(3));
    }
}

#[test]
fn branches_meet() {
    let mut net = GraphBuilder::new("test", MAP);
    let input = net.last();
    let a = net.then("a", Conv::new(4, 3).pad(1)).act(Activation::Relu).last();
    let b = net.at(input).then("b", Conv::new(5, 1)).last();
    let joined = net.add("concat", Layer::Concat, &[a, input, b, a]);
    let narrow = net.then("narrow", Conv::new(6, 1)).last();
    net.add("add", Layer::Add, &[narrow, input, narrow]);
    let sum = net.act(Activation::Relu).last();
    let gate = net.at(joined).then("pool", Pool::global_average()).then("gate", Conv::new(6, 1)).last();
    net.add("mul", Layer::Mul, &[sum, gate]);
    net.then("flatten", Layer::Flatten);
    let graph = net.build().unwrap();
    for isa in Isa::available() {
        common::check(&graph, &NetOptions::default().isa(isa).batch(2));
    }
}

/// A residual block runs as two steps, or three with a projection, and computes the same.
#[test]
fn convolution_norm_addition_and_activation_are_one_step() {
    for (stride, channels, steps) in [(1, 6, 3), (2, 8, 4)] {
        let mut net = GraphBuilder::new("test", MAP);
        let input = net.then("stem", Conv::new(6, 1)).act(Activation::Relu).last();
        net.then("conv1", Conv::new(channels, 3).pad(1).stride(stride).no_bias()).then("bn1", Norm::batch());
        net.act(Activation::Relu);
        let body = net.then("conv2", Conv::new(channels, 3).pad(1)).then("bn2", Norm::batch()).last();
        let mut shortcut = input;
        if stride > 1 {
            net.at(input).then("conv3", Conv::new(channels, 1).stride(stride)).then("bn3", Norm::batch());
            shortcut = net.last();
        }
        net.add("add", Layer::Add, &[body, shortcut]);
        net.act(Activation::Relu);
        let graph = net.build().unwrap();
        let net = Net::new(&graph, &common::weights(&graph), &NetOptions::default()).unwrap();
        let ops: Vec<String> = net.steps().map(|step| step.op).collect();
        assert_eq!(ops.len(), steps, "{ops:?}");
        assert_eq!(ops.last().unwrap(), "conv+batch_norm+add+relu");
        let total = count(&graph).unwrap();
        assert_eq!(net.steps().map(|step| step.params).sum::<u64>(), total.params);
        assert_eq!(net.steps().map(|step| step.macs).sum::<u64>(), total.macs);
        common::check(&graph, &NetOptions::default().batch(2));
    }
}

#[test]
fn what_the_output_does_not_need_is_not_run() {
    let mut net = GraphBuilder::new("test", MAP);
    let a = net.then("a", Conv::new(4, 3)).last();
    net.then(
        "side",
        Layer::Unknown {
            op: "Magic".to_owned(),
            output: Shape::vector(1),
            params: Vec::new(),
            reason: String::new(),
        },
    );
    net.at(a).then("b", Conv::new(4, 3));
    common::check(&net.build().unwrap(), &NetOptions::default());
}

#[test]
fn what_cannot_be_run_is_counted_and_says_so() {
    let (op, reason) = ("Magic".to_owned(), "opset 3: it is not known".to_owned());
    let unknown = Layer::Unknown { op, output: Shape::vector(1), params: Vec::new(), reason };
    let why = "got `Magic`, which can only be counted: opset 3: it is not known";
    // Maps and vectors have an operator of their own for this product.
    let mut net = GraphBuilder::new("test", Shape::map(2, 3, 3));
    let input = net.last();
    net.add("it", Layer::MatMul, &[input, input]);
    let product = net.build().unwrap();
    let cases = [
        (alone(MAP, unknown).unwrap(), why, 0),
        (product, "got `matmul`, which can only be counted", 2 * 27),
    ];
    for (graph, part, macs) in cases {
        let total = count(&graph).unwrap();
        assert_eq!((total.params, total.macs), (0, macs));
        let weights = WeightSet::seeded(&graph, Init::He, 1).unwrap();
        let error = Net::new(&graph, &weights, &NetOptions::default()).err().unwrap().to_string();
        assert_eq!(error, format!("layer `it`: expected a layer that can be run, {part}"));
    }
}

#[test]
fn transposed_convolutions_are_counted_and_run() {
    let plain = ConvTranspose { output_pad: Size2::square(1), ..ConvTranspose::new(4, 3, 2) };
    let graph = alone(MAP, Layer::ConvTranspose(plain)).unwrap();
    let total = count(&graph).unwrap();
    assert_eq!((total.params, total.macs), (220, 480 * 36));
    let grouped = ConvTranspose { groups: 2, pad: Pad2::all(1), bias: false, ..plain };
    let wide = ConvTranspose { out_channels: 32, ..ConvTranspose::new(32, 2, 2) };
    for (input, conv) in [(MAP, plain), (MAP, grouped), (Shape::map(48, 5, 7), wide)] {
        let mut net = GraphBuilder::new("test", input);
        net.then("first", Conv::new(32, 1))
            .then("it", Layer::ConvTranspose(conv))
            .then("last", Conv::new(16, 3));
        let graph = net.build().unwrap();
        for layout in [kernels::Layout::Nchw, kernels::Layout::Nchw16c] {
            common::check(&graph, &NetOptions::default().batch(2).layout(layout));
        }
    }
}

#[test]
fn hard_sigmoid_runs() {
    let graph = alone(MAP, Layer::HardSigmoid { alpha: 0.3, beta: 0.4 }).unwrap();
    common::check(&graph, &NetOptions::default().batch(2));
}

#[test]
fn shapes_and_parameters() {
    let check = |layer: Layer, output: Shape, params: u64| {
        let graph = alone(MAP, layer).unwrap();
        assert_eq!(
            (graph.output(), count(&graph).unwrap().params),
            (output, params),
            "{:?}",
            graph.nodes()[1].layer
        );
    };
    let transposed =
        |pad| Layer::ConvTranspose(ConvTranspose { pad: Pad2::all(pad), ..ConvTranspose::new(4, 3, 2) });
    check(transposed(0), Shape::map(4, 17, 21), 6 * 4 * 9 + 4);
    check(transposed(1), Shape::map(4, 15, 19), 6 * 4 * 9 + 4);
    check(sparse(), Shape::map(3, 8, 10), 9 * 9 + 3);
    check(Norm::batch().into(), MAP, 12);
    check(Norm::instance().into(), MAP, 0);
    check(Layer::ShortcutA { stride: 2, channels: 9 }, Shape::map(9, 4, 5), 0);
    check(Layer::Maxout { pieces: 3 }, Shape::map(2, 8, 10), 0);
    assert_eq!(count(&alone(MAP, Norm::batch()).unwrap()).unwrap().untrained, 12);
}

#[test]
fn mistakes_name_their_layer() {
    let message = |layer: Layer| alone(MAP, layer).unwrap_err().to_string();
    let says = |layer: Layer, part: &str| {
        let message = message(layer);
        assert!(message.starts_with("layer `it`: ") && message.contains(part), "{message}");
    };
    says(Layer::Maxout { pieces: 4 }, "pieces: expected a divisor of the 6 channels, got 4");
    says(Layer::Maxout { pieces: 0 }, "pieces");
    says(Norm::group(4).into(), "groups: expected a divisor of the 6 channels, got 4");
    says(Norm::batch().eps(f32::NAN).into(), "eps");
    says(Lrn { size: 0, alpha: 1.0, beta: 1.0, k: 1.0 }.into(), "size: expected at least 1");
    says(Layer::ShortcutA { stride: 0, channels: 9 }, "stride: expected at least 1");
    says(Layer::ShortcutA { stride: 2, channels: 3 }, "channels: expected at least the 6 of the input");
    says(Layer::ShortcutA { stride: 1, channels: usize::MAX }, "overflow");
    says(Layer::Reshape(Shape::vector(7)), "expected 480 elements as in 6x8x10, got 7");
    says(Layer::Pad(Pad2::all(usize::MAX)), "overflow");
    says(Layer::AdaptivePool(AdaptivePool { output: Size2::square(0) }), "at least 1x1");
    says(FractionalPool::new(0, 2).into(), "window: expected at least 1x1 and at most");
    says(FractionalPool::new(2, 0).into(), "output: expected extents from 1 to");
    says(Layer::Rbf { codes: 3 }, "expected a vector");
    says(Layer::ConvTranspose(ConvTranspose::new(4, 0, 1)), "at least 1");
    says(Layer::ConvTranspose(ConvTranspose::new(4, 3, usize::MAX)), "overflow");
    says(Layer::ConvTranspose(ConvTranspose { groups: 4, ..ConvTranspose::new(4, 3, 1) }), "groups");
    says(Layer::ConvTranspose(ConvTranspose { pad: Pad2::all(9), ..ConvTranspose::new(4, 3, 1) }), "padding");
    let table = |row: Vec<usize>| Layer::SparseConv(SparseConv { conv: Conv::new(1, 3), table: vec![row] });
    says(table(vec![6]), "ascending numbers of the 6 input maps");
    says(table(vec![1, 1]), "ascending");
    says(table(Vec::new()), "ascending");
    says(Layer::SparseConv(SparseConv { conv: Conv::new(2, 3), table: vec![vec![0]] }), "table");
    says(
        Layer::Unknown {
            op: "Magic".to_owned(),
            output: Shape::vector(0),
            params: Vec::new(),
            reason: String::new(),
        },
        "at least 1",
    );

    let two = |layer: Layer| {
        let mut net = GraphBuilder::new("test", MAP);
        let input = net.last();
        let small = net.then("small", Conv::new(6, 3)).last();
        net.add("it", layer, &[input, small]);
        net.build().unwrap_err().to_string()
    };
    assert!(two(Layer::Add).contains("expected inputs of one shape, got 6x8x10 and 6x6x8"));
    assert!(two(Layer::Concat).contains("one height and width, got 6x8x10 and 6x6x8"));
    assert!(two(Layer::Mul).contains("or the second with one pixel"));
    assert!(two(Layer::MatMul).contains("as many columns as the second has rows"));
}

/// Seeded weights keep activations alive in every network: outputs are finite and not all equal.
#[test]
fn small_networks_of_the_zoo_run() {
    for name in
        ["mlp", "mlp-mnist", "lenet5-1998", "lenet5", "nin-cifar10", "resnet20-cifar", "plain20-cifar"]
    {
        let graph = zoo::find(name).unwrap().graph().unwrap();
        let weights = WeightSet::seeded(&graph, Init::He, 3).unwrap();
        let mut net = Net::new(&graph, &weights, &NetOptions::default()).unwrap();
        let input = common::noise(graph.input().len().unwrap(), 5);
        let output = net.run(&input, kernels::Threads::Seq).unwrap();
        assert!(output.iter().all(|x| x.is_finite()), "{name}");
        assert!(output.iter().any(|x| x != &output[0]), "{name}: {output:?}");
    }
    let graph = zoo::find("lenet5-1998").unwrap().graph().unwrap();
    common::check(&graph, &NetOptions::default().batch(2));
    let graph = zoo::find("inception").unwrap().graph_for(Shape::map(8, 9, 9)).unwrap();
    common::check(&graph, &NetOptions::default());
}
