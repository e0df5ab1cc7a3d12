//! Packed weights, with the plans that share them.

use kernels::{
    Activation, ConvDesc, ConvDescBuilder, ConvIo, ConvPlan, EpilogueSpec, Filter, FilterShape, Layout, Pad2,
    PlanOptions, Shape4, Size2, Threads, TransposedDesc, TransposedDescBuilder, TransposedPlan, Weights,
    Workspace,
};
use std::cell::RefCell;
use std::fmt;
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
    /// In OIHW order.
    pub(crate) weights: Vec<f32>,
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) stride: Size2,
    pub(crate) dilation: Size2,
    /// The output padding of a transposed convolution; `None` for an ordinary one.
    pub(crate) added: Option<Size2>,
    pub(crate) activation: Activation,
    pub(crate) residual: bool,
    pub(crate) layout: Layout,
    /// A transposed convolution has the same layout on both sides.
    pub(crate) output_layout: Layout,
    /// Maximum number of cached plans.
    pub(crate) capacity: usize,
    pub(crate) options: PlanOptions,
}

/// A convolution that is ready to run.
#[derive(Debug)]
pub(crate) enum Plan {
    Ordinary(Box<ConvPlan>),
    Transposed(Box<TransposedPlan>),
}

/// Weights, and what is known before the input.
enum Source {
    Ordinary {
        filter: Filter<'static>,
        template: Box<ConvDescBuilder>,
    },
    /// Each plan packs the weights again: phases do not share them.
    Transposed {
        /// In the order `[C][O / groups][KH][KW]`.
        filter: Vec<f32>,
        bias: Option<Vec<f32>>,
        template: Box<dyn Fn(Shape4, Pad2) -> TransposedDescBuilder + Send + Sync>,
    },
}

/// One convolution: packed weights, and the plans of the shapes that were used last.
///
/// `kernels::Conv` does the same for fixed padding. Here the padding can depend on the shape, as `SAME` does.
pub(crate) struct Plans {
    source: Source,
    shape: FilterShape,
    options: PlanOptions,
    capacity: usize,
    /// The least recently used plan comes first.
    kept: Mutex<Vec<Kept>>,
}

impl fmt::Debug for Plans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plans").field("shape", &self.shape).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Kept {
    key: (Shape4, usize),
    plan: Arc<Plan>,
}

impl Source {
    fn new(spec: PlansSpec) -> TractResult<Self> {
        let PlansSpec { shape, weights, bias, stride, dilation, layout, .. } = spec;
        let epilogue =
            EpilogueSpec { bias: bias.is_some(), residual: spec.residual, activation: spec.activation };
        if let Some(added) = spec.added {
            let template = move |input: Shape4, pad: Pad2| {
                TransposedDesc::builder(input, shape.out_channels, shape.kernel)
                    .groups(shape.groups)
                    .stride(stride)
                    .dilation(dilation)
                    .pad(pad)
                    .output_pad(added)
                    .layout(layout)
                    .epilogue(epilogue)
            };
            let filter = inputs_first(&weights, shape);
            return Ok(Self::Transposed { filter, bias, template: Box::new(template) });
        }
        let input = Shape4::new(1, shape.input_channels(), shape.kernel.h, shape.kernel.w);
        let template = ConvDesc::builder(input, shape.out_channels, shape.kernel)
            .groups(shape.groups)
            .stride(stride)
            .dilation(dilation)
            .layout(layout)
            .output_layout(spec.output_layout)
            .epilogue(epilogue);
        let filter = Filter::from_vecs(shape, weights, bias, None)?;
        Ok(Self::Ordinary { filter, template: Box::new(template) })
    }

    fn plan(&self, input: Shape4, pad: Pad2, options: &PlanOptions) -> Result<Plan, kernels::ConvError> {
        match self {
            Self::Ordinary { filter, template } => {
                let desc = template.input(input).pad(pad).build()?;
                ConvPlan::new(&desc, filter, options).map(|plan| Plan::Ordinary(Box::new(plan)))
            }
            Self::Transposed { filter, bias, template } => {
                let weights = Weights { filter, bias: bias.as_deref(), slope: None };
                let plan = TransposedPlan::new(&template(input, pad).build()?, weights, options)?;
                Ok(Plan::Transposed(Box::new(plan)))
            }
        }
    }
}

/// Weights in the order `[group][I][O][taps]`, from `[group][O][I][taps]`.
fn inputs_first(weights: &[f32], shape: FilterShape) -> Vec<f32> {
    let (ins, outs) = (shape.in_channels, shape.out_channels / shape.groups);
    let taps = shape.kernel.h * shape.kernel.w;
    let at = |group: usize, input: usize, output: usize| ((group * outs + output) * ins + input) * taps;
    let mut filter = Vec::with_capacity(weights.len());
    for (group, input) in (0..shape.groups).flat_map(|group| (0..ins).map(move |input| (group, input))) {
        (0..outs).for_each(|output| filter.extend_from_slice(&weights[at(group, input, output)..][..taps]));
    }
    filter
}

impl Plans {
    pub(crate) fn new(spec: PlansSpec) -> TractResult<Self> {
        let (shape, options, capacity) = (spec.shape, spec.options, spec.capacity.max(1));
        Ok(Self { source: Source::new(spec)?, shape, options, capacity, kept: Mutex::default() })
    }

    /// The plan for this input, from the cache or newly made. The padding must be a function of the input.
    pub(crate) fn plan(&self, input: Shape4, pad: Pad2, threads: usize) -> TractResult<Arc<Plan>> {
        let key = (input, threads);
        if let Some(plan) = recall(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner), key) {
            return Ok(plan);
        }
        // The lock is not held here, so that other threads can use cached plans or make their own.
        let plan = Arc::new(self.source.plan(input, pad, &self.options.max_threads(threads))?);
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
        self.shape
    }
}

fn recall(kept: &mut [Kept], key: (Shape4, usize)) -> Option<Arc<Plan>> {
    let index = kept.iter().position(|entry| entry.key == key)?;
    kept[index..].rotate_left(1);
    kept.last().map(|entry| entry.plan.clone())
}

/// Runs a plan with this thread's workspace.
pub(crate) fn run(plan: &Plan, io: ConvIo<'_>, threads: Threads<'_>) -> Result<(), kernels::ConvError> {
    // The workspace is taken out during the run: a waiting thread of a rayon pool can execute another job,
    // which can run a plan too.
    let mut workspace = WORKSPACE.replace(Workspace::empty());
    let result = match plan {
        Plan::Ordinary(plan) => {
            workspace.reserve(plan.workspace_req()).and_then(|()| plan.run(io, &mut workspace, threads))
        }
        Plan::Transposed(plan) => {
            workspace.reserve(plan.workspace_req()).and_then(|()| plan.run(io, &mut workspace, threads))
        }
    };
    WORKSPACE.set(workspace);
    result
}
