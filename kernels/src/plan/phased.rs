//! [`PhasedPlan`]: a convolution that is run backwards, as one plan for each of its [phases](Phase).
//!
//! ```text
//! convert the small tensor, if its layout is not that of the phases
//! for some images, for phase:                    // so many that the output of a phase stays in the second-level cache
//!     copy the rows and columns that it reads, if it does not read all
//!     gather the residual of its outputs
//!     convolve                                   // an ordinary plan: any algorithm
//!     scatter its outputs to every stride-th row and column of the large tensor
//! convert the large tensor, if its layout is not that of the phases
//! ```
//!
//! With stride 1 there is one phase. It writes the large tensor itself, and nothing is copied.

use super::{ConvPlan, PlanOptions};
use crate::describe::{
    Backwards, ConvDesc, ConvError, EpilogueSpec, Layout, Pad2, Phase, Shape4, Size2, TensorMut, TensorOut,
    TensorRef, Weights,
};
use crate::memory::{WorkspaceReq, try_push, try_vec};
use crate::run::copies::{Lattice, copy, gather, scatter};
use crate::run::{ConvIo, Threads};
use crate::tile::copy_table::CopyTable;
use crate::tile::detect::kernels;

/// Elements of a cache line, at which each part of the shared workspace begins.
const LINE: usize = 16;

/// Bytes of the output of a phase, for each thread, that stay in the second-level cache until they are scattered.
const NEAR: usize = 512 << 10;

/// The problem of a [`PhasedPlan`].
pub(super) struct Phased<'a> {
    pub(super) of: Backwards,
    /// Layouts of the small and of the large tensor.
    pub(super) layouts: (Layout, Layout),
    pub(super) epilogue: EpilogueSpec,
    /// In the order `[small.c][large.c / groups][kh][kw]`, with bias and slopes for the channels of the large tensor.
    pub(super) weights: Weights<'a>,
}

/// The plans of all phases.
pub(super) struct PhasedPlan {
    small: Shape4,
    large: Shape4,
    stride: Size2,
    layouts: (Layout, Layout),
    /// Layout in which the phases are computed.
    inner: Layout,
    has_residual: bool,
    /// Number of images that all phases compute before those of the next images, a divisor of all.
    images: usize,
    phases: Vec<PhasePlan>,
    /// Applies the epilogue to zeros, if some outputs have no taps.
    fill: Option<ConvPlan>,
    copies: &'static CopyTable,
    rooms: Rooms,
    req: WorkspaceReq,
    /// Room for the filter of a phase, from the first [`PhasedPlan::repack`] on.
    filter: Vec<f32>,
}

/// The plan of a phase.
struct PhasePlan {
    plan: ConvPlan,
    phase: Phase,
}

/// Elements of the shared workspace for each tensor that is kept there; 0 if none is.
#[derive(Debug, Clone, Copy, Default)]
struct Rooms {
    /// The small tensor, in the layout of the phases.
    small: usize,
    /// The part of it that a phase reads.
    read: usize,
    /// The residual, in the layout of the phases.
    residual: usize,
    /// The residual of a phase.
    addend: usize,
    /// The output of a phase.
    part: usize,
    /// The large tensor, in the layout of the phases.
    large: usize,
    /// The image of zeros that [`PhasedPlan::fill`] reads.
    zeros: usize,
}

/// The tensors of [`Rooms`].
struct Room<'w> {
    small: &'w mut [f32],
    read: &'w mut [f32],
    residual: &'w mut [f32],
    addend: &'w mut [f32],
    part: &'w mut [f32],
    large: &'w mut [f32],
    zeros: &'w mut [f32],
}

impl Rooms {
    fn all(&self) -> [usize; 7] {
        let Self { small, read, residual, addend, part, large, zeros } = *self;
        [small, read, residual, addend, part, large, zeros]
    }

    fn len(&self) -> usize {
        self.all()
            .into_iter()
            .fold(0, |sum, len| sum.saturating_add(len.saturating_add(LINE - 1) / LINE * LINE))
    }

