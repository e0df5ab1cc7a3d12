//! [`Problem`]: what a [`VolumePlan`](super::slices::VolumePlan) computes, and the 2-D plan of each run.

use super::source::{Run, Source};
use crate::choose::Choice;
use crate::describe::{
    Backwards, Conv3dDesc, ConvDesc, ConvError, EpilogueSpec, Layout, Sequence, Shape5, Size3, TensorOut,
    TensorRef, VolumeBackwards, VolumeLayout, Weights,
};
use crate::memory::{WorkspaceReq, try_push, try_vec};
use crate::plan::phased::{Added, Phased, PhasedPlan};
use crate::plan::{ConvPlan, PlanOptions};
use crate::run::{ConvIo, Threads};

/// A 3-D convolution in either direction.
pub(super) struct Problem<'a> {
    pub(super) input: Shape5,
    pub(super) output: Shape5,
    /// Layouts of the tensor that is read and of the one that is written.
    pub(super) layouts: (VolumeLayout, VolumeLayout),
    pub(super) groups: usize,
    pub(super) epilogue: EpilogueSpec,
    pub(super) weights: Weights<'a>,
    pub(super) way: Way,
}

/// The direction.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    Forward(Conv3dDesc),
    Backward(VolumeBackwards),
}

/// The kernel slices of the taps of a sequence: that of the first tap, and the distance to that of the next one.
#[derive(Debug, Clone, Copy)]
pub(super) struct KernelSlices {
    first: usize,
    step: isize,
}

impl KernelSlices {
    pub(super) const FORWARD: Self = Self { first: 0, step: 1 };

    pub(super) fn of(self, tap: usize) -> usize {
        self.first.wrapping_add_signed(self.step * tap as isize)
    }
}

/// The sequences of a problem, each with its kernel slices.
pub(super) struct Sequences {
    pub(super) all: Vec<Sequence>,
    pub(super) kernel: Vec<KernelSlices>,
}

