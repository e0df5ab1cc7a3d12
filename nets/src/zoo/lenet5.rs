//! LeNet-5: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
//! recognition", Proceedings of the IEEE 86(11), 1998, section II.B and figure 2.

use crate::error::NetError;
use crate::graph::{Graph, GraphBuilder};
use crate::layer::{Conv, Layer, Linear, Pool};
use crate::shape::Shape;
use kernels::Activation::Tanh;

/// LeNet-5 in the variant that textbooks count, 61,706 parameters: every map of C3 sees every map of S2 (the paper
/// connects 60 of the 96 pairs, table I), the subsampling layers are plain averages (in the paper each has a
/// trained factor and bias), and the output is linear (in the paper, distances to fixed codes).
///
/// # Errors
/// None: the table is right.
pub fn lenet5() -> Result<Graph, NetError> {
    let mut net = GraphBuilder::new("lenet5", Shape::map(1, 32, 32));
    net.then("c1", Conv::new(6, 5)).act(Tanh); //        6@28x28
    net.then("s2", Pool::average(2, 2)); //              6@14x14
    net.then("c3", Conv::new(16, 5)).act(Tanh); //      16@10x10
    net.then("s4", Pool::average(2, 2)); //             16@5x5
    net.then("c5", Conv::new(120, 5)).act(Tanh); //    120@1x1
    net.then("flatten", Layer::Flatten);
    net.then("f6", Linear::new(84)).act(Tanh); //       84
    net.then("output", Linear::new(10)); //             10
    net.build()
}
