//! Which tensors of a forward and a backward pass share memory, and how long each is needed.
//!
//! Steps are counted through both passes: operation `i` of `n` runs at step `i`, the loss at step `n`, and the gradient of
//! operation `i` at step `2 n - i`.
//!
//! Gradients have storages as values have: the gradient of a part of a concatenation is a part of the gradient of the whole.
//! A sum passes the gradient of its output on to all inputs. Their gradients share its memory where that changes no number
//! that is read later, so nothing is copied along a residual network.

use super::needs::{Needed, is_by_output, layer_of};
use super::recompute::{Recomputed, reads_backward};
use crate::error::NetError;
use crate::graph::{Graph, NodeId};
use crate::layer::Layer;
use crate::run::arena::{self, Need};
use crate::run::lower::{Arg, INPUT, Op, Program, Work};
use crate::run::operand::{Operand, Place};
use crate::run::places::Places;
use crate::run::storage::Storages;
use crate::train::TrainOptions;
use kernels::{Activation, Shape4};
use std::ops::Range;

/// The memory of a network that trains.
pub(super) struct Memory {
    values: Storages,
    gradients: Storages,
    places: Places,
    gradient_places: Places,
    recomputed: Recomputed,
    /// Elements of the arena.
    pub(super) len: usize,
}

/// How the gradients of an operation's inputs are written.
#[derive(Debug, Clone, Default)]
pub(super) struct Writes {
    /// For each input: nothing if its gradient is not needed or shares the memory of the output's gradient. Otherwise,
    /// whether it is added.
    pub(super) adds: Vec<Option<bool>>,
    /// Channels of the gradient of an input that are set to zero first, because only others were written before.
    pub(super) zeros: Vec<(usize, Range<isize>)>,
}

/// Lets elementwise operations write over their first input where nothing reads it afterwards. It can become another input
/// of a sum, whose order does not matter except at the end of a residual block, in `blocks`.
pub(super) fn share_values(graph: &Graph, program: &mut Program, needed: &Needed, blocks: &[NodeId]) {
    for index in 0..program.ops.len() {
        let op = &program.ops[index];
        let (Some(layer), Some(write)) = (layer_of(graph, op), op.write) else { continue };
        let candidates = match layer {
            Layer::Add if !blocks.contains(&op.node) => op.reads.len(),
            Layer::Add => 1,
            Layer::Activation(activation) if is_by_output(*activation) => 1,
            _ => continue,
        };
        let Some(first) = (0..candidates).find(|&k| is_free(graph, program, needed, (index, k))) else {
            continue;
        };
        let Program { ops, storages, .. } = program;
        ops[index].reads.swap(0, first);
        storages.join(write, ops[index].reads[0].value, 0);
    }
}

/// Whether an operation can write over its input `k`.
fn is_free(graph: &Graph, program: &Program, needed: &Needed, (index, k): (usize, usize)) -> bool {
    let Program { ops, storages, outputs, .. } = program;
    let (arg, Some(write)) = (&ops[index].reads[k], ops[index].write) else { return false };
    let own = storages.of(arg.value);
    let is_special = |value: usize| storages.of(value) == own || value == write;
    let others_read = |(i, op): (usize, &Op)| {
        op.reads.iter().enumerate().any(|(j, other)| (i, j) != (index, k) && storages.of(other.value) == own)
    };
    let is_kept =
        |op: &Op| op.write.is_some_and(|value| storages.of(value) == own) && needed.keeps(graph, op).output;
    arg.is_same(storages, write)
        && !is_special(INPUT)
        && !outputs.iter().any(|&output| is_special(output))
        && !ops.iter().enumerate().any(others_read)
        && !ops.iter().any(is_kept)
}

/// Lets the gradients of inputs share the memory of the gradient of the output, where an operation passes it on unchanged or
/// changes it in place.
///
/// After that, the memory changes again where another reader of an input adds its gradient, and where the operation that
/// wrote an input changes the gradient in place. These changes must come later than the last use of the gradients of the
/// other inputs. The backward pass is in reverse order, so later operations come first.
fn share_gradients(graph: &Graph, program: &Program, needed: &Needed, gradients: &mut Storages) {
    let Program { ops, outputs, .. } = program;
    for (index, op) in ops.iter().enumerate() {
        let (Some(layer), Some(write)) = (layer_of(graph, op), op.write) else { continue };
        let shared = match layer {
            Layer::Add => op.reads.len(),
            Layer::Dropout => 1,
            Layer::Activation(activation) if is_by_output(*activation) => 1,
            _ => continue,
        };
        for (k, arg) in op.reads.iter().enumerate().take(shared) {
            let repeated = op.reads.iter().enumerate().any(|(j, other)| j != k && other.value == arg.value);
            let is_output = outputs.iter().any(|&output| gradients.of(output) == gradients.of(arg.value));
            let fits = !repeated && !is_output && needed.value(arg.value) && arg.is_same(gradients, write);
            if !fits || gradients.of(arg.value) == gradients.of(write) {
                continue;
            }
            let uses = |value: usize| Uses::of(graph, ops, needed, gradients, (gradients.of(value), index));
            let (input, output) = (uses(arg.value), uses(write));
            if input.reads_end < index && input.allows(&output) && output.allows(&input) {
                gradients.join(arg.value, write, 0);
            }
        }
    }
}

