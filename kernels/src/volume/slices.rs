//! [`VolumePlan`]: a 3-D convolution, in either direction, as 2-D convolutions of slices.
//!
//! ```text
//! copy the slices of the input to an order in which images can overlap, if they are in another one
//! for run of output slices that read the same taps of the kernel's depth:     // at most a few, such as the edges
//!     convolve all of its images, which are the slices that an output slice reads      // one 2-D plan, any algorithm
//! copy the output to its layout, if the runs wrote another one
//! ```

use super::problem::{Problem, SlicePlan};
use super::source::{Given, Run, Source, convert};
use crate::choose::Choice;
use crate::describe::{
    ConvError, Layout, Shape4, Shape5, Slices, Taps, TensorRef, VolumeLayout, VolumeMut, VolumeRef,
    check_volume,
};
use crate::memory::{WorkspaceReq, try_push, try_vec};
use crate::plan::phased::PhasedPlan;
use crate::plan::rooms::{rooms, rooms_len};
use crate::plan::{ConvPlan, PlanOptions};
use crate::run::{ConvIo, Threads};
use crate::tile::copy_table::CopyTable;
use crate::tile::detect::kernels;
use std::ops::Range;

/// Estimated seconds per element that is copied from one tensor in memory to another: about 10 GB/s. It only weighs copies
/// against slower convolutions without them.
const SECONDS_PER_COPY: f64 = 0.8e-9;

/// A 3-D convolution that is ready to run.
pub(super) struct VolumePlan {
    input: Shape5,
    output: Shape5,
    /// Layouts of the tensor that is read and of the one that is written.
    layouts: (VolumeLayout, VolumeLayout),
    /// Layouts of the images.
    inner: (Layout, Layout),
    has_residual: bool,
    source: Source,
    /// Whether the runs write a tensor in the workspace.
    stages_output: bool,
    runs: Vec<Run>,
    /// The number of the plan of each run.
    plan_of: Vec<usize>,
    plans: Vec<SlicePlan>,
    /// Applies the epilogue to zeros, if some output slices read no slice.
    fill: Option<Box<ConvPlan>>,
    copies: &'static CopyTable,
    rooms: Rooms,
    req: WorkspaceReq,
}

/// Elements of the shared workspace for each tensor that is kept there; 0 if none is.
#[derive(Debug, Clone, Copy, Default)]
struct Rooms {
    input: usize,
    gathered: usize,
    residual: usize,
    output: usize,
    /// The images of zeros that [`VolumePlan::fill`] reads.
    zeros: usize,
}

impl Rooms {
    fn all(&self) -> [usize; 5] {
        let Self { input, gathered, residual, output, zeros } = *self;
        [input, gathered, residual, output, zeros]
    }
}

/// Layouts of the images, the runs over them, and the time that the cost model estimates.
struct Candidate {
    inner: (Layout, Layout),
    source: Source,
    runs: Vec<Run>,
    stages_output: bool,
    seconds: f64,
}

impl VolumePlan {
    pub(super) fn new(problem: &Problem<'_>, options: &PlanOptions) -> Result<Self, ConvError> {
        let copies = &kernels(options.isa)?.copy;
        let sequences = problem.sequences()?;
        let Problem { input, output, layouts, groups, epilogue, .. } = *problem;
        let given = Given {
            shape: input,
            layout: layouts.0,
            groups,
            sequences: &sequences.all,
            one_pixel: output.h * output.w == 1,
            volumes_apart: false,
            threads: options.max_threads,
        };
        let Candidate { inner, source, runs, stages_output, .. } = fastest(problem, &given, options)?;
        let (mut plans, mut plan_of) =
            (try_vec("plans of slices", 0)?, try_vec("plans of slices", runs.len())?);
        let mut planned: Vec<usize> = try_vec("plans of slices", 0)?;
        for (number, run) in runs.iter().enumerate() {
            let known = planned.iter().position(|&other: &usize| same_plan(&runs[other], run));
            let plan = match known {
                Some(plan) => plan,
                None => {
                    let kernel = sequences.kernel[run.sequence];
                    let plan = problem.plan(&source, (run, kernel), inner, options)?;
                    try_push("plans of slices", &mut plans, plan)?;
                    try_push("plans of slices", &mut planned, number)?;
                    plans.len() - 1
                }
            };
            plan_of.push(plan);
        }
        let covered: usize = runs.iter().map(|run| run.depth.outputs.count).sum();
        let fill = match covered < output.d {
            true => Some(Box::new(fill(problem, inner.1, options)?)),
            false => None,
        };
        let mut plan = Self {
            input,
            output,
            layouts,
            inner,
            has_residual: epilogue.residual,
            source,
            stages_output,
            runs,
            plan_of,
            plans,
            fill,
            copies,
            rooms: Rooms::default(),
            req: WorkspaceReq::new(0, options.max_threads),
        };
        plan.rooms = plan.rooms()?;
        let of_plans = plan.plans.iter().map(SlicePlan::workspace_req);
        let of_fill = plan.fill.iter().map(|fill| fill.workspace_req());
        let req = of_plans.chain(of_fill).fold(plan.req, WorkspaceReq::union);
        plan.req = req.shared(rooms_len(&plan.rooms.all()));
        Ok(plan)
    }

