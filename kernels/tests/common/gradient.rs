//! The gradient of weights by its definition, in `f64`. It shares no code with the library.

use super::{ConvProblem, Data, JUNK, Placed, Pool, oracle, winograd};
use kernels::{
    Algorithm, BackwardWeights, BackwardWeightsIo, ConvDesc, Isa, Layout, Method, PlanOptions, Products,
    Shape4, Threads, WeightsSpec, Workspace,
};
use std::ops::DerefMut;

/// Sums of products and sums of their magnitudes.
#[derive(Debug, Clone, PartialEq)]
pub struct Sums {
    pub sums: Vec<f64>,
    pub magnitudes: Vec<f64>,
    /// Maximum number of products of a sum.
    pub products: usize,
}

impl Sums {
    fn new(len: usize, products: usize) -> Self {
        Self { sums: vec![0.0; len], magnitudes: vec![0.0; len], products }
    }

    fn add(&mut self, at: usize, product: f64) {
        self.sums[at] += product;
        self.magnitudes[at] += product.abs();
    }

    /// Compares `got` with these sums, added to `old`.
    ///
    /// The bound holds for any order of summation in `f32` (Higham 2002, section 4.2, doubled for products that are rounded
    /// separately): `(K + 4) * eps * (sum |products| + |old|)`. Products that underflow lose up to the smallest normal
    /// number each.
    ///
    /// bf16 products leave something out, and take subnormal parts and sums for zero.
    pub fn compare(
        &self,
        what: &str,
        old: Option<&[f32]>,
        got: &[f32],
        errors: &Errors<'_>,
    ) -> Result<(), String> {
        assert_eq!(got.len(), self.sums.len());
        let Errors { scales, products, largest } = *errors;
        let (left_out, summed) = oracle::of_parts(products);
        for (at, &got) in got.iter().enumerate() {
            let old = old.map_or(0.0, |old| f64::from(old[at]));
            let scale = scales.map_or(self.magnitudes[at], |scales| scales[at]);
            let (expected, magnitude) = (self.sums[at] + old, scale + old.abs());
            let k = self.products as f64 * summed;
            let mut flushed = k * f64::from(f32::MIN_POSITIVE);
            if products != Products::F32 {
                flushed *= 4.0 * (largest + 1.0);
            }
            let tolerance = ((k + 4.0) * f64::from(f32::EPSILON) + left_out) * magnitude + flushed;
            let error = (f64::from(got) - expected).abs();
            if error.is_nan() || error > tolerance {
                return Err(format!(
                    "{what}[{at}] is {got}, expected {expected}: off by {error:e}, tolerance {tolerance:e}"
                ));
            }
        }
        Ok(())
    }
}

/// What determines the errors of a gradient.
#[derive(Clone, Copy)]
pub struct Errors<'a> {
    /// Other magnitudes, to which errors are relative, if the products are not those of the definition.
    pub scales: Option<&'a [f64]>,
    pub products: Products,
    /// The largest magnitude of both tensors.
    pub largest: f64,
}

/// The gradients of filter and bias, from an input and a gradient of the output in NCHW order.
pub fn weights(desc: &ConvDesc, input: &[f32], grad_output: &[f32]) -> (Sums, Sums) {
    let (shape, output, kernel) = (desc.input(), desc.output(), desc.kernel());
    let (ins, outs) = (shape.c / desc.groups(), output.c / desc.groups());
    let pixels = output.n * output.h * output.w;
    let (mut filter, mut bias) = (Sums::new(desc.filter_len(), pixels), Sums::new(output.c, pixels));
    for (at, &go) in grad_output.iter().enumerate() {
        let (x, y) = (at % output.w, at / output.w % output.h);
        let (o, n) = (at / (output.w * output.h) % output.c, at / (output.w * output.h * output.c));
        bias.add(o, f64::from(go));
        for tap in 0..ins * kernel.h * kernel.w {
            let (c, i, j) = (tap / (kernel.h * kernel.w), tap / kernel.w % kernel.h, tap % kernel.w);
            let row = (y * desc.stride().h + i * desc.dilation().h).wrapping_sub(desc.pad().top);
            let column = (x * desc.stride().w + j * desc.dilation().w).wrapping_sub(desc.pad().left);
            if row < shape.h && column < shape.w {
                let channel = o / outs * ins + c;
                let pixel = input[((n * shape.c + channel) * shape.h + row) * shape.w + column];
                filter.add(o * ins * kernel.h * kernel.w + tap, f64::from(pixel) * f64::from(go));
            }
        }
    }
    (filter, bias)
}

