//! The choice respects every limit, predicts the memory of a plan to the byte, and gives a reason for every
//! algorithm.

mod common;

use common::persist::config;
use common::{ConvProblem, strategy};
use kernels::*;
use proptest::prelude::*;

/// The terms of a prediction sum to its time, and its bound is the largest of compute and the bytes of each level.
fn assert_adds_up(candidate: &Candidate) {
    let Estimate { seconds, terms, bound, .. } = candidate.estimate;
    let all = terms.all();
    assert!(all.iter().all(|(_, seconds)| *seconds >= 0.0), "{candidate:?}");
    let sum: f64 = all.iter().map(|(_, seconds)| seconds).sum();
    assert!((sum / seconds - 1.0).abs() < 1e-12, "{sum}: {candidate:?}");
    let compute = sum - terms.l2 - terms.l3 - terms.dram - terms.rule;
    let bounds =
        [(Bound::Compute, compute), (Bound::L2, terms.l2), (Bound::L3, terms.l3), (Bound::Dram, terms.dram)];
    let of_bound = bounds.iter().find(|(level, _)| *level == bound).map_or(0.0, |(_, seconds)| *seconds);
    assert!(bounds.iter().all(|(_, seconds)| *seconds <= of_bound * (1.0 + 1e-9)), "{candidate:?}");
}

fn plan(problem: &ConvProblem, options: &PlanOptions) -> Result<ConvPlan, ConvError> {
    problem.plan(&problem.data(), options)
}

proptest! {
    #![proptest_config(config(120))]

    /// Memory is predicted to the byte for every algorithm and instruction set. The choice is total and
    /// deterministic, and respects numerics and memory limits.
    #[test]
    fn choices_keep_to_their_limits(
        problem in prop_oneof![
            strategy::conv_problem(),
            strategy::pointwise_problem(),
            strategy::winograd_problem(),
            strategy::depthwise_problem(),
            strategy::large_kernel_problem(),
        ],
        numerics in prop::sample::select(vec![Numerics::Strict, Numerics::Default, Numerics::Fast, Numerics::Tf32, Numerics::Bf16]),
        threads in 1usize..5,
        caps in (0u32..24, 0u32..24),
    ) {
        let desc = problem.desc().expect("a valid problem");
        for isa in Isa::available() {
            let options = PlanOptions::default().isa(isa).numerics(numerics).max_threads(threads).macs_per_thread(1000);
            let chosen = plan(&problem, &options).expect("something can do every problem");
            let report = chosen.explain();
            let methods = Method::all(isa.products()).count();
            prop_assert_eq!(report.lines().count(), methods);
            prop_assert_eq!(report.choice.rejected.len() + 1, methods);
            prop_assert!(report.choice.method.supports(&desc).is_ok());
            prop_assert!(report.choice.method.numerics(&desc) <= numerics);
            let again = plan(&problem, &options).expect("as before");
            prop_assert_eq!(&report.choice, &again.explain().choice);
            for candidate in &report.choice.candidates {
                let estimate = candidate.estimate;
                prop_assert!(estimate.seconds.is_finite() && estimate.seconds > 0.0, "{:?}", candidate);
                assert_adds_up(candidate);
                let forced = plan(&problem, &options.force(candidate.method)).expect("it can");
                prop_assert_eq!(estimate.packed_bytes, forced.packed_bytes(), "{} {}", candidate.method, desc);
                let workspace = forced.workspace_req().len() * size_of::<f32>();
                prop_assert_eq!(estimate.workspace_bytes, workspace, "{} {}", candidate.method, desc);
            }
            let (most_workspace, most_packed) = (1 << caps.0, 1 << caps.1);
            let capped = options.max_workspace_bytes(most_workspace).max_packed_bytes(most_packed);
            match plan(&problem, &capped) {
                Ok(plan) => {
                    prop_assert!(plan.workspace_req().len() * size_of::<f32>() <= most_workspace);
                    prop_assert!(plan.packed_bytes() <= most_packed);
                }
                Err(error) => {
                    prop_assert!(matches!(error, ConvError::TooLarge { .. }), "{}", error);
                    // A method that is too inaccurate is not chosen, even if it needs the least memory.
                    let fits = |c: &Candidate| {
                        let Estimate { workspace_bytes, packed_bytes, .. } = c.estimate;
                        let is_accurate = c.method.numerics(&desc) <= numerics;
                        is_accurate && workspace_bytes <= most_workspace && packed_bytes <= most_packed
                    };
                    prop_assert!(!report.choice.candidates.iter().any(fits), "{}", error);
                }
            }
        }
    }
}

#[test]
fn caps_are_explained() {
    let problem =
        ConvProblem { input: Shape4::new(1, 64, 38, 38), out_channels: 64, ..ConvProblem::simple() };
    let free = plan(&problem, &PlanOptions::default()).expect("valid");
    assert_eq!(free.algorithm(), Algorithm::Winograd4x4, "{}", free.explain());
    let capped =
        plan(&problem, &PlanOptions::default().max_packed_bytes(free.packed_bytes() - 1)).expect("valid");
    assert!(capped.packed_bytes() < free.packed_bytes());
    let text = capped.explain().to_string();
    let wanted =
        format!("rejected: needs {} bytes of packed weights, more than allowed", free.packed_bytes());
    assert!(text.contains(&wanted), "{text}");
    let error = plan(&problem, &PlanOptions::default().max_packed_bytes(10)).expect_err("nothing fits");
    assert!(error.to_string().contains("needs"), "{error}");
    let forced = PlanOptions::default().force(Algorithm::Fft).max_workspace_bytes(0);
    assert!(matches!(
        plan(&problem, &forced),
        Err(ConvError::TooLarge { method, what: "workspace", limit: 0, .. }) if method == Algorithm::Fft
    ));
}

