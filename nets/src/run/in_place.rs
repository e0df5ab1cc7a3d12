//! Elementwise operations write over their first operand if nothing reads it afterwards. The tensor then passes through
//! the caches once.

use super::lower::{Arg, Op, Program, Work};
use crate::graph::Graph;
use crate::layer::Layer;

/// Gives every operation that can work in place the memory of its first operand.
pub(super) fn in_place(graph: &Graph, program: &mut Program) {
    for index in 0..program.ops.len() {
        if let Some((read, write)) = pair(graph, program, index) {
            program.storages.join(write, read, 0);
        }
    }
}

/// The value that the operation reads first and the value that it writes, if they can be in the same memory.
fn pair(graph: &Graph, program: &Program, index: usize) -> Option<(usize, usize)> {
    let Program { ops, storages, .. } = program;
    let Op { work: Work::Layers(layers), reads, write: Some(write), .. } = &ops[index] else { return None };
    let works_in_place = matches!(
        graph.node(layers[0].nodes[0]).layer,
        Layer::Mul | Layer::Add | Layer::Activation(_) | Layer::Softmax
    );
    let (first, others) = reads.split_first()?;
    let own = storages.of(first.value);
    let inside = |arg: &Arg| storages.of(arg.value) == own;
    let is_free = ![own, storages.of(*write)]
        .iter()
        .any(|&storage| program.input_in(storage).is_some() || program.output_in(storage).is_some());
    let is_last =
        !others.iter().any(inside) && !ops[index + 1..].iter().any(|op| op.reads.iter().any(inside));
    let fits = works_in_place && is_free && is_last && first.is_same(storages, *write);
    fits.then_some((first.value, *write))
}
