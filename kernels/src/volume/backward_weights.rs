//! [`BackwardWeights3d`]: the gradient of the filter and the bias of a 3-D convolution.
//!
//! ```text
//! for run of output slices that read the same taps of the kernel's depth:
//!     gradient of a 2-D filter whose input channels are the slices of the taps        // one 2-D plan
//! add the gradients of all runs, in the order of the filter
//! ```

use super::ranges::{Ranges, TapRange};
use super::slices::{is_staged, seconds_of_copy};
use super::source::{Given, Run, Source, convert};
use crate::choose::Choice;
use crate::describe::{
    Conv3dDesc, ConvDesc, ConvError, Layout, Sequence, Size3, Slices, Taps, VolumeLayout, VolumeMut,
    VolumeRef, check_volume,
};
use crate::memory::{WorkspaceReq, try_push, try_vec};
use crate::plan::applied::OwnActivation;
use crate::plan::prepare::check_len;
use crate::plan::rooms::{rooms, rooms_len};
use crate::plan::{BackwardWeights, PlanOptions, WeightsSpec};
use crate::run::{BackwardWeightsIo, Threads};
use crate::tile::copy_table::CopyTable;
use crate::tile::detect::kernels;
use std::fmt;

/// The operands of one run of a [`BackwardWeights3d`].
#[derive(Debug)]
pub struct BackwardWeights3dIo<'a> {
    /// The input of the convolution, in the descriptor's input shape and layout.
    pub input: VolumeRef<'a>,
    /// The gradient of the output of the convolution, in the descriptor's output shape and layout.
    pub grad_output: VolumeRef<'a>,
    /// The output of the convolution, if and only if it has an activation, in the descriptor's output shape and layout. The
    /// gradient of the output is then that after the activation.
    pub output: Option<VolumeRef<'a>>,
    /// The gradient of the filter, in OIDHW order.
    pub grad_filter: &'a mut [f32],
    /// The gradient of the bias, one number per output channel, if and only if the plan computes it.
    pub grad_bias: Option<&'a mut [f32]>,
}

impl<'a> BackwardWeights3dIo<'a> {
    /// The gradient of a filter alone, of a convolution without an activation.
    pub fn new(input: VolumeRef<'a>, grad_output: VolumeRef<'a>, grad_filter: &'a mut [f32]) -> Self {
        Self { input, grad_output, output: None, grad_filter, grad_bias: None }
    }

    /// Adds the output of the convolution, which its activation needs.
    pub fn output(mut self, output: VolumeRef<'a>) -> Self {
        self.output = Some(output);
        self
    }

    /// Adds the gradient of the bias.
    pub fn bias(mut self, grad_bias: &'a mut [f32]) -> Self {
        self.grad_bias = Some(grad_bias);
        self
    }
}

/// The gradient of the weights of a 3-D convolution, ready to run.
///
/// Output slices that read the same taps are one problem of [`BackwardWeights`], whose input channels are the slices that an
/// output slice reads. A plan is immutable and `Send + Sync`. Its bits do not depend on the number of threads.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let desc = Conv3dDesc::builder(Shape5::new(2, 4, 8, 8, 8), 16, Size3::cube(3)).pad(Pad3::all(1)).build()?;
/// let plan = BackwardWeights3d::new(&desc, &WeightsSpec::default().bias(), &PlanOptions::default())?;
/// let (input, grad_output) = (vec![0.5; 2 * 4 * 512], vec![1.0; 2 * 16 * 512]);
/// let (mut grad_filter, mut grad_bias) = (vec![0.0; desc.filter_len()], vec![0.0; 16]);
/// let io = BackwardWeights3dIo::new(
///     VolumeRef::packed(&input, desc.input(), desc.layout())?,
///     VolumeRef::packed(&grad_output, desc.output(), desc.output_layout())?,
///     &mut grad_filter,
/// );
/// plan.run(io.bias(&mut grad_bias), &mut Workspace::for_req(plan.workspace_req())?, Threads::Seq)?;
/// // The tap in the middle meets every element of the two volumes. The tap in the corner misses a slice, a row and a column.
/// let is_about = |got: f32, expected: f32| (got - expected).abs() <= 2e-6 * expected;
/// assert!(is_about(grad_filter[13], 0.5 * 2.0 * 512.0) && is_about(grad_filter[0], 0.5 * 2.0 * 343.0));
/// assert_eq!(grad_bias[0], 2.0 * 512.0);
/// # Ok(())
/// # }
/// ```
pub struct BackwardWeights3d {
    desc: Conv3dDesc,
    spec: WeightsSpec,
    /// Layouts of the images of the input and of the gradient of the output.
    inner: (Layout, Layout),
    source: Source,
    activation: OwnActivation,
    stages_output: bool,
    runs: Vec<Run>,
    /// The numbers of the range of taps and of the plan of each run.
    parts_of: Vec<(usize, usize)>,
    ranges: Ranges,
    plans: Vec<BackwardWeights>,
    copies: &'static CopyTable,
    rooms: [usize; 4],
    req: WorkspaceReq,
}

