//! [`VolumeReport`]: how a plan of volumes computes its slices, as a table.

use super::slices::VolumePlan;
use crate::plan::ConvPlan;
use std::fmt;

/// How a 3-D plan computes its output: the copies, and the 2-D plan of each run of slices. `println!("{}", plan.explain())`
/// prints it as a table.
#[derive(Clone, Copy)]
pub struct VolumeReport<'a> {
    plan: &'a VolumePlan,
}

impl<'a> VolumeReport<'a> {
    pub(super) fn new(plan: &'a VolumePlan) -> Self {
        Self { plan }
    }

    /// The 2-D plans of all runs. Each tells its algorithm and the reasons for it.
    pub fn plans(&self) -> impl Iterator<Item = &'a ConvPlan> + use<'a> {
        self.plan.runs().flat_map(|(_, _, plan)| plan.plans())
    }
}

impl fmt::Debug for VolumeReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for VolumeReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((from, to), [input, gathered, output]) = self.plan.staging();
        writeln!(f, "  slices    in {from}, written in {to}")?;
        writeln!(
            f,
            "  copies    {input} elements of input, {gathered} of gathered channels at a time, {output} of output"
        )?;
        writeln!(
            f,
            "  memory    {} bytes of weights, {} of workspace",
            self.plan.packed_bytes(),
            self.plan.workspace_req().len().saturating_mul(size_of::<f32>())
        )?;
        for (slices, taps, plan) in self.plan.runs() {
            let last = slices.first + (slices.count - 1) * slices.step;
            writeln!(f, "  slices {}..={last} step {}, taps {taps:?}", slices.first, slices.step)?;
            for plan in plan.plans() {
                let report = plan.explain();
                writeln!(f, "    {}: {} with {}", plan.desc(), report.choice.method, report.kernel)?;
            }
        }
        Ok(())
    }
}
