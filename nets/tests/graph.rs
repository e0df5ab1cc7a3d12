//! Building graphs: layers alone and in branches are right, and every error names its layer.

mod common;

use kernels::{Activation, Isa, Size2};
use nets::{
    Conv, Graph, GraphBuilder, Init, Layer, LayerError, Linear, Net, NetError, NetOptions, Pool, Shape,
    WeightSet, count, zoo,
};

fn sequence(input: Shape, layers: &[(&str, Layer)]) -> Result<Graph, NetError> {
    let mut builder = GraphBuilder::new("test", input);
    for (name, layer) in layers {
        builder.then(name, layer.clone());
    }
    builder.build()
}

fn message(input: Shape, layers: &[(&str, Layer)]) -> String {
    sequence(input, layers).unwrap_err().to_string()
}

#[test]
fn every_layer_alone_agrees_with_plain_loops() {
    let map = Shape::map(5, 9, 7);
    let layers: Vec<Layer> = vec![
        Conv::new(7, 3).pad(1).stride(2).into(),
        Conv::new(10, 2).groups(5).no_bias().into(),
        Conv { dilation: Size2::new(2, 1), kernel: Size2::new(3, 1), ..Conv::new(3, 1) }.into(),
        Pool::max(3, 2).pad(1).into(),
        Pool::average(2, 2).into(),
        Pool::global_average().into(),
        Activation::Relu.into(),
        Activation::LeakyRelu { alpha: 0.1 }.into(),
        Activation::Tanh.into(),
        Activation::Sigmoid.into(),
        Activation::PRelu.into(),
        Layer::Softmax,
        Layer::Flatten,
    ];
    for isa in Isa::available() {
        for layer in &layers {
            let graph = sequence(map, &[("it", layer.clone())]).unwrap();
            common::check(&graph, &NetOptions::default().isa(isa).batch(2));
        }
        let vector =
            sequence(Shape::vector(33), &[("fc", Linear::new(17).into()), ("p", Layer::Softmax)]).unwrap();
        common::check(&vector, &NetOptions::default().isa(isa).batch(3));
    }
}

#[test]
fn activations_fuse_with_their_parameters() {
    for activation in [Activation::PRelu, Activation::Relu, Activation::Elu { alpha: 1.0 }] {
        let mut builder = GraphBuilder::new("fused", Shape::map(3, 6, 6));
        builder.then("a", Conv::new(4, 3)).act(activation);
        builder.then("flat", Layer::Flatten).then("b", Linear::new(5)).act(activation);
        let graph = builder.build().unwrap();
        let weights = WeightSet::seeded(&graph, Init::He, 1).unwrap();
        let net = Net::new(&graph, &weights, &NetOptions::default()).unwrap();
        assert_eq!(net.steps().len(), 3);
        common::check(&graph, &NetOptions::default().batch(2));
    }
}

#[test]
fn what_another_layer_reads_is_not_fused() {
    let mut builder = GraphBuilder::new("branches", Shape::map(2, 6, 6));
    builder.then("a", Conv::new(4, 3));
    let a = builder.last();
    let relu = builder.add("relu", Activation::Relu, &[a]);
    let b = builder.add("b", Conv::new(4, 3).pad(1), &[a]);
    builder.add("join", Layer::Concat, &[relu, b]);
    let graph = builder.build().unwrap();
    let weights = WeightSet::seeded(&graph, Init::He, 1).unwrap();
    let net = Net::new(&graph, &weights, &NetOptions::default()).unwrap();
    let ops: Vec<String> = net.steps().map(|step| step.op).collect();
    assert_eq!(ops, ["conv", "relu", "conv", "concat"]);
    common::check(&graph, &NetOptions::default());
}

#[test]
fn mistakes_name_the_layer() {
    let image = Shape::map(3, 8, 8);
    let conv = |conv: Conv| message(image, &[("ok", Activation::Relu.into()), ("c", conv.into())]);
    assert_eq!(conv(Conv::new(4, 3).stride(0)), "layer `c`: stride.h: expected at least 1, got 0");
    assert_eq!(conv(Conv::new(0, 3)), "layer `c`: out_channels: expected at least 1, got 0");
    let groups = "layer `c`: groups: expected a divisor of the 3 input channels, got 2";
    assert_eq!(conv(Conv::new(4, 3).groups(2)), groups);
    assert!(conv(Conv::new(4, 9)).starts_with("layer `c`: the output is empty"));
    assert!(conv(Conv::new(1 << 40, 1 << 20)).starts_with("layer `c`: "));
    assert!(message(image, &[("p", Pool::max(9, 1).into())]).starts_with("layer `p`: "));
    let linear = message(image, &[("fc", Linear::new(4).into())]);
    assert_eq!(linear, "layer `fc`: expected a vector (flatten first) as input, got 3x8x8");
    let conv_on_vector = message(Shape::vector(9), &[("c", Conv::new(4, 1).into())]);
    assert_eq!(conv_on_vector, "layer `c`: expected feature maps as input, got 9");
    let none = message(Shape::vector(9), &[("fc", Linear::new(0).into())]);
    assert_eq!(none, "layer `fc`: out_features: expected at least 1, got 0");
    assert!(message(Shape::map(1, 0, 4), &[("c", Conv::new(4, 1).into())]).starts_with("layer `input`: "));
    let twice = message(image, &[("same", Layer::Flatten), ("same", Layer::Softmax)]);
    assert_eq!(twice, "layer `same`: expected a name that no other layer has");
    assert_eq!(message(image, &[]), "network `test`: expected at least one layer, got none");
}

