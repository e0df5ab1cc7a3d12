//! The choice: a pure function from a problem to an algorithm and the reasons against the others.

use super::{Algorithm, Algorithms, Unsupported};
use crate::algo::fft;
use crate::algo::winograd::time as winograd_time;
use crate::describe::{ConvDesc, Layout, Size2};
use crate::error::ConvError;
use std::fmt;

/// How much rounding error the algorithm that [`Select::Auto`] chooses may have. What a caller forces is not held to it.
///
/// The errors are those of whole outputs on the reference distribution: weights normal with variance `2 / K`, inputs the
/// absolute values of normal ones (as after a ReLU).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Numerics {
    /// Re-ordered summation only: each output has the error of a sum of its own products.
    Strict,
    /// At most 2e-6 relative L2 error, and no output off by more than 5e-6 of the largest. An output may have an error
    /// relative to inputs near those that it depends on.
    #[default]
    Default,
    /// At most 6e-6 relative L2 error, and no output off by more than 2e-5 of the largest.
    Fast,
}

/// Who chooses the algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Select {
    /// The library, by its model; every rejection is explained in the plan's report.
    #[default]
    Auto,
    /// The caller. An algorithm that cannot do the problem is an error; there is no fallback.
    Force(Algorithm),
}

/// Why an algorithm was not chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// It cannot do the problem.
    Unsupported(Unsupported),
    /// It can, and the application forbids it.
    Forbidden,
    /// It can, with more rounding error than the plan may have.
    Inaccurate(Numerics),
    /// It can, and the model expects the chosen one to be faster.
    Slower(&'static str),
    /// Another one was forced.
    NotForced,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(reason) => write!(f, "{reason}"),
            Self::Forbidden => write!(f, "forbidden by the caller"),
            Self::Inaccurate(numerics) => write!(f, "its error needs numerics {numerics:?}"),
            Self::Slower(why) => write!(f, "{why}"),
            Self::NotForced => write!(f, "another algorithm was forced"),
        }
    }
}

/// The outcome: one algorithm, and a reason against each of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What will run.
    pub algorithm: Algorithm,
    /// Why it was chosen.
    pub reason: &'static str,
    /// Every other algorithm, with the reason against it.
    pub rejected: Vec<(Algorithm, Rejection)>,
}

/// Rows of the output shorter than this leave the smallest tiles of direct convolution too few sums in flight.
const SHORT_ROW: usize = 4;

/// Whether groups have so few channels that each output is best computed by itself, where the image lies: there is too
/// little to sum in a matrix product of one group. Measured against the others, in each layout; in NCHW, where other
/// algorithms read their pixels as vectors too, they are ahead the soonest.
fn few_channels(desc: &ConvDesc) -> bool {
    let per_group = desc.input().c / desc.groups();
    let one_tap = desc.kernel() == Size2::square(1);
    let most = match (desc.layout(), one_tap) {
        (Layout::Nchw, true) => 1,
        (Layout::Nchw, false) | (_, true) => 4,
        (_, false) => 8,
    };
    // One group of one channel is depthwise too, unless its window is the whole image; with vectors of output channels, all
    // of their lanes would take the same one.
    let one_channel = desc.layout() == Layout::Nchw && per_group == 1;
    let grouped = desc.groups() > 1 || (one_channel && Algorithm::Pointwise.supports(desc).is_err());
    grouped && per_group <= most
}

/// What a choice has to keep to, besides the problem.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) select: Select,
    pub(crate) numerics: Numerics,
    pub(crate) forbidden: Algorithms,
}

/// Chooses an algorithm for `desc`: the fastest that `limits` allow, unless one is forced.
pub(crate) fn choose(desc: &ConvDesc, limits: &Limits) -> Result<Choice, ConvError> {
    if let Select::Force(algorithm) = limits.select {
        algorithm.supports(desc).map_err(|reason| ConvError::Unsupported { algorithm, reason })?;
        let others = Algorithm::ALL.into_iter().filter(|&other| other != algorithm);
        let rejected = others.map(|other| (other, Rejection::NotForced)).collect();
        return Ok(Choice { algorithm, reason: "forced by the caller", rejected });
    }
    let refused = |algorithm: Algorithm| match algorithm.supports(desc) {
        Err(reason) => Some(Rejection::Unsupported(reason)),
        Ok(()) if limits.forbidden.contains(algorithm) => Some(Rejection::Forbidden),
        Ok(()) if algorithm.numerics(desc) > limits.numerics => {
            Some(Rejection::Inaccurate(algorithm.numerics(desc)))
        }
        Ok(()) => None,
    };
    let mut order = fastest_first(desc).into_iter();
    let chosen = order.find(|&(algorithm, _)| refused(algorithm).is_none());
    let (algorithm, reason) = chosen.ok_or(ConvError::NothingAllowed)?;
    let slower = |other| Rejection::Slower(slower(desc, other, algorithm));
    let against = |other| (other, refused(other).unwrap_or_else(|| slower(other)));
    let others = Algorithm::ALL.into_iter().filter(|&other| other != algorithm);
    Ok(Choice { algorithm, reason, rejected: others.map(against).collect() })
}

