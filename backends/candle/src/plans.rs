//! [`Plans`]: the plans and packed weights that a layer keeps between calls.

use crate::spec::failed;
use crate::threads;
use candle_core::Result;
use kernels::{
    Algorithm, BackwardData, ConvDesc, ConvError, ConvIo, ConvPlan, DataSpec, Layout, Method, PlanOptions,
    Shape4, Threads, TransposedDesc, TransposedPlan, Weights, Workspace, WorkspaceReq,
};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Maximum number of plans that a layer keeps.
const CAPACITY: usize = 16;

/// What a layer computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Desc {
    Ordinary(ConvDesc),
    Transposed(TransposedDesc),
}

/// A layer that is ready to run.
pub(crate) enum Plan {
    Ordinary(Box<ConvPlan>),
    Transposed(Box<TransposedPlan>),
}

impl Desc {
    /// The shape and the layout of the output.
    pub(crate) fn output(&self) -> (Shape4, Layout) {
        match self {
            Self::Ordinary(desc) => (desc.output(), desc.output_layout()),
            Self::Transposed(desc) => (desc.output(), desc.layout()),
        }
    }

    /// Chooses the algorithms and packs `weights`. They will run only once if `once`.
    pub(crate) fn plan(&self, weights: Weights<'_>, once: bool) -> Result<Plan> {
        match self {
            Self::Ordinary(desc) => {
                let options = options(desc.output(), once);
                ConvPlan::new(desc, weights, &options).map(|plan| Plan::Ordinary(Box::new(plan)))
            }
            Self::Transposed(desc) => {
                // Each phase has about as many pixels as the input.
                let options = options(desc.input(), once);
                TransposedPlan::new(desc, weights, &options).map(|plan| Plan::Transposed(Box::new(plan)))
            }
        }
        .map_err(failed)
    }
}

impl Plan {
    /// Packs other weights in the place of the present ones. Returns whether it could.
    fn repack(&mut self, weights: Weights<'_>) -> bool {
        match self {
            Self::Ordinary(plan) => plan.repack(weights),
            Self::Transposed(plan) => plan.repack(weights),
        }
        .is_ok()
    }

    pub(crate) fn workspace_req(&self) -> WorkspaceReq {
        match self {
            Self::Ordinary(plan) => plan.workspace_req(),
            Self::Transposed(plan) => plan.workspace_req(),
        }
    }

    pub(crate) fn run(
        &self,
        io: ConvIo<'_>,
        workspace: &mut Workspace,
        threads: Threads<'_>,
    ) -> std::result::Result<(), ConvError> {
        match self {
            Self::Ordinary(plan) => plan.run(io, workspace, threads),
            Self::Transposed(plan) => plan.run(io, workspace, threads),
        }
    }
}

/// The plans of one layer, least recently used first. All have the weights that `stamp` identifies.
#[derive(Default)]
pub(crate) struct Plans {
    kept: Mutex<Kept>,
    /// Gradients of the input, each with the number of its threads. Their weights are out of date.
    gradients: Mutex<Vec<(usize, BackwardData)>>,
}

#[derive(Default)]
struct Kept {
    stamp: Option<u64>,
    /// Whether the weights have changed and were not used twice since then. Packing must be cheap then.
    changing: bool,
    plans: Vec<Entry>,
    /// Plans of weights that have changed, chosen for weights that change. They are packed again in the same memory.
    outdated: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    desc: Desc,
    threads: usize,
    plan: Arc<Plan>,
}

impl Kept {
    /// Forgets the plans if the weights are others now, or if they have settled and deserve better plans.
    fn renew(&mut self, stamp: Option<u64>) {
        let changed = self.stamp != stamp;
        if !changed && !self.changing {
            return;
        }
        let changing = changed && self.stamp.is_some();
        let mut outdated = Vec::new();
        if changing && self.changing {
            outdated = mem::take(&mut self.outdated);
            outdated.append(&mut self.plans);
            outdated.drain(..outdated.len().saturating_sub(CAPACITY));
        }
        *self = Self { stamp, changing, plans: Vec::new(), outdated };
    }

    /// A plan of `desc` that nothing else uses, with other weights.
    fn outdated(&mut self, desc: &Desc, threads: usize) -> Option<Plan> {
        let index = self.outdated.iter().position(|entry| entry.desc == *desc && entry.threads == threads)?;
        Arc::into_inner(self.outdated.remove(index).plan)
    }

    fn recall(&mut self, desc: &Desc, threads: usize) -> Option<Arc<Plan>> {
        let index = self.plans.iter().position(|entry| entry.desc == *desc && entry.threads == threads)?;
        self.plans[index..].rotate_left(1);
        self.plans.last().map(|entry| entry.plan.clone())
    }
}