impl Problem<'_> {
    pub(super) fn sequences(&self) -> Result<Sequences, ConvError> {
        let (mut all, mut kernel) = (try_vec("sequences of slices", 1)?, try_vec("sequences of slices", 1)?);
        match &self.way {
            Way::Forward(desc) => {
                all.push(desc.sequence());
                kernel.push(KernelSlices::FORWARD);
            }
            Way::Backward(back) => {
                for (sequence, (first, step)) in back.sequences() {
                    try_push("sequences of slices", &mut all, sequence)?;
                    try_push("sequences of slices", &mut kernel, KernelSlices { first, step })?;
                }
            }
        }
        Ok(Sequences { all, kernel })
    }

    fn kernel(&self) -> Size3 {
        match &self.way {
            Way::Forward(desc) => desc.kernel(),
            Way::Backward(back) => back.kernel,
        }
    }

    /// Layouts of the images that are read and written, which the 2-D plans can have.
    pub(super) fn inner_layouts(&self) -> &'static [(Layout, Layout)] {
        use Layout::{Nchw, Nchw16c, Nhwc};
        const ALL: [(Layout, Layout); 4] = [(Nchw16c, Nchw16c), (Nchw, Nchw), (Nhwc, Nhwc), (Nchw, Nchw16c)];
        let one_slice = self.kernel().d == 1;
        match &self.way {
            Way::Forward(_) if self.groups > 1 => &[(Nchw, Nchw), (Nchw, Nchw16c)],
            Way::Forward(_) if one_slice => &ALL,
            Way::Forward(_) => &[(Nchw16c, Nchw16c), (Nchw, Nchw), (Nchw, Nchw16c)],
            Way::Backward(_) if self.groups > 1 => &[(Nchw, Nchw)],
            Way::Backward(back) if back.plane(1, 1).whole().is_some() && one_slice => &ALL[..3],
            Way::Backward(back) if back.plane(1, 1).whole().is_some() => &ALL[..2],
            // Phases are computed in this layout.
            Way::Backward(_) => &ALL[..1],
        }
    }

    /// The 2-D convolution of a run, or the one that it is computed backwards.
    fn plane(&self, source: &Source, run: &Run, inner: (Layout, Layout)) -> Result<Plane, ConvError> {
        let input = source.image_shape(&run.depth);
        match &self.way {
            Way::Forward(desc) => ConvDesc::builder(input, self.output.c, desc.kernel().plane())
                .stride(desc.stride().plane())
                .pad(desc.pad().plane())
                .dilation(desc.dilation().plane())
                .groups(self.groups)
                .layout(inner.0)
                .output_layout(inner.1)
                .epilogue(self.epilogue)
                .build()
                .map(Plane::Forward),
            Way::Backward(back) => Ok(Plane::Backward(back.plane(input.n, input.c))),
        }
    }

    /// What the cost model says of a run; `None` if it has several phases.
    pub(super) fn choice(
        &self,
        source: &Source,
        run: &Run,
        inner: (Layout, Layout),
        options: &PlanOptions,
    ) -> Result<Option<Choice>, ConvError> {
        let desc = match self.plane(source, run, inner)? {
            Plane::Forward(desc) => desc,
            Plane::Backward(of) => match of.whole() {
                Some(phase) => phase.desc(&of, of.small.n, inner.0, self.epilogue)?,
                None => return Ok(None),
            },
        };
        ConvPlan::choice(&desc, options).map(Some)
    }

    /// The plan of a run.
    pub(super) fn plan(
        &self,
        source: &Source,
        (run, kernel): (&Run, KernelSlices),
        inner: (Layout, Layout),
        options: &PlanOptions,
    ) -> Result<SlicePlan, ConvError> {
        let filter = self.filter(source, run, kernel)?;
        let weights = Weights { filter: &filter, ..self.weights };
        match self.plane(source, run, inner)? {
            Plane::Forward(desc) => {
                ConvPlan::new(&desc, weights, options).map(|plan| SlicePlan::Conv(Box::new(plan)))
            }
            Plane::Backward(of) => {
                let (epilogue, series) = (self.epilogue, run.depth.outputs.count);
                let phased = Phased { of, layouts: inner, epilogue, series, weights };
                PhasedPlan::new(&phased, options).map(|plan| SlicePlan::Phased(Box::new(plan)))
            }
        }
    }

    /// The filter of a run: the channels of a group, tap by tap, are its input channels. Channels of padding lanes are zero.
    fn filter(&self, source: &Source, run: &Run, kernel: KernelSlices) -> Result<Vec<f32>, ConvError> {
        let Size3 { d, h, w } = self.kernel();
        let (taps, pixels) = (run.depth.taps.clone(), h * w);
        let (ins, outs) = (self.input.c / self.groups, self.output.c / self.groups);
        let per_tap = source.channels_of_group(taps.len()) / taps.len();
        let len = self.output.c * taps.len() * per_tap * pixels;
        let mut filter = try_vec("filter of some slices", len)?;
        let mut add = |at: Option<usize>| match at {
            Some(at) => filter.extend_from_slice(&self.weights.filter[at * pixels..][..pixels]),
            None => filter.resize(filter.len() + pixels, 0.0),
        };
        let slice = |tap: usize| kernel.of(tap);
        match &self.way {
            Way::Forward(_) => {
                for o in 0..self.output.c {
                    for (tap, c) in taps.clone().flat_map(|tap| (0..per_tap).map(move |c| (tap, c))) {
                        add((c < ins).then(|| (o * ins + c) * d + slice(tap)));
                    }
                }
            }
            Way::Backward(_) => {
                for group in 0..self.groups {
                    for (tap, c) in taps.clone().flat_map(|tap| (0..per_tap).map(move |c| (tap, c))) {
                        for o in 0..outs {
                            add((c < ins).then(|| ((group * ins + c) * outs + o) * d + slice(tap)));
                        }
                    }
                }
            }
        }
        Ok(filter)
    }
}

/// A 2-D convolution in either direction.
enum Plane {
    Forward(ConvDesc),
    Backward(Backwards),
}

/// The plan of the images of a run.
pub(super) enum SlicePlan {
    Conv(Box<ConvPlan>),
    Phased(Box<PhasedPlan>),
}

impl SlicePlan {
    pub(super) fn workspace_req(&self) -> WorkspaceReq {
        match self {
            Self::Conv(plan) => plan.workspace_req(),
            Self::Phased(plan) => plan.workspace_req(),
        }
    }

    pub(super) fn packed_bytes(&self) -> usize {
        match self {
            Self::Conv(plan) => plan.packed_bytes(),
            Self::Phased(plan) => plan.packed_bytes(),
        }
    }

    /// The plans of its phases: one for a forward convolution.
    pub(super) fn plans(&self) -> impl Iterator<Item = &ConvPlan> {
        let (conv, phased) = match self {
            Self::Conv(plan) => (Some(&**plan), None),
            Self::Phased(plan) => (None, Some(plan.phases().map(|(_, plan)| plan))),
        };
        conv.into_iter().chain(phased.into_iter().flatten())
    }

    pub(super) fn run(
        &self,
        input: TensorRef<'_>,
        residual: Option<TensorRef<'_>>,
        output: TensorOut<'_>,
        scratch: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        match self {
            Self::Conv(plan) => plan.run(ConvIo { input, output, residual }, scratch, threads),
            Self::Phased(plan) => {
                let added = residual.map_or(Added::Nothing, Added::Residual);
                plan.run(input, added, output, scratch, threads)
            }
        }
    }
}
