//! bf16 products: every method agrees with the definition on matrix tiles, with dot products and in plain
//! loops. Matrix tiles are emulated where the CPU does not have them (`common/tiles`).

mod common;

use common::persist::config;
use common::strategy::{conv_problem, pointwise_problem, winograd_problem};
use common::{ConvProblem, Data, isas_of_parts, methods_of_parts, pools};
use kernels::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Checks `PROPTEST_CASES` problems, or `default_cases`, with every method that supports them.
fn agree(strategy: impl Strategy<Value = ConvProblem>, default_cases: u32) {
    let pools = pools();
    let config =
        ProptestConfig { max_shrink_iters: 300, source_file: Some(file!()), ..config(default_cases) };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&strategy, |problem| problem.check_parts(&pools).map_err(TestCaseError::fail));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn any_convolution() {
    agree(conv_problem(), 120);
}

#[test]
fn any_pointwise_convolution() {
    agree(pointwise_problem(), 120);
}

#[test]
fn any_winograd_convolution() {
    agree(winograd_problem(), 40);
}

/// The emulator, or the CPU, must have multiplied tiles in this process wherever the test claims it.
#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn matrix_tiles_are_run_where_they_can_be() {
    let has_dots = std::arch::is_x86_feature_detected!("avx512bf16");
    let native = Isa::available().any(|isa| isa == Isa::Amx);
    assert_eq!(isas_of_parts().contains(&Isa::Amx), has_dots || native);
    if has_dots && !native {
        let problem = ConvProblem { input: Shape4::new(1, 40, 9, 9), ..ConvProblem::simple() };
        let method = Method::new(Algorithm::Direct, Products::Bf16x6);
        problem.check(method, Isa::Amx, &[]).expect("it agrees");
        assert!(common::tiles::executed() > 0);
    }
}

/// Where an output depends on something that is not finite, it is not finite either; other outputs are exact.
#[test]
fn what_is_not_finite_stays_where_it_is() {
    for special in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        for layout in Layout::ALL {
            let problem = ConvProblem {
                input: Shape4::new(1, 40, 12, 12),
                out_channels: 33,
                kernel: Size2::square(1),
                layout,
                values: common::Values::Integers,
                ..ConvProblem::simple()
            };
            let clean = problem.data();
            let mut data =
                Data { input: clean.input.clone(), filter: clean.filter.clone(), ..problem.data() };
            data.input[3 * 144 + 50] = special;
            for method in methods_of_parts().filter(|m| m.supports(&problem.desc().unwrap()).is_ok()) {
                for isa in isas_of_parts() {
                    let options = PlanOptions::default().force(method).isa(isa);
                    let plan = problem.plan(&data, &options).expect("a plan");
                    let expected = problem.run(&plan, &clean, Threads::Seq).expect("a run");
                    let got = problem.run(&plan, &data, Threads::Seq).expect("a run");
                    for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
                        let reads_it = at % 144 == 50;
                        assert!(
                            if reads_it { !got.is_finite() } else { got == expected },
                            "{method} on {isa}, {layout}, {special}: element {at} is {got}, without it {expected}"
                        );
                    }
                }
            }
        }
    }
}

/// Subnormal inputs count as zero, or as what they are.
#[test]
fn subnormal_inputs_do_no_harm() {
    let problem = ConvProblem { input: Shape4::new(1, 32, 8, 8), ..ConvProblem::simple() };
    let mut data = problem.data();
    data.input.iter_mut().for_each(|x| *x *= 1e-39);
    for method in methods_of_parts().filter(|m| m.supports(&problem.desc().unwrap()).is_ok()) {
        for isa in isas_of_parts() {
            let plan = problem.plan(&data, &PlanOptions::default().force(method).isa(isa)).expect("a plan");
            let got = problem.run(&plan, &data, Threads::Seq).expect("a run");
            assert!(got.iter().all(|x| x.abs() < 1e-36), "{method} on {isa}");
        }
    }
}

/// A forced product that an algorithm does not have is an error that names both.
#[test]
fn products_that_an_algorithm_does_not_have_are_refused() {
    let problem = ConvProblem::simple();
    for algorithm in [Algorithm::Fft, Algorithm::Depthwise, Algorithm::Reference, Algorithm::Winograd6x6] {
        let method = Method::new(algorithm, Products::Bf16x3);
        let error =
            problem.plan(&problem.data(), &PlanOptions::default().force(method)).expect_err("refused");
        assert_eq!(error, ConvError::Unsupported { method, reason: Unsupported::OnlyF32 });
        assert!(error.to_string().contains("+bf16x3"), "{error}");
    }
}

/// The choice takes bf16 products only where the level allows them and the caller does not forbid them.
#[test]
fn levels_and_the_caller_limit_the_products() {
    let builder = ConvDesc::builder(Shape4::new(1, 256, 14, 14), 256, Size2::square(1));
    let desc = builder.layout(Layout::Nchw16c).build().expect("a valid problem");
    for isa in isas_of_parts() {
        let mut least = Products::F32;
        for numerics in Numerics::ALL {
            let options = PlanOptions::default().isa(isa).numerics(numerics);
            let products = ConvPlan::choice(&desc, &options).expect("a choice").method.products;
            let allowed = match numerics {
                Numerics::Strict => Products::F32,
                Numerics::Default => Products::Bf16x6,
                Numerics::Fast | Numerics::Tf32 => Products::Bf16x3,
                _ => Products::Bf16,
            };
            assert!(
                products <= allowed && isa.products().contains(&products),
                "{isa} {numerics}: {products}"
            );
            // A looser level never leads to more products.
            assert!(products >= least, "{isa} {numerics}: {products} after {least}");
            least = products;
            let forbidden = options.forbid_products(products);
            if let Ok(choice) = ConvPlan::choice(&desc, &forbidden) {
                assert_ne!(choice.method.products, products);
            }
        }
        assert_eq!(least, *isa.products().last().expect("every set has f32"), "{isa}");
    }
}
