//! Into which tiles the output is cut, and what that costs.

use crate::algo::planes::matrices_len;
use crate::describe::{BLOCK, ConvDesc, Size2, Unsupported};
use crate::tile::fft::{COMPLEX, Length};
use crate::work::parts::Grain;

/// The transforms there are: multiples of 4 whose other factors are 3 and 5.
const LENGTHS: [usize; 16] = [8, 12, 16, 20, 24, 32, 36, 40, 48, 60, 64, 72, 80, 96, 120, 128];
/// Of a transform, at least one part of so many must be outputs, unless one transform does all of them.
const LEAST_PART: usize = 4;
/// Bytes of the transforms of weights that are never worth it.
const MOST_SPECTRA: f64 = (1u64 << 30) as f64;
/// Bytes that stay in the second cache level, beside what else is there.
const NEAR: f64 = 1.5e6;

/// Cycles of vectors of sixteen, fitted to a hundred shapes on one core of Sapphire Rapids; only ratios matter.
mod cycles {
    /// Of a transform, per number and binary logarithm of how many there are.
    pub(super) const TRANSFORM: f64 = 2.2;
    /// Of reading a number whose lanes are not neighbours.
    pub(super) const GATHER: f64 = 100.0;
    /// Of a complex product: four FMAs.
    pub(super) const PRODUCT: f64 = 2.0;
    /// Bytes from the second cache level, and from farther away.
    pub(super) const NEAR: f64 = 24.0;
    pub(super) const FAR: f64 = 6.0;
    /// The same of weights that other layers have driven out since.
    pub(super) const GONE: f64 = 4.0;
}

/// One axis: transforms of `n` numbers, each of which gives `outputs` neighbouring outputs, the last perhaps fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AxisCut {
    pub(crate) n: usize,
    pub(crate) outputs: usize,
    pub(crate) tiles: usize,
}

/// Both axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) y: AxisCut,
    pub(crate) x: AxisCut,
}

/// One axis of the problem.
#[derive(Debug, Clone, Copy)]
struct Extents {
    input: usize,
    kernel: usize,
    before: usize,
    after: usize,
    output: usize,
}

impl Extents {
    /// How transforms of `n` numbers would cut the axis, if they do.
    ///
    /// A tile reads `outputs + kernel - 1` neighbouring inputs. If there is only one, the transform may be shorter: its
    /// last outputs read around the end, and find the zeros of the padding before the first input, which the padding
    /// after the last may share.
    fn cut(&self, n: usize) -> Option<AxisCut> {
        let padded = self.input.saturating_add(self.before.max(self.after));
        if n >= padded.max(self.kernel).max(self.output) {
            return Some(AxisCut { n, outputs: self.output, tiles: 1 });
        }
        let most = (n + 1).checked_sub(self.kernel).filter(|most| most * LEAST_PART >= n)?;
        let tiles = self.output.div_ceil(most);
        Some(AxisCut { n, outputs: self.output.div_ceil(tiles), tiles })
    }
}

impl Cut {
    /// Numbers of a tile's spectrum, `[column][row]`.
    pub(crate) fn bins(&self) -> usize {
        self.y.n * (self.x.n / 2 + 1)
    }

    /// Elements of a spectrum in sixteen channels.
    pub(crate) fn spectrum_len(&self) -> usize {
        self.bins() * COMPLEX
    }

    /// Elements of a pair of rows that are transformed together.
    pub(crate) fn rows_len(&self) -> usize {
        self.x.n * COMPLEX
    }

    /// Elements of what a transform works in: a pair of rows, the half spectra of all rows, and passes of the longer axis.
    pub(crate) fn scratch_len(&self) -> usize {
        let passes = Length::scratch_of(self.x.n).max(Length::scratch_of(self.y.n));
        self.rows_len() + self.spectrum_len() + passes
    }

    /// Bytes of a spectrum in sixteen channels.
    fn bytes(&self) -> f64 {
        (self.spectrum_len() * size_of::<f32>()) as f64
    }