/// How the tiles of a Winograd gradient lie along one axis, for the taps of one phase.
#[derive(Clone, Copy)]
struct Axis {
    /// The first tap, and how many there are.
    first: usize,
    taps: usize,
    /// Gradients of a tile.
    pixels: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    outputs: usize,
    inputs: usize,
}

impl Axis {
    /// The first gradients of all tiles. The gradients of a tile are a dilation apart.
    fn tiles(self) -> impl Iterator<Item = usize> {
        (0..self.outputs).filter(move |at| at % (self.pixels * self.dilation) < self.dilation)
    }

    fn gradients(self, tile: usize) -> impl Iterator<Item = usize> + Clone {
        (0..self.pixels).map(move |j| tile + j * self.dilation).filter(move |&at| at < self.outputs)
    }

    /// The pixels that a tile reads.
    fn pixels(self, tile: usize) -> impl Iterator<Item = usize> + Clone {
        let points = self.taps + self.pixels - 1;
        let pixel =
            move |j: usize| ((tile + j * self.dilation) * self.stride + self.first).checked_sub(self.before);
        (0..points).filter_map(pixel).filter(move |&at| at < self.inputs)
    }
}

/// The magnitudes to which the errors of F(taps, pixels) are relative: for each tap of a pair of channels, the sum over tiles of
/// the largest pixel that a tile of its phase reads times all gradients of the tile, amplified by the transforms. Kernels of one
/// row or column can have six points or eight, and other tiles six.
fn winograd_scales(desc: &ConvDesc, data: &WeightsData) -> Vec<f64> {
    let (kernel, stride) = (desc.kernel(), desc.stride());
    let (shape, output) = (desc.input(), desc.output());
    let (ins, outs) = (shape.c / desc.groups(), output.c / desc.groups());
    let mut scales = vec![0.0f64; desc.filter_len()];
    for points in [6, 8] {
        for (y, x) in
            (0..kernel.h.min(stride.h)).flat_map(|y| (0..kernel.w.min(stride.w)).map(move |x| (y, x)))
        {
            let axis = |first: usize, kernel: usize, stride, dilation, before, outputs, inputs| {
                let taps = (kernel - first).div_ceil(stride);
                let pixels = if taps == 1 { 1 } else { (points + 1usize).saturating_sub(taps).clamp(1, 6) };
                let dilation = if kernel == 1 { 1 } else { dilation };
                Axis { first, taps, pixels, stride, dilation, before, outputs, inputs }
            };
            let (d, pad) = (desc.dilation(), desc.pad());
            let down = axis(y, kernel.h, stride.h, d.h, pad.top, output.h, shape.h);
            let along = axis(x, kernel.w, stride.w, d.w, pad.left, output.w, shape.w);
            let is_square = down.taps > 1 && along.taps > 1;
            let fits = |axis: Axis| axis.taps == 1 || axis.taps + axis.pixels == points + 1;
            if !fits(down) || !fits(along) || (points == 8 && is_square) {
                continue;
            }
            let amplification =
                winograd::one_way(down.taps, down.pixels) * winograd::one_way(along.taps, along.pixels);
            for (o, c) in (0..output.c).flat_map(|o| (0..ins).map(move |c| (o, c))) {
                let scale =
                    amplification * scale_of(data, (shape, output), (o, o / outs * ins + c), (down, along));
                for (i, j) in (0..down.taps).flat_map(|i| (0..along.taps).map(move |j| (i, j))) {
                    let tap = (y + i * stride.h) * kernel.w + x + j * stride.w;
                    let at = &mut scales[(o * ins + c) * kernel.h * kernel.w + tap];
                    *at = at.max(scale);
                }
            }
        }
    }
    scales
}

