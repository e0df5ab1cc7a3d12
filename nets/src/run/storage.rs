//! Which tensors share memory: the parts of a concatenation and of a merged convolution are ranges of the channels of
//! one wider tensor.

use super::layout::BLOCK;
use kernels::{Layout, Pitch, Shape4};
use std::ops::Range;

/// A tensor between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) shape: Shape4,
    pub(super) layout: Layout,
}

/// A tensor's place among the channels of its storage.
#[derive(Debug, Clone, Copy)]
struct Home {
    storage: usize,
    channel: isize,
}

/// The storage of each value, by number.
#[derive(Debug, Default)]
pub(super) struct Storages {
    values: Vec<Value>,
    homes: Vec<Home>,
    /// The channels of each storage, by its own count; empty once it has been joined to another.
    channels: Vec<Range<isize>>,
}

impl Storages {
    /// A new value with a storage of its own.
    pub(super) fn add(&mut self, value: Value) -> usize {
        let channels = value.shape.c as isize;
        self.values.push(value);
        self.homes.push(Home { storage: self.channels.len(), channel: 0 });
        self.channels.push(0..channels);
        self.values.len() - 1
    }

    pub(super) fn value(&self, value: usize) -> Value {
        self.values[value]
    }

    /// How many storages there ever were: their numbers are below this.
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    /// The storage that a value is in.
    pub(super) fn of(&self, value: usize) -> usize {
        self.homes[value].storage
    }

    fn span(&self, value: usize) -> Range<isize> {
        let start = self.homes[value].channel;
        start..start + self.values[value].shape.c as isize
    }

    /// Whether nothing lies beside a value in its storage.
    pub(super) fn is_alone(&self, value: usize) -> bool {
        self.channels[self.of(value)] == self.span(value)
    }

    /// Whether nothing lies before a value, and whether nothing lies behind it.
    pub(super) fn is_at_edge(&self, value: usize) -> (bool, bool) {
        let (all, own) = (&self.channels[self.of(value)], self.span(value));
        (own.start == all.start, own.end == all.end)
    }

    /// Whether a tensor of this layout can begin at such a channel of another.
    pub(super) fn is_aligned(layout: Layout, channel: usize) -> bool {
        layout == Layout::Nchw || channel.is_multiple_of(BLOCK)
    }

    /// Moves the storage of `value` into that of `target`, so that `value` begins `channel` channels after it (before
    /// it, if negative).
    pub(super) fn join(&mut self, value: usize, target: usize, channel: isize) {
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

    /// Elements of a storage of values like `value`, and of one image of it.
    pub(super) fn len_of(&self, value: usize) -> (usize, usize) {
        let Value { shape, layout } = self.values[value];
        let channels = self.channels[self.of(value)].len();
        let image = channels.next_multiple_of(block(layout)) * shape.h * shape.w;
        (shape.n * image, image)
    }

    /// Where in its storage a value is: from its first element to its last.
    pub(super) fn range(&self, value: usize) -> Range<usize> {
        let Value { shape, layout } = self.values[value];
        let (_, image) = self.len_of(value);
        let before = (self.homes[value].channel - self.channels[self.of(value)].start) as usize;
        let start = before * shape.h * shape.w;
        let own = shape.c.next_multiple_of(block(layout)) * shape.h * shape.w;
        start..start + (shape.n - 1) * image + own
    }

    /// The distances of a value.
    pub(super) fn pitch(&self, value: usize) -> Pitch {
        Pitch { image: self.len_of(value).1, pixel: block(self.values[value].layout) }
    }
}

/// Neighbouring channels of a pixel.
fn block(layout: Layout) -> usize {
    if layout == Layout::Nchw16c { BLOCK } else { 1 }
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
