//! Times 3-D layers and a stack of WaveNet, warm, on one thread: forward and both gradients, in NCDHW and in the layout of
//! slices. Before a layer is timed, some of its results are compared with sums in `f64`. Run `cargo bench -p benches --bench
//! volumes`; elements per second are FLOP/s.

use benches::values;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kernels::{
    BackwardData3d, BackwardData3dIo, BackwardWeights3d, BackwardWeights3dIo, Conv1dDesc, Conv1dPlan,
    Conv3dDesc, Conv3dIo, Conv3dPlan, ConvError, ConvIo, DataSpec, Layout, Pad1, Pad3, PlanOptions, Shape3,
    Shape5, Size3, TensorMut, TensorRef, Threads, VolumeLayout, VolumeMut, VolumeRef, Weights, WeightsSpec,
    Workspace, WorkspaceReq,
};
use std::time::Duration;

/// Inputs and output channels of 3x3x3 layers with padding 1: layers of U-nets, of C3D (Tran et al. 2015), and the first layer of
/// a medical network.
const LAYERS: [(&str, Shape5, usize); 6] = [
    ("32_32_32^3", Shape5::new(1, 32, 32, 32, 32), 32),
    ("32_32_32^3_batch_2", Shape5::new(2, 32, 32, 32, 32), 32),
    ("64_64_32^3", Shape5::new(1, 64, 32, 32, 32), 64),
    ("64_64_32^3_batch_2", Shape5::new(2, 64, 32, 32, 32), 64),
    ("c3d_64_128_16x56x56", Shape5::new(1, 64, 16, 56, 56), 128),
    ("medical_1_32_64^3", Shape5::new(1, 1, 64, 64, 64), 32),
];

/// Relative error from which a result is wrong.
const WRONG: f64 = 1e-4;

/// The operands of a layer.
struct Operands {
    desc: Conv3dDesc,
    x: Vec<f32>,
    w: Vec<f32>,
    y: Vec<f32>,
}

impl Operands {
    fn new(input: Shape5, out_channels: usize, layout: VolumeLayout) -> Result<Self, ConvError> {
        let from = if input.c == 1 { VolumeLayout::Ncdhw } else { layout };
        let builder = Conv3dDesc::builder(input, out_channels, Size3::cube(3)).pad(Pad3::all(1));
        let desc = builder.layout(from).output_layout(layout).build()?;
        let (x, w) = (values(desc.input().len(from)?, 1), values(desc.filter_len(), 2));
        Ok(Self { x, w, y: vec![0.0; desc.output().len(layout)?], desc })
    }

    fn flops(&self) -> u64 {
        let Shape5 { n, c, d, h, w } = self.desc.output();
        2 * (n * d * h * w) as u64 * (self.w.len() / c) as u64 * c as u64
    }

    /// Compares some outputs of the middle and of a corner with the definition.
    fn assert_right(&self) -> Result<(), ConvError> {
        let (desc, input) = (&self.desc, self.desc.input());
        let x = VolumeRef::packed(&self.x, input, desc.layout())?;
        let y = VolumeRef::packed(&self.y, desc.output(), desc.output_layout())?;
        for [z, row, column] in [[0, 0, 0], [input.d / 2, input.h / 2, input.w / 2], [input.d - 1, 1, 0]] {
            for o in [0, desc.output().c - 1] {
                let (mut sum, mut magnitude) = (0.0, 0.0);
                for tap in 0..input.c * 27 {
                    let (c, k) = (tap / 27, [tap / 9 % 3, tap / 3 % 3, tap % 3]);
                    let [a, b, e] = [z + k[0], row + k[1], column + k[2]].map(|place| place.wrapping_sub(1));
                    if a < input.d && b < input.h && e < input.w {
                        let product = f64::from(self.x[x.offset(0, c, a, b, e)])
                            * f64::from(self.w[o * input.c * 27 + tap]);
                        (sum, magnitude) = (sum + product, magnitude + product.abs());
                    }
                }
                let error = (f64::from(self.y[y.offset(0, o, z, row, column)]) - sum).abs();
                assert!(error <= WRONG * magnitude, "{desc}: off by {error:e} of {magnitude:e}");
            }
        }
        Ok(())
    }
}

impl Operands {
    /// `<conv(x, w), y> = <x, data(y)> = <w, weights(x, y)>`, where y is the output.
    fn assert_adjoint(&self, gx: &[f32], gw: &[f32]) {
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let size = dot(&self.y, &self.y);
        for (what, other) in [("data", dot(&self.x, gx)), ("weights", dot(&self.w, gw))] {
            let error = (size - other).abs();
            assert!(error <= WRONG * size, "{}, {what}: {size} and {other}", self.desc);
        }
    }
}

