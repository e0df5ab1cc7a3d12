//! Fully connected layers.

use super::{Run, Unit, Wiring, all, as_row, pair_mut, parameter, read, split};
use crate::layer::Linear;
use crate::train::random::{Mask, Stream};
use kernels::{
    Activation, ConvError, ConvIo, ConvPlan, EpilogueSpec, LinearGradient, LinearPlan, PlanOptions, Shape4,
    TensorMut, TensorRef, Weights, WorkspaceReq,
};

/// Weights up to this number are packed. More are read in place, because a second copy of them would not fit the caches.
const MOST_PACKED: usize = 1 << 18;

/// A fully connected layer with its bias and activation.
pub(in crate::train) struct LinearUnit {
    wiring: Wiring,
    product: Product,
    gradient: LinearGradient,
    activation: Activation,
    filter: usize,
    bias: Option<usize>,
    trains: bool,
    accumulates: bool,
    drop: Option<DropConnect>,
}

/// How `y[batch][out] = x[batch][in] * w[out][in]` is computed.
enum Product {
    /// With packed weights, which change in each update.
    Packed(ConvPlan),
    /// As `w * x^T`, with packed inputs, which change in each pass. The weights are read in place. The result, `[out][batch]`,
    /// is transposed.
    Turned { plan: ConvPlan, result: Vec<f32> },
}

/// The random weights of a pass (Wan et al. 2013).
struct DropConnect {
    stream: Stream,
    rate: f32,
    mask: Vec<f32>,
    weights: Vec<f32>,
    /// The gradient of all weights in this pass, where gradients of several passes are added.
    gradient: Vec<f32>,
}

/// What a fully connected layer computes, and its parameters.
pub(in crate::train) struct LinearOf {
    pub(in crate::train) linear: Linear,
    pub(in crate::train) activation: Activation,
    pub(in crate::train) filter: usize,
    pub(in crate::train) bias: Option<usize>,
    pub(in crate::train) trains: bool,
    pub(in crate::train) accumulates: bool,
    /// The share of weights that DropConnect sets to zero, and the number of their random stream.
    pub(in crate::train) drop: Option<(f32, Stream)>,
}

impl LinearUnit {
    pub(in crate::train) fn new(
        of: &LinearOf,
        wiring: Wiring,
        values: &[Vec<f32>],
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        // The source is a row of pixels, one pixel per image.
        let Shape4 { c: ins, w: batch, .. } = wiring.source().shape;
        let outs = of.linear.out_features;
        let filter = &values[of.filter];
        let product = if filter.len() <= MOST_PACKED {
            let epilogue =
                EpilogueSpec { bias: of.bias.is_some(), residual: false, activation: of.activation };
            let desc = LinearPlan::desc(batch, ins, outs, epilogue)?;
            let bias = of.bias.map(|bias| &values[bias][..]);
            Product::Packed(ConvPlan::new(&desc, Weights { filter, bias, slope: None }, options)?)
        } else {
            let desc = LinearPlan::desc(outs, ins, batch, EpilogueSpec::NONE)?;
            let rows = vec![0.0; batch * ins];
            let plan = ConvPlan::new(&desc, Weights::filter(&rows), options)?;
            Product::Turned { plan, result: vec![0.0; outs * batch] }
        };
        let drop = of.drop.map(|(rate, stream)| DropConnect {
            stream,
            rate,
            mask: vec![0.0; filter.len()],
            weights: vec![0.0; filter.len()],
            gradient: vec![0.0; if of.accumulates { filter.len() } else { 0 }],
        });
        Ok(Self {
            product,
            gradient: LinearGradient::new(batch, ins, outs, options.isa)?,
            activation: of.activation,
            filter: of.filter,
            bias: of.bias,
            trains: of.trains,
            accumulates: of.accumulates,
            drop,
            wiring: wiring.seen_as(as_row),
        })
    }

    /// Draws the weights of this pass. At inference, all are used.
    fn draw(&mut self, run: &Run<'_>) -> Result<(), ConvError> {
        let Some(drop) = &mut self.drop else { return Ok(()) };
        let weights = &run.values[self.filter];
        if run.mode == super::Mode::Training {
            drop.stream.mask(run.draw, Mask { rate: drop.rate }, &mut drop.mask);
            let products = weights.iter().zip(&drop.mask).map(|(weight, mask)| weight * mask);
            drop.weights.iter_mut().zip(products).for_each(|(to, product)| *to = product);
        } else {
            drop.weights.copy_from_slice(weights);
        }
        if let Product::Packed(plan) = &mut self.product {
            let bias = self.bias.map(|bias| &run.values[bias][..]);
            plan.repack(Weights { filter: &drop.weights, bias, slope: None })?;
        }
        Ok(())
    }
}