    /// Splits `scratch` into the rooms and the rest.
    fn split<'w>(&self, scratch: &'w mut [f32]) -> (Room<'w>, &'w mut [f32]) {
        let mut rest = scratch;
        let mut next = |len: usize| {
            let (room, after) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(LINE));
            rest = after;
            &mut room[..len]
        };
        let [small, read, residual, addend, part, large, zeros] = self.all().map(&mut next);
        (Room { small, read, residual, addend, part, large, zeros }, rest)
    }
}

impl PhasedPlan {
    pub(super) fn new(problem: &Phased<'_>, options: &PlanOptions) -> Result<Self, ConvError> {
        let &Phased { of, layouts, epilogue, weights } = problem;
        let copies = &kernels(options.isa)?.copy;
        for layout in [layouts.0, layouts.1] {
            if layout == Layout::Nchw32cBf16 {
                return Err(ConvError::field("layout", "a layout of f32 numbers", layout));
            }
        }
        // One phase that reads and writes everything: nothing is copied.
        let mut all = of.phases();
        let whole = |phase: Phase| phase.read.1 == of.small.size() && phase.size == of.large.size();
        let is_whole = all.next().is_some_and(whole) && all.next().is_none();
        let inner = if layouts.0 == layouts.1 && (is_whole || layouts.0 == Layout::Nhwc) {
            layouts.0
        } else {
            Layout::Nchw16c
        };
        let images = if is_whole { of.small.n } else { images_together(&of, inner, options.max_threads)? };
        let mut phases = try_vec("phases", of.phases().count())?;
        for phase in of.phases() {
            let plan = Self::phase(problem, (&phase, images), inner, options)?;
            try_push("phases", &mut phases, PhasePlan { plan, phase })?;
        }
        let covered: usize = of.phases().map(|phase| phase.size.h * phase.size.w).sum();
        let fill = match covered < of.large.h * of.large.w {
            true => Some(Self::fill(of.large, epilogue, weights, inner, options)?),
            false => None,
        };
        let mut plan = Self {
            small: of.small,
            large: of.large,
            stride: of.stride,
            layouts,
            inner,
            has_residual: epilogue.residual,
            images,
            phases,
            fill,
            copies,
            rooms: Rooms::default(),
            req: WorkspaceReq::new(0, options.max_threads),
            filter: Vec::new(),
        };
        plan.rooms = plan.rooms()?;
        let of_plans = plan.plans().fold(plan.req, |all, plan| all.union(plan.workspace_req()));
        plan.req = of_plans.shared(plan.rooms.len());
        Ok(plan)
    }

    /// The plan of one phase of some images.
    fn phase(
        problem: &Phased<'_>,
        (phase, images): (&Phase, usize),
        layout: Layout,
        options: &PlanOptions,
    ) -> Result<ConvPlan, ConvError> {
        let Phased { of, epilogue, weights, .. } = problem;
        let input = Shape4 { n: images, h: phase.read.1.h, w: phase.read.1.w, ..of.small };
        let desc = ConvDesc::builder(input, of.large.c, phase.turn.taps)
            .pad(phase.pad)
            .dilation(phase.dilation)
            .groups(of.groups)
            .layout(layout)
            .epilogue(*epilogue)
            .build()?;
        let mut filter = try_vec("filter of a phase", desc.filter_len())?;
        filter.extend(phase.turn.filter(of, weights.filter));
        ConvPlan::new(&desc, Weights { filter: &filter, ..*weights }, options)
    }

    /// A 1x1 convolution of a channel of zeros: the epilogue alone.
    fn fill(
        large: Shape4,
        epilogue: EpilogueSpec,
        weights: Weights<'_>,
        layout: Layout,
        options: &PlanOptions,
    ) -> Result<ConvPlan, ConvError> {
        let from = if layout == Layout::Nchw16c { Layout::Nchw } else { layout };
        let desc = ConvDesc::builder(Shape4 { c: 1, ..large }, large.c, Size2::square(1))
            .pad(Pad2::VALID)
            .layout(from)
            .output_layout(layout)
            .epilogue(epilogue)
            .build()?;
        let mut filter = try_vec("filter of zeros", large.c)?;
        filter.resize(large.c, 0.0);
        // A forced algorithm need not support it.
        let options = PlanOptions { select: Default::default(), ..*options };
        ConvPlan::new(&desc, Weights { filter: &filter, ..weights }, &options)
    }

