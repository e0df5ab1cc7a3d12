//! [`BackwardWeights`]: the gradient of a filter and of a bias.

use super::applied::OwnActivation;
use super::options::PlanOptions;
use super::report::PlanReport;
use crate::algo::weights_gradient::WeightsGradient;
use crate::choose::{Choice, Profile, choose_weights};
use crate::describe::{Algorithm, ConvDesc, ConvError, Isa, Method, Unsupported};
use crate::memory::WorkspaceReq;
use crate::run::Threads;
use crate::run::weights::{BackwardWeightsIo, PreparedWeights};
use crate::tile::detect::kernels;
use crate::tile::table::KernelSet;
use std::fmt;

/// What a [`BackwardWeights`] computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WeightsSpec {
    /// Whether it also computes the gradient of the bias.
    pub bias: bool,
    /// Whether it adds to the contents of the gradients. Otherwise it replaces them.
    pub accumulate: bool,
}

impl WeightsSpec {
    /// Also computes the gradient of the bias.
    pub const fn bias(mut self) -> Self {
        self.bias = true;
        self
    }

    /// Adds to the contents of the gradients.
    pub const fn accumulate(mut self) -> Self {
        self.accumulate = true;
        self
    }
}

/// The gradient of the weights of a convolution, ready to run: a plan like [`ConvPlan`](crate::ConvPlan).
///
/// With `y = conv(x, w) + b` and the gradient `gy` of a loss with respect to `y`, it computes the gradients with respect
/// to `w` and `b`. It packs nothing. It takes every convolution that [`ConvPlan`](crate::ConvPlan) takes, except those
/// with bf16 tensors and those with an activation whose output does not determine its derivative (PReLU, hard swish, SiLU).
/// With another activation, `gy` is the gradient after it.
///
/// [`PlanOptions::numerics`] limits the error of the method that it chooses. Where the machine multiplies bf16 numbers faster and
/// the limit allows it, that can be [`Algorithm::Im2colGemm`] with bf16 [products](crate::Products).
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// // A 3x3 convolution with padding 1, from 8 to 16 channels of 32x32, with a bias.
/// let desc = ConvDesc::builder(Shape4::new(4, 8, 32, 32), 16, Size2::square(3)).pad(Pad2::all(1)).build()?;
/// let plan = BackwardWeights::new(&desc, &WeightsSpec::default().bias(), &PlanOptions::default())?;
/// let mut workspace = Workspace::for_req(plan.workspace_req())?;
///
/// let input = vec![0.5; desc.input().len(desc.layout())?];
/// let grad_output = vec![1.0; desc.output().len(desc.layout())?];
/// let (mut grad_filter, mut grad_bias) = (vec![0.0; desc.filter_len()], vec![0.0; 16]);
/// let io = BackwardWeightsIo::new(
///     TensorRef::packed(&input, desc.input(), desc.layout())?,
///     TensorRef::packed(&grad_output, desc.output(), desc.layout())?,
///     &mut grad_filter,
/// );
/// plan.run(io.bias(&mut grad_bias), &mut workspace, Threads::Seq)?;
/// // The tap in the middle meets every pixel of the four images. The tap in the corner misses a row and a column.
/// let is_about = |got: f32, expected: f32| (got - expected).abs() <= 2e-6 * expected;
/// assert!(is_about(grad_filter[4], 0.5 * 4.0 * 32.0 * 32.0) && is_about(grad_filter[0], 0.5 * 4.0 * 31.0 * 31.0));
/// assert_eq!(grad_bias[0], 4.0 * 32.0 * 32.0);
/// println!("{}", plan.explain());
/// # Ok(())
/// # }
/// ```
pub struct BackwardWeights {
    prepared: PreparedWeights,
    activation: OwnActivation,
    report: PlanReport,
}

impl fmt::Debug for BackwardWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackwardWeights").field("report", &self.report).finish_non_exhaustive()
    }
}

/// The number of threads that the amount of work justifies.
fn parts(desc: &ConvDesc, options: &PlanOptions) -> Result<usize, ConvError> {
    if options.max_threads == 0 {
        return Err(ConvError::field("max_threads", "at least 1", 0));
    }
    if options.macs_per_thread == 0 {
        return Err(ConvError::field("macs_per_thread", "at least 1", 0));
    }
    let worth = desc.cost().macs / options.macs_per_thread;
    Ok(usize::try_from(worth).unwrap_or(usize::MAX).clamp(1, options.max_threads))
}

fn choose(desc: &ConvDesc, kernels: &'static KernelSet, options: &PlanOptions) -> Result<Choice, ConvError> {
    let profile = options.profile.unwrap_or(Profile::typical(kernels.isa()));
    let threads = (options.max_threads, parts(desc, options)?);
    choose_weights(desc, kernels, &options.limits(), &profile, threads)
}

