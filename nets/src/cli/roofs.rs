//! What this machine can do at best, measured.

use super::cpu;
use kernels::{
    Algorithm, ConvDesc, ConvIo, ConvPlan, Isa, Layout, PlanOptions, Profile, Shape4, Size2, TensorMut,
    TensorRef, Threads, Weights, Workspace,
};
use nets::NetError;
use rayon::ThreadPool;
use std::time::{Duration, Instant};

pub(super) const MULTIPLY_ADDS: &str = "multiply-adds";
pub(super) const BF16: &str = "bf16 products";

/// The roofline of some threads (S. Williams, A. Waterman and D. Patterson, "Roofline", 2009).
#[derive(Debug, Clone, Copy)]
pub(super) struct Roofs {
    /// 10^9 operations per second.
    pub(super) gflops: f64,
    /// What is so fast.
    pub(super) arithmetic: &'static str,
    /// 10^9 operations per second of bf16 products, if the machine has a unit for them.
    pub(super) bf16_gflops: Option<f64>,
    /// 10^9 bytes per second from memory.
    pub(super) gbs: f64,
}

impl Roofs {
    /// Measures this machine, in less than 300 ms.
    pub(super) fn measure(isa: Isa, threads: usize) -> Result<Self, NetError> {
        let profile = Profile::measure(isa)?;
        let threads = threads.min(profile.cores) as u64;
        let mbs = (threads * profile.dram_mbs).min(profile.dram_mbs_all.max(profile.dram_mbs));
        let gflops = |mflops: u64| (threads * mflops) as f64 / 1e3;
        Ok(Self {
            gflops: gflops(profile.fma_mflops),
            arithmetic: MULTIPLY_ADDS,
            bf16_gflops: cpu::bf16_unit(isa).map(|_| gflops(profile.bf16_mflops)),
            gbs: mbs as f64 / 1e3,
        })
    }

    /// 10^9 operations per second that so many operations per byte allow.
    pub(super) fn at(&self, intensity: f64) -> f64 {
        (intensity * self.gbs).min(self.gflops)
    }

    /// Operations per byte from which on memory does not bound.
    pub(super) fn ridge(&self) -> f64 {
        self.gflops / self.gbs
    }
}

/// What the library's own 3x3 convolution reaches on all threads at once with everything in the first cache levels: some
/// 95 % of what fused multiply-adds in registers would. It is measured for `time`.
pub(super) fn convolution_gflops(
    isa: Isa,
    pool: Option<&ThreadPool>,
    time: Duration,
) -> Result<f64, NetError> {
    let one = || in_cache(isa, time).map_err(NetError::from);
    match pool {
        None => one(),
        Some(pool) => pool.broadcast(|_| one()).into_iter().sum(),
    }
}

fn in_cache(isa: Isa, time: Duration) -> Result<f64, kernels::ConvError> {
    let layout = Layout::Nchw16c;
    let desc = ConvDesc::builder(Shape4::new(1, 64, 16, 16), 32, Size2::square(3)).layout(layout).build()?;
    let filter = vec![0.01; desc.filter_len()];
    let options = PlanOptions::default().isa(isa).max_threads(1).force(Algorithm::Direct);
    let plan = ConvPlan::new(&desc, Weights::filter(&filter), &options)?;
    let mut workspace = Workspace::for_req(plan.workspace_req())?;
    let input = kernels::Buffer::zeroed(desc.input().len(layout)?)?;
    let mut output = kernels::Buffer::zeroed(desc.output().len(layout)?)?;
    let (start, mut best) = (Instant::now(), f64::MAX);
    while start.elapsed() < time {
        let turn = Instant::now();
        for _ in 0..20 {
            let io = ConvIo::new(
                TensorRef::packed(&input, desc.input(), layout)?,
                TensorMut::packed(&mut output, desc.output(), layout)?,
            );
            plan.run(io, &mut workspace, Threads::Seq)?;
        }
        best = best.min(turn.elapsed().as_secs_f64() / 20.0);
    }
    Ok(desc.cost().flops as f64 / best / 1e9)
}