    /// Packs other weights in the place of the present ones; see [`ConvPlan::repack`]. `of` is the problem of the plan.
    pub(super) fn repack(&mut self, of: &Backwards, weights: Weights<'_>) -> Result<(), ConvError> {
        let Self { phases, fill, filter, .. } = self;
        let most = phases.iter().map(|phase| &phase.plan).chain(&*fill).map(|plan| plan.desc().filter_len());
        let most = most.max().unwrap_or(0);
        if filter.capacity() < most {
            *filter = try_vec("filter of a phase", most)?;
        }
        for PhasePlan { plan, phase } in phases {
            filter.clear();
            filter.extend(phase.turn.filter(of, weights.filter));
            plan.repack(Weights { filter, ..weights })?;
        }
        let Some(fill) = fill else { return Ok(()) };
        filter.clear();
        filter.resize(fill.desc().filter_len(), 0.0);
        fill.repack(Weights { filter, ..weights })
    }

    /// Whether the only phase writes the whole large tensor. It can still read a part of the small one.
    fn writes_whole(&self) -> bool {
        self.fill.is_none() && self.phases.len() == 1
    }

    /// Whether a phase reads a part of the small tensor.
    fn reads_part(&self, phase: &Phase) -> bool {
        phase.read.1 != self.small.size()
    }

    fn rooms(&self) -> Result<Rooms, ConvError> {
        let Self { small, large, inner, layouts, has_residual, .. } = *self;
        let len = |needed: bool, shape: Shape4, layout| if needed { shape.len(layout) } else { Ok(0) };
        let (mut read, mut part) = (0, 0);
        for PhasePlan { plan, phase } in &self.phases {
            read = read.max(len(self.reads_part(phase), plan.desc().input(), inner)?);
            part = part.max(len(!self.writes_whole(), plan.desc().output(), inner)?);
        }
        let zeros = self.fill.as_ref().map(ConvPlan::desc);
        Ok(Rooms {
            small: len(layouts.0 != inner, small, inner)?,
            read,
            residual: len(has_residual && layouts.1 != inner, large, inner)?,
            addend: if has_residual { part } else { 0 },
            part,
            large: len(layouts.1 != inner, large, inner)?,
            zeros: zeros.map_or(Ok(0), |desc| desc.input().len(desc.layout()))?,
        })
    }

    fn plans(&self) -> impl Iterator<Item = &ConvPlan> {
        self.phases.iter().map(|phase| &phase.plan).chain(&self.fill)
    }

    /// The plans of the phases, each with the first row and column that it writes.
    pub(super) fn phases(&self) -> impl Iterator<Item = (Size2, &ConvPlan)> {
        self.phases.iter().map(|PhasePlan { plan, phase }| (phase.first, plan))
    }

    /// Bytes of packed weights.
    pub(super) fn packed_bytes(&self) -> usize {
        self.plans().map(ConvPlan::packed_bytes).sum()
    }

    pub(super) fn workspace_req(&self) -> WorkspaceReq {
        self.req
    }

    /// Computes the large tensor. The caller has checked all tensors.
    pub(super) fn run(
        &self,
        small: TensorRef<'_>,
        residual: Option<TensorRef<'_>>,
        large: TensorOut<'_>,
        scratch: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let (expected, got) = (self.workspace_req().len(), scratch.len());
        if got < expected {
            return Err(ConvError::WorkspaceTooSmall { expected, got });
        }
        let threads = if self.req.threads == 1 { Threads::Seq } else { threads };
        let (room, slabs) = self.rooms.split(scratch);
        let Room { small: own_small, read, residual: own_residual, addend, part, large: own_large, zeros } =
            room;
        let small = self.converted(small, self.layouts.0, own_small, threads)?;
        let residual = match residual {
            Some(residual) => Some(self.converted(residual, self.layouts.1, own_residual, threads)?),
            None => None,
        };
        let mut parts = Parts { read, addend, part, slabs };
        if self.layouts.1 == self.inner {
            return self.compute(small, residual, large, &mut parts, zeros, threads);
        }
        let inner = TensorMut::packed(own_large, self.large, self.inner)?;
        self.compute(small, residual, inner.into(), &mut parts, zeros, threads)?;
        let inner = TensorRef::packed(own_large, self.large, self.inner)?;
        copy(self.copies, inner, large, threads);
        Ok(())
    }

