//! The definition of a convolution that is run backwards, in `f64`: every value of the small tensor is scattered.

use super::oracle::{evaluation, spread};
use super::{ConvProblem, JUNK, Placed, Pool, Rng, Values, isas_of_f32};
use kernels::*;

/// The extents. It shares no code with the library.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    pub small: Shape4,
    pub large: Shape4,
    pub kernel: Size2,
    pub stride: Size2,
    pub dilation: Size2,
    pub top: usize,
    pub left: usize,
    pub groups: usize,
}

/// What is added to the sums, and applied to them.
#[derive(Debug, Clone, Copy)]
pub struct After<'a> {
    pub bias: Option<&'a [f32]>,
    pub slope: Option<&'a [f32]>,
    /// In NCHW.
    pub addend: Option<&'a [f32]>,
    pub activation: Activation,
}

impl After<'_> {
    pub const NOTHING: Self = Self { bias: None, slope: None, addend: None, activation: Activation::None };
}

impl From<&ConvDesc> for Geometry {
    fn from(desc: &ConvDesc) -> Self {
        Self {
            small: desc.output(),
            large: desc.input(),
            kernel: desc.kernel(),
            stride: desc.stride(),
            dilation: desc.dilation(),
            top: desc.pad().top,
            left: desc.pad().left,
            groups: desc.groups(),
        }
    }
}

impl From<&TransposedDesc> for Geometry {
    fn from(desc: &TransposedDesc) -> Self {
        Self {
            small: desc.input(),
            large: desc.output(),
            kernel: desc.kernel(),
            stride: desc.stride(),
            dilation: desc.dilation(),
            top: desc.pad().top,
            left: desc.pad().left,
            groups: desc.groups(),
        }
    }
}

impl Geometry {
    /// Calls `visit` with the indices in the large tensor, the small tensor and the filter, for every product.
    pub fn products(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let Self { small, large, kernel, stride, dilation, .. } = *self;
        let (smalls, larges) = (small.c / self.groups, large.c / self.groups);
        for (n, o) in (0..small.n).flat_map(|n| (0..small.c).map(move |o| (n, o))) {
            for (y, x) in (0..small.h).flat_map(|y| (0..small.w).map(move |x| (y, x))) {
                let value = ((n * small.c + o) * small.h + y) * small.w + x;
                for (i, j) in (0..kernel.h).flat_map(|i| (0..kernel.w).map(move |j| (i, j))) {
                    let row = (y * stride.h + i * dilation.h).checked_sub(self.top);
                    let column = (x * stride.w + j * dilation.w).checked_sub(self.left);
                    let (Some(row), Some(column)) = (row, column) else { continue };
                    if row >= large.h || column >= large.w {
                        continue;
                    }
                    for c in 0..larges {
                        let channel = o / smalls * larges + c;
                        let to = ((n * large.c + channel) * large.h + row) * large.w + column;
                        visit(to, value, ((o * larges + c) * kernel.h + i) * kernel.w + j);
                    }
                }
            }
        }
    }

    /// The sums, and those of the magnitudes, by the definition.
    pub fn sums(self, small: &[f32], filter: &[f32]) -> Sums {
        let mut sums = vec![(0.0f64, 0.0f64); len(self.large)];
        self.products(|to, value, weight| {
            let product = f64::from(small[value]) * f64::from(filter[weight]);
            sums[to].0 += product;
            sums[to].1 += product.abs();
        });
        let norm = |values: &[f32]| values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let largest = |values: &[f32]| values.iter().fold(0.0, |most, &v| f64::from(v).abs().max(most));
        let (norms, largest) = (norm(small) * norm(filter), (largest(small), largest(filter)));
        let k = self.small.c / self.groups * self.kernel.h * self.kernel.w;
        Sums { sums, norms, largest, k: k as f64, large: self.large }
    }
}

/// The results of the definition, without what is done after it.
pub struct Sums {
    sums: Vec<(f64, f64)>,
    /// The product of the norms of the operands, and the largest magnitude of each.
    norms: f64,
    largest: (f64, f64),
    /// Number of products of an element, at most.
    k: f64,
    large: Shape4,
}

