//! Counts: worked examples, the output of other tools, memory, receptive fields, and overflows.

use kernels::{Activation, Pad2, Size2};
use nets::{
    Conv, Convention, Graph, GraphBuilder, Layer, Linear, NetCount, NetError, Norm, Pool, Receptive, Shape,
    count, count_batch, zoo,
};

fn network(name: &str) -> (Graph, NetCount) {
    let graph = zoo::find(name).unwrap().graph().unwrap();
    let count = count(&graph).unwrap();
    (graph, count)
}

fn cost(name: &str, convention: Convention) -> u64 {
    let (graph, count) = network(name);
    convention.costs(&graph, &count).unwrap().iter().sum()
}

/// 5x5 kernels on 192 maps of 28x28 to 32 channels, without and with a bottleneck of 16 channels.
#[test]
fn a_bottleneck_makes_5x5_ten_times_cheaper() {
    let input = Shape::map(192, 28, 28);
    let mut direct = GraphBuilder::new("direct", input);
    direct.then("5x5", Conv::new(32, 5).pad(2));
    assert_eq!(count(&direct.build().unwrap()).unwrap().macs, 120_422_400);

    let mut bottleneck = GraphBuilder::new("bottleneck", input);
    bottleneck.then("1x1", Conv::new(16, 1)).then("5x5", Conv::new(32, 5).pad(2));
    let count = count(&bottleneck.build().unwrap()).unwrap();
    let macs: Vec<u64> = count.layers.iter().map(|layer| layer.macs).collect();
    assert_eq!(macs, [0, 2_408_448, 10_035_200]);
    assert_eq!(count.macs, 12_443_648);
}

/// The same counts in the modules of the zoo.
#[test]
fn inception_modules() {
    let macs = |name, layer| {
        let (_, count) = network(name);
        count.layers.iter().find(|l: &&nets::LayerCount| l.name == layer).unwrap().macs
    };
    assert_eq!(macs("inception-naive", "5x5"), 120_422_400);
    assert_eq!(macs("inception", "inception_3a/5x5_reduce"), 2_408_448);
    assert_eq!(macs("inception", "inception_3a/5x5"), 10_035_200);
    assert_eq!(network("inception-naive").0.output(), Shape::map(64 + 128 + 32 + 192, 28, 28));
    assert_eq!(network("inception").0.output(), Shape::map(256, 28, 28));
}

/// The counts of the tools for torchvision's models on one image of 224x224: fvcore 0.1.5.post20221221,
/// PyTorch 2.15.0 (torch.utils.flop_counter, halved), ptflops 0.7.5 with both backends, thop
/// 0.1.1.post2209072238.
#[test]
fn conventions_reproduce_the_tools() {
    use Convention::{Fvcore, Ptflops, PtflopsAten, Thop, Torchvision};
    let printed = [
        ("alexnet-torchvision", [714_197_696, 714_188_480, 716_441_128, 714_682_664, 714_206_912]),
        ("vgg16", [15_470_289_408, 15_470_264_320, 15_523_225_576, 15_483_821_032, 15_470_314_496]),
        ("resnet18", [1_819_065_856, 1_814_073_344, 1_825_313_768, 1_814_074_344, 1_824_033_792]),
        ("resnet50", [4_111_512_576, 4_089_184_256, 4_132_436_968, 4_089_185_256, 4_133_742_592]),
    ];
    for (name, figures) in printed {
        let ours = [Fvcore, Torchvision, Ptflops, PtflopsAten, Thop].map(|convention| cost(name, convention));
        assert_eq!(ours, figures, "{name}");
    }
    // torchvision calls relu as a function there, not as a module, so ptflops counts its 3,226,160 elements once.
    let name = "googlenet-torchvision";
    let ours = [Fvcore, Torchvision, PtflopsAten, Thop].map(|convention| cost(name, convention));
    assert_eq!(ours, [1_504_878_688, 1_498_376_192, 1_498_377_192, 1_511_332_032]);
    assert_eq!(cost(name, Ptflops), 1_513_907_448 + 3_226_160);
}

#[test]
fn our_own_conventions() {
    let mut net = GraphBuilder::new("test", Shape::map(2, 4, 4));
    net.then("conv", Conv::new(3, 3)).then("bn", Norm::batch()).act(Activation::Relu); // 3x2x2
    net.then("pool", Pool::max(2, 2))
        .then("flatten", Layer::Flatten)
        .then("fc", Linear::new(5))
        .act(Activation::Tanh);
    let graph = net.build().unwrap();
    let count = count(&graph).unwrap();
    let costs = |convention: Convention| convention.costs(&graph, &count).unwrap();
    assert_eq!(costs(Convention::Mac), [0, 12 * 18, 0, 0, 0, 0, 15, 0]);
    assert_eq!(costs(Convention::Flop), [0, 2 * 12 * 18, 0, 0, 0, 0, 30, 0]);
    assert_eq!(costs(Convention::Ops), [0, 2 * 12 * 18, 24, 12, 12, 0, 30, 5]);
    assert_eq!((count.kinds.weights, count.kinds.biases, count.kinds.norms), (54 + 15, 3 + 5, 6));
    assert_eq!((count.params, count.untrained, count.other_ops), (83, 6, 53));
    for convention in Convention::ALL {
        let eight = count_batch(&graph, 8).unwrap();
        let costs = |count| convention.costs(&graph, count).unwrap().iter().sum::<u64>();
        assert_eq!(costs(&eight), 8 * costs(&count), "{}", convention.name());
    }
}

