//! [`Packing`]: a plan whose filters are given some output channels at a time.

use super::prepare::{Problem, check_len};
use super::{ConvPlan, PlanOptions};
use crate::algo;
use crate::choose::{Select, Wisdom};
use crate::describe::{ConvDesc, ConvError, Weights};
use crate::memory::{try_copy, try_vec};
use std::ops::Range;

/// Bytes of filters that are asked for at a time, if that is whole panels.
const PART: usize = 1 << 20;

/// A plan to be: [`ConvPlan::packing`] begins it, and it is given the filters of [`next`](Self::next) until there are
/// none left. The filters of a fully connected layer may be most of a network; so only a part of them is in memory
/// beside what is packed.
///
/// Fourier transforms, depthwise convolutions and [`Select::Measured`] need all of a filter at once, which is then
/// collected.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let desc = ConvDesc::builder(Shape4::new(1, 8, 14, 14), 40, Size2::square(1)).build()?;
/// let mut packing = ConvPlan::packing(&desc, Weights::filter(&[]), &PlanOptions::default())?;
/// while !packing.next().is_empty() {
///     let channels = packing.next();
///     packing.fill(&vec![0.5; channels.len() * 8])?; // from a file, say
/// }
/// let plan = packing.finish()?;
/// # Ok(())
/// # }
/// ```
pub struct Packing {
    state: State,
    /// Output channels that are packed.
    done: usize,
    /// Output channels at a time.
    step: usize,
}

enum State {
    Plan(Box<ConvPlan>),
    Whole(Box<Whole>),
}

/// All that a plan is made of.
struct Whole {
    desc: ConvDesc,
    options: PlanOptions,
    filter: Vec<f32>,
    bias: Option<Vec<f32>>,
    slope: Option<Vec<f32>>,
}

impl Packing {
    pub(super) fn new(
        desc: &ConvDesc,
        weights: &Weights<'_>,
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        check_len("filter", 0, weights.filter.len())?;
        let problem = Problem::new(desc, weights, options)?;
        problem.check_per_channel()?;
        let choice = problem.choose()?;
        let mut step = (PART / desc.taps().saturating_mul(size_of::<f32>())).max(1);
        let state = if options.select != Select::Measured && algo::takes_parts(choice.algorithm) {
            let conv = problem.prepare(choice.algorithm)?;
            step = step.next_multiple_of(conv.driver.split_units().channels);
            State::Plan(Box::new(ConvPlan::of(&problem, choice, conv)))
        } else {
            let own =
                |values: Option<&[f32]>| values.map(|values| try_copy("bias and slopes", values)).transpose();
            let (bias, slope) = (own(weights.bias)?, own(weights.slope)?);
            let filter = try_vec("filter", desc.filter_len())?;
            State::Whole(Box::new(Whole { desc: *desc, options: *options, filter, bias, slope }))
        };
        Ok(Self { state, done: 0, step })
    }

    fn desc(&self) -> &ConvDesc {
        match &self.state {
            State::Plan(plan) => &plan.conv.desc,
            State::Whole(whole) => &whole.desc,
        }
    }

    /// The output channels whose filters are to be given next; none if all are there.
    pub fn next(&self) -> Range<usize> {
        self.done..self.desc().output().c.min(self.done + self.step)
    }

    /// Packs the filters of [`next`](Self::next): `[channels][C / groups][KH][KW]`.
    ///
    /// # Errors
    /// [`ConvError::BufferLen`] if they are not as many, [`ConvError::OutOfMemory`]. They can then be given again.
    pub fn fill(&mut self, filters: &[f32]) -> Result<(), ConvError> {
        let channels = self.next();
        check_len("filters of the next channels", channels.len() * self.desc().taps(), filters.len())?;
        let end = channels.end;
        match &mut self.state {
            State::Plan(plan) => plan.conv.driver.fill(channels, filters)?,
            State::Whole(whole) => whole.filter.extend_from_slice(filters),
        }
        self.done = end;
        Ok(())
    }

    /// The plan.
    ///
    /// # Errors
    /// [`ConvError::BufferLen`] if there are filters left to be given.
    pub fn finish(self) -> Result<ConvPlan, ConvError> {
        self.plan(None)
    }

    /// The plan; under [`Select::Measured`] as [`ConvPlan::with_wisdom`] makes it.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_with_wisdom(self, wisdom: &Wisdom) -> Result<ConvPlan, ConvError> {
        self.plan(Some(wisdom))
    }

    fn plan(self, wisdom: Option<&Wisdom>) -> Result<ConvPlan, ConvError> {
        check_len("filter", self.desc().filter_len(), self.done * self.desc().taps())?;
        match self.state {
            State::Plan(plan) => Ok(*plan),
            State::Whole(whole) => {
                let Whole { desc, options, filter, bias, slope } = *whole;
                let weights = Weights { filter: &filter, bias: bias.as_deref(), slope: slope.as_deref() };
                ConvPlan::plan(&desc, &weights, &options, wisdom)
            }
        }
    }
}
