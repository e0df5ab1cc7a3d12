//! [`TapOrder`]: the order in which the loops over K read the taps of a filter.

use crate::describe::{BLOCK, ConvDesc, ConvError, Layout, Size2};
use crate::memory::try_vec;

/// The order of the taps of one output channel in a packed panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TapOrder {
    /// `(c, kh, kw)`, the order of the filter.
    Filter,
    /// `(kh, kw, c)`: the channels of a tap are adjacent.
    ChannelsLast {
        /// Input channels per group.
        channels: usize,
        /// Taps of the kernel in one channel.
        window: usize,
    },
    /// The order in which the direct tiles read.
    Runs(RunOrder),
    /// `(kh, c, kw)`: the channels of a kernel row are adjacent.
    KernelRows {
        /// Input channels per group.
        channels: usize,
        kernel: Size2,
    },
}

/// The order of the direct tiles, which read the taps of a kernel row in runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RunOrder {
    /// Input channels per group.
    channels: usize,
    /// Whether groups begin inside blocks of channels. The chunks of a group are then its parts of blocks.
    inside_blocks: bool,
    kernel: Size2,
    runs: KernelRuns,
}

impl TapOrder {
    /// The order of a matrix product that writes outputs in `layout`.
    pub(crate) fn of_product(desc: &ConvDesc, layout: Layout) -> Self {
        let (channels, window) = (desc.ins(), desc.kernel().h * desc.kernel().w);
        // With one channel or one tap, both orders are the same. They must then compare equal, so that plans
        // share the packed filter.
        if layout == Layout::Nchw || channels == 1 || window == 1 {
            return Self::Filter;
        }
        Self::ChannelsLast { channels, window }
    }

    /// The order of the direct tiles, whose runs have at most `most` taps.
    pub(crate) fn of_direct(desc: &ConvDesc, most: usize) -> Self {
        let (channels, kernel) = (desc.ins(), desc.kernel());
        let (inside_blocks, runs) = (desc.ins_split_blocks(), KernelRuns::new(desc, most));
        Self::Runs(RunOrder { channels, inside_blocks, kernel, runs })
    }

    /// The order of the tiles that read rows with their padding.
    pub(crate) fn of_rows(desc: &ConvDesc) -> Self {
        let (channels, kernel) = (desc.ins(), desc.kernel());
        // Orders that are the same must compare equal.
        if channels == 1 || kernel.h == 1 { Self::Filter } else { Self::KernelRows { channels, kernel } }
    }

    /// Number of orders that differ between groups. Group `i` has order `i` modulo this number.
    pub(crate) fn variants(&self) -> usize {
        // Sixteen groups are whole blocks.
        if matches!(self, Self::Runs(runs) if runs.inside_blocks) { BLOCK } else { 1 }
    }

    /// Returns the tap of the filter for each step of K of `group`.
    pub(crate) fn taps(&self, k: usize, group: usize) -> Result<Vec<usize>, ConvError> {
        let mut order = try_vec("order of the taps", k)?;
        match *self {
            Self::Filter => order.extend(0..k),
            Self::ChannelsLast { channels, window } => {
                order.extend((0..k).map(|step| step % channels * window + step / channels));
            }
            Self::Runs(runs) => runs.extend(group, &mut order),
            Self::KernelRows { channels, kernel } => {
                let rows = (0..kernel.h).flat_map(|row| (0..channels).map(move |channel| (row, channel)));
                order.extend(rows.flat_map(|(row, channel)| {
                    let first = (channel * kernel.h + row) * kernel.w;
                    first..first + kernel.w
                }));
            }
        }
        Ok(order)
    }
}

impl RunOrder {
    /// Appends the order of `group`: `[chunk][kernel row][run][channel][tap]`. A chunk has sixteen channels, or those of the
    /// group in one block.
    fn extend(&self, group: usize, order: &mut Vec<usize>) {
        let Self { channels, inside_blocks, kernel, runs } = *self;
        let skip = if inside_blocks { group * channels % BLOCK } else { 0 };
        for first in (0..skip + channels).step_by(BLOCK) {
            let chunk = first.max(skip) - skip..channels.min(first + BLOCK - skip);
            for row in 0..kernel.h {
                for run in runs.iter() {
                    for channel in chunk.clone() {
                        let columns = (0..run.taps).map(|tap| run.first + tap * run.step);
                        order.extend(columns.map(|column| (channel * kernel.h + row) * kernel.w + column));
                    }
                }
            }
        }
    }
}

/// Taps of a kernel row that read adjacent pixels of one output tile: kernel columns `first`, `first + step`,
/// ...
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KernelRun {
    pub(crate) first: usize,
    pub(crate) step: usize,
    pub(crate) taps: usize,
}

/// The runs of a kernel row.
///
/// Tap `j` of output pixel `i` reads pixel `i * stride + j * dilation`. Two taps share pixels if they are
/// `stride / dilation` apart. The row therefore splits into that many classes, and each class into even runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KernelRuns {
    /// Taps of the row.
    width: usize,
    /// Distance between the taps of a run.
    step: usize,
    /// Maximum number of taps of a run.
    most: usize,
}

impl KernelRuns {
    pub(crate) fn new(desc: &ConvDesc, most: usize) -> Self {
        Self::of_row(desc.kernel().w, desc.stride().w, desc.dilation().w, most)
    }

    /// The runs of a row of `width` taps.
    pub(crate) fn of_row(width: usize, stride: usize, dilation: usize, most: usize) -> Self {
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
