//! [`Problem`]: a descriptor, its weights and what the caller wants, from which any algorithm can be prepared.

use super::filter::Filter;
use super::options::PlanOptions;
use crate::algo::{Form, Packed, Schedule};
use crate::choose::{Choice, Machine, Profile, choose, typical};
use crate::describe::{Activation, Algorithm, ConvDesc, ConvError, FilterShape, Weights};
use crate::memory::WorkspaceReq;
use crate::run::PreparedConv;
use crate::tile::detect::kernels;
use crate::tile::table::KernelSet;

/// Where a plan gets its packed weights: packed for it alone, or shared with other plans of a [`Filter`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum PlanWeights<'a> {
    /// Packed for this plan.
    Weights(Weights<'a>),
    /// Packed once for all plans of the filter.
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

/// What all candidates of a problem share.
pub(super) struct Problem<'a> {
    pub(super) desc: &'a ConvDesc,
    pub(super) source: PlanWeights<'a>,
    pub(super) options: &'a PlanOptions,
    pub(super) kernels: &'static KernelSet,
    /// Threads that the work is worth.
    pub(super) parts: usize,
}

impl<'a> Problem<'a> {
    /// Checks the options.
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
        let worth = usize::try_from(desc.cost().macs / options.macs_per_thread).unwrap_or(usize::MAX);
        let parts = worth.clamp(1, options.max_threads);
        Ok(Self { desc, source, options, kernels, parts })
    }

    /// Checks that the weights are the descriptor's.
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

    /// Checks bias and slopes alone.
    pub(super) fn check_per_channel(&self) -> Result<(), ConvError> {
        let epilogue = self.desc.epilogue();
        let [bias, slope] = match self.source {
            PlanWeights::Weights(weights) => {
                [weights.bias, weights.slope].map(|values| values.map(<[f32]>::len))
            }
            PlanWeights::Filter(filter) => filter.per_channel_lens(),
        };
        let operands = [
            ("bias", epilogue.bias, bias),
            ("PReLU slopes", epilogue.activation == Activation::PRelu, slope),
        ];
        for (what, planned, given) in operands {
            if planned != given.is_some() {
                return Err(ConvError::EpilogueMismatch { what, planned });
            }
            if let Some(len) = given {
                check_len(what, self.desc.output().c, len)?;
            }
        }
        Ok(())
    }

    /// The choice by the model.
    pub(super) fn choose(&self) -> Result<Choice, ConvError> {
        let profile = self.options.profile.unwrap_or(Profile::typical(self.kernels.isa()));
        let machine = Machine::new(self.kernels, &profile, self.parts, self.options.max_threads);
        choose(self.desc, &self.options.limits(), &machine)
    }

    /// The choice by the model among the algorithms whose weights are packed or can be.
    pub(super) fn choose_packable(&self) -> Result<Choice, ConvError> {
        let choice = self.choose()?;
        match self.source {
            PlanWeights::Filter(filter) if !filter.has_weights() => {
                let algorithm = choice.algorithm;
                let is_packed = |algorithm| filter.has_packed(&self.schedule(algorithm).1, self.kernels);
                choice.among(is_packed).ok_or(ConvError::WeightsDropped { algorithm })
            }
            _ => Ok(choice),
        }
    }

    /// What `algorithm`, which must support the problem, decides before it sees weights.
    fn schedule(&self, algorithm: Algorithm) -> (Schedule, Form) {
        let schedule = Schedule::new(algorithm, self.desc, self.kernels, &typical(self.kernels));
        let form = schedule.form(self.desc, self.kernels);
        (schedule, form)
    }

    /// The convolution by `algorithm`, which must support the problem. A filter keeps the packed weights for other plans
    /// only if it should `keep` them.
    pub(super) fn prepare(&self, algorithm: Algorithm, keep: bool) -> Result<PreparedConv, ConvError> {
        let (schedule, form) = self.schedule(algorithm);
        let packed = match self.source {
            PlanWeights::Weights(weights) => form.pack(&weights, self.desc.output().c, self.kernels)?,
            PlanWeights::Filter(filter) => filter.packed(algorithm, &form, self.kernels, keep)?,
        };
        self.with_packed(schedule, form, packed)
    }

    /// Has the filter, if there is one, keep the weights of a convolution that was prepared without.
    pub(super) fn keep(&self, conv: &PreparedConv) {
        if let PlanWeights::Filter(filter) = self.source {
            filter.keep(&conv.form, &conv.packed, self.kernels.isa());
        }
    }

    /// Room for the weights of `algorithm`, if they can be given some output channels at a time, and its schedule.
    pub(super) fn room(
        &self,
        algorithm: Algorithm,
        weights: &Weights<'_>,
    ) -> Result<Option<(Schedule, Form, Packed)>, ConvError> {
        let (schedule, form) = self.schedule(algorithm);
        if !form.takes_parts() {
            return Ok(None);
        }
        let packed = form.room(weights)?;
        Ok(Some((schedule, form, packed)))
    }

    /// The convolution of `schedule`, whose weights are packed.
    pub(super) fn with_packed(
        &self,
        schedule: Schedule,
        form: Form,
        packed: Packed,
    ) -> Result<PreparedConv, ConvError> {
        let driver = schedule.driver(self.desc, self.kernels, packed.clone())?;
        let req = WorkspaceReq { per_thread_len: driver.workspace_len(), threads: self.options.max_threads };
        if req.len() > isize::MAX as usize / size_of::<f32>() {
            return Err(ConvError::SizeOverflow { what: "workspace" });
        }
        Ok(PreparedConv { desc: *self.desc, form, packed, driver, req, parts: self.parts })
    }
}

pub(super) fn check_len(what: &'static str, expected: usize, got: usize) -> Result<(), ConvError> {
    if expected == got { Ok(()) } else { Err(ConvError::BufferLen { what, expected, got }) }
}