/// Checks the three plans of a layer, and times them.
fn layer(criterion: &mut Criterion, name: &str, operands: &mut Operands) -> Result<(), ConvError> {
    let (desc, options) = (operands.desc, PlanOptions::default());
    let (from, to, flops) = (desc.layout(), desc.output_layout(), operands.flops());
    let forward = Conv3dPlan::new(&desc, Weights::filter(&operands.w), &options)?;
    let data = BackwardData3d::new(&desc, &operands.w, DataSpec::default(), &options)?;
    let weights = BackwardWeights3d::new(&desc, &WeightsSpec::default(), &options)?;
    let req = [data.workspace_req(), weights.workspace_req()];
    let mut workspace =
        Workspace::for_req(req.into_iter().fold(forward.workspace_req(), WorkspaceReq::union))?;
    let run_forward = |operands: &mut Operands, workspace: &mut Workspace| {
        let input = VolumeRef::packed(&operands.x, desc.input(), from)?;
        let output = VolumeMut::packed(&mut operands.y, desc.output(), to)?;
        forward.run(Conv3dIo::new(input, output), workspace, Threads::Seq)
    };
    let run_data = |operands: &Operands, gx: &mut [f32], workspace: &mut Workspace| {
        let grad_output = VolumeRef::packed(&operands.y, desc.output(), to)?;
        let grad_input = VolumeMut::packed(gx, desc.input(), from)?;
        data.run(BackwardData3dIo::new(grad_output, grad_input), workspace, Threads::Seq)
    };
    let run_weights = |operands: &Operands, gw: &mut [f32], workspace: &mut Workspace| {
        let input = VolumeRef::packed(&operands.x, desc.input(), from)?;
        let grad_output = VolumeRef::packed(&operands.y, desc.output(), to)?;
        weights.run(BackwardWeights3dIo::new(input, grad_output, gw), workspace, Threads::Seq)
    };
    run_forward(operands, &mut workspace)?;
    operands.assert_right()?;
    let (mut gx, mut gw) = (operands.x.clone(), operands.w.clone());
    run_data(operands, &mut gx, &mut workspace)?;
    run_weights(operands, &mut gw, &mut workspace)?;
    operands.assert_adjoint(&gx, &gw);
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(flops));
    group.bench_function(BenchmarkId::new("forward", to), |bencher| {
        bencher.iter(|| run_forward(operands, &mut workspace).expect("a valid run"));
    });
    group.bench_function(BenchmarkId::new("data", to), |bencher| {
        bencher.iter(|| run_data(operands, &mut gx, &mut workspace).expect("a valid run"));
    });
    group.bench_function(BenchmarkId::new("weights", to), |bencher| {
        bencher.iter(|| run_weights(operands, &mut gw, &mut workspace).expect("a valid run"));
    });
    group.finish();
    Ok(())
}

fn layers(criterion: &mut Criterion) {
    for (name, input, out_channels) in LAYERS {
        for layout in [VolumeLayout::Ncdhw, VolumeLayout::Ndchw16c] {
            let timed = Operands::new(input, out_channels, layout)
                .and_then(|mut operands| layer(criterion, name, &mut operands));
            timed.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

/// Ten layers of WaveNet (van den Oord et al. 2016): 64 channels, two taps, dilations from 1 to 512, causal.
fn wavenet(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wavenet_10x64x16000");
    group.throughput(Throughput::Elements(10 * 2 * 64 * 64 * 2 * 16_000));
    for layout in [Layout::Nchw, Layout::Nchw16c] {
        let plans: Result<Vec<_>, ConvError> = (0..10)
            .map(|layer| {
                let builder = Conv1dDesc::builder(Shape3::new(1, 64, 16_000), 64, 2).layout(layout);
                let desc = builder.dilation(1 << layer).pad(Pad1::causal(2, 1 << layer)).build()?;
                // So small that the signal neither grows nor vanishes.
                let filter: Vec<f32> =
                    values(desc.filter_len(), 3).iter().map(|value| 0.15 * value).collect();
                Conv1dPlan::new(&desc, Weights::filter(&filter), &PlanOptions::default())
            })
            .collect();
        let plans = plans.expect("valid layers");
        let req = plans.iter().fold(WorkspaceReq::default(), |req, plan| req.union(plan.workspace_req()));
        let mut workspace = Workspace::for_req(req).expect("memory");
        let start = values(64 * 16_000, 1);
        let (mut x, mut y) = (start.clone(), start.clone());
        group.bench_function(BenchmarkId::new("forward", layout), |bencher| {
            bencher.iter(|| {
                x.copy_from_slice(&start);
                for plan in &plans {
                    let shape = plan.desc().input().into();
                    let input = TensorRef::packed(&x, shape, layout).expect("it fits");
                    let output = TensorMut::packed(&mut y, shape, layout).expect("it fits");
                    plan.run(ConvIo::new(input, output), &mut workspace, Threads::Seq).expect("a valid run");
                    std::mem::swap(&mut x, &mut y);
                }
            });
        });
        assert!(x.iter().all(|value| value.is_finite()) && x.iter().any(|value| *value != 0.0));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(700));
    targets = layers, wavenet
}
criterion_main!(benches);
