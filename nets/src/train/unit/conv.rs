//! Convolutions.

use super::{Run, Unit, Wiring, all, pair_mut, read, split};
use crate::layer::{Conv, SparseConv};
use kernels::{
    Activation, BackwardData, BackwardDataIo, BackwardWeights, BackwardWeightsIo, ConvDesc, ConvError,
    ConvIo, ConvPlan, DataSpec, EpilogueSpec, PlanOptions, Weights, WeightsSpec, WorkspaceReq,
};

/// A convolution with its bias and activation.
pub(in crate::train) struct ConvUnit {
    wiring: Wiring,
    plan: ConvPlan,
    data: Option<BackwardData>,
    weights: Option<BackwardWeights>,
    activation: Activation,
    filter: usize,
    bias: Option<usize>,
    sparse: Option<Sparse>,
}

/// The equivalent dense filter of a convolution with a table of connections.
struct Sparse {
    of: SparseConv,
    in_channels: usize,
    filter: Vec<f32>,
    gradient: Vec<f32>,
}

/// What a convolution computes, and its parameters.
pub(in crate::train) struct ConvOf<'a> {
    pub(in crate::train) conv: &'a Conv,
    pub(in crate::train) sparse: Option<&'a SparseConv>,
    pub(in crate::train) activation: Activation,
    /// The filter and the bias among the parameters.
    pub(in crate::train) filter: usize,
    pub(in crate::train) bias: Option<usize>,
    /// Whether they are trained.
    pub(in crate::train) trains: bool,
    /// Whether gradients of parameters are added.
    pub(in crate::train) accumulates: bool,
}

impl ConvUnit {
    pub(in crate::train) fn new(
        of: &ConvOf<'_>,
        wiring: Wiring,
        values: &[Vec<f32>],
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        let (input, output) = (wiring.source(), &wiring.target);
        let layouts = (input.layout, output.layout);
        let epilogue = EpilogueSpec { bias: of.bias.is_some(), residual: false, activation: of.activation };
        let desc = of.conv.desc_with(input.shape, layouts, epilogue)?;
        let plain = of.conv.desc_with(input.shape, layouts, EpilogueSpec::NONE)?;
        let in_channels = input.shape.c;
        let sparse = of.sparse.map(|sparse| Sparse {
            of: sparse.clone(),
            in_channels,
            filter: sparse.dense(&values[of.filter], in_channels),
            gradient: vec![0.0; plain.filter_len()],
        });
        let filter = sparse.as_ref().map_or(&values[of.filter], |sparse| &sparse.filter);
        let bias = of.bias.map(|bias| &values[bias][..]);
        let plan = ConvPlan::new(&desc, Weights { filter, bias, slope: None }, options)?;
        let data = wiring
            .dx()
            .map(|dx| BackwardData::new(&plain, filter, DataSpec { accumulate: dx.adds }, options));
        let weights = of.trains.then(|| weights_plan(&plain, of, options));
        Ok(Self {
            plan,
            data: data.transpose()?,
            weights: weights.transpose()?,
            activation: of.activation,
            filter: of.filter,
            bias: of.bias,
            sparse,
            wiring,
        })
    }

    /// The gradients of the filter and the bias.
    fn weights(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let Some(plan) = &self.weights else { return Ok(()) };
        let sources = all(run.arena, run.inputs);
        let (x, dy) = (read(&sources, self.wiring.source())?, read(&sources, &self.wiring.dy)?);
        let (filter, bias) = pair_mut(run.gradients, self.filter, self.bias);
        let dense = match &mut self.sparse {
            Some(sparse) => {
                sparse.of.scatter(filter, sparse.in_channels, &mut sparse.gradient);
                &mut sparse.gradient[..]
            }
            None => &mut filter[..],
        };
        let mut io = BackwardWeightsIo::new(x, dy, dense);
        io.grad_bias = bias.map(|bias| &mut bias[..]);
        plan.run(io, run.workspace, run.threads)?;
        if let Some(sparse) = &self.sparse {
            sparse.of.gather(&sparse.gradient, sparse.in_channels, filter);
        }
        Ok(())
    }
}

fn weights_plan(
    plain: &ConvDesc,
    of: &ConvOf<'_>,
    options: &PlanOptions,
) -> Result<BackwardWeights, ConvError> {
    let mut spec = WeightsSpec::default();
    if of.bias.is_some() {
        spec = spec.bias();
    }
    if of.accumulates {
        spec = spec.accumulate();
    }
    BackwardWeights::new(plain, &spec, options)
}

impl Unit for ConvUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let (sources, data) = split(run.arena, run.inputs, &self.wiring.target);
        let io = ConvIo::new(read(&sources, self.wiring.source())?, self.wiring.target.tensor_mut(data)?);
        self.plan.run(io, run.workspace, run.threads)
    }

    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        self.wiring.undo(self.activation, run)?;
        self.weights(run)?;
        let (Some(plan), Some(dx)) = (&self.data, self.wiring.dx()) else { return Ok(()) };
        let (sources, data) = split(run.arena, run.inputs, &dx.operand);
        let io = BackwardDataIo::new(read(&sources, &self.wiring.dy)?, dx.operand.tensor_mut(data)?);
        plan.run(io, run.workspace, run.threads)
    }

    fn repack(&mut self, values: &[Vec<f32>]) -> Result<(), ConvError> {
        let bias = self.bias.map(|bias| &values[bias][..]);
        let filter = match &mut self.sparse {
            Some(sparse) => {
                sparse.of.scatter(&values[self.filter], sparse.in_channels, &mut sparse.filter);
                &sparse.filter
            }
            None => &values[self.filter],
        };
        self.plan.repack(Weights { filter, bias, slope: None })?;
        self.data.as_mut().map_or(Ok(()), |data| data.repack(filter))
    }

    fn workspace_req(&self, _threads: usize) -> WorkspaceReq {
        let data = self.data.as_ref().map(BackwardData::workspace_req);
        let weights = self.weights.as_ref().map(BackwardWeights::workspace_req);
        let backward = data.into_iter().chain(weights);
        backward.fold(self.plan.workspace_req(), WorkspaceReq::union)
    }
}
