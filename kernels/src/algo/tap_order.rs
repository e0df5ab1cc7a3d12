//! [`TapOrder`]: the order in which the loops over K read the taps of a filter.

use crate::describe::{BLOCK, ConvDesc, ConvError, Layout, Size2};
use crate::memory::try_vec;
use std::ops::Range;

/// The order of the taps of one output channel in a packed panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TapOrder {
    /// `(c, kh, kw)`: the order of the filter itself.
    Filter,
    /// `(kh, kw, c)`: the channels of a tap are neighbours.
    ChannelsLast {
        /// Input channels of a group.
        channels: usize,
        /// Taps of the kernel in one channel.
        window: usize,
    },
    /// The order of the direct tiles.
    Runs(RunOrder),
}

/// The order of the direct tiles, which read the taps of a kernel row run by run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RunOrder {
    /// Input channels of a group.
    channels: usize,
    kernel: Size2,
    runs: KernelRuns,
    /// Whether the image is read in place. K is then cut into chunks of sixteen channels.
    in_place: bool,
}

impl TapOrder {
    /// The order of a matrix product that writes outputs in `layout`.
    pub(crate) fn of_product(desc: &ConvDesc, layout: Layout) -> Self {
        let (channels, window) = (desc.ins(), desc.kernel().h * desc.kernel().w);
        // With one channel or one tap both orders are the same, and so are the packed filters.
        if layout == Layout::Nchw || channels == 1 || window == 1 {
            return Self::Filter;
        }
        Self::ChannelsLast { channels, window }
    }

    /// The order of the direct tiles, of which a run has at most `most` taps.
    pub(crate) fn of_direct(desc: &ConvDesc, most: usize, in_place: bool) -> Self {
        let (channels, kernel) = (desc.ins(), desc.kernel());
        Self::Runs(RunOrder { channels, kernel, runs: KernelRuns::new(desc, most), in_place })
    }

    /// For each step of K, which tap of the filter it is.
    pub(crate) fn taps(&self, k: usize) -> Result<Vec<usize>, ConvError> {
        let mut order = try_vec("order of the taps", k)?;
        match *self {
            Self::Filter => order.extend(0..k),
            Self::ChannelsLast { channels, window } => {
                order.extend((0..k).map(|step| step % channels * window + step / channels));
            }
            Self::Runs(runs) => runs.extend(&mut order),
        }
        Ok(order)
    }
}

impl RunOrder {
    /// `[chunk][kernel row][run][channel][tap]` on the image, `[run][kernel row][channel][tap]` on packed rows.
    fn extend(&self, order: &mut Vec<usize>) {
        let Self { channels, kernel, runs, in_place } = *self;
        let mut row_of_run = |channels: Range<usize>, row: usize, run: &KernelRun| {
            for channel in channels {
                let columns = (0..run.taps).map(|tap| run.first + tap * run.step);
                order.extend(columns.map(|column| (channel * kernel.h + row) * kernel.w + column));
            }
        };
        if !in_place {
            for run in runs.iter() {
                (0..kernel.h).for_each(|row| row_of_run(0..channels, row, &run));
            }
            return;
        }
        for first in (0..channels).step_by(BLOCK) {
            for row in 0..kernel.h {
                let chunk = first..channels.min(first + BLOCK);
                runs.iter().for_each(|run| row_of_run(chunk.clone(), row, &run));
            }
        }
    }
}

/// Taps of a kernel row that read neighbouring pixels of one output tile: kernel columns `first`, `first + step`, ...
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KernelRun {
    pub(crate) first: usize,
    pub(crate) step: usize,
    pub(crate) taps: usize,
}

/// The runs of a kernel row.
///
/// Tap `j` of output pixel `i` reads pixel `i * stride + j * dilation`. Two taps share pixels if they are
/// `stride / dilation` apart. So the row falls into that many classes, and each class into even runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KernelRuns {
    /// Taps of the row.
    width: usize,
    /// From one tap of a run to the next.
    step: usize,
    /// Taps of a run at most.
    most: usize,
}

impl KernelRuns {
    pub(crate) fn new(desc: &ConvDesc, most: usize) -> Self {
        let (width, stride, dilation) = (desc.kernel().w, desc.stride().w, desc.dilation().w);
        let (step, most) = if stride.is_multiple_of(dilation) { (stride / dilation, most) } else { (1, 1) };
        Self { width, step: step.min(width), most }
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = KernelRun> {
        let Self { width, step, most } = self;
        (0..step).flat_map(move |class| {
            let mut left = (width - class).div_ceil(step);
            let mut first = class;
            std::iter::from_fn(move || {
                if left == 0 {
                    return None;
                }
                let run = KernelRun { first, step, taps: left.div_ceil(left.div_ceil(most)) };
                (first, left) = (first + run.taps * step, left - run.taps);
                Some(run)
            })
        })
    }
}
