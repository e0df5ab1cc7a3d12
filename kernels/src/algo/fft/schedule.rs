//! The possible tilings of the output. The search for the fastest one is where the work is counted
//! (`work.rs`).

use crate::algo::planes::matrices_len;
use crate::describe::{BLOCK, ConvDesc, Layout, Size2, Unsupported};
use crate::tile::fft::{COMPLEX, Length};
use crate::work::parts::SplitUnits;

/// The supported lengths of transforms: multiples of 4 whose other factors are 2, 3 and 5.
const LENGTHS: [usize; 28] = [
    8, 12, 16, 20, 24, 32, 36, 40, 48, 60, 64, 72, 80, 96, 120, 128, 144, 160, 192, 240, 256, 320, 384, 480,
    512, 640, 768, 1024,
];
/// The longest transform of tiles in lanes of channels. Their spectra are so large that longer ones never pay.
const LONGEST_OF_CHANNELS: usize = 128;
/// Maximum number of input and of output channels per group, if lanes are tiles. With more channels, lanes of
/// channels are well filled.
const MOST_OF_TILES: usize = 15;
/// At least one in this many numbers of a transform must be an output, unless one transform computes all
/// outputs of an axis.
const LEAST_PART: usize = 4;
/// Transforms that are longer than this are used only if they are at most this many times as long as the kernel.
/// Otherwise a few long tiles would leave threads without work, and would not stay in any cache.
const LONG: usize = 256;
const MOST_KERNELS: usize = 4;
/// Bytes of weight spectra above which this algorithm never pays.
const MOST_SPECTRA: f64 = (1u64 << 30) as f64;
/// One axis: transforms of `n` numbers. Each computes `outputs` adjacent outputs; the last can compute fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AxisTiling {
    pub(crate) n: usize,
    pub(crate) outputs: usize,
    pub(crate) tiles: usize,
}

/// The tilings of both axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tiling {
    pub(crate) y: AxisTiling,
    pub(crate) x: AxisTiling,
}

/// The lengths of the transforms of both axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lengths {
    pub(crate) y: usize,
    pub(crate) x: usize,
}

impl Lengths {
    /// Numbers of the spectrum of a tile, in the order `[column][row]`.
    pub(crate) fn bins(&self) -> usize {
        self.y * (self.x / 2 + 1)
    }

    /// Elements of a spectrum in sixteen channels.
    pub(crate) fn spectrum_len(&self) -> usize {
        self.bins() * COMPLEX
    }

    /// Elements of a column of the spectrum.
    pub(crate) fn column_len(&self) -> usize {
        self.y * COMPLEX
    }

    /// Elements of a pair of rows that are transformed together.
    pub(crate) fn rows_len(&self) -> usize {
        self.x * COMPLEX
    }

    /// Elements of the scratch memory of the passes of the longer axis.
    pub(crate) fn passes_len(&self) -> usize {
        Length::scratch_of(self.x).max(Length::scratch_of(self.y))
    }

    /// Elements of the scratch memory of a transform: a pair of rows, the half spectra of all rows, and the
    /// passes.
    pub(crate) fn scratch_len(&self) -> usize {
        self.rows_len() + self.spectrum_len() + self.passes_len()
    }
}

/// One axis of the problem.
#[derive(Debug, Clone, Copy)]
struct AxisExtents {
    input: usize,
    kernel: usize,
    before: usize,
    after: usize,
    output: usize,
}

impl AxisExtents {
    /// Returns how transforms of `n` numbers split the axis, if they can.
    ///
    /// A tile reads `outputs + kernel - 1` adjacent inputs. If there is only one tile, the transform can be
    /// shorter. Its last outputs then wrap around and read the zeros of the padding before the first input.
    /// The padding after the last input can share these zeros.
    fn tiling(&self, n: usize) -> Option<AxisTiling> {
        if n > LONG && n > self.kernel.saturating_mul(MOST_KERNELS) {
            return None;
        }
        let padded = self.input.saturating_add(self.before.max(self.after));
        if n >= padded.max(self.kernel).max(self.output) {
            return Some(AxisTiling { n, outputs: self.output, tiles: 1 });
        }
        let most = (n + 1).checked_sub(self.kernel).filter(|most| most * LEAST_PART >= n)?;
        let tiles = self.output.div_ceil(most);
        Some(AxisTiling { n, outputs: self.output.div_ceil(tiles), tiles })
    }
}

impl Tiling {
    /// Outputs of a tile.
    pub(crate) fn outputs(&self) -> Size2 {
        Size2::new(self.y.outputs, self.x.outputs)
    }

    /// Lengths of the transforms.
    pub(crate) fn lengths(&self) -> Lengths {
        Lengths { y: self.y.n, x: self.x.n }
    }

    /// See [`Lengths::bins`].
    pub(crate) fn bins(&self) -> usize {
        self.lengths().bins()
    }

