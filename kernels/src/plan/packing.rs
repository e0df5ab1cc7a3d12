//! [`Packing`]: a plan whose filters are given some output channels at a time.

use super::prepare::{Problem, check_len};
use super::{ConvPlan, PlanOptions};
use crate::algo::{Form, Packed, Schedule};
use crate::choose::{Choice, Select, Wisdom};
use crate::describe::{ConvDesc, ConvError, Weights};
use crate::memory::{try_copy, try_vec};
use crate::tile::detect::kernels;
use std::fmt;
use std::ops::Range;

/// Bytes of filters that are asked for at a time, if that is whole panels.
const PART: usize = 1 << 20;

/// A plan to be: [`ConvPlan::packing`] begins it, and it is given the filters of [`next_channels`](Self::next_channels) until there are
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
/// while !packing.next_channels().is_empty() {
///     let channels = packing.next_channels();
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

impl fmt::Debug for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packing").field("desc", self.desc()).field("done", &self.done).finish_non_exhaustive()
    }
}

enum State {
    Room(Box<Room>),
    Whole(Box<Whole>),
}

/// A chosen algorithm, and room for its packed weights.
struct Room {
    desc: ConvDesc,
    options: PlanOptions,
    choice: Choice,
    schedule: Schedule,
    form: Form,
    packed: Packed,
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
        let problem = Problem::new(desc, (*weights).into(), options)?;
        problem.check_per_channel()?;
        let choice = problem.choose()?;
        let mut step = (PART / desc.taps().saturating_mul(size_of::<f32>())).max(1);
        let room = match options.select {
            Select::Measured => None,
            _ => problem.room(choice.algorithm, weights)?,
        };
        let state = if let Some((schedule, form, packed)) = room {
            step = step.next_multiple_of(form.channels_of_part());
            State::Room(Box::new(Room { desc: *desc, options: *options, choice, schedule, form, packed }))
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
            State::Room(room) => &room.desc,
            State::Whole(whole) => &whole.desc,
        }
    }

    /// The output channels whose filters are to be given next; none if all are there.
    pub fn next_channels(&self) -> Range<usize> {
        self.done..self.desc().output().c.min(self.done + self.step)
    }

    /// Packs the filters of [`next_channels`](Self::next_channels): `[channels][C / groups][KH][KW]`.
    ///
    /// # Errors
    /// [`ConvError::BufferLen`] if they are not as many, [`ConvError::OutOfMemory`]. They can then be given again.
    pub fn fill(&mut self, filters: &[f32]) -> Result<(), ConvError> {
        let channels = self.next_channels();
        check_len("filters of the next channels", channels.len() * self.desc().taps(), filters.len())?;
        let end = channels.end;
        match &mut self.state {
            State::Room(room) => room.packed.fill(channels, filters, kernels(room.options.isa)?)?,
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
            State::Room(room) => {
                let Room { desc, options, choice, schedule, form, packed } = *room;
                let problem = Problem::new(&desc, Weights::filter(&[]).into(), &options)?;
                let conv = problem.with_packed(schedule, form, packed)?;
                Ok(ConvPlan::of(&problem, choice, conv))
            }
            State::Whole(whole) => {
                let Whole { desc, options, filter, bias, slope } = *whole;
                let weights = Weights { filter: &filter, bias: bias.as_deref(), slope: slope.as_deref() };
                ConvPlan::plan(&desc, weights.into(), &options, wisdom)
            }
        }
    }
}
