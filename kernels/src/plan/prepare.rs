//! [`Problem`]: a descriptor, its weights and the options. Any algorithm can be prepared from it.

use super::filter::Filter;
use super::options::PlanOptions;
use crate::algo::{Form, FormKind, Packed, Schedule};
use crate::choose::{Candidate, Choice, Estimate, Machine, Profile, choose, typical};
use crate::describe::{
    Activation, Algorithm, ConvDesc, ConvError, EpilogueSpec, FilterCut, FilterShape, Layout, Method,
    Reduced, Shape4, Weights,
};
use crate::memory::WorkspaceReq;
use crate::run::PreparedConv;
use crate::tile::detect::kernels;
use crate::tile::table::KernelSet;

/// The source of a plan's packed weights.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum PlanWeights<'a> {
    /// Weights that are packed for this plan alone.
    Weights(Weights<'a>),
    /// A filter that shares its packed forms among plans.
    Filter(&'a Filter<'a>),
}

impl<'a> From<Weights<'a>> for PlanWeights<'a> {
    fn from(weights: Weights<'a>) -> Self {
        Self::Weights(weights)
    }
}

impl<'a> From<&'a Filter<'a>> for PlanWeights<'a> {
    fn from(filter: &'a Filter<'a>) -> Self {
        Self::Filter(filter)
    }
}

/// Everything that the candidates of a problem share.
pub(super) struct Problem<'a> {
    pub(super) desc: &'a ConvDesc,
    /// The smaller problem that every algorithm but the reference computes.
    reduced: Reduced,
    pub(super) source: PlanWeights<'a>,
    pub(super) options: &'a PlanOptions,
    pub(super) kernels: &'static KernelSet,
    /// Number of threads that the amount of work justifies.
    pub(super) parts: usize,
}

impl<'a> Problem<'a> {
    /// Checks the options and finds the kernels.
    pub(super) fn new(
        desc: &'a ConvDesc,
        source: PlanWeights<'a>,
        options: &'a PlanOptions,
    ) -> Result<Self, ConvError> {
        if options.max_threads == 0 {
            return Err(ConvError::field("max_threads", "at least 1", 0));
        }
        if options.macs_per_thread == 0 {
            return Err(ConvError::field("macs_per_thread", "at least 1", 0));
        }
        let kernels = kernels(options.isa)?;
        let reduced = desc.reduced();
        let macs = reduced.desc.cost().macs;
        let worth = usize::try_from(macs / options.macs_per_thread).unwrap_or(usize::MAX);
        let parts = worth.clamp(1, options.max_threads);
        Ok(Self { desc, reduced, source, options, kernels, parts })
    }

    /// Checks that the weights fit the descriptor.
    pub(super) fn check_filter(&self) -> Result<(), ConvError> {
        match self.source {
            PlanWeights::Weights(weights) => {
                check_len("filter", self.desc.filter_len(), weights.filter.len())?;
            }
            PlanWeights::Filter(filter) => {
                let (expected, got) = (FilterShape::from(self.desc), filter.shape());
                if expected != got {
                    return Err(ConvError::FilterMismatch { expected, got });
                }
            }
        }
        self.check_per_channel()
    }

    /// Checks the bias and the slopes only.
    pub(super) fn check_per_channel(&self) -> Result<(), ConvError> {
        let lens = match self.source {
            PlanWeights::Weights(weights) => per_channel_lens(&weights),
            PlanWeights::Filter(filter) => filter.per_channel_lens(),
        };
        check_per_channel((self.desc.epilogue(), self.desc.output().c), lens)
    }

    /// The machine that times are estimated for.
    pub(super) fn profile(&self) -> Profile {
        self.options.profile.unwrap_or(Profile::typical(self.kernels.isa()))
    }