    /// `tensor` in the layout of the phases.
    fn converted<'t>(
        &self,
        tensor: TensorRef<'t>,
        layout: Layout,
        room: &'t mut [f32],
        threads: Threads<'_>,
    ) -> Result<TensorRef<'t>, ConvError> {
        if layout == self.inner {
            return Ok(tensor);
        }
        copy(self.copies, tensor, TensorMut::packed(room, tensor.shape(), self.inner)?.into(), threads);
        TensorRef::packed(room, tensor.shape(), self.inner)
    }

    /// Computes the large tensor in the layout of the phases.
    fn compute(
        &self,
        small: TensorRef<'_>,
        residual: Option<TensorRef<'_>>,
        mut large: TensorOut<'_>,
        parts: &mut Parts<'_>,
        zeros: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        if let Some(fill) = &self.fill {
            zeros.fill(0.0);
            let input = TensorRef::packed(zeros, fill.desc().input(), fill.desc().layout())?;
            let output = large.images(0..self.large.n);
            fill.run(ConvIo { input, output, residual }, parts.slabs, threads)?;
        }
        for first in (0..self.large.n).step_by(self.images) {
            let images = first..first + self.images;
            let (small, residual) =
                (small.images(images.clone()), residual.map(|all| all.images(images.clone())));
            for of in &self.phases {
                self.compute_phase(of, (small, residual), large.images(images.clone()), parts, threads)?;
            }
        }
        Ok(())
    }

    fn compute_phase(
        &self,
        PhasePlan { plan, phase }: &PhasePlan,
        (small, residual): (TensorRef<'_>, Option<TensorRef<'_>>),
        large: TensorOut<'_>,
        parts: &mut Parts<'_>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let Parts { read, addend, part, slabs } = parts;
        let (first, size) = phase.read;
        let input = if self.reads_part(phase) {
            let lattice = Lattice { first, step: Size2::square(1), size };
            self.gathered(small, lattice, read, threads)?
        } else {
            small
        };
        if self.writes_whole() {
            return plan.run(ConvIo { input, output: large, residual }, *slabs, threads);
        }
        let lattice = Lattice { first: phase.first, step: self.stride, size: phase.size };
        let residual = match residual {
            Some(residual) => Some(self.gathered(residual, lattice, addend, threads)?),
            None => None,
        };
        let shape = plan.desc().output();
        let part = &mut part[..shape.len(self.inner)?];
        let output = TensorMut::packed(part, shape, self.inner)?;
        plan.run(ConvIo { input, output: output.into(), residual }, *slabs, threads)?;
        scatter(self.copies, TensorRef::packed(part, shape, self.inner)?, lattice, large, threads);
        Ok(())
    }

    /// The pixels of `lattice` in `map`, as a tensor in `room`.
    fn gathered<'t>(
        &self,
        map: TensorRef<'_>,
        lattice: Lattice,
        room: &'t mut [f32],
        threads: Threads<'_>,
    ) -> Result<TensorRef<'t>, ConvError> {
        let shape = Shape4 { h: lattice.size.h, w: lattice.size.w, ..map.shape() };
        let room = &mut room[..shape.len(self.inner)?];
        gather(self.copies, map, lattice, TensorMut::packed(room, shape, self.inner)?.into(), threads);
        TensorRef::packed(room, shape, self.inner)
    }
}

/// The number of images whose outputs of a phase stay near, a divisor of all images.
fn images_together(of: &Backwards, layout: Layout, threads: usize) -> Result<usize, ConvError> {
    let image = |phase: Phase| Shape4 { n: 1, h: phase.size.h, w: phase.size.w, ..of.large }.len(layout);
    let largest = of.phases().try_fold(1, |most, phase| image(phase).map(|len| len.max(most)))?;
    let most = NEAR.saturating_mul(threads) / size_of::<f32>() / largest;
    let fits = (1..=of.small.n.min(most)).rev().find(|images| of.small.n.is_multiple_of(*images));
    Ok(fits.unwrap_or(1))
}

/// The parts of the workspace that every phase uses.
struct Parts<'w> {
    read: &'w mut [f32],
    addend: &'w mut [f32],
    part: &'w mut [f32],
    slabs: &'w mut [f32],
}
