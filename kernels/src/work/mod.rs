//! The work of an algorithm on a problem, counted from its schedule: the input of the cost model.
//!
//! This module lies below both users: algorithms count in these units, and the cost model prices them.

pub(crate) mod parts;
pub(crate) mod prices;

use crate::describe::{BLOCK, ConvDesc, Layout};
use parts::{OutputBox, SplitUnits};
use prices::Typical;

/// A family of similar loops. Each family has its own constants in the cost model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Reference,
    /// Vectors hold channels; the image is read in place.
    PointwiseColumns,
    /// Vectors hold pixels.
    PointwiseRows,
    Im2colColumns,
    Im2colRows,
    /// The image is read in place.
    DirectImage,
    /// Rows are copied first.
    DirectRows,
    /// Few output channels: vectors hold input channels.
    DirectFew,
    DepthwiseChannels,
    /// Lanes take their channels from other lanes.
    DepthwisePermuted,
    DepthwisePixels,
    Winograd,
    Fft,
    /// Each lane belongs to a different group.
    FftGroups,
    /// Each lane is a tile of the image.
    FftTiles,
    /// bf16 products.
    Parts,
    /// bf16 products of pixels that are gathered first.
    PartsMatrix,
    /// Winograd with bf16 products.
    WinogradParts,
}

impl Family {
    pub(crate) const COUNT: usize = 18;

    /// Whether its multiplications are those of bf16 numbers.
    pub(crate) fn is_bf16(self) -> bool {
        matches!(self, Self::Parts | Self::PartsMatrix | Self::WinogradParts)
    }

    /// Names in reports and in the fitted table.
    #[cfg(feature = "internal")]
    pub(crate) const NAMES: [&'static str; Self::COUNT] = [
        "reference",
        "pointwise columns",
        "pointwise rows",
        "im2col columns",
        "im2col rows",
        "direct image",
        "direct rows",
        "direct few",
        "depthwise channels",
        "depthwise permuted",
        "depthwise pixels",
        "winograd",
        "fft",
        "fft groups",
        "fft tiles",
        "parts",
        "parts matrix",
        "winograd parts",
    ];
}

/// A kind of work that takes time. Each algorithm's `work.rs` documents what it counts under each term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Term {
    /// Slots of the FMA pipes: vector multiplications, and stalls.
    Fma,
    /// Register tiles begun and ended.
    Tile,
    /// Vectors stored, and read again where K is split.
    Store,
    /// Vectors copied or transformed before they are multiplied.
    Pack,
    /// Copies of single elements or short runs, and other irregular copies.
    Gather,
    /// Kernel calls.
    Call,
}

/// Number of terms.
pub(crate) const TERMS: usize = 6;

/// Bytes that a core reads and writes beyond its first-level cache, by the level that supplies them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes from the second-level cache.
    pub l2: f64,
    /// Bytes from the third-level cache.
    pub l3: f64,
    /// Bytes from memory.
    pub dram: f64,
}

/// Cache sizes in bytes available to one of several busy cores, and what else uses them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caches {
    pub(crate) l1: f64,
    pub(crate) l2: f64,
    pub(crate) l3: f64,
    /// Bytes that other work touches between two runs.
    pub(crate) between_runs: f64,
}

/// The part of a machine that counting depends on: the number of threads, and the caches of each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThreadShare {
    pub(crate) parts: usize,
    pub(crate) caches: Caches,
    /// The fixed reference machine that schedules are optimized for.
    pub(crate) typical: Typical,
}

impl Traffic {
    /// Counts `bytes` that are read again after `between` other bytes. The bytes start to miss a cache level
    /// when `between` exceeds half of the level; all of them miss when it exceeds the whole level.
    pub(crate) fn add(&mut self, bytes: f64, between: f64, caches: &Caches) {
        let missed = |level: f64| ((between - 0.5 * level) / (0.5 * level)).clamp(0.0, 1.0);
        let beyond_l1 = bytes * missed(caches.l1);
        let beyond_l2 = beyond_l1 * missed(caches.l2);
        let beyond_l3 = beyond_l2 * missed(caches.l3);
        self.l2 += beyond_l1 - beyond_l2;
        self.l3 += beyond_l2 - beyond_l3;
        self.dram += beyond_l3;
    }

