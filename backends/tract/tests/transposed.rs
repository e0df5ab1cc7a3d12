//! Random transposed convolutions against tract's own.

mod common;

use common::{Numbers, check};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tract_core::internal::*;
use tract_core::ops::cnn::{Deconv, KernelFormat, PaddingSpec, PoolSpec};
use tract_core::ops::math;
use tract_core::ops::nn::DataFormat;

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
    adjustments: Vec<usize>,
    format: DataFormat,
    bias: usize,
    /// Bits: the batch is a symbol, the image size is a symbol.
    symbols: usize,
    relu: bool,
}

fn problem() -> impl Strategy<Value = Problem> {
    let axes = |range: std::ops::Range<usize>, rank| prop::collection::vec(range, rank);
    (1..=2usize).prop_flat_map(move |rank| {
        let groups = prop_oneof![3 => Just(1), 1 => 1..20usize];
        let shape = (1..4usize, axes(1..10, rank), groups, 1..20usize, 1..20usize);
        let kernel = (axes(1..6, rank), axes(1..5, rank), axes(1..4, rank));
        let edges = (0..4usize, axes(0..4, 2 * rank), axes(0..4, rank));
        let rest = (0..4usize, 0..3usize, 0..4usize, any::<bool>());
        (any::<u64>(), shape, kernel, edges, rest).prop_map(|(seed, shape, kernel, edges, rest)| {
            let (batch, spatial, groups, ins_per_group, outs_per_group) = shape;
            let (kernel, stride, dilation) = kernel;
            let (padding, pads, adjustments) = edges;
            let (format, bias, symbols, relu) = rest;
            Problem {
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
                adjustments,
                format: [DataFormat::NCHW, DataFormat::NHWC, DataFormat::CHW, DataFormat::HWC][format],
                bias,
                symbols,
                relu,
            }
        })
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

    /// Whether tract computes it: there is an output, and no subtraction in its sizes goes below zero.
    fn is_valid(&self) -> bool {
        let rank = self.kernel.len();
        (0..rank).all(|axis| {
            let reach = (self.kernel[axis] - 1) * self.dilation[axis];
            match self.padding {
                0 => true,
                1 => {
                    let cut = self.pads[axis] + self.pads[axis + rank];
                    (self.spatial[axis] - 1) * self.stride[axis] + reach + 1 > cut
                }
                _ => {
                    reach >= self.stride[axis]
                        && self.spatial[axis] * self.stride[axis] > self.adjustments[axis]
                }
            }
        })
    }

    /// Whether the library takes this much output padding.
    fn is_ours(&self) -> bool {
        let rank = self.kernel.len();
        (0..rank).all(|axis| {
            let after = match self.padding {
                0 => 0,
                1 => self.pads[axis + rank],
                _ => return true,
            };
            self.adjustments[axis] < after + self.stride[axis].max(self.dilation[axis])
        })
    }

    fn shape(&self, batch: usize, channels: usize, spatial: &[usize]) -> Vec<usize> {
        self.format.from_n_c_hw(batch, channels, spatial).unwrap().shape.to_vec()
    }

    fn model(&self) -> TractResult<TypedModel> {
        let mut numbers = Numbers::new(self.seed);
        let (ins, outs) = (self.groups * self.ins_per_group, self.groups * self.outs_per_group);
        let mut model = TypedModel::default();
        let symbol = |bit: usize, name: &str, extent: usize| {
            if self.symbols & bit != 0 { model.symbols.sym(name).to_dim() } else { extent.to_dim() }
        };
        let spatial: TVec<TDim> = self.spatial.iter().map(|extent| symbol(2, "S", *extent)).collect();
        let fact = self.format.from_n_c_hw(symbol(1, "N", self.batch), ins.to_dim(), spatial)?.shape;
        let input = model.add_source("input", f32::fact(fact))?;
        let kernel_shape = [&[outs, self.ins_per_group], &self.kernel[..]].concat();
        let kernel = model.add_const("kernel", numbers.tensor(&kernel_shape))?;
        let bias = match self.bias {
            0 => tensor0(0f32),
            1 => tensor0(numbers.next()),
            _ => numbers.tensor(&[outs]),
        };
        let bias = model.add_const("bias", bias)?;
        let deconv = Deconv {
            pool_spec: PoolSpec {
                data_format: self.format,
                kernel_shape: self.kernel.clone().into(),
                padding: self.padding(),
                dilations: Some(self.dilation.clone().into()),
                strides: Some(self.stride.clone().into()),
                input_channels: ins,
                output_channels: outs,
            },
            kernel_format: KernelFormat::OIHW,
            adjustments: self.adjustments.clone().into(),
            group: self.groups,
        };
        let mut wire = model.wire_node("deconv", deconv, &[input, kernel, bias])?;
        if self.relu {
            let ones = vec![1; self.shape(1, 1, &self.spatial).len()];
            let zero = model.add_const("zero", Tensor::zero::<f32>(&ones)?)?;
            wire = model.wire_node("relu", math::max(), &[wire[0], zero])?;
        }
        model.select_output_outlets(&wire)?;
        Ok(model)
    }

    /// Inputs in several sizes if the model has symbols. One symbol stands for all spatial axes.
    fn inputs(&self) -> Vec<TVec<Tensor>> {
        let mut numbers = Numbers::new(self.seed ^ 1);
        let sizes = if self.symbols == 0 { vec![0] } else { vec![0, 3, 1] };
        let tensors = sizes.into_iter().filter_map(|more| {
            let batch = self.batch + if self.symbols & 1 != 0 { more } else { 0 };
            let size = |extent: usize| if self.symbols & 2 != 0 { self.spatial[0] + more } else { extent };
            let spatial: Vec<usize> = self.spatial.iter().map(|extent| size(*extent)).collect();
            let sized = Self { spatial: spatial.clone(), ..self.clone() };
            let shape = self.shape(batch, self.groups * self.ins_per_group, &spatial);
            sized.is_valid().then(|| tvec!(numbers.tensor(&shape)))
        });
        tensors.collect()
    }
}

/// proptest's defaults, with failed cases kept in `transposed.regressions`, beside this file.
fn config() -> ProptestConfig {
    let beside = FileFailurePersistence::WithSource("regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(beside)),
        max_global_rejects: 20_000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// Every random problem gives tract's output. It is replaced unless the output padding exceeds a stride and a dilation.
    #[test]
    fn random_transposed_convolutions_agree(problem in problem()) {
        prop_assume!(problem.is_valid());
        let report = check(problem.model().unwrap(), &problem.inputs());
        let kept: Vec<_> = report.fell_back.iter().map(|node| &node.reason).collect();
        let expected = "a transposed convolution whose output padding exceeds a stride and a dilation";
        if problem.is_ours() {
            prop_assert!(kept.is_empty(), "{report}");
            prop_assert!(!report.replaced.is_empty(), "{report}");
        } else {
            prop_assert_eq!(kept, [expected]);
        }
    }
}
