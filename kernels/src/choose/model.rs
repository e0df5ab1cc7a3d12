//! The choice: a pure function from a problem to an algorithm, with a reason against every other algorithm.

use super::cost::{Estimate, Machine};
use super::terms::{Comparison, Milliseconds};
use crate::algo::winograd;
use crate::describe::{
    Algorithm, AlgorithmKind, Algorithms, ConvDesc, ConvError, Size2, Unsupported, by_name,
};
use std::fmt;
use std::str::FromStr;

/// Upper bound on the rounding error of the algorithm that [`Select::Auto`] or [`Select::Measured`] chooses.
/// [`Select::Force`] ignores it.
///
/// The bounds apply to whole outputs on the reference distribution: weights are normal with variance `2 / K`,
/// and inputs are absolute values of normal numbers, as after a ReLU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Numerics {
    /// Reordered summation only: each output has the error of a sum of its own products.
    Strict,
    /// At most 2e-6 relative L2 error, and no output off by more than 5e-6 of the largest output. The error
    /// of an output can be relative to inputs near the ones it depends on.
    #[default]
    Default,
    /// At most 6e-6 relative L2 error, and no output off by more than 2e-5 of the largest output.
    Fast,
}

impl Numerics {
    /// Every level, the strictest first.
    pub const ALL: [Self; 3] = [Self::Strict, Self::Default, Self::Fast];

    /// `"strict"`, `"default"` or `"fast"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Default => "default",
            Self::Fast => "fast",
        }
    }
}

impl fmt::Display for Numerics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Numerics {
    type Err = ConvError;

    /// By its [`name`](Self::name).
    fn from_str(text: &str) -> Result<Self, ConvError> {
        by_name("numerics", &Self::ALL, Self::name, text)
    }
}

impl Algorithm {
    /// The strictest [`Numerics`] under which this algorithm can be chosen for `desc`.
    pub fn numerics(self, desc: &ConvDesc) -> Numerics {
        match self.kind() {
            // With eight points per axis the transforms amplify rounding errors too much.
            AlgorithmKind::Winograd(outputs) if winograd::points(desc, outputs).h > 6 => Numerics::Fast,
            AlgorithmKind::Winograd(_) | AlgorithmKind::Fft => Numerics::Default,
            _ => Numerics::Strict,
        }
    }
}

/// Who chooses the algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Select {
    /// The cost model chooses; the plan's report explains every rejection.
    #[default]
    Auto,
    /// The library times the few algorithms that the model expects to be fastest, on the real problem. This
    /// takes some milliseconds in total, or once per problem with a [`Wisdom`](super::Wisdom). Several
    /// threads run in the rayon pool of the caller.
    Measured,
    /// The caller chooses. If the algorithm cannot do the problem, planning fails; there is no fallback.
    Force(Algorithm),
}

impl Select {
    /// `"auto"`, `"measured"`, or the name of the forced algorithm.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Measured => "measured",
            Self::Force(algorithm) => algorithm.name(),
        }
    }
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Select {
    type Err = ConvError;

    /// As `Display` writes it.
    fn from_str(text: &str) -> Result<Self, ConvError> {
        let all: Vec<Self> =
            [Self::Auto, Self::Measured].into_iter().chain(Algorithm::ALL.map(Self::Force)).collect();
        by_name("select", &all, Self::name, text)
    }
}

