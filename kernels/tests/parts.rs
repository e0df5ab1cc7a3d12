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
    let has_dots = Isa::available().any(|isa| isa == Isa::Avx512Bf16);
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

/// A bf16 number: `x` rounded to nearest, ties to even.
fn rounded(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// The words of a tensor in Nchw32cBf16, from one in Nchw16c whose channels are a multiple of 32.
fn words(blocked: &[f32], shape: Shape4) -> Vec<f32> {
    let pixels = shape.h * shape.w;
    let mut words = Vec::new();
    for image in blocked.chunks(shape.c * pixels) {
        for blocks in image.chunks(32 * pixels) {
            let (first, second) = blocks.split_at(16 * pixels);
            for (a, b) in first.chunks(16).zip(second.chunks(16)) {
                for pair in a.chunks(2).chain(b.chunks(2)) {
                    let bits = u32::from(rounded(pair[0])) | u32::from(rounded(pair[1])) << 16;
                    words.push(f32::from_bits(bits));
                }
            }
        }
    }
    words
}

/// A convolution on bf16 tensors gives the same bits as on `f32` tensors with the same numbers.
#[test]
fn tensors_of_bf16_numbers() {
    let pools = pools();
    let shapes =
        [(1, 32, 1, 1), (2, 64, 5, 7), (1, 96, 14, 14), (1, 64, 15, 9), (3, 32, 7, 7), (1, 64, 1, 40)];
    let windows = [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (5, 1, 2)];
    for ((n, c, h, w), (kernel, stride, pad)) in shapes.into_iter().flat_map(|s| windows.map(|w| (s, w))) {
        for (outs, residual, activation) in [(32, false, Activation::None), (96, true, Activation::Relu)] {
            let shape = Shape4::new(n, c, h, w);
            let builder = |input: Layout, output: Layout| {
                ConvDesc::builder(shape, outs, Size2::square(kernel))
                    .stride(Size2::square(stride))
                    .pad(Pad2::all(pad))
                    .layout(input)
                    .output_layout(output)
                    .epilogue(EpilogueSpec { bias: true, residual, activation })
                    .build()
            };
            let plain = builder(Layout::Nchw16c, Layout::Nchw16c).expect("a valid problem");
            let mut rng = common::Rng(u64::from(c as u32) + 7);
            let mut uniform = |len| rng.values(common::Values::Uniform, len);
            let (filter, bias) = (uniform(plain.filter_len()), uniform(outs));
            let weights = Weights::with_bias(&filter, &bias);
            let input = uniform(shape.len(Layout::Nchw16c).unwrap());
            let addend: Vec<f32> = uniform(plain.output().len(Layout::Nchw16c).unwrap())
                .into_iter()
                .map(|x| f32::from_bits(u32::from(rounded(x)) << 16))
                .collect();
            let (input_words, addend_words) = (words(&input, shape), words(&addend, plain.output()));
            for method in [Algorithm::Pointwise, Algorithm::Direct].map(|a| Method::new(a, Products::Bf16)) {
                for isa in isas_of_parts() {
                    let run = |desc: &ConvDesc, narrow_residual: bool, threads: Threads<'_>| {
                        let options =
                            PlanOptions::default().force(method).isa(isa).max_threads(2).macs_per_thread(1);
                        let plan = ConvPlan::new(desc, weights, &options).expect("a plan");
                        let of = |layout| if layout == Layout::Nchw16c { &input } else { &input_words };
                        let layout = desc.output_layout();
                        let mut output = vec![common::JUNK; desc.output().len(layout).unwrap()];
                        let mut io = ConvIo::new(
                            TensorRef::packed(of(desc.layout()), shape, desc.layout()).unwrap(),
                            TensorMut::packed(&mut output, desc.output(), layout).unwrap(),
                        );
                        if residual {
                            let (data, layout) = match narrow_residual {
                                true => (&addend_words, Layout::Nchw32cBf16),
                                false => (&addend, Layout::Nchw16c),
                            };
                            io = io.residual(TensorRef::packed(data, desc.output(), layout).unwrap());
                        }
                        let mut workspace = Workspace::for_req(plan.workspace_req()).unwrap();
                        workspace.as_mut_slice().fill(common::JUNK);
                        plan.run(io, &mut workspace, threads).expect("a run");
                        output
                    };
                    if method.supports(&plain).is_err() {
                        continue;
                    }
                    let expected = run(&plain, false, Threads::Seq);
                    let narrow = words(&expected, plain.output());
                    let same = |got: &[f32], expected: &[f32], what: &str| {
                        let differ = got.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits());
                        assert_eq!(differ, None, "{method} on {isa}: {plain}, {what}");
                    };
                    let narrow_in = builder(Layout::Nchw32cBf16, Layout::Nchw16c).expect("a valid problem");
                    same(&run(&narrow_in, false, Threads::Seq), &expected, "input");
                    same(&run(&narrow_in, true, Threads::Seq), &expected, "input and residual");
                    let narrow_out = builder(Layout::Nchw16c, Layout::Nchw32cBf16).expect("a valid problem");
                    same(&run(&narrow_out, false, Threads::Seq), &narrow, "output");
                    same(&run(&narrow_out, true, Threads::Seq), &narrow, "output and residual");
                    let both = builder(Layout::Nchw32cBf16, Layout::Nchw32cBf16).expect("a valid problem");
                    for pool in &pools {
                        same(&run(&both, true, pool.threads()), &narrow, "all, on several threads");
                    }
                }
            }
        }
    }
}

/// Everything else refuses tensors of bf16 numbers.
#[test]
fn tensors_of_bf16_numbers_are_refused_elsewhere() {
    let builder =
        ConvDesc::builder(Shape4::new(1, 32, 4, 4), 32, Size2::square(3)).layout(Layout::Nchw32cBf16);
    let desc = builder.build().expect("a valid problem");
    for method in Method::all(&Products::ALL) {
        let is_direct = method == Method::new(Algorithm::Direct, Products::Bf16);
        assert_eq!(method.supports(&desc).is_ok(), is_direct, "{method}");
    }
    let field = |result: Result<ConvDesc, ConvError>| result.expect_err("refused").to_string();
    assert!(field(builder.groups(2).build()).contains("a multiple of 32 in one group"));
    let narrow =
        ConvDesc::builder(Shape4::new(1, 48, 4, 4), 32, Size2::square(1)).layout(Layout::Nchw32cBf16);
    assert!(field(narrow.build()).starts_with("input.c: expected a multiple of 32"));
}

/// Where few pixels meet many weights, six products split the weights as they are read.
#[test]
fn weights_that_are_split_as_they_are_read() {
    let method = Method::new(Algorithm::Direct, Products::Bf16x6);
    let problem = ConvProblem {
        input: Shape4::new(1, 512, 4, 5),
        out_channels: 99,
        layout: Layout::Nchw16c,
        ..ConvProblem::simple()
    };
    for isa in isas_of_parts() {
        let plan =
            problem.plan(&problem.data(), &PlanOptions::default().force(method).isa(isa)).expect("a plan");
        assert_eq!(plan.explain().weights, "f32, split as they are read", "{isa}");
        assert!(plan.explain().to_string().contains("bytes of weights (f32, split as they are read)"));
        problem.check(method, isa, &pools()).unwrap_or_else(|what| panic!("{what}"));
    }
    let few = ConvProblem { input: Shape4::new(1, 32, 4, 5), ..problem };
    let plan = few.plan(&few.data(), &PlanOptions::default().force(method)).expect("a plan");
    assert_eq!(plan.explain().weights, "bf16 parts");
}