    fn rooms(&self) -> Result<Rooms, ConvError> {
        let (input, gathered) = self.source.rooms(&self.runs)?;
        let output = match self.stages_output {
            true => self.output.len(VolumeLayout::of_maps(self.inner.1))?,
            false => 0,
        };
        let zeros = self.fill.as_ref().map(|fill| fill.desc());
        let zeros = zeros.map_or(Ok(0), |desc| desc.input().len(desc.layout()))?;
        Ok(Rooms { input, gathered, residual: if self.has_residual { output } else { 0 }, output, zeros })
    }

    /// Computes the output. The caller has checked all tensors.
    pub(super) fn run(
        &self,
        input: VolumeRef<'_>,
        residual: Option<VolumeRef<'_>>,
        mut output: VolumeMut<'_>,
        scratch: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        self.req.check(scratch)?;
        let threads = if self.req.threads == 1 { Threads::Seq } else { threads };
        let ([own_input, gathered, own_residual, own_output, zeros], slabs) =
            rooms(scratch, self.rooms.all());
        let input = self.source.prepared(self.copies, input, own_input, threads)?;
        let mut parts = Parts { gathered, zeros, slabs };
        if !self.stages_output {
            return self.compute(input, residual, &mut output, &mut parts, threads);
        }
        let layout = VolumeLayout::of_maps(self.inner.1);
        let residual = match residual {
            Some(residual) => {
                let staged = VolumeMut::packed(&mut *own_residual, self.output, layout)?;
                convert(self.copies, residual, staged, threads)?;
                Some(VolumeRef::packed(own_residual, self.output, layout)?)
            }
            None => None,
        };
        let mut staged = VolumeMut::packed(own_output, self.output, layout)?;
        self.compute(input, residual, &mut staged, &mut parts, threads)?;
        convert(self.copies, staged.as_ref(), output, threads)
    }

    /// Computes the output in the layout of the images.
    fn compute(
        &self,
        input: VolumeRef<'_>,
        residual: Option<VolumeRef<'_>>,
        output: &mut VolumeMut<'_>,
        parts: &mut Parts<'_>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let all = Slices { first: 0, step: 1, count: self.output.d };
        if let Some(fill) = &self.fill {
            parts.zeros.fill(0.0);
            let zeros = TensorRef::packed(parts.zeros, fill.desc().input(), fill.desc().layout())?;
            let volumes = (0, self.output.n);
            let residual = residual.map(|all_slices| all_slices.maps(volumes, all, Taps::ONE)).transpose()?;
            let output = output.maps(volumes, all)?.into();
            fill.run(ConvIo { input: zeros, output, residual }, parts.slabs, threads)?;
        }
        let (volumes, together) = self.source.volumes();
        for volume in volumes {
            for (Run { depth, .. }, &plan) in self.runs.iter().zip(&self.plan_of) {
                let images =
                    self.source.images_of(self.copies, input, (volume, depth), parts.gathered, threads)?;
                let (volumes, slices) = ((volume, together), depth.outputs);
                let residual = residual.map(|all| all.maps(volumes, slices, Taps::ONE)).transpose()?;
                let output = output.maps(volumes, slices)?.into();
                self.plans[plan].run(images, residual, output, parts.slabs, threads)?;
            }
        }
        Ok(())
    }

    pub(super) fn workspace_req(&self) -> WorkspaceReq {
        self.req
    }

    /// Bytes of packed weights of all plans.
    pub(super) fn packed_bytes(&self) -> usize {
        self.plans.iter().map(SlicePlan::packed_bytes).sum()
    }

    /// Layouts of the images that are read and written, and the elements of the copies of input and output.
    pub(super) fn staging(&self) -> ((Layout, Layout), [usize; 3]) {
        let Rooms { input, gathered, output, .. } = self.rooms;
        (self.inner, [input, gathered, output])
    }