/// The sum over the tiles of a pair of channels of the largest pixel times all gradients.
fn scale_of(
    data: &WeightsData,
    (input, output): (Shape4, Shape4),
    (o, c): (usize, usize),
    (down, along): (Axis, Axis),
) -> f64 {
    let mut scale = 0.0;
    for n in 0..input.n {
        let pixels = &data.input[(n * input.c + c) * input.h * input.w..][..input.h * input.w];
        let gradients = &data.grad_output[(n * output.c + o) * output.h * output.w..][..output.h * output.w];
        for (y, x) in down.tiles().flat_map(|y| along.tiles().map(move |x| (y, x))) {
            let read = down.pixels(y).flat_map(|y| along.pixels(x).map(move |x| y * input.w + x));
            let largest = read.fold(0.0f32, |most, at| most.max(pixels[at].abs()));
            let of_tile = down.gradients(y).flat_map(|y| along.gradients(x).map(move |x| y * output.w + x));
            let sum: f64 = of_tile.map(|at| f64::from(gradients[at].abs())).sum();
            scale += f64::from(largest) * sum;
        }
    }
    scale
}

/// A problem, what its gradient computes, and the numbers that it reads.
#[derive(Debug, Clone, Copy)]
pub struct WeightsProblem {
    pub conv: ConvProblem,
    pub bias: bool,
    pub accumulate: bool,
}

/// The gradients of filter and bias.
pub type Gradients = (Vec<f32>, Option<Vec<f32>>);

/// Input, gradient of the output, and the contents of the gradients before a run.
pub struct WeightsData {
    pub input: Vec<f32>,
    pub grad_output: Vec<f32>,
    pub old: Gradients,
}

impl WeightsProblem {
    pub fn new(conv: ConvProblem, bias: bool, accumulate: bool) -> Self {
        let epilogue = kernels::EpilogueSpec::NONE;
        Self { conv: ConvProblem { epilogue, ..conv }, bias, accumulate }
    }

    pub fn desc(&self) -> ConvDesc {
        self.conv.desc().expect("a valid problem")
    }

    pub fn data(&self) -> WeightsData {
        let (desc, values) = (self.desc(), self.conv.values);
        let mut rng = super::Rng(self.conv.seed ^ 0x5bd1_e995);
        let output = desc.output();
        let grad_output = rng.values(values, output.n * output.c * output.h * output.w);
        let old = (rng.values(values, desc.filter_len()), self.bias.then(|| rng.values(values, output.c)));
        let Data { input, .. } = self.conv.data();
        WeightsData { input, grad_output, old }
    }

    pub fn plan(&self, options: &PlanOptions) -> BackwardWeights {
        let mut spec = WeightsSpec::default();
        (spec.bias, spec.accumulate) = (self.bias, self.accumulate);
        BackwardWeights::new(&self.desc(), &spec, options).expect("a plan")
    }

    /// Runs `plan` on poisoned memory.
    pub fn run(
        &self,
        plan: &BackwardWeights,
        data: &WeightsData,
        threads: Threads<'_>,
    ) -> Result<Gradients, String> {
        let place = |shape, layout, plain: &[f32]| Placed::new(shape, layout, self.conv.slack, Some(plain));
        self.run_in(plan, data, threads, place, <[f32]>::to_vec)
    }

    /// [`run`](Self::run) on tensors that `place` builds, and on gradients in memory that `copy` makes.
    pub fn run_in<M: DerefMut<Target = [f32]>>(
        &self,
        plan: &BackwardWeights,
        data: &WeightsData,
        threads: Threads<'_>,
        place: impl Fn(Shape4, Layout, &[f32]) -> Placed<M>,
        copy: impl Fn(&[f32]) -> M,
    ) -> Result<Gradients, String> {
        let (desc, conv) = (self.desc(), &self.conv);
        let input = place(conv.input, conv.layout, &data.input);
        let grad_output = place(desc.output(), conv.layout_out(), &data.grad_output);
        let mut workspace = Workspace::for_req(plan.workspace_req()).unwrap();
        workspace.as_mut_slice().fill(JUNK);
        let begin = |old: &Vec<f32>| if self.accumulate { copy(old) } else { copy(&vec![JUNK; old.len()]) };
        let (mut filter, mut bias) = (begin(&data.old.0), data.old.1.as_ref().map(begin));
        let io = BackwardWeightsIo {
            input: input.tensor(),
            grad_output: grad_output.tensor(),
            output: None,
            grad_filter: &mut filter,
            grad_bias: bias.as_deref_mut(),
        };
        plan.run(io, &mut workspace, threads).map_err(|error| error.to_string())?;
        Ok((filter.to_vec(), bias.map(|bias| bias.to_vec())))
    }

