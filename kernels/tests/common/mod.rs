//! Test utilities: random convolutions, their exact results in `f64`, and checks with computed tolerances.
//!
//! Before each run, the output is filled with NaN and the workspace with junk. Afterwards, all lanes and gaps
//! that a kernel must not touch are compared bit by bit.
#![allow(dead_code)] // each test binary uses its part

pub mod backwards;
pub mod gradient;
mod oracle;
pub mod persist;
mod placed;
mod pool;
mod random;
pub mod spatial;
pub mod strategy;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod tiles;
pub mod winograd;

use kernels::{
    Activation, Algorithm, ConvDesc, ConvError, ConvIo, ConvPlan, EpilogueSpec, Isa, Layout, Method, Pad2,
    PlanOptions, Products, Shape4, Size2, Threads, Weights, Workspace,
};
pub use placed::Placed;
#[allow(unused_imports)] // as each test binary uses its part
pub use pool::{Pool, Scoped, pools};
pub use random::Rng;
use std::ops::DerefMut;

/// A NaN that no computation produces, so that unwritten elements can be recognised.
pub const JUNK: f32 = f32::from_bits(0x7fa5_a5a5);

/// Every activation, with parameters that have a visible effect.
pub const ACTIVATIONS: [Activation; 11] = [
    Activation::None,
    Activation::Relu,
    Activation::LeakyRelu { alpha: 0.1 },
    Activation::RELU6,
    Activation::Clip { lo: -0.25, hi: 0.5 },
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Elu { alpha: 1.5 },
    Activation::PRelu,
    Activation::HardSwish,
    Activation::Silu,
];

/// A convolution, with everything that its result depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvProblem {
    pub input: Shape4,
    pub out_channels: usize,
    pub kernel: Size2,
    pub stride: Size2,
    pub pad: Pad2,
    pub dilation: Size2,
    pub groups: usize,
    pub layout: Layout,
    /// `None` for the layout of the input.
    pub output_layout: Option<Layout>,
    pub epilogue: EpilogueSpec,
    /// Number of channels around the tensors in memory; 0 for packed tensors.
    pub slack: usize,
    pub values: Values,
    pub seed: u64,
}

/// The distribution of inputs and weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Uniform in -1..1.
    Uniform,
    /// As after a ReLU: half of the inputs are zero.
    Sparse,
    /// Magnitudes from 2^-20 to 2^20, with occasional subnormals.
    Wide,
    /// -2, -1, 1 and 2, also for bias and residual. Sums of up to four million products are exact in `f32`.
    Integers,
}

/// The data of a problem in plain order: input and residual in NCHW, filter in OIHW.
pub struct Data {
    pub input: Vec<f32>,
    pub filter: Vec<f32>,
    pub bias: Option<Vec<f32>>,
    pub slope: Option<Vec<f32>>,
    pub residual: Option<Vec<f32>>,
}

/// The instruction sets of this machine that have `f32` kernels of their own.
pub fn isas_of_f32() -> impl Iterator<Item = Isa> {
    Isa::available().filter(|isa| isa.of_f32() == *isa)
}

/// The instruction sets of this machine that have kernels of bf16 products of their own. Where the machine has
/// no matrix tiles, they are emulated.
pub fn isas_of_parts() -> Vec<Isa> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    tiles::emulate_if_missing();
    Isa::available().filter(|isa| *isa == Isa::Portable || isa.products().len() > 1).collect()
}

/// Every method with bf16 products.
pub fn methods_of_parts() -> impl Iterator<Item = Method> {
    Method::all(&Products::ALL).filter(|method| method.products != Products::F32)
}

/// Every method on each instruction set that has kernels of its own for it.
pub fn methods_on_isas() -> impl Iterator<Item = (Method, Isa)> {
    let of_f32 = isas_of_f32().flat_map(|isa| Algorithm::ALL.map(|algorithm| (algorithm.into(), isa)));
    let of_parts = isas_of_parts().into_iter();
    of_f32.chain(of_parts.flat_map(|isa| methods_of_parts().map(move |method| (method, isa))))
}

impl Rng {
    pub fn values(&mut self, kind: Values, len: usize) -> Vec<f32> {
        (0..len)
            .map(|_| match kind {
                Values::Uniform => self.unit(),
                Values::Sparse => self.unit().max(0.0),
                Values::Wide if self.next().is_multiple_of(64) => f32::from_bits((self.next() % 1000) as u32),
                Values::Integers => [-2.0, -1.0, 1.0, 2.0][(self.next() % 4) as usize],
                Values::Wide => self.unit() * 2f32.powi((self.next() % 41) as i32 - 20),
            })
            .collect()
    }
}

impl ConvProblem {
    /// A 3x3 convolution of an 8x8 image, with default values for everything else.
    pub fn simple() -> Self {
        Self {
            input: Shape4::new(1, 3, 8, 8),
            out_channels: 5,
            kernel: Size2::square(3),
            stride: Size2::square(1),
            pad: Pad2::VALID,
            dilation: Size2::square(1),
            groups: 1,
            layout: Layout::Nchw,
            output_layout: None,
            epilogue: EpilogueSpec::NONE,
            slack: 0,
            values: Values::Uniform,
            seed: 1,
        }
    }

    pub fn layout_out(&self) -> Layout {
        self.output_layout.unwrap_or(self.layout)
    }