    /// See [`Lengths::spectrum_len`].
    pub(crate) fn spectrum_len(&self) -> usize {
        self.lengths().spectrum_len()
    }

    /// Number of tiles in `images` images.
    pub(crate) fn tiles(&self, images: usize) -> usize {
        self.y.tiles.saturating_mul(self.x.tiles).saturating_mul(images)
    }
}

/// The assignment of channels to lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lanes {
    /// Lanes are sixteen output channels of one group. Each input channel of the group is multiplied with all
    /// of them.
    Outputs,
    /// Lanes are sixteen output channels of any groups. Each lane is multiplied with the first, the second,
    /// ... channel of its own group.
    Groups,
    /// Lanes are sixteen tiles of the image, in one channel at a time. Groups have few channels.
    Tiles,
}

/// The channels and their assignment to lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Channels {
    pub(crate) lanes: Lanes,
    /// Input and output channels per group.
    pub(crate) ins: usize,
    pub(crate) outs: usize,
    groups: usize,
}

impl Channels {
    /// All assignments that can compute the problem.
    pub(crate) fn all(desc: &ConvDesc) -> impl Iterator<Item = Self> + use<> {
        let channels = Self::of(desc);
        // A row of a tile is read and written as adjacent pixels.
        let planes = desc.layout() == Layout::Nchw && desc.output_layout() == Layout::Nchw;
        let few = channels.ins.max(channels.outs) <= MOST_OF_TILES;
        let tiles = (planes && few).then_some(Self { lanes: Lanes::Tiles, ..channels });
        std::iter::once(channels).chain(tiles)
    }

    /// The better assignment of channels.
    fn of(desc: &ConvDesc) -> Self {
        let groups = desc.groups();
        let (ins, outs) = (desc.ins(), desc.outs());
        // Each assignment repeats the transforms of one side. Lanes that must be gathered cost as much as
        // several transforms.
        const GATHERED: usize = 6;
        let each = if (ins, outs) == (1, 1) { 1 } else { GATHERED };
        let of_groups = (ins.div_ceil(BLOCK) + outs.div_ceil(BLOCK)).saturating_mul(BLOCK) / outs;
        let few = ins.saturating_mul(each) < of_groups;
        let lanes = if groups > 1 && few { Lanes::Groups } else { Lanes::Outputs };
        Self { lanes, ins, outs, groups }
    }

    /// Output channels of all groups together.
    pub(crate) fn all_outs(&self) -> usize {
        self.groups * self.outs
    }

    /// Number of vectors of sixteen output channels, all groups together. If lanes are tiles, it is the number
    /// of output channels, because weights are not vectors.
    pub(crate) fn panels(&self) -> f64 {
        match self.lanes {
            Lanes::Outputs => self.groups as f64 * self.outs.div_ceil(BLOCK) as f64,
            Lanes::Groups => self.all_outs().div_ceil(BLOCK) as f64,
            Lanes::Tiles => self.all_outs() as f64,
        }
    }

    /// Elements of the weight spectra of one of these panels.
    pub(crate) fn panel_len(&self, lengths: &Lengths) -> usize {
        let number = if self.lanes == Lanes::Tiles { 2 } else { COMPLEX };
        self.ins.saturating_mul(lengths.bins() * number)
    }

    /// The lengths of transforms, the shortest first.
    fn lengths(&self) -> impl Iterator<Item = usize> + Clone + use<> {
        let longest = if self.lanes == Lanes::Tiles { usize::MAX } else { LONGEST_OF_CHANNELS };
        LENGTHS.into_iter().take_while(move |&n| n <= longest)
    }

    /// Number of blocks of sixteen input channels whose transforms are kept for all output channels of their
    /// group.
    pub(crate) fn kept(&self) -> usize {
        match self.lanes {
            Lanes::Outputs => self.ins.div_ceil(BLOCK),
            Lanes::Groups => 1,
            // The spectra of the outputs replace those of the inputs.
            Lanes::Tiles => self.ins.max(self.outs),
        }
    }
}

/// Whether the weight spectra are so large that this algorithm never pays.
fn is_too_large(channels: &Channels, tiling: &Tiling) -> bool {
    let numbers = channels.panels() * channels.panel_len(&tiling.lengths()) as f64;
    numbers * size_of::<f32>() as f64 > MOST_SPECTRA
}

/// The tiling of the output, and the number of tiles in a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FftSchedule {
    pub(crate) channels: Channels,
    pub(crate) tiling: Tiling,
    pub(crate) batch: usize,
}

/// Elements of the parts of a slab.
pub(crate) struct SlabLens {
    /// Scratch memory of a transform.
    pub(crate) scratch: usize,
    /// Spectra of the image.
    pub(crate) image: usize,
    /// Spectra of sixteen output channels. If lanes are tiles: a column of the spectra of all input channels,
    /// and of one output channel.
    pub(crate) sums: usize,
    /// Outputs and residual of a row of a tile, before they are transposed to NCHW. If lanes are tiles: a row
    /// of sixteen tiles.
    pub(crate) lines: usize,
}

