//! [`PlanReport`]: what was chosen and why, as a value and as a table.

use crate::choose::{Candidate, Choice, Rejection};
use crate::describe::{Algorithm, ConvDesc, Isa};
use std::fmt;

/// What was chosen, why, and what it costs: `println!("{}", plan.explain())`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PlanReport {
    /// The problem.
    pub desc: ConvDesc,
    /// The algorithm and the reasons against the others.
    pub choice: Choice,
    /// Whose kernels run.
    pub isa: Isa,
    /// The register tile, `<op>_f32_<rows>x<cols>_<isa>`.
    pub kernel: &'static str,
    /// Bytes of packed weights.
    pub packed_bytes: usize,
    /// Bytes of workspace for one thread.
    pub workspace_bytes_per_thread: usize,
    /// Threads that the workspace is sized for.
    pub max_threads: usize,
}

impl PlanReport {
    /// Every algorithm: those that can do the problem by their time, each with the reason against it unless it is the
    /// chosen one; then the others.
    pub fn lines(&self) -> impl Iterator<Item = (Algorithm, Option<&Candidate>, Option<Rejection>)> {
        let Choice { candidates, rejected, .. } = &self.choice;
        let against = |algorithm: Algorithm| {
            rejected.iter().find(|&&(other, _)| other == algorithm).map(|&(_, rejection)| rejection)
        };
        let can = candidates.iter().map(move |c| (c.algorithm, Some(c), against(c.algorithm)));
        let is_candidate = |algorithm: Algorithm| candidates.iter().any(|c| c.algorithm == algorithm);
        let cannot = rejected.iter().filter(move |&&(algorithm, _)| !is_candidate(algorithm));
        can.chain(cannot.map(|&(algorithm, rejection)| (algorithm, None, Some(rejection))))
    }
}

impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Choice { algorithm, reason, .. } = &self.choice;
        writeln!(f, "{}", self.desc)?;
        writeln!(f, "  chosen    {algorithm} with {}: {reason}", self.kernel)?;
        if let Some(Candidate { estimate, .. }) = self.choice.candidate() {
            writeln!(f, "  predicted {:.4} ms: {}", 1e3 * estimate.seconds, estimate.terms)?;
        }
        writeln!(
            f,
            "  memory    {} bytes of weights, {} of workspace for each of {} threads",
            self.packed_bytes, self.workspace_bytes_per_thread, self.max_threads
        )?;
        writeln!(
            f,
            "  {:13} {:>12} {:>8} {:>11} {:>11} {:>11}",
            "algorithm", "predicted ms", "bound", "measured ms", "workspace", "packed"
        )?;
        for (algorithm, candidate, _) in self.lines() {
            write!(f, "  {:13} ", algorithm.name())?;
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
            match self.choice.against(algorithm) {
                None => writeln!(f, "  chosen")?,
                Some(reason) => writeln!(f, "  rejected: {reason}")?,
            }
        }
        Ok(())
    }
}
