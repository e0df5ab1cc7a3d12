//! AlexNet: A. Krizhevsky, I. Sutskever and G. Hinton, "ImageNet classification with deep convolutional
//! neural networks", NIPS 2012, section 3.5 and figure 2. Also the one-tower variant of A. Krizhevsky, "One
//! weird trick for parallelizing convolutional neural networks", 2014, as in torchvision.

use crate::error::NetError;
use crate::graph::{Graph, GraphBuilder};
use crate::layer::{AdaptivePool, Conv, Layer, Linear, Lrn, Pool};
use crate::shape::Shape;
use kernels::Activation::Relu;
use kernels::Size2;

/// Section 3.3: n = 5, alpha = 1e-4, beta = 0.75, k = 2. The paper does not divide alpha by n.
const RESPONSE: Lrn = Lrn { size: 5, alpha: 5e-4, beta: 0.75, k: 2.0 };
/// Section 3.4: windows of 3 with stride 2.
const OVERLAPPING: Pool = Pool::max(3, 2);

/// The two towers are two groups, one per GPU in the paper. The third and the fully connected layers read
/// both. The first layer reads 227x227 pixels, because 224 as in the paper does not match its other figures.
pub(super) fn grouped(name: &str, input: Shape) -> Result<Graph, NetError> {
    let mut net = GraphBuilder::new(name, input); //                             3@227x227
    net.then("conv1", Conv::new(96, 11).stride(4)).act(Relu); //                96@55x55
    net.then("norm1", RESPONSE).then("pool1", OVERLAPPING); //                  96@27x27
    net.then("conv2", Conv::new(256, 5).pad(2).groups(2)).act(Relu); //        256@27x27
    net.then("norm2", RESPONSE).then("pool2", OVERLAPPING); //                 256@13x13
    net.then("conv3", Conv::new(384, 3).pad(1)).act(Relu); //                  384@13x13
    net.then("conv4", Conv::new(384, 3).pad(1).groups(2)).act(Relu); //        384@13x13
    net.then("conv5", Conv::new(256, 3).pad(1).groups(2)).act(Relu); //        256@13x13
    net.then("pool5", OVERLAPPING).then("flatten", Layer::Flatten); //         256@6x6
    net.then("fc6", Linear::new(4096)).act(Relu).then("drop6", Layer::Dropout);
    net.then("fc7", Linear::new(4096)).act(Relu).then("drop7", Layer::Dropout);
    net.then("fc8", Linear::new(1000));
    net.build()
}

/// One tower with fewer maps and without response normalisation.
pub(super) fn torchvision(name: &str, input: Shape) -> Result<Graph, NetError> {
    let mut net = GraphBuilder::new(name, input); //                             3@224x224
    net.then("features.0", Conv::new(64, 11).stride(4).pad(2)).act(Relu); //    64@55x55
    net.then("features.2", OVERLAPPING); //                                     64@27x27
    net.then("features.3", Conv::new(192, 5).pad(2)).act(Relu); //             192@27x27
    net.then("features.5", OVERLAPPING); //                                    192@13x13
    net.then("features.6", Conv::new(384, 3).pad(1)).act(Relu); //             384@13x13
    net.then("features.8", Conv::new(256, 3).pad(1)).act(Relu); //             256@13x13
    net.then("features.10", Conv::new(256, 3).pad(1)).act(Relu); //            256@13x13
    net.then("features.12", OVERLAPPING); //                                   256@6x6
    net.then("avgpool", Layer::AdaptivePool(AdaptivePool { output: Size2::square(6) }));
    net.then("flatten", Layer::Flatten);
    net.then("classifier.0", Layer::Dropout).then("classifier.1", Linear::new(4096)).act(Relu);
    net.then("classifier.3", Layer::Dropout).then("classifier.4", Linear::new(4096)).act(Relu);
    net.then("classifier.6", Linear::new(1000));
    net.build()
}
