//! The residual blocks of a network, for stochastic depth.

use crate::graph::{Graph, NodeId};
use crate::layer::Layer;

/// A residual block: a sum of a branch and a shortcut around it.
#[derive(Debug, PartialEq)]
pub(super) struct ResidualBlock {
    /// The sum.
    pub(super) add: NodeId,
    /// The last layer of the branch.
    pub(super) branch: NodeId,
    /// By node: whether it belongs to the branch alone.
    pub(super) inside: Vec<bool>,
}

/// Finds the residual blocks, in the order of the graph. The branch is the input of the sum with more layers of its own, and
/// nothing else reads these layers.
pub(super) fn residual_blocks(graph: &Graph) -> Vec<ResidualBlock> {
    let sums = graph.ids().filter(|(_, node)| node.layer == Layer::Add && node.inputs.len() == 2);
    sums.filter_map(|(add, node)| block(graph, add, [node.inputs[0], node.inputs[1]])).collect()
}

fn block(graph: &Graph, add: NodeId, inputs: [NodeId; 2]) -> Option<ResidualBlock> {
    let [a, b] = inputs.map(|input| graph.ancestors(&[input]));
    let own = |of: &[bool], without: &[bool]| -> Vec<bool> {
        of.iter().zip(without).map(|(inside, shared)| *inside && !shared).collect()
    };
    let convolutions = |inside: &[bool]| {
        let nodes = graph.nodes().iter().zip(inside).filter(|(_, inside)| **inside);
        nodes.filter(|(node, _)| matches!(node.layer, Layer::Conv(_) | Layer::Linear(_))).count()
    };
    let (of_a, of_b) = (own(&a, &b), own(&b, &a));
    let (branch, inside) =
        if convolutions(&of_a) >= convolutions(&of_b) { (inputs[0], of_a) } else { (inputs[1], of_b) };
    let leaves = |(id, node): (NodeId, &crate::graph::Node)| {
        !inside[id.index()] && id != add && node.inputs.iter().any(|input| inside[input.index()])
    };
    let found = convolutions(&inside) > 0 && !graph.ids().any(leaves);
    found.then_some(ResidualBlock { add, branch, inside })
}

/// The probability that block `number` of `count` is kept, from 1 on (Huang et al. 2016, eq. 4).
pub(super) fn survival(number: usize, count: usize, last: f32) -> f32 {
    1.0 - (number + 1) as f32 / count as f32 * (1.0 - last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo;

    #[test]
    fn every_block_of_a_residual_network_is_found() {
        for (name, blocks) in [
            ("resnet20-cifar", 9),
            ("resnet18", 8),
            ("resnet50", 16),
            ("plain20-cifar", 0),
            ("mobilenet-v2", 10),
        ] {
            let graph = zoo::find(name).and_then(zoo::Entry::graph).unwrap();
            let found = residual_blocks(&graph);
            assert_eq!(found.len(), blocks, "{name}");
            for block in found {
                assert!(block.inside[block.branch.index()], "{name}");
            }
        }
    }

    #[test]
    fn survival_falls_to_that_of_the_last_block() {
        assert_eq!([survival(0, 4, 0.5), survival(3, 4, 0.5), survival(2, 3, 1.0)], [0.875, 0.5, 1.0]);
    }
}