#[test]
fn memory_is_that_of_the_widest_moment() {
    // A block with a shortcut: the input, both results and the shortcut are live at the same time.
    let mut net = GraphBuilder::new("test", Shape::map(1, 10, 10));
    let input = net.last();
    net.then("a", Conv::new(2, 3).pad(1)); // 200
    net.then("b", Conv::new(1, 3).pad(1)); // 100
    let b = net.last();
    net.add("add", Layer::Add, &[b, input]);
    net.then("flatten", Layer::Flatten).then("fc", Linear::new(7));
    let graph = net.build().unwrap();
    let count = count(&graph).unwrap();
    let live: Vec<u64> = count.layers.iter().map(|layer| layer.live_bytes / 4).collect();
    assert_eq!(live, [100, 300, 400, 300, 100, 107]);
    assert_eq!(count.peak_activation_bytes, 1600);
    assert_eq!(count.activation_bytes, 4 * (100 + 200 + 100 + 100 + 7));
    assert_eq!(count_batch(&graph, 3).unwrap().peak_activation_bytes, 4800);
    // VGG-16: the two largest maps of the first stage.
    assert_eq!(network("vgg16").1.peak_activation_bytes, 4 * 2 * 64 * 224 * 224);
    assert_eq!(network("vgg16").1.weight_bytes(), 4 * 138_357_544);
}

#[test]
fn intensity_is_work_per_byte() {
    let (_, count) = network("resnet50");
    let layer = |name: &str| count.layers.iter().find(|layer| layer.name == name).unwrap();
    let conv = layer("layer1.0.conv2");
    let bytes = 4 * (2 * 64 * 56 * 56 + 64 * 64 * 9);
    assert_eq!(conv.moved_bytes, bytes);
    assert!((conv.intensity().unwrap() - conv.flops() as f64 / bytes as f64).abs() < 1e-9);
    assert_eq!(layer("flatten").intensity(), None);
}

/// A. Araujo, W. Norris and J. Sim, "Computing receptive fields of convolutional neural networks", 2019, table 1.
#[test]
fn receptive_fields_are_the_published_ones() {
    let field = |name: &str, layer: &str| {
        let (_, count) = network(name);
        count.layers.iter().find(|l| l.name == layer).unwrap().receptive.unwrap()
    };
    let square = |size, jump, offset| Receptive { size: [size; 2], jump: [jump; 2], offset: [offset; 2] };
    assert_eq!(field("alexnet", "pool5"), square(195, 32, -64));
    assert_eq!(field("vgg16", "features.30").size, [212; 2]);
    assert_eq!(field("resnet50-v1", "layer4.2.add.relu").size, [483; 2]);
    assert_eq!(field("resnet152-v1", "layer4.2.add.relu").size, [1507; 2]);
    assert_eq!(field("resnet50", "conv1"), square(7, 2, -3));
}

#[test]
fn fields_of_branches_are_the_largest() {
    let mut net = GraphBuilder::new("test", Shape::map(1, 32, 32));
    let stem = net.then("stem", Conv::new(1, 3).stride(2)).last(); // 3, 2
    let a = net.then("a", Conv::new(1, 5).pad(2)).last(); // 3 + 4 * 2
    let b = net.at(stem).then(
        "b",
        Conv { pad: Pad2 { left: 1, ..Pad2::VALID }, kernel: Size2::new(1, 2), ..Conv::new(1, 1) },
    );
    let b = b.last();
    let join = net.add("join", Layer::Concat, &[a, b]);
    net.at(join)
        .then(
            "unknown",
            Layer::Unknown {
                op: "X".to_owned(),
                output: Shape::vector(3),
                params: Vec::new(),
                reason: String::new(),
            },
        )
        .then("fc", Linear::new(1));
    let count = count(&net.build().unwrap()).unwrap();
    let field = |index: usize| count.layers[index].receptive;
    assert_eq!(field(3), Some(Receptive { size: [3, 5], jump: [2; 2], offset: [0, -2] }));
    assert_eq!(field(4), Some(Receptive { size: [11; 2], jump: [2; 2], offset: [-4; 2] }));
    assert_eq!((field(5), field(6)), (None, None));
}

#[test]
fn untrained_numbers_are_apart() {
    let (_, lenet) = network("lenet5-1998");
    assert_eq!((lenet.params, lenet.untrained), (60_000, 840));
    let (_, resnet) = network("resnet50");
    assert_eq!((resnet.params, resnet.untrained), (25_557_032, 53_120));
}

#[test]
fn absurd_batches_are_errors() {
    let graph = zoo::lenet5().unwrap();
    for batch in [u64::MAX, 1 << 50] {
        let error = count_batch(&graph, batch).unwrap_err();
        assert!(matches!(error, NetError::CountOverflow { .. }), "{error}");
    }
}

/// Every cited figure either agrees after rounding or has a reason.
#[test]
fn every_difference_has_a_reason() {
    for entry in zoo::ALL {
        let count = count(&entry.graph().unwrap()).unwrap();
        for cited in entry.cited {
            let exact = match cited.quantity {
                zoo::Quantity::Params => count.params,
                zoo::Quantity::Macs => count.macs,
            };
            assert!(
                cited.agrees(exact) || !cited.reason.is_empty(),
                "{} {}: {exact}",
                entry.name,
                cited.text
            );
        }
    }
}
