//! [`Rooms`]: the tensors that a [`PhasedPlan`](super::PhasedPlan) keeps in the shared workspace.

/// Elements of a cache line, at which each room begins.
const LINE: usize = 16;

/// Elements of the shared workspace for each tensor that is kept there; 0 if none is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rooms {
    /// The small tensor, in the layout of the phases.
    pub(super) small: usize,
    /// The part of it that a phase reads.
    pub(super) read: usize,
    /// The residual, in the layout of the phases.
    pub(super) residual: usize,
    /// The residual of a phase that is not written in place.
    pub(super) addend: usize,
    /// The output of such a phase.
    pub(super) part: usize,
    /// The large tensor, in the layout of the phases.
    pub(super) large: usize,
    /// The image of zeros that the epilogue of outputs without taps reads.
    pub(super) zeros: usize,
}

/// The tensors of [`Rooms`].
pub(super) struct Room<'w> {
    pub(super) small: &'w mut [f32],
    pub(super) residual: &'w mut [f32],
    pub(super) large: &'w mut [f32],
    pub(super) zeros: &'w mut [f32],
    pub(super) parts: Parts<'w>,
}

/// The parts of the workspace that every phase uses.
pub(super) struct Parts<'w> {
    pub(super) read: &'w mut [f32],
    pub(super) addend: &'w mut [f32],
    pub(super) part: &'w mut [f32],
    /// The workspace of the plans.
    pub(super) slabs: &'w mut [f32],
}

impl Rooms {
    fn all(&self) -> [usize; 7] {
        let Self { small, read, residual, addend, part, large, zeros } = *self;
        [small, read, residual, addend, part, large, zeros]
    }

    pub(super) fn len(&self) -> usize {
        self.all()
            .into_iter()
            .fold(0, |sum, len| sum.saturating_add(len.saturating_add(LINE - 1) / LINE * LINE))
    }

    /// Splits `scratch` into the rooms and the rest.
    pub(super) fn split<'w>(&self, scratch: &'w mut [f32]) -> Room<'w> {
        let mut rest = scratch;
        let mut next = |len: usize| {
            let (room, after) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(LINE));
            rest = after;
            &mut room[..len]
        };
        let [small, read, residual, addend, part, large, zeros] = self.all().map(&mut next);
        Room { small, residual, large, zeros, parts: Parts { read, addend, part, slabs: rest } }
    }
}
