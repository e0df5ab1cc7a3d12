//! [`Panels`]: the output channels of a matrix product, split into panels, with what each channel has besides its filter.

use crate::describe::{Activation, BLOCK, ConvDesc, ConvError, EpilogueSpec, Layout, Weights};
use crate::memory::{Buffer, try_vec};
use crate::tile::shape::{TileShape, even_piece};
use crate::work::LargestPart;
use std::iter;
use std::ops::Range;

/// The output channels of one tile. Column (or row) `i` is channel `channel + i` and is valid for
/// `lo <= i < hi`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel {
    pub(crate) channel: usize,
    pub(crate) lo: usize,
    pub(crate) hi: usize,
}

/// How output channels are split into panels, and how much memory they take. It does not depend on the values
/// of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PanelShape {
    /// Columns (or rows) of a panel.
    pub(crate) width: usize,
    /// Panels begin at multiples of this.
    align: usize,
    /// Number of panels, all groups together.
    pub(crate) count: usize,
    pub(super) groups: usize,
    /// Output channels per group.
    pub(super) per_group: usize,
    per_channel: PerChannel,
}

/// Which numbers an output channel has in addition to its filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PerChannel {
    bias: bool,
    slope: bool,
}

impl PerChannel {
    pub(crate) fn of(epilogue: &EpilogueSpec) -> Self {
        Self { bias: epilogue.bias, slope: epilogue.activation == Activation::PRelu }
    }

    /// Elements of the bias and of the slopes: `each` where they exist, zero otherwise.
    pub(crate) fn lens(self, each: usize) -> [usize; 2] {
        [self.bias, self.slope].map(|has| if has { each } else { 0 })
    }
}

impl PanelShape {
    /// The panels of `desc` for tiles of `shape`. `layout` is the output layout as the driver sees it.
    pub(crate) fn new(desc: &ConvDesc, shape: &TileShape, layout: Layout) -> Self {
        Self::of_groups(desc, (desc.output().c, desc.groups()), shape, layout)
    }

    /// Like [`new`](Self::new), with numbers of channels and groups that can differ from those of the
    /// problem.
    pub(crate) fn of_groups(
        desc: &ConvDesc,
        (channels, groups): (usize, usize),
        shape: &TileShape,
        layout: Layout,
    ) -> Self {
        let per_group = channels / groups;
        let (width, align) = match layout {
            Layout::Nchw => (even_piece(per_group, shape.rows), 1),
            // In a blocked layout a panel begins where a block begins. With narrow tiles, it begins at a part
            // of a block.
            Layout::Nchw16c if !per_group.is_multiple_of(BLOCK) => {
                let align = BLOCK.min(shape.columns());
                // A group can begin inside a block, but not the only one. A panel writes whole blocks.
                let most = if groups == 1 { per_group.next_multiple_of(BLOCK) } else { per_group + align };
                (shape.columns_for(most), align)
            }
            Layout::Nchw16c | Layout::Nhwc | Layout::Nchw32cBf16 => (shape.columns_for(per_group), 1),
        };
        let per_channel = PerChannel::of(&desc.epilogue());
        let panels = Self { width, align, count: 0, groups, per_group, per_channel };
        // A group has the same position in its block as the group that is `align` groups before it. So it is
        // enough to count that many groups.
        let of_groups =
            |groups: usize| -> usize { (0..groups).map(|group| panels.starts(group).len()).sum() };
        let repeated = of_groups(align.min(groups)).saturating_mul(groups / align);
        let count = repeated.saturating_add(of_groups(groups % align));
        Self { count, ..panels }
    }

    /// The channels of `group`.
    fn channels(&self, group: usize) -> Range<usize> {
        group * self.per_group..(group + 1) * self.per_group
    }

    /// The first channels of the panels of `group`.
    fn starts(&self, group: usize) -> impl ExactSizeIterator<Item = usize> + use<> {
        let Range { start, end } = self.channels(group);
        (start / self.align * self.align..end).step_by(self.width)
    }

    /// Number of panels of the group that has the most.
    pub(crate) fn most_of_group(&self) -> usize {
        (0..self.align.min(self.groups)).map(|group| self.starts(group).len()).max().unwrap_or(0)
    }

    /// Number of panels in all groups of a part. Groups that begin where no panel can begin have more.
    pub(crate) fn in_part(&self, part: &LargestPart) -> f64 {
        let fewest = self.groups.saturating_mul(self.per_group.div_ceil(self.width));
        part.panels(self.width) * (self.count as f64 / fewest as f64)
    }

    /// Whether every multiple of the width of a panel is the start of a panel.
    pub(crate) fn are_whole(&self) -> bool {
        self.groups == 1 || self.per_group.is_multiple_of(self.width)
    }

    /// Elements of the packed bias and of the packed slopes.
    pub(crate) fn lens(&self) -> [usize; 2] {
        self.per_channel.lens(self.count.saturating_mul(self.width))
    }

