//! A prepared gradient of weights: checks all arguments, splits the filter among threads, and adds partial sums.

use super::check;
use super::threads::{Split, Threads};
use crate::algo::weights_gradient::{GradientRegion, WeightsGradient, WeightsOperands, add_partials};
use crate::describe::{ConvDesc, ConvError, Layout, Shape4, TensorMut, TensorRef};
use crate::memory::WorkspaceReq;
use crate::tile::output::OutputRegion;
use crate::tile::table::KernelSet;
use crate::work::parts::SplitUnits;
use std::fmt;

/// Maximum number of parts of a run: they are listed on the stack.
const MOST_PARTS: usize = 256;

/// The operands of one run of a [`BackwardWeights`](crate::BackwardWeights).
pub struct BackwardWeightsIo<'a> {
    /// The input of the convolution, in the descriptor's input shape and layout.
    pub input: TensorRef<'a>,
    /// The gradient of the output of the convolution, in the descriptor's output shape and layout.
    pub grad_output: TensorRef<'a>,
    /// The output of the convolution, if and only if it has an activation, in the output's shape and layout. The gradient of
    /// the output is then that after the activation.
    pub output: Option<TensorRef<'a>>,
    /// The gradient of the filter, in OIHW order.
    pub grad_filter: &'a mut [f32],
    /// The gradient of the bias, one number per output channel, if and only if the plan computes it.
    pub grad_bias: Option<&'a mut [f32]>,
}

impl fmt::Debug for BackwardWeightsIo<'_> {
    /// Without the elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackwardWeightsIo")
            .field("input", &self.input)
            .field("grad_output", &self.grad_output)
            .finish_non_exhaustive()
    }
}

impl<'a> BackwardWeightsIo<'a> {
    /// The gradient of a filter alone.
    pub fn new(input: TensorRef<'a>, grad_output: TensorRef<'a>, grad_filter: &'a mut [f32]) -> Self {
        Self { input, grad_output, output: None, grad_filter, grad_bias: None }
    }

    /// Adds the output of the convolution, which its activation needs.
    pub fn output(mut self, output: TensorRef<'a>) -> Self {
        self.output = Some(output);
        self
    }

    /// Adds the gradient of the bias.
    pub fn bias(mut self, grad_bias: &'a mut [f32]) -> Self {
        self.grad_bias = Some(grad_bias);
        self
    }
}

/// A gradient with a sized workspace. A plan wraps it.
pub(crate) struct PreparedWeights {
    pub(crate) desc: ConvDesc,
    pub(crate) gradient: WeightsGradient,
    pub(crate) kernels: &'static KernelSet,
    pub(crate) bias: bool,
    pub(crate) accumulate: bool,
    pub(crate) req: WorkspaceReq,
    /// Number of threads that the amount of work justifies, at most as many as the workspace is sized for.
    pub(crate) parts: usize,
}

impl PreparedWeights {
    pub(crate) fn check(&self, io: &BackwardWeightsIo<'_>) -> Result<(), ConvError> {
        let desc = &self.desc;
        let BackwardWeightsIo { input, grad_output, grad_filter, grad_bias, .. } = io;
        check("input", (desc.input(), desc.layout()), (input.shape(), input.layout()))?;
        let planned = (desc.output(), desc.output_layout());
        check("grad_output", planned, (grad_output.shape(), grad_output.layout()))?;
        let check_len = |what, expected, got| {
            if expected == got { Ok(()) } else { Err(ConvError::BufferLen { what, expected, got }) }
        };
        check_len("grad_filter", desc.filter_len(), grad_filter.len())?;
        if self.bias != grad_bias.is_some() {
            return Err(ConvError::EpilogueMismatch { what: "gradient of the bias", planned: self.bias });
        }
        if let Some(bias) = grad_bias {
            check_len("grad_bias", desc.output().c, bias.len())?;
        }
        Ok(())
    }

    /// See [`BackwardWeights::run`](crate::BackwardWeights::run). The caller has [checked](Self::check) everything, and
    /// `io.grad_output` is the gradient before the activation.
    pub(crate) fn run(
        &self,
        io: BackwardWeightsIo<'_>,
        scratch: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let merged = self.gradient.merged();
        let operands = WeightsOperands {
            input: io.input.pixels().merged_if(merged),
            grad_output: io.grad_output.pixels().merged_if(merged),
        };
        let (shared, slabs) = scratch[..self.req.len()].split_at_mut(self.req.shared_len);
        let split = Split {
            parts: threads.count().min(self.parts).min(MOST_PARTS),
            split_units: self.gradient.split_units(),
            slab_len: self.req.per_thread_len,
        };
        let sum = |region: GradientRegion<'_>, slab: &mut [f32]| self.gradient.run(&operands, region, slab);
        let gradients = self.region(1, io.grad_filter, io.grad_bias)?;
        if !self.gradient.is_partial(self.accumulate) {
            split.run(threads, gradients, slabs, &sum);
            return Ok(());
        }
        let chunks = self.gradient.chunks;
        let (filter, bias) = shared.split_at_mut(chunks * self.desc.filter_len());
        let bias = &mut bias[..chunks * self.desc.output().c];
        let partials = self.region(chunks, filter, self.bias.then_some(&mut *bias))?;
        split.run(threads, partials, slabs, &sum);
        // Rows of the filter are whole.
        let split = Split { split_units: SplitUnits::new(self.gradient.taps(), 1), slab_len: 0, ..split };
        let (partials, how) = ((&*filter, &*bias), (chunks, self.accumulate));
        split.run(threads, gradients, slabs, &|region, _: &mut [f32]| {
            add_partials(self.kernels, partials, how, region);
        });
        Ok(())
    }

    /// The gradients of `chunks` chunks as a region.
    fn region<'a>(
        &self,
        chunks: usize,
        filter: &'a mut [f32],
        bias: Option<&'a mut [f32]>,
    ) -> Result<GradientRegion<'a>, ConvError> {
        let of_rows = |data, row| {
            let shape = Shape4::new(chunks, self.desc.output().c, 1, row);
            Ok(OutputRegion::new(TensorMut::packed(data, shape, Layout::Nchw)?, false))
        };
        let bias = bias.map(|bias| of_rows(bias, 1)).transpose()?;
        Ok(GradientRegion { filter: of_rows(filter, self.gradient.taps())?, bias })
    }
}
