//! `run` allocates nothing: counted, for every algorithm, instruction set and layout, alone and inside a pool.

mod common;

use common::ConvProblem;
use kernels::{
    Activation, Algorithm, Buffer, ConvIo, EpilogueSpec, Isa, Layout, Pad2, PlanOptions, Shape4, Size2,
    TensorMut, TensorRef, Threads, Workspace,
};
use std::alloc::{GlobalAlloc, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of ten runs, of all threads.
fn allocations(problem: &ConvProblem, algorithm: Algorithm, isa: Isa, threads: Threads<'_>) -> usize {
    let data = problem.data();
    let options = PlanOptions::default().force(algorithm).isa(isa).max_threads(2).macs_per_thread(1);
    let plan = problem.plan(&data, &options).expect("a valid problem");
    let (input_shape, shape, layout) = (problem.input, plan.desc().output(), problem.layout);
    let input = Buffer::zeroed(input_shape.len(layout).expect("it fits"));
    let residual = Buffer::zeroed(shape.len(layout).expect("it fits"));
    let mut output = Buffer::zeroed(residual.len());
    let mut workspace = Workspace::for_req(plan.workspace_req());
    let mut run = || {
        let io = ConvIo {
            input: TensorRef::packed(&input, input_shape, layout).expect("it fits"),
            output: TensorMut::packed(&mut output, shape, layout).expect("it fits"),
            residual: Some(TensorRef::packed(&residual, shape, layout).expect("it fits")),
        };
        plan.run(io, &mut workspace, threads).expect("a valid run");
    };
    run();
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    (0..10).for_each(|_| run());
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

/// One test only: a second one in this process would allocate while this one counts.
#[test]
fn run_allocates_nothing() {
    let probe = ALLOCATIONS.load(Ordering::SeqCst);
    drop(std::hint::black_box(vec![1u8; 100]));
    assert!(ALLOCATIONS.load(Ordering::SeqCst) > probe, "the counter does not count");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads can be started");
    pool.broadcast(|_| ()); // a thread that is still starting allocates
    let epilogue = EpilogueSpec { bias: true, residual: true, activation: Activation::Tanh };
    let base =
        ConvProblem { input: Shape4::new(2, 20, 9, 11), out_channels: 36, epilogue, ..ConvProblem::simple() };
    for layout in Layout::ALL {
        for kernel in [1, 3] {
            let pad = Pad2::all(kernel / 2);
            let problem = ConvProblem { layout, kernel: Size2::square(kernel), pad, ..base };
            let desc = problem.desc().expect("a valid problem");
            for algorithm in Algorithm::ALL.into_iter().filter(|a| a.supports(&desc).is_ok()) {
                for isa in Isa::available() {
                    let alone = allocations(&problem, algorithm, isa, Threads::Seq);
                    assert_eq!(alone, 0, "{desc}: {algorithm} on {isa}");
                    let inside = pool.install(|| allocations(&problem, algorithm, isa, Threads::Current));
                    assert_eq!(inside, 0, "{desc}: {algorithm} on {isa} inside a pool");
                }
            }
        }
    }
}
