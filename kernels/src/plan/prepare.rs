//! [`Problem`]: a descriptor, its weights and what the caller wants, from which any algorithm can be prepared.

use super::options::PlanOptions;
use crate::algo;
use crate::choose::{Choice, Machine, Profile, choose, typical};
use crate::describe::{Activation, Algorithm, ConvDesc, ConvError, Weights};
use crate::memory::WorkspaceReq;
use crate::run::PreparedConv;
use crate::tile::detect::kernels;
use crate::tile::table::KernelSet;

/// What all candidates of a problem share.
pub(super) struct Problem<'a> {
    pub(super) desc: &'a ConvDesc,
    pub(super) weights: &'a Weights<'a>,
    pub(super) options: &'a PlanOptions,
    pub(super) kernels: &'static KernelSet,
    /// Threads that the work is worth.
    pub(super) parts: usize,
}

impl<'a> Problem<'a> {
    /// Checks the options.
    pub(super) fn new(
        desc: &'a ConvDesc,
        weights: &'a Weights<'a>,
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
        Ok(Self { desc, weights, options, kernels, parts })
    }

    /// Checks that the weights are the descriptor's.
    pub(super) fn check_filter(&self) -> Result<(), ConvError> {
        check_len("filter", self.desc.filter_len(), self.weights.filter.len())?;
        self.check_per_channel()
    }

    /// Checks bias and slopes alone.
    pub(super) fn check_per_channel(&self) -> Result<(), ConvError> {
        let epilogue = self.desc.epilogue();
        let operands = [
            ("bias", epilogue.bias, self.weights.bias),
            ("PReLU slopes", epilogue.activation == Activation::PRelu, self.weights.slope),
        ];
        for (what, planned, given) in operands {
            if planned != given.is_some() {
                return Err(ConvError::EpilogueMismatch { what, planned });
            }
            if let Some(values) = given {
                check_len(what, self.desc.output().c, values.len())?;
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

    /// Packs the weights for `algorithm`, which must support the problem.
    pub(super) fn prepare(&self, algorithm: Algorithm) -> Result<PreparedConv, ConvError> {
        let driver = algo::prepare(algorithm, self.desc, self.weights, self.kernels, &typical(self.kernels))?;
        let req = WorkspaceReq { per_thread_len: driver.workspace_len(), threads: self.options.max_threads };
        if req.len() > isize::MAX as usize / size_of::<f32>() {
            return Err(ConvError::SizeOverflow { what: "workspace" });
        }
        Ok(PreparedConv { desc: *self.desc, driver, req, parts: self.parts })
    }
}

pub(super) fn check_len(what: &'static str, expected: usize, got: usize) -> Result<(), ConvError> {
    if expected == got { Ok(()) } else { Err(ConvError::BufferLen { what, expected, got }) }
}
