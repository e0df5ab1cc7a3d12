//! Where a run would split its output among threads, without weights: for reports.

use super::options::PlanOptions;
use super::prepare::Problem;
use crate::describe::{ConvDesc, ConvError, Method, Weights};
use crate::work::parts::{OutputBox, Sharing};

/// The parts of the output that the threads of a run compute.
#[derive(Debug, Clone)]
pub struct Cuts {
    /// The method that the options choose.
    pub method: Method,
    /// Number of threads that the amount of work justifies, at most `max_threads` of the options.
    pub threads: usize,
    /// The predicted seconds of the largest part, without the time to hand work to other threads.
    pub seconds: f64,
    /// The whole output.
    pub whole: OutputBox,
    /// The parts. There are fewer parts than threads if the output cannot be split further.
    pub parts: Vec<OutputBox>,
}

impl Cuts {
    /// The outputs of a part if all threads had the same number, divided by the outputs of the largest part.
    pub fn balance(&self) -> f64 {
        let largest = self.parts.iter().map(OutputBox::size).max().unwrap_or(0);
        self.whole.size() as f64 / self.threads as f64 / largest as f64
    }
}

/// Splits the output of `desc` as a run of the plan that `options` choose would split it.
///
/// # Errors
/// Those of [`ConvPlan::choice`](super::ConvPlan::choice).
pub fn cuts(desc: &ConvDesc, options: &PlanOptions) -> Result<Cuts, ConvError> {
    let problem = Problem::new(desc, Weights::filter(&[]).into(), options)?;
    let choice = problem.choose()?;
    let (desc, _) = problem.computed(choice.method);
    let (units, merged) = problem.schedule(choice.method).0.split_units(desc, problem.kernels);
    let whole = OutputBox::whole(desc, merged);
    let mut parts = Vec::new();
    whole.clone().each_part(Sharing::among(problem.parts), &units, &mut |part| parts.push(part));
    let region = if problem.parts > 1 { problem.profile().region_ns as f64 * 1e-9 } else { 0.0 };
    let seconds = choice.candidate().map_or(f64::NAN, |chosen| chosen.estimate.seconds - region);
    Ok(Cuts { method: choice.method, threads: problem.parts, seconds, whole, parts })
}
