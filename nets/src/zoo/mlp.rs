//! Fully connected networks, the baseline for convolutional ones.

use crate::error::NetError;
use crate::graph::{Graph, GraphBuilder};
use crate::layer::{Layer, Linear};
use crate::shape::Shape;
use kernels::Activation::{Relu, Tanh};

/// One hidden layer of 100 on the 3,072 elements of a small colour picture.
pub(super) fn cifar(name: &str, input: Shape) -> Result<Graph, NetError> {
    let mut net = GraphBuilder::new(name, input);
    net.then("flatten", Layer::Flatten);
    net.then("fc1", Linear::new(100)).act(Relu);
    net.then("fc2", Linear::new(10));
    net.build()
}

/// Two hidden layers for digits: 28x28-300-100-10 of LeCun et al. 1998, section III.C.
pub(super) fn mnist(name: &str, input: Shape) -> Result<Graph, NetError> {
    let mut net = GraphBuilder::new(name, input);
    net.then("flatten", Layer::Flatten);
    net.then("fc1", Linear::new(300)).act(Tanh);
    net.then("fc2", Linear::new(100)).act(Tanh);
    net.then("fc3", Linear::new(10));
    net.build()
}
