//! LeNet-5 (LeCun et al. 1998) as `nets/data/README.md` describes it.

use super::nn::{Conv2d, Conv2dConfig, Linear, Module, VarBuilder, conv2d, linear};
use candle_core::{Result, Tensor};

/// LeNet-5 for images of 32x32 pixels.
pub struct LeNet {
    convs: [Conv2d; 3],
    linears: [Linear; 2],
}

impl LeNet {
    /// Creates the network from `vb`.
    ///
    /// # Errors
    /// If `vb` does not have the weights.
    pub fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        let conv = |ins, outs, name| conv2d(ins, outs, 5, Conv2dConfig::default(), vb.pp(name));
        let convs = [conv(1, 6, "c1")?, conv(6, 16, "c3")?, conv(16, 120, "c5")?];
        Ok(Self { convs, linears: [linear(120, 84, vb.pp("f6"))?, linear(84, 10, vb.pp("output"))?] })
    }
}

impl Module for LeNet {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.convs[0].forward(x)?.tanh()?.avg_pool2d(2)?;
        let x = self.convs[1].forward(&x)?.tanh()?.avg_pool2d(2)?;
        let x = self.convs[2].forward(&x)?.tanh()?.flatten_from(1)?;
        self.linears[1].forward(&self.linears[0].forward(&x)?.tanh()?)
    }
}