impl Plans {
    /// Returns the plan of `desc`, kept or new. `stamp` identifies the weights.
    pub(crate) fn plan(&self, desc: &Desc, stamp: Option<u64>, weights: Weights<'_>) -> Result<Arc<Plan>> {
        let threads = threads::count();
        let (changing, others, outdated) = {
            let mut kept = self.lock();
            kept.renew(stamp);
            if let Some(plan) = kept.recall(desc, threads) {
                return Ok(plan);
            }
            (kept.changing, kept.plans.clone(), kept.outdated(desc, threads))
        };
        // The lock is not held while weights are packed.
        let repacked = outdated.and_then(|mut plan| plan.repack(weights).then_some(plan));
        let plan = match repacked {
            Some(plan) => plan,
            None => Self::made(desc, weights, changing, &others)?,
        };
        let plan = Arc::new(plan);
        let mut kept = self.lock();
        if kept.stamp == stamp {
            if kept.plans.len() >= CAPACITY {
                kept.plans.remove(0);
            }
            kept.plans.push(Entry { desc: *desc, threads, plan: plan.clone() });
        }
        Ok(plan)
    }

    /// A new plan, with the packed weights of one of `others` if possible.
    fn made(desc: &Desc, weights: Weights<'_>, changing: bool, others: &[Entry]) -> Result<Plan> {
        let shared = match desc {
            Desc::Ordinary(desc) => sharing(desc, &options(desc.output(), changing), others)?,
            // Their phases do not share packed weights.
            Desc::Transposed(_) => None,
        };
        match shared {
            Some(plan) => Ok(Plan::Ordinary(Box::new(plan))),
            None => desc.plan(weights, changing),
        }
    }

    /// The gradient of the input of `desc`: a kept one, packed again in the same memory, or a new one. The caller gives it
    /// back to [`keep_gradient`](Self::keep_gradient).
    pub(crate) fn gradient(&self, desc: &ConvDesc, weight: &[f32]) -> Result<BackwardData> {
        let threads = threads::count();
        let kept = {
            let mut gradients = self.gradients.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = |(count, plan): &(usize, BackwardData)| *count == threads && plan.desc() == desc;
            gradients.iter().position(fits).map(|index| gradients.remove(index).1)
        };
        match kept.and_then(|mut plan| plan.repack(weight).is_ok().then_some(plan)) {
            Some(plan) => Ok(plan),
            None => new_gradient(desc, weight),
        }
    }

    /// Keeps a gradient for the next step.
    pub(crate) fn keep_gradient(&self, plan: BackwardData) {
        let mut gradients = self.gradients.lock().unwrap_or_else(PoisonError::into_inner);
        if gradients.len() >= CAPACITY {
            gradients.remove(0);
        }
        gradients.push((threads::count(), plan));
    }

    /// Number of plans.
    pub(crate) fn len(&self) -> usize {
        self.lock().plans.len()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The gradient of the input of `desc`, for weights that are packed for one step.
pub(crate) fn new_gradient(desc: &ConvDesc, weight: &[f32]) -> Result<BackwardData> {
    BackwardData::new(desc, weight, DataSpec::default(), &options(desc.output(), true)).map_err(failed)
}

/// A plan with the packed weights of one of `others`, if one of them has the form of the best algorithm and its
/// products.
fn sharing(desc: &ConvDesc, options: &PlanOptions, others: &[Entry]) -> Result<Option<ConvPlan>> {
    if others.is_empty() {
        return Ok(None);
    }
    let best = ConvPlan::choice(desc, options).map_err(failed)?.method;
    for donor in others.iter().rev() {
        let Plan::Ordinary(plan) = &*donor.plan else { continue };
        if Method::new(plan.algorithm(), plan.products()) != best {
            continue;
        }
        match ConvPlan::new(desc, &plan.filter(), &options.force(best)) {
            Ok(plan) => return Ok(Some(plan)),
            Err(ConvError::WeightsDropped { .. }) => (),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(None)
}

/// Output pixels from which on transformed weights pay within one call. Winograd's transform takes about as long
/// per weight as 400 multiply-accumulates, and saves about half of them.
const PIXELS_PER_TRANSFORM: usize = 1000;

/// The options of a plan for an output of this shape, which will run only once if `once`.
pub(crate) fn options(output: Shape4, once: bool) -> PlanOptions {
    let options = PlanOptions::default().max_threads(threads::count());
    if !once || output.n * output.h * output.w >= PIXELS_PER_TRANSFORM {
        return options;
    }
    Algorithm::ALL.into_iter().filter(transforms_weights).fold(options, PlanOptions::forbid)
}

fn transforms_weights(algorithm: &Algorithm) -> bool {
    use Algorithm::{Depthwise, Direct, Im2colGemm, Pointwise, Reference};
    !matches!(algorithm, Reference | Im2colGemm | Pointwise | Direct | Depthwise)
}
