//! Network in Network: M. Lin, Q. Chen and S. Yan, "Network in network", ICLR 2014, figure 2. The widths come
//! from the authors' Caffe models, in which pooling rounds up.

use crate::error::NetError;
use crate::graph::{Graph, GraphBuilder};
use crate::layer::{Conv, Layer, Pool};
use crate::shape::Shape;
use kernels::Activation::Relu;

/// Adds an mlpconv layer: a convolution and two layers that mix the channels of each pixel. `numbers` are the
/// numbers in the names of the three layers.
fn mlpconv(net: &mut GraphBuilder, numbers: [usize; 3], conv: Conv, mixed: [usize; 2]) {
    net.then(&format!("conv{}", numbers[0]), conv).act(Relu);
    net.then(&format!("cccp{}", numbers[1]), Conv::new(mixed[0], 1)).act(Relu);
    net.then(&format!("cccp{}", numbers[2]), Conv::new(mixed[1], 1)).act(Relu);
}

/// The network for ImageNet, 1,000 classes.
pub(super) fn imagenet(name: &str, input: Shape) -> Result<Graph, NetError> {
    let pool = Pool::max(3, 2).ceil_mode();
    let mut net = GraphBuilder::new(name, input); //                                            3@224x224
    mlpconv(&mut net, [1, 1, 2], Conv::new(96, 11).stride(4), [96, 96]); //                    96@54x54
    net.then("pool1", pool); //                                                                96@27x27
    mlpconv(&mut net, [2, 3, 4], Conv::new(256, 5).pad(2), [256, 256]); //                    256@27x27
    net.then("pool2", pool); //                                                               256@13x13
    mlpconv(&mut net, [3, 5, 6], Conv::new(384, 3).pad(1), [384, 384]); //                    384@13x13
    net.then("pool3", pool).then("drop", Layer::Dropout); //                                  384@6x6
    mlpconv(&mut net, [4, 7, 8], Conv::new(1024, 3).pad(1), [1024, 1000]); //                1000@6x6
    net.then("pool4", Pool::global_average()).then("flatten", Layer::Flatten); //            1000
    net.build()
}

/// The network for CIFAR-10, 10 classes.
pub(super) fn cifar10(name: &str, input: Shape) -> Result<Graph, NetError> {
    let mut net = GraphBuilder::new(name, input); //                                            3@32x32
    mlpconv(&mut net, [1, 1, 2], Conv::new(192, 5).pad(2), [160, 96]); //                      96@32x32
    net.then("pool1", Pool::max(3, 2).ceil_mode()).then("drop3", Layer::Dropout); //           96@16x16
    mlpconv(&mut net, [2, 3, 4], Conv::new(192, 5).pad(2), [192, 192]); //                    192@16x16
    net.then("pool2", Pool::average(3, 2).ceil_mode()).then("drop6", Layer::Dropout); //      192@8x8
    mlpconv(&mut net, [3, 5, 6], Conv::new(192, 3).pad(1), [192, 10]); //                      10@8x8
    net.then("pool3", Pool::global_average()).then("flatten", Layer::Flatten); //              10
    net.build()
}
