//! `nets conv --time`: runs the convolution in turns with the roof.

use crate::cli::args::Pool;
use crate::cli::roofs::convolution_gflops;
use crate::cli::timing::{median, noise, rounded};
use kernels::{Buffer, ConvError, ConvIo, ConvPlan, Shape4, TensorMut, TensorRef, Threads, Workspace};
use nets::NetError;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Minimum number of rounds.
const FEWEST: usize = 5;
/// Minimum duration of a turn of the convolution, and duration of a turn of the roof. The clock of a core is then that
/// of sustained work in both.
const TURN: Duration = Duration::from_millis(10);

/// The times of one convolution.
#[derive(Debug, Serialize)]
pub(super) struct Timed {
    threads: usize,
    rounds: usize,
    /// Milliseconds per call in the fastest round.
    ms_min: f64,
    /// Milliseconds per call in the median round.
    ms_median: f64,
    /// 10^9 operations of the definition per second in the median round.
    gflops: f64,
    /// 10^9 operations per second of the roof on the same threads in the median round.
    roof_gflops: f64,
    roof_percent: f64,
}

impl Timed {
    /// Times `plan` for about `time`, at least [`FEWEST`] rounds.
    pub(super) fn new(plan: &ConvPlan, pool: &Pool, time: Duration) -> Result<Self, NetError> {
        let mut call = Call::new(plan)?;
        let (mut times, mut roofs) = (Vec::new(), Vec::new());
        let (mut calls, start) = (1, Instant::now());
        while times.len() < FEWEST || start.elapsed() < time {
            let took = pool.threads().with_team(|threads| call.turn(&mut calls, threads))?;
            times.push(took.as_secs_f64());
            roofs.push(convolution_gflops(plan.isa(), pool.pool(), TURN)?);
        }
        times.sort_by(f64::total_cmp);
        roofs.sort_by(f64::total_cmp);
        let gflops = plan.desc().cost().flops as f64 / median(&times) / 1e9;
        let roof_gflops = median(&roofs);
        Ok(Self {
            threads: pool.pool().map_or(1, rayon::ThreadPool::current_num_threads),
            rounds: times.len(),
            ms_min: rounded(1e3 * times[0], 1e6),
            ms_median: rounded(1e3 * median(&times), 1e6),
            gflops: rounded(gflops, 1e3),
            roof_gflops: rounded(roof_gflops, 1e1),
            roof_percent: rounded(100.0 * gflops / roof_gflops, 1e2),
        })
    }

    /// The lines for a terminal.
    pub(super) fn text(&self) -> String {
        let Self { threads, rounds, ms_min, ms_median, gflops, roof_gflops, roof_percent } = self;
        format!(
            "  time      {ms_median:.4} ms (median of {rounds} rounds, {ms_min:.4} in the fastest), {threads} \
             thread(s), warm caches\n  \
             speed     {gflops:.1} GFLOP/s, {roof_percent:.1} % of the roof of {roof_gflops:.1} GFLOP/s, the \
             library's own f32 3x3 convolution in cache\n"
        )
    }
}

/// A plan with its tensors.
struct Call<'a> {
    plan: &'a ConvPlan,
    input: Buffer,
    output: Buffer,
    workspace: Workspace,
}

impl<'a> Call<'a> {
    fn new(plan: &'a ConvPlan) -> Result<Self, ConvError> {
        let desc = plan.desc();
        let len = |shape: Shape4| shape.len(desc.layout());
        let mut input = Buffer::zeroed(len(desc.input())?)?;
        let values = noise(input.len());
        input.iter_mut().zip(values).for_each(|(to, value)| *to = value);
        let output = Buffer::zeroed(len(desc.output())?)?;
        Ok(Self { plan, input, output, workspace: Workspace::for_req(plan.workspace_req())? })
    }

    fn run(&mut self, threads: Threads<'_>) -> Result<(), ConvError> {
        let desc = self.plan.desc();
        let input = TensorRef::packed(&self.input, desc.input(), desc.layout())?;
        let output = TensorMut::packed(&mut self.output, desc.output(), desc.layout())?;
        self.plan.run(ConvIo::new(input, output), &mut self.workspace, threads)
    }

    /// The time of a call. The clock is read only around `calls` calls, which grow until they fill the turn.
    fn turn(&mut self, calls: &mut u32, threads: Threads<'_>) -> Result<Duration, ConvError> {
        // A call that is not timed reloads the caches after the roof.
        self.run(threads)?;
        loop {
            let start = Instant::now();
            (0..*calls).try_for_each(|_| self.run(threads))?;
            let took = start.elapsed();
            if took >= TURN {
                return Ok(took / *calls);
            }
            *calls *= 2;
        }
    }
}