    /// Whole rows of tiles, sixteen channels.
    pub(crate) fn grain(&self, desc: &ConvDesc) -> Grain {
        Grain::new(self.y.outputs.saturating_mul(desc.output().w), BLOCK)
    }

    /// Tiles of all images.
    fn tiles(&self, images: usize) -> usize {
        self.y.tiles.saturating_mul(self.x.tiles).saturating_mul(images)
    }
}

/// How channels become lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lanes {
    /// Every input channel of a group is multiplied with sixteen of its output channels.
    Outputs,
    /// Sixteen output channels of any groups, each multiplied with the first, the second, ... channel of its own group.
    Groups,
}

/// Channels: how many there are of what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Channels {
    pub(crate) lanes: Lanes,
    /// Input and output channels of a group.
    pub(crate) ins: usize,
    pub(crate) outs: usize,
    groups: usize,
}

impl Channels {
    pub(crate) fn of(desc: &ConvDesc) -> Self {
        let groups = desc.groups();
        let (ins, outs) = (desc.ins(), desc.outs());
        // Each way repeats the transforms of one side; lanes that must be gathered cost as much as several.
        const GATHERED: usize = 6;
        let each = if (ins, outs) == (1, 1) { 1 } else { GATHERED };
        let of_groups = (ins.div_ceil(BLOCK) + outs.div_ceil(BLOCK)).saturating_mul(BLOCK) / outs;
        let few = ins.saturating_mul(each) < of_groups;
        let lanes = if groups > 1 && few { Lanes::Groups } else { Lanes::Outputs };
        Self { lanes, ins, outs, groups }
    }

    /// Whether the input channels of neighbouring lanes need not be neighbours.
    fn gathered(&self) -> bool {
        self.lanes == Lanes::Groups && (self.ins, self.outs) != (1, 1)
    }

    /// Vectors of sixteen output channels, in all groups.
    fn panels(&self) -> f64 {
        match self.lanes {
            Lanes::Outputs => self.groups as f64 * self.outs.div_ceil(BLOCK) as f64,
            Lanes::Groups => (self.groups * self.outs).div_ceil(BLOCK) as f64,
        }
    }

    /// Vectors of sixteen input channels that are transformed, in all groups.
    fn transforms(&self) -> f64 {
        match self.lanes {
            Lanes::Outputs => self.groups as f64 * self.ins.div_ceil(BLOCK) as f64,
            Lanes::Groups => self.panels() * self.ins as f64,
        }
    }

    /// Blocks of sixteen input channels whose transforms are kept for all output channels of their group.
    pub(crate) fn kept(&self) -> usize {
        match self.lanes {
            Lanes::Outputs => self.ins.div_ceil(BLOCK),
            Lanes::Groups => 1,
        }
    }
}

/// Bytes of the weights' spectra.
fn spectra(channels: &Channels, cut: &Cut) -> f64 {
    channels.panels() * channels.ins as f64 * cut.bytes()
}

/// Cycles of the whole convolution, cut in so many tiles: what does not depend on how many are in a batch, and what does.
struct Cycles {
    fixed: f64,
    /// Bytes of a spectrum in sixteen channels, of the weights' spectra, and of the image's, as often as they are gone over.
    spectrum: f64,
    weights: f64,
    images: f64,
    kept: usize,
    tiles: usize,
}

impl Cycles {
    fn new(channels: &Channels, cut: &Cut, tiles: usize) -> Self {
        let (ins, outs) = (channels.transforms(), channels.panels());
        let numbers = (cut.y.n * cut.x.n) as f64;
        let each = tiles as f64;
        let transforms = each * (ins + outs) * numbers * numbers.log2() * cycles::TRANSFORM;
        let gathers = if channels.gathered() { each * ins * numbers * cycles::GATHER } else { 0.0 };
        let products = each * outs * channels.ins as f64 * cut.bins() as f64 * cycles::PRODUCT;
        let weights = spectra(channels, cut);
        let read = match channels.lanes {
            Lanes::Outputs => ins * channels.outs.div_ceil(BLOCK) as f64,
            Lanes::Groups => ins,
        };
        // Written and read, read by every panel.
        let images = each * cut.bytes() * (2.0 * ins + read + 2.0 * outs);
        let fixed = transforms + gathers + products + weights / cycles::GONE;
        Self { fixed, spectrum: cut.bytes(), weights, images, kept: channels.kept(), tiles }
    }

