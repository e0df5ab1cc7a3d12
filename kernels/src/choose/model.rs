//! The choice: a pure function from a problem to an algorithm and the reasons against the others.

use super::{Algorithm, Unsupported};
use crate::describe::{ConvDesc, Layout, Size2};
use crate::error::ConvError;
use std::fmt;

/// How much rounding error an algorithm may add to that of a plain sum.
///
/// Every algorithm there is today only re-orders the summation, so all three admit the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Numerics {
    /// Re-ordered summation only.
    Strict,
    /// At most 2e-6 relative L2 error on the reference distribution.
    #[default]
    Default,
    /// At most 6e-6 relative L2 error on the reference distribution.
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
    /// It can, and the model expects the chosen one to be faster.
    Slower(&'static str),
    /// Another one was forced.
    NotForced,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(reason) => write!(f, "{reason}"),
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

/// Chooses an algorithm for `desc`.
pub(crate) fn choose(desc: &ConvDesc, select: Select) -> Result<Choice, ConvError> {
    if let Select::Force(algorithm) = select {
        algorithm.supports(desc).map_err(|reason| ConvError::Unsupported { algorithm, reason })?;
        let others = Algorithm::ALL.into_iter().filter(|&other| other != algorithm);
        let rejected = others.map(|other| (other, Rejection::NotForced)).collect();
        return Ok(Choice { algorithm, reason: "forced by the caller", rejected });
    }
    let can = |algorithm: Algorithm| algorithm.supports(desc).is_ok();
    // A tile of direct convolution lies in one row of the output; so short, it would be mostly overhead.
    let short_rows = desc.output().w < SHORT_ROW;
    // In Nchw16c the others need groups of whole blocks.
    let others_can = can(Algorithm::Pointwise) || can(Algorithm::Direct);
    let (algorithm, reason) = if can(Algorithm::Depthwise) && (few_channels(desc) || !others_can) {
        (
            Algorithm::Depthwise,
            "few channels in a group: each output is summed by itself, from the image where it lies",
        )
    } else if can(Algorithm::Pointwise) {
        (
            Algorithm::Pointwise,
            "a matrix product on the image itself; packed is only what the layout does not let be read in place",
        )
    } else if can(Algorithm::Direct) && !short_rows {
        (
            Algorithm::Direct,
            "the window is read where it lies, or from rows that are copied once: a third of a load per FMA",
        )
    } else {
        (Algorithm::Im2colGemm, "it can do every convolution, and its tiles do not end where rows do")
    };
    let against = |other: Algorithm| match (other.supports(desc), other) {
        (Err(reason), _) => Rejection::Unsupported(reason),
        (Ok(()), Algorithm::Reference) => Rejection::Slower("scalar, accumulates in f64"),
        (Ok(()), Algorithm::Depthwise) => {
            Rejection::Slower("a group has channels or outputs enough for a matrix product")
        }
        (Ok(()), Algorithm::Pointwise) => {
            Rejection::Slower("too few channels in a group for a matrix product")
        }
        (Ok(()), Algorithm::Direct) if short_rows => Rejection::Slower("the rows of the output are short"),
        (Ok(()), Algorithm::Direct) if algorithm == Algorithm::Depthwise => {
            Rejection::Slower("too few channels in a group to share a pixel among its outputs")
        }
        (Ok(()), Algorithm::Direct) => Rejection::Slower("a 1x1 kernel has no window to walk"),
        (Ok(()), Algorithm::Winograd2x2 | Algorithm::Winograd4x4 | Algorithm::Winograd6x6) => {
            Rejection::Slower("TODO")
        }
        (Ok(()), _) => Rejection::Slower("packs every pixel, where the image itself can be read"),
    };
    let others = Algorithm::ALL.into_iter().filter(|&other| other != algorithm);
    let rejected = others.map(|other| (other, against(other))).collect();
    Ok(Choice { algorithm, reason, rejected })
}
