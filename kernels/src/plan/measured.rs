//! [`Select::Measured`](crate::Select::Measured): the few that the model expects to be fastest are timed on the real problem.

use super::prepare::Problem;
use crate::choose::{Candidate, Choice, Rejection, Wisdom, WisdomKey};
use crate::describe::{Algorithm, ConvDesc, ConvError, TensorMut, TensorRef};
use crate::memory::{Buffer, Workspace, WorkspaceReq};
use crate::run::{ConvIo, PreparedConv, Threads};
use std::time::{Duration, Instant};

/// Candidates that are timed at most.
const MOST_CANDIDATES: usize = 4;
/// What the model expects to take so many times as long as the fastest is not timed.
const HOPELESS: f64 = 3.0;
/// All of a problem's timing, unless its runs are longer than that.
const BUDGET: Duration = Duration::from_millis(10);
/// Rounds that are enough.
const MOST_ROUNDS: u32 = 16;
/// A turn: so long that reading the clock does not matter.
const TURN: Duration = Duration::from_micros(60);
/// Runs that are shorter find what they need in the near caches, once a run that is not timed has brought it back there.
const WARM: Duration = Duration::from_millis(1);
/// What took so many times as long as the fastest is out: after the first round, and, so that the time goes to those that are
/// close, after the fourth.
const BEATEN: [f64; 2] = [1.5, 1.15];

/// One of those that are timed.
struct Rival {
    algorithm: Algorithm,
    conv: PreparedConv,
    calls: u32,
    seconds: f64,
}

/// The fastest candidate, prepared, and the choice as the times have it.
pub(super) fn fastest(
    problem: &Problem<'_>,
    wisdom: Option<&Wisdom>,
) -> Result<(Choice, PreparedConv), ConvError> {
    let choice = problem.choose()?;
    let prepared = |choice: Choice| {
        let conv = problem.prepare(choice.algorithm, true)?;
        Ok((choice, conv))
    };
    let rivals = rivals(&choice);
    if rivals.len() < 2 {
        return prepared(choice);
    }
    let threads = (problem.options.max_threads, problem.options.macs_per_thread);
    let key = WisdomKey::new(problem.desc, problem.kernels.isa(), &problem.options.limits(), threads);
    let known = wisdom.and_then(|wisdom| wisdom.recall(&key));
    // What is known may be wrong, and must not make a plan that the options forbid.
    if let Some(times) = known.filter(|times| times.iter().all(|(algorithm, _)| rivals.contains(algorithm)))
        && let Some(choice) = judged(&choice, &times)
    {
        return prepared(choice);
    }
    let timed = time(problem, &rivals)?;
    let times: Vec<(Algorithm, f64)> = timed.iter().map(|rival| (rival.algorithm, rival.seconds)).collect();
    let judged = judged(&choice, &times).unwrap_or(choice);
    if let Some(wisdom) = wisdom {
        wisdom.remember(key, times);
    }
    match timed.into_iter().find(|rival| rival.algorithm == judged.algorithm) {
        Some(Rival { conv, .. }) => {
            problem.keep(&conv);
            Ok((judged, conv))
        }
        None => prepared(judged),
    }
}

/// What may be chosen, the fastest by the model first, as far as it has a chance.
fn rivals(choice: &Choice) -> Vec<Algorithm> {
    let allowed: Vec<&Candidate> = choice.allowed().collect();
    let least = allowed.first().map_or(0.0, |candidate| candidate.estimate.seconds);
    let has_chance = |candidate: &&&Candidate| candidate.estimate.seconds <= HOPELESS * least;
    allowed.iter().filter(has_chance).take(MOST_CANDIDATES).map(|candidate| candidate.algorithm).collect()
}

/// `choice` as `times` have it.
fn judged(choice: &Choice, times: &[(Algorithm, f64)]) -> Option<Choice> {
    let &(algorithm, _) = times.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    let mut judged = choice.clone();
    let time = |algorithm: Algorithm| times.iter().find(|time| time.0 == algorithm).map(|time| time.1);
    for candidate in &mut judged.candidates {
        candidate.measured = time(candidate.algorithm);
    }
    // Those that were timed first, by what was measured.
    let order = |c: &Candidate| (c.measured.is_none(), c.measured.unwrap_or(c.estimate.seconds));
    judged.candidates.sort_by(|a, b| order(a).partial_cmp(&order(b)).unwrap_or(std::cmp::Ordering::Equal));
    if algorithm != choice.algorithm {
        judged.algorithm = algorithm;
        judged.rejected.retain(|&(other, _)| other != algorithm);
        judged.rejected.push((choice.algorithm, Rejection::Measured));
    }
    for (other, rejection) in &mut judged.rejected {
        if time(*other).is_some() {
            *rejection = Rejection::Measured;
        }
    }
    judged.rejected.sort_by_key(|&(algorithm, _)| algorithm as u8);
    judged.reason = "the fastest of those that were timed";
    Some(judged)
}

