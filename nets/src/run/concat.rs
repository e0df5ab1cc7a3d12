//! Concatenations: the sources become parts of one tensor, copied only where they cannot be written there.

use super::lower::{Arg, Lowering, Op, Seen, Work};
use super::storage::{Storages, Value};
use crate::graph::{Node, NodeId};
use crate::shape::Shape;
use kernels::Layout;
use std::ops::Range;

impl Lowering<'_> {
    /// The sources become channel ranges of the result. A source with its own memory is placed there
    /// directly, and so are sources that lie next to each other already, so that nothing is copied. Any other
    /// source, such as the caller's input, is copied.
    pub(super) fn concat(&mut self, id: NodeId, node: &Node, shape: Shape) -> usize {
        let sources: Vec<Seen> = node.inputs.iter().map(|&id| self.at(id)).collect();
        let wanted = sources.iter().map(|&source| self.kept(source));
        let wanted = if wanted.into_iter().any(|layout| layout == Layout::Nchw16c) {
            Layout::Nchw16c
        } else {
            Layout::Nchw
        };
        let starts = sources.iter().scan(0, |channel, source| {
            *channel += source.shape.channels();
            Some(*channel - source.shape.channels())
        });
        let starts: Vec<usize> = starts.collect();
        let aligned = starts.iter().all(|&channel| Storages::is_aligned(wanted, channel));
        let layout = if aligned { wanted } else { Layout::Nchw };
        let whole = self.storages.add(Value { shape: shape.batched(self.batch), layout });
        let args: Vec<Arg> = sources.iter().map(|&source| self.demand(source, layout)).collect();
        // A fully connected layer that trains reads vectors without gaps, so they are copied.
        let moves = !self.training || matches!(shape, Shape::Map { .. });
        let placed = if moves { self.longest_run(&args) } else { 0..0 };
        if !placed.is_empty() {
            self.storages.join(whole, args[placed.start].value, -(starts[placed.start] as isize));
        }
        for (index, (arg, channel)) in args.iter().zip(starts).enumerate() {
            if placed.contains(&index) {
                continue;
            }
            let once = args.iter().filter(|other| other.value == arg.value).count() == 1;
            let part = if moves && once && self.can_move(arg, whole) {
                arg.value
            } else {
                self.part(*arg, whole, layout)
            };
            self.storages.join(part, whole, channel as isize);
        }
        self.ops.push(Op { work: Work::View, node: id, reads: Vec::new(), write: None });
        whole
    }

    /// The longest run of `args` that lie next to each other already, with room before and after it for the others.
    ///
    /// In a dense block every concatenation begins with the one before it. It takes over the memory of the earlier one
    /// and adds to it, so that the whole block is one tensor and nothing is copied.
    fn longest_run(&self, args: &[Arg]) -> Range<usize> {
        let is_placed = |arg: &Arg| {
            let Value { shape, layout } = self.storages.value(arg.value);
            (shape, layout) == (arg.shape, arg.layout) && self.is_free(arg.value)
        };
        let has_room = |run: &Range<usize>| {
            let (low, _) = self.storages.is_at_edge(args[run.start].value);
            let (_, high) = self.storages.is_at_edge(args[run.end - 1].value);
            (run.start == 0 || low) && (run.end == args.len() || high)
        };
        let (mut longest, mut start) = (0..0, 0);
        for end in 1..=args.len() {
            let goes_on = args.get(end).is_some_and(|next| {
                is_placed(next) && self.storages.follows(args[end - 1].value, next.value)
            });
            if goes_on && is_placed(&args[start]) {
                continue;
            }
            let run = start..end;
            if is_placed(&args[start]) && run.len() > longest.len() && has_room(&run) {
                longest = run;
            }
            start = end;
        }
        longest
    }

    /// Whether the memory of `arg` can become a part of `whole`.
    fn can_move(&self, arg: &Arg, whole: usize) -> bool {
        let Value { shape, layout } = self.storages.value(arg.value);
        let as_it_is = (shape, layout) == (arg.shape, arg.layout);
        let (own, other) = (self.storages.of(arg.value), self.storages.of(whole));
        self.is_free(arg.value)
            && as_it_is
            && own != other
            && self.storages.is_alone(arg.value)
            && !(self.batch > 1 && self.would_read_what_it_writes(own, other))
    }

    /// Whether the memory of a value can become a part of another value. The caller's memory cannot. With several images
    /// a part has gaps, which operators on tensors do not know.
    fn is_free(&self, value: usize) -> bool {
        let is_given = self.inputs.contains(&value);
        !is_given && (self.batch == 1 || !self.storages.is_pinned(value))
    }

    /// Whether an operation would read and write the same storage after these two are joined. With one image
    /// the parts are separate in memory; with several, the parts of different images alternate.
    fn would_read_what_it_writes(&self, a: usize, b: usize) -> bool {
        let inside = |value: usize| [a, b].contains(&self.storages.of(value));
        self.ops.iter().any(|op| op.write.is_some_and(inside) && op.reads.iter().any(|arg| inside(arg.value)))
    }

    /// Places a copy of `arg` in `whole`.
    fn part(&mut self, arg: Arg, whole: usize, layout: Layout) -> usize {
        let inside = self.storages.of(arg.value) == self.storages.of(whole);
        if self.batch > 1 && inside {
            let value = self.copy(arg, layout);
            return self.copy(Arg { value, ..arg }, layout);
        }
        self.copy(arg, layout)
    }
}