    /// Checks one method on one instruction set against the definition, and that the bits do not depend on the threads.
    pub fn check(
        &self,
        method: impl Into<Method>,
        isa: Isa,
        truth: &(Sums, Sums),
        pools: &[Pool],
    ) -> Result<(), String> {
        let method = method.into();
        let options = PlanOptions::default().force(method).isa(isa).max_threads(8).macs_per_thread(1);
        let (plan, data) = (self.plan(&options), self.data());
        assert_eq!((plan.isa(), plan.explain().choice.method), (isa, method));
        let context = |what: String| format!("{method} on {isa} with {}: {what}", plan.explain().kernel);
        let sequential = self.run(&plan, &data, Threads::Seq).map_err(context)?;
        let old = self.accumulate.then_some(&data.old);
        let scales = winograd::is_winograd(method.algorithm).then(|| winograd_scales(&self.desc(), &data));
        let all = data.input.iter().chain(&data.grad_output);
        let largest = f64::from(all.fold(0.0f32, |most, x| most.max(x.abs())));
        let errors = Errors { scales: scales.as_deref(), products: method.products, largest };
        truth.0.compare("filter", old.map(|old| &old.0[..]), &sequential.0, &errors).map_err(context)?;
        if let Some(bias) = &sequential.1 {
            let (errors, old) = (Errors { scales: None, ..errors }, old.and_then(|old| old.1.as_deref()));
            truth.1.compare("bias", old, bias, &errors).map_err(context)?;
        }
        let bits = |(filter, bias): &Gradients| -> Vec<u32> {
            filter.iter().chain(bias.iter().flatten()).map(|value| value.to_bits()).collect()
        };
        for pool in pools {
            let parallel = self.run(&plan, &data, pool.threads()).map_err(context)?;
            if bits(&parallel) != bits(&sequential) {
                return Err(context(format!("other bits with {} threads", pool.threads().count())));
            }
        }
        Ok(())
    }

    /// [`check`](Self::check) for every method with bf16 products.
    pub fn check_parts(&self, pools: &[Pool]) -> Result<(), String> {
        let (desc, data) = (self.desc(), self.data());
        let truth = weights(&desc, &data.input, &data.grad_output);
        let isas = super::isas_of_parts();
        for method in super::methods_of_parts().filter(|m| BackwardWeights::supports(*m, &desc).is_ok()) {
            isas.iter().try_for_each(|&isa| self.check(method, isa, &truth, pools))?;
        }
        Ok(())
    }

    /// [`check`](Self::check) for every algorithm and every instruction set of this machine. Unsupported problems must be
    /// errors.
    pub fn check_everything(&self, pools: &[Pool]) -> Result<(), String> {
        let (desc, data) = (self.desc(), self.data());
        let truth = weights(&desc, &data.input, &data.grad_output);
        for algorithm in Algorithm::ALL {
            match BackwardWeights::supports(algorithm, &desc) {
                Ok(()) => {
                    super::isas_of_f32().try_for_each(|isa| self.check(algorithm, isa, &truth, pools))?;
                }
                Err(reason) => {
                    let options = PlanOptions::default().force(algorithm);
                    let plan = BackwardWeights::new(&desc, &WeightsSpec::default(), &options);
                    let expected = kernels::ConvError::Unsupported { method: algorithm.into(), reason };
                    if plan.err() != Some(expected) {
                        return Err(format!("{algorithm} should have been refused: {reason}"));
                    }
                }
            }
        }
        Ok(())
    }
}
