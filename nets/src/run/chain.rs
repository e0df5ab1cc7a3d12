//! Depthwise convolutions and their neighbours, run in turns on a few rows at a time.
//!
//! An inverted residual block expands its channels, filters each of them, and reduces them again. At large extents the
//! expanded maps are larger than the second-level cache. A chain keeps only some rows of them, which stay there between
//! the convolution that writes them and the one that reads them.

use super::lower::{Op, Program};
use super::step::{Context, Kernel, Sources, Step};
use super::stripes::{Action, Geometry, Part, Schedule};
use crate::graph::NodeId;
use kernels::{
    Algorithm, ConvDesc, ConvError, ConvIo, ConvPlan, Layout, Pad2, PlanOptions, Shape4, TensorMut,
    TensorRef, Workspace,
};
use std::ops::Range;

/// Elements of a map that are worth a chain: a megabyte, about the second-level cache.
const LARGE: usize = 1 << 18;
/// Elements of all bands of a chain for each thread: three quarters of that cache. On a Zen 5 core with 1 MB, MobileNet-v2
/// takes 3.24 ms without chains, and 3.27, 3.19, 3.14 and 3.16 ms with 256, 512, 768 and 1024 KB.
const BANDS: usize = 3 << 16;

/// Convolutions that run in turns.
pub(super) struct Chain {
    pub(super) links: Vec<Link>,
    turns: Vec<Turn>,
    /// Elements of all bands.
    pub(super) len: usize,
}

/// One convolution of a chain.
pub(super) struct Link {
    name: String,
    pub(super) nodes: Vec<NodeId>,
    /// The plan for the whole image, which is not run.
    plan: ConvPlan,
    /// Plans for some rows, with the same packed weights.
    parts: Vec<ConvPlan>,
    /// The number of the source of the step that is the residual.
    residual: Option<usize>,
    /// The rows that the next convolution reads, and their place among the bands.
    band: Option<Band>,
}

impl Link {
    /// The plans that it runs.
    pub(super) fn runs(&self) -> &[ConvPlan] {
        &self.parts
    }

    /// Its name, its layers and its plan for the whole image.
    pub(super) fn convolution(&self) -> (&str, &[NodeId], &ConvPlan) {
        (&self.name, &self.nodes, &self.plan)
    }
}

#[derive(Clone, Copy)]
struct Band {
    shape: Shape4,
    start: usize,
}

/// An action with the number of its plan.
struct Turn {
    action: Action,
    plan: usize,
}

/// The convolutions that chains run: for each chain, a range of operations.
pub(super) fn find(program: &Program, kernels: &[Kernel]) -> Vec<Range<usize>> {
    let mut chains = Vec::new();
    let mut start = 0;
    while start < kernels.len() {
        let mut end = start + 1;
        while end < kernels.len() && is_pair(program, kernels, end - 1) {
            end += 1;
        }
        if end > start + 1 && is_apart(program, &program.ops[start..end]) {
            chains.push(start..end);
        }
        start = end;
    }
    chains
}

/// Whether operation `first` writes a large map that only the next one reads, and one of them is depthwise.
fn is_pair(program: &Program, kernels: &[Kernel], first: usize) -> bool {
    let (Kernel::Conv(writer), Kernel::Conv(reader)) = (&kernels[first], &kernels[first + 1]) else {
        return false;
    };
    let runs_in_rows = |plan: &ConvPlan| {
        matches!(plan.algorithm(), Algorithm::Depthwise | Algorithm::Direct | Algorithm::Pointwise)
    };
    let is_depthwise = |plan: &ConvPlan| plan.desc().groups() == plan.desc().input().c;
    let (storages, Some(value)) = (&program.storages, program.ops[first].write) else { return false };
    let (held, read) = (storages.value(value), program.ops[first + 1].reads[0]);
    let passes_on = read.value == value && (read.shape, read.layout) == (held.shape, held.layout);
    let storage = storages.of(value);
    let readers =
        program.ops.iter().flat_map(|op| &op.reads).filter(|arg| storages.of(arg.value) == storage).count();
    let is_own = storages.is_alone(value) && storage != storages.of(program.output) && readers == 1;
    passes_on
        && is_own
        && held.layout == Layout::Nchw16c
        && held.shape.c * held.shape.h * held.shape.w >= LARGE
        && runs_in_rows(writer)
        && runs_in_rows(reader)
        && (is_depthwise(writer) || is_depthwise(reader))
}

