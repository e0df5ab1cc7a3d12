//! The best available instruction set is used, and an override can only select a smaller one.

mod common;

use common::ConvProblem;
use kernels::internal::KernelSet;
use kernels::{
    Algorithm, ConvError, Isa, Layout, Method, Numerics, Pad2, PlanOptions, Products, Shape4, Size2,
};

/// `KERNELS_REQUIRE_ISA=avx512f,avx2fma` makes a missing instruction set a failure instead of a skip.
#[test]
fn required_instruction_sets_are_present_and_used() {
    let required = std::env::var("KERNELS_REQUIRE_ISA").unwrap_or_else(|_| "portable".into());
    for name in required.split(',') {
        let isa: Isa = name.trim().parse().unwrap_or_else(|error| panic!("KERNELS_REQUIRE_ISA: {error}"));
        assert!(
            Isa::available().any(|there| there == isa),
            "{isa} was not detected, so it could not be tested"
        );
        let problem = ConvProblem::simple();
        let options = PlanOptions::default().isa(isa);
        let forced = |products| options.force(Method::new(Algorithm::Direct, products));
        for &products in isa.products() {
            let plan = problem.plan(&problem.data(), &forced(products)).expect("the machine has it");
            assert_eq!(plan.isa(), isa);
            let of_kernel = if products == Products::F32 { isa.of_f32() } else { isa };
            let kernel = plan.explain().kernel;
            assert!(kernel.ends_with(&format!("_{of_kernel}")), "{kernel}");
        }
    }
}

#[test]
fn the_best_is_detected_and_is_the_default() {
    let best = Isa::available().max().expect("portable is always there");
    assert_eq!(Isa::detect(), best);
    let problem = ConvProblem::simple();
    let plan = problem.plan(&problem.data(), &PlanOptions::default()).expect("a valid problem");
    assert_eq!(plan.isa(), best);
    #[cfg(target_arch = "aarch64")]
    assert_eq!(best, Isa::Neon);
}

#[test]
fn what_the_cpu_lacks_is_an_error() {
    for isa in Isa::ALL {
        let problem = ConvProblem::simple();
        let plan = problem.plan(&problem.data(), &PlanOptions::default().isa(isa));
        if Isa::available().any(|there| there == isa) {
            assert_eq!(plan.expect("the machine has it").isa(), isa);
        } else {
            assert_eq!(plan.err(), Some(ConvError::IsaUnavailable { isa, best: Isa::detect() }));
            assert!(KernelSet::get(isa).is_none());
        }
    }
}

#[test]
fn names_follow_the_grammar_and_lead_back() {
    for isa in Isa::available() {
        assert_eq!(isa.name().parse(), Ok(isa));
        let of_f32 = isa.of_f32();
        for tile in KernelSet::get(isa).expect("available").gemm_tiles() {
            let name = format!("gemm_f32_{}x{}_{of_f32}", tile.rows(), tile.columns());
            assert_eq!(tile.name(), name);
        }
        let depthwise = KernelSet::get(isa).expect("available").depthwise();
        let pixels = depthwise.outputs() * depthwise.lines();
        assert_eq!(depthwise.name(), format!("depthwise_f32_{pixels}x{}_{of_f32}", depthwise.lanes()));
        let winograd = KernelSet::get(isa).expect("available").winograd();
        assert_eq!(
            winograd.name(),
            format!("winograd_f32_{}x{}_{of_f32}", winograd.tiles(), winograd.columns())
        );
        let fft = KernelSet::get(isa).expect("available").fft();
        assert_eq!(fft.name(), format!("fft_f32_{}x{}_{of_f32}", fft.tiles(), fft.lanes()));
        assert_eq!(fft.tiles_name(), format!("fft_f32_16tiles_{of_f32}"));
        let direct = KernelSet::get(isa).expect("available").direct_tile();
        let pixels = direct.sizes(direct.columns()).last().expect("there are tiles");
        assert_eq!(direct.name(), format!("direct_f32_{pixels}x{}_{of_f32}", direct.columns()));
    }
    assert!("sse9".parse::<Isa>().is_err());
}