impl SlabLens {
    pub(crate) fn sum(&self) -> usize {
        [self.image, self.sums, self.lines].into_iter().fold(self.scratch, usize::saturating_add)
    }
}

impl FftSchedule {
    /// Whole rows of tiles, and panels of sixteen channels. If lanes are tiles: as many rows of tiles as fill the
    /// lanes, and groups.
    pub(crate) fn split_units(&self, desc: &ConvDesc) -> SplitUnits {
        let (rows, channels) = match self.channels.lanes {
            Lanes::Outputs | Lanes::Groups => (1, BLOCK),
            Lanes::Tiles => (BLOCK.div_ceil(self.tiling.x.tiles), self.channels.outs),
        };
        let row = self.tiling.y.outputs.saturating_mul(desc.output().w);
        SplitUnits::new(row.saturating_mul(rows), channels)
    }

    pub(crate) fn lens(&self, desc: &ConvDesc) -> SlabLens {
        let lengths = self.tiling.lengths();
        if self.channels.lanes == Lanes::Tiles {
            return SlabLens {
                scratch: lengths.rows_len() + lengths.passes_len(),
                image: self.channels.kept() * lengths.spectrum_len(),
                sums: (self.channels.ins + 1) * lengths.column_len(),
                lines: BLOCK * self.tiling.x.outputs.next_multiple_of(BLOCK),
            };
        }
        let sums = self.batch * self.tiling.spectrum_len();
        SlabLens {
            scratch: lengths.scratch_len(),
            image: self.channels.kept().saturating_mul(sums),
            sums,
            lines: matrices_len(desc, self.tiling.x.outputs, BLOCK),
        }
    }
}

/// All tilings of a supported problem.
pub(crate) fn all(desc: &ConvDesc, channels: Channels) -> impl Iterator<Item = Tiling> + use<> {
    let (y, x) = axes(desc);
    let lengths = channels.lengths();
    let of_rows = lengths.clone().filter_map(move |n| y.tiling(n));
    let cuts =
        of_rows.flat_map(move |y| lengths.clone().filter_map(move |n| Some(Tiling { y, x: x.tiling(n)? })));
    cuts.filter(move |tiling| !is_too_large(&channels, tiling))
}

/// The tilings that can be the fastest. Of all transforms that split an axis into the same number of tiles,
/// this keeps the shortest, because all counted work grows with the length.
pub(super) fn worthwhile(desc: &ConvDesc, channels: Channels) -> impl Iterator<Item = Tiling> + use<> {
    let (y, x) = axes(desc);
    let shortest = move |axis: AxisExtents| {
        let mut tiles = None;
        channels.lengths().filter_map(move |n| axis.tiling(n)).filter(move |tiling| {
            let is_first = tiles != Some(tiling.tiles);
            tiles = Some(tiling.tiles);
            is_first
        })
    };
    let cuts = shortest(y).flat_map(move |y| shortest(x).map(move |x| Tiling { y, x }));
    cuts.filter(move |tiling| !is_too_large(&channels, tiling))
}

/// The tiling with transforms of these lengths, if they can compute the problem.
pub(super) fn by_lengths(desc: &ConvDesc, lengths: &Lengths) -> Option<Tiling> {
    let (y, x) = axes(desc);
    Some(Tiling { y: y.tiling(lengths.y)?, x: x.tiling(lengths.x)? })
}

fn axes(desc: &ConvDesc) -> (AxisExtents, AxisExtents) {
    let (input, kernel, pad, output) = (desc.input(), desc.kernel(), desc.pad(), desc.output());
    (
        AxisExtents {
            input: input.h,
            kernel: kernel.h,
            before: pad.top,
            after: pad.bottom,
            output: output.h,
        },
        AxisExtents {
            input: input.w,
            kernel: kernel.w,
            before: pad.left,
            after: pad.right,
            output: output.w,
        },
    )
}

pub(crate) fn supports(desc: &ConvDesc) -> Result<(), Unsupported> {
    if desc.stride() != Size2::square(1) {
        return Err(Unsupported::Strided);
    }
    let dilated = |dilation: usize, taps: usize| dilation > 1 && taps > 1;
    if dilated(desc.dilation().h, desc.kernel().h) || dilated(desc.dilation().w, desc.kernel().w) {
        return Err(Unsupported::Dilated);
    }
    let (y, x) = axes(desc);
    let mut is_transformed = false;
    for channels in Channels::all(desc) {
        let shortest = |axis: AxisExtents| channels.lengths().find_map(|n| axis.tiling(n));
        let (Some(y), Some(x)) = (shortest(y), shortest(x)) else { continue };
        if !is_too_large(&channels, &Tiling { y, x }) {
            return Ok(());
        }
        is_transformed = true;
    }
    Err(if is_transformed { Unsupported::SpectraTooLarge } else { Unsupported::KernelTooLarge })
}
