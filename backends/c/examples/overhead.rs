//! What a call through the C interface costs, compared with the same call in Rust:
//! `cargo run --release -p convkernels-c --example overhead`.
//!
//! The two run in turn in every round, on the same tensors and the same plan options. Their outputs must have the same
//! bits.

use convkernels::*;
use kernels::{
    Buffer, ConvDesc, ConvIo, ConvPlan, Pad2, PlanOptions, Shape4, Size2, TensorMut, TensorRef, Threads,
};
use kernels::{Weights, Workspace};
use std::mem::{MaybeUninit, zeroed};
use std::ptr;
use std::time::Instant;

const ROUNDS: usize = 101;

struct Layer {
    name: &'static str,
    channels: usize,
    side: usize,
    kernel: usize,
    /// Calls per round.
    calls: usize,
}

const LAYERS: [Layer; 3] = [
    Layer { name: "one multiplication", channels: 1, side: 1, kernel: 1, calls: 5000 },
    Layer { name: "16 channels, 8x8, 3x3", channels: 16, side: 8, kernel: 3, calls: 500 },
    Layer { name: "64 channels, 56x56, 3x3", channels: 64, side: 56, kernel: 3, calls: 2 },
];

fn main() {
    let rayon_pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
    let mut ck_pool = ptr::null_mut();
    // SAFETY: the pointers are valid.
    let status = unsafe { ck_pool_create(2, &mut ck_pool, ptr::null_mut()) };
    assert_eq!(status, ck_status::Success);
    // SAFETY: null pointers and zeros are valid in this struct.
    let mut on_pool: ck_threads = unsafe { zeroed() };
    on_pool.pool = ck_pool;

    println!("{ROUNDS} rounds, ns per call, median (minimum)");
    println!("{:24} {:>7} {:>21} {:>21} {:>11}", "layer", "threads", "Rust", "C", "difference");
    for layer in &LAYERS {
        measure(layer, 1, Threads::Seq, ptr::null());
        measure(layer, 2, Threads::Pool(&rayon_pool), &on_pool);
    }
    // SAFETY: no run uses the pool any more.
    unsafe { ck_pool_destroy(ck_pool) };
}

fn measure(layer: &Layer, threads: usize, rust_threads: Threads<'_>, c_threads: *const ck_threads) {
    let desc = rust_desc(layer);
    let filter: Vec<f32> = (0..desc.filter_len()).map(|i| (i % 7) as f32 - 3.0).collect();
    let options = PlanOptions::default().max_threads(threads);
    let plan = ConvPlan::new(&desc, Weights::filter(&filter), &options).expect("a plan");
    let mut workspace = Workspace::for_req(plan.workspace_req()).expect("a workspace");
    let c_plan = c_plan(layer, &filter, threads);

    let len = layer.channels * layer.side * layer.side;
    let input: Vec<f32> = (0..len).map(|i| (i % 5) as f32 - 2.0).collect();
    // Both write to the same memory, so that its place in the caches makes no difference.
    let mut output = Buffer::copy_of(&vec![f32::NAN; len]).expect("a buffer");
    // SAFETY: null pointers and zeros are valid in this struct.
    let mut io: ck_io = unsafe { zeroed() };
    (io.input.data, io.input.len) = (input.as_ptr(), len);

    let (mut rust, mut c, mut rust_output) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        rust.push(nanoseconds(layer.calls, || {
            let io = ConvIo::new(
                TensorRef::packed(&input, desc.input(), desc.layout()).expect("an input"),
                TensorMut::packed(&mut output, desc.output(), desc.layout()).expect("an output"),
            );
            plan.run(io, &mut workspace, rust_threads).expect("a run");
        }));
        rust_output = output.to_vec();
        output.fill(f32::NAN);
        (io.output.data, io.output.len) = (output.as_mut_ptr(), len);
        let scratch = workspace.as_mut_slice();
        c.push(nanoseconds(layer.calls, || {
            let (start, bytes) = (scratch.as_mut_ptr().cast(), size_of_val(scratch));
            let mut error = MaybeUninit::uninit();
            // SAFETY: the tensors and the workspace are valid and apart.
            let status = unsafe { ck_plan_run(c_plan, &io, start, bytes, c_threads, error.as_mut_ptr()) };
            assert_eq!(status, ck_status::Success);
        }));
    }
    // SAFETY: the plan is not used again.
    unsafe { ck_plan_destroy(c_plan) };
    let same = rust_output.iter().zip(output.iter()).all(|(one, other)| one.to_bits() == other.to_bits());
    assert!(same, "{}: the outputs differ", layer.name);

    let (rust, c) = (Times::of(rust), Times::of(c));
    println!("{:24} {threads:>7} {rust} {c} {:>8.0} ns", layer.name, c.median - rust.median);
}

fn rust_desc(layer: &Layer) -> ConvDesc {
    let input = Shape4::new(1, layer.channels, layer.side, layer.side);
    let builder = ConvDesc::builder(input, layer.channels, Size2::square(layer.kernel));
    builder.pad(Pad2::all(layer.kernel / 2)).build().expect("a valid layer")
}

fn c_plan(layer: &Layer, filter: &[f32], threads: usize) -> *mut ck_plan {
    let (mut desc, mut plan) = (MaybeUninit::<ck_conv_desc>::uninit(), ptr::null_mut());
    // SAFETY: the pointers are valid, and `ck_conv_desc_init` initialises the descriptor. Null pointers and zeros are
    // valid in `ck_weights`.
    unsafe {
        ck_conv_desc_init(desc.as_mut_ptr(), size_of::<ck_conv_desc>(), ptr::null_mut());
        let mut desc = desc.assume_init();
        (desc.batch, desc.max_threads) = (1, threads);
        (desc.channels, desc.out_channels) = (layer.channels, layer.channels);
        (desc.height, desc.width) = (layer.side, layer.side);
        (desc.kernel_h, desc.kernel_w) = (layer.kernel, layer.kernel);
        let pad = layer.kernel / 2;
        (desc.pad_top, desc.pad_bottom, desc.pad_left, desc.pad_right) = (pad, pad, pad, pad);
        let mut weights: ck_weights = zeroed();
        (weights.filter, weights.filter_len) = (filter.as_ptr(), filter.len());
        let status = ck_plan_create_with_weights(&desc, &weights, &mut plan, ptr::null_mut());
        assert_eq!(status, ck_status::Success);
    }
    plan
}

fn nanoseconds(calls: usize, mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        call();
    }
    start.elapsed().as_secs_f64() * 1e9 / calls as f64
}

struct Times {
    median: f64,
    least: f64,
}

impl Times {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self { median: times[times.len() / 2], least: times[0] }
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>10.0} ({:>8.0})", self.median, self.least)
    }
}
