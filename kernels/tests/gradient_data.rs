//! The gradient of the input and transposed convolution agree with the definition, for every algorithm, instruction set,
//! layout and number of threads.

mod common;

use common::backwards::{After, Geometry, len};
use common::persist::config;
use common::strategy::{conv_problem, depthwise_problem, pointwise_problem, winograd_problem};
use common::{ConvProblem, JUNK, Placed, Pool, Rng, Values, isas_of_f32, pools};
use kernels::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// The options to test on one instruction set: every algorithm that can be forced, and the choice.
fn all_options() -> impl Iterator<Item = PlanOptions> {
    isas_of_f32().flat_map(|isa| {
        let options = PlanOptions::default().isa(isa).max_threads(8).macs_per_thread(1);
        Algorithm::ALL.into_iter().map(move |algorithm| options.force(algorithm)).chain([options])
    })
}

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

/// Runs `run` with the calling thread and with every pool, on poisoned memory, and compares the bits.
fn same_bits(
    pools: &[Pool],
    mut run: impl FnMut(Threads<'_>) -> Result<Vec<f32>, String>,
) -> Result<Vec<f32>, String> {
    let sequential = run(Threads::Seq)?;
    for pool in pools {
        let parallel = run(pool.threads())?;
        if let Some(at) = sequential.iter().zip(&parallel).position(|(a, b)| a.to_bits() != b.to_bits()) {
            return Err(format!("other bits with {} threads, at element {at}", pool.threads().count()));
        }
    }
    Ok(sequential)
}

fn poisoned(req: WorkspaceReq) -> Workspace {
    let mut workspace = Workspace::for_req(req).unwrap();
    workspace.as_mut_slice().fill(JUNK);
    workspace
}

/// Checks the gradient of the input of one problem.
fn check_data(problem: &ConvProblem, pools: &[Pool]) -> Result<(), String> {
    let problem = ConvProblem { epilogue: EpilogueSpec::NONE, ..*problem };
    let desc = problem.desc().map_err(|error| error.to_string())?;
    let mut rng = Rng(problem.seed);
    let grad_output = rng.values(problem.values, len(desc.output()));
    let filter = rng.values(Values::Uniform, desc.filter_len());
    let old = rng.values(Values::Uniform, len(desc.input()));
    let sums = Geometry::from(&desc).sums(&grad_output, &filter);
    let mut planned = 0;
    for options in all_options() {
        for accumulate in [false, true] {
            let plan = match BackwardData::new(&desc, &filter, DataSpec { accumulate }, &options) {
                Err(ConvError::Unsupported { .. }) => continue,
                plan => plan.map_err(|error| error.to_string())?,
            };
            planned += 1;
            let context = |what: String| format!("{plan}accumulate {accumulate}: {what}");
            let run = |threads: Threads<'_>| {
                let layouts = (desc.output_layout(), desc.layout());
                let from = Placed::new(desc.output(), layouts.0, problem.slack, Some(&grad_output));
                let mut to =
                    Placed::new(desc.input(), layouts.1, problem.slack, accumulate.then_some(&old[..]));
                let io = BackwardDataIo { grad_output: from.tensor(), grad_input: to.tensor_mut() };
                let mut workspace = poisoned(plan.workspace_req());
                plan.run(io, &mut workspace, threads).map_err(|error| error.to_string())?;
                to.plain()
            };
            let got = same_bits(pools, run).map_err(context)?;
            let after = After { addend: accumulate.then_some(&old[..]), ..After::NOTHING };
            let plans = plan.phases().map(|(_, plan)| plan);
            sums.compare(after, plans, &got).map_err(context)?;
        }
    }
    // im2col computes everything, and the choice always finds something.
    if planned < 4 { Err(format!("only {planned} plans")) } else { Ok(()) }
}

/// The transposed convolution with the parameters of a problem; `None` if it has no output.
fn transposed(problem: &ConvProblem) -> Option<TransposedDesc> {
    let most = |stride: usize, dilation: usize| (problem.seed as usize / 7) % stride.max(dilation);
    let builder = TransposedDesc::builder(problem.input, problem.out_channels, problem.kernel)
        .stride(problem.stride)
        .pad(problem.pad)
        .output_pad(Size2::new(
            most(problem.stride.h, problem.dilation.h),
            most(problem.stride.w, problem.dilation.w),
        ))
        .dilation(problem.dilation)
        .groups(problem.groups)
        .layout(problem.layout)
        .epilogue(problem.epilogue);
    builder.build().ok()
}

