//! [`LinearPlan`]: a fully connected layer, run as a 1x1 convolution. Features are channels, and the batch is a row
//! of pixels.

use crate::describe::{
    ConvDesc, ConvError, EpilogueSpec, Layout, Shape4, Size2, TensorMut, TensorRef, Weights,
};
use crate::memory::WorkspaceReq;
use crate::plan::{ConvPlan, PlanOptions};
use crate::run::{ConvIo, Threads};

/// A planned fully connected layer:
/// `y[batch][out] = act(bias[out] + sum over in of x[batch][in] * w[out][in] + residual[batch][out])`.
///
/// With a batch of one or two this is a stream over the weights, and as fast as memory.
#[derive(Debug)]
pub struct LinearPlan {
    conv: ConvPlan,
    input: Shape4,
    output: Shape4,
}

impl LinearPlan {
    /// Plans the layer and packs `weights`.
    ///
    /// The filter is `[out_features][in_features]`. Bias and PReLU slopes have one element per output
    /// feature.
    ///
    /// # Errors
    /// Those of [`desc`](Self::desc) and [`ConvPlan::new`].
    pub fn new(
        batch: usize,
        in_features: usize,
        out_features: usize,
        epilogue: EpilogueSpec,
        weights: Weights<'_>,
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        let desc = Self::desc(batch, in_features, out_features, epilogue)?;
        let conv = ConvPlan::new(&desc, weights, options)?;
        Ok(Self { conv, input: desc.input(), output: desc.output() })
    }

    /// Describes the layer as a convolution of a `1 x in_features x 1 x batch` NHWC tensor.
    ///
    /// Use it to pass the weights in parts ([`ConvPlan::packing`]).
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] for zero features or an empty batch.
    /// - Every error of the [`ConvDesc`] builder.
    pub fn desc(
        batch: usize,
        in_features: usize,
        out_features: usize,
        epilogue: EpilogueSpec,
    ) -> Result<ConvDesc, ConvError> {
        for (field, value) in [("batch", batch), ("in_features", in_features), ("out_features", out_features)]
        {
            if value == 0 {
                return Err(ConvError::field(field, "at least 1", value));
            }
        }
        let input = Shape4::new(1, in_features, 1, batch);
        ConvDesc::builder(input, out_features, Size2::square(1))
            .layout(Layout::Nhwc)
            .epilogue(epilogue)
            .build()
    }

    /// Computes every element of `output`, `[batch][out_features]`, from `input`, `[batch][in_features]`.
    ///
    /// `residual` has the shape of the output. It must be given exactly if the epilogue has a residual.
    ///
    /// # Errors
    /// - [`ConvError::BufferLen`] if a slice has the wrong length.
    /// - [`ConvError::EpilogueMismatch`] if the residual does not match the epilogue.
    /// - [`ConvError::WorkspaceTooSmall`] if the workspace is smaller than
    ///   [`workspace_req`](Self::workspace_req).
    ///
    /// On an error the output is unchanged.
    pub fn run(
        &self,
        input: &[f32],
        output: &mut [f32],
        residual: Option<&[f32]>,
        scratch: &mut (impl AsMut<[f32]> + ?Sized),
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let (ins, outs) = (self.input.len(Layout::Nhwc)?, self.output.len(Layout::Nhwc)?);
        let residual_len = residual.map_or(outs, <[f32]>::len);
        for (what, expected, got) in
            [("input", ins, input.len()), ("output", outs, output.len()), ("residual", outs, residual_len)]
        {
            if expected != got {
                return Err(ConvError::BufferLen { what, expected, got });
            }
        }
        let tensor = |data, shape| TensorRef::packed(data, shape, Layout::Nhwc);
        let io = ConvIo {
            input: tensor(input, self.input)?,
            output: TensorMut::packed(output, self.output, Layout::Nhwc)?.into(),
            residual: residual.map(|data| tensor(data, self.output)).transpose()?,
        };
        self.conv.run(io, scratch, threads)
    }

    /// The workspace that [`run`](Self::run) needs.
    pub fn workspace_req(&self) -> WorkspaceReq {
        self.conv.workspace_req()
    }

    /// The convolution that computes the layer, on a `1 x in_features x 1 x batch` NHWC tensor. Its
    /// `explain()` reports the choice of algorithm.
    pub fn conv(&self) -> &ConvPlan {
        &self.conv
    }
}
