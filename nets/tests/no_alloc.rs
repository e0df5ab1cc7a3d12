//! Counts allocations: a forward pass allocates nothing, for networks with every kind of layer, alone and in a pool.

mod common;
#[path = "../../kernels/tests/counting/mod.rs"]
mod counting;

use counting::counted;
use kernels::{Layout, Threads};
use nets::import::onnx::{self, ImportOptions};
use nets::{CompiledNet, Graph, NetOptions, Shape, zoo};

/// Allocations of passes after the first one.
fn allocations(net: &CompiledNet, threads: Threads<'_>) -> usize {
    let (mut memory, input) = (net.memory().unwrap(), common::noise(net.input_len(), 1));
    let mut output = vec![0.0; net.output_len()];
    let mut run = || net.run(&input, &mut output, &mut memory, threads).expect("a valid run");
    counted(&mut run)
}

fn graphs() -> Vec<Graph> {
    let of = |name: &str, input| zoo::find(name).and_then(|entry| entry.graph_for(input)).expect("it fits");
    vec![
        of("lenet5-1998", Shape::map(1, 32, 32)),
        of("alexnet", Shape::map(3, 99, 99)),
        of("googlenet", Shape::map(3, 64, 64)),
        of("resnet18-a", Shape::map(3, 64, 64)),
        of("resnet50", Shape::map(3, 64, 64)),
        of("inception", Shape::map(192, 9, 9)),
    ]
}

/// Every operator of the ONNX tests that runs, most of them on tensors.
fn operators() -> Vec<(String, CompiledNet)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/operators");
    let mut nets = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder of the operators") {
        let path = entry.expect("a file").path();
        let Ok(model) = onnx::load(&path, &ImportOptions::default()) else { continue };
        let options = NetOptions::default().batch(model.graph.batch().unwrap_or(1));
        let Ok(net) = CompiledNet::new(&model.graph, &model.weights, &options) else { continue };
        let (mut memory, mut output) = (net.memory().unwrap(), vec![0.0; net.output_len()]);
        // Several inputs are another call, and random numbers are not always indices.
        if net.run(&common::noise(net.input_len(), 1), &mut output, &mut memory, Threads::Seq).is_ok() {
            nets.push((path.display().to_string(), net));
        }
    }
    nets
}

/// A single test, because another test in this process would allocate during the count.
fn main() {
    assert!(counted(&mut || drop(std::hint::black_box(vec![1u8; 100]))) > 0, "the counter does not count");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads can be started");
    pool.broadcast(|_| ()); // a thread that is still starting allocates
    let operators = operators();
    assert!(operators.len() > 100, "{} operators", operators.len());
    let allocating = operators.iter().map(|(name, net)| (name, allocations(net, Threads::Seq)));
    let allocating: Vec<(&String, usize)> = allocating.filter(|(_, count)| *count > 0).collect();
    assert!(allocating.is_empty(), "{allocating:?}");
    for graph in graphs() {
        for layout in [Layout::Nchw, Layout::Nchw16c] {
            let options = NetOptions::default().batch(2).max_threads(2).layout(layout);
            let net = CompiledNet::new(&graph, &common::weights(&graph), &options).expect("a valid network");
            assert_eq!(allocations(&net, Threads::Seq), 0, "{} in {layout}", graph.name());
            let inside = pool.install(|| allocations(&net, Threads::Current));
            assert_eq!(inside, 0, "{} in {layout} inside a pool", graph.name());
        }
    }
}