    /// In batches of `batch` tiles.
    fn of(&self, batch: usize) -> f64 {
        // What a batch works in.
        let set = self.spectrum * (1 + batch * (self.kept + 1)) as f64;
        let far = if set > NEAR { self.images / cycles::FAR } else { 0.0 };
        let rate = if set + self.weights <= NEAR { cycles::NEAR } else { cycles::FAR };
        self.fixed + (self.tiles.div_ceil(batch) - 1) as f64 * self.weights / rate + far
    }
}

/// How the output is cut, how many tiles are in a batch, and what that costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) cut: Cut,
    pub(crate) batch: usize,
    cost: f64,
}

/// Elements of the parts of a slab.
pub(crate) struct SlabLens {
    /// What a transform works in.
    pub(crate) scratch: usize,
    /// Spectra of the image.
    pub(crate) image: usize,
    /// Spectra of sixteen output channels.
    pub(crate) sums: usize,
    /// Outputs and residual of a row of a tile, on their way to NCHW.
    pub(crate) lines: usize,
}

impl SlabLens {
    pub(crate) fn sum(&self) -> usize {
        [self.image, self.sums, self.lines].into_iter().fold(self.scratch, usize::saturating_add)
    }
}

impl Plan {
    /// Of `desc`, which must be supported, with at most `most` tiles in a batch.
    pub(crate) fn new(desc: &ConvDesc, channels: &Channels, most: usize) -> Self {
        best(desc, channels, most).expect("only what is supported is planned")
    }

    pub(crate) fn lens(&self, desc: &ConvDesc, channels: &Channels) -> SlabLens {
        let sums = self.batch * self.cut.spectrum_len();
        SlabLens {
            scratch: self.cut.scratch_len(),
            image: channels.kept().saturating_mul(sums),
            sums,
            lines: matrices_len(desc, self.cut.x.outputs, BLOCK),
        }
    }
}

/// The cheapest, with at most `most` tiles in a batch; `None` if there is none.
fn best(desc: &ConvDesc, channels: &Channels, most: usize) -> Option<Plan> {
    let (y, x) = axes(desc);
    let most = if channels.lanes == Lanes::Groups { 1 } else { most };
    let mut best: Option<Plan> = None;
    for y in LENGTHS.into_iter().filter_map(|n| y.cut(n)) {
        for x in LENGTHS.into_iter().filter_map(|n| x.cut(n)) {
            let cut = Cut { y, x };
            if spectra(channels, &cut) > MOST_SPECTRA {
                continue;
            }
            let tiles = cut.tiles(desc.input().n);
            let cycles = Cycles::new(channels, &cut, tiles);
            if best.is_some_and(|best| best.cost <= cycles.fixed) {
                continue;
            }
            for batch in 1..=most.min(tiles) {
                let cost = cycles.of(batch);
                if best.is_none_or(|best| cost < best.cost) {
                    best = Some(Plan { cut, batch, cost });
                }
            }
        }
    }
    best
}

fn axes(desc: &ConvDesc) -> (Extents, Extents) {
    let (input, kernel, pad, output) = (desc.input(), desc.kernel(), desc.pad(), desc.output());
    (
        Extents { input: input.h, kernel: kernel.h, before: pad.top, after: pad.bottom, output: output.h },
        Extents { input: input.w, kernel: kernel.w, before: pad.left, after: pad.right, output: output.w },
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
    let shortest = |axis: Extents| LENGTHS.into_iter().find_map(|n| axis.cut(n));
    let (Some(y), Some(x)) = (shortest(y), shortest(x)) else { return Err(Unsupported::KernelTooLarge) };
    if spectra(&Channels::of(desc), &Cut { y, x }) > MOST_SPECTRA {
        return Err(Unsupported::SpectraTooLarge);
    }
    Ok(())
}
