//! Times 3-D layers and a stack of WaveNet, warm, on one thread: forward and both gradients, in NCDHW and in the layout of
//! slices. Before a layer is timed, some of its results are compared with sums in `f64`. Run `cargo bench -p benches --bench
//! volumes`; elements per second are FLOP/s.

use benches::direction::Direction;
use benches::problem::Numbers;
use benches::values;
use benches::volume::{VolumeLayer, VolumeProblem, VolumeSpec};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kernels::{
    Conv1dDesc, Conv1dPlan, ConvError, ConvIo, Layout, Numerics, Pad1, PlanOptions, Shape3, TensorMut,
    TensorRef, Threads, VolumeLayout, Weights, Workspace, WorkspaceReq,
};
use std::time::Duration;

/// The layers that are timed: of U-nets, of C3D, and the first layer of a medical network.
const LAYERS: [&str; 6] =
    ["unet3d.enc1", "unet3d.b2.enc1", "unet3d.enc2", "unet3d.b2.enc2", "c3d.conv2", "medical.first"];

/// Checks and times the three directions of a layer.
fn layer(criterion: &mut Criterion, spec: &VolumeSpec, layout: VolumeLayout) -> Result<(), ConvError> {
    let mut group = criterion.benchmark_group(&spec.id);
    group.throughput(Throughput::Elements(2 * spec.macs()));
    for direction in [Direction::Forward, Direction::Data, Direction::Weights] {
        let problem = VolumeProblem::new(spec, direction, Numbers::Uniform);
        let mut layer = VolumeLayer::new(&problem, layout, &PlanOptions::default())?;
        layer.run(Threads::Seq);
        let error = layer.errors().l2;
        // NaN is wrong, too.
        assert!(error <= problem.tolerance(Numerics::Default), "{}, {direction}: off by {error:e}", spec.id);
        group.bench_function(BenchmarkId::new(direction.name(), layout), |bencher| {
            bencher.iter(|| layer.run(Threads::Seq));
        });
    }
    group.finish();
    Ok(())
}

fn layers(criterion: &mut Criterion) {
    for id in LAYERS {
        for layout in [VolumeLayout::Ncdhw, VolumeLayout::Ndchw16c] {
            let timed = layer(criterion, VolumeSpec::by_id(id), layout);
            timed.unwrap_or_else(|error| panic!("{id}: {error}"));
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
