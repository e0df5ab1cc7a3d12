//! ResNet-18 (He et al. 2016), with batch norms and activations as layers of their own, as in
//! `candle-transformers`.

use super::nn::{
    BatchNorm, Conv2d, Conv2dConfig, Linear, Module, ModuleT, VarBuilder, batch_norm, conv2d_no_bias, linear,
};
use candle_core::{D, Result, Tensor};

/// A convolution and its batch norm.
struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    fn new(ins: usize, outs: usize, kernel: usize, stride: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let config = Conv2dConfig { padding: kernel / 2, stride, ..Default::default() };
        let conv = conv2d_no_bias(ins, outs, kernel, config, vb.pp("conv"))?;
        Ok(Self { conv, norm: batch_norm(outs, 1e-5, vb.pp("norm"))? })
    }
}

impl Module for ConvNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward_t(&self.conv.forward(x)?, false)
    }
}

/// Two 3x3 convolutions and a connection past them.
struct Block {
    first: ConvNorm,
    second: ConvNorm,
    shortcut: Option<ConvNorm>,
}

impl Block {
    fn new(ins: usize, outs: usize, stride: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let shortcut = match ins == outs {
            true => None,
            false => Some(ConvNorm::new(ins, outs, 1, stride, &vb.pp("shortcut"))?),
        };
        let first = ConvNorm::new(ins, outs, 3, stride, &vb.pp("first"))?;
        Ok(Self { first, second: ConvNorm::new(outs, outs, 3, 1, &vb.pp("second"))?, shortcut })
    }
}

impl Module for Block {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let sum = self.second.forward(&self.first.forward(x)?.relu()?)?;
        let shortcut = match &self.shortcut {
            None => x.clone(),
            Some(shortcut) => shortcut.forward(x)?,
        };
        (sum + shortcut)?.relu()
    }
}

/// ResNet-18 for images of 224x224 pixels.
pub struct ResNet18 {
    stem: ConvNorm,
    blocks: Vec<Block>,
    head: Linear,
}

impl ResNet18 {
    /// Creates the network from `vb`.
    ///
    /// # Errors
    /// If `vb` does not have the weights.
    pub fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        let stem = ConvNorm::new(3, 64, 7, 2, &vb.pp("stem"))?;
        let plan = [
            (64, 64, 1),
            (64, 64, 1),
            (64, 128, 2),
            (128, 128, 1),
            (128, 256, 2),
            (256, 256, 1),
            (256, 512, 2),
            (512, 512, 1),
        ];
        let block = |(index, &(ins, outs, stride)): (usize, &(usize, usize, usize))| {
            Block::new(ins, outs, stride, &vb.pp(format!("block{index}")))
        };
        let blocks = plan.iter().enumerate().map(block).collect::<Result<_>>()?;
        Ok(Self { stem, blocks, head: linear(512, 1000, vb.pp("head"))? })
    }
}

impl Module for ResNet18 {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.stem.forward(x)?.relu()?;
        let x = x.pad_with_same(D::Minus1, 1, 1)?.pad_with_same(D::Minus2, 1, 1)?;
        let mut x = x.max_pool2d_with_stride(3, 2)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.head.forward(&x.mean(D::Minus1)?.mean(D::Minus1)?)
    }
}
