//! Blocks of a detection network in the style of YOLOv8: SiLU, a bottleneck whose channels are split and
//! concatenated, pooling at several sizes, and an upsampling by a transposed convolution.

use super::nn::{
    BatchNorm, Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig, Module, ModuleT, VarBuilder,
    batch_norm, conv_transpose2d, conv2d, conv2d_no_bias,
};
use candle_core::{D, Result, Tensor};

/// Convolution, batch norm, SiLU.
struct ConvBlock {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvBlock {
    fn new(ins: usize, outs: usize, kernel: usize, stride: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let config = Conv2dConfig { padding: kernel / 2, stride, ..Default::default() };
        let conv = conv2d_no_bias(ins, outs, kernel, config, vb.pp("conv"))?;
        Ok(Self { conv, norm: batch_norm(outs, 1e-3, vb.pp("norm"))? })
    }
}

impl Module for ConvBlock {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward_t(&self.conv.forward(x)?, false)?.silu()
    }
}

/// Half of the channels pass two convolutions; all parts are concatenated.
struct Split {
    enter: ConvBlock,
    inner: [ConvBlock; 2],
    leave: ConvBlock,
}

impl Split {
    fn new(channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let half = channels / 2;
        let inner = [
            ConvBlock::new(half, half, 3, 1, &vb.pp("inner0"))?,
            ConvBlock::new(half, half, 3, 1, &vb.pp("inner1"))?,
        ];
        let enter = ConvBlock::new(channels, channels, 1, 1, &vb.pp("enter"))?;
        Ok(Self { enter, inner, leave: ConvBlock::new(3 * half, channels, 1, 1, &vb.pp("leave"))? })
    }
}

impl Module for Split {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let parts = self.enter.forward(x)?.chunk(2, 1)?;
        let deep = self.inner[1].forward(&self.inner[0].forward(&parts[1])?)?;
        let deep = (deep + &parts[1])?;
        self.leave.forward(&Tensor::cat(&[&parts[0], &parts[1], &deep], 1)?)
    }
}

/// A small detection network with one scale.
pub struct Yolo {
    backbone: Vec<(ConvBlock, Split)>,
    pool: (ConvBlock, ConvBlock),
    up: ConvTranspose2d,
    head: Conv2d,
}

impl Yolo {
    /// Creates the network from `vb`.
    ///
    /// # Errors
    /// If `vb` does not have the weights.
    pub fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        let stage = |index: usize, ins: usize, outs: usize| -> Result<(ConvBlock, Split)> {
            let vb = vb.pp(format!("stage{index}"));
            Ok((ConvBlock::new(ins, outs, 3, 2, &vb.pp("down"))?, Split::new(outs, &vb.pp("split"))?))
        };
        let backbone = vec![stage(0, 3, 16)?, stage(1, 16, 32)?, stage(2, 32, 64)?, stage(3, 64, 128)?];
        let pool = (
            ConvBlock::new(128, 64, 1, 1, &vb.pp("pool0"))?,
            ConvBlock::new(256, 128, 1, 1, &vb.pp("pool1"))?,
        );
        let up = ConvTranspose2dConfig { stride: 2, ..Default::default() };
        let up = conv_transpose2d(128, 64, 2, up, vb.pp("up"))?;
        Ok(Self { backbone, pool, up, head: conv2d(128, 84, 1, Conv2dConfig::default(), vb.pp("head"))? })
    }

    fn pyramid(&self, x: &Tensor) -> Result<Tensor> {
        let mut parts = vec![self.pool.0.forward(x)?];
        for _ in 0..3 {
            let padded =
                parts[parts.len() - 1].pad_with_zeros(D::Minus1, 2, 2)?.pad_with_zeros(D::Minus2, 2, 2)?;
            parts.push(padded.max_pool2d_with_stride(5, 1)?);
        }
        self.pool.1.forward(&Tensor::cat(&parts, 1)?)
    }
}

impl Module for Yolo {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        let mut skip = x.clone();
        for (down, split) in &self.backbone {
            skip = x;
            x = split.forward(&down.forward(&skip)?)?;
        }
        let up = self.up.forward(&self.pyramid(&x)?)?;
        self.head.forward(&Tensor::cat(&[&up, &skip], 1)?)
    }
}