/// Tensors of a problem to run it on.
struct Tensors {
    input: Buffer,
    output: Buffer,
    residual: Option<Buffer>,
    workspace: Workspace,
}

impl Tensors {
    fn new(desc: &ConvDesc, workspace: WorkspaceReq) -> Result<Self, ConvError> {
        let (input, output) = (desc.input().len(desc.layout())?, desc.output().len(desc.output_layout())?);
        let zeroed = |len: usize| Buffer::zeroed_for("tensors to measure with", len);
        let filled = |len: usize| {
            let mut buffer = zeroed(len)?;
            // No zeros, nothing small: neither is what a layer usually sees.
            buffer.iter_mut().enumerate().for_each(|(i, x)| *x = (i % 13) as f32 * 0.125 + 0.25);
            Ok(buffer)
        };
        Ok(Self {
            input: filled(input)?,
            output: zeroed(output)?,
            residual: desc.epilogue().residual.then(|| filled(output)).transpose()?,
            workspace: Workspace::for_req(workspace)?,
        })
    }

    fn run(&mut self, conv: &PreparedConv, threads: Threads<'_>) -> Result<(), ConvError> {
        let desc = &conv.desc;
        let layout = desc.output_layout();
        let residual = self.residual.as_ref();
        let io = ConvIo {
            input: TensorRef::packed(&self.input, desc.input(), desc.layout())?,
            output: TensorMut::packed(&mut self.output, desc.output(), layout)?.into(),
            residual: residual.map(|r| TensorRef::packed(r, desc.output(), layout)).transpose()?,
        };
        conv.run(io, self.workspace.as_mut_slice(), threads)
    }

    /// Seconds of one of so many runs.
    fn time(&mut self, conv: &PreparedConv, calls: u32, threads: Threads<'_>) -> Result<f64, ConvError> {
        let start = Instant::now();
        (0..calls).try_for_each(|_| self.run(conv, threads))?;
        Ok(start.elapsed().as_secs_f64() / f64::from(calls))
    }

    /// The first runs of `rival`, of which the very first touches everything.
    fn first(&mut self, rival: &mut Rival, threads: Threads<'_>) -> Result<(), ConvError> {
        let cold = self.time(&rival.conv, 1, threads)?;
        let is_long = cold > BUDGET.as_secs_f64();
        rival.seconds = if is_long { cold } else { self.time(&rival.conv, 1, threads)? };
        rival.calls = (TURN.as_secs_f64() / rival.seconds.max(1e-9)).clamp(1.0, 1000.0) as u32;
        Ok(())
    }

    /// A turn of `rival`, of which the best one counts.
    fn turn(&mut self, rival: &mut Rival, threads: Threads<'_>) -> Result<(), ConvError> {
        if rival.seconds < WARM.as_secs_f64() {
            self.run(&rival.conv, threads)?;
        }
        rival.seconds = rival.seconds.min(self.time(&rival.conv, rival.calls, threads)?);
        Ok(())
    }
}

/// Times every rival, in turns; at least once each, and for about [`BUDGET`] in all.
fn time(problem: &Problem<'_>, rivals: &[Algorithm]) -> Result<Vec<Rival>, ConvError> {
    let prepare = |&algorithm: &Algorithm| {
        Ok(Rival { algorithm, conv: problem.prepare(algorithm, false)?, calls: 1, seconds: f64::INFINITY })
    };
    let mut prepared = rivals.iter().map(prepare).collect::<Result<Vec<_>, ConvError>>()?;
    let workspace = prepared.iter().fold(WorkspaceReq::default(), |all, rival| all.union(rival.conv.req));
    let mut tensors = Tensors::new(problem.desc, workspace)?;
    #[cfg(feature = "rayon")]
    let threads = if problem.parts > 1 { Threads::Current } else { Threads::Seq };
    #[cfg(not(feature = "rayon"))]
    let threads = Threads::Seq;
    // Not what it takes to wake threads up.
    threads.with_team(|threads| contest(&mut tensors, &mut prepared, threads))?;
    Ok(prepared)
}

fn contest(tensors: &mut Tensors, rivals: &mut [Rival], threads: Threads<'_>) -> Result<(), ConvError> {
    rivals.iter_mut().try_for_each(|rival| tensors.first(rival, threads))?;
    let start = Instant::now();
    for round in 0..MOST_ROUNDS {
        let least = rivals.iter().map(|rival| rival.seconds).fold(f64::INFINITY, f64::min);
        let beaten = BEATEN[usize::from(round >= 4)] * least;
        // A single short run says little.
        let is_unknown = |rival: &Rival| round == 0 && rival.seconds < BUDGET.as_secs_f64();
        let mut close: Vec<&mut Rival> =
            rivals.iter_mut().filter(|rival| rival.seconds <= beaten || is_unknown(rival)).collect();
        if close.len() < 2 {
            break;
        }
        close.iter_mut().try_for_each(|rival| tensors.turn(rival, threads))?;
        if start.elapsed() >= BUDGET {
            break;
        }
    }
    Ok(())
}
