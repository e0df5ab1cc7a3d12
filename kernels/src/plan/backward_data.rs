//! [`BackwardData`]: the gradient of a convolution with respect to its input.

use super::applied::OwnActivation;
use super::phased::{Added, Phased, PhasedPlan};
use super::{ConvPlan, PlanOptions};
use crate::describe::{
    Backwards, ConvDesc, ConvError, EpilogueSpec, Shape4, Size2, TensorMut, TensorRef, Weights,
};
use crate::memory::WorkspaceReq;
use crate::run::copies::copy;
use crate::run::{Threads, check};
use crate::tile::copy_table::CopyTable;
use crate::tile::detect::kernels;
use std::fmt;

/// What is done with the gradient of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DataSpec {
    /// Adds the gradient to the contents of the tensor, instead of overwriting them. A tensor that several layers read
    /// sums their gradients so.
    pub accumulate: bool,
}

/// The tensors of one run of [`BackwardData`].
#[derive(Debug)]
pub struct BackwardDataIo<'a> {
    /// The gradient of the output, in the output's shape and layout.
    pub grad_output: TensorRef<'a>,
    /// The output of the convolution, if and only if it has an activation, in the output's shape and layout. The gradient of
    /// the output is then that after the activation.
    pub output: Option<TensorRef<'a>>,
    /// The gradient of the input, in the input's shape and layout.
    pub grad_input: TensorMut<'a>,
}

impl<'a> BackwardDataIo<'a> {
    /// The tensors of a convolution without an activation.
    pub fn new(grad_output: TensorRef<'a>, grad_input: TensorMut<'a>) -> Self {
        Self { grad_output, output: None, grad_input }
    }

    /// Adds the output of the convolution, which its activation needs.
    pub fn output(mut self, output: TensorRef<'a>) -> Self {
        self.output = Some(output);
        self
    }
}

/// The gradient of a convolution with respect to its input, ready to run: *backward data*.
///
/// `grad_input[n, c, i] = sum over o, k and y with y * stride + k * dilation - pad = i of grad_output[n, o, y] * w[o, c, k]`
/// (Goodfellow, Bengio and Courville 2016, eq. 9.13). At stride 1 this is a convolution with turned filters, and every
/// algorithm of the library can compute it. With a stride, the rows and columns of the input fall into
/// phases; each is a convolution of stride 1, so no zeros are inserted and multiplied. An input element that no output
/// reads has the gradient zero.
///
/// A plan is immutable and `Send + Sync`. Its bits do not depend on the number of threads.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let desc = ConvDesc::builder(Shape4::new(1, 2, 5, 5), 3, Size2::square(3))
///     .stride(Size2::square(2))
///     .pad(Pad2::all(1))
///     .build()?;
/// let filter = vec![0.5; desc.filter_len()];
/// let plan = BackwardData::new(&desc, &filter, DataSpec::default(), &PlanOptions::default())?;
/// let grad_output = vec![1.0; 3 * 3 * 3];
/// let mut grad_input = vec![0.0; 2 * 5 * 5];
/// let io = BackwardDataIo::new(
///     TensorRef::packed(&grad_output, desc.output(), desc.layout())?,
///     TensorMut::packed(&mut grad_input, desc.input(), desc.layout())?,
/// );
/// plan.run(io, &mut Workspace::for_req(plan.workspace_req())?, Threads::Seq)?;
/// // The middle of the image is read by one output of each of three channels; its corner, too.
/// assert_eq!((grad_input[12], grad_input[0]), (1.5, 1.5));
/// // Element (1, 1) is read by the outputs of two rows and two columns.
/// assert_eq!(grad_input[6], 6.0);
/// # Ok(())
/// # }
/// ```
pub struct BackwardData {
    desc: ConvDesc,
    spec: DataSpec,
    phased: PhasedPlan,
    activation: OwnActivation,
    copies: &'static CopyTable,
    /// Elements of the copy of the previous gradient, if it is not added to in place.
    old: usize,
}

impl BackwardData {
    /// Chooses an algorithm for each phase of the gradient of `desc`, and packs `filter` for it.
    ///
    /// `filter` is that of the convolution: `[O][C / groups][KH][KW]`. The bias and the residual of `desc` do not
    /// influence the gradient of the input. Limits on memory in `options` apply to each phase.
    /// [`Select::Force`](crate::Select::Force) applies to the phases that the method can compute, and the model chooses for
    /// the others.
    ///
    /// With an activation, a run first multiplies the gradient of the output by its derivative, in the workspace. The output
    /// of ReLU, clips, sigmoid and tanh determines it, and that of leaky ReLU and ELU with a positive `alpha`.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] if `desc` has another activation: the caller multiplies `grad_output` by its derivative
    ///   first. Also for tensors of bf16 numbers.
    /// - The errors of [`ConvPlan::new`], for the phases. [`ConvError::Unsupported`] means that a forced method can
    ///   compute no phase.
    pub fn new(
        desc: &ConvDesc,
        filter: &[f32],
        spec: DataSpec,
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        let kernels = kernels(options.isa)?;
        let output_len = desc.output().len(desc.output_layout())?;
        let activation = OwnActivation::new(desc.epilogue().activation, output_len, kernels)?;
        super::prepare::check_len("filter", desc.filter_len(), filter.len())?;
        let problem = Phased {
            of: Backwards::from(desc),
            layouts: (desc.output_layout(), desc.layout()),
            epilogue: EpilogueSpec { residual: spec.accumulate, ..EpilogueSpec::NONE },
            series: desc.output().n,
            weights: Weights::filter(filter),
        };
        let phased = PhasedPlan::new(&problem, options)?;
        let copies_old = spec.accumulate && !phased.adds_in_place();
        let old = if copies_old { desc.input().len(desc.layout())?.next_multiple_of(16) } else { 0 };
        Ok(Self { desc: *desc, spec, phased, activation, copies: &kernels.copy, old })
    }

