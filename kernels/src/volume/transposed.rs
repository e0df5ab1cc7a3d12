//! [`Transposed3dPlan`]: transposed 3-D convolution.

use super::conv::Conv3dIo;
use super::problem::{Problem, Way};
use super::report::VolumeReport;
use super::slices::VolumePlan;
use crate::describe::{ConvError, Transposed3dDesc, Weights};
use crate::memory::WorkspaceReq;
use crate::plan::PlanOptions;
use crate::plan::prepare::check_weights;
use crate::run::Threads;
use std::fmt;

/// A transposed 3-D convolution that is ready to run.
///
/// It computes what [`BackwardData3d`](crate::BackwardData3d) computes, with an epilogue: bias, residual and activation. A
/// plan is immutable and `Send + Sync`. Its bits do not depend on the number of threads.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let desc = Transposed3dDesc::builder(Shape5::new(1, 1, 1, 1, 2), 1, Size3::new(2, 1, 2)).stride(Size3::cube(2)).build()?;
/// let plan = Transposed3dPlan::new(&desc, Weights::filter(&[1.0, 2.0, 3.0, 4.0]), &PlanOptions::default())?;
/// let (input, mut output) = ([1.0, 10.0], [0.0; 8]);
/// let io = Conv3dIo::new(
///     VolumeRef::packed(&input, desc.input(), desc.layout())?,
///     VolumeMut::packed(&mut output, desc.output(), desc.layout())?,
/// );
/// plan.run(io, &mut Workspace::for_req(plan.workspace_req())?, Threads::Seq)?;
/// assert_eq!(output, [1.0, 2.0, 10.0, 20.0, 3.0, 4.0, 30.0, 40.0]);
/// # Ok(())
/// # }
/// ```
pub struct Transposed3dPlan {
    desc: Transposed3dDesc,
    plan: VolumePlan,
}

impl Transposed3dPlan {
    /// Chooses an algorithm for each phase of each run of slices, and packs `weights` for it.
    ///
    /// The filter is in the order `[C][O / groups][KD][KH][KW]`, where C are the channels of the input, as in PyTorch and
    /// ONNX. Limits on memory in `options` apply to each 2-D plan.
    ///
    /// # Errors
    /// Those of [`ConvPlan::new`](crate::ConvPlan::new), for `desc` and for the 2-D plans.
    pub fn new(
        desc: &Transposed3dDesc,
        weights: Weights<'_>,
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        check_weights(desc.filter_len(), (desc.epilogue(), desc.output().c), &weights)?;
        let back = desc.backwards();
        let problem = Problem {
            input: desc.input(),
            output: desc.output(),
            layouts: (desc.layout(), desc.layout()),
            groups: back.groups,
            epilogue: desc.epilogue(),
            weights,
            way: Way::Backward(back),
        };
        Ok(Self { desc: *desc, plan: VolumePlan::new(&problem, options)? })
    }

    /// Computes every element of `io.output`. It allocates nothing.
    ///
    /// # Errors
    /// As [`Conv3dPlan::run`](crate::Conv3dPlan::run).
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

    /// The transposed convolution that this plan computes.
    pub fn desc(&self) -> &Transposed3dDesc {
        &self.desc
    }

    /// The workspace that [`run`](Self::run) needs.
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

impl fmt::Debug for Transposed3dPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transposed3dPlan").field("desc", &self.desc).finish_non_exhaustive()
    }
}
