//! What an algorithm would do for a problem, counted from its plan: the input of the cost model.
//!
//! Beneath both: algorithms count in these units, and the choice multiplies them with its constants.

pub(crate) mod parts;
pub(crate) mod prices;

use crate::describe::ConvDesc;
use parts::{BoxExtents, SplitUnits};
use prices::Typical;

/// What the constants of the model belong to: loops that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Reference,
    /// Channels are vectors; the image in place.
    PointwiseColumns,
    /// Pixels are vectors.
    PointwiseRows,
    Im2colColumns,
    Im2colRows,
    /// The image in place.
    DirectImage,
    /// Rows that were copied.
    DirectRows,
    DepthwiseChannels,
    /// Lanes take their channels from other lanes.
    DepthwisePermuted,
    DepthwisePixels,
    Winograd,
    Fft,
    /// Lanes are of different groups.
    FftGroups,
}

impl Family {
    pub(crate) const COUNT: usize = 13;

    /// In reports and in the fitted table.
    #[cfg(feature = "internal")]
    pub(crate) const NAMES: [&'static str; Self::COUNT] = [
        "reference",
        "pointwise columns",
        "pointwise rows",
        "im2col columns",
        "im2col rows",
        "direct image",
        "direct rows",
        "depthwise channels",
        "depthwise permuted",
        "depthwise pixels",
        "winograd",
        "fft",
        "fft groups",
    ];
}

/// What a family spends its time on; what each means to a family is said where it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Term {
    /// Slots of the FMA pipes: multiplications of whole vectors, and what they have to wait for.
    Fma,
    /// Register tiles begun and ended.
    Tile,
    /// Vectors stored, and read again where K is cut.
    Store,
    /// Vectors that are copied or transformed before they are multiplied.
    Pack,
    /// The same one element or one short run at a time, or of another kind.
    Gather,
    /// Calls of kernels.
    Call,
}

/// Terms of each family.
pub(crate) const TERMS: usize = 6;

/// Bytes that a core reads and writes beyond its first cache level, by the level that has them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Traffic {
    /// Second cache level.
    pub l2: f64,
    /// Third cache level.
    pub l3: f64,
    /// Memory.
    pub dram: f64,
}

/// Bytes of the cache levels that one of several busy cores has for itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caches {
    pub(crate) l1: f64,
    pub(crate) l2: f64,
    pub(crate) l3: f64,
}

/// A machine as far as counting is concerned: threads, and what each has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThreadShare {
    pub(crate) parts: usize,
    pub(crate) caches: Caches,
    /// What is cut for, whatever the machine.
    pub(crate) typical: Typical,
}

impl Traffic {
    /// `bytes` that come by again after `between` others did. Not all of a level holds what was there before: from half of
    /// it on, ever less.
    pub(crate) fn add(&mut self, bytes: f64, between: f64, caches: &Caches) {
        let missed = |level: f64| ((between - 0.5 * level) / (0.5 * level)).clamp(0.0, 1.0);
        let beyond_l1 = bytes * missed(caches.l1);
        let beyond_l2 = beyond_l1 * missed(caches.l2);
        let beyond_l3 = beyond_l2 * missed(caches.l3);
        self.l2 += beyond_l1 - beyond_l2;
        self.l3 += beyond_l2 - beyond_l3;
        self.dram += beyond_l3;
    }
}

/// What the thread that has the most to do would do.
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
        // The run itself.
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

/// What a plan would need and do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlanEstimate {
    /// Exactly what the plan will say.
    pub(crate) packed_bytes: usize,
    /// Elements for one thread, exactly what the plan will say.
    pub(crate) workspace_len: usize,
    pub(crate) work: Work,
}

/// The part of a problem that one thread computes, as extents and bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LargestPart {
    pub(crate) images: f64,
    pub(crate) pixels: f64,
    /// Groups that it has channels of.
    pub(crate) groups: f64,
    /// Output channels of each of them.
    pub(crate) outs: usize,
    /// Input channels of each.
    pub(crate) ins: usize,
    /// Bytes that it reads and writes, if each but once.
    pub(crate) input_bytes: f64,
    pub(crate) output_bytes: f64,
}

impl LargestPart {
    /// Of `desc`, cut along `split_units`; all images are one row of pixels if `merged`.
    pub(crate) fn new(desc: &ConvDesc, split_units: &SplitUnits, merged: bool, parts: usize) -> Self {
        let (input, output) = (desc.input(), desc.output());
        let pixels = output.h * output.w;
        let (images, all) = if merged { (1, output.n * pixels) } else { (output.n, pixels) };
        let whole = BoxExtents { images, pixels: all, channels: output.c };
        let part = whole.largest_part(split_units, parts);
        let groups = part.channels.div_ceil(desc.outs());
        let share = part.images as f64 / images as f64 * part.pixels as f64 / all as f64;
        let bytes = |elements: f64| elements * size_of::<f32>() as f64;
        let ins = desc.ins();
        let image = (input.n * input.h * input.w) as f64;
        // Windows that leave pixels out read no fewer cache lines, unless they leave out whole rows.
        let rows = (desc.kernel().h as f64 / desc.stride().h as f64).min(1.0);
        Self {
            images: part.images as f64,
            pixels: part.pixels as f64,
            groups: groups as f64,
            outs: part.channels.min(desc.outs()),
            ins,
            input_bytes: bytes(image * rows * share * (groups * ins) as f64),
            output_bytes: bytes((output.n * pixels * part.channels) as f64 * share),
        }
    }

    /// Panels of `width` channels, of all of its groups.
    pub(crate) fn panels(&self, width: usize) -> f64 {
        self.groups * self.outs.div_ceil(width) as f64
    }
}