/// Why an algorithm was not chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// It cannot do the problem.
    Unsupported(Unsupported),
    /// It could run, but the caller forbids it.
    Forbidden,
    /// It could run, but its rounding error requires these looser [`Numerics`].
    Inaccurate(Numerics),
    /// It could run, but needs more workspace than the limit.
    Workspace {
        /// Bytes it needs, for all threads.
        bytes: usize,
    },
    /// It could run, but needs more packed weights than the limit.
    Packed {
        /// Bytes it needs.
        bytes: usize,
    },
    /// It could run, but the model predicts a longer time than that of the chosen algorithm.
    Slower,
    /// It is the test oracle. The model predicts a shorter time, but the oracle is chosen only if nothing
    /// else can be.
    LastResort,
    /// It could run, but was slower when both were timed.
    Measured,
    /// It can, and its weights are not packed, while those of the chosen one are.
    NotPacked,
    /// The caller forced another algorithm.
    NotForced,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(reason) => write!(f, "{reason}"),
            Self::Forbidden => write!(f, "forbidden by the caller"),
            Self::Inaccurate(numerics) => write!(f, "its rounding error requires numerics {numerics}"),
            Self::Workspace { bytes } => write!(f, "needs {bytes} bytes of workspace, more than allowed"),
            Self::Packed { bytes } => write!(f, "needs {bytes} bytes of packed weights, more than allowed"),
            Self::Slower => write!(f, "slower"),
            Self::LastResort => write!(f, "the oracle is the last resort: it is scalar and sums in f64"),
            Self::Measured => write!(f, "slower when timed"),
            Self::NotPacked => write!(f, "its weights are not packed yet"),
            Self::NotForced => write!(f, "another algorithm was forced"),
        }
    }
}

/// An algorithm that can do the problem, with its predicted cost.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Candidate {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The model's prediction.
    pub estimate: Estimate,
    /// Seconds of one run if it was timed, now or when the wisdom was recorded.
    pub measured: Option<f64>,
}

/// The chosen algorithm, and the reasons against the others.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Choice {
    /// The algorithm that will run.
    pub algorithm: Algorithm,
    /// Whether the caller, the model or measured times decided. The candidates' terms hold the model's
    /// numbers.
    pub reason: &'static str,
    /// Every other algorithm, with the reason against it.
    pub rejected: Vec<(Algorithm, Rejection)>,
    /// Every algorithm that can do the problem, fastest first: those that were timed, then the others as predicted.
    pub candidates: Vec<Candidate>,
}

impl Choice {
    /// The candidate that was chosen.
    pub fn candidate(&self) -> Option<&Candidate> {
        self.of(self.algorithm)
    }

    fn of(&self, algorithm: Algorithm) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.algorithm == algorithm)
    }

    /// The chosen algorithm and those that are only slower by the model: the fastest first.
    pub(crate) fn allowed(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| {
            let against = self.rejected.iter().find(|&&(other, _)| other == candidate.algorithm);
            matches!(against, None | Some((_, Rejection::Slower)))
        })
    }

    /// The choice of `algorithm`, whose weights are packed already, in place of a faster one, whose weights are not. The
    /// estimate is that for the form in which they are packed.
    pub(crate) fn packed(mut self, algorithm: Algorithm, estimate: Estimate) -> Self {
        for candidate in self.candidates.iter_mut().filter(|candidate| candidate.algorithm == algorithm) {
            candidate.estimate = estimate;
        }
        let faster = |candidate: &&Candidate| candidate.estimate.seconds < estimate.seconds;
        let unpacked: Vec<Algorithm> =
            self.allowed().filter(faster).map(|candidate| candidate.algorithm).collect();
        self.reason = "the fastest whose weights are packed";
        self.rejected.retain(|(other, _)| *other != algorithm && !unpacked.contains(other));
        if self.algorithm != algorithm && !unpacked.contains(&self.algorithm) {
            self.rejected.push((self.algorithm, Rejection::Slower));
        }
        self.rejected.extend(unpacked.into_iter().map(|other| (other, Rejection::NotPacked)));
        self.rejected.sort_by_key(|&(algorithm, _)| algorithm as u8);
        self.candidates.sort_by(|a, b| a.estimate.seconds.total_cmp(&b.estimate.seconds));
        self.algorithm = algorithm;
        self
    }

    /// Compares the prediction of `algorithm` with that of the chosen one. Returns `None` if `algorithm`
    /// cannot do the problem or is the chosen one.
    pub fn comparison(&self, algorithm: Algorithm) -> Option<Comparison> {
        let (other, chosen) = (self.of(algorithm)?, self.candidate()?);
        (algorithm != self.algorithm).then(|| Comparison::new(other.estimate.terms, chosen.estimate.terms))
    }

    /// The reason against `algorithm` in words and numbers: its measured or predicted time, the time of the
    /// chosen algorithm, and the model terms that make the difference. Returns `None` for the chosen
    /// algorithm.
    pub fn against(&self, algorithm: Algorithm) -> Option<String> {
        let &(_, rejection) = self.rejected.iter().find(|&&(other, _)| other == algorithm)?;
        let measured = |candidate: Option<&Candidate>| Some(Milliseconds(candidate?.measured?));
        Some(match (rejection, self.comparison(algorithm)) {
            (Rejection::Slower, Some(comparison)) => format!("slower: {comparison}"),
            (Rejection::Measured, _) => match measured(self.of(algorithm)).zip(measured(self.candidate())) {
                Some((other, chosen)) => format!("{rejection}: {other} ms to {chosen}"),
                None => rejection.to_string(),
            },
            (_, Some(comparison)) => format!("{rejection}; predicted {comparison}"),
            (_, None) => rejection.to_string(),
        })
    }
}

