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

/// Plans that a [`Conv`] keeps, unless told otherwise.
const PLANS: usize = 32;

/// A convolution for inputs of any batch and image size: a [`Filter`], and the plans for the shapes that were seen last.
///
/// A call with a new shape plans for it, which takes microseconds once the weights are packed in the form that the plan
/// needs. Plans are kept for the shapes (and numbers of threads) used last, at most [`plans`](ConvBuilder::plans)
/// of them. Workspaces are kept for later calls too: as many as calls have run at the same time, each as large as the
/// largest plan needed.
///
/// `Send + Sync`: any number of threads can call it at the same time.
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
    /// With another input for each plan.
    template: ConvDescBuilder,
    options: PlanOptions,
    /// Plans at most.
    capacity: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The least recently used first.
    plans: Vec<Entry>,
    idle: Vec<Workspace>,
}

struct Entry {
    key: (Shape4, usize),
    plan: Arc<ConvPlan>,
}

/// Builds a [`Conv`].
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
    /// Input elements from one output to the next: 1 by default.
    pub fn stride(mut self, stride: Size2) -> Self {
        self.template = self.template.stride(stride);
        self
    }

    /// Zeros around the input: none by default.
    pub fn pad(mut self, pad: Pad2) -> Self {
        self.template = self.template.pad(pad);
        self
    }

    /// Input elements from one tap to the next: 1 by default.
    pub fn dilation(mut self, dilation: Size2) -> Self {
        self.template = self.template.dilation(dilation);
        self
    }

    /// Memory order of input, output and residual: NCHW by default.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.template = self.template.layout(layout);
        self
    }

    /// Another memory order for output and residual; see [`ConvDescBuilder::output_layout`].
    pub fn output_layout(mut self, layout: Layout) -> Self {
        self.template = self.template.output_layout(layout);
        self
    }

    /// What is applied to the sum: nothing by default.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.epilogue.activation = activation;
        self
    }

    /// Adds a tensor of the output's shape, which each call of [`Conv::run_into`] gives.
    pub fn residual(mut self) -> Self {
        self.epilogue.residual = true;
        self
    }

    /// What the plans may be. Their [`max_threads`](PlanOptions::max_threads) is the number of threads of each call.
    pub fn options(mut self, options: PlanOptions) -> Self {
        self.options = options;
        self
    }

    /// Plans that are kept at most, at least one: 32 by default.
    pub fn plans(mut self, plans: usize) -> Self {
        self.plans = plans.max(1);
        self
    }

    /// Checks what can be checked without an input.
    ///
    /// # Errors
    /// [`ConvError::EpilogueMismatch`] if the filter has PReLU slopes and the activation is another one, or the other way round;
    /// [`ConvError::InvalidField`] for a stride or a dilation of zero, or for parameters that no activation has.
    pub fn build(self) -> Result<Conv<'a>, ConvError> {
        let Self { filter, template, epilogue, options, plans } = self;
        let planned = epilogue.activation == Activation::PRelu;
        if planned != filter.has_slope() {
            return Err(ConvError::EpilogueMismatch { what: "PReLU slopes", planned });
        }
        let template = template.epilogue(epilogue);
        // Any problem with this filter: an image of the smallest size that leaves an output.
        match template.build() {
            Ok(_) | Err(ConvError::EmptyOutput { .. }) => (),
            Err(error) => return Err(error),
        }
        Ok(Conv { filter, template, options, capacity: plans, kept: Mutex::default() })
    }
}

impl<'a> Conv<'a> {
    /// A convolution by `filter`, with stride 1, no padding, NCHW, and a bias if the filter has one.
    pub fn builder(filter: Filter<'a>) -> ConvBuilder<'a> {
        let shape = filter.shape();
        let input = Shape4::new(1, shape.input_channels(), shape.kernel.h, shape.kernel.w);
        let template = ConvDesc::builder(input, shape.out_channels, shape.kernel).groups(shape.groups);
        let epilogue = EpilogueSpec { bias: filter.has_bias(), ..EpilogueSpec::NONE };
        ConvBuilder { filter, template, epilogue, options: PlanOptions::default(), plans: PLANS }
    }

    /// Convolves `input`. The output is packed, in the layout of the output.
    ///
    /// # Errors
    /// As [`plan`](Self::plan), [`ConvPlan::run`]; [`ConvError::EpilogueMismatch`] if there is a residual to be given,
    /// [`ConvError::OutOfMemory`].
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

    /// Convolves `io.input` into the caller's memory. Allocates nothing if the shape and the number of threads are
    /// those of a plan that is kept, and a workspace is idle.
    ///
    /// # Errors
    /// As [`plan`](Self::plan) and [`ConvPlan::run`].
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

    /// The plan for inputs of this shape on these threads: kept, or made now.
    ///
    /// # Errors
    /// As [`ConvDescBuilder::build`] for a shape that the filter does not fit, and as [`ConvPlan::new`].
    pub fn plan(&self, input: Shape4, threads: Threads<'_>) -> Result<Arc<ConvPlan>, ConvError> {
        self.plan_with(input, threads, None)
    }

    /// [`plan`](Self::plan); under [`Select::Measured`](crate::Select::Measured), with the times that `wisdom` has, or adding
    /// those that it has not.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
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
        // Not under the lock: other threads can use the plans that are there, or make others.
        let desc = self.template.input(input).build()?;
        let options = self.options.max_threads(key.1);
        let plan = match wisdom {
            Some(wisdom) => ConvPlan::with_wisdom(&desc, &self.filter, &options, wisdom)?,
            None => ConvPlan::new(&desc, &self.filter, &options)?,
        };
        Ok(self.lock().remember(key, Arc::new(plan), self.capacity))
    }

    /// The weights.
    pub fn filter(&self) -> &Filter<'a> {
        &self.filter
    }

    /// Drops the original weights: see [`Filter::drop_weights`].
    pub fn drop_weights(&mut self) {
        self.filter.drop_weights();
    }

    /// Plans that are kept.
    pub fn planned(&self) -> usize {
        self.lock().plans.len()
    }

    /// Bytes of the packed weights and of the idle workspaces.
    pub fn bytes(&self) -> usize {
        let idle: usize = self.lock().idle.iter().map(|workspace| workspace.len() * size_of::<f32>()).sum();
        self.filter.packed_bytes() + idle
    }

    /// Forgets all plans and frees the idle workspaces. Packed weights stay.
    pub fn clear(&self) {
        *self.lock() = Kept::default();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The plan of `key`, which becomes the most recently used.
    fn recall(&mut self, key: (Shape4, usize)) -> Option<Arc<ConvPlan>> {
        let index = self.plans.iter().position(|entry| entry.key == key)?;
        self.plans[index..].rotate_left(1);
        self.plans.last().map(|entry| entry.plan.clone())
    }

    /// Keeps `plan`, unless another thread was faster, and forgets the plan that was not used for the longest time.
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