    /// The runs: the output slices, the taps of the depth, and the 2-D plans.
    pub(super) fn runs(&self) -> impl Iterator<Item = (Slices, Range<usize>, &SlicePlan)> {
        self.runs
            .iter()
            .zip(&self.plan_of)
            .map(|(run, &plan)| (run.depth.outputs, run.depth.taps.clone(), &self.plans[plan]))
    }

    /// Checks the tensors of a run.
    pub(super) fn check(
        &self,
        [input_name, output_name]: [&'static str; 2],
        input: &VolumeRef<'_>,
        residual: Option<&VolumeRef<'_>>,
        output: &VolumeMut<'_>,
    ) -> Result<(), ConvError> {
        let (of_input, of_output) = ((self.input, self.layouts.0), (self.output, self.layouts.1));
        check_volume(input_name, of_input, (input.shape(), input.layout()))?;
        check_volume(output_name, of_output, (output.shape(), output.layout()))?;
        if self.has_residual != residual.is_some() {
            return Err(ConvError::EpilogueMismatch { what: "residual", planned: self.has_residual });
        }
        residual.map_or(Ok(()), |residual| {
            check_volume("residual", of_output, (residual.shape(), residual.layout()))
        })
    }
}

/// The parts of the workspace that every run uses.
struct Parts<'w> {
    gathered: &'w mut [f32],
    zeros: &'w mut [f32],
    slabs: &'w mut [f32],
}

/// Whether two runs are the same convolution.
fn same_plan(one: &Run, other: &Run) -> bool {
    let of = |run: &Run| (run.sequence, run.depth.taps.clone(), run.depth.outputs.count);
    of(one) == of(other)
}

/// Whether a tensor in `layout` is not written by images in `inner`.
pub(super) fn is_staged(layout: VolumeLayout, inner: Layout, one_pixel: bool) -> bool {
    layout.of_slices() != inner || one_pixel
}

/// Estimated seconds of the copies of a tensor of `shape`.
pub(super) fn seconds_of_copy(shape: Shape5) -> f64 {
    let elements: f64 =
        [shape.n, shape.c, shape.d, shape.h, shape.w].iter().map(|&extent| extent as f64).product();
    elements * SECONDS_PER_COPY
}

/// The layouts of the images with which all runs take the least time, with the copies that they need.
fn fastest(problem: &Problem<'_>, given: &Given<'_>, options: &PlanOptions) -> Result<Candidate, ConvError> {
    let mut best: Option<Candidate> = None;
    let mut refused = None;
    for &inner in problem.inner_layouts() {
        match candidate(problem, given, inner, options) {
            Ok(candidate) if best.as_ref().is_none_or(|best| candidate.seconds < best.seconds) => {
                best = Some(candidate);
            }
            Ok(_) => (),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    best.ok_or_else(|| refused.unwrap_or(ConvError::NothingAllowed))
}

fn candidate(
    problem: &Problem<'_>,
    given: &Given<'_>,
    inner: (Layout, Layout),
    options: &PlanOptions,
) -> Result<Candidate, ConvError> {
    let source = Source::new(given, inner.0);
    let runs = source.runs(given)?;
    let stages_output = is_staged(problem.layouts.1, inner.1, given.one_pixel);
    let mut seconds = source.copies(&runs).map(seconds_of_copy).sum::<f64>();
    if stages_output {
        seconds += seconds_of_copy(problem.output) * if problem.epilogue.residual { 2.0 } else { 1.0 };
    }
    let times = source.volumes().0.count() as f64;
    for (number, run) in runs.iter().enumerate() {
        let before = runs[..number].iter().any(|other| same_plan(other, run));
        if before {
            continue;
        }
        let same = runs.iter().filter(|other| same_plan(other, run)).count() as f64;
        let choice = problem.choice(&source, run, inner, options)?;
        let estimate = choice.as_ref().and_then(Choice::candidate).map(|of| of.estimate.seconds);
        seconds += estimate.unwrap_or(0.0) * same * times;
    }
    Ok(Candidate { inner, source, runs, stages_output, seconds })
}

/// A plan that applies the epilogue to zeros, for all output slices.
fn fill(problem: &Problem<'_>, layout: Layout, options: &PlanOptions) -> Result<ConvPlan, ConvError> {
    let Problem { output, epilogue, weights, .. } = *problem;
    let slices = Shape4 { n: output.n * output.d, ..output.slice() };
    PhasedPlan::fill(slices, epilogue, weights, layout, options)
}
