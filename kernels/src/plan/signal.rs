//! Plans of 1-D convolutions. Each holds the plan of the same convolution of maps of one row, so signals share every
//! algorithm and driver of the 2-D convolution.

use super::segments::SegmentedPlan;
use super::{
    BackwardData, BackwardDataIo, BackwardWeights, ConvPlan, DataSpec, PlanOptions, PlanReport, PlanWeights,
    TransposedPlan, WeightsSpec,
};
use crate::describe::{Conv1dDesc, ConvError, Transposed1dDesc, Weights};
use crate::memory::WorkspaceReq;
use crate::run::{BackwardWeightsIo, ConvIo, Threads};
use std::fmt;

/// A 1-D convolution that is ready to run. It is what [`ConvPlan`] is, for signals.
///
/// Tensors are [`TensorRef`](crate::TensorRef) and [`TensorMut`](crate::TensorMut) with the shape
/// [`Shape3::into`](crate::Shape3).
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// // Each output is the sum of a sample and the one before it.
/// let desc = Conv1dDesc::builder(Shape3::new(1, 1, 4), 1, 2).pad(Pad1::causal(2, 1)).build()?;
/// let plan = Conv1dPlan::new(&desc, Weights::filter(&[1.0, 1.0]), &PlanOptions::default())?;
/// let (input, mut output) = ([1.0, 10.0, 100.0, 1000.0], [0.0; 4]);
/// let io = ConvIo::new(
///     TensorRef::packed(&input, desc.input().into(), desc.layout())?,
///     TensorMut::packed(&mut output, desc.output().into(), desc.layout())?,
/// );
/// plan.run(io, &mut Workspace::for_req(plan.workspace_req())?, Threads::Seq)?;
/// assert_eq!(output, [1.0, 11.0, 110.0, 1100.0]);
/// # Ok(())
/// # }
/// ```
pub struct Conv1dPlan {
    desc: Conv1dDesc,
    row: SegmentedPlan,
}

/// The gradient of a 1-D convolution with respect to its input. See [`BackwardData`].
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let desc = Conv1dDesc::builder(Shape3::new(1, 1, 5), 1, 2).stride(3).build()?;
/// let plan = BackwardData1d::new(&desc, &[2.0, 3.0], DataSpec::default(), &PlanOptions::default())?;
/// let (grad_output, mut grad_input) = ([1.0, 10.0], [9.0; 5]);
/// let io = BackwardDataIo::new(
///     TensorRef::packed(&grad_output, desc.output().into(), desc.layout())?,
///     TensorMut::packed(&mut grad_input, desc.input().into(), desc.layout())?,
/// );
/// plan.run(io, &mut Workspace::for_req(plan.workspace_req())?, Threads::Seq)?;
/// assert_eq!(grad_input, [2.0, 3.0, 0.0, 20.0, 30.0]);
/// # Ok(())
/// # }
/// ```
pub struct BackwardData1d {
    desc: Conv1dDesc,
    row: BackwardData,
}

/// The gradient of the filter and the bias of a 1-D convolution. See [`BackwardWeights`].
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let desc = Conv1dDesc::builder(Shape3::new(1, 1, 4), 1, 2).pad(Pad1::causal(2, 1)).build()?;
/// let plan = BackwardWeights1d::new(&desc, &WeightsSpec::default(), &PlanOptions::default())?;
/// let (input, grad_output, mut grad_filter) = ([1.0, 2.0, 3.0, 4.0], [1.0; 4], [0.0; 2]);
/// let io = BackwardWeightsIo::new(
///     TensorRef::packed(&input, desc.input().into(), desc.layout())?,
///     TensorRef::packed(&grad_output, desc.output().into(), desc.layout())?,
///     &mut grad_filter,
/// );
/// plan.run(io, &mut Workspace::for_req(plan.workspace_req())?, Threads::Seq)?;
/// assert_eq!(grad_filter, [6.0, 10.0]);
/// # Ok(())
/// # }
/// ```
pub struct BackwardWeights1d {
    desc: Conv1dDesc,
    row: BackwardWeights,
}

/// A transposed 1-D convolution that is ready to run. See [`TransposedPlan`].
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let desc = Transposed1dDesc::builder(Shape3::new(1, 1, 2), 1, 2).stride(2).build()?;
/// let plan = Transposed1dPlan::new(&desc, Weights::filter(&[1.0, 2.0]), &PlanOptions::default())?;
/// let (input, mut output) = ([1.0, 10.0], [0.0; 4]);
/// let io = ConvIo::new(
///     TensorRef::packed(&input, desc.input().into(), desc.layout())?,
///     TensorMut::packed(&mut output, desc.output().into(), desc.layout())?,
/// );
/// plan.run(io, &mut Workspace::for_req(plan.workspace_req())?, Threads::Seq)?;
/// assert_eq!(output, [1.0, 2.0, 10.0, 20.0]);
/// # Ok(())
/// # }
/// ```
pub struct Transposed1dPlan {
    desc: Transposed1dDesc,
    row: TransposedPlan,
}

