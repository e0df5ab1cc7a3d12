//! Tensors that share memory: the parts of a concatenation and of a merged convolution are channel ranges of
//! one wider tensor.

use super::layout::BLOCK;
use kernels::{Layout, Pitch, Shape4};
use std::collections::HashSet;
use std::ops::Range;

/// A tensor between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) shape: Shape4,
    pub(crate) layout: Layout,
}

/// The position of a tensor among the channels of its storage.
#[derive(Debug, Clone, Copy)]
struct Home {
    storage: usize,
    channel: isize,
}

/// The storage of each value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Storages {
    values: Vec<Value>,
    homes: Vec<Home>,
    /// The values without gaps between images.
    pinned: HashSet<usize>,
    /// The channel range of each storage, in its own coordinates; empty after the storage has been joined to another.
    channels: Vec<Range<isize>>,
}

impl Storages {
    /// Adds a value with a storage of its own.
    pub(crate) fn add(&mut self, value: Value) -> usize {
        let channels = value.shape.c as isize;
        self.values.push(value);
        self.homes.push(Home { storage: self.channels.len(), channel: 0 });
        self.channels.push(0..channels);
        self.values.len() - 1
    }

    /// Says that an operation reads or writes a value as one row, so that nothing can lie between its images.
    pub(super) fn pin(&mut self, value: usize) {
        self.pinned.insert(value);
    }

    pub(super) fn is_pinned(&self, value: usize) -> bool {
        self.pinned.contains(&value)
    }

    pub(crate) fn value(&self, value: usize) -> Value {
        self.values[value]
    }

    /// Sets the layout of a value that is alone in its storage.
    pub(crate) fn set_layout(&mut self, value: usize, layout: Layout) {
        debug_assert!(self.is_alone(value), "a part of another tensor");
        self.values[value].layout = layout;
    }

    /// Number of storages that were ever created, an upper bound of their indices.
    pub(crate) fn len(&self) -> usize {
        self.channels.len()
    }

    /// Number of values.
    pub(crate) fn values(&self) -> usize {
        self.values.len()
    }

    /// The storage of a value.
    pub(crate) fn of(&self, value: usize) -> usize {
        self.homes[value].storage
    }

    /// The channels of a value in its storage.
    pub(crate) fn span(&self, value: usize) -> Range<isize> {
        let start = self.homes[value].channel;
        start..start + self.values[value].shape.c as isize
    }

    /// Whether a value fills its storage.
    pub(crate) fn is_alone(&self, value: usize) -> bool {
        self.channels[self.of(value)] == self.span(value)
    }

    /// Whether a value is at the start, and whether it is at the end of its storage.
    pub(crate) fn is_at_edge(&self, value: usize) -> (bool, bool) {
        let (all, own) = (&self.channels[self.of(value)], self.span(value));
        (own.start == all.start, own.end == all.end)
    }

    /// Whether `next` begins where `value` ends.
    pub(crate) fn follows(&self, value: usize, next: usize) -> bool {
        self.of(value) == self.of(next) && self.span(value).end == self.span(next).start
    }

    /// Whether a tensor in this layout can begin at this channel of another tensor.
    pub(crate) fn is_aligned(layout: Layout, channel: usize) -> bool {
        layout == Layout::Nchw || channel.is_multiple_of(BLOCK)
    }

    /// Moves the storage of `value` into the storage of `target`, so that `value` begins `channel` channels after
    /// the start of `target`, or before it if `channel` is negative.
    pub(crate) fn join(&mut self, value: usize, target: usize, channel: isize) {
        let (old, new) = (self.of(value), self.of(target));
        debug_assert!(old != new, "joined to itself");
        let shift = self.homes[target].channel + channel - self.homes[value].channel;
        for home in self.homes.iter_mut().filter(|home| home.storage == old) {
            *home = Home { storage: new, channel: home.channel + shift };
        }
        let Range { start, end } = std::mem::take(&mut self.channels[old]);
        let all = &mut self.channels[new];
        *all = all.start.min(start + shift)..all.end.max(end + shift);
    }

    /// The number of elements of a value's storage, and of one image of it.
    pub(crate) fn len_of(&self, value: usize) -> (usize, usize) {
        let Value { shape, layout } = self.values[value];
        let channels = self.channels[self.of(value)].len();
        let image = elements(layout, channels) * shape.h * shape.w;
        (shape.n * image, image)
    }

    /// The range of a value in its storage, from its first to its last element.
    pub(crate) fn range(&self, value: usize) -> Range<usize> {
        self.range_of(value, &self.span(value))
    }

    /// The range of some channels of a value's storage, from their first to their last element. In blocks of channels, the first
    /// one begins a block.
    pub(crate) fn range_of(&self, value: usize, channels: &Range<isize>) -> Range<usize> {
        let Value { shape, layout } = self.values[value];
        let (_, image) = self.len_of(value);
        let start = (channels.start - self.channels[self.of(value)].start) as usize * shape.h * shape.w;
        start..start + (shape.n - 1) * image + elements(layout, channels.len()) * shape.h * shape.w
    }

    /// The pitch of a value.
    pub(crate) fn pitch(&self, value: usize) -> Pitch {
        Pitch { image: self.len_of(value).1, pixel: block(self.values[value].layout) }
    }
}

/// Number of adjacent elements of a pixel.
fn block(layout: Layout) -> usize {
    if matches!(layout, Layout::Nchw16c | Layout::Nchw32cBf16) { BLOCK } else { 1 }
}

/// Elements of `channels` channels of a pixel.
fn elements(layout: Layout, channels: usize) -> usize {
    match layout {
        // Two numbers to an element.
        Layout::Nchw32cBf16 => channels.next_multiple_of(2 * BLOCK) / 2,
        _ => channels.next_multiple_of(block(layout)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_ranges_of_the_whole() {
        let mut storages = Storages::default();
        let mut value = |c| storages.add(Value { shape: Shape4::new(2, c, 3, 3), layout: Layout::Nchw16c });
        let (a, b, all, reduce) = (value(32), value(20), value(52), value(16));
        assert!(storages.is_alone(a));
        storages.join(a, all, 0);
        storages.join(b, all, 32);
        assert_eq!((storages.is_at_edge(a), storages.is_at_edge(b)), ((true, false), (false, true)));
        storages.join(reduce, a, -16);
        assert!(!storages.is_alone(all));
        assert_eq!(storages.len_of(all), (2 * 80 * 9, 80 * 9));
        assert_eq!(storages.range(reduce), 0..80 * 9 + 16 * 9);
        assert_eq!(storages.range(a), 16 * 9..80 * 9 + 48 * 9);
        assert_eq!(storages.range(all), 16 * 9..2 * 80 * 9);
    }
}