/// A tile of direct convolution lies in one row of the output; if that is so short, it would be mostly overhead.
fn short_rows(desc: &ConvDesc) -> bool {
    desc.output().w < SHORT_ROW
}

/// Every algorithm with the reason for it, in the order of the time that the model expects of those that can do `desc`.
fn fastest_first(desc: &ConvDesc) -> Vec<(Algorithm, &'static str)> {
    let can = |algorithm: Algorithm| algorithm.supports(desc).is_ok();
    let (pointwise, direct) = (can(Algorithm::Pointwise), can(Algorithm::Direct));
    let because = |(kind, _)| (kind, "transforms cost less than the multiplications that they save");
    let mut order = Vec::with_capacity(2 * Algorithm::ALL.len());
    let depthwise = (
        Algorithm::Depthwise,
        "few channels in a group: each output is summed by itself, from the image where it lies",
    );
    let fft = (Algorithm::Fft, "a large kernel: a product of spectra does all of its taps at once");
    if can(Algorithm::Fft)
        && let Some(time) = fft::time(desc)
    {
        order.extend(winograd(desc).filter(|&(_, t)| t < time).map(because));
        order.push(fft);
    }
    // In Nchw16c the others need groups of whole blocks.
    if few_channels(desc) || !(pointwise || direct) {
        order.push(depthwise);
    }
    order.push((
        Algorithm::Pointwise,
        "a matrix product on the image itself; packed is only what the layout does not let be read in place",
    ));
    order.extend(winograd(desc).map(because));
    let direct = (
        Algorithm::Direct,
        "the window is read where it lies, or from rows that are copied once: a third of a load per FMA",
    );
    if !short_rows(desc) {
        order.push(direct);
    }
    order
        .push((Algorithm::Im2colGemm, "it can do every convolution, and its tiles do not end where rows do"));
    // What is left where the application forbids the others.
    order.extend([direct, depthwise, fft]);
    order.push((Algorithm::Reference, "nothing else is allowed"));
    order
}

/// The Winograd tiles that take less time than direct convolution, and that time, the fastest first.
fn winograd(desc: &ConvDesc) -> impl Iterator<Item = (Algorithm, f64)> {
    // Direct convolution is at nine tenths of the multiplications' own time.
    let direct = desc.cost().macs as f64 / 0.9;
    let kinds = Algorithm::ALL.into_iter().filter(|kind| kind.winograd_outputs().is_some());
    let supported = kinds.filter(|kind| kind.supports(desc).is_ok());
    let timed = supported.filter_map(|kind| Some((kind, winograd_time(desc, kind.winograd_outputs()?))));
    let mut timed: Vec<_> = timed.filter(|&(_, time)| time < direct).collect();
    timed.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    timed.into_iter()
}

/// The reason against `other`, which could do `desc`.
fn slower(desc: &ConvDesc, other: Algorithm, chosen: Algorithm) -> &'static str {
    match other {
        Algorithm::Reference => "scalar, accumulates in f64",
        Algorithm::Fft => "the kernel is so small that the transforms cost more than they save",
        _ if chosen == Algorithm::Fft => "does every tap of a large kernel by itself",
        Algorithm::Depthwise => "a group has channels or outputs enough for a matrix product",
        Algorithm::Pointwise => "too few channels in a group for a matrix product",
        Algorithm::Direct if chosen.winograd_outputs().is_some() => "more multiplications",
        Algorithm::Direct if short_rows(desc) => "the rows of the output are short",
        Algorithm::Direct if chosen == Algorithm::Depthwise => {
            "too few channels in a group to share a pixel among its outputs"
        }
        Algorithm::Direct => "a 1x1 kernel has no window to walk",
        Algorithm::Im2colGemm => "packs every pixel, where the image itself can be read",
        Algorithm::Winograd2x2
        | Algorithm::Winograd3x3
        | Algorithm::Winograd4x2
        | Algorithm::Winograd4x4
        | Algorithm::Winograd6x6 => {
            if chosen.winograd_outputs().is_some() {
                "tiles of another size leave less to multiply, or less to read"
            } else {
                "too little is multiplied with each transformed tile"
            }
        }
    }
}
