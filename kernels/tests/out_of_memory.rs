//! Every allocation that grows with a problem can fail. Failure must be an error with the requested bytes,
//! and must never abort the process.

mod common;

use common::{ConvProblem, Rng};
use kernels::{
    Activation, Algorithm, Buffer, ConvDesc, ConvError, ConvPlan, EpilogueSpec, Isa, Layout, Pad2,
    PlanOptions, Select, Shape4, Size2, Threads, Weights, Workspace, WorkspaceReq,
};
use std::alloc::{GlobalAlloc, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

thread_local! {
    /// Maximum bytes per allocation of this thread.
    static MOST: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// An allocator that fails above the limit of the thread.
struct Refusing;

// SAFETY: every call that is not refused goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        if layout.size() > MOST.get() {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// Runs `call` while allocations of this thread are limited to `bytes` each.
fn with_at_most<R>(bytes: usize, call: impl FnOnce() -> R) -> R {
    let before = MOST.replace(bytes);
    let result = call();
    MOST.set(before);
    result
}

fn is_refused(error: &ConvError) -> bool {
    use ConvError::{NothingAllowed, OutOfMemory, SizeOverflow, TooLarge, Unsupported};
    matches!(
        error,
        OutOfMemory { .. } | SizeOverflow { .. } | TooLarge { .. } | Unsupported { .. } | NothingAllowed
    )
}

/// Problems whose weights no system can hold.
fn huge() -> Vec<ConvDesc> {
    let image = |c, side| Shape4::new(1, c, side, side);
    let mut problems = Vec::new();
    for layout in Layout::ALL {
        let desc = |input, outs, side, groups| {
            let epilogue = EpilogueSpec::bias(Activation::PRelu);
            let builder =
                ConvDesc::builder(input, outs, Size2::square(side)).layout(layout).epilogue(epilogue);
            builder.pad(Pad2::all(side / 2)).groups(groups).build().expect("a problem that can be described")
        };
        problems.extend([
            desc(image(1 << 21, 1), 1 << 21, 1, 1), // 2^42 numbers
            desc(image(1 << 21, 8), 1 << 21, 3, 1),
            desc(image(1 << 20, 8), 1 << 20, 5, 1),
            desc(image(1 << 24, 2), 1 << 24, 4, 2),
            desc(image(3 << 20, 8), 3 << 20, 3, 3),
            desc(image(1 << 42, 1), 1 << 42, 1, 1 << 42), // depthwise
            desc(image(1 << 42, 3), 1 << 42, 3, 1 << 42),
            desc(image(3 << 41, 1), 5 << 41, 1, 1 << 41), // groups of 3 to 5
            desc(image(2, 1), (1 << 42) + 2, 1, 2),       // two groups of very many outputs
            desc(image(1, 1), 1, (1 << 20) + 1, 1),       // a kernel of 2^40 taps
            desc(image(1 << 26, 31), 1 << 16, 31, 1 << 16),
        ]);
        // One kernel row, and one kernel column, with 2^42 taps.
        for kernel in [Size2::new(1, 1 << 42), Size2::new(1 << 42, 1)] {
            let pad = Pad2::symmetric(kernel.h / 2, kernel.w / 2);
            let builder = ConvDesc::builder(image(1, 2), 1, kernel)
                .layout(layout)
                .pad(pad)
                .epilogue(EpilogueSpec::bias(Activation::PRelu));
            problems.push(builder.build().expect("a problem that can be described"));
        }
    }
    problems
}

/// Plans of every algorithm for filters of 2^42 elements and more, passed in parts.
#[test]
fn filters_that_no_memory_holds_are_refused() {
    for desc in huge() {
        let channels = desc.output().c;
        // Slopes and biases of the right length cannot be allocated for most of these. Where they can,
        // planning reaches the filter.
        let numbers = vec![0.5; if channels < 1 << 24 { channels } else { 0 }];
        let weights = Weights { filter: &[], bias: Some(&numbers), slope: Some(&numbers) };
        let start = Instant::now();
        for isa in Isa::available() {
            for algorithm in Algorithm::ALL {
                let options = PlanOptions::default().isa(isa).force(algorithm);
                match ConvPlan::packing(&desc, weights, &options) {
                    Ok(_) => panic!("{algorithm}: {desc}: nobody has memory for this"),
                    Err(ConvError::BufferLen { .. }) if numbers.is_empty() => {}
                    Err(error) => assert!(is_refused(&error), "{algorithm}: {desc}: {error}"),
                }
            }
            // An estimate must be immediate, whatever the size.
            let choice = ConvPlan::choice(&desc, &PlanOptions::default().isa(isa));
            assert!(choice.is_ok() || is_refused(choice.as_ref().unwrap_err()), "{desc}: {choice:?}");
        }
        assert!(start.elapsed() < Duration::from_secs(300), "{desc}: {:?}", start.elapsed());
    }
}

/// A problem of 281 TB whose filter has one element.
#[test]
fn measuring_a_problem_that_no_memory_holds_is_refused() {
    let desc = ConvDesc::builder(Shape4::new(1, 1, 1 << 23, 1 << 23), 1, Size2::square(1)).build().unwrap();
    let options = PlanOptions::default().select(Select::Measured);
    match ConvPlan::new(&desc, Weights::filter(&[1.0]), &options) {
        Err(ConvError::OutOfMemory { bytes, .. }) => assert_eq!(bytes, 1 << 48),
        Err(error) => panic!("{error}"),
        Ok(plan) => panic!("{} was measured", plan.algorithm()),
    }
}

#[test]
fn buffers_and_workspaces_that_no_memory_holds_are_refused() {
    for len in [1 << 44, (isize::MAX as usize) / 4, 1 << 61, 1 << 62, usize::MAX - 1, usize::MAX] {
        let error = Buffer::zeroed(len).err().unwrap_or_else(|| panic!("{len} elements"));
        let bytes = len.saturating_mul(4);
        assert_eq!(error, ConvError::OutOfMemory { what: "buffer", bytes });
        assert!(error.to_string().contains(&bytes.to_string()), "{error}");
    }
    for (per_thread_len, threads) in [(1 << 44, 1), (1 << 40, 1 << 40), (usize::MAX, 2), (3, usize::MAX)] {
        let req = WorkspaceReq::new(per_thread_len, threads);
        assert_eq!(req.len(), per_thread_len.saturating_mul(threads), "no wrapping");
        assert!(!req.is_empty());
        let error = Workspace::for_req(req).expect_err("nobody has as much");
        assert!(matches!(error, ConvError::OutOfMemory { what: "workspace", .. }), "{error}");
        let mut workspace = Workspace::for_req(WorkspaceReq::new(5, 1)).unwrap();
        assert!(workspace.reserve(req).is_err());
        assert_eq!(workspace.len(), 5, "as it was");
    }
}

/// Problems that are each large in one way: channels, groups, columns or taps.
fn large() -> Vec<ConvProblem> {
    let epilogue = EpilogueSpec { bias: true, residual: false, activation: Activation::PRelu };
    let base = ConvProblem { epilogue, ..ConvProblem::simple() };
    let problem = |input, out_channels, kernel: Size2, groups| ConvProblem {
        input,
        out_channels,
        kernel,
        pad: Pad2::symmetric(kernel.h / 2, kernel.w / 2),
        groups,
        ..base
    };
    let square = Size2::square;
    vec![
        problem(Shape4::new(1, 64, 9, 9), 20_000, square(3), 1),
        problem(Shape4::new(1, 20_000, 9, 9), 48, square(3), 1),
        problem(Shape4::new(1, 20_000, 1, 1), 64, square(1), 1),
        problem(Shape4::new(1, 20_000, 5, 5), 20_000, square(3), 20_000),
        problem(Shape4::new(1, 30_000, 5, 5), 40_000, square(3), 10_000),
        problem(Shape4::new(1, 128, 7, 7), 256, square(5), 1),
        problem(Shape4::new(1, 64, 9, 9), 64, square(4), 1),
        problem(Shape4::new(1, 64, 9, 9), 64, square(2), 1),
        problem(Shape4::new(1, 3, 3, 60_000), 16, Size2::new(1, 9), 1),
        problem(Shape4::new(1, 1, 3, 5_000), 1, Size2::new(1, 3_001), 1),
        problem(Shape4::new(1, 1, 300, 300), 1, square(201), 1),
        problem(Shape4::new(1, 32, 40, 40), 32, square(31), 1),
        problem(Shape4::new(1, 6_000, 2, 2), 6_000, square(1), 3_000),
    ]
}

/// Plans with an allocator that fails above a small limit: planning must succeed or return an error. An
/// infallible allocation would abort this test.
#[test]
fn no_allocation_of_a_plan_ends_the_process() {
    /// Larger than every allocation that does not grow with a problem.
    const LITTLE: usize = 48 << 10;
    let mut refused = [0; Algorithm::ALL.len()];
    for problem in large() {
        for layout in Layout::ALL {
            let problem = ConvProblem { layout, ..problem };
            let (desc, data) = (problem.desc().unwrap(), problem.data());
            for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| algorithm.supports(&desc).is_ok())
            {
                for isa in Isa::available() {
                    let options = PlanOptions::default().force(algorithm).isa(isa);
                    match with_at_most(LITTLE, || problem.plan(&data, &options)) {
                        Ok(plan) => {
                            let workspace = with_at_most(LITTLE, || Workspace::for_req(plan.workspace_req()));
                            let fits = 4 * plan.workspace_req().len() <= LITTLE;
                            assert_eq!(workspace.is_ok(), fits, "{algorithm} on {isa}: {desc}");
                        }
                        Err(ConvError::OutOfMemory { bytes, what }) => {
                            assert!(bytes > LITTLE, "{algorithm}: {what}: {bytes} bytes can be had");
                            refused[algorithm as usize] += 1;
                        }
                        Err(error) => panic!("{algorithm} on {isa}: {desc}: {error}"),
                    }
                }
            }
            // Filters passed in parts, and measured choices.
            let taps = desc.filter_len() / desc.output().c;
            let result = with_at_most(LITTLE, || {
                let (bias, slope) = (data.bias.as_deref(), data.slope.as_deref());
                let weights = Weights { filter: &[], bias, slope };
                let mut packing = ConvPlan::packing(&desc, weights, &PlanOptions::default())?;
                while !packing.next_channels().is_empty() {
                    let channels = packing.next_channels();
                    packing.fill(&data.filter[channels.start * taps..channels.end * taps])?;
                }
                packing.finish()
            });
            assert!(matches!(result, Ok(_) | Err(ConvError::OutOfMemory { .. })), "{desc}");
            let measured = PlanOptions::default().select(Select::Measured).max_threads(1);
            let result = with_at_most(LITTLE, || problem.plan(&data, &measured));
            assert!(matches!(result, Ok(_) | Err(ConvError::OutOfMemory { .. })), "{desc}");
        }
    }
    for algorithm in Algorithm::ALL {
        println!("{algorithm}: {} plans were refused memory", refused[algorithm as usize]);
        assert!(refused[algorithm as usize] > 0, "{algorithm} has never asked for much");
    }
}

/// Random extents of any size. Each problem must be rejected, estimated at once, denied memory, or planned.
#[test]
fn problems_of_any_size_are_answered() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(3_000);
    let mut random = Rng(7);
    let mut described = 0;
    for _ in 0..cases {
        let mut extent = |most: u64| {
            let bits = random.next() % (most + 1);
            (random.next() >> (63 - bits)).max(1) as usize
        };
        let groups = extent(12);
        let (c, o) = (groups.saturating_mul(extent(20)), groups.saturating_mul(extent(20)));
        let input = Shape4::new(extent(20), c, extent(24), extent(24));
        let kernel = Size2::new(extent(20), extent(20));
        let builder = ConvDesc::builder(input, o, kernel)
            .groups(groups)
            .stride(Size2::new(extent(6), extent(6)))
            .dilation(Size2::new(extent(4), extent(4)))
            .pad(Pad2 {
                top: extent(22) - 1,
                bottom: extent(22) - 1,
                left: extent(22) - 1,
                right: extent(22) - 1,
            })
            .layout(Layout::ALL[extent(8) % 3]);
        let Ok(desc) = builder.build() else { continue };
        described += 1;
        let start = Instant::now();
        for max_threads in [1, 64, usize::MAX] {
            let choice = ConvPlan::choice(&desc, &PlanOptions::default().max_threads(max_threads));
            assert!(choice.is_ok() || is_refused(choice.as_ref().unwrap_err()), "{desc}: {choice:?}");
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{desc}: {:?}", start.elapsed());
        // The limit of a megabyte per allocation keeps the test from filling the machine's memory.
        for algorithm in Algorithm::ALL {
            let options = PlanOptions::default().max_threads(1).force(algorithm);
            let packing = with_at_most(1 << 20, || ConvPlan::packing(&desc, Weights::filter(&[]), &options));
            if let Err(error) = packing {
                assert!(is_refused(&error), "{algorithm}: {desc}: {error}");
            }
        }
    }
    assert!(described >= cases / 6, "only {described} of {cases} could be described");
}

#[test]
fn what_is_refused_once_runs_with_memory() {
    let problem = large()[0];
    let (data, options) = (problem.data(), PlanOptions::default());
    assert!(with_at_most(1 << 16, || problem.plan(&data, &options)).is_err());
    let plan = problem.plan(&data, &options).unwrap();
    problem.run(&plan, &data, Threads::Seq).unwrap();
}
