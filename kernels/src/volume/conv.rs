//! [`Conv3dPlan`]: a 3-D convolution.

use super::problem::{Problem, Way};
use super::report::VolumeReport;
use super::slices::VolumePlan;
use crate::describe::{Conv3dDesc, ConvError, VolumeMut, VolumeRef, Weights};
use crate::memory::WorkspaceReq;
use crate::plan::PlanOptions;
use crate::plan::prepare::check_weights;
use crate::run::Threads;
use std::fmt;

/// The tensors of one run of a [`Conv3dPlan`] or a [`Transposed3dPlan`](crate::Transposed3dPlan).
#[derive(Debug)]
pub struct Conv3dIo<'a> {
    /// The input, in the descriptor's input shape and layout.
    pub input: VolumeRef<'a>,
    /// The output, in the descriptor's output shape and layout. A run writes every element.
    pub output: VolumeMut<'a>,
    /// The residual, in the output's shape and layout, if and only if the epilogue has one.
    pub residual: Option<VolumeRef<'a>>,
}

impl<'a> Conv3dIo<'a> {
    /// An input and an output, without a residual.
    pub fn new(input: VolumeRef<'a>, output: VolumeMut<'a>) -> Self {
        Self { input, output, residual: None }
    }

    /// Adds a residual, which the run adds to the sum.
    pub fn residual(mut self, residual: VolumeRef<'a>) -> Self {
        self.residual = Some(residual);
        self
    }
}

/// A 3-D convolution that is ready to run.
///
/// The slices that an output slice reads are the channels of an image, so that a 2-D plan with any algorithm computes all
/// output slices. A plan is immutable and `Send + Sync`. Its bits do not depend on the number of threads.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let desc = Conv3dDesc::builder(Shape5::new(1, 4, 8, 8, 8), 16, Size3::cube(3)).pad(Pad3::all(1)).build()?;
/// let filter = vec![1.0; desc.filter_len()];
/// let plan = Conv3dPlan::new(&desc, Weights::filter(&filter), &PlanOptions::default())?;
/// let input = vec![1.0; 4 * 8 * 8 * 8];
/// let mut output = vec![0.0; 16 * 8 * 8 * 8];
/// let io = Conv3dIo::new(
///     VolumeRef::packed(&input, desc.input(), desc.layout())?,
///     VolumeMut::packed(&mut output, desc.output(), desc.output_layout())?,
/// );
/// plan.run(io, &mut Workspace::for_req(plan.workspace_req())?, Threads::Seq)?;
/// // A corner reads 2x2x2 elements of four channels. An element inside reads 3x3x3.
/// assert_eq!((output[0].round(), output[8 * 8 + 8 + 1].round()), (32.0, 108.0));
/// println!("{}", plan.explain());
/// # Ok(())
/// # }
/// ```
pub struct Conv3dPlan {
    desc: Conv3dDesc,
    plan: VolumePlan,
}

impl Conv3dPlan {
    /// Chooses an algorithm for each run of slices and packs `weights` for it.
    ///
    /// The filter is in the order `[O][C / groups][KD][KH][KW]`. Limits on memory in `options` apply to each 2-D plan.
    ///
    /// # Errors
    /// Those of [`ConvPlan::new`](crate::ConvPlan::new), for `desc` and for the 2-D plans.
    pub fn new(desc: &Conv3dDesc, weights: Weights<'_>, options: &PlanOptions) -> Result<Self, ConvError> {
        check_weights(desc.filter_len(), (desc.epilogue(), desc.output().c), &weights)?;
        let problem = Problem {
            input: desc.input(),
            output: desc.output(),
            layouts: (desc.layout(), desc.output_layout()),
            groups: desc.groups(),
            epilogue: desc.epilogue(),
            weights,
            way: Way::Forward(*desc),
        };
        Ok(Self { desc: *desc, plan: VolumePlan::new(&problem, options)? })
    }

    /// Computes every element of `io.output`. It allocates nothing, and the bits do not depend on the number of threads.
    ///
    /// # Errors
    /// The output is unchanged after an error.
    /// - [`ConvError::VolumeMismatch`] or [`ConvError::VolumeLayoutMismatch`] if a tensor does not fit the descriptor.
    /// - [`ConvError::EpilogueMismatch`] if a planned residual is missing, or a residual is given that was not planned.
    /// - [`ConvError::WorkspaceTooSmall`] if `scratch` is shorter than [`workspace_req`](Self::workspace_req)`.len()`.
    pub fn run(
        &self,
        io: Conv3dIo<'_>,
        scratch: &mut (impl AsMut<[f32]> + ?Sized),
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let Conv3dIo { input, output, residual } = io;
        self.plan.check(["input", "output"], &input, residual.as_ref(), &output)?;
        self.plan.run(input, residual, output, scratch.as_mut(), threads)
    }

    /// The convolution that this plan computes.
    pub fn desc(&self) -> &Conv3dDesc {
        &self.desc
    }

    /// The workspace that [`run`](Self::run) needs. Its shared part holds copies in other layouts.
    pub fn workspace_req(&self) -> WorkspaceReq {
        self.plan.workspace_req()
    }

    /// Bytes of packed weights of all 2-D plans.
    pub fn packed_bytes(&self) -> usize {
        self.plan.packed_bytes()
    }

    /// The runs of slices, their algorithms, and what is copied.
    pub fn explain(&self) -> VolumeReport<'_> {
        VolumeReport::new(&self.plan)
    }
}

impl fmt::Debug for Conv3dPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conv3dPlan").field("desc", &self.desc).finish_non_exhaustive()
    }
}
