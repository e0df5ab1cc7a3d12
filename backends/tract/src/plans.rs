//! Packed weights, with the plans that share them.

use kernels::{
    Activation, ConvDesc, ConvDescBuilder, ConvIo, ConvPlan, EpilogueSpec, Filter, FilterShape, Layout, Pad2,
    PlanOptions, Shape4, Size2, Threads, Workspace,
};
use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use tract_core::internal::*;

thread_local! {
    /// The scratch memory of all runs on this thread: as large as its largest plan needed. Layers run one after
    /// the other, so one workspace stays in the cache where one per layer would not.
    static WORKSPACE: RefCell<Workspace> = RefCell::new(Workspace::empty());
}

/// Everything about a convolution that does not depend on its input, except for padding.
pub(crate) struct PlansSpec {
    pub(crate) shape: FilterShape,
    pub(crate) weights: Vec<f32>,
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) stride: Size2,
    pub(crate) dilation: Size2,
    pub(crate) activation: Activation,
    pub(crate) residual: bool,
    pub(crate) layout: Layout,
    pub(crate) output_layout: Layout,
    /// Maximum number of cached plans.
    pub(crate) capacity: usize,
    pub(crate) options: PlanOptions,
}

/// One convolution: packed weights, and the plans of the shapes that were used last.
///
/// `kernels::Conv` does the same for fixed padding. Here the padding can depend on the shape, as `SAME` does.
#[derive(Debug)]
pub(crate) struct Plans {
    filter: Filter<'static>,
    template: ConvDescBuilder,
    options: PlanOptions,
    capacity: usize,
    /// The least recently used plan comes first.
    kept: Mutex<Vec<Kept>>,
}

#[derive(Debug)]
struct Kept {
    key: (Shape4, usize),
    plan: Arc<ConvPlan>,
}

impl Plans {
    pub(crate) fn new(spec: PlansSpec) -> TractResult<Self> {
        let shape = spec.shape;
        let epilogue =
            EpilogueSpec { bias: spec.bias.is_some(), residual: spec.residual, activation: spec.activation };
        let input = Shape4::new(1, shape.input_channels(), shape.kernel.h, shape.kernel.w);
        let template = ConvDesc::builder(input, shape.out_channels, shape.kernel)
            .groups(shape.groups)
            .stride(spec.stride)
            .dilation(spec.dilation)
            .layout(spec.layout)
            .output_layout(spec.output_layout)
            .epilogue(epilogue);
        Ok(Self {
            filter: Filter::from_vecs(shape, spec.weights, spec.bias, None)?,
            template,
            options: spec.options,
            capacity: spec.capacity.max(1),
            kept: Mutex::default(),
        })
    }

    /// The plan for this input, from the cache or newly made. The padding must be a function of the input.
    pub(crate) fn plan(&self, input: Shape4, pad: Pad2, threads: usize) -> TractResult<Arc<ConvPlan>> {
        let key = (input, threads);
        if let Some(plan) = recall(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner), key) {
            return Ok(plan);
        }
        // The lock is not held here, so that other threads can use cached plans or make their own.
        let desc = self.template.input(input).pad(pad).build()?;
        let plan = Arc::new(ConvPlan::new(&desc, &self.filter, &self.options.max_threads(threads))?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = recall(&mut kept, key) {
            return Ok(plan);
        }
        if kept.len() >= self.capacity {
            kept.remove(0);
        }
        kept.push(Kept { key, plan: plan.clone() });
        Ok(plan)
    }

    pub(crate) fn shape(&self) -> FilterShape {
        self.filter.shape()
    }
}

fn recall(kept: &mut [Kept], key: (Shape4, usize)) -> Option<Arc<ConvPlan>> {
    let index = kept.iter().position(|entry| entry.key == key)?;
    kept[index..].rotate_left(1);
    kept.last().map(|entry| entry.plan.clone())
}

/// Runs a plan with this thread's workspace.
pub(crate) fn run(plan: &ConvPlan, io: ConvIo<'_>, threads: Threads<'_>) -> Result<(), kernels::ConvError> {
    // The workspace is taken out during the run: a waiting thread of a rayon pool can execute another job,
    // which can run a plan too.
    let mut workspace = WORKSPACE.replace(Workspace::empty());
    let result = workspace.reserve(plan.workspace_req()).and_then(|()| plan.run(io, &mut workspace, threads));
    WORKSPACE.set(workspace);
    result
}