/// The limits on a choice, besides the problem.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) select: Select,
    pub(crate) numerics: Numerics,
    pub(crate) forbidden: Algorithms,
    pub(crate) max_workspace_bytes: Option<usize>,
    pub(crate) max_packed_bytes: Option<usize>,
}

impl Limits {
    /// Why `algorithm` must not be chosen, or `None` if it can be.
    fn against(&self, desc: &ConvDesc, algorithm: Algorithm, estimate: &Estimate) -> Option<Rejection> {
        let needed = algorithm.numerics(desc);
        if self.forbidden.contains(algorithm) {
            Some(Rejection::Forbidden)
        } else if needed > self.numerics {
            Some(Rejection::Inaccurate(needed))
        } else {
            self.too_large(estimate)
        }
    }

    fn too_large(&self, estimate: &Estimate) -> Option<Rejection> {
        let Estimate { workspace_bytes, packed_bytes, .. } = *estimate;
        if self.max_workspace_bytes.is_some_and(|most| workspace_bytes > most) {
            Some(Rejection::Workspace { bytes: workspace_bytes })
        } else if self.max_packed_bytes.is_some_and(|most| packed_bytes > most) {
            Some(Rejection::Packed { bytes: packed_bytes })
        } else {
            None
        }
    }

    /// The error if no algorithm is left. If more memory would help, it names the algorithm that needs the
    /// least.
    fn nothing(&self, rejected: &[(Algorithm, Rejection)]) -> ConvError {
        let needs = |&&(_, rejection): &&(Algorithm, Rejection)| match rejection {
            Rejection::Workspace { bytes } | Rejection::Packed { bytes } => bytes,
            _ => usize::MAX,
        };
        let least = rejected.iter().min_by_key(needs);
        least.map_or(ConvError::NothingAllowed, |&(algorithm, rejection)| self.error(algorithm, rejection))
    }

    /// The error for `algorithm`, the closest candidate, which `rejection` excludes.
    fn error(&self, algorithm: Algorithm, rejection: Rejection) -> ConvError {
        let (what, needed, limit) = match rejection {
            Rejection::Workspace { bytes } => ("workspace", bytes, self.max_workspace_bytes),
            Rejection::Packed { bytes } => ("packed weights", bytes, self.max_packed_bytes),
            _ => return ConvError::NothingAllowed,
        };
        ConvError::TooLarge { algorithm, what, needed, limit: limit.unwrap_or(usize::MAX) }
    }
}