#[test]
fn faster_machines_are_predicted_to_be_faster_and_change_nothing_else() {
    let problem = ConvProblem::simple();
    let profile = Profile::typical(Isa::detect());
    let mut faster = profile;
    faster.bf16_mflops = 2 * profile.bf16_mflops;
    (faster.fma_mflops, faster.l2_mbs, faster.l3_mbs, faster.dram_mbs) =
        (2 * profile.fma_mflops, 2 * profile.l2_mbs, 2 * profile.l3_mbs, 2 * profile.dram_mbs);
    let choice = |profile| {
        let options = PlanOptions::default().max_threads(1).profile(profile);
        plan(&problem, &options).expect("valid").explain().choice.clone()
    };
    let (slow, fast) = (choice(profile), choice(faster));
    assert_eq!(slow.method, fast.method);
    for (slow, fast) in slow.candidates.iter().zip(&fast.candidates) {
        assert!((fast.estimate.seconds * 2.0 / slow.estimate.seconds - 1.0).abs() < 1e-9);
        assert_eq!(slow.estimate.packed_bytes, fast.estimate.packed_bytes);
    }
}

/// What other work displaces comes from memory: a form with fewer bytes wins then, and a measured choice still computes
/// the right thing.
#[test]
fn displaced_weights_cost_their_bytes() {
    let deep = ConvProblem {
        input: Shape4::new(1, 256, 7, 7),
        out_channels: 256,
        pad: Pad2::all(1),
        ..ConvProblem::simple()
    };
    // On a machine with slow memory, and large caches for the weights of one layer.
    let mut profile = Profile::typical(Isa::detect());
    (profile.dram_mbs, profile.dram_mbs_all, profile.l3_bytes) = (1000, 1000, 256 << 20);
    let options = PlanOptions::default().profile(profile);
    let warm = plan(&deep, &options).expect("valid");
    let cold = plan(&deep, &options.bytes_between_runs(1 << 30)).expect("valid");
    assert!(cold.packed_bytes() < warm.packed_bytes(), "{}\n{}", warm.explain(), cold.explain());
    for candidate in &cold.explain().choice.candidates {
        let before = warm.explain().choice.candidates.iter().find(|other| other.method == candidate.method);
        let before = before.expect("the same methods").estimate;
        let Estimate { seconds, terms, .. } = candidate.estimate;
        assert!(seconds >= before.seconds && terms.dram >= before.terms.dram, "{candidate:?}");
    }
    let shallow = ConvProblem { input: Shape4::new(1, 24, 9, 9), out_channels: 20, ..deep };
    let timed = PlanOptions::default().select(Select::Measured).bytes_between_runs(8 << 20);
    let timed = plan(&shallow, &timed).expect("valid");
    let choice = timed.explain().choice.clone();
    let times: Vec<f64> = choice.candidates.iter().filter_map(|candidate| candidate.measured).collect();
    assert!(times.len() > 1 && times.iter().all(|&time| time > 0.0), "{choice:?}");
}

/// Layers like those of networks, in two layouts, plain and depthwise.
fn usual_layers() -> impl Iterator<Item = ConvDesc> {
    const CHANNELS: [usize; 6] = [3, 16, 64, 128, 256, 512];
    const SIDES: [usize; 7] = [1, 7, 8, 14, 28, 38, 56];
    const KERNELS: [usize; 7] = [1, 2, 3, 4, 5, 7, 15];
    let layouts = [Layout::Nchw, Layout::Nchw16c];
    let sizes = CHANNELS.into_iter().flat_map(|c| SIDES.map(|side| (c, side)));
    let windows = move |(c, side)| KERNELS.map(|k| (c, side, k));
    sizes.flat_map(windows).flat_map(move |(c, side, k)| {
        [(1, 1), (2, 1), (1, c)].into_iter().flat_map(move |(stride, groups)| {
            layouts.into_iter().filter_map(move |layout| {
                let builder = ConvDesc::builder(Shape4::new(1, c, side, side), c, Size2::square(k));
                let builder = builder.stride(Size2::square(stride)).pad(Pad2::all(k / 2));
                builder.groups(groups).layout(layout).build().ok()
            })
        })
    })
}

#[test]
fn every_algorithm_but_the_oracle_is_chosen_for_some_usual_layer() {
    let mut chosen = Vec::new();
    for isa in Isa::available() {
        for desc in usual_layers() {
            for numerics in [Numerics::Default, Numerics::Fast] {
                let options = PlanOptions::default().isa(isa).max_threads(1).numerics(numerics);
                let algorithm = ConvPlan::choice(&desc, &options).expect("it can be done").method.algorithm;
                assert_ne!(algorithm, Algorithm::Reference, "{desc}");
                if !chosen.contains(&algorithm) {
                    println!("{isa} {algorithm}: {desc} {numerics:?}");
                    chosen.push(algorithm);
                }
            }
        }
    }
    for algorithm in Algorithm::ALL.into_iter().filter(|&a| a != Algorithm::Reference) {
        assert!(chosen.contains(&algorithm), "{algorithm} is never chosen");
    }
}