/// The operations that use the gradients of a storage, other than the one that is looked at.
struct Uses {
    /// The last operation that reads a value of it, or 0.
    reads_end: usize,
    /// The last one, before the one that is looked at, that changes the memory in its backward pass.
    changes_end: Option<usize>,
    /// The first operation that wrote a value of it, which uses its gradient last.
    writes_start: Option<usize>,
}

impl Uses {
    fn of(
        graph: &Graph,
        ops: &[Op],
        needed: &Needed,
        gradients: &Storages,
        (storage, except): (usize, usize),
    ) -> Self {
        let inside = |value: usize| gradients.of(value) == storage;
        let mut uses = Self { reads_end: 0, changes_end: None, writes_start: None };
        for (index, op) in ops.iter().enumerate().filter(|&(index, op)| index != except && needed.op(op)) {
            let (reads, writes) =
                (op.reads.iter().any(|arg| inside(arg.value)), op.write.is_some_and(inside));
            if reads {
                uses.reads_end = index;
            }
            // The gradients of later operations are complete before.
            if index > except {
                continue;
            }
            if reads || (writes && changes_gradient(graph, op)) {
                uses.changes_end = Some(index);
            }
            if writes && uses.writes_start.is_none() {
                uses.writes_start = Some(index);
            }
        }
        uses
    }

    /// Whether the changes come after the last use of the other gradients.
    fn allows(&self, other: &Self) -> bool {
        match (self.changes_end, other.writes_start) {
            (Some(change), Some(last_use)) => change < last_use,
            _ => true,
        }
    }
}

/// Whether the backward pass of an operation changes the gradient of its output.
fn changes_gradient(graph: &Graph, op: &Op) -> bool {
    let Work::Layers(layers) = &op.work else { return false };
    let fused = layers[0].activation.is_some_and(|(_, activation)| activation != Activation::None);
    match &graph.node(layers[0].nodes[0]).layer {
        Layer::Norm(_) => false,
        Layer::Dropout | Layer::Activation(_) => true,
        _ => fused,
    }
}

/// Decides for each operation which gradients it writes first, and which it adds to.
fn writes(ops: &[Op], needed: &Needed, gradients: &Storages, outputs: &[usize]) -> Vec<Writes> {
    let mut written: Vec<Vec<Range<isize>>> = vec![Vec::new(); gradients.len()];
    outputs.iter().for_each(|&output| written[gradients.of(output)].push(gradients.span(output)));
    let mut all = vec![Writes::default(); ops.len()];
    for (op, writes) in ops.iter().zip(&mut all).rev().filter(|(op, _)| needed.op(op)) {
        for (k, arg) in op.reads.iter().enumerate() {
            let storage = gradients.of(arg.value);
            if !needed.value(arg.value) || op.write.is_some_and(|write| gradients.of(write) == storage) {
                writes.adds.push(None);
                continue;
            }
            let span = gradients.span(arg.value);
            let missing = uncovered(&written[storage], &span);
            let is_new = missing.len() == 1 && missing[0] == span;
            writes.adds.push(Some(!is_new));
            if !is_new {
                writes.zeros.extend(missing.into_iter().map(|channels| (k, channels)));
            }
            written[storage].push(span);
        }
    }
    all
}

/// The parts of `span` that no range of `written` covers.
fn uncovered(written: &[Range<isize>], span: &Range<isize>) -> Vec<Range<isize>> {
    let mut sorted: Vec<&Range<isize>> = written.iter().collect();
    sorted.sort_by_key(|range| range.start);
    let (mut start, mut missing) = (span.start, Vec::new());
    for range in sorted {
        let end = range.start.min(span.end);
        if end > start {
            missing.push(start..end);
        }
        start = start.max(range.end);
    }
    if start < span.end {
        missing.push(start..span.end);
    }
    missing
}