/// Chooses the algorithm for `desc` that the model predicts to be fastest within `limits`, unless one is
/// forced.
pub(crate) fn choose(desc: &ConvDesc, limits: &Limits, machine: &Machine<'_>) -> Result<Choice, ConvError> {
    if let Select::Force(algorithm) = limits.select {
        algorithm.supports(desc).map_err(|reason| ConvError::Unsupported { algorithm, reason })?;
    }
    let mut candidates = Vec::with_capacity(Algorithm::ALL.len());
    let mut rejected = Vec::with_capacity(Algorithm::ALL.len());
    for algorithm in Algorithm::ALL {
        match algorithm.supports(desc) {
            Err(reason) => rejected.push((algorithm, Rejection::Unsupported(reason))),
            Ok(()) => {
                let estimate = machine.estimate(algorithm, desc);
                candidates.push(Candidate { algorithm, estimate, measured: None });
            }
        }
    }
    not_before_pointwise(desc, &mut candidates);
    // The oracle is the last resort, even for tiny problems where it would finish before another one starts.
    let is_oracle = |candidate: &Candidate| candidate.algorithm == Algorithm::Reference;
    candidates.sort_by(|a, b| {
        let seconds = a.estimate.seconds.total_cmp(&b.estimate.seconds);
        is_oracle(a).cmp(&is_oracle(b)).then(seconds)
    });
    if let Select::Force(algorithm) = limits.select {
        let forced = candidates.iter().find(|candidate| candidate.algorithm == algorithm);
        if let Some(rejection) = forced.and_then(|forced| limits.too_large(&forced.estimate)) {
            return Err(limits.error(algorithm, rejection));
        }
        let others = Algorithm::ALL.into_iter().filter(|&other| other != algorithm);
        let rejected = others.map(|other| (other, Rejection::NotForced)).collect();
        return Ok(Choice { algorithm, reason: "forced by the caller", rejected, candidates });
    }
    let mut chosen: Option<&Candidate> = None;
    for candidate in &candidates {
        let against = limits.against(desc, candidate.algorithm, &candidate.estimate);
        match (against, chosen) {
            (Some(rejection), _) => rejected.push((candidate.algorithm, rejection)),
            (None, None) => chosen = Some(candidate),
            (None, Some(chosen)) if candidate.estimate.seconds < chosen.estimate.seconds => {
                rejected.push((candidate.algorithm, Rejection::LastResort));
            }
            (None, Some(_)) => rejected.push((candidate.algorithm, Rejection::Slower)),
        }
    }
    let Some(&Candidate { algorithm, .. }) = chosen else { return Err(limits.nothing(&rejected)) };
    rejected.sort_by_key(|&(algorithm, _)| algorithm as u8);
    let reason = match algorithm {
        Algorithm::Reference => "nothing else is allowed",
        _ => "the fastest by the model",
    };
    Ok(Choice { algorithm, reason, rejected, candidates })
}

/// Keeps Pointwise first for 1x1 kernels at stride 1. There, every other algorithm does the work of Pointwise
/// and more, so a smaller prediction is an error of constants that were fitted to other problems. Depthwise
/// is the exception: it takes another route if there are several groups. With a stride, the rule does not
/// hold: copied pixels fill the tiles that would otherwise end at each row.
fn not_before_pointwise(desc: &ConvDesc, candidates: &mut [Candidate]) {
    let pointwise = candidates.iter().find(|candidate| candidate.algorithm == Algorithm::Pointwise);
    let Some(least) = pointwise.map(|candidate| 1.01 * candidate.estimate.seconds) else { return };
    if desc.stride() != Size2::square(1) {
        return;
    }
    for candidate in candidates {
        let is_another_way = candidate.algorithm == Algorithm::Depthwise && desc.groups() > 1;
        if candidate.algorithm != Algorithm::Pointwise && !is_another_way {
            let terms = candidate.estimate.terms.raised_to(least);
            (candidate.estimate.terms, candidate.estimate.seconds) = (terms, terms.total());
        }
    }
}