impl Unit for LinearUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        self.draw(run)?;
        let Wiring { target, .. } = &self.wiring;
        let source = self.wiring.source();
        let (sources, data) = split(run.arena, run.inputs, target);
        match &mut self.product {
            Product::Packed(plan) => {
                let io = ConvIo::new(read(&sources, source)?, target.tensor_mut(data)?);
                plan.run(io, run.workspace, run.threads)
            }
            Product::Turned { plan, result } => {
                let weights = self.drop.as_ref().map_or(&run.values[self.filter], |drop| &drop.weights);
                plan.repack(Weights::filter(sources.get(source)))?;
                let desc = *plan.desc();
                let io = ConvIo::new(
                    TensorRef::packed(weights, desc.input(), desc.layout())?,
                    TensorMut::packed(result, desc.output(), desc.layout())?,
                );
                plan.run(io, run.workspace, run.threads)?;
                turn(result, self.bias.map(|bias| &run.values[bias][..]), target.shape, data);
                run.ops.activate(self.activation, None, target.tensor_mut(data)?, run.threads)
            }
        }
    }

    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        self.wiring.undo(self.activation, run)?;
        let dy = &self.wiring.dy;
        if self.trains {
            let sources = all(run.arena, run.inputs);
            let (x, g) = (sources.get(self.wiring.source()), sources.get(dy));
            let (filter, bias) = pair_mut(run.gradients, self.filter, self.bias);
            let bias = bias.map(|bias| parameter(bias, self.accumulates));
            let (workspace, threads) = (&mut *run.workspace, run.threads);
            match &mut self.drop {
                // Each pass has its own mask.
                Some(DropConnect { mask, gradient, .. }) if self.accumulates => {
                    let to = parameter(gradient, false);
                    self.gradient.weights(x, g, to, bias, workspace, threads)?;
                    let masked = gradient.iter().zip(&*mask).map(|(gradient, mask)| gradient * mask);
                    filter.iter_mut().zip(masked).for_each(|(sum, gradient)| *sum += gradient);
                }
                drop => {
                    let to = parameter(filter, self.accumulates);
                    self.gradient.weights(x, g, to, bias, workspace, threads)?;
                    if let Some(drop) = drop {
                        filter.iter_mut().zip(&drop.mask).for_each(|(gradient, mask)| *gradient *= mask);
                    }
                }
            }
        }
        let Some(dx) = self.wiring.dx() else { return Ok(()) };
        let (sources, data) = split(run.arena, run.inputs, &dx.operand);
        let weights = self.drop.as_ref().map_or(&run.values[self.filter], |drop| &drop.weights);
        self.gradient.input(weights, sources.get(dy), dx.slice(data), run.workspace, run.threads)
    }

    fn repack(&mut self, values: &[Vec<f32>]) -> Result<(), ConvError> {
        match &mut self.product {
            // With DropConnect, each pass packs its own weights.
            Product::Packed(plan) if self.drop.is_none() => {
                let bias = self.bias.map(|bias| &values[bias][..]);
                plan.repack(Weights { filter: &values[self.filter], bias, slope: None })
            }
            _ => Ok(()),
        }
    }

    fn workspace_req(&self, threads: usize) -> WorkspaceReq {
        let (Product::Packed(plan) | Product::Turned { plan, .. }) = &self.product;
        self.gradient.workspace_req(threads).union(plan.workspace_req())
    }
}

/// Transposes `[out][batch]` to `[batch][out]`, and adds the bias.
fn turn(from: &[f32], bias: Option<&[f32]>, shape: Shape4, to: &mut [f32]) {
    let batch = shape.w;
    for (image, row) in to.chunks_exact_mut(shape.c).enumerate() {
        let sums = from.iter().skip(image).step_by(batch);
        match bias {
            Some(bias) => row.iter_mut().zip(sums.zip(bias)).for_each(|(to, (sum, bias))| *to = sum + bias),
            None => row.iter_mut().zip(sums).for_each(|(to, sum)| *to = *sum),
        }
    }
}
