//! Convolutions of `f32` tensors and their gradients by `convkernels`. A file of the patch that
//! `backends/burn/README.md` of that project describes.
//!
//! A function of `f32` tensors returns `None` where the library refuses a problem, such as an empty tensor. burn-flex then
//! computes it. Gradients of other types than `f32` are computed in `f32` and converted.

use crate::{FlexTensor, Layout};
use alloc::vec;
use alloc::vec::Vec;
use burn_backend::DType;
use burn_backend::ops::{ConvOptions, ConvTransposeOptions};
use burn_std::{Bytes, Shape};
use kernels::{
    BackwardData, BackwardDataIo, BackwardWeights, BackwardWeightsIo, ConvDesc, ConvError, ConvIo, ConvPlan,
    DataSpec, EpilogueSpec, Pad2, PlanOptions, Shape4, Size2, TensorMut, TensorRef, Threads, TransposedDesc,
    TransposedPlan, Weights, WeightsSpec, Workspace, WorkspaceReq,
};
use std::cell::Cell;

thread_local! {
    /// The scratch memory of this thread's runs.
    static WORKSPACE: Cell<Option<Workspace>> = const { Cell::new(None) };
}

fn with_workspace(
    req: WorkspaceReq,
    run: impl FnOnce(&mut Workspace) -> Result<(), ConvError>,
) -> Result<(), ConvError> {
    let mut workspace = WORKSPACE.take().unwrap_or_else(Workspace::empty);
    let done = workspace.reserve(req).and_then(|()| run(&mut workspace));
    WORKSPACE.set(Some(workspace));
    done
}

fn options() -> PlanOptions {
    PlanOptions::default().threads(&Threads::Current)
}

/// The shape of a tensor of four axes.
fn shape(tensor: &FlexTensor) -> Shape4 {
    let [n, c, h, w] = tensor.layout().shape().dims();
    Shape4::new(n, c, h, w)
}

fn tensor(values: Vec<f32>, shape: &Shape) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape.clone()), DType::F32)
}

fn pair([h, w]: [usize; 2]) -> Size2 {
    Size2::new(h, w)
}

/// The convolution of images of this shape with a weight `[O, C / groups, KH, KW]`.
fn describe(
    input: Shape4,
    weight: Shape4,
    options: &ConvOptions<2>,
    bias: bool,
) -> Result<ConvDesc, ConvError> {
    let [(top, bottom), (left, right)] = options.padding;
    ConvDesc::builder(input, weight.n, weight.size())
        .stride(pair(options.stride))
        .pad(Pad2 { top, bottom, left, right })
        .dilation(pair(options.dilation))
        .groups(options.groups)
        .epilogue(EpilogueSpec { bias, ..EpilogueSpec::NONE })
        .build()
}

/// The convolution of a batch, with its bias.
pub(crate) fn conv2d(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: Option<&FlexTensor>,
    conv: &ConvOptions<2>,
) -> Option<FlexTensor> {
    if x.dtype() != DType::F32 {
        return None;
    }
    let (x, weight, bias) = (x.to_contiguous(), weight.to_contiguous(), bias.map(FlexTensor::to_contiguous));
    let weights =
        Weights { filter: weight.storage(), bias: bias.as_ref().map(FlexTensor::storage), slope: None };
    let run = || {
        let desc = describe(shape(&x), shape(&weight), conv, bias.is_some())?;
        let plan = ConvPlan::new(&desc, weights, &options())?;
        let mut values = vec![0.0; desc.output().len(desc.layout())?];
        let io = ConvIo::new(
            TensorRef::packed(x.storage(), desc.input(), desc.layout())?,
            TensorMut::packed(&mut values, desc.output(), desc.layout())?,
        );
        with_workspace(plan.workspace_req(), |workspace| plan.run(io, workspace, Threads::Current))?;
        let Shape4 { n, c, h, w } = desc.output();
        Ok::<_, ConvError>(tensor(values, &Shape::from(vec![n, c, h, w])))
    };
    run().ok()
}