impl Sums {
    /// Compares `got` with the definition. `plans` compute the phases.
    pub fn compare<'a>(
        &self,
        after: After<'_>,
        plans: impl Iterator<Item = &'a ConvPlan>,
        got: &[f32],
    ) -> Result<(), String> {
        let (large, k, largest) = (self.large, self.k, self.largest);
        let eps = f64::from(f32::EPSILON);
        // Winograd and Fourier transforms sum neighbours of the values that an element depends on. Their errors are
        // tested closely for forward convolutions, which the phases are; here, by the norms of both operands.
        let apart = plans.fold(0.0f64, |most, plan| match plan.algorithm() {
            Algorithm::Fft => most.max(100.0 * eps * self.norms),
            algorithm if algorithm.to_string().starts_with("winograd") => {
                most.max(100.0 * eps * k * largest.0 * largest.1)
            }
            _ => most,
        });
        assert_eq!(got.len(), self.sums.len());
        for (at, (&got, (sum, magnitude))) in got.iter().zip(&self.sums).enumerate() {
            let channel = at / (large.h * large.w) % large.c;
            let of = |values: Option<&[f32]>, at: usize| values.map_or(0.0, |values| f64::from(values[at]));
            let (bias, addend, slope) =
                (of(after.bias, channel), of(after.addend, at), of(after.slope, channel));
            let expected = after.activation.eval(sum + bias + addend, slope);
            let rounding = (k + 5.0) * eps * (magnitude + bias.abs() + addend.abs());
            let flushed = k * f64::from(f32::MIN_POSITIVE) * (largest.0 + 1.0);
            let tolerance = spread(after.activation, slope) * (rounding + flushed + apart)
                + evaluation(after.activation, expected);
            let error = (f64::from(got) - expected).abs();
            if error.is_nan() || error > tolerance {
                return Err(format!(
                    "element {at} is {got}, expected {expected}: off by {error:e}, tolerance {tolerance:e}"
                ));
            }
        }
        Ok(())
    }
}

/// Elements of a packed NCHW tensor.
pub fn len(shape: Shape4) -> usize {
    shape.len(Layout::Nchw).expect("a small shape")
}

/// The options to test on one instruction set: every algorithm that can be forced, and the choice.
fn all_options() -> impl Iterator<Item = PlanOptions> {
    isas_of_f32().flat_map(|isa| {
        let options = PlanOptions::default().isa(isa).max_threads(8).macs_per_thread(1);
        Algorithm::ALL.into_iter().map(move |algorithm| options.force(algorithm)).chain([options])
    })
}

/// Runs `run` with the calling thread and with every pool, on poisoned memory, and compares the bits.
fn same_bits(
    pools: &[Pool],
    mut run: impl FnMut(Threads<'_>) -> Result<Vec<f32>, String>,
) -> Result<Vec<f32>, String> {
    let sequential = run(Threads::Seq)?;
    for pool in pools {
        let parallel = run(pool.threads())?;
        if let Some(at) = sequential.iter().zip(&parallel).position(|(a, b)| a.to_bits() != b.to_bits()) {
            return Err(format!("other bits with {} threads, at element {at}", pool.threads().count()));
        }
    }
    Ok(sequential)
}

pub fn poisoned(req: WorkspaceReq) -> Workspace {
    let mut workspace = Workspace::for_req(req).unwrap();
    workspace.as_mut_slice().fill(JUNK);
    workspace
}

/// Checks the gradient of the input of one problem.
pub fn check_data(problem: &ConvProblem, pools: &[Pool]) -> Result<(), String> {
    let problem = ConvProblem { epilogue: EpilogueSpec::NONE, ..*problem };
    let desc = problem.desc().map_err(|error| error.to_string())?;
    let mut rng = Rng(problem.seed);
    let grad_output = rng.values(problem.values, len(desc.output()));
    let filter = rng.values(Values::Uniform, desc.filter_len());
    let old = rng.values(Values::Uniform, len(desc.input()));
    let sums = Geometry::from(&desc).sums(&grad_output, &filter);
    let mut planned = 0;
    for options in all_options() {
        for accumulate in [false, true] {
            let plan = match BackwardData::new(&desc, &filter, DataSpec { accumulate }, &options) {
                Err(ConvError::Unsupported { .. }) => continue,
                plan => plan.map_err(|error| error.to_string())?,
            };
            planned += 1;
            let context = |what: String| format!("{plan}accumulate {accumulate}: {what}");
            let run = |threads: Threads<'_>| {
                let layouts = (desc.output_layout(), desc.layout());
                let from = Placed::new(desc.output(), layouts.0, problem.slack, Some(&grad_output));
                let mut to =
                    Placed::new(desc.input(), layouts.1, problem.slack, accumulate.then_some(&old[..]));
                let io = BackwardDataIo::new(from.tensor(), to.tensor_mut());
                let mut workspace = poisoned(plan.workspace_req());
                plan.run(io, &mut workspace, threads).map_err(|error| error.to_string())?;
                to.plain()
            };
            let got = same_bits(pools, run).map_err(context)?;
            let after = After { addend: accumulate.then_some(&old[..]), ..After::NOTHING };
            let plans = plan.phases().map(|(_, plan)| plan);
            sums.compare(after, plans, &got).map_err(context)?;
        }
    }
    // im2col computes everything, and the choice always finds something.
    if planned < 4 { Err(format!("only {planned} plans")) } else { Ok(()) }
}

