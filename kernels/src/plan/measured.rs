//! [`Select::Measured`](crate::Select::Measured): runs the candidates that the model expects to be fastest,
//! and times them on the real problem.

use super::prepare::Problem;
use crate::choose::{Candidate, Choice, Rejection, Wisdom, WisdomKey};
use crate::describe::{ConvDesc, ConvError, Method, TensorMut, TensorRef};
use crate::memory::{Buffer, Workspace, WorkspaceReq};
use crate::run::{ConvIo, PreparedConv, Threads};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Maximum number of timed candidates.
const MOST_CANDIDATES: usize = 4;
/// A candidate is not timed if the model expects it to take more than this many times as long as the fastest.
const HOPELESS: f64 = 3.0;
/// Time for all runs of one problem. Long runs can exceed it.
const BUDGET: Duration = Duration::from_millis(10);
/// Maximum number of rounds.
const MOST_ROUNDS: u32 = 16;
/// Length of one turn, long enough to make the cost of reading the clock negligible.
const TURN: Duration = Duration::from_micros(60);
/// Each turn of a rival with shorter runs than this starts with a run that is not timed. That run brings its
/// data back into cache.
const WARM: Duration = Duration::from_millis(1);
/// A rival drops out if it takes more than this many times as long as the fastest. The first factor holds for
/// the first four rounds, the second for the later ones, so that the remaining time goes to close rivals.
const BEATEN: [f64; 2] = [1.5, 1.15];

/// A candidate that is timed.
struct Rival {
    method: Method,
    conv: PreparedConv,
    calls: u32,
    seconds: f64,
}

/// Returns the fastest candidate, prepared, and the choice with the measured times.
pub(super) fn fastest(
    problem: &Problem<'_>,
    wisdom: Option<&Wisdom>,
) -> Result<(Choice, PreparedConv), ConvError> {
    let choice = problem.choose()?;
    let prepared = |choice: Choice| {
        let conv = problem.prepare(choice.method, true)?;
        Ok((choice, conv))
    };
    let rivals = rivals(&choice);
    if rivals.len() < 2 {
        return prepared(choice);
    }
    let options = &problem.options;
    let key = WisdomKey::new(problem.desc, problem.kernels.isa(), &options.limits(), options.runs());
    let known = wisdom.and_then(|wisdom| wisdom.recall(&key));
    // A stored entry can be wrong. It must not lead to a plan that the options forbid.
    if let Some(times) = known.filter(|times| times.iter().all(|(method, _)| rivals.contains(method)))
        && let Some(choice) = judged(&choice, &times)
    {
        return prepared(choice);
    }
    let timed = time(problem, &rivals)?;
    let times: Vec<(Method, f64)> = timed.iter().map(|rival| (rival.method, rival.seconds)).collect();
    let judged = judged(&choice, &times).unwrap_or(choice);
    if let Some(wisdom) = wisdom {
        wisdom.remember(key, times);
    }
    match timed.into_iter().find(|rival| rival.method == judged.method) {
        Some(Rival { conv, .. }) => {
            problem.keep(&conv);
            Ok((judged, conv))
        }
        None => prepared(judged),
    }
}

/// Returns the allowed algorithms that have a chance, fastest by the model first.
fn rivals(choice: &Choice) -> Vec<Method> {
    let allowed: Vec<&Candidate> = choice.allowed().collect();
    let least = allowed.first().map_or(0.0, |candidate| candidate.estimate.seconds);
    let has_chance = |candidate: &&&Candidate| candidate.estimate.seconds <= HOPELESS * least;
    allowed.iter().filter(has_chance).take(MOST_CANDIDATES).map(|candidate| candidate.method).collect()
}

/// Returns `choice`, decided by the measured `times`.
fn judged(choice: &Choice, times: &[(Method, f64)]) -> Option<Choice> {
    let &(method, _) = times.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    let mut judged = choice.clone();
    let time = |method: Method| times.iter().find(|time| time.0 == method).map(|time| time.1);
    for candidate in &mut judged.candidates {
        candidate.measured = time(candidate.method);
    }
    // Timed candidates come first, in the order of their measured times.
    let order = |c: &Candidate| (c.measured.is_none(), c.measured.unwrap_or(c.estimate.seconds));
    judged.candidates.sort_by(|a, b| order(a).partial_cmp(&order(b)).unwrap_or(std::cmp::Ordering::Equal));
    if method != choice.method {
        judged.method = method;
        judged.rejected.retain(|&(other, _)| other != method);
        judged.rejected.push((choice.method, Rejection::Measured));
    }
    for (other, rejection) in &mut judged.rejected {
        if time(*other).is_some() {
            *rejection = Rejection::Measured;
        }
    }
    judged.rejected.sort_by_key(|&(method, _)| method);
    judged.reason = "the fastest of those that were timed";
    Some(judged)
}

/// The tensors on which the candidates run.
struct Tensors {
    input: Buffer,
    output: Buffer,
    residual: Option<Buffer>,
    workspace: Workspace,
    /// What other work touches between two runs.
    others: Buffer,
}

