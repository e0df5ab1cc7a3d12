//! Gradients of convolutions that have an activation: the gradient of the output is that after the activation.

mod common;

use common::{Rng, Values};
use kernels::{
    Activation, ActivationValue, BackwardData, BackwardData3d, BackwardData3dIo, BackwardDataIo,
    BackwardWeights, BackwardWeights3d, BackwardWeights3dIo, BackwardWeightsIo, Conv3dDesc, ConvDesc,
    ConvError, DataSpec, EpilogueSpec, Layout, Ops, Pad2, Pad3, PlanOptions, Shape4, Shape5, Size2, Size3,
    TensorMut, TensorRef, Threads, VolumeLayout, VolumeMut, VolumeRef, WeightsSpec, Workspace, WorkspaceReq,
};

/// The activations whose outputs determine their derivatives.
const KNOWN: [Activation; 6] = [
    Activation::Relu,
    Activation::LeakyRelu { alpha: 0.1 },
    Activation::RELU6,
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Elu { alpha: 0.5 },
];

fn desc(stride: usize, layout: Layout, activation: Activation) -> ConvDesc {
    let builder = ConvDesc::builder(Shape4::new(2, 5, 9, 8), 19, Size2::square(3)).pad(Pad2::all(1));
    let epilogue = EpilogueSpec { activation, ..EpilogueSpec::NONE };
    builder.stride(Size2::square(stride)).layout(layout).epilogue(epilogue).build().unwrap()
}

fn poisoned(req: WorkspaceReq) -> Workspace {
    let mut workspace = Workspace::for_req(req).unwrap();
    workspace.as_mut_slice().fill(f32::NAN);
    workspace
}

/// Input, gradient of the output and output of a convolution, in its layout.
struct Tensors {
    input: Vec<f32>,
    go: Vec<f32>,
    output: Vec<f32>,
    filter: Vec<f32>,
}

impl Tensors {
    fn new(desc: &ConvDesc) -> Self {
        let (mut rng, layout) = (Rng(9), desc.layout());
        let mut values = |len| rng.values(Values::Uniform, len);
        let len = |shape: Shape4| shape.len(layout).unwrap();
        let (input, go) = (values(len(desc.input())), values(len(desc.output())));
        let filter = values(desc.filter_len());
        // Any numbers in the range of the activation are an output.
        let act = |x: f32| desc.epilogue().activation.eval(f64::from(3.0 * x), 0.0) as f32;
        let output = values(len(desc.output())).into_iter().map(act).collect();
        Self { input, go, output, filter }
    }
}

/// The gradient before the activation, by the layer of its own.
fn before(desc: &ConvDesc, tensors: &Tensors) -> Vec<f32> {
    let [gradient, output] = [&tensors.go, &tensors.output]
        .map(|data| TensorRef::packed(data, desc.output(), desc.layout()).unwrap());
    let mut product = vec![0.0; tensors.go.len()];
    let to = TensorMut::packed(&mut product, desc.output(), desc.layout()).unwrap();
    let (activation, value) = (desc.epilogue().activation, ActivationValue::Output(output));
    Ops::new(None).unwrap().activate_gradient(activation, value, gradient, to, Threads::Seq).unwrap();
    product
}

fn data(
    desc: &ConvDesc,
    tensors: &Tensors,
    go: &[f32],
    output: Option<&[f32]>,
) -> Result<Vec<f32>, ConvError> {
    let plan = BackwardData::new(desc, &tensors.filter, DataSpec::default(), &PlanOptions::default())?;
    let mut gradient = vec![f32::NAN; tensors.input.len()];
    let tensor = |data| TensorRef::packed(data, desc.output(), desc.layout());
    let to = TensorMut::packed(&mut gradient, desc.input(), desc.layout())?;
    let mut io = BackwardDataIo::new(tensor(go)?, to);
    io.output = output.map(tensor).transpose()?;
    plan.run(io, &mut poisoned(plan.workspace_req()), Threads::Seq)?;
    Ok(gradient)
}

fn weights(
    desc: &ConvDesc,
    tensors: &Tensors,
    go: &[f32],
    output: Option<&[f32]>,
) -> Result<(Vec<f32>, Vec<f32>), ConvError> {
    let plan = BackwardWeights::new(desc, &WeightsSpec::default().bias(), &PlanOptions::default())?;
    let (mut filter, mut bias) = (vec![f32::NAN; desc.filter_len()], vec![f32::NAN; desc.output().c]);
    let tensor = |data| TensorRef::packed(data, desc.output(), desc.layout());
    let input = TensorRef::packed(&tensors.input, desc.input(), desc.layout())?;
    let mut io = BackwardWeightsIo::new(input, tensor(go)?, &mut filter).bias(&mut bias);
    io.output = output.map(tensor).transpose()?;
    plan.run(io, &mut poisoned(plan.workspace_req()), Threads::Seq)?;
    Ok((filter, bias))
}

/// The same bits as the gradient of the activation, and then that of the convolution without it.
#[test]
fn gradients_go_through_the_activation() {
    for activation in KNOWN {
        for (stride, layout) in [1, 2]
            .into_iter()
            .flat_map(|stride| [Layout::Nchw, Layout::Nhwc, Layout::Nchw16c].map(|layout| (stride, layout)))
        {
            let (fused, plain) = (desc(stride, layout, activation), desc(stride, layout, Activation::None));
            let tensors = Tensors::new(&fused);
            let product = before(&fused, &tensors);
            assert!(product.iter().any(|&x| x != 0.0));
            let expected = data(&plain, &tensors, &product, None).unwrap();
            let got = data(&fused, &tensors, &tensors.go, Some(&tensors.output)).unwrap();
            assert_eq!(got, expected, "{fused}");
            let expected = weights(&plain, &tensors, &product, None).unwrap();
            let got = weights(&fused, &tensors, &tensors.go, Some(&tensors.output)).unwrap();
            assert_eq!(got, expected, "{fused}");
        }
    }
}

