//! The gradient of the input and transposed convolution agree with the definition, for every algorithm, instruction set,
//! layout and number of threads.

mod common;

use common::backwards::{check_data, check_transposed, len, poisoned};
use common::persist::config;
use common::strategy::{conv_problem, depthwise_problem, pointwise_problem, winograd_problem};
use common::{ConvProblem, JUNK, Pool, Rng, Values, pools};
use kernels::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

fn check(
    problem: impl Strategy<Value = ConvProblem>,
    cases: u32,
    of: impl Fn(&ConvProblem, &[Pool]) -> Result<(), String>,
) {
    let pools = pools();
    let config = ProptestConfig { max_shrink_iters: 300, source_file: Some(file!()), ..config(cases) };
    let outcome =
        TestRunner::new(config).run(&problem, |problem| of(&problem, &pools).map_err(TestCaseError::fail));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn any_gradient() {
    check(conv_problem(), 60, check_data);
}

#[test]
fn any_depthwise_gradient() {
    check(depthwise_problem(), 40, check_data);
}

#[test]
fn any_pointwise_gradient() {
    check(pointwise_problem(), 40, check_data);
}

#[test]
fn any_winograd_gradient() {
    check(winograd_problem(), 40, check_data);
}

#[test]
fn any_transposed_convolution() {
    check(conv_problem(), 60, check_transposed);
}

#[test]
fn any_transposed_depthwise_convolution() {
    check(depthwise_problem(), 40, check_transposed);
}

/// A gradient by its plan, in NCHW.
fn data(desc: &ConvDesc, filter: &[f32], grad_output: &[f32]) -> Vec<f32> {
    let plan = BackwardData::new(desc, filter, DataSpec::default(), &PlanOptions::default()).unwrap();
    let mut grad_input = vec![JUNK; len(desc.input())];
    let io = BackwardDataIo::new(
        TensorRef::packed(grad_output, desc.output(), Layout::Nchw).unwrap(),
        TensorMut::packed(&mut grad_input, desc.input(), Layout::Nchw).unwrap(),
    );
    plan.run(io, &mut poisoned(plan.workspace_req()), Threads::Seq).unwrap();
    grad_input
}

/// `<conv(x), y> = <x, data(y)>`: the gradient is the transpose of the convolution (Goodfellow, Bengio and Courville 2016,
/// section 9.5), whatever the definition in `common/backwards.rs` says.
#[test]
fn the_gradient_is_the_adjoint_of_the_convolution() {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let norm = |a: &[f32]| dot(a, a).sqrt();
    check(conv_problem(), 200, |problem, _| {
        let plain = ConvProblem {
            epilogue: EpilogueSpec::NONE,
            layout: Layout::Nchw,
            output_layout: None,
            values: Values::Uniform,
            ..*problem
        };
        let desc = plain.desc().map_err(|error| error.to_string())?;
        let mut rng = Rng(problem.seed);
        let mut values = |len| rng.values(Values::Uniform, len);
        let (x, y, filter) =
            (values(len(desc.input())), values(len(desc.output())), values(desc.filter_len()));
        let forward = conv2d(&desc, &x, Weights::filter(&filter)).map_err(|error| error.to_string())?;
        let backward = data(&desc, &filter, &y);
        let (left, right) = (dot(&forward, &y), dot(&x, &backward));
        let most = 1e-5 * (norm(&forward) * norm(&y) + norm(&x) * norm(&backward) + 1e-3);
        if (left - right).abs() > most { Err(format!("{desc}: {left} and {right}")) } else { Ok(()) }
    });
}

/// An encoder's convolution and its decoder's transposed convolution compute the same.
#[test]
fn transposed_convolution_is_the_gradient_of_its_convolution() {
    let desc = ConvDesc::builder(Shape4::new(2, 6, 9, 11), 20, Size2::new(3, 4))
        .stride(Size2::new(2, 3))
        .pad(Pad2 { top: 1, bottom: 0, left: 2, right: 1 })
        .groups(2)
        .build()
        .unwrap();
    let rest = |input: usize, output: usize, kernel: usize, stride: usize, pad: usize| {
        input + pad - ((output - 1) * stride + kernel)
    };
    let transposed = TransposedDesc::builder(desc.output(), 6, desc.kernel())
        .stride(desc.stride())
        .pad(desc.pad())
        .output_pad(Size2::new(rest(9, desc.output().h, 3, 2, 1), rest(11, desc.output().w, 4, 3, 3)))
        .groups(2)
        .build()
        .unwrap();
    assert_eq!(transposed.output(), desc.input());
    let mut rng = Rng(5);
    let filter = rng.values(Values::Uniform, desc.filter_len());
    let input = rng.values(Values::Uniform, len(desc.output()));
    let plan = TransposedPlan::new(&transposed, Weights::filter(&filter), &PlanOptions::default()).unwrap();
    let mut output = vec![JUNK; len(desc.input())];
    let io = ConvIo::new(
        TensorRef::packed(&input, transposed.input(), Layout::Nchw).unwrap(),
        TensorMut::packed(&mut output, transposed.output(), Layout::Nchw).unwrap(),
    );
    plan.run(io, &mut poisoned(plan.workspace_req()), Threads::Seq).unwrap();
    assert_eq!(output, data(&desc, &filter, &input));
}

/// A 16x16 kernel at stride 16, as in vision transformers, and a stride that skips most of the image.
#[test]
fn strides_larger_than_the_kernel() {
    for (size, kernel, stride) in [(32, 16, 16), (40, 2, 9), (300, 1, 150)] {
        let problem = ConvProblem {
            input: Shape4::new(1, 3, size, size),
            out_channels: 8,
            kernel: Size2::square(kernel),
            stride: Size2::square(stride),
            ..ConvProblem::simple()
        };
        check_data(&problem, &[]).unwrap();
        let filled = EpilogueSpec { bias: true, residual: true, activation: Activation::Relu };
        let small = Shape4::new(1, 3, 3, 2);
        check_transposed(&ConvProblem { input: small, epilogue: filled, ..problem }, &[]).unwrap();
    }
}

/// The phases of a 3x3 kernel at stride 2 are 2x2, 2x1, 1x2 and 1x1.
#[test]
fn a_forced_method_computes_the_phases_that_it_can() {
    let desc = ConvDesc::builder(Shape4::new(1, 32, 9, 9), 32, Size2::square(3))
        .stride(Size2::square(2))
        .pad(Pad2::all(1))
        .build()
        .unwrap();
    let filter = vec![0.5; desc.filter_len()];
    let methods = |algorithm: Algorithm| {
        let options = PlanOptions::default().force(algorithm);
        let plan = BackwardData::new(&desc, &filter, DataSpec::default(), &options)?;
        let of_kernels = |(_, phase): (Size2, &ConvPlan)| (phase.desc().kernel(), phase.algorithm());
        Ok::<_, ConvError>(plan.phases().map(of_kernels).collect::<Vec<_>>())
    };
    for algorithm in [Algorithm::Pointwise, Algorithm::Winograd3x3, Algorithm::Im2colGemm] {
        for (kernel, used) in methods(algorithm).unwrap() {
            let can = match algorithm {
                Algorithm::Pointwise => kernel == Size2::square(1),
                // Phases of two rows and columns, of one row, and of one column.
                Algorithm::Winograd3x3 => kernel != Size2::square(1),
                _ => true,
            };
            assert_eq!(used == algorithm, can, "{algorithm} for {kernel}: {used}");
        }
    }
    assert!(matches!(methods(Algorithm::Depthwise), Err(ConvError::Unsupported { .. })));
}

#[test]
fn bad_calls_are_refused() {
    let desc = ConvDesc::builder(Shape4::new(1, 4, 6, 6), 8, Size2::square(3)).build().unwrap();
    let options = PlanOptions::default();
    let (filter, spec) = (vec![0.0; desc.filter_len()], DataSpec::default());
    let short = BackwardData::new(&desc, &filter[1..], spec, &options).unwrap_err();
    assert_eq!(short, ConvError::BufferLen { what: "filter", expected: 288, got: 287 });
    let plan = BackwardData::new(&desc, &filter, DataSpec { accumulate: true }, &options).unwrap();
    let (mut input, output) = (vec![1.0; 144], vec![0.0; 128]);
    let mut run = |shape, scratch: &mut [f32]| {
        let grad_output = TensorRef::packed(&output, shape, Layout::Nchw).unwrap();
        let grad_input = TensorMut::packed(&mut input, desc.input(), Layout::Nchw).unwrap();
        plan.run(BackwardDataIo::new(grad_output, grad_input), scratch, Threads::Seq)
    };
    let shape = Shape4::new(1, 8, 2, 8);
    let wrong = ConvError::ShapeMismatch { what: "grad_output", expected: desc.output(), got: shape };
    let mut scratch = vec![0.0; plan.workspace_req().len()];
    assert_eq!(run(shape, &mut scratch), Err(wrong));
    let expected = scratch.len();
    let short = ConvError::WorkspaceTooSmall { expected, got: expected - 1 };
    assert_eq!(run(desc.output(), &mut scratch[1..]), Err(short));
    assert_eq!(run(desc.output(), &mut scratch), Ok(()));
    assert_eq!(input, [1.0; 144]);
}
