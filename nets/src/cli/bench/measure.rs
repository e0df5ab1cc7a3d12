//! Runs a network repeatedly, and reads the clock after each layer.

use crate::cli::roofs;
use crate::cli::timing::{median, noise};
use kernels::{Isa, Products, Threads};
use nets::{CompiledNet, NetError, StepReport};
use rayon::ThreadPool;
use std::time::{Duration, Instant};

/// How long the roof is measured.
const ROOF: Duration = Duration::from_millis(200);
/// Minimum number of passes.
const FEWEST: usize = 5;

/// The measurement with one batch size and number of threads.
pub(super) struct Measured {
    pub(super) batch: usize,
    pub(super) threads: usize,
    pub(super) isa: Isa,
    /// Milliseconds of the passes, ascending.
    pub(super) passes: Vec<f64>,
    pub(super) layers: Vec<Layer>,
    /// The roof of all threads together, in 10^9 operations per second.
    pub(super) roof_gflops: f64,
    pub(super) activation_bytes: usize,
    pub(super) workspace_bytes: usize,
    pub(super) packed_bytes: usize,
    /// Milliseconds from the stored weights to a runnable network.
    pub(super) compile_ms: f64,
    /// Peak memory of the process until now, including earlier measurements.
    pub(super) peak_bytes: Option<u64>,
}

/// The times of one step.
pub(super) struct Layer {
    pub(super) step: StepReport,
    /// Milliseconds, median of the passes.
    pub(super) ms: f64,
    /// Start and duration in the fastest pass.
    pub(super) span: (Duration, Duration),
}

impl Measured {
    pub(super) fn least(&self) -> f64 {
        self.passes[0]
    }

    pub(super) fn median(&self) -> f64 {
        median(&self.passes)
    }

    /// 10^9 operations per second of a layer, by its multiply-accumulates.
    pub(super) fn gflops(&self, layer: &Layer) -> Option<f64> {
        let flops = 2.0 * layer.step.macs as f64 * self.batch as f64;
        (flops > 0.0 && layer.ms > 0.0).then(|| flops / layer.ms / 1e6)
    }

    /// Whether any layer multiplies bf16 numbers.
    pub(super) fn has_bf16(&self) -> bool {
        let is_bf16 = |layer: &Layer| layer.step.products.is_some_and(|products| products != Products::F32);
        self.layers.iter().any(is_bf16)
    }

    /// Per cent of a pass in layers that are neither convolutions nor fully connected.
    pub(super) fn outside(&self) -> f64 {
        100.0 * self.outside_ms() / self.layers_ms()
    }

    /// Milliseconds of a pass in layers that are neither convolutions nor fully connected.
    pub(super) fn outside_ms(&self) -> f64 {
        self.layers.iter().filter(|layer| layer.step.macs == 0).map(|layer| layer.ms).sum()
    }

    /// Milliseconds of all layers.
    pub(super) fn layers_ms(&self) -> f64 {
        self.layers.iter().map(|layer| layer.ms).sum()
    }
}

/// Runs `net`, which was compiled in `compile_ms`, on noise: one pass to warm up, then passes for about `time`.
pub(super) fn measure(
    (net, compile_ms): (&CompiledNet, f64),
    pool: Option<&ThreadPool>,
    time: Duration,
) -> Result<Measured, NetError> {
    let threads = pool.map_or(Threads::Seq, Threads::Pool);
    let (mut memory, mut output) = (net.memory()?, vec![0.0; net.output_len()]);
    let input: Vec<f32> = noise(net.input_len()).collect();
    net.run(&input, &mut output, &mut memory, threads)?;

    let steps: Vec<StepReport> = net.steps().collect();
    let mut ends = vec![Instant::now(); steps.len()];
    let mut passes = Vec::new();
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); steps.len()];
    let mut best = (Duration::MAX, vec![(Duration::ZERO, Duration::ZERO); steps.len()]);
    let begin = Instant::now();
    while passes.len() < FEWEST || begin.elapsed() < time {
        let start = Instant::now();
        net.run_observed(&input, &mut output, &mut memory, threads, &mut |step| ends[step] = Instant::now())?;
        let whole = start.elapsed();
        let starts = std::iter::once(&start).chain(&ends);
        let spans = starts.zip(&ends).map(|(from, to)| (*from - start, *to - *from));
        let spans: Vec<(Duration, Duration)> = spans.collect();
        times.iter_mut().zip(&spans).for_each(|(times, span)| times.push(milliseconds(span.1)));
        if whole < best.0 {
            best = (whole, spans);
        }
        passes.push(milliseconds(whole));
    }
    passes.sort_by(f64::total_cmp);
    let layer = |((step, mut times), span): ((StepReport, Vec<f64>), (Duration, Duration))| {
        times.sort_by(f64::total_cmp);
        Layer { step, ms: median(&times), span }
    };
    let layers = steps.into_iter().zip(times).zip(best.1).map(layer).collect();
    let peak_bytes = nets::peak_bytes("self");
    let count = pool.map_or(1, ThreadPool::current_num_threads);
    let roof_gflops = roofs::convolution_gflops(net.isa(), pool, ROOF)?;
    Ok(Measured {
        batch: net.batch(),
        threads: count,
        isa: net.isa(),
        passes,
        layers,
        roof_gflops,
        activation_bytes: memory.activation_bytes(),
        workspace_bytes: memory.workspace_bytes(),
        packed_bytes: net.packed_bytes(),
        compile_ms,
        peak_bytes,
    })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