/// Whether the last of `ops` writes to memory that none of them reads.
fn is_apart(program: &Program, ops: &[Op]) -> bool {
    let target = ops.last().and_then(|op| op.write).map(|write| program.storages.of(write));
    ops.iter().flat_map(|op| &op.reads).all(|arg| Some(program.storages.of(arg.value)) != target)
}

/// The values between the operations of a chain.
pub(super) fn inner_values<'a>(
    program: &'a Program,
    chain: &Range<usize>,
) -> impl Iterator<Item = usize> + 'a {
    program.ops[chain.start..chain.end - 1].iter().filter_map(|op| op.write)
}

/// The name and the layers of a convolution.
pub(super) struct Described {
    pub(super) name: String,
    pub(super) nodes: Vec<NodeId>,
}

impl Chain {
    /// Plans a chain of convolutions; `None` if they cannot run in rows.
    pub(super) fn plan(kernels: &[Kernel], options: &PlanOptions) -> Option<Planned> {
        let plan = |kernel| match kernel {
            &Kernel::Conv(ref plan) => Some(&**plan),
            _ => None,
        };
        let plans: Vec<&ConvPlan> = kernels.iter().map(plan).collect::<Option<_>>()?;
        let links: Vec<Geometry> = plans.iter().map(|plan| geometry(plan.desc())).collect();
        let row = |plan: &ConvPlan| {
            let Shape4 { c, w, .. } = plan.desc().output();
            c.next_multiple_of(kernels::BLOCK) * w
        };
        let bytes = |schedule: &Schedule| {
            schedule.bands.iter().zip(&plans).map(|(rows, plan)| rows * row(plan)).sum::<usize>()
        };
        let most = BANDS * options.max_threads;
        // More rows to a stripe need more memory, so the last schedule that fits has the most.
        let fitting = (1..=links[links.len() - 1].output)
            .map_while(|rows| Schedule::new(&links, rows).filter(|schedule| bytes(schedule) <= most));
        let schedule = fitting.last()?;
        let mut parts: Vec<Vec<(Part, ConvPlan)>> = plans.iter().map(|_| Vec::new()).collect();
        let mut turns = Vec::new();
        for action in schedule.actions {
            let plan = match &action {
                Action::Keep { .. } => 0,
                Action::Run { link, part, .. } => number_of(&mut parts[*link], *part, plans[*link], options)?,
            };
            turns.push(Turn { action, plan });
        }
        let parts =
            parts.into_iter().map(|parts| parts.into_iter().map(|(_, plan)| plan).collect()).collect();
        Some(Planned { parts, turns, bands: schedule.bands })
    }
}

/// A chain without the plans for whole images.
pub(super) struct Planned {
    parts: Vec<Vec<ConvPlan>>,
    turns: Vec<Turn>,
    bands: Vec<usize>,
}

impl Planned {
    /// The chain. Its step has the first input and then all residuals as sources.
    pub(super) fn finish(self, links: impl Iterator<Item = (Described, Kernel)>) -> Chain {
        let (mut len, mut sources, mut bands) = (0, 1, self.bands.into_iter());
        let plans = links.filter_map(|(described, kernel)| match kernel {
            Kernel::Conv(plan) => Some((described, *plan)),
            _ => None,
        });
        let links = plans.zip(self.parts).map(|((Described { name, nodes }, plan), parts)| {
            let band = bands.next().map(|rows| {
                let shape = Shape4 { n: 1, h: rows, ..plan.desc().output() };
                let start = len;
                len += shape.c.next_multiple_of(kernels::BLOCK) * shape.h * shape.w;
                Band { shape, start }
            });
            let residual = plan.desc().epilogue().residual.then(|| {
                sources += 1;
                sources - 1
            });
            Link { name, nodes, plan, parts, residual, band }
        });
        let links = links.collect();
        Chain { links, turns: self.turns, len }
    }
}

fn geometry(desc: &ConvDesc) -> Geometry {
    Geometry {
        input: desc.input().h,
        output: desc.output().h,
        extent: (desc.kernel().h - 1) * desc.dilation().h + 1,
        stride: desc.stride().h,
        pad: desc.pad(),
    }
}

