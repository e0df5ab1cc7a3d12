//! [`Select::Measured`](crate::Select::Measured): the few that the model expects to be fastest are timed on the real problem.

use super::{ConvPlan, PlanOptions, Plans};
use crate::algo::Algorithm;
use crate::choose::{Candidate, Choice, Rejection, Wisdom};
use crate::describe::{ConvDesc, Pad2, Shape4, Size2, TensorMut, TensorRef};
use crate::error::ConvError;
use crate::plan::{Buffer, Workspace};
use crate::run::{ConvIo, Threads};
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
    plan: ConvPlan,
    calls: u32,
    seconds: f64,
}

/// The plan of the fastest candidate of `choice`; `plans` plans one.
pub(super) fn fastest(
    desc: &ConvDesc,
    choice: Choice,
    plans: &Plans<'_>,
    wisdom: Option<&Wisdom>,
) -> Result<ConvPlan, ConvError> {
    let rivals = rivals(&choice);
    if rivals.len() < 2 {
        return plans.plan(choice);
    }
    let key = key(desc, plans);
    let known = wisdom.and_then(|wisdom| wisdom.recall(&key));
    // What is known may be wrong, and must not make a plan that the options forbid.
    if let Some(times) = known.filter(|times| times.iter().all(|(algorithm, _)| rivals.contains(algorithm)))
        && let Some(choice) = judged(&choice, &times)
    {
        return plans.plan(choice);
    }
    let timed = time(desc, &choice, &rivals, plans)?;
    let times: Vec<(Algorithm, f64)> =
        timed.iter().map(|rival| (rival.plan.algorithm(), rival.seconds)).collect();
    let judged = judged(&choice, &times).unwrap_or(choice);
    if let Some(wisdom) = wisdom {
        wisdom.remember(key, times);
    }
    let winner = timed.into_iter().find(|rival| rival.plan.algorithm() == judged.algorithm);
    match winner {
        Some(Rival { mut plan, .. }) => {
            plan.report.choice = judged;
            Ok(plan)
        }
        None => plans.plan(judged),
    }
}

