//! What each engine needs once for a layer or a network, and what it does in every call.

use crate::layer::Layer;
use crate::onnx;
use anyhow::{Result, anyhow, bail};

/// A prepared layer or network.
pub trait Run {
    /// One convolution or pass; the output is made and dropped.
    fn call(&mut self) -> Result<()>;
    /// The output in NCHW.
    fn output(&mut self) -> Result<Vec<f32>>;
}

/// The layer in the engine of that name.
pub fn prepare(engine: &str, layer: Layer) -> Result<Box<dyn Run>> {
    let model = || onnx::model(&layer);
    Ok(match engine {
        "tract" => Box::new(Tract::new(&mut &model()[..], &layer.input_shape, &layer.input)?),
        "rten" => Box::new(Rten::new(Rten::options().load(model()), &layer.input_shape, layer.input)?),
        "candle" => Box::new(Candle::new(layer)?),
        "burn" => Box::new(Burn::new(layer)),
        _ => bail!("no engine is called {engine}"),
    })
}

/// The network in an ONNX file.
pub fn network(engine: &str, model: &str, extents: &[usize], input: Vec<f32>) -> Result<Box<dyn Run>> {
    Ok(match engine {
        "tract" => {
            let mut file = std::io::BufReader::new(std::fs::File::open(model)?);
            Box::new(Tract::new(&mut file, extents, &input)?)
        }
        "rten" => Box::new(Rten::new(Rten::options().load_file(model), extents, input)?),
        _ => bail!("{engine} reads no networks"),
    })
}

struct Tract {
    model: std::sync::Arc<tract_onnx::prelude::TypedRunnableModel>,
    input: tract_onnx::prelude::TValue,
}

impl Tract {
    fn new(model: &mut dyn std::io::Read, extents: &[usize], input: &[f32]) -> Result<Self> {
        use tract_onnx::prelude::*;
        let model = tract_onnx::onnx()
            .model_for_read(model)?
            .with_input_fact(0, f32::fact(extents).into())?
            .into_optimized()?
            .into_runnable()?;
        let input = Tensor::from_shape(extents, input)?;
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
    input: rten_tensor::Tensor<f32>,
}

impl Rten {
    fn options() -> rten::ModelOptions {
        let mut options = rten::ModelOptions::with_all_ops();
        options.prepack_weights(true);
        options
    }

    fn new<E: std::fmt::Display>(
        model: Result<rten::Model, E>,
        extents: &[usize],
        input: Vec<f32>,
    ) -> Result<Self> {
        let model = model.map_err(|error| anyhow!("{error}"))?;
        Ok(Self { model, input: rten_tensor::Tensor::from_data(extents, input) })
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
