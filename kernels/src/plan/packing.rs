//! [`Packing`]: a plan that takes its filter in parts of a few output channels.

use super::prepare::{Problem, check_len};
use super::{ConvPlan, PlanOptions};
use crate::algo::{Form, Packed, Schedule};
use crate::choose::{Choice, Select, Wisdom};
use crate::describe::{ConvDesc, ConvError, Weights};
use crate::memory::{try_copy, try_vec};
use crate::tile::detect::kernels;
use std::fmt;
use std::ops::Range;

/// Target bytes of one part. A part is rounded up to whole panels.
const PART: usize = 1 << 20;

/// A plan in preparation that takes its filter in parts. [`ConvPlan::packing`] begins it.
///
/// Pass the filters of [`next_channels`](Self::next_channels) to [`fill`](Self::fill) until no channels are
/// left. The filter of a fully connected layer can be most of a network. With a `Packing`, only one part of
/// it is in memory next to the packed weights.
///
/// Fourier transforms, depthwise convolutions and [`Select::Measured`] need the whole filter at once. In
/// these cases the `Packing` collects all parts before it packs them.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let desc = ConvDesc::builder(Shape4::new(1, 8, 14, 14), 40, Size2::square(1)).build()?;
/// let mut packing = ConvPlan::packing(&desc, Weights::filter(&[]), &PlanOptions::default())?;
/// while !packing.next_channels().is_empty() {
///     let channels = packing.next_channels();
///     packing.fill(&vec![0.5; channels.len() * 8])?; // from a file, for example
/// }
/// let plan = packing.finish()?;
/// # Ok(())
/// # }
/// ```
pub struct Packing {
    state: State,
    /// Output channels received so far.
    done: usize,
    /// Output channels of one part.
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

/// A chosen algorithm with memory for its packed weights.
struct Room {
    desc: ConvDesc,
    options: PlanOptions,
    choice: Choice,
    schedule: Schedule,
    form: Form,
    packed: Packed,
}

/// Everything that a plan is made from, collected until the filter is complete.
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
            _ => problem.room(choice.method, weights)?,
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

    /// The output channels whose filters come next; an empty range if all have been passed.
    pub fn next_channels(&self) -> Range<usize> {
        self.done..self.desc().output().c.min(self.done + self.step)
    }

    /// Packs the filters of [`next_channels`](Self::next_channels), in the order
    /// `[channels][C / groups][KH][KW]`.
    ///
    /// # Errors
    /// The same filters can be passed again after an error.
    /// - [`ConvError::BufferLen`] if the number of elements is wrong.
    /// - [`ConvError::OutOfMemory`] if the system refuses an allocation.
    pub fn fill(&mut self, filters: &[f32]) -> Result<(), ConvError> {
        let channels = self.next_channels();
        check_len("filters of the next channels", channels.len() * self.desc().taps(), filters.len())?;
        let end = channels.end;
        match &mut self.state {
            State::Room(room) => {
                let Room { form, packed, options, .. } = &mut **room;
                form.fill(packed, channels, filters, kernels(options.isa)?)?;
            }
            State::Whole(whole) => whole.filter.extend_from_slice(filters),
        }
        self.done = end;
        Ok(())
    }

    /// Returns the plan.
    ///
    /// # Errors
    /// - [`ConvError::BufferLen`] if some filters have not been passed yet.
    /// - The errors of [`ConvPlan::new`].
    pub fn finish(self) -> Result<ConvPlan, ConvError> {
        self.plan(None)
    }

    /// Like [`finish`](Self::finish), but under [`Select::Measured`] with the times of `wisdom`; see
    /// [`ConvPlan::with_wisdom`].
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
                let conv = problem.with_packed(choice.method, schedule, (form, packed))?;
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
