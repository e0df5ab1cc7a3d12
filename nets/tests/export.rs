//! Exports networks as ONNX and imports them again with this library. `netbench --peers` compares the results
//! of other engines.

mod common;

use kernels::{Activation, Pad2, Threads};
use nets::export::onnx as export;
use nets::import::onnx::{self, ImportOptions};
use nets::{
    AdaptivePool, Conv, ConvTranspose, Graph, GraphBuilder, Init, Layer, Linear, Lrn, Net, NetError,
    NetOptions, Norm, Pool, SeededWeights, Shape, WeightSet, WeightSource, count, zoo,
};

/// Exports and imports a network.
fn again(graph: &Graph, weights: &dyn WeightSource, batch: usize) -> onnx::Imported {
    let bytes = export::to_bytes(graph, weights, batch).unwrap();
    let model = onnx::load_bytes(&bytes, graph.name(), &ImportOptions::default().strict(true)).unwrap();
    assert!(model.warnings.is_empty(), "{:?}", model.warnings);
    model
}

fn outputs(graph: &Graph, weights: &dyn WeightSource, batch: usize) -> Vec<f32> {
    let mut net = Net::new(graph, weights, &NetOptions::default().batch(batch).max_threads(1)).unwrap();
    let input: Vec<f32> =
        (0..net.compiled().input_len()).map(|i| (i * 37 % 113) as f32 / 56.0 - 1.0).collect();
    net.run(&input, Threads::Seq).unwrap().to_vec()
}

fn same_bits(graph: &Graph, batch: usize) {
    let weights = common::weights(graph);
    let model = again(graph, &weights, batch);
    assert_eq!(
        outputs(graph, &weights, batch),
        outputs(&model.graph, &model.weights, batch),
        "{}",
        graph.name()
    );
}

#[test]
fn every_network_that_is_exported_counts_the_same() {
    let mut refused = Vec::new();
    for entry in zoo::ALL {
        let graph = entry.graph().unwrap();
        // Networks with smaller inputs have the same weights, which this test does not inspect.
        let weights = SeededWeights::new(&graph, Init::He, 1).unwrap();
        if count(&graph).unwrap().params > 2_000_000 {
            continue;
        }
        match export::to_bytes(&graph, &weights, 2) {
            Ok(_) => {
                let (before, after) = (count(&graph).unwrap(), again(&graph, &weights, 2).count(1).unwrap());
                assert_eq!((before.params, before.macs), (after.params, after.macs), "{}", entry.name);
            }
            Err(NetError::Layer { .. }) => refused.push(entry.name),
            Err(error) => panic!("{}: {error}", entry.name),
        }
    }
    // Tables of connections, maxout, normalisations of single images, fractional pooling, and shortcuts A have no operator.
    let normalised = ["lenet5-ln", "lenet5-in", "lenet5-gn"];
    let others = ["lenet5-fractional", "resnet20-cifar", "resnet56-cifar", "resnet110-cifar"];
    let expected = ["lenet5-1998", "lenet5-maxout"].into_iter().chain(normalised).chain(others);
    assert_eq!(refused, expected.collect::<Vec<_>>());
}

#[test]
fn networks_compute_the_same_bits() {
    for (name, batch) in
        [("lenet5", 3), ("nin-cifar10", 1), ("inception", 2), ("plain20-cifar", 1), ("mlp", 2)]
    {
        same_bits(&zoo::find(name).unwrap().graph().unwrap(), batch);
    }
    same_bits(&zoo::find("resnet18").unwrap().graph_for(Shape::map(3, 64, 48)).unwrap(), 2);
}

#[test]
fn every_layer_that_has_an_operator_computes_the_same() {
    let functions = [
        Activation::Relu,
        Activation::LeakyRelu { alpha: 0.1 },
        Activation::RELU6,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Elu { alpha: 0.7 },
        Activation::PRelu,
        Activation::HardSwish,
        Activation::Silu,
        Activation::None,
    ];
    let mut net = GraphBuilder::new("everything", Shape::map(3, 15, 17));
    let asymmetric = Pad2 { top: 0, bottom: 1, left: 2, right: 1 };
    net.then("pad", Layer::Pad(asymmetric));
    for (index, function) in functions.into_iter().enumerate() {
        net.then(&format!("conv{index}"), Conv::new(8, 3).pad(1)).act(function);
    }
    net.then("bn", Norm::batch().eps(1e-3)).then("lrn", Lrn { size: 3, alpha: 1e-3, beta: 0.5, k: 2.0 });
    let start = net.last();
    let a = net.then("max", Pool::max(3, 2).ceil_mode()).last();
    let b = net.at(start).then("average", Pool::average(3, 2).ceil_mode()).last();
    let both = net.add("add", Layer::Add, &[a, b]);
    net.add("mul", Layer::Mul, &[both, a]);
    net.then("instance", Norm { affine: true, ..Norm::instance() });
    let end = net.last();
    net.add("concat", Layer::Concat, &[end, both]);
    net.then("grouped", Conv::new(12, 3).groups(4).stride(2)).then("drop", Layer::Dropout);
    net.then("pool", Layer::AdaptivePool(AdaptivePool { output: kernels::Size2::square(1) }));
    net.then("reshape", Layer::Reshape(Shape::vector(12)))
        .then("fc", Linear::new(5))
        .then("softmax", Layer::Softmax);
    let graph = net.build().unwrap();
    let weights = common::weights(&graph);
    let model = again(&graph, &weights, 2);
    // The bits can differ: one layer can return as two, which are fused differently.
    let (before, after) = (outputs(&graph, &weights, 2), outputs(&model.graph, &model.weights, 2));
    assert_eq!(before.len(), 10);
    assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-5 * b.abs()), "{before:?} {after:?}");
}

#[test]
fn refusals() {
    let graph = |layer: Layer| {
        let mut net = GraphBuilder::new("net", Shape::map(4, 6, 6));
        net.then("layer", layer);
        net.build().unwrap()
    };
    let refusal = |graph: &Graph, weights: &dyn WeightSource, batch| {
        export::to_bytes(graph, weights, batch).unwrap_err().to_string()
    };
    let maxout = graph(Layer::Maxout { pieces: 2 });
    let none = SeededWeights::new(&maxout, Init::He, 1).unwrap();
    let text = refusal(&maxout, &none, 1);
    assert_eq!(text, "layer `layer`: expected a layer that is an operator of ONNX, got `maxout`");
    let conv = graph(Conv::new(8, 3).into());
    assert!(refusal(&conv, &none, 1).contains("tensor `layer.weight`"));
    let weights = WeightSet::seeded(&conv, Init::He, 1).unwrap();
    assert_eq!(refusal(&conv, &weights, 0), "batch: expected at least 1, got 0");
    let nowhere = export::save(&conv, &weights, 1, "no/such/folder.onnx".as_ref()).unwrap_err().to_string();
    assert!(nowhere.starts_with("cannot write no/such/folder.onnx"), "{nowhere}");
    // A network that can be counted but not run can still be exported.
    let deconv = graph(Layer::ConvTranspose(ConvTranspose::new(2, 2, 2)));
    let weights = SeededWeights::new(&deconv, Init::He, 1).unwrap();
    assert_eq!(again(&deconv, &weights, 1).count(1).unwrap().macs, count(&deconv).unwrap().macs);
}
