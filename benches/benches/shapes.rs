//! Times plans for new shapes of one layer through `Conv`: fifty batch and image sizes, on one thread and on eight at
//! once, after every size was seen once and the weights are packed. Run `cargo bench --bench shapes`; `-- --test` does
//! everything once. It fails if the memory grows from one round to the next, or if an output differs from that of a plan
//! of its own.

use anyhow::ensure;
use benches::layers::{LayerSpec, SAMPLE, by_id};
use benches::turns::median;
use benches::values;
use kernels::{Conv, ConvDesc, ConvError, Filter, FilterShape, Layout, Shape4, TensorRef, Threads, Weights};
use std::time::Instant;

const SHAPES: usize = 50;

fn main() -> anyhow::Result<()> {
    let rounds = if std::env::args().any(|argument| argument == "--test") { 2 } else { 40 };
    println!(
        "plans for {SHAPES} shapes, microseconds, {rounds} rounds; forms and KB of packed weights after them"
    );
    println!(
        "{:<22} {:>8} {:>8} {:>8} {:>12} {:>12} {:>6} {:>9}",
        "layer", "median", "p99", "most", "median of 8", "p99 of 8", "forms", "KB"
    );
    for id in SAMPLE {
        of_layer(by_id(id), rounds)?;
    }
    Ok(())
}

/// Batches of 1 to 5 images, from three quarters to one and a half of the layer's own size.
fn shapes(spec: &LayerSpec) -> Vec<Shape4> {
    let side = |extent: usize, i: usize| (extent * (75 + 3 * i % 76) / 100).max(8);
    (0..SHAPES).map(|i| Shape4::new(1 + i % 5, spec.c, side(spec.h, i), side(spec.w, i + 7))).collect()
}

fn of_layer(spec: &LayerSpec, rounds: usize) -> anyhow::Result<()> {
    let desc: ConvDesc = spec.builder().layout(Layout::Nchw).build()?;
    let shape = FilterShape::from(&desc);
    let weights = values(shape.elements()?, 1);
    let builder = Conv::builder(Filter::new(shape, Weights::filter(&weights))?);
    let conv = builder.stride(desc.stride()).pad(desc.pad()).plans(SHAPES).build()?;
    let shapes = shapes(spec);
    let plan_all = || -> Result<Vec<f64>, ConvError> {
        let timed = |&shape: &Shape4| {
            let start = Instant::now();
            conv.plan(shape, Threads::Seq)?;
            Ok(1e6 * start.elapsed().as_secs_f64())
        };
        shapes.iter().map(timed).collect()
    };
    plan_all()?;
    let bytes = conv.bytes();
    let mut alone = Vec::new();
    for _ in 0..rounds {
        conv.clear();
        alone.extend(plan_all()?);
    }
    let mut together = Vec::new();
    for _ in 0..rounds.div_ceil(8) {
        conv.clear();
        together.extend(on_eight_threads(&plan_all)?);
    }
    ensure!(conv.bytes() == bytes, "{}: {bytes} bytes before, {} after", spec.id, conv.bytes());
    check(&conv, shapes[0], &weights, &desc)?;
    let (forms, kilobytes) = (conv.filter().packed_forms(), conv.filter().packed_bytes() / 1024);
    println!(
        "{:<22} {:>8.1} {:>8.1} {:>8.1} {:>12.1} {:>12.1} {forms:>6} {kilobytes:>9}",
        spec.id,
        median(&alone),
        percentile(&alone, 0.99),
        percentile(&alone, 1.0),
        median(&together),
        percentile(&together, 0.99),
    );
    Ok(())
}

fn on_eight_threads(work: &(impl Fn() -> Result<Vec<f64>, ConvError> + Sync)) -> anyhow::Result<Vec<f64>> {
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("planning does not panic")).collect()
    });
    let times: Result<Vec<Vec<f64>>, ConvError> = results.into_iter().collect();
    Ok(times?.concat())
}

fn percentile(times: &[f64], part: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[((times.len() - 1) as f64 * part) as usize]
}

/// Compares an output with that of a plan of its own, forced to the same algorithm.
fn check(conv: &Conv<'_>, shape: Shape4, weights: &[f32], desc: &ConvDesc) -> anyhow::Result<()> {
    let input = values(shape.len(Layout::Nchw)?, 2);
    let got = conv.run(TensorRef::packed(&input, shape, Layout::Nchw)?, Threads::Seq)?;
    let builder = ConvDesc::builder(shape, desc.output().c, desc.kernel()).groups(desc.groups());
    let desc = builder.stride(desc.stride()).pad(desc.pad()).build()?;
    let expected = kernels::conv2d(&desc, &input, Weights::filter(weights))?;
    let far = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-4 * b.abs().max(1.0);
    ensure!(!got.iter().zip(&expected).any(far), "another output: {desc}");
    Ok(())
}
