//! EfficientNet-B0: M. Tan and Q. Le, "EfficientNet: rethinking model scaling for convolutional neural networks",
//! ICML 2019, table 1. Tensor names are torchvision's.

use crate::error::NetError;
use crate::graph::{Graph, GraphBuilder};
use crate::layer::{Conv, Layer, Linear, Norm, Pool};
use crate::shape::Shape;
use kernels::Activation::{self, Sigmoid, Silu};

/// A row of table 1: a stage of mobile inverted bottlenecks.
struct Stage {
    expansion: usize,
    kernel: usize,
    /// The stride of the first block.
    stride: usize,
    channels: usize,
    blocks: usize,
}

const fn stage(expansion: usize, kernel: usize, stride: usize, channels: usize, blocks: usize) -> Stage {
    Stage { expansion, kernel, stride, channels, blocks }
}

const TABLE_1: [Stage; 7] = [
    stage(1, 3, 1, 16, 1),  //  16@112x112
    stage(6, 3, 2, 24, 2),  //  24@56x56
    stage(6, 5, 2, 40, 2),  //  40@28x28
    stage(6, 3, 2, 80, 3),  //  80@14x14
    stage(6, 5, 1, 112, 3), // 112@14x14
    stage(6, 5, 2, 192, 4), // 192@7x7
    stage(6, 3, 1, 320, 1), // 320@7x7
];

pub(super) fn b0(name: &str, input: Shape) -> Result<Graph, NetError> {
    let mut net = GraphBuilder::new(name, input); //                     3@224x224
    conv(&mut net, "features.0", Conv::new(32, 3).stride(2).pad(1)).act(Silu); // 32@112x112
    for (number, stage) in (1..).zip(&TABLE_1) {
        for block in 0..stage.blocks {
            let stride = if block == 0 { stage.stride } else { 1 };
            bottleneck(&mut net, &format!("features.{number}.{block}"), stage, stride);
        }
    }
    conv(&mut net, "features.8", Conv::new(1280, 1)).act(Silu); //    1280@7x7
    net.then("avgpool", Pool::global_average()).then("flatten", Layer::Flatten);
    net.then("classifier.0", Layer::Dropout).then("classifier.1", Linear::new(1000));
    net.build()
}

/// A mobile inverted bottleneck with squeeze and excitation: expansion, depthwise layer, gate, projection.
fn bottleneck(net: &mut GraphBuilder, name: &str, stage: &Stage, stride: usize) {
    let input = net.last();
    let narrow = net.shape(input).channels();
    let hidden = narrow * stage.expansion;
    let mut parts = (0..).map(|part| format!("{name}.block.{part}"));
    let mut part = || parts.next().unwrap_or_default();
    if stage.expansion > 1 {
        conv(net, &part(), Conv::new(hidden, 1)).act(Silu);
    }
    let depthwise = Conv::new(hidden, stage.kernel).pad(stage.kernel / 2).groups(hidden);
    conv(net, &part(), depthwise.stride(stride)).act(Silu);
    // A quarter of the channels of the block's input, not of the expanded ones.
    squeeze_and_excite(net, &part(), narrow / 4);
    conv(net, &part(), Conv::new(stage.channels, 1));
    let body = net.last();
    if net.shape(body) == net.shape(input) {
        net.add(&format!("{name}.add"), Layer::Add, &[body, input]);
    }
}

/// Multiplies each channel by a number between 0 and 1, which two small layers compute from the averages of all
/// channels: J. Hu, L. Shen and G. Sun, "Squeeze-and-excitation networks", CVPR 2018, section 3.
fn squeeze_and_excite(net: &mut GraphBuilder, name: &str, squeezed: usize) {
    let input = net.last();
    let channels = net.shape(input).channels();
    let layer = |net: &mut GraphBuilder, part: &str, outputs, activation: Activation| {
        net.then(&format!("{name}.{part}"), Conv::new(outputs, 1)).act(activation);
    };
    net.then(&format!("{name}.avgpool"), Pool::global_average());
    layer(net, "fc1", squeezed, Silu);
    layer(net, "fc2", channels, Sigmoid);
    let gate = net.last();
    net.add(&format!("{name}.scale"), Layer::Mul, &[input, gate]);
}

fn conv<'a>(net: &'a mut GraphBuilder, name: &str, conv: Conv) -> &'a mut GraphBuilder {
    net.then(&format!("{name}.0"), conv.no_bias()).then(&format!("{name}.1"), Norm::batch())
}
