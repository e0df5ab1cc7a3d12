//! The choice: a pure function from a problem to an algorithm, with a reason against every other algorithm.

use super::cost::{Estimate, Machine};
use super::numerics::Numerics;
use super::terms::{Comparison, Milliseconds};
use crate::algo::few;
use crate::describe::{
    Algorithm, Algorithms, BLOCK, ConvDesc, ConvError, Isa, Layout, Method, Products, ProductsSet, Size2,
    Unsupported, by_name,
};
use std::fmt;
use std::str::FromStr;

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
    /// The caller chooses. If the method cannot do the problem, planning fails; there is no fallback.
    Force(Method),
}

impl fmt::Display for Select {
    /// Writes `auto`, `measured`, or the forced method.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Measured => f.pad("measured"),
            Self::Force(method) => method.fmt(f),
        }
    }
}

impl FromStr for Select {
    type Err = ConvError;

    /// As `Display` writes it.
    fn from_str(text: &str) -> Result<Self, ConvError> {
        match text {
            "auto" => Ok(Self::Auto),
            "measured" => Ok(Self::Measured),
            _ if text.contains('+') => text.parse().map(Self::Force),
            _ => {
                let names: Vec<&str> =
                    ["auto", "measured"].into_iter().chain(Algorithm::ALL.map(Algorithm::name)).collect();
                by_name("select", &names, |name| name, text)?.parse().map(Self::Force)
            }
        }
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
    /// The method.
    pub method: Method,
    /// The model's prediction.
    pub estimate: Estimate,
    /// Seconds of one run if it was timed, now or when the wisdom was recorded.
    pub measured: Option<f64>,
}

/// The chosen algorithm, and the reasons against the others.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Choice {
    /// The method that will run.
    pub method: Method,
    /// Whether the caller, the model or measured times decided. The candidates' terms hold the model's
    /// numbers.
    pub reason: &'static str,
    /// Every other algorithm, with the reason against it.
    pub rejected: Vec<(Method, Rejection)>,
    /// Every algorithm that can do the problem, fastest first: those that were timed, then the others as predicted.
    pub candidates: Vec<Candidate>,
}

impl Choice {
    /// The candidate that was chosen.
    pub fn candidate(&self) -> Option<&Candidate> {
        self.of(self.method)
    }

