//! A layer that cannot be made.

use super::Rewrite;
use crate::Options;
use crate::layers::{Layer, Layers};
use crate::report::Report;
use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec};
use tract_core::ops::math;
use tract_core::ops::nn::DataFormat;

fn tensor(shape: &[usize]) -> Tensor {
    let elements: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i % 7) as f32 - 3.0).collect();
    Tensor::from_shape(shape, &elements).unwrap()
}

fn spec(kernel: usize, channels: (usize, usize)) -> PoolSpec {
    PoolSpec {
        data_format: DataFormat::NCHW,
        kernel_shape: tvec!(kernel, kernel),
        padding: PaddingSpec::SameUpper,
        dilations: None,
        strides: None,
        input_channels: channels.0,
        output_channels: channels.1,
    }
}

/// Two convolutions, with a maximum and a pooling layer between them.
fn model() -> TractResult<TypedModel> {
    let mut model = TypedModel::default();
    let mut wire = model.add_source("input", f32::fact([1, 16, 6, 6]))?;
    let bias = model.add_const("bias", tensor(&[16]))?;
    let zero = model.add_const("zero", tensor0(0f32).into_shape(&[1, 1, 1, 1])?)?;
    for name in ["first", "second"] {
        let kernel = model.add_const(format!("{name}.kernel"), tensor(&[16, 16, 3, 3]))?;
        let op =
            Conv { pool_spec: spec(3, (16, 16)), kernel_fmt: KernelFormat::OIHW, group: 1, q_params: None };
        wire = model.wire_node(name, op, &[wire, kernel, bias])?[0];
        wire = model.wire_node(format!("{name}.relu"), math::max(), &[wire, zero])?[0];
        let op = MaxPool { pool_spec: spec(2, (16, 16)), with_index_outputs: None };
        wire = model.wire_node(format!("{name}.pool"), op, &[wire])?[0];
    }
    model.select_output_outlets(&[wire])?;
    model.into_decluttered()
}

fn run(model: TypedModel) -> TractResult<Tensor> {
    let runnable = model.into_optimized()?.into_runnable()?;
    Ok(runnable.run(tvec!(tensor(&[1, 16, 6, 6]).into_tvalue()))?.remove(0).into_tensor())
}

#[test]
fn a_layer_that_cannot_be_made_stays_with_tract() -> TractResult<()> {
    let (model, options) = (model()?, Options::default());
    for broken in ["first", "second"] {
        let mut report = Report::default();
        let mut layers = Layers::find(&model, &|_| false, true, &mut report)?;
        let output = model.node_by_name(format!("{broken}.relu"))?.id;
        let Some(Layer::Conv(fused)) = layers.by_output.get_mut(&output) else {
            panic!("{broken} is no layer")
        };
        fused.found.weights.pop();
        let (new, report) = Rewrite::run(&model, layers, &options, report)?;
        let [fell_back] = &*report.fell_back else { panic!("{report}") };
        assert_eq!((&*fell_back.node, &*fell_back.operator), (broken, "Conv"));
        assert!(fell_back.reason.contains("2303"), "{report}");
        // The other convolution and both pooling layers.
        assert_eq!(report.replaced.len(), 3, "{report}");
        run(new)?.close_enough(&run(model.clone())?, Approximation::Approximate)?;
    }
    Ok(())
}
