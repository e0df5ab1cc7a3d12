//! The gradient of weights with bf16 products: on matrix tiles, which are emulated where the CPU has none, with dot products,
//! and in plain loops.

mod common;

use common::gradient::{WeightsProblem, weights};
use common::persist::config;
use common::strategy::{conv_problem, large_kernel_problem, pointwise_problem};
use common::{ConvProblem, Rng, Values, isas_of_parts, methods_of_parts, pools};
use kernels::{
    Algorithm, BackwardWeights, ConvDesc, ConvError, Isa, Layout, Method, Numerics, Pad2, PlanOptions,
    Products, Shape4, Size2, Threads, Unsupported,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// The methods that compute every problem.
fn methods() -> impl Iterator<Item = (Method, Isa)> {
    let products = Products::ALL.into_iter().filter(|&products| products != Products::F32);
    products.flat_map(|p| {
        isas_of_parts().into_iter().map(move |isa| (Method::new(Algorithm::Im2colGemm, p), isa))
    })
}

#[test]
fn any_convolution() {
    let pools = pools();
    let strategy = prop_oneof![3 => conv_problem(), 1 => pointwise_problem(), 1 => large_kernel_problem()];
    let problems = (strategy, any::<bool>(), any::<bool>())
        .prop_map(|(conv, bias, accumulate)| WeightsProblem::new(conv, bias, accumulate));
    let config = ProptestConfig { max_shrink_iters: 300, source_file: Some(file!()), ..config(150) };
    let check = |problem: WeightsProblem| problem.check_parts(&pools).map_err(TestCaseError::fail);
    if let Err(failure) = TestRunner::new(config).run(&problems, check) {
        panic!("{failure}");
    }
}

fn plain(n: usize, c: usize, h: usize, w: usize, o: usize, kernel: usize) -> ConvProblem {
    ConvProblem {
        input: Shape4::new(n, c, h, w),
        out_channels: o,
        kernel: Size2::square(kernel),
        pad: Pad2::all(kernel / 2),
        ..ConvProblem::simple()
    }
}

/// Problems of several blocks, stretches and steps, with a remainder of each.
fn large() -> [ConvProblem; 8] {
    [
        plain(2, 40, 17, 19, 70, 3),
        plain(1, 70, 40, 41, 600, 1),
        ConvProblem { stride: Size2::square(2), ..plain(2, 33, 21, 20, 35, 3) },
        ConvProblem { stride: Size2::square(2), ..plain(1, 3, 40, 40, 33, 7) },
        ConvProblem { groups: 3, ..plain(2, 60, 9, 9, 39, 3) },
        ConvProblem { dilation: Size2::new(2, 3), ..plain(1, 5, 30, 31, 6, 5) },
        ConvProblem { pad: Pad2::VALID, ..plain(600, 33, 1, 1, 20, 1) },
        plain(1, 2, 30, 30, 3, 19),
    ]
}

/// Small integers are bf16 numbers, and their sums are exact in every order, so every bit must be right.
#[test]
fn integers_are_exact() {
    for conv in large() {
        for layout in Layout::ALL {
            let conv = ConvProblem { values: Values::Integers, layout, ..conv };
            let problem = WeightsProblem::new(conv, true, false);
            let (desc, data) = (problem.desc(), problem.data());
            let (filter, bias) = weights(&desc, &data.input, &data.grad_output);
            let exact = |sums: &[f64]| -> Vec<f32> { sums.iter().map(|&sum| sum as f32).collect() };
            for (method, isa) in methods() {
                let plan = problem.plan(&PlanOptions::default().force(method).isa(isa));
                let (got, got_bias) = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
                assert_eq!(got, exact(&filter.sums), "{method} on {isa}: {problem:?}");
                assert_eq!(got_bias, Some(exact(&bias.sums)), "{method} on {isa}: {problem:?}");
            }
        }
    }
}

/// The relative error (L2) of `got`.
fn error(got: &[f32], truth: &[f64]) -> f64 {
    let errors: f64 = got.iter().zip(truth).map(|(&got, sum)| (f64::from(got) - sum).powi(2)).sum();
    (errors / truth.iter().map(|sum| sum * sum).sum::<f64>()).sqrt()
}

/// Every level keeps its promise, over few pixels and over many, and six products are about as accurate as those of `f32`.
#[test]
fn levels_keep_their_promises() {
    for (n, c, extent, o) in [(1, 16, 7, 16), (2, 24, 28, 40), (8, 16, 56, 33)] {
        for values in [Values::Uniform, Values::Sparse] {
            let conv =
                ConvProblem { layout: Layout::Nchw16c, values, seed: 5, ..plain(n, c, extent, extent, o, 3) };
            let problem = WeightsProblem::new(conv, false, false);
            let (desc, data) = (problem.desc(), problem.data());
            let (truth, _) = weights(&desc, &data.input, &data.grad_output);
            let of = |method: Method, isa| {
                let plan = problem.plan(&PlanOptions::default().force(method).isa(isa));
                error(&problem.run(&plan, &data, Threads::Seq).expect("a valid run").0, &truth.sums)
            };
            let direct = of(Algorithm::Direct.into(), Isa::detect().of_f32());
            for (method, isa) in methods() {
                let (error, most) = (of(method, isa), promised(method.products));
                println!("{desc}, {values:?}: {method} on {isa} {error:.2e}, direct in f32 {direct:.2e}");
                assert!(error < most, "{method} on {isa}: {error:e}");
                if method.products == Products::Bf16x6 {
                    assert!(
                        error < 9e-7 && error < 1.5 * direct,
                        "{method} on {isa}: {error:e} to {direct:e}"
                    );
                }
            }
        }
    }
}

/// The relative error of the level that these products need.
fn promised(products: Products) -> f64 {
    match products {
        Products::Bf16x6 => 2e-6,
        Products::Bf16x3 => 6e-6,
        _ => 4e-3,
    }
}

/// A pixel that is not finite reaches only the taps that read it, and such a gradient only its output channel.
#[test]
fn what_is_not_finite_stays_where_it_is() {
    for (layout, stride) in Layout::ALL.into_iter().flat_map(|layout| [(layout, 1), (layout, 2)]) {
        let conv = ConvProblem { layout, stride: Size2::square(stride), ..plain(2, 6, 9, 11, 12, 3) };
        let problem = WeightsProblem::new(conv, true, false);
        let output = problem.desc().output();
        for (method, isa) in methods() {
            let plan = problem.plan(&PlanOptions::default().force(method).isa(isa));
            for (special, (y, x)) in
                [(f32::INFINITY, (0, 5)), (f32::NAN, (8, 10)), (f32::NEG_INFINITY, (4, 3))]
            {
                let mut data = problem.data();
                data.input[(4 * 9 + y) * 11 + x] = special;
                let (filter, bias) = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
                for (at, value) in filter.iter().enumerate() {
                    let (c, i, j) = (at / 9 % 6, at / 3 % 3, at % 3);
                    let reads = |at: usize, tap: usize, outputs: usize| {
                        (at + 1).checked_sub(tap).is_some_and(|at| at % stride == 0 && at / stride < outputs)
                    };
                    let depends = c == 4 && reads(y, i, output.h) && reads(x, j, output.w);
                    assert_ne!(depends, value.is_finite(), "{method} on {isa}, {at} is {value}: {problem:?}");
                }
                assert!(bias.expect("it is asked for").iter().all(|value| value.is_finite()));
                let mut data = problem.data();
                data.grad_output[(5 * output.h + y / stride) * output.w + x / stride] = special;
                let (filter, bias) = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
                for (o, value) in bias.expect("it is asked for").iter().enumerate() {
                    assert_ne!(o == 5, value.is_finite(), "{method} on {isa}");
                    let of_channel = filter[o * 54..][..54].iter();
                    let finite = of_channel.filter(|value| value.is_finite()).count();
                    assert!(if o == 5 { finite < 54 } else { finite == 54 }, "{method} on {isa}: {finite}");
                }
            }
        }
    }
}

#[test]
fn subnormal_numbers_do_no_harm() {
    let problem = WeightsProblem::new(plain(1, 20, 8, 8, 9, 3), true, false);
    let mut data = problem.data();
    data.input.iter_mut().for_each(|x| *x *= 1e-39);
    for (method, isa) in methods() {
        let plan = problem.plan(&PlanOptions::default().force(method).isa(isa));
        let (filter, _) = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
        assert!(filter.iter().all(|x| x.abs() < 1e-36), "{method} on {isa}");
    }
}

#[test]
fn other_algorithms_have_no_bf16_products() {
    let desc = plain(1, 32, 9, 9, 32, 3).desc().expect("a valid problem");
    for method in methods_of_parts().filter(|method| method.algorithm != Algorithm::Im2colGemm) {
        let reason = Unsupported::OnlyF32;
        assert_eq!(BackwardWeights::supports(method, &desc), Err(reason), "{method}");
        let choice = BackwardWeights::choice(&desc, &PlanOptions::default().force(method));
        assert_eq!(choice.err(), Some(ConvError::Unsupported { method, reason }));
    }
}

/// The choice takes bf16 products only where the level allows them and the caller does not forbid them. It takes them at the
/// loosest level.
#[test]
fn levels_and_the_caller_limit_the_products() {
    let builder = ConvDesc::builder(Shape4::new(8, 256, 14, 14), 256, Size2::square(1));
    let desc = builder.layout(Layout::Nchw16c).build().expect("a valid problem");
    for isa in isas_of_parts() {
        let mut products = Products::F32;
        for numerics in Numerics::ALL {
            let options = PlanOptions::default().isa(isa).numerics(numerics);
            let choice = BackwardWeights::choice(&desc, &options).expect("a choice");
            let Method { algorithm, products: chosen } = choice.method;
            assert!(chosen >= products, "{isa} {numerics}: {chosen} after {products}");
            products = chosen;
            assert!(isa.products().contains(&products));
            let allowed = match numerics {
                Numerics::Strict => Products::F32,
                Numerics::Default => Products::Bf16x6,
                Numerics::Fast | Numerics::Tf32 => Products::Bf16x3,
                _ => Products::Bf16,
            };
            assert!(products <= allowed, "{isa} {numerics}: {products}");
            if products != Products::F32 {
                assert_eq!(algorithm, Algorithm::Im2colGemm);
                let forbidden = options.forbid_products(products);
                let other = BackwardWeights::choice(&desc, &forbidden).expect("a choice");
                assert_ne!(other.method.products, products);
            }
        }
        assert_eq!(products, *isa.products().last().expect("every set has f32"), "{isa}");
    }
}

/// The pixels of a step belong to several rows and images, and the numbers of a channel to several blocks.
#[test]
fn any_cut_of_the_pixels() {
    let mut rng = Rng(11);
    for _ in 0..40 {
        let mut below = |most: u64| 1 + (rng.next() % most) as usize;
        let (n, c, h, w, o) = (below(9), below(40), below(9), below(40), below(70));
        let conv =
            ConvProblem { layout: Layout::ALL[below(3) - 1], seed: w as u64, ..plain(n, c, h, w, o, 3) };
        let problem = WeightsProblem::new(conv, true, true);
        problem.check_parts(&[]).unwrap_or_else(|what| panic!("{what}: {problem:?}"));
    }
}