impl Tensors {
    /// `others` is the number of bytes that other work touches between two runs.
    fn new(desc: &ConvDesc, workspace: WorkspaceReq, others: usize) -> Result<Self, ConvError> {
        let (input, output) = (desc.input().len(desc.layout())?, desc.output().len(desc.output_layout())?);
        let zeroed = |len: usize| Buffer::zeroed_for("tensors to measure with", len);
        let filled = |len: usize| {
            let mut buffer = zeroed(len)?;
            // Neither zeros nor tiny numbers, which a layer rarely sees.
            buffer.iter_mut().enumerate().for_each(|(i, x)| *x = (i % 13) as f32 * 0.125 + 0.25);
            Ok(buffer)
        };
        Ok(Self {
            input: filled(input)?,
            output: zeroed(output)?,
            residual: desc.epilogue().residual.then(|| filled(output)).transpose()?,
            workspace: Workspace::for_req(workspace)?,
            others: filled(others / size_of::<f32>())?,
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

    /// Runs `conv` `calls` times and returns the mean seconds per run.
    fn time(&mut self, conv: &PreparedConv, calls: u32, threads: Threads<'_>) -> Result<f64, ConvError> {
        let start = Instant::now();
        (0..calls).try_for_each(|_| self.run(conv, threads))?;
        Ok(start.elapsed().as_secs_f64() / f64::from(calls))
    }

    /// Touches as many bytes as other work does between two runs, and at last the input, which other work has just
    /// written.
    fn displace(&self) {
        const LINE: usize = 16;
        let input = if self.others.is_empty() { &[][..] } else { &self.input[..] };
        let touched = self.others.iter().step_by(LINE).chain(input.iter().step_by(LINE));
        black_box(touched.sum::<f32>());
    }

    /// Runs `rival` for the first time. The very first run touches all memory, so a second run is timed
    /// unless it would exceed the budget.
    fn first(&mut self, rival: &mut Rival, threads: Threads<'_>) -> Result<(), ConvError> {
        let cold = self.time(&rival.conv, 1, threads)?;
        let is_long = cold > BUDGET.as_secs_f64();
        self.displace();
        rival.seconds = if is_long { cold } else { self.time(&rival.conv, 1, threads)? };
        let most = if self.others.is_empty() { 1000.0 } else { 1.0 };
        rival.calls = (TURN.as_secs_f64() / rival.seconds.max(1e-9)).clamp(1.0, most) as u32;
        Ok(())
    }

    /// Times one turn of `rival` and keeps its best time.
    fn turn(&mut self, rival: &mut Rival, threads: Threads<'_>) -> Result<(), ConvError> {
        if self.others.is_empty() && rival.seconds < WARM.as_secs_f64() {
            self.run(&rival.conv, threads)?;
        }
        self.displace();
        rival.seconds = rival.seconds.min(self.time(&rival.conv, rival.calls, threads)?);
        Ok(())
    }
}

/// Times all rivals in turns: each at least once, and all together for about [`BUDGET`].
fn time(problem: &Problem<'_>, rivals: &[Method]) -> Result<Vec<Rival>, ConvError> {
    let prepare = |&method: &Method| {
        Ok(Rival { method, conv: problem.prepare(method, false)?, calls: 1, seconds: f64::INFINITY })
    };
    let mut prepared = rivals.iter().map(prepare).collect::<Result<Vec<_>, ConvError>>()?;
    let workspace = prepared.iter().fold(WorkspaceReq::default(), |all, rival| all.union(rival.conv.req));
    // More than this displaces no more.
    let most = 2 * problem.profile().l3_bytes;
    let mut tensors = Tensors::new(problem.desc, workspace, problem.options.bytes_between_runs.min(most))?;
    #[cfg(feature = "rayon")]
    let threads = if problem.parts > 1 { Threads::Current } else { Threads::Seq };
    #[cfg(not(feature = "rayon"))]
    let threads = Threads::Seq;
    // With a team, the times do not include waking threads.
    threads.with_team(|threads| contest(&mut tensors, &mut prepared, threads))?;
    Ok(prepared)
}

fn contest(tensors: &mut Tensors, rivals: &mut [Rival], threads: Threads<'_>) -> Result<(), ConvError> {
    rivals.iter_mut().try_for_each(|rival| tensors.first(rival, threads))?;
    // To displace the weights takes longer than most runs.
    let budget = if tensors.others.is_empty() { BUDGET } else { 4 * BUDGET };
    let start = Instant::now();
    for round in 0..MOST_ROUNDS {
        let least = rivals.iter().map(|rival| rival.seconds).fold(f64::INFINITY, f64::min);
        let beaten = BEATEN[usize::from(round >= 4)] * least;
        // A single short run is not reliable enough to drop a rival.
        let is_unknown = |rival: &Rival| round == 0 && rival.seconds < BUDGET.as_secs_f64();
        let mut close: Vec<&mut Rival> =
            rivals.iter_mut().filter(|rival| rival.seconds <= beaten || is_unknown(rival)).collect();
        if close.len() < 2 {
            break;
        }
        close.iter_mut().try_for_each(|rival| tensors.turn(rival, threads))?;
        if start.elapsed() >= budget {
            break;
        }
    }
    Ok(())
}