/// Layouts of the images, the runs over them, and the time that the cost model estimates.
struct Candidate {
    inner: (Layout, Layout),
    source: Source,
    runs: Vec<Run>,
    seconds: f64,
}

impl Candidate {
    fn new(
        desc: &Conv3dDesc,
        given: &Given<'_>,
        inner: (Layout, Layout),
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        let source = Source::new(given, inner.0);
        let runs = source.runs(given)?;
        let mut seconds: f64 = source.copies(&runs).map(seconds_of_copy).sum();
        if is_staged(desc.output_layout(), inner.1, given.one_pixel) {
            seconds += seconds_of_copy(desc.output());
        }
        let times = source.volumes().0.count() as f64;
        for run in &runs {
            let choice = BackwardWeights::choice(&plane(desc, &source, run, inner)?, options)?;
            seconds += Choice::candidate(&choice).map_or(0.0, |of| of.estimate.seconds) * times;
        }
        Ok(Self { inner, source, runs, seconds })
    }

    /// The one that takes the least time.
    fn fastest(desc: &Conv3dDesc, given: &Given<'_>, options: &PlanOptions) -> Result<Self, ConvError> {
        use Layout::{Nchw, Nchw16c, Nhwc};
        let of_groups = [(Nchw, Nchw), (Nchw, Nchw16c)];
        let of_one = [(Nchw16c, Nchw16c), (Nchw, Nchw), (Nchw, Nchw16c), (Nhwc, Nhwc)];
        let layouts = match (desc.groups(), desc.kernel().d) {
            (1, 1) => &of_one[..],
            (1, _) => &of_one[..3],
            _ => &of_groups[..],
        };
        let (mut best, mut refused): (Option<Self>, _) = (None, None);
        for &inner in layouts {
            match Self::new(desc, given, inner, options) {
                Ok(other) if best.as_ref().is_none_or(|best| other.seconds < best.seconds) => {
                    best = Some(other)
                }
                Ok(_) => (),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        best.ok_or_else(|| refused.unwrap_or(ConvError::NothingAllowed))
    }
}

/// The 2-D convolution of a run.
fn plane(
    desc: &Conv3dDesc,
    source: &Source,
    run: &Run,
    inner: (Layout, Layout),
) -> Result<ConvDesc, ConvError> {
    ConvDesc::builder(source.image_shape(&run.depth), desc.output().c, desc.kernel().plane())
        .stride(desc.stride().plane())
        .pad(desc.pad().plane())
        .dilation(desc.dilation().plane())
        .groups(desc.groups())
        .layout(inner.0)
        .output_layout(inner.1)
        .build()
}

impl BackwardWeights3d {
    /// Chooses a method for each run of slices. Bias and residual of the descriptor's epilogue do not matter.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] if `desc` has an activation whose output does not determine its derivative.
    /// - Those of [`BackwardWeights::new`], for the 2-D problems.
    pub fn new(desc: &Conv3dDesc, spec: &WeightsSpec, options: &PlanOptions) -> Result<Self, ConvError> {
        let kernels = kernels(options.isa)?;
        let output_len = desc.output().len(desc.output_layout())?;
        let activation = OwnActivation::new(desc.epilogue().activation, output_len, kernels)?;
        let sequences = [desc.sequence()];
        let given = Self::given(desc, &sequences, options);
        let Candidate { inner, source, runs, .. } = Candidate::fastest(desc, &given, options)?;
        let Size3 { d, h, w } = desc.kernel();
        let extents = [desc.output().c, desc.input().c / desc.groups(), d, h * w];
        let mut ranges = Ranges::new(extents)?;
        for run in &runs {
            let taps = run.depth.taps.clone();
            let per_tap = source.channels_of_group(taps.len()) / taps.len();
            ranges.add(TapRange { taps, per_tap })?;
        }
        let mut parts_of = try_vec("plans of slices", runs.len())?;
        let mut plans: Vec<BackwardWeights> = try_vec("plans of slices", 0)?;
        let mut planned: Vec<(usize, usize)> = try_vec("plans of slices", 0)?;
        let several = source.volumes().0.count() > 1;
        for run in &runs {
            let range = ranges.number(&run.depth.taps);
            let key = (range, run.depth.outputs.count);
            let plan = match planned.iter().position(|&other| other == key) {
                Some(plan) => plan,
                None => {
                    // The gradients of several problems are added to zeros.
                    let accumulate = several || ranges.uses(range) > 1;
                    let spec = WeightsSpec { bias: spec.bias, accumulate };
                    let plane = plane(desc, &source, run, inner)?;
                    try_push("plans of slices", &mut plans, BackwardWeights::new(&plane, &spec, options)?)?;
                    try_push("plans of slices", &mut planned, key)?;
                    plans.len() - 1
                }
            };
            parts_of.push((range, plan));
        }
        let stages_output = is_staged(desc.output_layout(), inner.1, given.one_pixel);
        let (input, gathered) = source.rooms(&runs)?;
        let staged = VolumeLayout::of_maps(inner.1);
        let output = if stages_output { desc.output().len(staged)? } else { 0 };
        let rooms = [input, gathered, output, ranges.len()?];
        let req = WorkspaceReq::new(0, options.max_threads);
        let req = plans.iter().fold(req, |req, plan| req.union(plan.workspace_req()));
        let req = activation.workspace_req(req.shared(rooms_len(&rooms)));
        let (desc, spec) = (*desc, *spec);
        Ok(Self {
            desc,
            spec,
            inner,
            source,
            activation,
            stages_output,
            runs,
            parts_of,
            ranges,
            plans,
            copies: &kernels.copy,
            rooms,
            req,
        })
    }

    fn given<'a>(desc: &Conv3dDesc, sequences: &'a [Sequence], options: &PlanOptions) -> Given<'a> {
        Given {
            shape: desc.input(),
            layout: desc.layout(),
            groups: desc.groups(),
            sequences,
            one_pixel: desc.output().h * desc.output().w == 1,
            // The driver of groups of one channel reads images at equal distances.
            volumes_apart: desc.input().c == 1,
            threads: options.max_threads,
        }
    }