    /// Bytes of the packed bias and slopes.
    pub(crate) fn bytes(&self) -> usize {
        let [bias, slope] = self.lens();
        bias.saturating_add(slope).saturating_mul(size_of::<f32>())
    }
}

/// The output channels, split into panels group by group, with the packed bias and slopes.
pub(crate) struct Panels {
    /// Columns (or rows) of a panel.
    width: usize,
    panels: Vec<Panel>,
    /// The panels of each group.
    groups: Vec<Range<usize>>,
    bias: Buffer,
    slope: Buffer,
}

impl Panels {
    /// Splits the channels as `shape` says. `bias` and `slope` are packed already, or zeros until
    /// [`pack`](Self::pack).
    pub(crate) fn new(shape: &PanelShape, [bias, slope]: [Buffer; 2]) -> Result<Self, ConvError> {
        let width = shape.width;
        let (mut panels, mut groups) = (try_vec("panels", shape.count)?, try_vec("groups", shape.groups)?);
        for group in 0..shape.groups {
            let (Range { start, end }, first) = (shape.channels(group), panels.len());
            panels.extend(shape.starts(group).map(|channel| Panel {
                channel,
                lo: start.max(channel) - channel,
                hi: end.min(channel + width) - channel,
            }));
            groups.push(first..panels.len());
        }
        Ok(Self { width, panels, groups, bias, slope })
    }

    /// Packs the bias and the slopes of `weights`.
    pub(crate) fn pack(&mut self, weights: &Weights<'_>) {
        let Self { width, panels, bias, slope, .. } = self;
        for (to, from) in [(bias, weights.bias), (slope, weights.slope)] {
            let Some(from) = from else { continue };
            for (to, panel) in to.chunks_exact_mut(*width).zip(&*panels) {
                let channels = panel.channel + panel.lo..panel.channel + panel.hi;
                to[panel.lo..panel.hi].copy_from_slice(&from[channels]);
            }
        }
    }

    /// The packed bias and the packed slopes.
    pub(crate) fn buffers(&self) -> [&Buffer; 2] {
        [&self.bias, &self.slope]
    }

    /// Channels from the start of one panel to the next.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// All panels.
    pub(crate) fn all(&self) -> &[Panel] {
        &self.panels
    }

    /// The panels of `group` that have a channel in `channels`. Each is clipped to `channels` and comes with
    /// its index.
    pub(crate) fn of_group(
        &self,
        group: usize,
        channels: &Range<usize>,
    ) -> impl Iterator<Item = (usize, Panel)> {
        let indices = self.groups[group].clone();
        indices.filter_map(|index| {
            let panel = self.panels[index];
            let lo = panel.lo.max(channels.start.saturating_sub(panel.channel));
            let hi = panel.hi.min(channels.end.saturating_sub(panel.channel));
            (lo < hi).then_some((index, Panel { lo, hi, ..panel }))
        })
    }

    /// Like [`of_group`](Self::of_group). If `together`, neighbours that have all of their channels are one panel, which is
    /// as wide as they are.
    pub(super) fn pieces_of_group(
        &self,
        group: usize,
        channels: &Range<usize>,
        together: bool,
    ) -> impl Iterator<Item = (Range<usize>, Panel)> {
        let is_whole = move |panel: &Panel| together && panel.lo == 0 && panel.hi == self.width;
        let mut panels = self.of_group(group, channels).peekable();
        iter::from_fn(move || {
            let (first, mut piece) = panels.next()?;
            let mut end = first + 1;
            if is_whole(&piece) {
                while panels.next_if(|(_, next)| is_whole(next)).is_some() {
                    (end, piece.hi) = (end + 1, piece.hi + self.width);
                }
            }
            Some((first..end, piece))
        })
    }

    /// Like [`of_group`](Self::of_group), for all groups.
    pub(crate) fn of_channels(&self, channels: &Range<usize>) -> impl Iterator<Item = (usize, Panel)> {
        (0..self.groups.len()).flat_map(|group| self.of_group(group, channels))
    }

    /// The bias and the slopes of panel `index`, from column (or row) `i` on; empty where there are none.
    pub(crate) fn per_channel(&self, index: usize, i: usize) -> (&[f32], &[f32]) {
        self.per_channel_of(index..index + 1, i)
    }

    /// Like [`per_channel`](Self::per_channel), for panels that follow each other.
    pub(super) fn per_channel_of(&self, indices: Range<usize>, i: usize) -> (&[f32], &[f32]) {
        let of = |buffer: &'_ Buffer| -> Range<usize> {
            if buffer.is_empty() { 0..0 } else { indices.start * self.width + i..indices.end * self.width }
        };
        (&self.bias[of(&self.bias)], &self.slope[of(&self.slope)])
    }
}
