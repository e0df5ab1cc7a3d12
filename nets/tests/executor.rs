//! A compiled network computes what its layers compute one by one, independent of layouts, merging, shared
//! memory and threads.

mod common;

use kernels::{Activation, Isa, Layout, Numerics, Threads};
use nets::{
    CompiledNet, Conv, Graph, GraphBuilder, Init, Layer, Linear, Lrn, Net, NetError, NetOptions, Norm, Pool,
    SeededWeights, Shape, WeightSet, zoo,
};

fn run(graph: &Graph, weights: &WeightSet, options: &NetOptions, input: &[f32]) -> Vec<f32> {
    Net::new(graph, weights, options).unwrap().run(input, Threads::Seq).unwrap().to_vec()
}

/// The relative L2 error of a whole network, and its bound.
const BOUNDS: [(Numerics, f64); 3] =
    [(Numerics::Strict, 1e-5), (Numerics::Default, 1e-5), (Numerics::Fast, 3e-5)];

/// Smaller input extents for testing ImageNet networks that accept them: the same layers in less time.
const SMALL: Shape = Shape::map(3, 96, 112);

fn check_network(name: &str) {
    let entry = zoo::find(name).unwrap();
    let any = entry.input == Shape::map(3, 224, 224);
    check_graph(&entry.graph_for(if any { SMALL } else { entry.input }).unwrap());
}

/// Checks a graph on two images, with 1, 2 and 3 threads.
fn check_graph(graph: &Graph) {
    let name = graph.name();
    let weights = common::weights(graph);
    let input = common::noise(2 * graph.input().len().unwrap(), 9);
    let images = input.chunks_exact(graph.input().len().unwrap());
    let expected: Vec<f32> =
        images.flat_map(|image| common::layer_by_layer(graph, &weights, image)).collect();
    let half = input.len() / 2;
    for (numerics, bound) in BOUNDS {
        let options = NetOptions::default().numerics(numerics);
        let mut net = Net::new(graph, &weights, &options.batch(2).max_threads(3)).unwrap();
        let got = net.run(&input, Threads::Seq).unwrap().to_vec();
        let error = common::relative_l2(&got, &expected);
        assert!(error <= bound, "{name}, {numerics:?}: {error:e}");
        // Each algorithm is split among threads in its own way. The rest of the network is the same for all
        // numerics, so only one of them is tested with two threads.
        let counts = if numerics == Numerics::Strict { &[2, 3][..] } else { &[3] };
        for &threads in counts {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let same = net.run(&input, Threads::Pool(&pool)).unwrap() == got;
            assert!(same, "{name}, {numerics:?}, {threads} threads");
        }
        if numerics == Numerics::Fast {
            continue;
        }
        // Without the rest of the network, the branches are merged differently.
        let first = run(graph, &weights, &options, &input[..half]);
        let error = common::relative_l2(&first, &expected[..first.len()]);
        assert!(error <= bound, "{name} alone, {numerics:?}: {error:e}");
    }
}

/// Takes minutes. Run it with `cargo test --release -p nets --test executor -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn every_network_at_the_extents_that_it_is_published_for() {
    for entry in zoo::ALL {
        check_graph(&entry.graph().unwrap());
    }
}

