//! [`Conv`]: a convolution of inputs whose batch and image size change from call to call.

use super::{ConvPlan, Filter, PlanOptions};
use crate::choose::Wisdom;
use crate::describe::{
    Activation, ConvDesc, ConvDescBuilder, ConvError, EpilogueSpec, Layout, Pad2, Shape4, Size2, TensorMut,
    TensorRef,
};
use crate::memory::{Workspace, try_vec};
use crate::run::{ConvIo, Threads};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Default number of plans that a [`Conv`] keeps.
const PLANS: usize = 32;

/// A convolution for inputs of any batch and image size: a [`Filter`] with a cache of plans and workspaces.
///
/// A call with a new shape makes a plan for it. This takes microseconds if the weights are already packed in
/// the form that the plan needs. The cache keeps the plans of the most recently used shapes and numbers of
/// threads, at most [`plans`](ConvBuilder::plans) of them. It also keeps one workspace for each call that ran
/// at the same time. Each workspace is as large as the largest plan that used it.
///
/// A `Conv` is `Send + Sync`: any number of threads can call it at the same time.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let (weights, bias) = (vec![0.1; 16 * 8 * 3 * 3], vec![0.5; 16]);
/// let shape = FilterShape::new(16, 8, Size2::square(3));
/// let filter = Filter::new(shape, Weights::with_bias(&weights, &bias))?;
/// let conv = Conv::builder(filter).pad(Pad2::all(1)).activation(Activation::Relu).build()?;
/// for (batch, side) in [(1, 32), (4, 32), (2, 50)] {
///     let image = Shape4::new(batch, 8, side, side);
///     let pixels = vec![1.0; image.len(Layout::Nchw)?];
///     let output = conv.run(TensorRef::packed(&pixels, image, Layout::Nchw)?, Threads::Seq)?;
///     assert_eq!(output.len(), batch * 16 * side * side);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Conv<'a> {
    filter: Filter<'a>,
    /// Each plan replaces the input of this description.
    template: ConvDescBuilder,
    options: PlanOptions,
    /// Maximum number of cached plans.
    capacity: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The least recently used plan comes first.
    plans: Vec<Entry>,
    idle: Vec<Workspace>,
}

struct Entry {
    key: (Shape4, usize),
    plan: Arc<ConvPlan>,
}

/// Builds a [`Conv`]. [`build`](Self::build) checks all parameters that do not depend on the input.
#[must_use = "call build()"]
pub struct ConvBuilder<'a> {
    filter: Filter<'a>,
    template: ConvDescBuilder,
    epilogue: EpilogueSpec,
    options: PlanOptions,
    plans: usize,
}

impl fmt::Debug for ConvBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConvBuilder").field("filter", &self.filter).finish_non_exhaustive()
    }
}

impl fmt::Debug for Conv<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plans = self.lock().plans.len();
        f.debug_struct("Conv").field("filter", &self.filter).field("plans", &plans).finish_non_exhaustive()
    }
}

impl<'a> ConvBuilder<'a> {
    /// Sets the stride: input elements between neighbouring outputs. The default is 1.
    pub fn stride(mut self, stride: Size2) -> Self {
        self.template = self.template.stride(stride);
        self
    }

    /// Sets the zero padding around the input. The default is none.
    pub fn pad(mut self, pad: Pad2) -> Self {
        self.template = self.template.pad(pad);
        self
    }

    /// Sets the dilation: input elements between neighbouring kernel taps. The default is 1.
    pub fn dilation(mut self, dilation: Size2) -> Self {
        self.template = self.template.dilation(dilation);
        self
    }

    /// Sets the layout of input, output and residual. The default is NCHW.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.template = self.template.layout(layout);
        self
    }

    /// Sets another layout for output and residual; see [`ConvDescBuilder::output_layout`].
    pub fn output_layout(mut self, layout: Layout) -> Self {
        self.template = self.template.output_layout(layout);
        self
    }

    /// Sets the activation that is applied to the sum. The default is none.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.epilogue.activation = activation;
        self
    }

    /// Adds a residual of the output's shape. Each call of [`Conv::run_into`] must pass one.
    pub fn residual(mut self) -> Self {
        self.epilogue.residual = true;
        self
    }

    /// Sets the options of all plans. Each call replaces their [`max_threads`](PlanOptions::max_threads) by
    /// its own number of threads.
    pub fn options(mut self, options: PlanOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the maximum number of cached plans, at least 1. The default is 32.
    pub fn plans(mut self, plans: usize) -> Self {
        self.plans = plans.max(1);
        self
    }

    /// Checks everything that can be checked without an input.
    ///
    /// # Errors
    /// - [`ConvError::EpilogueMismatch`] if the filter has slopes and the activation is not PReLU, or the
    ///   reverse.
    /// - [`ConvError::InvalidField`] for a stride or dilation of zero, or for invalid parameters of the
    ///   activation.
    pub fn build(self) -> Result<Conv<'a>, ConvError> {
        let Self { filter, template, epilogue, options, plans } = self;
        let planned = epilogue.activation == Activation::PRelu;
        if planned != filter.has_slope() {
            return Err(ConvError::EpilogueMismatch { what: "PReLU slopes", planned });
        }
        let template = template.epilogue(epilogue);
        // The template's input is the smallest image that the kernel fits. With dilation it may leave no
        // output.
        match template.build() {
            Ok(_) | Err(ConvError::EmptyOutput { .. }) => (),
            Err(error) => return Err(error),
        }
        Ok(Conv { filter, template, options, capacity: plans, kept: Mutex::default() })
    }
}

