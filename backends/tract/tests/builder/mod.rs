//! Builds small models of NCHW images.

use crate::common::Numbers;
use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec, PoolSpec};
use tract_core::ops::math;
use tract_core::ops::nn::DataFormat;

/// A convolution of 3x3 pixels with padding.
pub const SAME: (usize, usize, usize) = (3, 1, 1);
/// A convolution of single pixels.
pub const POINT: (usize, usize, usize) = (1, 1, 0);

/// A model that is being built.
pub struct Builder {
    /// The model so far.
    pub model: TypedModel,
    /// The source of all weights.
    pub numbers: Numbers,
    nodes: usize,
}

impl Builder {
    /// A model without nodes.
    pub fn new() -> Self {
        Self { model: TypedModel::default(), numbers: Numbers::new(7), nodes: 0 }
    }

    fn name(&mut self) -> String {
        self.nodes += 1;
        format!("node.{}", self.nodes)
    }

    /// Adds an input.
    pub fn input(&mut self, shape: impl Into<ShapeFact>) -> OutletId {
        let name = self.name();
        self.model.add_source(name, f32::fact(shape)).unwrap()
    }

    /// Adds a node with one output.
    pub fn wire(&mut self, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> OutletId {
        let name = self.name();
        self.model.wire_node(name, op, inputs).unwrap()[0]
    }

    /// Adds a constant.
    pub fn constant(&mut self, tensor: Tensor) -> OutletId {
        let name = self.name();
        self.model.add_const(name, tensor).unwrap()
    }

    /// Adds a constant of one element.
    pub fn scalar(&mut self, value: f32) -> OutletId {
        self.constant(Tensor::from_shape(&[1, 1, 1, 1], &[value]).unwrap())
    }

    fn channels(&self, wire: OutletId) -> usize {
        self.model.outlet_fact(wire).unwrap().shape[1].to_usize().unwrap()
    }

    /// The window `(kernel, stride, pad)` over the tensor `wire`.
    pub fn spec(
        &self,
        wire: OutletId,
        outs: usize,
        (kernel, stride, pad): (usize, usize, usize),
    ) -> PoolSpec {
        PoolSpec {
            data_format: DataFormat::NCHW,
            kernel_shape: tvec!(kernel, kernel),
            padding: PaddingSpec::Explicit(tvec!(pad, pad), tvec!(pad, pad)),
            dilations: None,
            strides: Some(tvec!(stride, stride)),
            input_channels: self.channels(wire),
            output_channels: outs,
        }
    }

    /// Adds a convolution with a bias.
    pub fn conv(
        &mut self,
        wire: OutletId,
        outs: usize,
        window: (usize, usize, usize),
        group: usize,
    ) -> OutletId {
        let pool_spec = self.spec(wire, outs, window);
        let shape = [outs, pool_spec.input_channels / group, window.0, window.0];
        let (kernel, bias) = (self.numbers.tensor(&shape), self.numbers.tensor(&[outs]));
        let (kernel, bias) = (self.constant(kernel), self.constant(bias));
        let op = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group, q_params: None };
        self.wire(op, &[wire, kernel, bias])
    }

    /// Adds a maximum with zero.
    pub fn relu(&mut self, wire: OutletId) -> OutletId {
        let zero = self.scalar(0.0);
        self.wire(math::max(), &[wire, zero])
    }

    /// The model with these outputs.
    pub fn build(mut self, outputs: &[OutletId]) -> TypedModel {
        self.model.select_output_outlets(outputs).unwrap();
        self.model
    }
}

/// An image for a model with one input.
pub fn image(shape: &[usize]) -> TVec<Tensor> {
    tvec!(Numbers::new(3).tensor(shape))
}