    fn check(&self, io: &BackwardWeights3dIo<'_>, scratch: &[f32]) -> Result<(), ConvError> {
        let BackwardWeights3dIo { input, grad_output, output, grad_filter, grad_bias } = io;
        let desc = &self.desc;
        check_volume("input", (desc.input(), desc.layout()), (input.shape(), input.layout()))?;
        let of_output = (desc.output(), desc.output_layout());
        check_volume("grad_output", of_output, (grad_output.shape(), grad_output.layout()))?;
        self.activation.check_volume(desc, output.as_ref())?;
        check_len("grad_filter", desc.filter_len(), grad_filter.len())?;
        if self.spec.bias != grad_bias.is_some() {
            return Err(ConvError::EpilogueMismatch {
                what: "gradient of the bias",
                planned: self.spec.bias,
            });
        }
        if let Some(bias) = grad_bias {
            check_len("grad_bias", desc.output().c, bias.len())?;
        }
        self.req.check(scratch)
    }

    /// Computes the gradients. It allocates nothing, and the bits do not depend on the number of threads.
    ///
    /// # Errors
    /// The gradients are unchanged after an error.
    /// - [`ConvError::VolumeMismatch`] or [`ConvError::VolumeLayoutMismatch`] if a tensor does not fit the descriptor.
    /// - [`ConvError::BufferLen`] if a gradient has the wrong number of elements.
    /// - [`ConvError::EpilogueMismatch`] if the gradient of the bias is missing, or was not planned. The same for the output,
    ///   which a convolution with an activation needs.
    /// - [`ConvError::WorkspaceTooSmall`] if `scratch` is shorter than [`workspace_req`](Self::workspace_req)`.len()`.
    pub fn run(
        &self,
        io: BackwardWeights3dIo<'_>,
        scratch: &mut (impl AsMut<[f32]> + ?Sized),
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let scratch = scratch.as_mut();
        self.check(&io, scratch)?;
        let threads = if self.req.threads == 1 { Threads::Seq } else { threads };
        let BackwardWeights3dIo { input, grad_output, output, grad_filter, grad_bias } = io;
        let (grad_output, scratch) = self.activation.before_volume(grad_output, output, scratch, threads)?;
        let ([own_input, gathered, own_output, sums], slabs) = rooms(scratch, self.rooms);
        let input = self.source.prepared(self.copies, input, own_input, threads)?;
        let grad_output = if self.stages_output {
            let layout = VolumeLayout::of_maps(self.inner.1);
            let staged = VolumeMut::packed(&mut *own_output, self.desc.output(), layout)?;
            convert(self.copies, grad_output, staged, threads)?;
            VolumeRef::packed(own_output, self.desc.output(), layout)?
        } else {
            grad_output
        };
        sums.fill(0.0);
        let (volumes, together) = self.source.volumes();
        for volume in volumes {
            for (Run { depth, .. }, &(range, plan)) in self.runs.iter().zip(&self.parts_of) {
                let input = self.source.images_of(self.copies, input, (volume, depth), gathered, threads)?;
                let grad_output = grad_output.maps((volume, together), depth.outputs, Taps::ONE)?;
                let (filter, bias) = self.ranges.of(range, sums);
                let io = BackwardWeightsIo::new(input, grad_output, filter);
                let io = if self.spec.bias { io.bias(bias) } else { io };
                self.plans[plan].run(io, slabs, threads)?;
            }
        }
        self.ranges.add_up(sums, grad_filter, self.spec.accumulate, threads);
        if let Some(bias) = grad_bias {
            let rest = |channel| self.bias_of_the_rest(grad_output, channel);
            self.ranges.add_up_bias(sums, bias, self.spec.accumulate, rest)?;
        }
        Ok(())
    }