/// The transposed convolution with the parameters of a problem; `None` if it has no output.
fn transposed(problem: &ConvProblem) -> Option<TransposedDesc> {
    let most = |stride: usize, dilation: usize| (problem.seed as usize / 7) % stride.max(dilation);
    let builder = TransposedDesc::builder(problem.input, problem.out_channels, problem.kernel)
        .stride(problem.stride)
        .pad(problem.pad)
        .output_pad(Size2::new(
            most(problem.stride.h, problem.dilation.h),
            most(problem.stride.w, problem.dilation.w),
        ))
        .dilation(problem.dilation)
        .groups(problem.groups)
        .layout(problem.layout)
        .epilogue(problem.epilogue);
    builder.build().ok()
}

/// Checks a transposed convolution.
pub fn check_transposed(problem: &ConvProblem, pools: &[Pool]) -> Result<(), String> {
    let Some(desc) = transposed(problem) else { return Ok(()) };
    let mut rng = Rng(problem.seed);
    let (epilogue, channels) = (desc.epilogue(), desc.output().c);
    let input = rng.values(problem.values, len(desc.input()));
    let filter = rng.values(Values::Uniform, desc.filter_len());
    let bias = epilogue.bias.then(|| rng.values(Values::Uniform, channels));
    let slope = (epilogue.activation == Activation::PRelu).then(|| rng.values(Values::Uniform, channels));
    let residual = epilogue.residual.then(|| rng.values(Values::Uniform, len(desc.output())));
    let sums = Geometry::from(&desc).sums(&input, &filter);
    let weights = Weights { filter: &filter, bias: bias.as_deref(), slope: slope.as_deref() };
    for options in all_options() {
        let plan = match TransposedPlan::new(&desc, weights, &options) {
            Err(ConvError::Unsupported { .. }) => continue,
            plan => plan.map_err(|error| error.to_string())?,
        };
        let context = |what: String| format!("{plan}{:?}: {what}", desc.epilogue());
        let run = |threads: Threads<'_>| {
            let place = |shape, plain| Placed::new(shape, desc.layout(), problem.slack, plain);
            let (from, mut to) = (place(desc.input(), Some(&input[..])), place(desc.output(), None));
            let residual = residual.as_ref().map(|residual| place(desc.output(), Some(&residual[..])));
            let residual = residual.as_ref().map(Placed::tensor);
            let io = ConvIo { input: from.tensor(), output: to.tensor_mut().into(), residual };
            let mut workspace = poisoned(plan.workspace_req());
            plan.run(io, &mut workspace, threads).map_err(|error| error.to_string())?;
            to.plain()
        };
        let got = same_bits(pools, run).map_err(context)?;
        let after = After {
            bias: bias.as_deref(),
            slope: slope.as_deref(),
            addend: residual.as_deref(),
            activation: epilogue.activation,
        };
        let plans = plan.phases().map(|(_, plan)| plan);
        sums.compare(after, plans, &got).map_err(context)?;
    }
    Ok(())
}
