//! [`TransposedPlan`]: transposed convolution.

use super::backward_data::write_phases;
use super::phased::{Added, Phased, PhasedPlan};
use super::{ConvPlan, PlanOptions};
use crate::describe::{ConvError, Size2, TransposedDesc, Weights};
use crate::memory::WorkspaceReq;
use crate::run::{ConvIo, Threads, check};
use std::fmt;

/// A transposed convolution that is ready to run.
///
/// It computes what [`BackwardData`](crate::BackwardData) computes, with an epilogue: bias, residual and activation. A plan
/// is immutable and `Send + Sync`. Its bits do not depend on the number of threads.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// // Up-sampling by 2: each input becomes a block of 2x2 outputs.
/// let desc = TransposedDesc::builder(Shape4::new(1, 1, 2, 2), 1, Size2::square(2))
///     .stride(Size2::square(2))
///     .build()?;
/// let filter = [1.0, 2.0, 3.0, 4.0];
/// let plan = TransposedPlan::new(&desc, Weights::filter(&filter), &PlanOptions::default())?;
/// let (input, mut output) = ([1.0, 10.0, 100.0, 1000.0], [0.0; 16]);
/// let io = ConvIo::new(
///     TensorRef::packed(&input, desc.input(), desc.layout())?,
///     TensorMut::packed(&mut output, desc.output(), desc.layout())?,
/// );
/// plan.run(io, &mut Workspace::for_req(plan.workspace_req())?, Threads::Seq)?;
/// assert_eq!(output[..8], [1.0, 2.0, 10.0, 20.0, 3.0, 4.0, 30.0, 40.0]);
/// # Ok(())
/// # }
/// ```
pub struct TransposedPlan {
    desc: TransposedDesc,
    phased: PhasedPlan,
}

impl TransposedPlan {
    /// Chooses an algorithm for each phase of `desc` and packs `weights` for it.
    ///
    /// The filter is in the order `[C][O / groups][KH][KW]`, where C are the channels of the input, as in PyTorch and ONNX.
    /// Bias and slopes are those of the O output channels. Limits on memory in `options` apply to each phase.
    /// [`Select::Force`](crate::Select::Force) applies to the phases that the method can compute, and the model chooses for
    /// the others.
    ///
    /// # Errors
    /// The errors of [`ConvPlan::new`], for `desc` and for the phases. [`ConvError::Unsupported`] means that a forced
    /// method can compute no phase.
    pub fn new(
        desc: &TransposedDesc,
        weights: Weights<'_>,
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        let epilogue = desc.epilogue();
        super::prepare::check_len("filter", desc.filter_len(), weights.filter.len())?;
        let layouts = (desc.layout(), desc.layout());
        let of = desc.backwards();
        let phased =
            PhasedPlan::new(&Phased { of, layouts, epilogue, series: of.small.n, weights }, options)?;
        Ok(Self { desc: *desc, phased })
    }

    /// Computes every element of `io.output`. It allocates nothing.
    ///
    /// # Errors
    /// As [`ConvPlan::run`]. The output is unchanged after an error.
    pub fn run(
        &self,
        io: ConvIo<'_>,
        scratch: &mut (impl AsMut<[f32]> + ?Sized),
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let ConvIo { input, output, residual } = io;
        let (desc, layout) = (&self.desc, self.desc.layout());
        check("input", (desc.input(), layout), (input.shape(), input.layout()))?;
        check("output", (desc.output(), layout), (output.shape(), output.layout()))?;
        let planned = desc.epilogue().residual;
        if planned != residual.is_some() {
            return Err(ConvError::EpilogueMismatch { what: "residual", planned });
        }
        if let Some(residual) = &residual {
            check("residual", (desc.output(), layout), (residual.shape(), residual.layout()))?;
        }
        let added = residual.map_or(Added::Nothing, Added::Residual);
        self.phased.run(input, added, output, scratch.as_mut(), threads)
    }

    /// Packs other weights of the same transposed convolution in the place of the present ones; see [`ConvPlan::repack`].
    ///
    /// # Errors
    /// - [`ConvError::BufferLen`] or [`ConvError::EpilogueMismatch`] if the weights do not fit the descriptor.
    /// - [`ConvError::OutOfMemory`] if the system refuses a table. The plan is unusable until a call succeeds.
    pub fn repack(&mut self, weights: Weights<'_>) -> Result<(), ConvError> {
        super::prepare::check_len("filter", self.desc.filter_len(), weights.filter.len())?;
        self.phased.repack(&self.desc.backwards(), weights)
    }

    /// The transposed convolution that this plan computes.
    pub fn desc(&self) -> &TransposedDesc {
        &self.desc
    }

    /// The workspace that [`run`](Self::run) needs.
    pub fn workspace_req(&self) -> WorkspaceReq {
        self.phased.workspace_req()
    }

    /// Bytes of packed weights of all phases.
    pub fn packed_bytes(&self) -> usize {
        self.phased.packed_bytes()
    }

    /// The plans of the phases, each with the first row and column of the output that it writes. A phase writes every
    /// stride-th row and column from there on.
    pub fn phases(&self) -> impl Iterator<Item = (Size2, &ConvPlan)> {
        self.phased.phases()
    }
}

impl fmt::Debug for TransposedPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransposedPlan").field("desc", &self.desc).finish_non_exhaustive()
    }
}

impl fmt::Display for TransposedPlan {
    /// Writes the convolution and the method of each phase.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.desc)?;
        write_phases(f, self.desc.output(), self.phases())
    }
}