#[test]
fn only_the_first_mistake_is_reported() {
    let layers =
        [("bad", Conv::new(4, 99).into()), ("worse", Linear::new(0).into()), ("c", Conv::new(1, 1).into())];
    assert!(message(Shape::map(3, 8, 8), &layers).starts_with("layer `bad`: "));
}

#[test]
fn wrong_inputs_are_errors() {
    let mut small = GraphBuilder::new("small", Shape::vector(2));
    let mut large = GraphBuilder::new("large", Shape::vector(2));
    let later = large.then("a", Layer::Softmax).then("b", Layer::Softmax).last();
    small.add("c", Layer::Softmax, &[later]);
    let error = small.build().unwrap_err();
    let expected = LayerError::UnknownInput { nodes: 1, got: 2 };
    assert!(matches!(&error, NetError::Layer { problem, .. } if *problem == expected), "{error}");

    let mut builder = GraphBuilder::new("two", Shape::vector(2));
    let input = builder.last();
    builder.add("c", Layer::Softmax, &[input, input]);
    assert_eq!(builder.build().unwrap_err().to_string(), "layer `c`: expected 1 inputs, got 2");
    let mut builder = GraphBuilder::new("none", Shape::vector(2));
    builder.add("c", Layer::Concat, &[]);
    assert_eq!(builder.build().unwrap_err().to_string(), "layer `c`: expected at least 1 inputs, got 0");
}

#[test]
fn counts_that_do_not_fit_are_errors_and_allocate_nothing() {
    let wide = [("a", Linear::new(1 << 40).into()), ("b", Linear::new(1 << 40).into())];
    let graph = sequence(Shape::vector(1), &wide).unwrap();
    let error = count(&graph).unwrap_err().to_string();
    assert_eq!(error, "layer `b`: expected a number of parameters that fits 64 bits, got an overflow");
    let graph = sequence(Shape::vector(1 << 20), &[("a", Linear::new(1 << 20).into())]).unwrap();
    assert_eq!(count(&graph).unwrap().params, (1 << 40) + (1 << 20));
    let error = WeightSet::seeded(&graph, Init::He, 1).unwrap_err().to_string();
    assert_eq!(error, "weights of network `test`: expected at most 4.0 GiB (the memory limit), got 4.0 TiB");
}

#[test]
fn weights_of_another_network_are_an_error() {
    let graph = |out| sequence(Shape::vector(4), &[("fc", Linear::new(out).into())]).unwrap();
    let weights = WeightSet::seeded(&graph(3), Init::He, 1).unwrap();
    let error = Net::new(&graph(5), &weights, &NetOptions::default()).err().expect("an error").to_string();
    assert!(error.starts_with("layer `fc`: "), "{error}");
    let error = Net::new(&zoo::lenet5().unwrap(), &weights, &NetOptions::default()).err().expect("an error");
    let expected = "layer `c1`: expected weights with a tensor `c1.weight` of its shape, got the weights of network `test`";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn unknown_networks_get_a_list_and_a_hint() {
    assert_eq!(zoo::find("lenet5").unwrap().name, "lenet5");
    for (mistyped, nearest) in
        [("LeNet-5", "lenet5"), ("resnet5", "resnet50"), ("vgg-16", "vgg16"), ("gogolenet", "googlenet")]
    {
        let error = zoo::find(mistyped).unwrap_err().to_string();
        assert!(error.ends_with(&format!(", got `{mistyped}`, did you mean `{nearest}`?")), "{error}");
    }
    let error = zoo::find("qqq").unwrap_err().to_string();
    assert!(error.starts_with("network: expected one of mlp, ") && error.ends_with("got `qqq`"), "{error}");
}

#[test]
fn every_network_of_the_zoo_builds_under_its_own_name() {
    for entry in zoo::ALL {
        assert_eq!(entry.graph().unwrap().name(), entry.name);
    }
}