impl BackwardWeights {
    /// Chooses a method for the gradient of the weights of `desc`. [`Select::Measured`](crate::Select::Measured) chooses
    /// by the cost model. Bias and residual of the descriptor's epilogue do not matter.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] if `desc` has an activation whose output does not determine its derivative, or a number of threads or of multiply-accumulates per
    ///   thread is zero.
    /// - [`ConvError::IsaUnavailable`] if this machine does not have the requested instruction set.
    /// - [`ConvError::Unsupported`] if [`Select::Force`](crate::Select::Force) names a method that cannot compute the
    ///   gradient.
    /// - [`ConvError::NothingAllowed`] if the options forbid every method that can, or `desc` has bf16 tensors.
    /// - [`ConvError::TooLarge`] if every allowed method exceeds a memory limit of the options.
    /// - [`ConvError::SizeOverflow`] if the address space cannot hold the workspace.
    pub fn new(desc: &ConvDesc, spec: &WeightsSpec, options: &PlanOptions) -> Result<Self, ConvError> {
        let kernels = kernels(options.isa)?;
        let output_len = desc.output().len(desc.output_layout())?;
        let activation = OwnActivation::new(desc.epilogue().activation, output_len, kernels)?;
        let choice = choose(desc, kernels, options)?;
        let gradient = WeightsGradient::new(choice.method, desc, kernels);
        let req = WorkspaceReq::new(gradient.workspace_len(), options.max_threads)
            .shared(gradient.shared_len(spec.accumulate));
        if req.len() > isize::MAX as usize / size_of::<f32>() {
            return Err(ConvError::SizeOverflow { what: "workspace" });
        }
        let report = PlanReport {
            desc: *desc,
            computed: *desc,
            choice,
            isa: kernels.isa(),
            kernel: gradient.kernel_name(),
            packed_bytes: 0,
            weights: "none",
            workspace_bytes_per_thread: req.per_thread_len * size_of::<f32>(),
            max_threads: req.threads,
        };
        let WeightsSpec { bias, accumulate } = *spec;
        let parts = parts(desc, options)?;
        let prepared = PreparedWeights { desc: *desc, gradient, kernels, bias, accumulate, req, parts };
        Ok(Self { prepared, activation, report })
    }

    /// Computes the gradients. It allocates nothing and keeps no state. The bits of the gradients do not depend on the
    /// number of threads.
    ///
    /// `scratch` is a [`Workspace`](crate::Workspace) or any `[f32]` slice of at least
    /// [`workspace_req`](Self::workspace_req)`.len()` elements. Its previous contents do not matter.
    ///
    /// # Errors
    /// The gradients are unchanged after an error.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] if a tensor does not fit the descriptor.
    /// - [`ConvError::BufferLen`] if a gradient has the wrong length.
    /// - [`ConvError::EpilogueMismatch`] if the gradient of the bias is missing, or given although it was not planned; the
    ///   same for the output, which a convolution with an activation needs.
    /// - [`ConvError::WorkspaceTooSmall`] if `scratch` is too short.
    pub fn run(
        &self,
        io: BackwardWeightsIo<'_>,
        scratch: &mut (impl AsMut<[f32]> + ?Sized),
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let BackwardWeightsIo { input, grad_output, output, grad_filter, grad_bias } = io;
        let (desc, scratch) = (&self.prepared.desc, scratch.as_mut());
        self.activation.check(desc, output.as_ref())?;
        let io = BackwardWeightsIo { input, grad_output, output, grad_filter, grad_bias };
        self.prepared.check(&io)?;
        self.workspace_req().check(scratch)?;
        let (grad_output, scratch) = self.activation.before(grad_output, output, scratch, threads)?;
        self.prepared.run(BackwardWeightsIo { grad_output, ..io }, scratch, threads)
    }

    /// Returns what [`new`](Self::new) would choose.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn choice(desc: &ConvDesc, options: &PlanOptions) -> Result<Choice, ConvError> {
        choose(desc, kernels(options.isa)?, options)
    }

    /// Whether a method can compute the gradient of the weights of `desc`. With bf16 products, only
    /// [`Algorithm::Im2colGemm`] can.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub fn supports(method: impl Into<Method>, desc: &ConvDesc) -> Result<(), Unsupported> {
        crate::algo::weights_gradient::supports(method.into(), desc)
    }

    /// The convolution whose gradient this plan computes.
    pub fn desc(&self) -> &ConvDesc {
        &self.prepared.desc
    }

    /// The algorithm that the plan runs.
    pub fn algorithm(&self) -> Algorithm {
        self.report.choice.method.algorithm
    }

    /// The instruction set whose kernels the plan runs.
    pub fn isa(&self) -> Isa {
        self.report.isa
    }

    /// The size of the workspace of a run. Its shared part holds partial sums.
    pub fn workspace_req(&self) -> WorkspaceReq {
        self.activation.workspace_req(self.prepared.req)
    }

    /// The chosen algorithm, and the reasons against the others.
    pub fn explain(&self) -> &PlanReport {
        &self.report
    }
}