/// What the plans of the gradients and of transposed convolution have.
macro_rules! plan_of_signals {
    ($name:ident, $desc:ident, $row:ident, $io:ident) => {
        impl $name {
            /// Computes every element of the result. It allocates nothing, and the bits do not depend on the number of threads.
            ///
            /// # Errors
            /// Those of the same plan of maps of one row.
            pub fn run(
                &self,
                io: $io<'_>,
                scratch: &mut (impl AsMut<[f32]> + ?Sized),
                threads: Threads<'_>,
            ) -> Result<(), ConvError> {
                self.row.run(io, scratch, threads)
            }

            /// The descriptor of the plan.
            pub fn desc(&self) -> &$desc {
                &self.desc
            }

            /// The plan of the same convolution of maps of one row. It tells the algorithm, and the reasons for it.
            pub fn as_2d(&self) -> &$row {
                &self.row
            }

            /// The workspace that [`run`](Self::run) needs.
            pub fn workspace_req(&self) -> WorkspaceReq {
                self.row.workspace_req()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.row).finish()
            }
        }
    };
}

plan_of_signals!(BackwardData1d, Conv1dDesc, BackwardData, BackwardDataIo);
plan_of_signals!(BackwardWeights1d, Conv1dDesc, BackwardWeights, BackwardWeightsIo);
plan_of_signals!(Transposed1dPlan, Transposed1dDesc, TransposedPlan, ConvIo);

impl Conv1dPlan {
    /// Chooses an algorithm for `desc` and packs `weights` for it. The filter is in the order `[O][C / groups][K]`.
    ///
    /// # Errors
    /// As [`ConvPlan::new`].
    pub fn new<'a>(
        desc: &Conv1dDesc,
        weights: impl Into<PlanWeights<'a>>,
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        Ok(Self { desc: *desc, row: SegmentedPlan::new(desc.as_2d(), weights.into(), options)? })
    }

    /// Computes every element of `io.output`. It allocates nothing, and the bits do not depend on the number of threads.
    ///
    /// # Errors
    /// As [`ConvPlan::run`].
    pub fn run(
        &self,
        io: ConvIo<'_>,
        scratch: &mut (impl AsMut<[f32]> + ?Sized),
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        self.row.run(io, scratch.as_mut(), threads)
    }

    /// The convolution that this plan computes.
    pub fn desc(&self) -> &Conv1dDesc {
        &self.desc
    }

    /// The plans of maps of one row that compute it. A long signal in NCW or NWC is computed as many overlapping segments, and
    /// its ends, whose windows reach into the padding, apart from them.
    pub fn plans(&self) -> impl Iterator<Item = &ConvPlan> {
        self.row.plans()
    }

    /// The workspace that [`run`](Self::run) needs.
    pub fn workspace_req(&self) -> WorkspaceReq {
        self.row.workspace_req()
    }

    /// Bytes of packed weights of all plans.
    pub fn packed_bytes(&self) -> usize {
        self.row.packed_bytes()
    }

    /// Reports what was chosen for most of the outputs, and why.
    pub fn explain(&self) -> &PlanReport {
        self.row.main().explain()
    }
}

impl fmt::Debug for Conv1dPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conv1dPlan").field("desc", &self.desc).finish_non_exhaustive()
    }
}

impl BackwardData1d {
    /// Chooses an algorithm for each phase of the gradient, and packs `filter` for it.
    ///
    /// # Errors
    /// As [`BackwardData::new`].
    pub fn new(
        desc: &Conv1dDesc,
        filter: &[f32],
        spec: DataSpec,
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        Ok(Self { desc: *desc, row: BackwardData::new(desc.as_2d(), filter, spec, options)? })
    }
}

impl BackwardWeights1d {
    /// Chooses a method for the gradient of the weights.
    ///
    /// # Errors
    /// As [`BackwardWeights::new`].
    pub fn new(desc: &Conv1dDesc, spec: &WeightsSpec, options: &PlanOptions) -> Result<Self, ConvError> {
        Ok(Self { desc: *desc, row: BackwardWeights::new(desc.as_2d(), spec, options)? })
    }

    /// Reports what was chosen, and why.
    pub fn explain(&self) -> &PlanReport {
        self.row.explain()
    }
}

impl Transposed1dPlan {
    /// Chooses an algorithm for each phase, and packs `weights` for it. The filter is in the order `[C][O / groups][K]`.
    ///
    /// # Errors
    /// As [`TransposedPlan::new`].
    pub fn new(
        desc: &Transposed1dDesc,
        weights: Weights<'_>,
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        Ok(Self { desc: *desc, row: TransposedPlan::new(desc.as_2d(), weights, options)? })
    }
}
