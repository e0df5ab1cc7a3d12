//! Invalid input: each error says what was wrong, what was expected and what was given, and the output stays
//! unchanged.

mod common;

use common::{ConvProblem, JUNK};
use kernels::{
    Activation, Algorithm, ConvDesc, ConvError, ConvIo, ConvPlan, EpilogueSpec, Layout, Pad2, Pitch,
    PlanOptions, Shape4, Size2, TensorMut, TensorRef, Threads, Unsupported, Weights, Workspace, conv2d,
};

const SIMPLE: Shape4 = Shape4::new(1, 4, 5, 5);

fn builder() -> kernels::ConvDescBuilder {
    ConvDesc::builder(SIMPLE, 6, Size2::square(3))
}

fn field(error: ConvError) -> (&'static str, String, String) {
    match error {
        ConvError::InvalidField { field, expected, got } => (field, expected, got),
        other => panic!("expected InvalidField, got {other:?}"),
    }
}

fn plan(desc: &ConvDesc, epilogue_data: (Option<&[f32]>, Option<&[f32]>)) -> Result<ConvPlan, ConvError> {
    let filter = vec![1.0; desc.filter_len()];
    let weights = Weights { filter: &filter, bias: epilogue_data.0, slope: epilogue_data.1 };
    ConvPlan::new(desc, weights, &PlanOptions::default())
}

#[test]
fn zero_extents_are_named() {
    let zero = Size2::new(1, 0);
    let cases = [
        (builder().stride(zero), "stride.w"),
        (builder().dilation(zero), "dilation.w"),
        (builder().groups(0), "groups"),
        (ConvDesc::builder(SIMPLE, 0, Size2::square(3)), "out_channels"),
        (ConvDesc::builder(SIMPLE, 6, Size2::new(0, 3)), "kernel.h"),
        (ConvDesc::builder(Shape4::new(0, 4, 5, 5), 6, Size2::square(3)), "input.n"),
        (ConvDesc::builder(Shape4::new(1, 0, 5, 5), 6, Size2::square(3)), "input.c"),
        (ConvDesc::builder(Shape4::new(1, 4, 0, 5), 6, Size2::square(3)), "input.h"),
        (ConvDesc::builder(Shape4::new(1, 4, 5, 0), 6, Size2::square(3)), "input.w"),
    ];
    for (builder, expected) in cases {
        let (name, rule, got) = field(builder.build().unwrap_err());
        assert_eq!((name, rule.as_str(), got.as_str()), (expected, "at least 1", "0"));
    }
}

#[test]
fn groups_must_divide_both_channels() {
    let (name, expected, got) = field(builder().groups(3).build().unwrap_err());
    assert_eq!((name, expected.as_str(), got.as_str()), ("groups", "a divisor of the 4 input channels", "3"));
    let (_, expected, _) = field(builder().groups(4).build().unwrap_err());
    assert_eq!(expected, "a divisor of the 6 output channels");
}

#[test]
fn a_kernel_larger_than_the_padded_input_leaves_no_output() {
    let error =
        ConvDesc::builder(SIMPLE, 6, Size2::new(3, 4)).dilation(Size2::square(3)).pad(Pad2::all(1)).build();
    let error = error.unwrap_err();
    assert_eq!(
        error,
        ConvError::EmptyOutput { padded_input: Size2::square(7), dilated_kernel: Size2::new(7, 10) }
    );
    assert!(error.to_string().contains("7x10") && error.to_string().contains("7x7"), "{error}");
}

#[test]
fn absurd_sizes_are_errors() {
    let huge = 1 << 40;
    for builder in [
        ConvDesc::builder(Shape4::new(huge, huge, 1, 1), 1, Size2::square(1)),
        ConvDesc::builder(Shape4::new(1, 1, huge, huge), 1, Size2::square(1)),
        ConvDesc::builder(Shape4::new(1, usize::MAX, 1, 1), 1, Size2::square(1)),
        ConvDesc::builder(Shape4::new(1, 1 << 30, 1, 1), 1 << 40, Size2::square(1)),
        builder().pad(Pad2::all(usize::MAX)),
        builder().pad(Pad2::all(huge)).dilation(Size2::square(usize::MAX)),
        ConvDesc::builder(SIMPLE, 6, Size2::square(usize::MAX)).dilation(Size2::square(2)),
        ConvDesc::builder(Shape4::new(1, 1, 1, usize::MAX), 1, Size2::square(1)),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, ConvError::SizeOverflow { .. }), "{error:?}");
    }
}

#[test]
fn activations_have_parameters_that_make_sense() {
    let with = |activation| builder().epilogue(EpilogueSpec::bias(activation)).build();
    let (name, ..) = field(with(Activation::Clip { lo: 1.0, hi: 0.0 }).unwrap_err());
    assert_eq!(name, "activation.clip");
    let (name, ..) = field(with(Activation::Clip { lo: f32::NAN, hi: 0.0 }).unwrap_err());
    assert_eq!(name, "activation.clip");
    let (name, ..) = field(with(Activation::Elu { alpha: f32::INFINITY }).unwrap_err());
    assert_eq!(name, "activation.alpha");
}