/// Checks a transposed convolution.
fn check_transposed(problem: &ConvProblem, pools: &[Pool]) -> Result<(), String> {
    let Some(desc) = transposed(problem) else { return Ok(()) };
    let mut rng = Rng(problem.seed);
    let (epilogue, channels) = (desc.epilogue(), desc.output().c);
    let input = rng.values(problem.values, len(desc.input()));
    let filter = rng.values(Values::Uniform, desc.filter_len());
    let bias = epilogue.bias.then(|| rng.values(Values::Uniform, channels));
    let slope = (epilogue.activation == Activation::PRelu).then(|| rng.values(Values::Uniform, channels));
    let residual = epilogue.residual.then(|| rng.values(Values::Uniform, len(desc.output())));
    let sums = Geometry::from(&desc).sums(&input, &filter);
    let weights = Weights { filter: &filter, bias: bias.as_deref(), slope: slope.as_deref() };
    for options in all_options() {
        let plan = match TransposedPlan::new(&desc, weights, &options) {
            Err(ConvError::Unsupported { .. }) => continue,
            plan => plan.map_err(|error| error.to_string())?,
        };
        let context = |what: String| format!("{plan}{:?}: {what}", desc.epilogue());
        let run = |threads: Threads<'_>| {
            let place = |shape, plain| Placed::new(shape, desc.layout(), problem.slack, plain);
            let (from, mut to) = (place(desc.input(), Some(&input[..])), place(desc.output(), None));
            let residual = residual.as_ref().map(|residual| place(desc.output(), Some(&residual[..])));
            let residual = residual.as_ref().map(Placed::tensor);
            let io = ConvIo { input: from.tensor(), output: to.tensor_mut().into(), residual };
            let mut workspace = poisoned(plan.workspace_req());
            plan.run(io, &mut workspace, threads).map_err(|error| error.to_string())?;
            to.plain()
        };
        let got = same_bits(pools, run).map_err(context)?;
        let after = After {
            bias: bias.as_deref(),
            slope: slope.as_deref(),
            addend: residual.as_deref(),
            activation: epilogue.activation,
        };
        let plans = plan.phases().map(|(_, plan)| plan);
        sums.compare(after, plans, &got).map_err(context)?;
    }
    Ok(())
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
    let io = BackwardDataIo {
        grad_output: TensorRef::packed(grad_output, desc.output(), Layout::Nchw).unwrap(),
        grad_input: TensorMut::packed(&mut grad_input, desc.input(), Layout::Nchw).unwrap(),
    };
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

#[test]
fn bad_calls_are_refused() {
    let desc = ConvDesc::builder(Shape4::new(1, 4, 6, 6), 8, Size2::square(3)).build().unwrap();
    let options = PlanOptions::default();
    let (filter, spec) = (vec![0.0; desc.filter_len()], DataSpec::default());
    let short = BackwardData::new(&desc, &filter[1..], spec, &options).unwrap_err();
    assert_eq!(short, ConvError::BufferLen { what: "filter", expected: 288, got: 287 });
    let relu = ConvDesc::builder(desc.input(), 8, Size2::square(3))
        .epilogue(EpilogueSpec::bias(Activation::Relu))
        .build()
        .unwrap();
    let message = BackwardData::new(&relu, &filter, spec, &options).unwrap_err().to_string();
    assert!(message.contains("derivative of the activation"), "{message}");
    let plan = BackwardData::new(&desc, &filter, DataSpec { accumulate: true }, &options).unwrap();
    let (mut input, output) = (vec![1.0; 144], vec![0.0; 128]);
    let mut run = |shape, scratch: &mut [f32]| {
        let grad_output = TensorRef::packed(&output, shape, Layout::Nchw).unwrap();
        let grad_input = TensorMut::packed(&mut input, desc.input(), Layout::Nchw).unwrap();
        plan.run(BackwardDataIo { grad_output, grad_input }, scratch, Threads::Seq)
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