    pub fn desc(&self) -> Result<ConvDesc, ConvError> {
        ConvDesc::builder(self.input, self.out_channels, self.kernel)
            .stride(self.stride)
            .pad(self.pad)
            .dilation(self.dilation)
            .groups(self.groups)
            .layout(self.layout)
            .output_layout(self.layout_out())
            .epilogue(self.epilogue)
            .build()
    }

    pub fn data(&self) -> Data {
        let desc = self.desc().expect("a generated problem is valid");
        let mut rng = Rng(self.seed);
        let (o, output) = (self.out_channels, desc.output());
        let around = if self.values == Values::Integers { Values::Integers } else { Values::Uniform };
        let mut plain = |len| rng.values(around, len);
        let bias = self.epilogue.bias.then(|| plain(o));
        let slope = (self.epilogue.activation == Activation::PRelu).then(|| plain(o));
        let residual = self.epilogue.residual.then(|| plain(output.n * output.c * output.h * output.w));
        let input = rng.values(self.values, self.input.n * self.input.c * self.input.h * self.input.w);
        let weights = if self.values == Values::Sparse { Values::Uniform } else { self.values };
        Data { input, filter: rng.values(weights, desc.filter_len()), bias, slope, residual }
    }

    pub fn plan(&self, data: &Data, options: &PlanOptions) -> Result<ConvPlan, ConvError> {
        let weights =
            Weights { filter: &data.filter, bias: data.bias.as_deref(), slope: data.slope.as_deref() };
        ConvPlan::new(&self.desc()?, weights, options)
    }

    /// Runs `plan` on poisoned memory. Returns the output in plain NCHW order, or what was wrong with the memory.
    pub fn run(&self, plan: &ConvPlan, data: &Data, threads: Threads<'_>) -> Result<Vec<f32>, String> {
        self.run_in(plan, data, threads, |shape, layout, plain| Placed::new(shape, layout, self.slack, plain))
    }

    /// [`run`](Self::run) on tensors that `place` builds from a shape, a layout and elements in NCHW order.
    pub fn run_in<M: DerefMut<Target = [f32]>>(
        &self,
        plan: &ConvPlan,
        data: &Data,
        threads: Threads<'_>,
        place: impl Fn(Shape4, Layout, Option<&[f32]>) -> Placed<M>,
    ) -> Result<Vec<f32>, String> {
        let shape = plan.desc().output();
        let input = place(self.input, self.layout, Some(&data.input));
        let residual = data.residual.as_ref().map(|r| place(shape, self.layout_out(), Some(r)));
        let mut output = place(shape, self.layout_out(), None);
        let mut workspace = Workspace::for_req(plan.workspace_req()).unwrap();
        workspace.as_mut_slice().fill(JUNK);
        let io = ConvIo {
            input: input.tensor(),
            output: output.tensor_mut().into(),
            residual: residual.as_ref().map(Placed::tensor),
        };
        plan.run(io, &mut workspace, threads).map_err(|error| error.to_string())?;
        output.plain()
    }

    /// Checks one method on one instruction set against the oracle, and that the bits do not depend on the
    /// threads.
    pub fn check(&self, method: impl Into<Method>, isa: Isa, pools: &[Pool]) -> Result<(), String> {
        let method = method.into();
        let data = self.data();
        let options = PlanOptions::default().force(method).isa(isa).max_threads(8).macs_per_thread(1);
        let plan = self.plan(&data, &options).map_err(|error| error.to_string())?;
        assert_eq!((plan.isa(), plan.algorithm(), plan.products()), (isa, method.algorithm, method.products));
        let context = |what: String| format!("{method} on {isa} with {}: {what}", plan.explain().kernel);
        let sequential = self.run(&plan, &data, Threads::Seq).map_err(context)?;
        oracle::compare((plan.desc(), &plan.explain().computed), method, &data, &sequential)
            .map_err(context)?;
        for pool in pools {
            let parallel = self.run(&plan, &data, pool.threads()).map_err(context)?;
            let differ = sequential.iter().zip(&parallel).position(|(a, b)| a.to_bits() != b.to_bits());
            if let Some(at) = differ {
                let threads = pool.threads().count();
                return Err(context(format!("other bits with {threads} threads, first at element {at}")));
            }
        }
        Ok(())
    }

    /// [`check`](Self::check) for every algorithm with `f32` products and every instruction set of this machine.
    /// Unsupported problems must be errors.
    pub fn check_everything(&self, pools: &[Pool]) -> Result<(), String> {
        let desc = self.desc().map_err(|error| error.to_string())?;
        for algorithm in Algorithm::ALL {
            match algorithm.supports(&desc) {
                Ok(()) => isas_of_f32().try_for_each(|isa| self.check(algorithm, isa, pools))?,
                Err(reason) => {
                    let plan = self.plan(&self.data(), &PlanOptions::default().force(algorithm));
                    let expected = ConvError::Unsupported { method: algorithm.into(), reason };
                    if plan.err() != Some(expected) {
                        return Err(format!("{algorithm} should have been refused: {reason}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// [`check`](Self::check) for every method with bf16 products.
    pub fn check_parts(&self, pools: &[Pool]) -> Result<(), String> {
        let desc = self.desc().map_err(|error| error.to_string())?;
        let isas = isas_of_parts();
        for method in methods_of_parts().filter(|method| method.supports(&desc).is_ok()) {
            isas.iter().try_for_each(|&isa| self.check(method, isa, pools))?;
        }
        Ok(())
    }
}
