//! [`BackwardData3d`]: the gradient of a 3-D convolution with respect to its input.

use super::problem::{Problem, Way};
use super::report::VolumeReport;
use super::slices::VolumePlan;
use super::source::convert;
use crate::describe::{
    Conv3dDesc, ConvError, EpilogueSpec, VolumeBackwards, VolumeMut, VolumeRef, Weights, check_volume,
};
use crate::memory::WorkspaceReq;
use crate::plan::applied::OwnActivation;
use crate::plan::prepare::check_len;
use crate::plan::rooms::{rooms, rooms_len};
use crate::plan::{DataSpec, PlanOptions};
use crate::run::Threads;
use crate::tile::copy_table::CopyTable;
use crate::tile::detect::kernels;
use std::fmt;

/// The tensors of one run of [`BackwardData3d`].
#[derive(Debug)]
pub struct BackwardData3dIo<'a> {
    /// The gradient of the output, in the output's shape and layout.
    pub grad_output: VolumeRef<'a>,
    /// The output of the convolution, if and only if it has an activation, in the output's shape and layout. The gradient of
    /// the output is then that after the activation.
    pub output: Option<VolumeRef<'a>>,
    /// The gradient of the input, in the input's shape and layout.
    pub grad_input: VolumeMut<'a>,
}

impl<'a> BackwardData3dIo<'a> {
    /// The tensors of a convolution without an activation.
    pub fn new(grad_output: VolumeRef<'a>, grad_input: VolumeMut<'a>) -> Self {
        Self { grad_output, output: None, grad_input }
    }

    /// Adds the output of the convolution, which its activation needs.
    pub fn output(mut self, output: VolumeRef<'a>) -> Self {
        self.output = Some(output);
        self
    }
}

/// The gradient of a 3-D convolution with respect to its input, ready to run.
///
/// It is a convolution of the gradient of the output with turned filters, at stride 1. With a stride, slices, rows and columns
/// of the input fall into phases, as those of [`BackwardData`](crate::BackwardData): no zeros are inserted and multiplied. A
/// plan is immutable and `Send + Sync`. Its bits do not depend on the number of threads.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let desc = Conv3dDesc::builder(Shape5::new(1, 2, 5, 5, 5), 3, Size3::cube(3))
///     .stride(Size3::cube(2))
///     .pad(Pad3::all(1))
///     .build()?;
/// let filter = vec![0.5; desc.filter_len()];
/// let plan = BackwardData3d::new(&desc, &filter, DataSpec::default(), &PlanOptions::default())?;
/// let (grad_output, mut grad_input) = (vec![1.0; 3 * 27], vec![0.0; 2 * 125]);
/// let io = BackwardData3dIo::new(
///     VolumeRef::packed(&grad_output, desc.output(), desc.output_layout())?,
///     VolumeMut::packed(&mut grad_input, desc.input(), desc.layout())?,
/// );
/// plan.run(io, &mut Workspace::for_req(plan.workspace_req())?, Threads::Seq)?;
/// // The first corner is read by one output of each of three channels, element (1, 1, 1) by eight.
/// assert_eq!((grad_input[0], grad_input[25 + 5 + 1]), (1.5, 12.0));
/// # Ok(())
/// # }
/// ```
pub struct BackwardData3d {
    desc: Conv3dDesc,
    spec: DataSpec,
    plan: VolumePlan,
    activation: OwnActivation,
    copies: &'static CopyTable,
    /// Elements of the copy of the previous gradient.
    old: usize,
}

impl BackwardData3d {
    /// Chooses an algorithm for each phase of each run of slices, and packs `filter` for it.
    ///
    /// `filter` is that of the convolution: `[O][C / groups][KD][KH][KW]`. The bias and the residual of `desc` do not
    /// influence the gradient of the input. Limits on memory in `options` apply to each 2-D plan. An activation is treated as
    /// by [`BackwardData::new`](crate::BackwardData::new).
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] if `desc` has an activation whose output does not determine its derivative: the caller
    ///   multiplies `grad_output` by its derivative first.
    /// - Those of [`ConvPlan::new`](crate::ConvPlan::new), for the 2-D plans.
    pub fn new(
        desc: &Conv3dDesc,
        filter: &[f32],
        spec: DataSpec,
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        let kernels = kernels(options.isa)?;
        let output_len = desc.output().len(desc.output_layout())?;
        let activation = OwnActivation::new(desc.epilogue().activation, output_len, kernels)?;
        check_len("filter", desc.filter_len(), filter.len())?;
        let problem = Problem {
            input: desc.output(),
            output: desc.input(),
            layouts: (desc.output_layout(), desc.layout()),
            groups: desc.groups(),
            epilogue: EpilogueSpec { residual: spec.accumulate, ..EpilogueSpec::NONE },
            weights: Weights::filter(filter),
            way: Way::Backward(VolumeBackwards::from(desc)),
        };
        let plan = VolumePlan::new(&problem, options)?;
        let old = if spec.accumulate { desc.input().len(desc.layout())? } else { 0 };
        Ok(Self { desc: *desc, spec, plan, activation, copies: &kernels.copy, old })
    }

    /// Computes the gradient. It allocates nothing, and the bits do not depend on the number of threads.
    ///
    /// # Errors
    /// The tensors are unchanged after an error.
    /// - [`ConvError::VolumeMismatch`] or [`ConvError::VolumeLayoutMismatch`] if a tensor does not fit the descriptor.
    /// - [`ConvError::EpilogueMismatch`] if the output is missing although the convolution has an activation, or given
    ///   although it has none.
    /// - [`ConvError::WorkspaceTooSmall`] if `scratch` is shorter than [`workspace_req`](Self::workspace_req)`.len()`.
    pub fn run(
        &self,
        io: BackwardData3dIo<'_>,
        scratch: &mut (impl AsMut<[f32]> + ?Sized),
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let BackwardData3dIo { grad_output, output, grad_input } = io;
        let (desc, scratch) = (&self.desc, scratch.as_mut());
        let of_output = (desc.output(), desc.output_layout());
        check_volume("grad_output", of_output, (grad_output.shape(), grad_output.layout()))?;
        let of_input = (desc.input(), desc.layout());
        check_volume("grad_input", of_input, (grad_input.shape(), grad_input.layout()))?;
        self.activation.check_volume(desc, output.as_ref())?;
        self.workspace_req().check(scratch)?;
        let (grad_output, scratch) = self.activation.before_volume(grad_output, output, scratch, threads)?;
        if !self.spec.accumulate {
            return self.plan.run(grad_output, None, grad_input, scratch, threads);
        }
        let ([old], scratch) = rooms(scratch, [self.old]);
        let copied = VolumeMut::packed(&mut *old, desc.input(), desc.layout())?;
        convert(self.copies, grad_input.as_ref(), copied, threads)?;
        let old = VolumeRef::packed(old, desc.input(), desc.layout())?;
        self.plan.run(grad_output, Some(old), grad_input, scratch, threads)
    }

    /// The convolution whose gradient this is.
    pub fn desc(&self) -> &Conv3dDesc {
        &self.desc
    }

    /// The workspace that [`run`](Self::run) needs.
    pub fn workspace_req(&self) -> WorkspaceReq {
        self.activation.workspace_req(self.plan.workspace_req().shared(rooms_len(&[self.old])))
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

impl fmt::Debug for BackwardData3d {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackwardData3d")
            .field("desc", &self.desc)
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}