impl<'a> Conv<'a> {
    /// Starts a convolution with stride 1, no padding, NCHW, and a bias if the filter has one.
    pub fn builder(filter: Filter<'a>) -> ConvBuilder<'a> {
        let shape = filter.shape();
        let input = Shape4::new(1, shape.input_channels(), shape.kernel.h, shape.kernel.w);
        let template = ConvDesc::builder(input, shape.out_channels, shape.kernel).groups(shape.groups);
        let epilogue = EpilogueSpec { bias: filter.has_bias(), ..EpilogueSpec::NONE };
        ConvBuilder { filter, template, epilogue, options: PlanOptions::default(), plans: PLANS }
    }

    /// Convolves `input` and returns the packed output in the output layout.
    ///
    /// # Errors
    /// - The errors of [`plan`](Self::plan) and [`ConvPlan::run`].
    /// - [`ConvError::EpilogueMismatch`] if the convolution has a residual.
    /// - [`ConvError::OutOfMemory`] if the system refuses the output or the workspace.
    pub fn run(&self, input: TensorRef<'_>, threads: Threads<'_>) -> Result<Vec<f32>, ConvError> {
        let plan = self.plan(input.shape(), threads)?;
        let (shape, layout) = (plan.desc().output(), plan.desc().output_layout());
        let len = shape.len(layout)?;
        let mut output = try_vec("output", len)?;
        output.resize(len, 0.0);
        let io = ConvIo::new(input, TensorMut::packed(&mut output, shape, layout)?);
        self.run_plan(&plan, io, threads)?;
        Ok(output)
    }

    /// Convolves `io.input` into the caller's memory. It allocates nothing if the cache has a plan for the
    /// shape and the number of threads, and an idle workspace that is large enough.
    ///
    /// # Errors
    /// - The errors of [`plan`](Self::plan) and [`ConvPlan::run`].
    /// - [`ConvError::OutOfMemory`] if the system refuses the workspace.
    pub fn run_into(&self, io: ConvIo<'_>, threads: Threads<'_>) -> Result<(), ConvError> {
        let plan = self.plan(io.input.shape(), threads)?;
        self.run_plan(&plan, io, threads)
    }

    fn run_plan(&self, plan: &ConvPlan, io: ConvIo<'_>, threads: Threads<'_>) -> Result<(), ConvError> {
        let idle = self.lock().idle.pop();
        let mut workspace = idle.unwrap_or_else(Workspace::empty);
        let result = match workspace.reserve(plan.workspace_req()) {
            Ok(()) => plan.run(io, &mut workspace, threads),
            Err(error) => Err(error),
        };
        self.lock().idle.push(workspace);
        result
    }

    /// Returns the plan for inputs of this shape on these threads, from the cache or newly made.
    ///
    /// # Errors
    /// The errors of [`ConvDescBuilder::build`] if the shape does not fit the filter, and of
    /// [`ConvPlan::new`].
    pub fn plan(&self, input: Shape4, threads: Threads<'_>) -> Result<Arc<ConvPlan>, ConvError> {
        self.plan_with(input, threads, None)
    }

    /// Like [`plan`](Self::plan), but a new plan is made with [`ConvPlan::with_wisdom`].
    ///
    /// # Errors
    /// The errors of [`plan`](Self::plan).
    pub fn plan_with_wisdom(
        &self,
        input: Shape4,
        threads: Threads<'_>,
        wisdom: &Wisdom,
    ) -> Result<Arc<ConvPlan>, ConvError> {
        self.plan_with(input, threads, Some(wisdom))
    }

    fn plan_with(
        &self,
        input: Shape4,
        threads: Threads<'_>,
        wisdom: Option<&Wisdom>,
    ) -> Result<Arc<ConvPlan>, ConvError> {
        let key = (input, threads.count());
        if let Some(plan) = self.lock().recall(key) {
            return Ok(plan);
        }
        // The lock is not held here, so that other threads can use cached plans or make their own.
        let desc = self.template.input(input).build()?;
        let options = self.options.max_threads(key.1);
        let plan = match wisdom {
            Some(wisdom) => ConvPlan::with_wisdom(&desc, &self.filter, &options, wisdom)?,
            None => ConvPlan::new(&desc, &self.filter, &options)?,
        };
        Ok(self.lock().remember(key, Arc::new(plan), self.capacity))
    }

    /// The filter of this convolution.
    pub fn filter(&self) -> &Filter<'a> {
        &self.filter
    }

    /// Drops the original weights; see [`Filter::drop_weights`].
    pub fn drop_weights(&mut self) {
        self.filter.drop_weights();
    }

    /// Number of cached plans.
    pub fn planned(&self) -> usize {
        self.lock().plans.len()
    }

    /// Bytes of the packed weights and of the idle workspaces.
    pub fn bytes(&self) -> usize {
        let idle: usize = self.lock().idle.iter().map(|workspace| workspace.len() * size_of::<f32>()).sum();
        self.filter.packed_bytes() + idle
    }

    /// Drops all cached plans and idle workspaces. Packed weights stay.
    pub fn clear(&self) {
        *self.lock() = Kept::default();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Returns the plan of `key` and marks it as the most recently used.
    fn recall(&mut self, key: (Shape4, usize)) -> Option<Arc<ConvPlan>> {
        let index = self.plans.iter().position(|entry| entry.key == key)?;
        self.plans[index..].rotate_left(1);
        self.plans.last().map(|entry| entry.plan.clone())
    }

    /// Adds `plan`, unless another thread has already added one for `key`. Drops the least recently used plan
    /// if the cache is full.
    fn remember(&mut self, key: (Shape4, usize), plan: Arc<ConvPlan>, capacity: usize) -> Arc<ConvPlan> {
        if let Some(plan) = self.recall(key) {
            return plan;
        }
        if self.plans.len() >= capacity {
            self.plans.remove(0);
        }
        self.plans.push(Entry { key, plan: plan.clone() });
        plan
    }
}