impl Memory {
    /// Places all tensors, and decides how gradients are written.
    pub(super) fn new(
        graph: &Graph,
        program: &Program,
        needed: &Needed,
        recomputed: Recomputed,
    ) -> (Self, Vec<Writes>) {
        let Program { ops, storages, outputs, .. } = program;
        let mut gradients = needed.gradients.clone();
        share_gradients(graph, program, needed, &mut gradients);
        let writes = writes(ops, needed, &gradients, outputs);
        let mut lives = Lives::new(storages, &gradients);
        let loss = ops.len();
        for (step, op) in ops.iter().enumerate() {
            op.reads.iter().map(|arg| arg.value).chain(op.write).for_each(|value| lives.value(value, step));
            if !needed.op(op) {
                continue;
            }
            let back = 2 * loss - step;
            let again = recomputed.before[step].iter().map(|&index| &ops[index]);
            let again = again.flat_map(|op| op.reads.iter().map(|arg| arg.value).chain(op.write));
            let read = reads_backward(graph, op, needed).into_iter();
            again.chain(read).for_each(|value| lives.value(recomputed.saved(value), back));
            let inputs = op.reads.iter().map(|arg| arg.value).filter(|&value| needed.value(value));
            inputs.chain(op.write).for_each(|value| lives.gradient(value, back));
        }
        for &output in outputs {
            lives.value(output, loss);
            lives.gradient(output, loss);
        }
        let (mut offsets, len) = arena::assign(&lives.needs);
        let gradient_offsets = offsets.split_off(storages.len());
        let memory = Self {
            values: storages.clone(),
            places: Places { offsets, len, inputs: vec![storages.of(INPUT)], outputs: Vec::new() },
            gradient_places: Places {
                offsets: gradient_offsets,
                len,
                inputs: vec![gradients.of(INPUT)],
                outputs: Vec::new(),
            },
            gradients,
            recomputed,
            len,
        };
        (memory, writes)
    }

    /// A value as an operation reads it.
    pub(super) fn source(&self, arg: &Arg) -> Operand {
        self.places.operand(&self.values, arg)
    }

    /// A value as an operation writes it.
    pub(super) fn target(&self, value: usize) -> Operand {
        self.places.target(&self.values, None, value)
    }

    /// What an operation reads and writes in the reverse pass, if any of it was computed again.
    pub(super) fn saved(&self, op: &Op, write: usize) -> Option<(Vec<Operand>, Operand)> {
        let saved = |arg: &Arg| self.source(&Arg { value: self.recomputed.saved(arg.value), ..*arg });
        let sources = op.reads.iter().map(saved).collect();
        (!self.recomputed.is_empty()).then(|| (sources, self.target(self.recomputed.saved(write))))
    }

    /// The operations that run again before the backward pass of an operation.
    pub(super) fn again_before(&self, op: usize) -> &[usize] {
        &self.recomputed.before[op]
    }

    /// The gradient of a value that an operation reads.
    pub(super) fn gradient_of(&self, arg: &Arg) -> Operand {
        self.gradient_places.operand(&self.gradients, arg)
    }

    /// The gradient of a value that an operation writes.
    pub(super) fn gradient(&self, value: usize) -> Operand {
        self.gradient_places.target(&self.gradients, None, value)
    }

    /// Some channels of the gradient of a value.
    pub(super) fn gradient_part(&self, value: usize, channels: &Range<isize>) -> Operand {
        let whole = self.gradient(value);
        let range = self.gradients.range_of(value, channels);
        let start = self.gradient_places.offsets[self.gradients.of(value)];
        Operand {
            place: Place::Arena(start + range.start..start + range.end),
            shape: Shape4 { c: channels.len(), ..whole.shape },
            ..whole
        }
    }

    /// An error if the arena is larger than the options allow.
    pub(super) fn check(&self, graph: &Graph, options: &TrainOptions) -> Result<(), NetError> {
        let needed = (self.len as u64).saturating_mul(size_of::<f32>() as u64);
        if needed <= options.memory_limit {
            return Ok(());
        }
        let what =
            format!("activations and gradients of network `{}` for {} images", graph.name(), options.batch);
        Err(NetError::TooLarge { what, limit: options.memory_limit, needed })
    }
}

/// The lifetimes of all storages: those of values, and then those of gradients.
struct Lives<'a> {
    values: &'a Storages,
    gradients: &'a Storages,
    needs: Vec<Option<Need>>,
}

impl<'a> Lives<'a> {
    fn new(values: &'a Storages, gradients: &'a Storages) -> Self {
        Self { values, gradients, needs: vec![None; values.len() + gradients.len()] }
    }

    fn value(&mut self, value: usize, step: usize) {
        if self.values.of(value) != self.values.of(INPUT) {
            self.extend(self.values.of(value), self.values.len_of(value).0, step);
        }
    }

    fn gradient(&mut self, value: usize, step: usize) {
        let storage = self.values.len() + self.gradients.of(value);
        self.extend(storage, self.gradients.len_of(value).0, step);
    }

    fn extend(&mut self, storage: usize, len: usize, step: usize) {
        let need = self.needs[storage].get_or_insert(Need { len, first: step, last: step });
        need.first = need.first.min(step);
        need.last = need.last.max(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_of_a_range_is_found() {
        let written = [4..8, 0..2, 6..10];
        assert_eq!(uncovered(&written, &(0..12)), [2..4, 10..12]);
        assert_eq!(uncovered(&written, &(4..9)), []);
        assert_eq!(uncovered(&[], &(3..5)), vec![3..5; 1]);
        assert_eq!(uncovered(&written, &(10..11)), vec![10..11; 1]);
    }
}