#[test]
fn weights_must_be_the_descriptors() {
    let desc = builder().epilogue(EpilogueSpec::bias(Activation::PRelu)).build().unwrap();
    let six = [0.0; 6];
    let error = |result: Result<ConvPlan, ConvError>| result.expect_err("an error");
    let short = ConvPlan::new(&desc, Weights::filter(&[0.0; 7]), &PlanOptions::default());
    assert_eq!(error(short), ConvError::BufferLen { what: "filter", expected: 216, got: 7 });
    let none = error(plan(&desc, (None, Some(&six))));
    assert_eq!(none, ConvError::EpilogueMismatch { what: "bias", planned: true });
    let none = error(plan(&desc, (Some(&six), None)));
    assert_eq!(none, ConvError::EpilogueMismatch { what: "PReLU slopes", planned: true });
    let long = error(plan(&desc, (Some(&[0.0; 7]), Some(&six))));
    assert_eq!(long, ConvError::BufferLen { what: "bias", expected: 6, got: 7 });
    let plain = builder().build().unwrap();
    let extra = error(plan(&plain, (Some(&six), None)));
    assert_eq!(extra, ConvError::EpilogueMismatch { what: "bias", planned: false });
    let extra = error(plan(&plain, (None, Some(&six))));
    assert_eq!(extra, ConvError::EpilogueMismatch { what: "PReLU slopes", planned: false });
}

#[test]
fn options_are_checked() {
    let desc = builder().build().unwrap();
    let filter = vec![0.0; desc.filter_len()];
    let with = |options: PlanOptions| {
        ConvPlan::new(&desc, Weights::filter(&filter), &options).expect_err("an error")
    };
    assert_eq!(field(with(PlanOptions::default().max_threads(0))).0, "max_threads");
    assert_eq!(field(with(PlanOptions::default().macs_per_thread(0))).0, "macs_per_thread");
    assert_eq!(
        with(PlanOptions::default().force(Algorithm::Pointwise)),
        ConvError::Unsupported { method: Algorithm::Pointwise.into(), reason: Unsupported::NotPointwise }
    );
    assert_eq!(
        with(PlanOptions::default().max_threads(usize::MAX)),
        ConvError::SizeOverflow { what: "workspace" }
    );
}

#[test]
fn tensors_are_checked_when_they_are_made() {
    let data = [0.0; 100];
    let short = TensorRef::packed(&data[..99], SIMPLE, Layout::Nchw).unwrap_err();
    assert_eq!(short, ConvError::BufferLen { what: "tensor", expected: 100, got: 99 });
    let blocked = TensorRef::packed(&data, SIMPLE, Layout::Nchw16c).unwrap_err();
    assert_eq!(blocked, ConvError::BufferLen { what: "tensor", expected: 400, got: 100 });
    let pitched = |layout, image, pixel| TensorRef::with_pitch(&data, SIMPLE, layout, Pitch { image, pixel });
    assert_eq!(field(pitched(Layout::Nhwc, 100, 3).unwrap_err()).0, "pitch.pixel");
    assert_eq!(field(pitched(Layout::Nchw, 100, 2).unwrap_err()).0, "pitch.pixel");
    assert_eq!(field(pitched(Layout::Nhwc, 99, 4).unwrap_err()).0, "pitch.image");
    let outside = pitched(Layout::Nhwc, 200, 5).unwrap_err();
    assert_eq!(outside, ConvError::BufferLen { what: "tensor", expected: 124, got: 100 });
    assert_eq!(
        field(TensorRef::packed(&[], Shape4::new(0, 1, 1, 1), Layout::Nchw).unwrap_err()).0,
        "tensor shape"
    );
    let overflow = pitched(Layout::Nhwc, usize::MAX, usize::MAX).unwrap_err();
    assert!(matches!(overflow, ConvError::SizeOverflow { .. }), "{overflow:?}");
}

