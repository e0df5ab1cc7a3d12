//! [`Plans`]: the plans and packed weights that a layer keeps between calls.

use crate::spec::failed;
use crate::threads;
use candle_core::Result;
use kernels::{Algorithm, ConvDesc, ConvError, ConvPlan, Method, PlanOptions, Weights};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Maximum number of plans that a layer keeps.
const CAPACITY: usize = 16;

/// Weights in the order in which the library packs them.
pub(crate) struct Operands<'a> {
    pub(crate) filter: Cow<'a, [f32]>,
    pub(crate) bias: Option<Cow<'a, [f32]>>,
}

impl Operands<'_> {
    fn as_weights(&self) -> Weights<'_> {
        Weights { filter: &self.filter, bias: self.bias.as_deref(), slope: None }
    }
}

/// The plans of one layer, least recently used first. All have the weights that `stamp` identifies.
#[derive(Default)]
pub(crate) struct Plans(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    stamp: Option<u64>,
    /// Whether the weights have changed and were not used twice since then. Packing must be cheap then.
    changing: bool,
    plans: Vec<Arc<ConvPlan>>,
}

impl Kept {
    /// Forgets the plans if the weights are others now, or if they have settled and deserve better plans.
    fn renew(&mut self, stamp: Option<u64>) {
        let changed = self.stamp != stamp;
        if changed || self.changing {
            let changing = changed && self.stamp.is_some();
            *self = Self { stamp, changing, plans: Vec::new() };
        }
    }

    fn recall(&mut self, desc: &ConvDesc, threads: usize) -> Option<Arc<ConvPlan>> {
        let fits = |plan: &Arc<ConvPlan>| plan.desc() == desc && plan.explain().max_threads == threads;
        let index = self.plans.iter().position(fits)?;
        self.plans[index..].rotate_left(1);
        self.plans.last().cloned()
    }
}

impl Plans {
    /// Returns the plan of `desc`, kept or new. `stamp` identifies the weights; `operands` provides them if
    /// they must be packed.
    pub(crate) fn plan<'a>(
        &self,
        desc: &ConvDesc,
        stamp: Option<u64>,
        operands: impl FnOnce() -> Result<Operands<'a>>,
    ) -> Result<Arc<ConvPlan>> {
        let (options, same_form) = {
            let mut kept = self.lock();
            kept.renew(stamp);
            if let Some(plan) = kept.recall(desc, threads::count()) {
                return Ok(plan);
            }
            (options(desc, kept.changing), kept.plans.clone())
        };
        // The lock is not held while weights are packed.
        let plan = match sharing(desc, &options, &same_form)? {
            Some(plan) => plan,
            None => ConvPlan::new(desc, operands()?.as_weights(), &options).map_err(failed)?,
        };
        let plan = Arc::new(plan);
        let mut kept = self.lock();
        if kept.stamp == stamp {
            if kept.plans.len() >= CAPACITY {
                kept.plans.remove(0);
            }
            kept.plans.push(plan.clone());
        }
        Ok(plan)
    }

    /// Number of plans.
    pub(crate) fn len(&self) -> usize {
        self.lock().plans.len()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A plan with the packed weights of one of `plans`, if one of them has the form of the best algorithm and its
/// products.
fn sharing(desc: &ConvDesc, options: &PlanOptions, plans: &[Arc<ConvPlan>]) -> Result<Option<ConvPlan>> {
    if plans.is_empty() {
        return Ok(None);
    }
    let best = ConvPlan::choice(desc, options).map_err(failed)?.method;
    let runs_it = |plan: &&Arc<ConvPlan>| Method::new(plan.algorithm(), plan.products()) == best;
    for donor in plans.iter().rev().filter(runs_it) {
        match ConvPlan::new(desc, &donor.filter(), &options.force(best)) {
            Ok(plan) => return Ok(Some(plan)),
            Err(ConvError::WeightsDropped { .. }) => (),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(None)
}

/// Plans once, without keeping anything.
pub(crate) fn plan_once(desc: &ConvDesc, operands: &Operands<'_>) -> Result<ConvPlan> {
    ConvPlan::new(desc, operands.as_weights(), &options(desc, true)).map_err(failed)
}

/// Output pixels from which on transformed weights pay within one call. Winograd's transform takes about as long
/// per weight as 400 multiply-accumulates, and saves about half of them.
const PIXELS_PER_TRANSFORM: usize = 1000;

/// The options of a plan, which will run only once if `once`.
fn options(desc: &ConvDesc, once: bool) -> PlanOptions {
    let options = PlanOptions::default().max_threads(threads::count());
    let output = desc.output();
    if !once || output.n * output.h * output.w >= PIXELS_PER_TRANSFORM {
        return options;
    }
    Algorithm::ALL.into_iter().filter(transforms_weights).fold(options, PlanOptions::forbid)
}

fn transforms_weights(algorithm: &Algorithm) -> bool {
    use Algorithm::{Depthwise, Direct, Im2colGemm, Pointwise, Reference};
    !matches!(algorithm, Reference | Im2colGemm | Pointwise | Direct | Depthwise)
}
