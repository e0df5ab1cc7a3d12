//! What each engine needs once for a layer, and what it does in every call.

use crate::layer::Layer;
use crate::onnx;
use anyhow::{Result, anyhow, bail};

/// A prepared layer.
pub trait Run {
    /// One convolution; the output is made and dropped.
    fn call(&mut self) -> Result<()>;
    /// The output in NCHW.
    fn output(&mut self) -> Result<Vec<f32>>;
}

/// The layer in the engine of that name.
pub fn prepare(engine: &str, layer: Layer) -> Result<Box<dyn Run>> {
    Ok(match engine {
        "tract" => Box::new(Tract::new(layer)?),
        "rten" => Box::new(Rten::new(layer)?),
        "candle" => Box::new(Candle::new(layer)?),
        "burn" => Box::new(Burn::new(layer)),
        _ => bail!("no engine is called {engine}"),
    })
}

struct Tract {
    model: std::sync::Arc<tract_onnx::prelude::TypedRunnableModel>,
    input: tract_onnx::prelude::TValue,
}

impl Tract {
    fn new(layer: Layer) -> Result<Self> {
        use tract_onnx::prelude::*;
        let model = tract_onnx::onnx()
            .model_for_read(&mut &onnx::model(&layer)[..])?
            .with_input_fact(0, f32::fact(layer.input_shape).into())?
            .into_optimized()?
            .into_runnable()?;
        let input = Tensor::from_shape(&layer.input_shape, &layer.input)?;
        Ok(Self { model, input: input.into() })
    }
}

impl Run for Tract {
    fn call(&mut self) -> Result<()> {
        let output = self.model.run([self.input.clone()].into_iter().collect())?;
        std::hint::black_box(&output);
        Ok(())
    }

    fn output(&mut self) -> Result<Vec<f32>> {
        let output = self.model.run([self.input.clone()].into_iter().collect())?;
        Ok(output[0].to_plain_array_view::<f32>()?.iter().copied().collect())
    }
}

struct Rten {
    model: rten::Model,
    input: rten_tensor::NdTensor<f32, 4>,
}

impl Rten {
    fn new(layer: Layer) -> Result<Self> {
        let mut options = rten::ModelOptions::with_all_ops();
        let model =
            options.prepack_weights(true).load(onnx::model(&layer)).map_err(|error| anyhow!("{error}"))?;
        let input = rten_tensor::NdTensor::from_data(layer.input_shape, layer.input);
        Ok(Self { model, input })
    }

    fn run(&self) -> Result<rten::Value> {
        use rten_tensor::AsView;
        self.model.run_one(self.input.view().into(), None).map_err(|error| anyhow!("{error}"))
    }
}

impl Run for Rten {
    fn call(&mut self) -> Result<()> {
        std::hint::black_box(self.run()?);
        Ok(())
    }

    fn output(&mut self) -> Result<Vec<f32>> {
        use rten_tensor::AsView;
        let output: rten_tensor::Tensor<f32> =
            self.run()?.try_into().map_err(|error| anyhow!("{error:?}"))?;
        Ok(output.to_vec())
    }
}

struct Candle {
    input: candle_core::Tensor,
    filter: candle_core::Tensor,
    layer: Layer,
}

impl Candle {
    fn new(mut layer: Layer) -> Result<Self> {
        use candle_core::{Device, Tensor};
        let (input, filter) = (std::mem::take(&mut layer.input), std::mem::take(&mut layer.filter));
        Ok(Self {
            input: Tensor::from_vec(input, &layer.input_shape[..], &Device::Cpu)?,
            filter: Tensor::from_vec(filter, &layer.filter_shape[..], &Device::Cpu)?,
            layer,
        })
    }

    fn run(&self) -> Result<candle_core::Tensor> {
        let Layer { pad, stride, dilation, groups, .. } = self.layer;
        Ok(self.input.conv2d(&self.filter, pad, stride, dilation, groups)?)
    }
}

impl Run for Candle {
    fn call(&mut self) -> Result<()> {
        std::hint::black_box(self.run()?);
        Ok(())
    }

    fn output(&mut self) -> Result<Vec<f32>> {
        Ok(self.run()?.flatten_all()?.to_vec1()?)
    }
}

struct Burn {
    input: burn::tensor::Tensor<4>,
    filter: burn::tensor::Tensor<4>,
    layer: Layer,
}

impl Burn {
    fn new(mut layer: Layer) -> Self {
        use burn::tensor::{Device, Tensor, TensorData};
        let device = Device::flex();
        let (input, filter) = (std::mem::take(&mut layer.input), std::mem::take(&mut layer.filter));
        Self {
            input: Tensor::from_data(TensorData::new(input, layer.input_shape), &device),
            filter: Tensor::from_data(TensorData::new(filter, layer.filter_shape), &device),
            layer,
        }
    }

    fn run(&self) -> burn::tensor::Tensor<4> {
        let Layer { pad, stride, dilation, groups, .. } = self.layer;
        let options = burn::tensor::ops::ConvOptions::new([stride; 2], [pad; 2], [dilation; 2], groups);
        burn::tensor::module::conv2d(self.input.clone(), self.filter.clone(), None, options)
    }
}

impl Run for Burn {
    fn call(&mut self) -> Result<()> {
        std::hint::black_box(self.run());
        Ok(())
    }

    fn output(&mut self) -> Result<Vec<f32>> {
        self.run().into_data().try_to_vec::<f32>().map_err(|error| anyhow!("{error:?}"))
    }
}