/// Every kind of mistake in a run must leave the output unchanged.
#[test]
fn run_checks_everything_before_it_writes() {
    let problem = ConvProblem {
        epilogue: EpilogueSpec { residual: true, ..EpilogueSpec::NONE },
        ..ConvProblem::simple()
    };
    let (data, desc) = (problem.data(), problem.desc().unwrap());
    // An algorithm that needs a workspace.
    let plan = problem.plan(&data, &PlanOptions::default().force(Algorithm::Im2colGemm)).unwrap();
    let residual_data = data.residual.clone().unwrap();
    let (input_shape, shape) = (desc.input(), desc.output());
    let input = || TensorRef::packed(&data.input, input_shape, Layout::Nchw).unwrap();
    let residual = || Some(TensorRef::packed(&residual_data, shape, Layout::Nchw).unwrap());
    let mut output = vec![JUNK; residual_data.len()];
    let mut workspace = Workspace::for_req(plan.workspace_req()).unwrap();
    let mut attempt = |input: TensorRef<'_>,
                       shape: Shape4,
                       layout: Layout,
                       residual: Option<TensorRef<'_>>,
                       ws: &mut Workspace| {
        let io =
            ConvIo { input, output: TensorMut::packed(&mut output, shape, layout).unwrap().into(), residual };
        let error = plan.run(io, ws, Threads::Seq).unwrap_err();
        assert!(
            output.iter().all(|value| value.to_bits() == JUNK.to_bits()),
            "the output was touched: {error}"
        );
        error
    };
    // Swapped extents keep the number of elements, so only the shape is wrong.
    let turned = Shape4::new(1, 8, 3, 8);
    let wrong = TensorRef::packed(&data.input, turned, Layout::Nchw).unwrap();
    assert_eq!(
        attempt(wrong, shape, Layout::Nchw, residual(), &mut workspace),
        ConvError::ShapeMismatch { what: "input", expected: input_shape, got: turned }
    );
    let wrong = TensorRef::packed(&data.input, input_shape, Layout::Nhwc).unwrap();
    assert_eq!(
        attempt(wrong, shape, Layout::Nchw, residual(), &mut workspace),
        ConvError::LayoutMismatch { what: "input", expected: Layout::Nchw, got: Layout::Nhwc }
    );
    let turned = Shape4::new(1, 6, 5, 6);
    assert_eq!(
        attempt(input(), turned, Layout::Nchw, residual(), &mut workspace),
        ConvError::ShapeMismatch { what: "output", expected: shape, got: turned }
    );
    assert_eq!(
        attempt(input(), shape, Layout::Nhwc, residual(), &mut workspace),
        ConvError::LayoutMismatch { what: "output", expected: Layout::Nchw, got: Layout::Nhwc }
    );
    assert_eq!(
        attempt(input(), shape, Layout::Nchw, None, &mut workspace),
        ConvError::EpilogueMismatch { what: "residual", planned: true }
    );
    let wrong = TensorRef::packed(&residual_data, turned, Layout::Nchw).unwrap();
    assert_eq!(
        attempt(input(), shape, Layout::Nchw, Some(wrong), &mut workspace),
        ConvError::ShapeMismatch { what: "residual", expected: shape, got: turned }
    );
    let expected = plan.workspace_req().len();
    assert!(expected > 0);
    assert_eq!(
        attempt(input(), shape, Layout::Nchw, residual(), &mut Workspace::empty()),
        ConvError::WorkspaceTooSmall { expected, got: 0 }
    );
    // The same call without a mistake succeeds.
    let io = ConvIo {
        input: input(),
        output: TensorMut::packed(&mut output, shape, Layout::Nchw).unwrap().into(),
        residual: residual(),
    };
    plan.run(io, &mut workspace, Threads::Seq).unwrap();
    assert!(output.iter().all(|value| value.is_finite()));
}

#[test]
fn a_residual_that_was_not_planned_is_refused() {
    let problem = ConvProblem::simple();
    let data = problem.data();
    let plan = problem.plan(&data, &PlanOptions::default()).unwrap();
    let shape = plan.desc().output();
    let mut output = vec![JUNK; 180];
    let extra = vec![0.0; 180];
    let io = ConvIo {
        input: TensorRef::packed(&data.input, problem.input, Layout::Nchw).unwrap(),
        output: TensorMut::packed(&mut output, shape, Layout::Nchw).unwrap().into(),
        residual: Some(TensorRef::packed(&extra, shape, Layout::Nchw).unwrap()),
    };
    let error =
        plan.run(io, &mut Workspace::for_req(plan.workspace_req()).unwrap(), Threads::Seq).unwrap_err();
    assert_eq!(error, ConvError::EpilogueMismatch { what: "residual", planned: false });
    assert!(output.iter().all(|value| value.to_bits() == JUNK.to_bits()));
}

#[test]
fn the_convenience_call_checks_as_well() {
    let desc = builder().build().unwrap();
    let filter = vec![0.0; desc.filter_len()];
    let error = conv2d(&desc, &[0.0; 7], Weights::filter(&filter)).unwrap_err();
    assert_eq!(error, ConvError::BufferLen { what: "tensor", expected: 100, got: 7 });
    let residual = builder().epilogue(EpilogueSpec { residual: true, ..EpilogueSpec::NONE }).build().unwrap();
    let error = conv2d(&residual, &[0.0; 100], Weights::filter(&filter)).unwrap_err();
    assert_eq!(error, ConvError::EpilogueMismatch { what: "residual", planned: true });
}

#[test]
fn messages_say_wrong_expected_and_got() {
    let error = builder().groups(3).build().unwrap_err();
    assert_eq!(error.to_string(), "groups: expected a divisor of the 4 input channels, got 3");
    let error = TensorRef::packed(&[0.0; 3], SIMPLE, Layout::Nchw).unwrap_err();
    assert_eq!(error.to_string(), "tensor: expected 100 elements, got 3");
}
