//! Layer, instance and group normalisation, and local response normalisation.

use super::{Run, Unit, Wiring, pair_mut, parameter, read, split};
use kernels::{ConvError, LrnSpec, NormGradients, NormSpec, Ops, WorkspaceReq};

/// A normalisation with statistics of single images.
pub(in crate::train) struct NormUnit {
    pub(in crate::train) wiring: Wiring,
    pub(in crate::train) spec: NormSpec,
    /// The scale and the shift among the parameters.
    pub(in crate::train) params: Option<(usize, usize)>,
    pub(in crate::train) trains: bool,
    pub(in crate::train) accumulates: bool,
}

impl Unit for NormUnit {
    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let (sources, data) = split(run.arena, run.inputs, &self.wiring.target);
        let (scale, shift) =
            self.params.map(|(scale, shift)| (&run.values[scale][..], &run.values[shift][..])).unzip();
        let (x, y) = (read(&sources, self.wiring.source())?, self.wiring.target.tensor_mut(data)?);
        run.ops.normalize(self.spec, scale, shift, x, y, run.threads)
    }

    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let Some(dx) = self.wiring.dx() else { return Ok(()) };
        let (sources, data) = split(run.arena, run.inputs, &dx.operand);
        let tensors = (read(&sources, self.wiring.source())?, read(&sources, &self.wiring.dy)?);
        let (scale, shift) = match self.params.filter(|_| self.trains) {
            Some((scale, shift)) => {
                let (scale, shift) = pair_mut(run.gradients, scale, Some(shift));
                (
                    Some(parameter(scale, self.accumulates)),
                    shift.map(|shift| parameter(shift, self.accumulates)),
                )
            }
            None => (None, None),
        };
        let into = NormGradients { input: dx.gradient(data)?, scale, shift };
        let scale = self.params.map(|(scale, _)| &run.values[scale][..]);
        let scratch = run.workspace.as_mut_slice();
        run.ops.normalize_gradient(self.spec, scale, tensors, into, scratch, run.threads)
    }

    fn workspace_req(&self, _threads: usize) -> WorkspaceReq {
        let len = Ops::normalize_gradient_scratch_len(self.wiring.source().shape).unwrap_or(usize::MAX);
        WorkspaceReq::default().shared(len)
    }
}

/// A local response normalisation.
pub(in crate::train) struct LrnUnit {
    pub(in crate::train) wiring: Wiring,
    pub(in crate::train) spec: LrnSpec,
}

impl Unit for LrnUnit {
    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let (sources, data) = split(run.arena, run.inputs, &self.wiring.target);
        let (x, y) = (read(&sources, self.wiring.source())?, self.wiring.target.tensor_mut(data)?);
        run.ops.lrn(self.spec, x, y, run.threads)
    }

    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let Some(dx) = self.wiring.dx() else { return Ok(()) };
        let (sources, data) = split(run.arena, run.inputs, &dx.operand);
        let tensors = (read(&sources, self.wiring.source())?, read(&sources, &self.wiring.dy)?);
        run.ops.lrn_gradient(self.spec, tensors, dx.gradient(data)?, run.workspace, run.threads)
    }

    fn workspace_req(&self, threads: usize) -> WorkspaceReq {
        Ops::lrn_gradient_workspace(self.wiring.source().shape, threads)
    }
}
