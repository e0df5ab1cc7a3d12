//! The choice: a pure function from a problem to an algorithm and the reasons against the others.

use super::cost::{Estimate, Machine};
use super::terms::{Comparison, Milliseconds};
use crate::algo::winograd;
use crate::describe::{
    Algorithm, AlgorithmKind, Algorithms, ConvDesc, ConvError, Size2, Unsupported, by_name,
};
use std::fmt;
use std::str::FromStr;

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
    /// The strictest [`Numerics`] under which [`Select::Auto`] may choose this algorithm for `desc`.
    pub fn numerics(self, desc: &ConvDesc) -> Numerics {
        match self.kind() {
            // With eight points the transforms amplify rounding errors too much.
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
    /// The library, by its model; every rejection is explained in the plan's report.
    #[default]
    Auto,
    /// The library, by timing the few that the model expects to be fastest on the real problem, some milliseconds in all;
    /// with a [`Wisdom`](super::Wisdom), once for each problem. On several threads in the rayon pool that the caller is in.
    Measured,
    /// The caller. An algorithm that cannot do the problem is an error; there is no fallback.
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
    /// It can, and the application forbids it.
    Forbidden,
    /// It can, with more rounding error than the plan may have.
    Inaccurate(Numerics),
    /// It can, with more bytes of workspace than the plan may need.
    Workspace {
        /// Bytes that it needs, for all threads.
        bytes: usize,
    },
    /// It can, with more bytes of packed weights than the plan may keep.
    Packed {
        /// Bytes that it needs.
        bytes: usize,
    },
    /// It can, and the model expects the chosen one to be faster.
    Slower,
    /// It can, and would be faster than the chosen one by the model, which only knows it as the oracle of tests.
    LastResort,
    /// It can, and was slower when both were timed.
    Measured,
    /// It can, and its weights are not packed, while those of the chosen one are.
    NotPacked,
    /// Another one was forced.
    NotForced,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(reason) => write!(f, "{reason}"),
            Self::Forbidden => write!(f, "forbidden by the caller"),
            Self::Inaccurate(numerics) => write!(f, "its error needs numerics {numerics}"),
            Self::Workspace { bytes } => write!(f, "needs {bytes} bytes of workspace, more than it may"),
            Self::Packed { bytes } => write!(f, "needs {bytes} bytes of packed weights, more than it may"),
            Self::Slower => write!(f, "slower"),
            Self::LastResort => write!(f, "the oracle is the last resort: scalar, its sums are f64"),
            Self::Measured => write!(f, "slower when timed"),
            Self::NotPacked => write!(f, "its weights are not packed yet"),
            Self::NotForced => write!(f, "another algorithm was forced"),
        }
    }
}

/// An algorithm that can do the problem, and what it would take.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Candidate {
    /// Which.
    pub algorithm: Algorithm,
    /// By the model.
    pub estimate: Estimate,
    /// Seconds of one run, where it was timed, now or when the wisdom was gained.
    pub measured: Option<f64>,
}

/// The outcome: one algorithm, and a reason against each of the others.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Choice {
    /// What will run.
    pub algorithm: Algorithm,
    /// Who chose it: the caller, the model, or times. What the model went by is in the candidates' terms.
    pub reason: &'static str,
    /// Every other algorithm, with the reason against it.
    pub rejected: Vec<(Algorithm, Rejection)>,
    /// Every algorithm that can do the problem, the fastest first, as far as is known.
    pub candidates: Vec<Candidate>,
}

impl Choice {
    /// The chosen one among the candidates.
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

    /// The prediction of `algorithm` beside that of the chosen one; `None` if it cannot do the problem, or is the chosen one.
    pub fn comparison(&self, algorithm: Algorithm) -> Option<Comparison> {
        let (other, chosen) = (self.of(algorithm)?, self.candidate()?);
        (algorithm != self.algorithm).then(|| Comparison::new(other.estimate.terms, chosen.estimate.terms))
    }

    /// The reason against `algorithm` in words and numbers: what it was timed or predicted to take beside the chosen one, and
    /// which terms of the model make the difference. `None` of the chosen one.
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

/// What a choice has to keep to, besides the problem.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) select: Select,
    pub(crate) numerics: Numerics,
    pub(crate) forbidden: Algorithms,
    pub(crate) max_workspace_bytes: Option<usize>,
    pub(crate) max_packed_bytes: Option<usize>,
}

impl Limits {
    /// Why `algorithm` must not be chosen, if it must not; `estimate` if it can do the problem.
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

    /// The error of a problem that nothing may do: if something could with more memory, that which needs the least.
    fn nothing(&self, rejected: &[(Algorithm, Rejection)]) -> ConvError {
        let needs = |&&(_, rejection): &&(Algorithm, Rejection)| match rejection {
            Rejection::Workspace { bytes } | Rejection::Packed { bytes } => bytes,
            _ => usize::MAX,
        };
        let least = rejected.iter().min_by_key(needs);
        least.map_or(ConvError::NothingAllowed, |&(algorithm, rejection)| self.error(algorithm, rejection))
    }

    /// The error of a problem whose best hope is `algorithm`, against which `rejection` speaks.
    fn error(&self, algorithm: Algorithm, rejection: Rejection) -> ConvError {
        let (what, needed, limit) = match rejection {
            Rejection::Workspace { bytes } => ("workspace", bytes, self.max_workspace_bytes),
            Rejection::Packed { bytes } => ("packed weights", bytes, self.max_packed_bytes),
            _ => return ConvError::NothingAllowed,
        };
        ConvError::TooLarge { algorithm, what, needed, limit: limit.unwrap_or(usize::MAX) }
    }
}

/// Chooses an algorithm for `desc`: the fastest by the model that `limits` allow, unless one is forced.
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
    // The oracle is the last resort, even where a handful of products are done before anything else has begun.
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

/// Where there is neither window nor stride, the others do what pointwise does, and a little more, but for the few channels of a
/// group that are depthwise: whatever their constants, fitted to other problems, say of that. With a stride, pixels that are
/// copied fill tiles that would end where rows do.
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
