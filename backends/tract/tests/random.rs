//! Random convolutions, with whatever can be fused into them, against tract's own.

mod common;

use common::{Numbers, check};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec, PoolSpec};
use tract_core::ops::nn::DataFormat;
use tract_core::ops::{math, nn};

/// A convolution and what follows it.
#[derive(Debug, Clone)]
struct Problem {
    seed: u64,
    batch: usize,
    spatial: Vec<usize>,
    groups: usize,
    ins_per_group: usize,
    outs_per_group: usize,
    kernel: Vec<usize>,
    stride: Vec<usize>,
    dilation: Vec<usize>,
    padding: usize,
    pads: Vec<usize>,
    format: DataFormat,
    kernel_format: KernelFormat,
    bias: usize,
    /// Bits: the batch is a symbol, the image size is a symbol.
    symbols: usize,
    followers: Vec<usize>,
}

fn problem() -> impl Strategy<Value = Problem> {
    let axes = |range: std::ops::Range<usize>, rank| prop::collection::vec(range, rank);
    (1..=2usize).prop_flat_map(move |rank| {
        let shape = (
            1..4usize,
            axes(1..14, rank),
            prop_oneof![3 => Just(1), 1 => 1..20usize],
            1..20usize,
            1..20usize,
        );
        let kernel = (axes(1..6, rank), axes(1..4, rank), axes(1..3, rank), 0..4usize, axes(0..4, 2 * rank));
        let formats = (0..4usize, 0..3usize, 0..3usize, 0..4usize);
        let followers = prop::collection::vec(0..14usize, 0..5);
        (any::<u64>(), shape, kernel, formats, followers).prop_map(
            |(seed, shape, kernel, formats, followers)| {
                let (batch, spatial, groups, ins_per_group, outs_per_group) = shape;
                let (kernel, stride, dilation, padding, pads) = kernel;
                let problem = Problem {
                    seed,
                    batch,
                    spatial,
                    groups,
                    ins_per_group: if groups > 4 { 1 } else { ins_per_group },
                    outs_per_group: if groups > 4 { 1 } else { outs_per_group },
                    kernel,
                    stride,
                    dilation,
                    padding,
                    pads,
                    format: [DataFormat::NCHW, DataFormat::NHWC, DataFormat::CHW, DataFormat::HWC][formats.0],
                    kernel_format: [KernelFormat::OIHW, KernelFormat::HWIO, KernelFormat::OHWI][formats.1],
                    bias: formats.2,
                    symbols: formats.3,
                    followers,
                };
                // `SAME` fits every image.
                let padding = if problem.fits(&problem.spatial) { problem.padding } else { 2 };
                Problem { padding, ..problem }
            },
        )
    })
}

impl Problem {
    fn padding(&self) -> PaddingSpec {
        let (before, after) = self.pads.split_at(self.kernel.len());
        match self.padding {
            0 => PaddingSpec::Valid,
            1 => PaddingSpec::Explicit(before.into(), after.into()),
            2 => PaddingSpec::SameUpper,
            _ => PaddingSpec::SameLower,
        }
    }

    /// Whether the padded image holds the kernel.
    fn fits(&self, spatial: &[usize]) -> bool {
        let rank = self.kernel.len();
        (0..rank).all(|axis| {
            let reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
            let pads = if self.padding == 1 { self.pads[axis] + self.pads[axis + rank] } else { 0 };
            self.padding >= 2 || spatial[axis] + pads >= reach
        })
    }

    fn shape(&self, batch: usize, channels: usize, spatial: &[usize]) -> Vec<usize> {
        let shape = self.format.from_n_c_hw(batch, channels, spatial).unwrap();
        shape.shape.to_vec()
    }

    fn kernel_shape(&self) -> Vec<usize> {
        let (o, i, g) = (self.outs_per_group, self.ins_per_group, self.groups);
        match self.kernel_format {
            KernelFormat::OIHW => [&[o * g, i], &self.kernel[..]].concat(),
            KernelFormat::HWIO => [&self.kernel[..], &[i * g, o]].concat(),
            KernelFormat::OHWI => [&[o], &self.kernel[..], &[i * g]].concat(),
        }
    }

    /// The shape of the input, with symbols.
    fn fact(&self, model: &TypedModel) -> TVec<TDim> {
        let ins = self.groups * self.ins_per_group;
        let symbol = |bit: usize, name: &str, extent: usize| {
            if self.symbols & bit != 0 { model.symbols.sym(name).to_dim() } else { extent.to_dim() }
        };
        let spatial: TVec<TDim> = self.spatial.iter().map(|extent| symbol(2, "S", *extent)).collect();
        self.format.from_n_c_hw(symbol(1, "N", self.batch), ins.to_dim(), spatial).unwrap().shape
    }

    fn model(&self) -> TractResult<(TypedModel, bool)> {
        let mut numbers = Numbers::new(self.seed);
        let (ins, outs) = (self.groups * self.ins_per_group, self.groups * self.outs_per_group);
        let mut model = TypedModel::default();
        let fact = self.fact(&model);
        let input = model.add_source("input", f32::fact(fact))?;
        let kernel = model.add_const("kernel", numbers.tensor(&self.kernel_shape()))?;
        let bias = match self.bias {
            0 => tensor0(0f32),
            1 => tensor0(numbers.next()),
            _ => numbers.tensor(&[outs]),
        };
        let bias = model.add_const("bias", bias)?;
        let conv = Conv {
            pool_spec: PoolSpec {
                data_format: self.format,
                kernel_shape: self.kernel.clone().into(),
                padding: self.padding(),
                dilations: Some(self.dilation.clone().into()),
                strides: Some(self.stride.clone().into()),
                input_channels: ins,
                output_channels: outs,
            },
            kernel_fmt: self.kernel_format,
            group: self.groups,
            q_params: None,
        };
        let mut wire = model.wire_node("conv", conv, &[input, kernel, bias])?;
        let mut second = false;
        for (at, follower) in self.followers.iter().enumerate() {
            wire = self.follow(&mut model, wire, (at, *follower), &mut numbers, &mut second)?;
        }
        model.select_output_outlets(&wire)?;
        Ok((model, second))
    }