#[test]
fn every_fast_algorithm_can_be_chosen() {
    let simple = ConvProblem::simple();
    let channels = |c: usize, side: usize| ConvProblem {
        input: Shape4::new(1, c, side, side),
        out_channels: c,
        ..simple
    };
    let blocked = |c: usize, out_channels: usize, side: usize| ConvProblem {
        out_channels,
        pad: Pad2::all(1),
        layout: Layout::Nchw16c,
        ..channels(c, side)
    };
    let chosen = [
        (simple, Numerics::Default),
        (ConvProblem { kernel: Size2::square(1), ..simple }, Numerics::Default),
        (ConvProblem { groups: 3, out_channels: 6, ..simple }, Numerics::Default),
        // 15x15 taps on a 24x24 image.
        (ConvProblem { kernel: Size2::square(15), pad: Pad2::all(7), ..channels(32, 24) }, Numerics::Default),
        // Rows of two pixels.
        (ConvProblem { input: Shape4::new(1, 3, 8, 4), ..simple }, Numerics::Default),
        // Maps of 8x8 and 38x38: the more weights there are to read, the worse are large tiles for small maps.
        (channels(128, 8), Numerics::Default),
        (channels(64, 38), Numerics::Default),
        (channels(64, 38), Numerics::Fast),
        // Dilation rules out transforms.
        (ConvProblem { dilation: Size2::square(2), ..channels(64, 38) }, Numerics::Default),
        // Winograd would be too inaccurate, and the image can be read in place.
        (ConvProblem { layout: Layout::Nchw16c, ..channels(64, 38) }, Numerics::Strict),
        // 16 tiles of 4x4 outputs, a quarter of them outside the map, or 28 of 4x2.
        (channels(256, 14), Numerics::Default),
        (
            ConvProblem {
                input: Shape4::new(1, 96, 14, 14),
                out_channels: 208,
                pad: Pad2::all(1),
                layout: Layout::Nchw16c,
                ..simple
            },
            Numerics::Default,
        ),
        (
            ConvProblem {
                kernel: Size2::square(5),
                stride: Size2::square(2),
                pad: Pad2::all(2),
                ..channels(256, 14)
            },
            Numerics::Default,
        ),
        (ConvProblem { kernel: Size2::square(4), ..channels(64, 38) }, Numerics::Default),
        (ConvProblem { kernel: Size2::square(2), ..channels(64, 38) }, Numerics::Default),
        // The same with more weights, and maps of 13x13.
        (blocked(160, 320, 14), Numerics::Default),
        (blocked(256, 256, 14), Numerics::Default),
        (blocked(384, 256, 13), Numerics::Default),
        (blocked(512, 512, 14), Numerics::Default),
        // Small maps and many weights: 36 matrices of them would be read for four tiles of 4x4.
        (blocked(512, 512, 7), Numerics::Default),
        (blocked(512, 1024, 4), Numerics::Default),
        (
            ConvProblem { kernel: Size2::square(5), pad: Pad2::all(2), ..blocked(256, 512, 6) },
            Numerics::Default,
        ),
        // Patches of a small map: a row of outputs is too short for a direct tile.
        (
            ConvProblem {
                input: Shape4::new(1, 64, 8, 8),
                out_channels: 256,
                kernel: Size2::square(2),
                stride: Size2::square(2),
                layout: Layout::Nchw16c,
                ..simple
            },
            Numerics::Default,
        ),
    ]
    .map(|(problem, numerics)| {
        // Products of bf16 parts would replace some algorithms.
        let isa = Isa::detect().of_f32();
        let options = PlanOptions::default().isa(isa).numerics(numerics).max_threads(1);
        problem.plan(&problem.data(), &options).expect("a valid problem").algorithm()
    });
    for algorithm in Algorithm::ALL.into_iter().filter(|&a| a != Algorithm::Reference) {
        assert!(chosen.contains(&algorithm), "Auto never chooses {algorithm}");
    }
}

#[test]
fn what_is_forbidden_is_not_chosen() {
    let problem =
        ConvProblem { input: Shape4::new(1, 64, 38, 38), out_channels: 64, ..ConvProblem::simple() };
    let desc = problem.desc().expect("a valid problem");
    let mut options = PlanOptions::default();
    let mut chosen = Vec::new();
    // Forbids the chosen algorithm each time, until none is left.
    let refusal = loop {
        match problem.plan(&problem.data(), &options) {
            Ok(plan) => chosen.push(plan.algorithm()),
            Err(error) => break error,
        }
        let last = *chosen.last().expect("just pushed");
        assert_eq!(chosen.iter().filter(|&&algorithm| algorithm == last).count(), 1, "{last} was forbidden");
        options = options.forbid(last);
    };
    assert_eq!(refusal, ConvError::NothingAllowed);
    let can = |a: &Algorithm| a.supports(&desc).is_ok() && a.numerics(&desc) <= Numerics::Default;
    assert_eq!(chosen.len(), Algorithm::ALL.iter().filter(|a| can(a)).count(), "{chosen:?}");
    assert_eq!(chosen.last(), Some(&Algorithm::Reference));
}
