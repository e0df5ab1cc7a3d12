//! VGG: K. Simonyan and A. Zisserman, "Very deep convolutional networks for large-scale image recognition",
//! ICLR 2015, table 1. Tensor names are torchvision's.

use crate::error::NetError;
use crate::graph::{Graph, GraphBuilder};
use crate::layer::{AdaptivePool, Conv, Layer, Linear, Pool};
use crate::shape::Shape;
use kernels::Activation::Relu;
use kernels::Size2;

/// Number of convolutions and channels in each of the five stages of table 1.
type Stages = [(usize, usize); 5];
const D: Stages = [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)];
const E: Stages = [(2, 64), (2, 128), (4, 256), (4, 512), (4, 512)];

pub(super) fn vgg16(name: &str, input: Shape) -> Result<Graph, NetError> {
    vgg(name, input, &D)
}

pub(super) fn vgg19(name: &str, input: Shape) -> Result<Graph, NetError> {
    vgg(name, input, &E)
}

/// Every convolution is 3x3 and keeps the extents; every pooling layer halves them.
fn vgg(name: &str, input: Shape, stages: &Stages) -> Result<Graph, NetError> {
    let mut net = GraphBuilder::new(name, input);
    let mut number = 0;
    for &(convolutions, channels) in stages {
        for _ in 0..convolutions {
            net.then(&format!("features.{number}"), Conv::new(channels, 3).pad(1)).act(Relu);
            number += 2; // torchvision numbers the activation too
        }
        net.then(&format!("features.{number}"), Pool::max(2, 2));
        number += 1;
    }
    net.then("avgpool", Layer::AdaptivePool(AdaptivePool { output: Size2::square(7) }));
    net.then("flatten", Layer::Flatten);
    net.then("classifier.0", Linear::new(4096)).act(Relu).then("classifier.2", Layer::Dropout);
    net.then("classifier.3", Linear::new(4096)).act(Relu).then("classifier.5", Layer::Dropout);
    net.then("classifier.6", Linear::new(1000));
    net.build()
}