    /// Computes the gradient. It allocates nothing, and the bits do not depend on the number of threads.
    ///
    /// # Errors
    /// The tensors are unchanged after an error.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] if a tensor does not fit the descriptor.
    /// - [`ConvError::EpilogueMismatch`] if the output is missing although the convolution has an activation, or given
    ///   although it has none.
    /// - [`ConvError::WorkspaceTooSmall`] if `scratch` is shorter than [`workspace_req`](Self::workspace_req)`.len()`.
    pub fn run(
        &self,
        io: BackwardDataIo<'_>,
        scratch: &mut (impl AsMut<[f32]> + ?Sized),
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let BackwardDataIo { grad_output, output: activated, grad_input } = io;
        let (desc, scratch) = (&self.desc, scratch.as_mut());
        let (output, input) = ((desc.output(), desc.output_layout()), (desc.input(), desc.layout()));
        check("grad_output", output, (grad_output.shape(), grad_output.layout()))?;
        check("grad_input", input, (grad_input.shape(), grad_input.layout()))?;
        self.activation.check(desc, activated.as_ref())?;
        self.workspace_req().check(scratch)?;
        let (grad_output, scratch) = self.activation.before(grad_output, activated, scratch, threads)?;
        if !self.spec.accumulate {
            return self.phased.run(grad_output, Added::Nothing, grad_input.into(), scratch, threads);
        }
        if self.phased.adds_in_place() {
            return self.phased.run(grad_output, Added::Large, grad_input.into(), scratch, threads);
        }
        let (old, scratch) = scratch.split_at_mut(self.old);
        let old = &mut old[..desc.input().len(desc.layout())?];
        let copied = TensorMut::packed(old, desc.input(), desc.layout())?;
        copy(self.copies, grad_input.as_ref(), copied.into(), threads);
        let old = TensorRef::packed(old, desc.input(), desc.layout())?;
        self.phased.run(grad_output, Added::Residual(old), grad_input.into(), scratch, threads)
    }

    /// Packs another filter of the same convolution in the place of the present one; see [`ConvPlan::repack`].
    ///
    /// # Errors
    /// - [`ConvError::BufferLen`] if the filter has the wrong length.
    /// - [`ConvError::OutOfMemory`] if the system refuses a table. The plan is unusable until a call succeeds.
    pub fn repack(&mut self, filter: &[f32]) -> Result<(), ConvError> {
        super::prepare::check_len("filter", self.desc.filter_len(), filter.len())?;
        self.phased.repack(&Backwards::from(&self.desc), Weights::filter(filter))
    }

    /// The convolution whose gradient this is.
    pub fn desc(&self) -> &ConvDesc {
        &self.desc
    }

    /// The workspace that [`run`](Self::run) needs.
    pub fn workspace_req(&self) -> WorkspaceReq {
        self.activation.workspace_req(self.phased.workspace_req().shared(self.old))
    }

    /// Bytes of packed weights of all phases.
    pub fn packed_bytes(&self) -> usize {
        self.phased.packed_bytes()
    }

    /// The plans of the phases, each with the first row and column of the input that it writes. A phase writes every
    /// stride-th row and column from there on. [`ConvPlan::explain`] tells how it is computed.
    pub fn phases(&self) -> impl Iterator<Item = (Size2, &ConvPlan)> {
        self.phased.phases()
    }
}

impl fmt::Debug for BackwardData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackwardData")
            .field("desc", &self.desc)
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for BackwardData {
    /// Writes the report of each phase.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "gradient of the input of {}", self.desc)?;
        write_phases(f, self.desc.input(), self.phases())
    }
}

/// Writes a line for each phase: the outputs that it writes, the convolution that computes them, and its method.
pub(super) fn write_phases<'a>(
    f: &mut fmt::Formatter<'_>,
    large: Shape4,
    phases: impl Iterator<Item = (Size2, &'a ConvPlan)>,
) -> fmt::Result {
    let mut none = true;
    for (first, plan) in phases {
        none = false;
        let choice = &plan.explain().choice;
        writeln!(f, "from row {} and column {}: {}", first.h, first.w, plan.desc())?;
        writeln!(f, "  {} with {}: {}", choice.method, plan.explain().kernel, choice.reason)?;
    }
    if none { writeln!(f, "no tap meets any of {large}") } else { Ok(()) }
}
