//! [`PlanReport`]: the choice of a plan and its reasons, as a value and as a table.

use crate::choose::{Candidate, Choice, Rejection};
use crate::describe::{ConvDesc, Isa, Method};
use std::fmt;

/// The choice of a plan, its reasons and its costs. `println!("{}", plan.explain())` prints it as a table.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PlanReport {
    /// The convolution that the plan computes.
    pub desc: ConvDesc,
    /// The smaller convolution that is computed in its place: without taps that only meet padding, and with the rows of
    /// a map of one column as columns. Usually it is `desc`.
    pub computed: ConvDesc,
    /// The chosen algorithm and the reasons against the others.
    pub choice: Choice,
    /// The instruction set of the kernels.
    pub isa: Isa,
    /// The name of the register tile, `<op>_f32_<rows>x<columns>_<isa>`.
    pub kernel: &'static str,
    /// Bytes of packed weights and of the tables of the algorithm.
    pub packed_bytes: usize,
    /// How the weights are stored: `"f32"`, `"bf16 parts"`, or `"f32, split as they are read"`.
    pub weights: &'static str,
    /// Bytes of workspace for one thread.
    pub workspace_bytes_per_thread: usize,
    /// Number of threads that the workspace is sized for.
    pub max_threads: usize,
}

impl PlanReport {
    /// Returns every algorithm, its estimate and the reason against it.
    ///
    /// The candidates come first, in the order of their times. The algorithms that cannot compute the problem
    /// follow without an estimate. The chosen algorithm has no reason against it.
    pub fn lines(&self) -> impl Iterator<Item = (Method, Option<&Candidate>, Option<Rejection>)> {
        let Choice { candidates, rejected, .. } = &self.choice;
        let against = |method: Method| {
            rejected.iter().find(|&&(other, _)| other == method).map(|&(_, rejection)| rejection)
        };
        let can = candidates.iter().map(move |c| (c.method, Some(c), against(c.method)));
        let is_candidate = |method: Method| candidates.iter().any(|c| c.method == method);
        let cannot = rejected.iter().filter(move |&&(method, _)| !is_candidate(method));
        can.chain(cannot.map(|&(method, rejection)| (method, None, Some(rejection))))
    }
}

impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Choice { method, reason, .. } = &self.choice;
        writeln!(f, "{}", self.desc)?;
        if self.computed != self.desc {
            writeln!(f, "  computed  as {}", self.computed)?;
        }
        writeln!(f, "  chosen    {method} with {}: {reason}", self.kernel)?;
        if let Some(Candidate { estimate, .. }) = self.choice.candidate() {
            writeln!(f, "  predicted {:.4} ms: {}", 1e3 * estimate.seconds, estimate.terms)?;
        }
        writeln!(
            f,
            "  memory    {} bytes of weights ({}), {} of workspace for each of {} threads",
            self.packed_bytes, self.weights, self.workspace_bytes_per_thread, self.max_threads
        )?;
        writeln!(
            f,
            "  {:19} {:>12} {:>8} {:>11} {:>11} {:>11}",
            "algorithm", "predicted ms", "bound", "measured ms", "workspace", "packed"
        )?;
        for (method, candidate, _) in self.lines() {
            write!(f, "  {:19} ", method.to_string())?;
            match candidate {
                Some(Candidate { estimate, measured, .. }) => {
                    let measured = measured.map_or("-".to_owned(), |seconds| format!("{:.4}", 1e3 * seconds));
                    write!(
                        f,
                        "{:12.4} {:>8} {measured:>11} {:>11} {:>11}",
                        1e3 * estimate.seconds,
                        estimate.bound,
                        estimate.workspace_bytes,
                        estimate.packed_bytes
                    )?;
                }
                None => write!(f, "{:>12} {:>8} {:>11} {:>11} {:>11}", "-", "-", "-", "-", "-")?,
            }
            match self.choice.against(method) {
                None => writeln!(f, "  chosen")?,
                Some(reason) => writeln!(f, "  rejected: {reason}")?,
            }
        }
        Ok(())
    }
}