    fn machine(&self) -> Machine<'static> {
        Machine::new(self.kernels, &self.profile(), self.parts, self.options.max_threads)
            .with_bytes_between_runs(self.options.bytes_between_runs)
    }

    /// Chooses an algorithm by the cost model.
    pub(super) fn choose(&self) -> Result<Choice, ConvError> {
        choose(self.desc, &self.reduced.desc, &self.options.limits(), &self.machine())
    }

    /// Returns the schedule of `method` and the form of its weights. `method` must support the problem.
    pub(super) fn schedule(&self, method: Method) -> (Schedule, Form) {
        let (desc, cut) = self.computed(method);
        let schedule = Schedule::new(method, desc, self.kernels, &typical(self.kernels));
        let kind = schedule.form(desc, self.kernels);
        (schedule, Form { cut, kind })
    }

    /// The problem that `method` computes, and the taps that are left of the filter. The reference computes
    /// the definition.
    pub(super) fn computed(&self, method: Method) -> (&ConvDesc, Option<FilterCut>) {
        match method.algorithm {
            Algorithm::Reference => (self.desc, None),
            _ => (&self.reduced.desc, self.reduced.cut),
        }
    }

    /// Chooses an algorithm by the cost model and prepares it.
    ///
    /// With a filter, an algorithm whose weights are already packed is preferred if it is not much slower
    /// than the best one. If the original weights were dropped, only packed forms are considered.
    pub(super) fn prepare_chosen(&self) -> Result<(Choice, PreparedConv), ConvError> {
        let choice = self.choose()?;
        let (schedule, form) = self.schedule(choice.method);
        let packed = match self.source {
            PlanWeights::Filter(filter) if !filter.has_packed(&form, self.kernels) => {
                self.fastest_packed(filter, &choice)
            }
            _ => None,
        };
        let (choice, schedule, form) = match packed {
            Some((method, schedule, estimate)) => {
                let (desc, cut) = self.computed(method);
                let kind = schedule.form(desc, self.kernels);
                (choice.packed(method, estimate), schedule, Form { cut, kind })
            }
            None => (choice, schedule, form),
        };
        let conv = self.with_weights(choice.method, schedule, form, true)?;
        Ok((choice, conv))
    }

    /// Returns the fastest algorithm whose weights are packed, if it is not much slower than the chosen one.
    fn fastest_packed(&self, filter: &Filter<'_>, choice: &Choice) -> Option<(Method, Schedule, Estimate)> {
        let chosen = choice.candidate()?.estimate.seconds;
        let most = if filter.has_weights() { filter.reuse_factor() * chosen } else { f64::INFINITY };
        let (typical, machine) = (typical(self.kernels), self.machine());
        let packed = |candidate: &Candidate| {
            let method = candidate.method;
            let (desc, cut) = self.computed(method);
            let forms: Vec<FormKind> = Schedule::forms(method, desc, self.kernels, &typical)
                .into_iter()
                .filter(|&kind| filter.has_packed(&Form { cut, kind }, self.kernels))
                .collect();
            let schedule = Schedule::among(method, desc, self.kernels, &typical, &forms)?;
            let estimate = machine.estimate_schedule(&schedule, desc);
            (estimate.seconds <= most).then_some((method, schedule, estimate))
        };
        let allowed = choice.allowed().filter(|candidate| candidate.estimate.seconds <= most);
        allowed.filter_map(packed).min_by(|a, b| a.2.seconds.total_cmp(&b.2.seconds))
    }

    /// Prepares `method`, which must support the problem. If `keep` is set, a filter keeps the packed
    /// weights for other plans.
    pub(super) fn prepare(&self, method: Method, keep: bool) -> Result<PreparedConv, ConvError> {
        let (schedule, form) = self.schedule(method);
        self.with_weights(method, schedule, form, keep)
    }

    fn with_weights(
        &self,
        method: Method,
        schedule: Schedule,
        form: Form,
        keep: bool,
    ) -> Result<PreparedConv, ConvError> {
        let packed = match self.source {
            PlanWeights::Weights(weights) => form.pack(&weights, self.desc.output().c, self.kernels)?,
            PlanWeights::Filter(filter) => filter.packed(method, &form, self.kernels, keep)?,
        };
        self.with_packed(method, schedule, (form, packed))
    }

    /// Whether any algorithm can be prepared. A filter without its original weights has only its packed
    /// forms.
    pub(super) fn has_weights(&self) -> bool {
        match self.source {
            PlanWeights::Weights(_) => true,
            PlanWeights::Filter(filter) => filter.has_weights(),
        }
    }

    /// Adds the packed weights of `conv` to the filter, if there is one. Used after a
    /// [`prepare`](Self::prepare) that did not keep them.
    pub(super) fn keep(&self, conv: &PreparedConv) {
        if let PlanWeights::Filter(filter) = self.source {
            filter.keep(&conv.form, &conv.driver.packed(), self.kernels.isa());
        }
    }

    /// Allocates the packed weights of `method`; `None` if its form cannot be packed in parts.
    pub(super) fn room(
        &self,
        method: Method,
        weights: &Weights<'_>,
    ) -> Result<Option<(Schedule, Form, Packed)>, ConvError> {
        let (schedule, form) = self.schedule(method);
        if !form.takes_parts() {
            return Ok(None);
        }
        let packed = form.room(weights)?;
        Ok(Some((schedule, form, packed)))
    }

    /// Prepares the convolution of `schedule` with packed weights.
    pub(super) fn with_packed(
        &self,
        method: Method,
        schedule: Schedule,
        (form, packed): (Form, Packed),
    ) -> Result<PreparedConv, ConvError> {
        let (desc, _) = self.computed(method);
        let driver = schedule.driver(desc, self.kernels, packed)?;
        let req = WorkspaceReq::new(driver.workspace_len(), self.options.max_threads);
        if req.len() > isize::MAX as usize / size_of::<f32>() {
            return Err(ConvError::SizeOverflow { what: "workspace" });
        }
        let merged = method.algorithm != Algorithm::Reference && self.reduced.merged;
        Ok(PreparedConv {
            desc: *self.desc,
            merged,
            form,
            driver,
            req,
            parts: self.parts,
            streams: streams(self.desc.output(), self.desc.output_layout()),
            cut_room: Vec::new(),
        })
    }
}

