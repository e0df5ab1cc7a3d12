//! Counts allocations: a step of training allocates nothing, for networks with every kind of layer, alone and in a pool.

#[path = "../../kernels/tests/counting/mod.rs"]
mod counting;
mod train_common;

use counting::counted;
use kernels::{Layout, Threads};
use nets::train::{Recompute, TrainNet, TrainOptions};
use nets::{Graph, Shape, zoo};
use train_common::{descend, labels, noise, weights};

fn allocations(net: &mut TrainNet, threads: Threads<'_>, classes: usize) -> usize {
    let (images, labels) = (noise(net.batch() * net.input().len().unwrap(), 3), labels(net.batch(), classes));
    counted(&mut || {
        descend(net, &images, &labels, 1e-6, threads);
        net.evaluate(&images, &labels, threads).unwrap();
    })
}

fn graphs() -> Vec<Graph> {
    let of = |name: &str, input| zoo::find(name).and_then(|entry| entry.graph_for(input)).expect("it fits");
    vec![
        of("lenet5", Shape::map(1, 32, 32)),
        of("lenet5-1998", Shape::map(1, 32, 32)),
        of("alexnet", Shape::map(3, 67, 67)),
        of("googlenet-aux", Shape::map(3, 96, 96)),
        of("resnet20-cifar", Shape::map(3, 32, 32)),
        of("densenet121", Shape::map(3, 32, 32)),
        of("mobilenet-v2", Shape::map(3, 64, 64)),
        of("efficientnet-b0", Shape::map(3, 64, 64)),
    ]
}

/// A single test, because another test in this process would allocate during the count.
fn main() {
    assert!(counted(&mut || drop(std::hint::black_box(vec![1u8; 100]))) > 0, "the counter does not count");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads can be started");
    pool.broadcast(|_| ()); // a thread that is still starting allocates
    for graph in graphs() {
        for (layout, recompute) in [
            (Layout::Nchw, Recompute::Nothing),
            (Layout::Nchw16c, Recompute::Cheap),
            (Layout::Nchw, Recompute::Blocks),
        ] {
            let options = TrainOptions::default().batch(2).max_threads(2).layout(layout).survival(0.8);
            let options = options.recompute(recompute);
            let mut net = TrainNet::new(&graph, &weights(&graph, 7), &options).expect("a valid network");
            let classes = graph.output().channels();
            assert_eq!(allocations(&mut net, Threads::Seq, classes), 0, "{} in {layout}", graph.name());
            let inside = pool.install(|| allocations(&mut net, Threads::Current, classes));
            assert_eq!(inside, 0, "{} in {layout} inside a pool", graph.name());
        }
    }
}
