//! Layer, instance and group normalisation, and local response normalisation.

use super::{InputGradient, Run, Unit, Wiring, read, scale_and_shift, split, values_of};
use kernels::{ConvError, LrnSpec, NormGradients, NormSpec, Ops, WorkspaceReq};

/// A normalisation with statistics of single images.
pub(in crate::train) struct NormUnit {
    pub(in crate::train) wiring: Wiring,
    pub(in crate::train) gradient: InputGradient,
    pub(in crate::train) spec: NormSpec,
    /// The scale and the shift among the parameters.
    pub(in crate::train) params: Option<(usize, usize)>,
    pub(in crate::train) trains: bool,
    pub(in crate::train) accumulates: bool,
}

impl Unit for NormUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let (sources, data) = split(run.arena, run.inputs, &self.wiring.target);
        let (scale, shift) = values_of(run.values, self.params);
        let (x, y) = (read(&sources, self.wiring.source())?, self.wiring.target.tensor_mut(data)?);
        run.ops.normalize(self.spec, scale, shift, x, y, run.threads)
    }

    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let Some((sources, input)) = self.gradient.split(run.arena, run.inputs)? else { return Ok(()) };
        let tensors = (read(&sources, self.wiring.source())?, read(&sources, &self.wiring.dy)?);
        let trained = self.params.filter(|_| self.trains);
        let (scale, shift) = scale_and_shift(run.gradients, trained, self.accumulates);
        let into = NormGradients { input, scale, shift };
        let (scale, _) = values_of(run.values, self.params);
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
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

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