/// The gradients of the input, the filter and the bias of a volume.
fn of_volume(
    desc: &Conv3dDesc,
    [input, filter, go]: [&[f32]; 3],
    output: Option<&[f32]>,
) -> Result<[Vec<f32>; 3], ConvError> {
    let options = PlanOptions::default();
    let nan = |len| vec![f32::NAN; len];
    let (mut gx, mut gw, mut gb) = (nan(input.len()), nan(desc.filter_len()), nan(desc.output().c));
    let of_output = |data| VolumeRef::packed(data, desc.output(), desc.output_layout());
    let plan = BackwardData3d::new(desc, filter, DataSpec::default(), &options)?;
    let to = VolumeMut::packed(&mut gx, desc.input(), desc.layout())?;
    let mut io = BackwardData3dIo::new(of_output(go)?, to);
    io.output = output.map(of_output).transpose()?;
    plan.run(io, &mut poisoned(plan.workspace_req()), Threads::Seq)?;
    let plan = BackwardWeights3d::new(desc, &WeightsSpec::default().bias(), &options)?;
    let input = VolumeRef::packed(input, desc.input(), desc.layout())?;
    let mut io = BackwardWeights3dIo::new(input, of_output(go)?, &mut gw).bias(&mut gb);
    io.output = output.map(of_output).transpose()?;
    plan.run(io, &mut poisoned(plan.workspace_req()), Threads::Seq)?;
    Ok([gx, gw, gb])
}

/// Volumes, too, and the gradient of the activation is the product with its derivative.
#[test]
fn gradients_of_volumes_go_through_the_activation() {
    for (layout, stride) in VolumeLayout::ALL.into_iter().flat_map(|layout| [(layout, 1), (layout, 2)]) {
        let volume = |activation| {
            let builder = Conv3dDesc::builder(Shape5::new(2, 5, 4, 5, 6), 19, Size3::cube(3));
            let epilogue = EpilogueSpec { activation, ..EpilogueSpec::NONE };
            let builder = builder.stride(Size3::cube(stride)).pad(Pad3::all(1)).layout(layout);
            builder.epilogue(epilogue).build().unwrap()
        };
        let (fused, plain) = (volume(Activation::Tanh), volume(Activation::None));
        let mut rng = Rng(11);
        let mut values = |len| rng.values(Values::Uniform, len);
        let (input, filter) = (values(fused.input().len(layout).unwrap()), values(fused.filter_len()));
        let len = fused.output().len(layout).unwrap();
        let (go, output) = (values(len), values(len));
        let product: Vec<f32> = go.iter().zip(&output).map(|(g, y)| g * (1.0 - y * y)).collect();
        let expected = of_volume(&plain, [&input, &filter, &product], None).unwrap();
        let got = of_volume(&fused, [&input, &filter, &go], Some(&output)).unwrap();
        for (got, expected) in got.iter().zip(&expected) {
            let largest = expected.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
            let is_near = |(got, expected): (&f32, &f32)| (got - expected).abs() <= 2e-6 * largest;
            assert!(largest > 0.0 && got.iter().zip(expected).all(is_near), "{fused}");
        }
        let missing = of_volume(&fused, [&input, &filter, &go], None).unwrap_err();
        let planned = |planned| ConvError::EpilogueMismatch { what: "output of the activation", planned };
        assert_eq!(missing, planned(true));
        let surplus = of_volume(&plain, [&input, &filter, &go], Some(&output)).unwrap_err();
        assert_eq!(surplus, planned(false));
        let unknown = of_volume(&volume(Activation::Silu), [&input, &filter, &go], None).unwrap_err();
        assert!(unknown.to_string().contains("derivative"), "{unknown}");
    }
}

#[test]
fn the_output_is_given_if_and_only_if_it_is_needed() {
    let planned = |planned| ConvError::EpilogueMismatch { what: "output of the activation", planned };
    for (activation, output) in [(Activation::Relu, false), (Activation::None, true)] {
        let desc = desc(1, Layout::Nhwc, activation);
        let tensors = Tensors::new(&desc);
        let output = output.then_some(&tensors.output[..]);
        let error = planned(output.is_none());
        assert_eq!(data(&desc, &tensors, &tensors.go, output), Err(error.clone()));
        assert_eq!(weights(&desc, &tensors, &tensors.go, output), Err(error));
    }
}

#[test]
fn other_activations_are_refused() {
    for activation in
        [Activation::PRelu, Activation::Silu, Activation::HardSwish, Activation::Elu { alpha: 0.0 }]
    {
        let desc = desc(1, Layout::Nhwc, activation);
        let filter = vec![0.0; desc.filter_len()];
        let options = PlanOptions::default();
        let errors = [
            BackwardData::new(&desc, &filter, DataSpec::default(), &options).err(),
            BackwardWeights::new(&desc, &WeightsSpec::default(), &options).err(),
        ];
        for error in errors {
            let message = error.expect("its output does not determine the derivative").to_string();
            assert!(message.contains("derivative") && message.contains(activation.name()), "{message}");
        }
    }
}
