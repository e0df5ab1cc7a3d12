//! Which values the reverse pass computes again, so that their memory is free in between.
//!
//! A layer is cheap if it takes about as long as reading and writing its tensors. The output of a cheap layer is computed again
//! when its inputs are there anyway: because the reverse pass keeps them, or because they are computed again themselves. The
//! copy is a value of its own. It lives from the first operation of the reverse pass that reads it to the last one.
//!
//! ```text
//! forward:  conv -> x -> batch norm -> y -> conv          x is kept for the batch normalisation, y is not kept
//! reverse:          x -> batch norm -> y'-> gradient of the weights of the second conv, then of the batch normalisation
//! ```
//!
//! A residual block with a batch normalisation behind each of two convolutions then keeps three tensors instead of four (compare
//! Rota Bulo, Porzi and Kontschieder 2018). If its convolutions count as cheap too, it keeps only its output (Chen et al. 2016).

use super::blocks::residual_blocks;
use super::needs::{Needed, layer_of};
use crate::graph::Graph;
use crate::layer::Layer;
use crate::run::lower::{Arg, INPUT, Op, Program};
use crate::train::Recompute;
use std::collections::{HashMap, HashSet};

/// What the reverse pass computes again.
#[derive(Debug, Default)]
pub(super) struct Recomputed {
    /// The copy of each value that is computed again.
    copies: HashMap<usize, usize>,
    /// For each operation: those that run again before its backward pass, in order.
    pub(super) before: Vec<Vec<usize>>,
}

impl Recomputed {
    /// Finds the values, and adds their copies to `program`.
    pub(super) fn find(graph: &Graph, program: &mut Program, needed: &Needed, wanted: Recompute) -> Self {
        if wanted == Recompute::Nothing {
            return Self { before: vec![Vec::new(); program.ops.len()], ..Self::default() };
        }
        let blocks = if wanted == Recompute::Blocks { residual_blocks(graph) } else { Vec::new() };
        let is_inside = |op: &Op| blocks.iter().any(|block| block.inside[op.node.index()]);
        let kept = kept(graph, &program.ops, needed);
        let mut chosen: HashMap<usize, usize> = HashMap::new();
        for (index, op) in program.ops.iter().enumerate() {
            let Some(write) = op.write.filter(|write| kept.contains(write)) else { continue };
            let is_there = |arg: &Arg| {
                arg.value == INPUT || kept.contains(&arg.value) || chosen.contains_key(&arg.value)
            };
            let stays = |arg: &Arg| !is_overwritten(program, index, arg.value);
            if (is_cheap(graph, op) || (is_inside(op) && is_pure(graph, op)))
                && has_own_memory(program, write)
                && op.reads.iter().all(|arg| is_there(arg) && stays(arg))
            {
                chosen.insert(write, index);
            }
        }
        let mut plan = Self { before: vec![Vec::new(); program.ops.len()], ..Self::default() };
        let mut done = HashSet::new();
        for (index, op) in program.ops.iter().enumerate().rev() {
            for value in reads_backward(graph, op, needed) {
                require(&program.ops, &chosen, value, &mut done, &mut plan.before[index]);
            }
        }
        for value in done {
            let copy = program.storages.add(program.storages.value(value));
            plan.copies.insert(value, copy);
        }
        plan
    }

    /// The value that the reverse pass reads in the place of `value`.
    pub(super) fn saved(&self, value: usize) -> usize {
        self.copies.get(&value).copied().unwrap_or(value)
    }

    /// Whether there is nothing to compute again.
    pub(super) fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }
}

/// The values that the backward pass of an operation reads.
pub(super) fn reads_backward(graph: &Graph, op: &Op, needed: &Needed) -> Vec<usize> {
    let keeps = needed.keeps(graph, op);
    let reads = keeps.reads.iter().map(|&k| op.reads[k].value);
    reads.chain(op.write.filter(|_| keeps.output)).collect()
}

/// All values that the reverse pass reads.
fn kept(graph: &Graph, ops: &[Op], needed: &Needed) -> HashSet<usize> {
    ops.iter().flat_map(|op| reads_backward(graph, op, needed)).collect()
}

/// Computes a value again, and the values that it depends on, unless that is done.
fn require(
    ops: &[Op],
    chosen: &HashMap<usize, usize>,
    value: usize,
    done: &mut HashSet<usize>,
    again: &mut Vec<usize>,
) {
    let Some(&index) = chosen.get(&value).filter(|_| !done.contains(&value)) else { return };
    ops[index].reads.iter().for_each(|arg| require(ops, chosen, arg.value, done, again));
    done.insert(value);
    again.push(index);
}

fn is_cheap(graph: &Graph, op: &Op) -> bool {
    match layer_of(graph, op) {
        // A copy.
        None => true,
        Some(layer) => matches!(
            layer,
            Layer::Norm(_)
                | Layer::Lrn(_)
                | Layer::Activation(_)
                | Layer::Pool(_)
                | Layer::AdaptivePool(_)
                | Layer::FractionalPool(_)
                | Layer::Scale { .. }
                | Layer::Maxout { .. }
                | Layer::Add
                | Layer::Mul
                | Layer::Pad(_)
                | Layer::ShortcutA { .. }
                | Layer::Dropout
        ),
    }
}

/// Whether another layer computes the same each time it runs in a pass.
fn is_pure(graph: &Graph, op: &Op) -> bool {
    matches!(layer_of(graph, op), Some(Layer::Conv(_) | Layer::SparseConv(_) | Layer::Linear(_)))
}

/// Whether a value is no part of another one, shares its memory with none, and is not read by the caller.
fn has_own_memory(program: &Program, value: usize) -> bool {
    let Program { storages, outputs, .. } = program;
    let own = storages.of(value);
    let others = (0..storages.values()).any(|other| other != value && storages.of(other) == own);
    !others && storages.is_alone(value) && !outputs.contains(&value)
}

/// Whether an operation behind `index` writes over a value that it reads.
fn is_overwritten(program: &Program, index: usize, value: usize) -> bool {
    let Program { ops, storages, .. } = program;
    let own = storages.span(value);
    ops.iter().skip(index).filter_map(|op| op.write).any(|write| {
        let span = storages.span(write);
        storages.of(write) == storages.of(value) && span.start < own.end && own.start < span.end
    })
}
