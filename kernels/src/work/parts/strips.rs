//! Strips of a box: one axis is cut into strips, and some threads share each strip.

use super::{Axis, Cut, Sharing, SplitUnits};

/// A cut is even enough if the threads are busy 97 % of the time: 993 of 1024.
const EVEN: usize = 993;

/// Maximum number of strips of a grid. Every number is tried, so it bounds the time of planning for any number of threads.
const MOST_STRIPS: usize = 128;

/// Strips of a box along one axis. Some threads share each strip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Strips {
    pub(super) axis: Axis,
    pub(super) unit: usize,
    wide: SameStrips,
    narrow: SameStrips,
}

/// Strips that are shared by the same number of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SameStrips {
    count: usize,
    /// Maximum units of each strip.
    units: usize,
    /// Threads that share each strip.
    threads: usize,
}

impl Strips {
    fn count(&self) -> usize {
        self.wide.count + self.narrow.count
    }

    /// Units of all strips at most.
    fn capacity(&self) -> usize {
        self.wide.capacity().saturating_add(self.narrow.capacity())
    }

    /// Cuts a box of `len` elements between two strips. Each half gets units in proportion to its capacity, so no
    /// strip gets more units than its most.
    pub(super) fn halves(self, len: usize) -> Cut {
        let half = self.count() / 2;
        let wide = self.wide.count.min(half);
        let (mut first, mut second) = (self, self);
        (first.wide.count, first.narrow.count) = (wide, half - wide);
        (second.wide.count, second.narrow.count) =
            (self.wide.count - wide, self.narrow.count - (half - wide));
        let units = len.div_ceil(self.unit);
        let room = units as u128 * first.capacity() as u128;
        let left = room.div_ceil(self.capacity() as u128) as usize;
        Cut {
            axis: self.axis,
            count: left.min(units - 1).max(1) * self.unit,
            first: first.sharing(),
            second: second.sharing(),
        }
    }

    fn sharing(self) -> Sharing {
        let threads = self.wide.count * self.wide.threads + self.narrow.count * self.narrow.threads;
        Sharing { threads, strips: (self.count() > 1).then_some(self) }
    }
}

impl SameStrips {
    fn capacity(&self) -> usize {
        self.count.saturating_mul(self.units)
    }
}

/// The pairs of axes of a grid, as indices of [`SplitUnits::axes`]: the axis of the strips, and the axis along which
/// each strip is cut.
const GRIDS: [(usize, usize); 4] = [(0, 1), (0, 2), (2, 1), (1, 2)];

/// Chooses the strips for `threads` threads. The largest part takes as little time as one cut or a grid of cuts can
/// achieve, and an early candidate is preferred if it is even. Returns `None` if nothing can be cut.
///
/// ```text
/// for axis:                                       // images, then in the order of the units
///     as many strips as threads
/// for pair of axes, for number of strips:         // few cuts of the less preferred axis first
///     strips of one axis, each cut along the other axis by its share of the threads
/// ```
pub(super) fn best_strips(
    split_units: &SplitUnits,
    threads: usize,
    len: impl Fn(Axis) -> usize,
) -> Option<Strips> {
    let axes = split_units.axes().map(|(axis, unit)| AxisUnits::new(split_units, (axis, unit), len(axis)));
    let all = axes.iter().fold(1, |all: usize, axis| all.saturating_mul(axis.size(axis.units)));
    let strips = (0..3).map(|of| (of, None, axes[of].units.min(threads)));
    let grids = GRIDS.into_iter().filter(|&(_, other)| axes[other].units > 1).flat_map(|(of, other)| {
        let most = axes[of].units.min(threads - 1).min(MOST_STRIPS);
        (2..=most).map(move |count| (of, Some(other), if of == 2 { count } else { most + 2 - count }))
    });
    let mut best: Option<(usize, Strips)> = None;
    for (of, other, count) in strips.chain(grids).filter(|&(.., count)| count > 1) {
        let other = other.map(|other: usize| axes[other]);
        let pieces = |threads| other.map_or(1, |other| other.size(other.units.div_ceil(threads)));
        let [wide, narrow] = axes[of].divided(count, threads, pieces);
        // The time of the largest part, in outputs.
        let time = |strips: SameStrips| match strips.count {
            0 => 0,
            _ => axes[of].size(strips.units).saturating_mul(pieces(strips.threads)),
        };
        let whole =
            axes[of].size(axes[of].units).saturating_mul(other.map_or(1, |other| other.size(other.units)));
        let largest = time(wide).max(time(narrow)).saturating_mul(all / whole);
        if best.is_none_or(|(least, _)| largest < least) {
            let AxisUnits { axis, unit, .. } = axes[of];
            best = Some((largest, Strips { axis, unit, wide, narrow }));
            // Saturation means more outputs than addressable bytes, so all threads are busy.
            let busy = all.saturating_mul(1024) / threads.saturating_mul(largest);
            if busy >= EVEN || largest == all.div_ceil(threads) {
                break;
            }
        }
    }
    best.map(|(_, strips)| strips)
}

/// An axis of a box in units.
#[derive(Clone, Copy)]
struct AxisUnits {
    axis: Axis,
    unit: usize,
    units: usize,
    /// Units that take as long as one.
    few: usize,
    /// Elements of all units at most.
    most: usize,
}

impl AxisUnits {
    /// The axis of a box that has `len` elements along it. A part of a tile takes as long as a whole one. Only some
    /// channels of a panel take less.
    fn new(split_units: &SplitUnits, (axis, unit): (Axis, usize), len: usize) -> Self {
        let units = len.div_ceil(unit).max(1);
        let whole = units.saturating_mul(unit);
        let most = if axis == Axis::Channels { len.max(1) } else { whole };
        Self { axis, unit, units, few: split_units.few(axis).min(units), most }
    }

    /// The elements whose time `units` units take.
    fn size(self, units: usize) -> usize {
        units.max(self.few).saturating_mul(self.unit).min(self.most)
    }

    /// Divides the units and `threads` among `count` strips, the wide ones first, so that the largest part takes as
    /// little time as possible. `pieces` returns the time of a part along the other axis if some threads share a strip.
    fn divided(self, count: usize, threads: usize, pieces: impl Fn(usize) -> usize) -> [SameStrips; 2] {
        let (each, more) = (threads / count, threads % count);
        let times = [pieces(each + 1), pieces(each)];
        let strips =
            |[wide, narrow]: [usize; 2]| {
                [(more, wide, each + 1), (count - more, narrow, each)]
                    .map(|(count, units, threads)| SameStrips { count, units, threads })
            };
        let even = strips([self.units.div_ceil(count); 2]);
        if more == 0 || times[0] == times[1] {
            return even;
        }
        // The shortest time in which the strips have room for all units. Rational numbers are a lower bound.
        let room = more as u128 * times[1] as u128 + (count - more) as u128 * times[0] as u128;
        let mut time = (self.units as u128 * times[0] as u128 * times[1] as u128).div_ceil(room) as usize;
        loop {
            let units = times.map(|of_unit| self.in_time(time / of_unit));
            let found = strips(units);
            if found[0].capacity().saturating_add(found[1].capacity()) >= self.units {
                return if units[1] == 0 { even } else { found };
            }
            let next = |index: usize| (units[index] + 1).max(self.few).saturating_mul(times[index]);
            time = next(0).min(next(1));
        }
    }

    /// The most units that take at most `time`.
    fn in_time(self, time: usize) -> usize {
        if time < self.few { 0 } else { time }
    }
}