    /// Counts the bytes that a run of `run` bytes reads for the first time. Other work has displaced the weights, but not
    /// the images, which it has just written or reads next.
    pub(crate) fn add_first(&mut self, weights: f64, images: f64, run: f64, caches: &Caches) {
        self.add(weights, run + caches.between_runs, caches);
        self.add(images, run, caches);
    }
}

/// The work of the busiest thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) family: Family,
    terms: [f64; TERMS],
    pub(crate) traffic: Traffic,
    /// Floating-point operations of all threads.
    pub(crate) flops: f64,
}

impl Work {
    pub(crate) fn new(family: Family) -> Self {
        let mut work = Self { family, terms: [0.0; TERMS], traffic: Traffic::default(), flops: 0.0 };
        // The call of `run` itself.
        work.add(Term::Call, 1.0);
        work
    }

    pub(crate) fn terms(&self) -> &[f64; TERMS] {
        &self.terms
    }

    pub(crate) fn add(&mut self, term: Term, count: f64) {
        self.terms[term as usize] += count;
    }
}

/// Memory and work of a plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlanEstimate {
    /// Bytes of packed weights, exactly as in the plan.
    pub(crate) packed_bytes: usize,
    /// Workspace elements for one thread, exactly as in the plan.
    pub(crate) workspace_len: usize,
    pub(crate) work: Work,
}

/// The largest part that one thread computes, in extents and bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LargestPart {
    pub(crate) images: f64,
    pub(crate) pixels: f64,
    /// Number of groups that its channels belong to.
    pub(crate) groups: f64,
    /// Output channels in each of these groups.
    pub(crate) outs: usize,
    /// Input channels in each of these groups.
    pub(crate) ins: usize,
    /// Bytes it reads, each counted once.
    pub(crate) input_bytes: f64,
    /// Bytes it writes, each counted once.
    pub(crate) output_bytes: f64,
}

impl LargestPart {
    /// The largest part of `desc`, cut along `split_units`. If `merged`, all images form one row of pixels.
    pub(crate) fn new(desc: &ConvDesc, split_units: &SplitUnits, merged: bool, parts: usize) -> Self {
        let (input, output) = (desc.input(), desc.output());
        let pixels = output.h * output.w;
        let whole = OutputBox::whole(desc, merged);
        let (images, all) = (whole.images.len(), whole.pixels.len());
        let part = whole.largest_part(split_units, parts);
        let channels = part.channels.len();
        let groups = channels.div_ceil(desc.outs());
        let share = part.images.len() as f64 / images as f64 * part.pixels.len() as f64 / all as f64;
        let bytes = |elements: f64| elements * size_of::<f32>() as f64;
        let ins = desc.ins();
        let image = (input.n * input.h * input.w) as f64;
        // A stride skips rows. It skips columns if a pixel is at least a cache line.
        let read = |taps: usize, stride: usize| (taps as f64 / stride as f64).min(1.0);
        let rows = read(desc.kernel().h, desc.stride().h);
        let whole_lines = desc.layout() != Layout::Nchw && input.c >= BLOCK;
        let columns = if whole_lines { read(desc.kernel().w, desc.stride().w) } else { 1.0 };
        Self {
            images: part.images.len() as f64,
            pixels: part.pixels.len() as f64,
            groups: groups as f64,
            outs: channels.min(desc.outs()),
            ins,
            input_bytes: bytes(image * rows * columns * share * (groups * ins) as f64),
            output_bytes: bytes((output.n * pixels * channels) as f64 * share),
        }
    }

    /// Number of panels of `width` channels in all of its groups.
    pub(crate) fn panels(&self, width: usize) -> f64 {
        self.groups * self.outs.div_ceil(width) as f64
    }
}