    /// The sum of a channel of the gradients of output slices that read padding only. No run has them.
    fn bias_of_the_rest(&self, grad_output: VolumeRef<'_>, channel: usize) -> Result<f64, ConvError> {
        let shape = self.desc.output();
        let is_in = |slices: &Slices, z: usize| {
            z >= slices.first
                && (z - slices.first).is_multiple_of(slices.step)
                && (z - slices.first) / slices.step < slices.count
        };
        let mut sum = 0.0;
        for z in (0..shape.d).filter(|&z| !self.runs.iter().any(|run| is_in(&run.depth.outputs, z))) {
            let slice = Slices { first: z, step: 1, count: 1 };
            let maps = grad_output.maps((0, shape.n), slice, Taps::ONE)?.pixels();
            for (n, p) in (0..shape.n).flat_map(|n| (0..shape.h * shape.w).map(move |p| (n, p))) {
                sum += f64::from(maps.data[maps.view.offset(n, channel, p)]);
            }
        }
        Ok(sum)
    }

    /// The convolution whose gradient this plan computes.
    pub fn desc(&self) -> &Conv3dDesc {
        &self.desc
    }

    /// The workspace that [`run`](Self::run) needs. Its shared part holds copies in other layouts and the gradients of runs.
    pub fn workspace_req(&self) -> WorkspaceReq {
        self.req
    }

    /// The 2-D plans. Each tells its method and the reasons for it.
    pub fn plans(&self) -> impl Iterator<Item = &BackwardWeights> {
        self.plans.iter()
    }
}

impl fmt::Debug for BackwardWeights3d {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackwardWeights3d")
            .field("desc", &self.desc)
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for BackwardWeights3d {
    /// Writes the convolution, and the method of each 2-D plan.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "gradient of the weights of {}", self.desc)?;
        for plan in &self.plans {
            let report = plan.explain();
            writeln!(f, "  {}: {} with {}", plan.desc(), report.choice.method, report.kernel)?;
        }
        Ok(())
    }
}
