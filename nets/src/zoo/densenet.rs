//! DenseNet-121: G. Huang et al., "Densely connected convolutional networks", CVPR 2017, table 1. Tensor names are
//! torchvision's.

use crate::error::NetError;
use crate::graph::{Graph, GraphBuilder};
use crate::layer::{Conv, Layer, Linear, Norm, Pool};
use crate::shape::Shape;
use kernels::Activation::Relu;

/// Channels that each dense layer adds.
const GROWTH: usize = 32;
/// Layers of the four dense blocks.
const BLOCKS: [usize; 4] = [6, 12, 24, 16];

pub(super) fn densenet121(name: &str, input: Shape) -> Result<Graph, NetError> {
    let mut net = GraphBuilder::new(name, input); //                                    3@224x224
    net.then("features.conv0", Conv::new(2 * GROWTH, 7).stride(2).pad(3).no_bias()); // 64@112x112
    net.then("features.norm0", Norm::batch()).act(Relu);
    net.then("features.pool0", Pool::max(3, 2).pad(1)); //                              64@56x56
    for (number, layers) in (1..).zip(BLOCKS) {
        dense_block(&mut net, &format!("features.denseblock{number}"), layers);
        if number < BLOCKS.len() {
            transition(&mut net, &format!("features.transition{number}"));
        }
    } //                                                                              1024@7x7
    net.then("features.norm5", Norm::batch()).act(Relu);
    net.then("avgpool", Pool::global_average()).then("flatten", Layer::Flatten);
    net.then("classifier", Linear::new(1000));
    net.build()
}

/// Every layer reads the outputs of all earlier layers of the block. A 1x1 layer first reduces them to four times the
/// growth.
fn dense_block(net: &mut GraphBuilder, name: &str, layers: usize) {
    let mut features = vec![net.last()];
    for number in 1..=layers {
        let layer = |part: &str| format!("{name}.denselayer{number}.{part}");
        normalised(net, &layer("norm1")).then(&layer("conv1"), Conv::new(4 * GROWTH, 1).no_bias());
        normalised(net, &layer("norm2")).then(&layer("conv2"), Conv::new(GROWTH, 3).pad(1).no_bias());
        features.push(net.last());
        net.add(&layer("concat"), Layer::Concat, &features);
    }
}

/// Halves the channels and the extents.
fn transition(net: &mut GraphBuilder, name: &str) {
    let channels = net.shape(net.last()).channels();
    normalised(net, &format!("{name}.norm"))
        .then(&format!("{name}.conv"), Conv::new(channels / 2, 1).no_bias());
    net.then(&format!("{name}.pool"), Pool::average(2, 2));
}

/// The normalisation and the activation come before each convolution.
fn normalised<'a>(net: &'a mut GraphBuilder, name: &str) -> &'a mut GraphBuilder {
    net.then(name, Norm::batch()).act(Relu)
}
