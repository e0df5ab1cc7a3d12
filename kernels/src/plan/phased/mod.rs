//! [`PhasedPlan`]: a convolution that is run backwards, as one plan for each of its [phases](Phase).
//!
//! ```text
//! convert the small tensor, if its layout is not that of the phases
//! for some images, for phase:                    // so many that the phases find them in the second-level cache
//!     copy the rows and columns that it reads, if it does not read all
//!     convolve                                   // an ordinary plan: any algorithm
//! convert the large tensor, if its layout is not that of the phases
//! ```
//!
//! A phase writes every stride-th row and column of the large tensor in place. A few drivers cannot write rows that are
//! further apart than their pixels. Their outputs go to the workspace, and are copied from there.

mod rooms;
mod run;

use super::prepare::streams;
use super::segments::SegmentedPlan;
use super::{ConvPlan, PlanOptions};
use crate::choose::Select;
use crate::describe::{
    Backwards, ConvDesc, ConvError, EpilogueSpec, Layout, Pad2, Phase, Shape4, Size2, TensorRef, Weights,
};
use crate::memory::{WorkspaceReq, try_push, try_vec};
use crate::tile::copy_table::CopyTable;
use crate::tile::detect::kernels;
use rooms::Rooms;

/// Bytes for each thread that stay in the second-level cache: of the images that all phases read, or of the output of a
/// phase that is copied.
const NEAR: usize = 512 << 10;

/// What is added to the outputs.
#[derive(Clone, Copy)]
pub(crate) enum Added<'a> {
    Nothing,
    Residual(TensorRef<'a>),
    /// What the large tensor holds. Only if the plan [adds in place](PhasedPlan::adds_in_place).
    Large,
}

/// The problem of a [`PhasedPlan`].
pub(crate) struct Phased<'a> {
    pub(crate) of: Backwards,
    /// Layouts of the small and of the large tensor.
    pub(crate) layouts: (Layout, Layout),
    pub(crate) epilogue: EpilogueSpec,
    /// Images of a volume. Images that are computed together belong to one volume.
    pub(crate) series: usize,
    /// In the order `[small.c][large.c / groups][kh][kw]`, with bias and slopes for the channels of the large tensor.
    pub(crate) weights: Weights<'a>,
}

/// The plans of all phases.
pub(crate) struct PhasedPlan {
    small: Shape4,
    large: Shape4,
    stride: Size2,
    layouts: (Layout, Layout),
    /// Layout in which the phases are computed.
    inner: Layout,
    has_residual: bool,
    /// Whether the phases can add to what the large tensor holds.
    adds_in_place: bool,
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
    plan: SegmentedPlan,
    phase: Phase,
    /// Whether it writes the large tensor in place.
    in_place: bool,
}

impl PhasedPlan {
    pub(crate) fn new(problem: &Phased<'_>, options: &PlanOptions) -> Result<Self, ConvError> {
        let &Phased { of, layouts, epilogue, series, weights } = problem;
        let copies = &kernels(options.isa)?.copy;
        for layout in [layouts.0, layouts.1] {
            if layout == Layout::Nchw32cBf16 {
                return Err(ConvError::field("layout", "a layout of f32 numbers", layout));
            }
        }
        // One phase that reads and writes everything: nothing is copied.
        let is_whole = of.whole().is_some();
        let inner = if layouts.0 == layouts.1 && (is_whole || layouts.0 == Layout::Nhwc) {
            layouts.0
        } else {
            Layout::Nchw16c
        };
        let images =
            if is_whole { of.small.n } else { images_together(&of, series, (inner, options.max_threads))? };
        let phases = Self::planned(problem, images, inner, options)?;
        let covered: usize = of.phases().map(|phase| phase.size.h * phase.size.w).sum();
        let fill = match covered < of.large.h * of.large.w {
            true => Some(Self::fill(Shape4 { n: images, ..of.large }, epilogue, weights, inner, options)?),
            false => None,
        };
        let mut plan = Self {
            small: of.small,
            large: of.large,
            stride: of.stride,
            layouts,
            inner,
            has_residual: epilogue.residual,
            adds_in_place: false,
            images,
            phases,
            fill,
            copies,
            rooms: Rooms::default(),
            req: WorkspaceReq::new(0, options.max_threads),
            filter: Vec::new(),
        };
        let adds = |phase: &PhasePlan| phase.in_place && phase.plan.adds_in_place();
        plan.adds_in_place = inner != Layout::Nchw && layouts.1 == inner && plan.phases.iter().all(adds);
        plan.rooms = plan.rooms()?;
        let of_plans = plan.plans().fold(plan.req, |all, plan| all.union(plan.workspace_req()));
        plan.req = of_plans.shared(plan.rooms.len());
        Ok(plan)
    }

    /// The plans of all phases. A forced method computes those that it can, and the model chooses for the others.
    fn planned(
        problem: &Phased<'_>,
        images: usize,
        layout: Layout,
        options: &PlanOptions,
    ) -> Result<Vec<PhasePlan>, ConvError> {
        let of = &problem.of;
        let mut phases = try_vec("phases", of.phases().count())?;
        let (mut refused, mut is_obeyed) = (None, false);
        for phase in of.phases() {
            let mut plan = match Self::phase(problem, (&phase, images), layout, options) {
                Err(error @ ConvError::Unsupported { .. }) => {
                    refused = refused.or(Some(error));
                    Self::phase(problem, (&phase, images), layout, &chosen(options))?
                }
                plan => {
                    is_obeyed = true;
                    plan?
                }
            };
            let lines = plan.writes_lines() && is_expressible(of, &phase);
            let in_place = lines || phase.size == of.large.size();
            plan.stream(in_place && streams(of.large, layout));
            try_push("phases", &mut phases, PhasePlan { plan, phase, in_place })?;
        }
        match refused {
            Some(error) if !is_obeyed => Err(error),
            _ => Ok(phases),
        }
    }

