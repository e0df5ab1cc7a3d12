//! Cutting a box of the output into one part per thread. `run` cuts with these functions, and the cost model
//! counts the largest part with them.

/// A cut is even enough if the threads are busy 97 % of the time: 993 of 1024.
const EVEN: usize = 993;

/// An axis along which a region is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    Images,
    Channels,
    Pixels,
}

/// The granularity at which a box can be cut among threads without splitting tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SplitUnits {
    /// Pixels per tile.
    pub(crate) pixels: usize,
    /// Channels per panel.
    pub(crate) channels: usize,
    /// Whether to cut channels before pixels, so that parts share the image: for problems with more weights
    /// than image.
    pub(crate) channels_first: bool,
}

impl SplitUnits {
    /// Cuts pixels before channels, so that parts share the weights.
    pub(crate) const fn new(pixels: usize, channels: usize) -> Self {
        Self { pixels, channels, channels_first: false }
    }
}

/// Selects the axis to cut for `parts` threads, and its unit.
///
/// Whole images come first, if that is even. Then come pixels, whose parts share the weights, and channels,
/// whose parts share the image, in the order that `split_units` says. If no axis is even, the least uneven
/// one is taken. Returns `None` if nothing can be cut.
pub(crate) fn split_axis(
    split_units: &SplitUnits,
    parts: usize,
    len: impl Fn(Axis) -> usize,
) -> Option<(Axis, usize)> {
    if parts < 2 {
        return None;
    }
    let pixels = (Axis::Pixels, split_units.pixels);
    let channels = (Axis::Channels, split_units.channels);
    let (first, second) = if split_units.channels_first { (channels, pixels) } else { (pixels, channels) };
    let axes = [(Axis::Images, 1), first, second];
    // The busy fraction of all threads' time, in 1/1024.
    let busy = |&(axis, unit): &(Axis, usize)| {
        let units = len(axis).div_ceil(unit);
        // Saturation means more units than addressable bytes, so all threads are busy.
        let slots = parts.saturating_mul(units.div_ceil(parts));
        if units < 2 { 0 } else { units.saturating_mul(1024) / slots }
    };
    let even = axes.iter().find(|&axis| busy(axis) >= EVEN);
    // The first of the maxima: `max_by_key` returns the last, so the axes are reversed.
    let best = || axes.iter().rev().max_by_key(|&axis| busy(axis)).filter(|&axis| busy(axis) > 0);
    even.or_else(best).copied()
}

/// Cuts an axis of `len` into two for `parts` threads: the thread count of the first part, and its length.
pub(crate) fn first_half(len: usize, unit: usize, parts: usize) -> (usize, usize) {
    let (left, units) = (parts / 2, len.div_ceil(unit));
    (left, units.saturating_mul(left).div_ceil(parts).min(units - 1).max(1) * unit)
}

/// Extents of a box of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BoxExtents {
    pub(crate) images: usize,
    pub(crate) pixels: usize,
    pub(crate) channels: usize,
}

impl BoxExtents {
    fn len(&mut self, axis: Axis) -> &mut usize {
        match axis {
            Axis::Images => &mut self.images,
            Axis::Pixels => &mut self.pixels,
            Axis::Channels => &mut self.channels,
        }
    }

    /// The largest part per thread when `parts` threads share this box, cut as `run` cuts it.
    pub(crate) fn largest_part(self, split_units: &SplitUnits, mut parts: usize) -> Self {
        let mut part = self;
        while let Some((axis, unit)) = split_axis(split_units, parts, |axis| *{ part }.len(axis)) {
            let len = *part.len(axis);
            let (left, count) = first_half(len, unit, parts);
            let first = count.min(len) as f64 / left as f64;
            let second = len.saturating_sub(count) as f64 / (parts - left) as f64;
            (*part.len(axis), parts) =
                if first >= second { (count.min(len), left) } else { (len - count, parts - left) };
        }
        part
    }
}
