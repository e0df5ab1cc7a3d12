//! Depthwise convolutions and their neighbours, run in turns on a few rows at a time.
//!
//! An inverted residual block expands its channels, filters each of them, and reduces them again. At large extents the
//! expanded maps are larger than the second-level cache. A chain keeps only some rows of them, which stay there between
//! the convolution that writes them and the one that reads them.

use super::lower::{Op, Program};
use super::operand::{Context, Operand, Sources};
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

/// Number of schedules that are tried at most.
const MOST_TRIES: usize = 8;

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

/// Plans all chains, in the order of their operations. `plans` has the plan of each operation that is a convolution.
pub(super) fn plan(program: &Program, plans: &[Option<&ConvPlan>], options: &PlanOptions) -> Vec<Planned> {
    let mut chains = Vec::new();
    let mut start = 0;
    while start < plans.len() {
        let mut end = start + 1;
        while end < plans.len() && is_pair(program, plans, end - 1) {
            end += 1;
        }
        if end > start + 1 && is_apart(program, &program.ops[start..end]) {
            let links: Vec<&ConvPlan> = plans[start..end].iter().flatten().copied().collect();
            chains.extend(Planned::new(&links, options).map(|chain| Planned { ops: start..end, ..chain }));
        }
        start = end;
    }
    chains
}

/// Whether operation `first` writes a large map that only the next one reads, and one of them is depthwise.
fn is_pair(program: &Program, plans: &[Option<&ConvPlan>], first: usize) -> bool {
    let (Some(writer), Some(reader)) = (plans[first], plans[first + 1]) else { return false };
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
    let is_own = storages.is_alone(value) && program.output_in(storage).is_none() && readers == 1;
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

/// The name and the layers of a convolution.
pub(super) struct Described {
    pub(super) name: String,
    pub(super) nodes: Vec<NodeId>,
}

/// A chain without the plans for whole images.
pub(super) struct Planned {
    /// The operations.
    pub(super) ops: Range<usize>,
    parts: Vec<Vec<ConvPlan>>,
    turns: Vec<Turn>,
    bands: Vec<usize>,
}

impl Planned {
    /// Plans a chain of convolutions; `None` if they cannot run in rows.
    fn new(plans: &[&ConvPlan], options: &PlanOptions) -> Option<Self> {
        let links: Vec<Geometry> = plans.iter().map(|plan| geometry(plan.desc())).collect();
        let row = |plan: &ConvPlan| {
            let Shape4 { c, w, .. } = plan.desc().output();
            c.next_multiple_of(kernels::BLOCK) * w
        };
        let elements = |schedule: &Schedule| {
            schedule.bands.iter().zip(plans).map(|(rows, plan)| rows * row(plan)).sum::<usize>()
        };
        let most = BANDS * options.max_threads;
        // More rows to a stripe need more memory, so the last schedules that fit have the most.
        let fitting: Vec<Schedule> = (1..=links[links.len() - 1].output)
            .map_while(|rows| Schedule::new(&links, rows).filter(|schedule| elements(schedule) <= most))
            .collect();
        fitting.into_iter().rev().take(MOST_TRIES).find_map(|schedule| Self::of(schedule, plans, options))
    }

    /// Plans the parts of a schedule; `None` if one of them cannot use the packed weights. A last stripe of one row can be
    /// such a part, because taps that only meet padding are not computed.
    fn of(schedule: Schedule, plans: &[&ConvPlan], options: &PlanOptions) -> Option<Self> {
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
        Some(Self { ops: 0..plans.len(), parts, turns, bands: schedule.bands })
    }

    /// The values between the operations.
    pub(super) fn inner_values<'a>(&self, program: &'a Program) -> impl Iterator<Item = usize> + use<'a> {
        program.ops[self.ops.start..self.ops.end - 1].iter().filter_map(|op| op.write)
    }

    /// The chain. Its step has the first input and then all residuals as sources.
    pub(super) fn finish(self, plans: impl Iterator<Item = (Described, ConvPlan)>) -> Chain {
        let (mut len, mut sources, mut bands) = (0, 1, self.bands.into_iter());
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
    /// Computes all images of `target` from `operands`: the first input and then all residuals. `bands` has at least
    /// `len` elements.
    pub(super) fn run(
        &self,
        (operands, target): (&[Operand], &Operand),
        context: &Context<'_>,
        sources: &Sources<'_>,
        data: &mut [f32],
        (workspace, bands): (&mut Workspace, &mut [f32]),
    ) -> Result<(), ConvError> {
        for image in 0..target.shape.n {
            for Turn { action, plan } in &self.turns {
                let (number, source, rows) = match action {
                    Action::Keep { link, rows } => {
                        if let Some(band) = &self.links[*link].band {
                            band.keep(bands, rows);
                        }
                        continue;
                    }
                    Action::Run { link, source, target, .. } => (*link, source.clone(), target.clone()),
                };
                let link = &self.links[number];
                let operand =
                    |number: usize| operands[number].image_tensor(sources.get(&operands[number]), image);
                // The band that it reads lies before the band that it writes.
                let (before, behind) = bands.split_at_mut(link.band.map_or(self.len, |band| band.start));
                let input = match self.before(number) {
                    Some(band) => band.tensor(&before[band.start..])?,
                    None => operand(0)?,
                };
                let mut output = match link.band {
                    Some(band) => band.tensor_mut(behind)?,
                    None => target.image_tensor_mut(data, image)?,
                };
                let residual = link.residual.map(|number| operand(number)?.rows(rows.clone()));
                let (input, output, residual) =
                    (input.rows(source)?, output.rows(rows)?.into(), residual.transpose()?);
                link.parts[*plan].run(ConvIo { input, output, residual }, workspace, context.threads)?;
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