macro_rules! zoo {
    ($($test:ident: $($name:literal),+;)+) => {
        $(#[test]
        fn $test() {
            [$($name),+].into_iter().for_each(check_network);
        })+

        #[test]
        fn no_network_of_the_zoo_is_left_out() {
            let all = [$($($name),+),+];
            let missing: Vec<&str> =
                zoo::ALL.iter().map(|entry| entry.name).filter(|name| !all.contains(name)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
}

zoo! {
    small_networks: "mlp", "mlp-mnist", "lenet5-1998", "lenet5", "inception-naive", "inception";
    activations: "lenet5-sigmoid", "lenet5-relu", "lenet5-leaky", "lenet5-prelu", "lenet5-elu", "lenet5-maxout";
    normalisations: "lenet5-bn", "lenet5-ln", "lenet5-in", "lenet5-gn", "lenet5-dropout", "lenet5-fractional";
    alexnets: "alexnet", "alexnet-torchvision";
    vggs: "vgg16", "vgg19";
    networks_in_network: "nin", "nin-cifar10";
    googlenets: "googlenet", "googlenet-aux", "googlenet-torchvision", "googlenet-torchvision-aux";
    plain_networks: "plain18", "plain34", "plain20-cifar", "plain56-cifar";
    basic_residual_networks: "resnet18-a", "resnet34-a", "resnet18", "resnet34";
    small_residual_networks: "resnet20-cifar", "resnet56-cifar", "resnet110-cifar";
    bottlenecks: "resnet50-v1", "resnet50";
    deep_bottlenecks: "resnet101-v1", "resnet101";
    deepest_bottlenecks: "resnet152-v1", "resnet152";
    grouped_bottlenecks: "resnext50-32x4d";
    dense_networks: "densenet121";
    mobile_networks: "mobilenet-v2", "efficientnet-b0";
}

#[test]
fn instruction_sets_and_layouts_agree() {
    for (name, input) in [
        ("alexnet", Shape::map(3, 227, 227)),
        ("googlenet", Shape::map(3, 96, 96)),
        ("resnet50", Shape::map(3, 64, 64)),
        ("resnet20-cifar", Shape::map(3, 32, 32)),
        ("densenet121", Shape::map(3, 64, 64)),
        ("mobilenet-v2", Shape::map(3, 64, 64)),
        ("efficientnet-b0", Shape::map(3, 64, 64)),
        ("resnext50-32x4d", Shape::map(3, 64, 64)),
    ] {
        let graph = zoo::find(name).unwrap().graph_for(input).unwrap();
        let weights = common::weights(&graph);
        let input = common::noise(graph.input().len().unwrap(), 4);
        let expected = common::layer_by_layer(&graph, &weights, &input);
        for isa in Isa::available() {
            for layout in [Layout::Nchw, Layout::Nchw16c] {
                let options = NetOptions::default().isa(isa).layout(layout);
                let error = common::relative_l2(&run(&graph, &weights, &options, &input), &expected);
                assert!(error <= 1e-5, "{name} on {isa} in {layout}: {error:e}");
            }
        }
    }
}

fn ops(graph: &Graph, options: &NetOptions) -> Vec<String> {
    let net = CompiledNet::new(graph, &common::weights(graph), options).unwrap();
    net.steps().map(|step| step.op).collect()
}

/// The number of reorders and copies in a network of the zoo.
fn moves(name: &str, batch: usize) -> (usize, usize) {
    let graph = zoo::find(name).unwrap().graph().unwrap();
    let ops = ops(&graph, &NetOptions::default().batch(batch));
    let count = |wanted: &str| ops.iter().filter(|op| *op == wanted).count();
    (count("reorder"), count("copy"))
}

#[test]
fn nothing_is_copied_or_reordered_between_layers() {
    for name in
        ["resnet50", "vgg16", "googlenet", "googlenet-torchvision", "resnet18", "resnet18-a", "alexnet"]
    {
        for batch in [1, 2] {
            assert_eq!(moves(name, batch), (0, 0), "{name}");
        }
    }
    // Only at the edges: the input has 192 channels, and the output is a map.
    assert_eq!(moves("inception", 1), (2, 0));
    assert_eq!(moves("lenet5", 1), (0, 0));
}

#[test]
fn branches_of_an_inception_module_are_merged() {
    let graph = zoo::find("inception").unwrap().graph().unwrap();
    let weights = common::weights(&graph);
    let merged = |batch| {
        let net = CompiledNet::new(&graph, &weights, &NetOptions::default().batch(batch)).unwrap();
        let steps: Vec<_> = net.steps().collect();
        let names = steps.iter().filter(|step| step.name.contains(" + ")).map(|step| step.name.clone());
        let names: Vec<String> = names.collect();
        let (params, macs) = steps.iter().fold((0, 0), |(p, m), step| (p + step.params, m + step.macs));
        assert_eq!((params, macs), (net.count().params, net.count().macs));
        names
    };
    // With one image, the 1x1 path is next to the others, although it is a part of the result.
    assert_eq!(merged(1), ["inception_3a/3x3_reduce + inception_3a/5x5_reduce + inception_3a/1x1"]);
    assert_eq!(merged(2), ["inception_3a/3x3_reduce + inception_3a/5x5_reduce"]);
}

/// Concatenations of all kinds: repeated parts, nested ones, parts of the input, ragged channels, empty
/// lanes. Some branches can be merged and some cannot.
#[test]
fn odd_concatenations() {
    let mut graphs = Vec::new();
    for (wide, ragged) in [(16, 16), (16, 5), (32, 24), (3, 7)] {
        let mut net = GraphBuilder::new("test", Shape::map(wide, 6, 5));
        let input = net.last();
        let a = net.then("a", Conv::new(wide, 1)).act(Activation::Relu).last();
        let b = net.at(input).then("b", Conv::new(ragged, 1)).act(Activation::Relu).last();
        let c = net.at(input).then("c", Conv::new(16, 1)).act(Activation::Relu).last();
        let inner = net.add("inner", Layer::Concat, &[a, c]);
        let d = net.then("d", Pool::max(3, 1).pad(1)).last();
        let e = net.then("e", Conv::new(16, 3).pad(1)).last();
        let outer = net.add("outer", Layer::Concat, &[inner, e, a, input, d, b]);
        net.then("f", Norm::batch());
        let all = net.add("all", Layer::Concat, &[outer, inner, c, c]);
        net.at(all).then("g", Conv::new(8, 1));
        graphs.push(net.build().unwrap());

        let mut net = GraphBuilder::new("output", Shape::map(wide, 4, 4));
        let input = net.last();
        let only = net.then("only", Conv::new(ragged, 3).pad(1)).last();
        let alone = net.add("alone", Layer::Concat, &[only]);
        let other = net.at(input).then("other", Conv::new(32, 3).pad(1)).last();
        net.add("result", Layer::Concat, &[other, alone]);
        graphs.push(net.build().unwrap());
    }
    for graph in &graphs {
        for batch in [1, 2, 3] {
            common::check(graph, &NetOptions::default().batch(batch));
        }
    }
}

/// The memory patterns of inception modules, dense blocks and squeeze-and-excitation blocks.
#[test]
fn blocks_of_other_networks() {
    let mut net = GraphBuilder::new("dense", Shape::map(3, 9, 9));
    let mut maps = vec![net.then("stem", Conv::new(16, 3).pad(1)).last()];
    for block in 0..3 {
        net.add(&format!("concat{block}"), Layer::Concat, &maps);
        net.then(&format!("bn{block}"), Norm::batch()).act(Activation::Relu);
        net.then(&format!("narrow{block}"), Conv::new(32, 1));
        maps.push(net.then(&format!("grow{block}"), Conv::new(16, 3).pad(1)).last());
    }
    let body = net.add("last", Layer::Concat, &maps);
    net.then("squeeze", Pool::global_average()).then("down", Conv::new(4, 1)).act(Activation::Relu);
    let gate = net.then("up", Conv::new(64, 1)).act(Activation::Sigmoid).last();
    net.add("excite", Layer::Mul, &[body, gate]);
    net.then("lrn", Lrn { size: 5, alpha: 0.5, beta: 0.75, k: 2.0 });
    net.then("flat", Layer::Flatten).then("fc", Linear::new(7)).then("softmax", Layer::Softmax);
    let graph = net.build().unwrap();
    for batch in [1, 3] {
        common::check(&graph, &NetOptions::default().batch(batch));
    }
}

#[test]
fn views_of_the_input_and_of_blocks() {
    let map = Shape::map(16, 3, 2);
    let mut graphs = Vec::new();
    for layers in [
        vec![Layer::Flatten],
        vec![Layer::Dropout, Layer::Flatten, Layer::Reshape(Shape::map(32, 3, 1))],
        vec![Conv::new(32, 1).into(), Layer::Flatten, Layer::Dropout, Linear::new(5).into()],
        vec![Conv::new(24, 1).into(), Layer::Flatten, Linear::new(5).into()],
        vec![Conv::new(32, 1).into(), Layer::Flatten, Layer::Rbf { codes: 3 }],
        vec![Conv::new(32, 1).into(), Layer::Reshape(Shape::map(16, 6, 2)), Conv::new(16, 1).into()],
        vec![Conv::new(20, 1).into(), Pool::global_average().into(), Layer::Flatten, Layer::Softmax],
        vec![Conv::new(20, 1).into(), Pool::global_max().into(), Layer::Flatten, Linear::new(4).into()],
        vec![Conv::new(32, 1).into(), Pool::global_max().into(), Layer::Flatten, Linear::new(4).into()],
        vec![
            Layer::Flatten,
            Linear::new(32).into(),
            Layer::Reshape(Shape::map(32, 1, 1)),
            Conv::new(3, 1).into(),
        ],
        vec![
            Layer::Flatten,
            Linear::new(20).into(),
            Layer::Reshape(Shape::map(20, 1, 1)),
            Conv::new(3, 1).into(),
        ],
    ] {
        let mut net = GraphBuilder::new("views", map);
        for (index, layer) in layers.into_iter().enumerate() {
            net.then(&index.to_string(), layer);
        }
        graphs.push(net.build().unwrap());
    }
    for graph in &graphs {
        for batch in [1, 3] {
            common::check(graph, &NetOptions::default().batch(batch));
        }
    }
}

#[test]
fn many_memories_run_one_network_at_once() {
    let graph = zoo::find("googlenet").unwrap().graph_for(Shape::map(3, 64, 64)).unwrap();
    let net = CompiledNet::new(&graph, &common::weights(&graph), &NetOptions::default()).unwrap();
    let inputs: Vec<Vec<f32>> = (0..4).map(|seed| common::noise(net.input_len(), seed)).collect();
    let run = |input: &[f32]| {
        let (mut memory, mut output) = (net.memory().unwrap(), vec![f32::NAN; net.output_len()]);
        // A second run must not depend on the state that the first one left.
        for _ in 0..2 {
            net.run(input, &mut output, &mut memory, Threads::Seq).unwrap();
        }
        output
    };
    let expected: Vec<Vec<f32>> = inputs.iter().map(|input| run(input)).collect();
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = inputs.iter().map(|input| scope.spawn(move || run(input))).collect();
        for (thread, expected) in threads.into_iter().zip(&expected) {
            assert_eq!(&thread.join().unwrap(), expected);
        }
    });
}

#[test]
fn wrong_lengths_are_errors() {
    let compile = |name: &str| {
        let graph = zoo::find(name).unwrap().graph().unwrap();
        CompiledNet::new(&graph, &common::weights(&graph), &NetOptions::default()).unwrap()
    };
    let (small, large) = (compile("lenet5"), compile("resnet20-cifar"));
    let input = vec![0.0; large.input_len()];
    let (mut memory, mut output) = (large.memory().unwrap(), vec![0.0; 10]);
    let run = |input: &[f32], output: &mut [f32], memory: &mut nets::Memory| {
        large.run(input, output, memory, Threads::Seq).unwrap_err().to_string()
    };
    let message = run(&input[1..], &mut output, &mut memory);
    assert_eq!(message, "input: expected 3072 elements (1 x 3x32x32), got 3071");
    let message = run(&input, &mut output[1..], &mut memory);
    assert_eq!(message, "output: expected 10 elements (1 x 10), got 9");
    let message = run(&input, &mut output, &mut small.memory().unwrap());
    assert!(message.starts_with("memory: expected at least "), "{message}");
    // Memory that is larger than necessary is accepted.
    small.run(&input[..1024], &mut output, &mut memory, Threads::Seq).unwrap();

    let graph = zoo::lenet5().unwrap();
    let nhwc = NetOptions::default().layout(Layout::Nhwc);
    let error = CompiledNet::new(&graph, &common::weights(&graph), &nhwc).err().unwrap();
    assert!(matches!(error, NetError::Option { option: "layout", .. }), "{error}");
}

#[test]
fn activations_share_one_arena() {
    let graph = zoo::find("resnet50").unwrap().graph().unwrap();
    let net = CompiledNet::new(&graph, &common::weights(&graph), &NetOptions::default()).unwrap();
    let (bytes, peak) = (net.memory().unwrap().activation_bytes() as u64, net.count().peak_activation_bytes);
    // The peak includes input and output, and ignores fusion.
    assert!(bytes <= peak, "{bytes} of {peak}");
}

/// Waking threads takes longer than running LeNet-5 on one image.
#[test]
fn a_pool_is_entered_only_if_that_is_worth_it() {
    let graph = zoo::lenet5().unwrap();
    let weights = SeededWeights::new(&graph, Init::Xavier, 1).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    for (batch, is_entered) in [(1, false), (64, true)] {
        let options = NetOptions::default().batch(batch).max_threads(2);
        let net = CompiledNet::new(&graph, &weights, &options).unwrap();
        let (input, mut output) = (vec![0.5; net.input_len()], vec![0.0; net.output_len()]);
        let mut inside = Vec::new();
        let mut done = |_| inside.push(rayon::current_thread_index().is_some());
        net.run_observed(&input, &mut output, &mut net.memory().unwrap(), Threads::Pool(&pool), &mut done)
            .unwrap();
        assert!(!inside.is_empty() && inside.iter().all(|&inside| inside == is_entered), "batch {batch}");
    }
}