/// Bytes of an output that is written past the caches: a quarter of a third-level cache of 32 MiB.
///
/// A store to memory that is in no cache reads the line first, and evicts another one. Measured on 32 MiB of Zen 4: copies
/// of 8 MiB take half of the time past the caches, and so do pairs of copies that read each other's outputs from 8 MiB on.
/// Below, such pairs take up to twice the time.
const STREAMED: usize = 8 << 20;

/// Whether an output is written past the caches.
pub(crate) fn streams(output: Shape4, layout: Layout) -> bool {
    output.len(layout).is_ok_and(|len| len.saturating_mul(size_of::<f32>()) >= STREAMED)
}

/// Checks that weights fit a descriptor with a filter of `filter_len` elements, this epilogue and this number of output
/// channels.
pub(crate) fn check_weights(
    filter_len: usize,
    outputs: (EpilogueSpec, usize),
    weights: &Weights<'_>,
) -> Result<(), ConvError> {
    check_len("filter", filter_len, weights.filter.len())?;
    check_per_channel(outputs, per_channel_lens(weights))
}

/// Lengths of the bias and of the slopes.
fn per_channel_lens(weights: &Weights<'_>) -> [Option<usize>; 2] {
    [weights.bias, weights.slope].map(|values| values.map(<[f32]>::len))
}

fn check_per_channel(
    (epilogue, channels): (EpilogueSpec, usize),
    [bias, slope]: [Option<usize>; 2],
) -> Result<(), ConvError> {
    let operands =
        [("bias", epilogue.bias, bias), ("PReLU slopes", epilogue.activation == Activation::PRelu, slope)];
    for (what, planned, given) in operands {
        if planned != given.is_some() {
            return Err(ConvError::EpilogueMismatch { what, planned });
        }
        if let Some(len) = given {
            check_len(what, channels, len)?;
        }
    }
    Ok(())
}

pub(crate) fn check_len(what: &'static str, expected: usize, got: usize) -> Result<(), ConvError> {
    if expected == got { Ok(()) } else { Err(ConvError::BufferLen { what, expected, got }) }
}