/// What may be chosen, the fastest by the model first, as far as it has a chance.
fn rivals(choice: &Choice) -> Vec<Algorithm> {
    let is_allowed = |algorithm: Algorithm| {
        let against = choice.rejected.iter().find(|&&(other, _)| other == algorithm);
        matches!(against, None | Some((_, Rejection::Slower(_))))
    };
    let allowed: Vec<&Candidate> = choice.candidates.iter().filter(|c| is_allowed(c.algorithm)).collect();
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

/// Everything that a time depends on besides CPU and library, as text without tabs.
fn key(desc: &ConvDesc, plans: &Plans<'_>) -> String {
    let (Shape4 { n, c, h, w }, o) = (desc.input(), desc.output().c);
    let Pad2 { top, bottom, left, right } = desc.pad();
    let epilogue = desc.epilogue();
    let two = |size: Size2| format!("{}x{}", size.h, size.w);
    let PlanOptions { numerics, forbidden, max_threads, macs_per_thread, .. } = *plans.options;
    let PlanOptions { max_workspace_bytes, max_packed_bytes, .. } = *plans.options;
    let cap = |bytes: Option<usize>| bytes.map_or("any".to_owned(), |bytes| bytes.to_string());
    let forbidden: Vec<&str> =
        Algorithm::ALL.iter().filter(|&&a| forbidden.contains(a)).map(|a| a.name()).collect();
    format!(
        "{n}x{c}x{h}x{w} to {o} kernel {} stride {} pad {top},{bottom},{left},{right} dilation {} groups {} {} to {} \
         bias {} residual {} {:?}; {} threads {max_threads} by {macs_per_thread}; {numerics:?} without [{}] workspace {} packed {}",
        two(desc.kernel()),
        two(desc.stride()),
        two(desc.dilation()),
        desc.groups(),
        desc.layout(),
        desc.output_layout(),
        epilogue.bias,
        epilogue.residual,
        epilogue.activation,
        plans.kernels.isa(),
        forbidden.join(","),
        cap(max_workspace_bytes),
        cap(max_packed_bytes),
    )
}

/// Tensors of a problem to run it on.
struct Tensors {
    input: Buffer,
    output: Buffer,
    residual: Option<Buffer>,
    workspace: Workspace,
}

impl Tensors {
    fn new(desc: &ConvDesc) -> Result<Self, ConvError> {
        let (input, output) = (desc.input().len(desc.layout())?, desc.output().len(desc.output_layout())?);
        let filled = |len: usize| {
            let mut buffer = Buffer::zeroed(len);
            // No zeros, nothing small: neither is what a layer usually sees.
            buffer.iter_mut().enumerate().for_each(|(i, x)| *x = (i % 13) as f32 * 0.125 + 0.25);
            buffer
        };
        Ok(Self {
            input: filled(input),
            output: Buffer::zeroed(output),
            residual: desc.epilogue().residual.then(|| filled(output)),
            workspace: Workspace::empty(),
        })
    }

    fn run(&mut self, plan: &ConvPlan, threads: Threads<'_>) -> Result<(), ConvError> {
        let desc = plan.desc();
        let layout = desc.output_layout();
        let residual = self.residual.as_ref();
        let io = ConvIo {
            input: TensorRef::packed(&self.input, desc.input(), desc.layout())?,
            output: TensorMut::packed(&mut self.output, desc.output(), layout)?,
            residual: residual.map(|r| TensorRef::packed(r, desc.output(), layout)).transpose()?,
        };
        plan.run(io, &mut self.workspace, threads)
    }

    /// Seconds of one of so many runs.
    fn time(&mut self, plan: &ConvPlan, calls: u32, threads: Threads<'_>) -> Result<f64, ConvError> {
        let start = Instant::now();
        (0..calls).try_for_each(|_| self.run(plan, threads))?;
        Ok(start.elapsed().as_secs_f64() / f64::from(calls))
    }

    /// The first runs of `plan`, of which the very first touches everything.
    fn first(&mut self, plan: ConvPlan, threads: Threads<'_>) -> Result<Rival, ConvError> {
        let cold = self.time(&plan, 1, threads)?;
        let seconds = if cold > BUDGET.as_secs_f64() { cold } else { self.time(&plan, 1, threads)? };
        let calls = (TURN.as_secs_f64() / seconds.max(1e-9)).clamp(1.0, 1000.0) as u32;
        Ok(Rival { plan, calls, seconds })
    }

    /// A turn of `rival`, of which the best one counts.
    fn turn(&mut self, rival: &mut Rival, threads: Threads<'_>) -> Result<(), ConvError> {
        if rival.seconds < WARM.as_secs_f64() {
            self.run(&rival.plan, threads)?;
        }
        rival.seconds = rival.seconds.min(self.time(&rival.plan, rival.calls, threads)?);
        Ok(())
    }
}

/// Times every rival, in turns; at least once each, and for about [`BUDGET`] in all.
fn time(
    desc: &ConvDesc,
    choice: &Choice,
    rivals: &[Algorithm],
    plans: &Plans<'_>,
) -> Result<Vec<Rival>, ConvError> {
    let mut tensors = Tensors::new(desc)?;
    let plan = |&algorithm: &Algorithm| plans.plan(Choice { algorithm, ..choice.clone() });
    let packed = rivals.iter().map(plan).collect::<Result<Vec<_>, _>>()?;
    packed.iter().for_each(|plan| tensors.workspace.reserve(plan.workspace_req()));
    let threads = if plans.parts > 1 { Threads::Current } else { Threads::Seq };
    // Not what it takes to wake threads up.
    threads.together(|threads| contest(&mut tensors, packed, threads))
}

fn contest(
    tensors: &mut Tensors,
    plans: Vec<ConvPlan>,
    threads: Threads<'_>,
) -> Result<Vec<Rival>, ConvError> {
    let first = |plan| tensors.first(plan, threads);
    let mut timed = plans.into_iter().map(first).collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    for round in 0..MOST_ROUNDS {
        let least = timed.iter().map(|rival| rival.seconds).fold(f64::INFINITY, f64::min);
        let beaten = BEATEN[usize::from(round >= 4)] * least;
        // A single short run says little.
        let is_unknown = |rival: &Rival| round == 0 && rival.seconds < BUDGET.as_secs_f64();
        let mut close: Vec<&mut Rival> =
            timed.iter_mut().filter(|rival| rival.seconds <= beaten || is_unknown(rival)).collect();
        if close.len() < 2 {
            break;
        }
        close.iter_mut().try_for_each(|rival| tensors.turn(rival, threads))?;
        if start.elapsed() >= BUDGET {
            break;
        }
    }
    Ok(timed)
}
