//! Depthwise convolutions and their neighbours, which run in turns on a few rows if their maps are large.

mod common;

use kernels::{Activation, Layout, Size2, Threads};
use nets::{CompiledNet, Conv, Graph, GraphBuilder, Layer, Net, NetOptions, Norm, Pool, Shape, zoo};

/// Names of the steps that are chains.
fn chains(graph: &Graph, options: &NetOptions) -> Vec<String> {
    let net = CompiledNet::new(graph, &common::weights(graph), options).unwrap();
    net.steps().map(|step| step.name).filter(|name| name.contains(" > ")).collect()
}

/// Compares a network with its layers one by one, on `options.batch` images.
fn check(graph: &Graph, options: &NetOptions) {
    let weights = common::weights(graph);
    let len = graph.input().len().unwrap();
    let input = common::noise(options.batch * len, 3);
    let images = input.chunks_exact(len);
    let expected: Vec<f32> =
        images.flat_map(|image| common::layer_by_layer(graph, &weights, image)).collect();
    let mut net = Net::new(graph, &weights, options).unwrap();
    // Twice, because no state may be left from the first run.
    for _ in 0..2 {
        let error = common::relative_l2(net.run(&input, Threads::Seq).unwrap(), &expected);
        assert!(error <= 1e-5, "{}: {error:e}", graph.name());
    }
}

/// An inverted residual block behind a convolution of the image. The expanded maps are large.
fn block(kernel: usize, stride: usize, dilation: usize) -> Graph {
    let mut net = GraphBuilder::new("block", Shape::map(3, 101, 97));
    net.then("stem", Conv::new(20, 3).pad(1)).act(Activation::RELU6);
    let narrow = net.last();
    net.then("expand", Conv::new(40, 1).no_bias()).then("bn", Norm::batch()).act(Activation::Silu);
    let reach = kernel / 2 * dilation;
    let filter = Conv { dilation: Size2::square(dilation), ..Conv::new(40, kernel).pad(reach).groups(40) };
    net.then("filter", filter.stride(stride)).act(Activation::HardSwish);
    let reduced = net.then("reduce", Conv::new(20, 1)).last();
    if stride == 1 {
        net.add("add", Layer::Add, &[reduced, narrow]);
    }
    net.then("pool", Pool::global_average());
    net.build().unwrap()
}

#[test]
fn blocks_with_large_maps_run_in_turns() {
    for (kernel, stride, dilation) in [(3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 3, 1), (3, 1, 2)] {
        let graph = block(kernel, stride, dilation);
        for (batch, threads) in [(1, 1), (2, 1), (2, 3)] {
            let options = NetOptions::default().batch(batch).max_threads(threads).layout(Layout::Nchw16c);
            let names = chains(&graph, &options);
            assert!(names.len() == 1 && names[0].starts_with("expand > filter"), "{names:?}");
            check(&graph, &options);
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_threads() {
    let graph = block(3, 1, 1);
    let options = NetOptions::default().max_threads(3).layout(Layout::Nchw16c);
    let mut net = Net::new(&graph, &common::weights(&graph), &options).unwrap();
    let input = common::noise(graph.input().len().unwrap(), 3);
    let expected = net.run(&input, Threads::Seq).unwrap().to_vec();
    for threads in [2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(net.run(&input, Threads::Pool(&pool)).unwrap(), expected);
    }
}

/// A map that two layers read, or that is the output, is not passed on row by row.
#[test]
fn maps_with_other_readers_are_whole() {
    let mut net = GraphBuilder::new("two readers", Shape::map(3, 101, 97));
    let expanded = net.then("expand", Conv::new(32, 3).pad(1)).last();
    let filtered = net.then("filter", Conv::new(32, 3).pad(1).groups(32)).last();
    net.add("sum", Layer::Mul, &[filtered, expanded]);
    let two = net.build().unwrap();
    let mut net = GraphBuilder::new("output", Shape::map(3, 101, 97));
    net.then("expand", Conv::new(32, 3).pad(1)).then("filter", Conv::new(32, 3).pad(1).groups(32));
    let output = net.build().unwrap();
    let options = NetOptions::default().max_threads(1).layout(Layout::Nchw16c);
    assert_eq!(chains(&two, &options), Vec::<String>::new());
    assert_eq!(chains(&output, &options), ["expand > filter"]);
    [two, output].iter().for_each(|graph| check(graph, &options));
}

#[test]
fn networks_of_the_zoo() {
    let options = NetOptions::default().max_threads(1);
    for (name, count) in [("mobilenet-v2", 4), ("efficientnet-b0", 4), ("resnet50", 0), ("vgg16", 0)] {
        let graph = zoo::find(name).unwrap().graph().unwrap();
        assert_eq!(chains(&graph, &options).len(), count, "{name}");
    }
    let graph = zoo::find("mobilenet-v2").unwrap().graph().unwrap();
    check(&graph, &options);
}
