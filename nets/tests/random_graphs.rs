//! Random networks of branches, concatenations, sums and views compute what plain loops compute, independent
//! of fusion, merging, shared memory and layouts.

mod common;

use kernels::{Activation, Pad2};
use nets::{Conv, Graph, GraphBuilder, Layer, Linear, Lrn, NetOptions, NodeId, Norm, Pool, Shape};

/// Knuth's MMIX generator.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % end
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }
}

const CHANNELS: [usize; 6] = [3, 8, 16, 16, 32, 40];

/// A network of maps with equal height and width, so that almost any two nodes can be joined.
fn graph(random: &mut Random) -> Graph {
    let input = Shape::map(random.of(&CHANNELS), 4, 3);
    let mut net = GraphBuilder::new("random", input);
    let mut nodes = vec![net.last()];
    for number in 0..4 + random.below(14) {
        // Later nodes are more likely, which leads to chains.
        let from = |random: &mut Random, nodes: &[NodeId]| match random.below(3) {
            0 => nodes[nodes.len() - 1],
            _ => nodes[random.below(nodes.len())],
        };
        let source = from(random, &nodes);
        let name = format!("n{number}");
        net.at(source);
        match random.below(10) {
            0..=3 => {
                let kernel = random.of(&[1, 1, 3]);
                net.then(&name, Conv::new(random.of(&CHANNELS), kernel).pad(kernel / 2));
                if random.below(3) == 0 {
                    net.then(&format!("{name}.bn"), Norm::batch());
                }
                if random.below(3) > 0 {
                    net.act(random.of(&[
                        Activation::Relu,
                        Activation::Relu,
                        Activation::Tanh,
                        Activation::PRelu,
                    ]));
                }
            }
            4 | 5 => {
                let others: Vec<NodeId> = (0..random.below(3)).map(|_| from(random, &nodes)).collect();
                let wide =
                    others.iter().chain([&source]).map(|&id| net.shape(id).channels()).sum::<usize>() > 200;
                let sources = if wide { vec![source] } else { [&[source], &others[..]].concat() };
                net.add(&name, Layer::Concat, &sources);
            }
            6 => {
                let shape = net.shape(source);
                let same: Vec<NodeId> = nodes.iter().copied().filter(|&id| net.shape(id) == shape).collect();
                let addends = [source, random.of(&same)];
                net.add(&name, Layer::Add, &addends);
            }
            7 => _ = net.then(&name, Pool::max(3, 1).pad(1)),
            8 => {
                let layer = random.of(&[
                    Layer::Dropout,
                    Activation::Relu.into(),
                    Norm::batch().into(),
                    Lrn { size: 3, alpha: 0.5, beta: 0.75, k: 2.0 }.into(),
                    Layer::Scale { scale: true, shift: true },
                ]);
                net.then(&name, layer);
            }
            _ => {
                let channels = net.shape(source).channels();
                net.then(&name, Layer::ShortcutA { stride: 1, channels: channels + random.below(20) });
            }
        }
        nodes.push(net.last());
    }
    match random.below(4) {
        0 => _ = net.then("flatten", Layer::Flatten).then("fc", Linear::new(9)),
        1 => {
            _ = net
                .then("pool", Pool::global_average())
                .then("flatten", Layer::Flatten)
                .then("soft", Layer::Softmax)
        }
        2 => _ = net.then("pad", Layer::Pad(Pad2 { top: 1, bottom: 0, left: 0, right: 2 })),
        _ => {}
    }
    net.build().unwrap()
}

#[test]
fn random_networks_agree_with_plain_loops() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let graph = graph(&mut random);
        let options = NetOptions::default().batch(1 + random.below(3));
        let checked = std::panic::catch_unwind(|| common::check(&graph, &options));
        assert!(checked.is_ok(), "seed {seed}, {options:?}: {:#?}", graph.nodes());
    }
}