    /// Adds one node after the convolution.
    fn follow(
        &self,
        model: &mut TypedModel,
        wire: TVec<OutletId>,
        (at, follower): (usize, usize),
        numbers: &mut Numbers,
        second: &mut bool,
    ) -> TractResult<TVec<OutletId>> {
        let name = format!("follower.{at}");
        let outs = self.groups * self.outs_per_group;
        let spatial = vec![1; self.kernel.len()];
        let per_channel = self.shape(1, outs, &spatial);
        let rank = per_channel.len();
        let constant = |model: &mut TypedModel, tensor: Tensor| {
            model.add_const(format!("{name}.constant"), tensor).map(|constant| tvec!(wire[0], constant))
        };
        let scalar = |value: f32| Tensor::from_shape(&vec![1; rank], &[value]);
        match follower {
            0 => constant(model, scalar(0.0)?).and_then(|wires| model.wire_node(&name, math::max(), &wires)),
            1 => constant(model, scalar(0.5)?).and_then(|wires| model.wire_node(&name, math::min(), &wires)),
            2 => {
                constant(model, scalar(-0.25)?).and_then(|wires| model.wire_node(&name, math::max(), &wires))
            }
            3 => constant(model, numbers.tensor(&per_channel))
                .and_then(|wires| model.wire_node(&name, math::add(), &wires)),
            4 => constant(model, numbers.tensor(&per_channel))
                .and_then(|wires| model.wire_node(&name, math::mul(), &wires)),
            5 => constant(model, numbers.tensor(&per_channel))
                .and_then(|wires| model.wire_node(&name, math::sub(), &[wires[1], wires[0]])),
            6 => constant(model, scalar(1.5)?).and_then(|wires| model.wire_node(&name, math::div(), &wires)),
            7 => model.wire_node(&name, nn::sigmoid(), &wire),
            8 => model.wire_node(&name, math::tanh(), &wire),
            9 => model.wire_node(&name, nn::silu::silu(), &wire),
            10 => model.wire_node(&name, nn::hard_swish(), &wire),
            11 => model.wire_node(&name, nn::leaky_relu(0.1), &wire),
            12 if !*second => {
                *second = true;
                let fact = model.outlet_fact(wire[0])?.clone();
                let residual = model.add_source("residual", fact)?;
                model.wire_node(&name, math::add(), &[residual, wire[0]])
            }
            _ => {
                // Two readers: nothing after this can be fused.
                let doubled = model.wire_node(format!("{name}.square"), math::square(), &wire)?;
                model.wire_node(&name, math::add(), &[doubled[0], wire[0]])
            }
        }
    }

    /// Inputs in several sizes if the model has symbols.
    fn inputs(&self, model: &TypedModel, second: bool) -> Vec<TVec<Tensor>> {
        let mut numbers = Numbers::new(self.seed ^ 1);
        let ins = self.groups * self.ins_per_group;
        let sizes = if self.symbols == 0 { vec![0] } else { vec![0, 3, 1] };
        let mut inputs = vec![];
        for more in sizes {
            let batch = self.batch + if self.symbols & 1 != 0 { more } else { 0 };
            // One symbol stands for all spatial axes.
            let size = |extent: usize| if self.symbols & 2 != 0 { self.spatial[0] + more } else { extent };
            let spatial: Vec<usize> = self.spatial.iter().map(|extent| size(*extent)).collect();
            if !self.fits(&spatial) {
                continue;
            }
            let mut tensors = tvec!(numbers.tensor(&self.shape(batch, ins, &spatial)));
            if second {
                let fact = model.input_fact(1).unwrap();
                let symbols = SymbolValues::default()
                    .with(&model.symbols.sym("N"), batch as i64)
                    .with(&model.symbols.sym("S"), spatial[0] as i64);
                let shape: Vec<usize> =
                    fact.shape.iter().map(|dim| dim.eval_to_i64(&symbols).unwrap() as usize).collect();
                tensors.push(numbers.tensor(&shape));
            }
            inputs.push(tensors);
        }
        inputs
    }
}

/// proptest's defaults, with failed cases kept in `random.regressions`, beside this file.
fn config() -> ProptestConfig {
    let beside = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { failure_persistence: Some(Box::new(beside)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Every random problem gives tract's output, and most of them are replaced.
    #[test]
    fn random_convolutions_agree(problem in problem()) {
        let (model, second) = problem.model().unwrap();
        let inputs = problem.inputs(&model, second);
        let report = check(model, &inputs);
        // With one image of one pixel, declutter makes the residual a bias. With one channel, it makes the
        // convolution a product without channels.
        let expected = |reason: &str| match reason {
            "the biases are not constant" => second,
            "a product with other axes than a 1x1 convolution has" => {
                problem.groups * problem.ins_per_group.min(problem.outs_per_group) == 1
            }
            _ => false,
        };
        prop_assert!(report.fell_back.iter().all(|node| expected(&node.reason)), "{report}");
        prop_assert!(report.replaced.len() + report.fell_back.len() > 0);
    }
}