    fn of(&self, method: Method) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.method == method)
    }

    /// The chosen algorithm and those that are only slower by the model: the fastest first.
    pub(crate) fn allowed(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| {
            let against = self.rejected.iter().find(|&&(other, _)| other == candidate.method);
            matches!(against, None | Some((_, Rejection::Slower)))
        })
    }

    /// The choice of `method`, whose weights are packed already, in place of a faster one, whose weights are not. The
    /// estimate is that for the form in which they are packed.
    pub(crate) fn packed(mut self, method: Method, estimate: Estimate) -> Self {
        for candidate in self.candidates.iter_mut().filter(|candidate| candidate.method == method) {
            candidate.estimate = estimate;
        }
        let faster = |candidate: &&Candidate| candidate.estimate.seconds < estimate.seconds;
        let unpacked: Vec<Method> = self.allowed().filter(faster).map(|candidate| candidate.method).collect();
        self.reason = "the fastest whose weights are packed";
        self.rejected.retain(|(other, _)| *other != method && !unpacked.contains(other));
        if self.method != method && !unpacked.contains(&self.method) {
            self.rejected.push((self.method, Rejection::Slower));
        }
        self.rejected.extend(unpacked.into_iter().map(|other| (other, Rejection::NotPacked)));
        self.rejected.sort_by_key(|&(method, _)| method);
        self.candidates.sort_by(|a, b| a.estimate.seconds.total_cmp(&b.estimate.seconds));
        self.method = method;
        self
    }

    /// Compares the prediction of `method` with that of the chosen one. Returns `None` if `method`
    /// cannot do the problem or is the chosen one.
    pub fn comparison(&self, method: impl Into<Method>) -> Option<Comparison> {
        let method = method.into();
        let (other, chosen) = (self.of(method)?, self.candidate()?);
        (method != self.method).then(|| Comparison::new(other.estimate.terms, chosen.estimate.terms))
    }

    /// The reason against `method` in words and numbers: its measured or predicted time, the time of the
    /// chosen algorithm, and the model terms that make the difference. Returns `None` for the chosen
    /// algorithm.
    pub fn against(&self, method: impl Into<Method>) -> Option<String> {
        let method = method.into();
        let &(_, rejection) = self.rejected.iter().find(|&&(other, _)| other == method)?;
        let measured = |candidate: Option<&Candidate>| Some(Milliseconds(candidate?.measured?));
        Some(match (rejection, self.comparison(method)) {
            (Rejection::Slower, Some(comparison)) => format!("slower: {comparison}"),
            (Rejection::Measured, _) => match measured(self.of(method)).zip(measured(self.candidate())) {
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
    pub(crate) forbidden_products: ProductsSet,
    pub(crate) max_workspace_bytes: Option<usize>,
    pub(crate) max_packed_bytes: Option<usize>,
}

impl Limits {
    /// Every method with products that `isa` has instructions for, and the forced one.
    pub(super) fn methods(&self, isa: Isa) -> Vec<Method> {
        let mut methods: Vec<Method> = Method::all(isa.products()).collect();
        if let Select::Force(method) = self.select
            && !methods.contains(&method)
        {
            methods.push(method);
        }
        methods
    }

    /// Why `method`, which needs these [`Numerics`], must not be chosen, or `None` if it can be.
    fn against(&self, method: Method, needed: Numerics, estimate: &Estimate) -> Option<Rejection> {
        if self.forbidden.contains(method.algorithm) || self.forbidden_products.contains(method.products) {
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
    fn nothing(&self, rejected: &[(Method, Rejection)]) -> ConvError {
        let needs = |&&(_, rejection): &&(Method, Rejection)| match rejection {
            Rejection::Workspace { bytes } | Rejection::Packed { bytes } => bytes,
            _ => usize::MAX,
        };
        let least = rejected.iter().min_by_key(needs);
        least.map_or(ConvError::NothingAllowed, |&(method, rejection)| self.error(method, rejection))
    }

    /// The error for `method`, the closest candidate, which `rejection` excludes.
    fn error(&self, method: Method, rejection: Rejection) -> ConvError {
        let (what, needed, limit) = match rejection {
            Rejection::Workspace { bytes } => ("workspace", bytes, self.max_workspace_bytes),
            Rejection::Packed { bytes } => ("packed weights", bytes, self.max_packed_bytes),
            _ => return ConvError::NothingAllowed,
        };
        ConvError::TooLarge { method, what, needed, limit: limit.unwrap_or(usize::MAX) }
    }
}

/// Chooses the algorithm that the model predicts to be fastest within `limits`, unless one is forced. Every algorithm
/// but the reference computes `reduced`, the smaller problem.
pub(crate) fn choose(
    desc: &ConvDesc,
    reduced: &ConvDesc,
    limits: &Limits,
    machine: &Machine<'_>,
) -> Result<Choice, ConvError> {
    if let Select::Force(method) = limits.select {
        method.supports_reduced(reduced).map_err(|reason| ConvError::Unsupported { method, reason })?;
    }
    let methods = limits.methods(machine.isa());
    let mut candidates = Vec::with_capacity(methods.len());
    let mut rejected = Vec::with_capacity(methods.len());
    for method in methods.iter().copied() {
        match method.supports_reduced(reduced) {
            Err(reason) => rejected.push((method, Rejection::Unsupported(reason))),
            Ok(()) => {
                let is_oracle = method.algorithm == Algorithm::Reference;
                let estimate = machine.estimate(method, if is_oracle { desc } else { reduced });
                candidates.push(Candidate { method, estimate, measured: None });
            }
        }
    }
    not_before_pointwise(reduced, &mut candidates, machine.kernels.few.lanes());
    not_before_depthwise(reduced, &mut candidates);
    decide(limits, (candidates, rejected), |method| method.numerics(reduced))
}

/// Decides among `candidates`. `rejected` are the methods that cannot do the problem. `numerics` returns the strictest
/// [`Numerics`] under which a method can be chosen.
pub(super) fn decide(
    limits: &Limits,
    (mut candidates, mut rejected): (Vec<Candidate>, Vec<(Method, Rejection)>),
    numerics: impl Fn(Method) -> Numerics,
) -> Result<Choice, ConvError> {
    // The oracle is the last resort, even for tiny problems where it would finish before another one starts.
    let is_oracle = |candidate: &Candidate| candidate.method.algorithm == Algorithm::Reference;
    candidates.sort_by(|a, b| {
        let seconds = a.estimate.seconds.total_cmp(&b.estimate.seconds);
        is_oracle(a).cmp(&is_oracle(b)).then(seconds)
    });
    if let Select::Force(method) = limits.select {
        let forced = candidates.iter().find(|candidate| candidate.method == method);
        if let Some(rejection) = forced.and_then(|forced| limits.too_large(&forced.estimate)) {
            return Err(limits.error(method, rejection));
        }
        let unsupported = rejected.into_iter().map(|(other, _)| other);
        let others = candidates.iter().map(|candidate| candidate.method).chain(unsupported);
        let others = others.filter(|&other| other != method);
        let mut rejected: Vec<_> = others.map(|other| (other, Rejection::NotForced)).collect();
        rejected.sort_by_key(|&(method, _)| method);
        return Ok(Choice { method, reason: "forced by the caller", rejected, candidates });
    }
    let mut chosen: Option<&Candidate> = None;
    for candidate in &candidates {
        let against = limits.against(candidate.method, numerics(candidate.method), &candidate.estimate);
        match (against, chosen) {
            (Some(rejection), _) => rejected.push((candidate.method, rejection)),
            (None, None) => chosen = Some(candidate),
            (None, Some(chosen)) if candidate.estimate.seconds < chosen.estimate.seconds => {
                rejected.push((candidate.method, Rejection::LastResort));
            }
            (None, Some(_)) => rejected.push((candidate.method, Rejection::Slower)),
        }
    }
    let Some(&Candidate { method, .. }) = chosen else { return Err(limits.nothing(&rejected)) };
    rejected.sort_by_key(|&(method, _)| method);
    let reason = match method.algorithm {
        Algorithm::Reference => "nothing else is allowed",
        _ => "the fastest by the model",
    };
    Ok(Choice { method, reason, rejected, candidates })
}

/// Keeps Depthwise first for groups of one channel and one tap, which only scale their input. Pointwise and Direct do so with
/// tiles of which one column is useful.
fn not_before_depthwise(desc: &ConvDesc, candidates: &mut [Candidate]) {
    if desc.groups() > 1 && (desc.ins(), desc.outs(), desc.taps()) == (1, 1, 1) {
        raise_above(candidates, Method::new(Algorithm::Depthwise, Products::F32), |_| true);
    }
}

/// Raises the predictions of the methods that `others` holds for, and that have the same products as `first`, above its own.
fn raise_above(candidates: &mut [Candidate], first: Method, others: impl Fn(Algorithm) -> bool) {
    let seconds = candidates.iter().find(|candidate| candidate.method == first);
    let Some(least) = seconds.map(|candidate| 1.01 * candidate.estimate.seconds) else { return };
    let is_raised = |candidate: &&mut Candidate| {
        let Method { algorithm, products } = candidate.method;
        products == first.products && algorithm != first.algorithm && others(algorithm)
    };
    for candidate in candidates.iter_mut().filter(is_raised) {
        let terms = candidate.estimate.terms.raised_to(least);
        (candidate.estimate.terms, candidate.estimate.seconds) = (terms, terms.total());
    }
}

/// Keeps Pointwise first for 1x1 kernels at stride 1. There, every other algorithm does the work of Pointwise
/// and more, so a smaller prediction is an error of constants that were fitted to other problems. Two algorithms
/// take another route: Depthwise if there are several groups, and Direct with few output channels, where its vectors are
/// input channels, or in NCHW, where they are output channels. Those of Pointwise are output channels or, in NCHW,
/// pixels, of which a small map has few. With a stride, the rule does not hold: copied
/// pixels fill the tiles that would otherwise end at each row.
fn not_before_pointwise(desc: &ConvDesc, candidates: &mut [Candidate], lanes: usize) {
    if desc.stride() != Size2::square(1) {
        return;
    }
    let pixels = desc.output().h.saturating_mul(desc.output().w);
    let is_another_way = |algorithm| match algorithm {
        Algorithm::Depthwise => desc.groups() > 1,
        Algorithm::Direct => few::fits(desc, lanes) || (desc.layout() == Layout::Nchw && pixels <= BLOCK),
        _ => false,
    };
    for products in Products::ALL {
        let pointwise = Method::new(Algorithm::Pointwise, products);
        raise_above(candidates, pointwise, |algorithm| !is_another_way(algorithm));
    }
}