/// The number of the plan for `part`, which is added if it is new.
fn number_of(
    parts: &mut Vec<(Part, ConvPlan)>,
    part: Part,
    whole: &ConvPlan,
    options: &PlanOptions,
) -> Option<usize> {
    if let Some(number) = parts.iter().position(|(other, _)| *other == part) {
        return Some(number);
    }
    let desc = whole.desc();
    let rows =
        ConvDesc::builder(Shape4 { n: 1, h: part.rows, ..desc.input() }, desc.output().c, desc.kernel())
            .stride(desc.stride())
            .pad(Pad2 { top: part.top, bottom: part.bottom, ..desc.pad() })
            .dilation(desc.dilation())
            .groups(desc.groups())
            .layout(desc.layout())
            .output_layout(desc.output_layout())
            .epilogue(desc.epilogue())
            .build()
            .ok()?;
    // The same method: the bits do not depend on the stripes, and the packed weights fit.
    let options = options.force(whole.explain().choice.method);
    parts.push((part, ConvPlan::new(&rows, &whole.filter(), &options).ok()?));
    Some(parts.len() - 1)
}

impl Chain {
    /// Computes all images of the target of `step`. `bands` has at least [`len`](Self::len) elements.
    pub(super) fn run(
        &self,
        step: &Step,
        context: &Context<'_>,
        sources: &Sources<'_>,
        data: &mut [f32],
        (workspace, bands): (&mut Workspace, &mut [f32]),
    ) -> Result<(), ConvError> {
        let Some(target) = &step.target else { return Ok(()) };
        for image in 0..target.shape.n {
            for Turn { action, plan } in &self.turns {
                match action {
                    Action::Keep { link, rows } => {
                        if let Some(band) = &self.links[*link].band {
                            band.keep(bands, rows);
                        }
                    }
                    Action::Run { link, source, target: rows, .. } => {
                        let link_of = &self.links[*link];
                        let source_of = |number: usize| {
                            step.sources[number].image_tensor(sources.get(&step.sources[number]), image)
                        };
                        let (input, output) = match (self.before(*link), link_of.band) {
                            (None, None) => (source_of(0)?, target.image_tensor_mut(data, image)?),
                            (None, Some(to)) => (source_of(0)?, to.tensor_mut(&mut bands[to.start..])?),
                            (Some(from), None) => {
                                (from.tensor(&bands[from.start..])?, target.image_tensor_mut(data, image)?)
                            }
                            (Some(from), Some(to)) => {
                                // The band of an earlier map lies before that of a later one.
                                let (before, behind) = bands.split_at_mut(to.start);
                                (from.tensor(&before[from.start..])?, to.tensor_mut(behind)?)
                            }
                        };
                        let mut output = output;
                        let residual = link_of.residual.map(|number| source_of(number)?.rows(rows.clone()));
                        let io = ConvIo {
                            input: input.rows(source.clone())?,
                            output: output.rows(rows.clone())?.into(),
                            residual: residual.transpose()?,
                        };
                        link_of.parts[*plan].run(io, workspace, context.threads)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The band that a convolution reads, if it is not the first one.
    fn before(&self, link: usize) -> Option<Band> {
        self.links[link.checked_sub(1)?].band
    }
}

impl Band {
    fn len(&self) -> usize {
        let Shape4 { c, h, w, .. } = self.shape;
        c.next_multiple_of(kernels::BLOCK) * h * w
    }

    fn tensor<'a>(&self, bands: &'a [f32]) -> Result<TensorRef<'a>, ConvError> {
        TensorRef::packed(&bands[..self.len()], self.shape, Layout::Nchw16c)
    }

    fn tensor_mut<'a>(&self, bands: &'a mut [f32]) -> Result<TensorMut<'a>, ConvError> {
        TensorMut::packed(&mut bands[..self.len()], self.shape, Layout::Nchw16c)
    }

    /// Moves rows to the front.
    fn keep(&self, bands: &mut [f32], rows: &Range<usize>) {
        let row = self.shape.w * kernels::BLOCK;
        let band = &mut bands[self.start..self.start + self.len()];
        for block in band.chunks_exact_mut(self.shape.h * row) {
            block.copy_within(rows.start * row..rows.end * row, 0);
        }
    }
}