    /// The plan of one phase of some images.
    fn phase(
        problem: &Phased<'_>,
        (phase, images): (&Phase, usize),
        layout: Layout,
        options: &PlanOptions,
    ) -> Result<SegmentedPlan, ConvError> {
        let Phased { of, epilogue, weights, .. } = problem;
        let desc = phase.desc(of, images, layout, *epilogue)?;
        let mut filter = try_vec("filter of a phase", desc.filter_len())?;
        filter.resize(desc.filter_len(), 0.0);
        phase.turn.fill(of, weights.filter, &mut filter);
        SegmentedPlan::new(&desc, Weights { filter: &filter, ..*weights }.into(), options)
    }

    /// A 1x1 convolution of a channel of zeros: the epilogue alone.
    pub(crate) fn fill(
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
        ConvPlan::new(&desc, Weights { filter: &filter, ..weights }, &chosen(options))
    }

    /// Packs other weights in the place of the present ones; see [`ConvPlan::repack`]. `of` is the problem of the plan.
    pub(super) fn repack(&mut self, of: &Backwards, weights: Weights<'_>) -> Result<(), ConvError> {
        let Self { phases, fill, filter, .. } = self;
        let lens = phases.iter().map(|phase| phase.plan.desc().filter_len());
        let most = lens.chain(fill.iter().map(|plan| plan.desc().filter_len()));
        let most = most.max().unwrap_or(0);
        if filter.capacity() < most {
            *filter = try_vec("filter of a phase", most)?;
        }
        for PhasePlan { plan, phase, .. } in phases {
            filter.resize(plan.desc().filter_len(), 0.0);
            phase.turn.fill(of, weights.filter, filter);
            plan.repack(Weights { filter, ..weights })?;
        }
        let Some(fill) = fill else { return Ok(()) };
        filter.clear();
        filter.resize(fill.desc().filter_len(), 0.0);
        fill.repack(Weights { filter, ..weights })
    }

    /// Whether the phases can add to what the large tensor holds. Otherwise it is copied, and is their residual.
    pub(super) fn adds_in_place(&self) -> bool {
        self.adds_in_place
    }

    /// Whether a phase reads a part of the small tensor.
    fn reads_part(&self, phase: &Phase) -> bool {
        phase.read.1 != self.small.size()
    }

    fn rooms(&self) -> Result<Rooms, ConvError> {
        let Self { small, large, inner, layouts, has_residual, .. } = *self;
        let len = |needed: bool, shape: Shape4, layout| if needed { shape.len(layout) } else { Ok(0) };
        let (mut read, mut part) = (0, 0);
        for PhasePlan { plan, phase, in_place } in &self.phases {
            read = read.max(len(self.reads_part(phase), plan.desc().input(), inner)?);
            part = part.max(len(!in_place, plan.desc().output(), inner)?);
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
        self.phases.iter().flat_map(|phase| phase.plan.plans()).chain(self.fill.iter())
    }

    /// The plans of the phases, each with the first row and column that it writes. Of a long row, it is the plan of most
    /// outputs.
    pub(crate) fn phases(&self) -> impl Iterator<Item = (Size2, &ConvPlan)> {
        self.phases.iter().map(|PhasePlan { plan, phase, .. }| (phase.first, plan.main()))
    }

    /// Bytes of packed weights.
    pub(crate) fn packed_bytes(&self) -> usize {
        self.plans().map(ConvPlan::packed_bytes).sum()
    }

    pub(crate) fn workspace_req(&self) -> WorkspaceReq {
        self.req
    }
}

/// The same options without a forced method.
fn chosen(options: &PlanOptions) -> PlanOptions {
    PlanOptions { select: Select::Auto, ..*options }
}

/// Whether a view can express the rows and columns that a phase writes: see `TensorOut::lattice`.
fn is_expressible(of: &Backwards, phase: &Phase) -> bool {
    let apart = of.stride.h.checked_mul(of.large.w);
    phase.size.h == 1 || phase.size.w == 1 || apart.is_some_and(|apart| apart.is_multiple_of(of.stride.w))
}

/// The number of images that stay near while all phases read them, or until the output of a phase is copied: a divisor of
/// the `series` images of a volume.
fn images_together(
    of: &Backwards,
    series: usize,
    (layout, threads): (Layout, usize),
) -> Result<usize, ConvError> {
    let image = |phase: Phase| Shape4 { n: 1, h: phase.size.h, w: phase.size.w, ..of.large }.len(layout);
    let largest = of.phases().try_fold(1, |most, phase| image(phase).map(|len| len.max(most)))?;
    let most = NEAR.saturating_mul(threads) / size_of::<f32>() / largest;
    let fits = (1..=series.min(most)).rev().find(|images| series.is_multiple_of(*images));
    Ok(fits.unwrap_or(1))
}