/// The transposed convolution of a batch, with its bias.
pub(crate) fn conv_transpose2d(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: Option<&FlexTensor>,
    conv: &ConvTransposeOptions<2>,
) -> Option<FlexTensor> {
    if x.dtype() != DType::F32 {
        return None;
    }
    let (x, weight, bias) = (x.to_contiguous(), weight.to_contiguous(), bias.map(FlexTensor::to_contiguous));
    let weights =
        Weights { filter: weight.storage(), bias: bias.as_ref().map(FlexTensor::storage), slope: None };
    let run = || {
        let extents = shape(&weight);
        let desc = TransposedDesc::builder(shape(&x), extents.c * conv.groups, extents.size())
            .stride(pair(conv.stride))
            .pad(Pad2::symmetric(conv.padding[0], conv.padding[1]))
            .output_pad(pair(conv.padding_out))
            .dilation(pair(conv.dilation))
            .groups(conv.groups)
            .epilogue(EpilogueSpec { bias: bias.is_some(), ..EpilogueSpec::NONE })
            .build()?;
        let plan = TransposedPlan::new(&desc, weights, &options())?;
        let mut values = vec![0.0; desc.output().len(desc.layout())?];
        let io = ConvIo::new(
            TensorRef::packed(x.storage(), desc.input(), desc.layout())?,
            TensorMut::packed(&mut values, desc.output(), desc.layout())?,
        );
        with_workspace(plan.workspace_req(), |workspace| plan.run(io, workspace, Threads::Current))?;
        let Shape4 { n, c, h, w } = desc.output();
        Ok::<_, ConvError>(tensor(values, &Shape::from(vec![n, c, h, w])))
    };
    run().ok()
}

/// The gradient of the input of a convolution.
pub(crate) fn x_backward(
    x: FlexTensor,
    weight: FlexTensor,
    grad: FlexTensor,
    conv: &ConvOptions<2>,
) -> FlexTensor {
    in_f32(&[x, weight, grad], |[x, weight, grad]| {
        let run = || {
            let desc = describe(shape(x), shape(weight), conv, false)?;
            let plan = BackwardData::new(&desc, weight.storage(), DataSpec::default(), &options())?;
            let mut values = vec![0.0; desc.input().len(desc.layout())?];
            let io = BackwardDataIo::new(
                TensorRef::packed(grad.storage(), desc.output(), desc.layout())?,
                TensorMut::packed(&mut values, desc.input(), desc.layout())?,
            );
            with_workspace(plan.workspace_req(), |workspace| plan.run(io, workspace, Threads::Current))?;
            Ok::<_, ConvError>(tensor(values, x.layout().shape()))
        };
        run().unwrap_or_else(|error| panic!("conv2d_x_backward: {error}"))
    })
}

/// The gradient of the weight of a convolution.
pub(crate) fn weight_backward(
    x: FlexTensor,
    weight: FlexTensor,
    grad: FlexTensor,
    conv: &ConvOptions<2>,
) -> FlexTensor {
    in_f32(&[x, weight, grad], |[x, weight, grad]| {
        let run = || {
            let desc = describe(shape(x), shape(weight), conv, false)?;
            let plan = BackwardWeights::new(&desc, &WeightsSpec::default(), &options())?;
            let mut values = vec![0.0; desc.filter_len()];
            let io = BackwardWeightsIo::new(
                TensorRef::packed(x.storage(), desc.input(), desc.layout())?,
                TensorRef::packed(grad.storage(), desc.output(), desc.layout())?,
                &mut values,
            );
            with_workspace(plan.workspace_req(), |workspace| plan.run(io, workspace, Threads::Current))?;
            Ok::<_, ConvError>(tensor(values, weight.layout().shape()))
        };
        run().unwrap_or_else(|error| panic!("conv2d_weight_backward: {error}"))
    })
}

/// Computes with `f32` tensors, and converts the result to the type of the first tensor.
fn in_f32(tensors: &[FlexTensor; 3], compute: impl FnOnce([&FlexTensor; 3]) -> FlexTensor) -> FlexTensor {
    use super::module::{cast_from_f32, cast_to_f32};
    use burn_std::{bf16, f16};
    let as_f32 = |tensor: &FlexTensor| match tensor.dtype() {
        DType::F16 => cast_to_f32(tensor.clone(), f16::to_f32),
        DType::BF16 => cast_to_f32(tensor.clone(), bf16::to_f32),
        DType::F64 => cast_to_f32(tensor.clone(), |value: f64| value as f32),
        _ => tensor.to_contiguous(),
    };
    let [a, b, c] = tensors.each_ref().map(as_f32);
    let result = compute([&a, &b, &c]);
    match tensors[0].dtype() {
        DType::F16 => cast_from_f32(result, f16::from_f32),
        DType::BF16 => cast_from_f32(result, bf16::from_f32),
        DType::F64 => cast_from_f32(result, f64::from),
        _ => result,
    }
}
