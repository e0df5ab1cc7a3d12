//! What the reverse pass computes again.

use super::memory::share_values;
use super::needs::Needed;
use super::recompute::Recomputed;
use crate::run::layout;
use crate::run::lower::{Wanted, lower_for_training};
use crate::train::Recompute;
use crate::train::parameter::Params;
use crate::weights::{Init, SeededWeights};
use crate::zoo;

/// The layers whose outputs are computed again, and the layer before whose backward pass that happens.
fn of(name: &str, wanted: Recompute) -> Vec<(String, String)> {
    let graph = zoo::find(name).and_then(zoo::Entry::graph).unwrap();
    let outputs = [graph.output_id()];
    let lowered =
        Wanted { batch: 2, layout: Some(layout::of_network(&graph)), outputs: &outputs, drops: true };
    let mut program = lower_for_training(&graph, &lowered).unwrap();
    let weights = SeededWeights::new(&graph, Init::He, 0).unwrap();
    let params = Params::new(&graph, &weights, &[], |_| true).unwrap();
    let needed = Needed::new(&graph, &program, &params);
    share_values(&graph, &mut program, &needed, &[]);
    let plan = Recomputed::find(&graph, &mut program, &needed, wanted);
    let name = |index: usize| graph.node(program.ops[index].node).name.clone();
    let pairs = plan.before.iter().enumerate();
    pairs
        .flat_map(|(at, again)| again.iter().map(move |&index| (index, at)))
        .map(|(index, at)| (name(index), name(at)))
        .collect()
}

fn of_block(again: &[(String, String)], block: &str) -> Vec<(String, String)> {
    again.iter().filter(|(layer, _)| layer.starts_with(block)).cloned().collect()
}

#[test]
fn a_residual_network_recomputes_the_normalisations_inside_its_blocks() {
    let again = of("resnet20-cifar", Recompute::Cheap);
    let pair = |layer: &str, at: &str| (layer.to_owned(), at.to_owned());
    assert_eq!(of_block(&again, "layer2.1."), [pair("layer2.1.bn1", "layer2.1.conv2")]);
    let blocks = of("resnet20-cifar", Recompute::Blocks);
    let layers = ["layer2.1.conv1", "layer2.1.bn1", "layer2.1.conv2"];
    assert_eq!(of_block(&blocks, "layer2.1."), layers.map(|layer| pair(layer, "layer2.1.bn2")));
    assert!(again.contains(&pair("bn1", "layer1.0.conv1")), "{again:?}");
}

#[test]
fn chains_are_recomputed_in_order() {
    let again = of("alexnet", Recompute::Cheap);
    let places = |layer: &str| again.iter().position(|(name, _)| name == layer);
    let (norm, pool) = (places("norm1").unwrap(), places("pool1").unwrap());
    assert!(norm < pool && again[norm].1 == again[pool].1, "{again:?}");
    assert_eq!(again[pool].1, "conv2");
}
