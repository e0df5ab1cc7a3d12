//! LeNet-5: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
//! recognition", Proceedings of the IEEE 86(11), 1998, section II.B, figure 2 and table I.

use crate::error::NetError;
use crate::graph::{Graph, GraphBuilder};
use crate::layer::{Conv, FractionalPool, Layer, Linear, Norm, NormKind, Pool, SparseConv, Subsample};
use crate::shape::Shape;
use kernels::Activation::{Relu, Tanh};
use kernels::{Activation, Size2};

/// LeNet-5 in the textbook variant with 61,706 parameters.
///
/// It differs from the paper in three ways. Every map of C3 reads every map of S2; in the paper, table I
/// connects 60 of the 96 pairs. The subsampling layers are plain averages; in the paper, each has a trained
/// factor and bias. The output layer is linear; in the paper, it computes distances to fixed codes.
///
/// # Errors
/// None.
pub fn lenet5() -> Result<Graph, NetError> {
    modern("lenet5", Shape::map(1, 32, 32))
}

/// The same for any input.
pub(super) fn modern(name: &str, input: Shape) -> Result<Graph, NetError> {
    activated(name, input, Tanh)
}

/// LeNet-5 with an activation behind each layer but the last.
pub(super) fn activated(name: &str, input: Shape, activation: Activation) -> Result<Graph, NetError> {
    variant(name, input, 1, &|net| {
        net.act(activation);
    })
}

/// LeNet-5 with maxout: each layer but the last has twice as many outputs, and the larger of each pair counts.
pub(super) fn maxout(name: &str, input: Shape) -> Result<Graph, NetError> {
    variant(name, input, 2, &|net| {
        let name = format!("{}.maxout", net.name(net.last()));
        net.then(&name, Layer::Maxout { pieces: 2 });
    })
}

/// LeNet-5 with a normalisation before each rectifier, also behind the fully connected layer. The layer of the normalisation is
/// called `LAYER.SUFFIX`. Instance normalisation is left out where maps have one pixel, which would become zero.
pub(super) fn normalised(name: &str, input: Shape, norm: Norm, suffix: &str) -> Result<Graph, NetError> {
    variant(name, input, 1, &|net| {
        let layer = net.name(net.last()).to_owned();
        let has_pixels = ["c1", "c3"].contains(&layer.as_str());
        if has_pixels || norm.kind != NormKind::Instance {
            net.then(&format!("{layer}.{suffix}"), norm);
        }
        net.act(Relu);
    })
}

/// LeNet-5 with rectifiers, and with dropout before both fully connected layers, as in AlexNet.
pub(super) fn dropout(name: &str, input: Shape) -> Result<Graph, NetError> {
    variant(name, input, 1, &|net| {
        let layer = net.name(net.last()).to_owned();
        net.act(Relu);
        if ["c5", "f6"].contains(&layer.as_str()) {
            net.then(&format!("{layer}.dropout"), Layer::Dropout);
        }
    })
}

/// LeNet-5 with rectifiers, and with fractional max-pooling by about 1.7 in the place of averages by 2. So C5 reads 7x7 pixels.
pub(super) fn fractional(name: &str, input: Shape) -> Result<Graph, NetError> {
    let mut net = GraphBuilder::new(name, input);
    net.then("c1", Conv::new(6, 5)).act(Relu); //         6@28x28
    net.then("s2", FractionalPool::new(2, 16)); //        6@16x16
    net.then("c3", Conv::new(16, 5)).act(Relu); //       16@12x12
    net.then("s4", FractionalPool::new(2, 7)); //        16@7x7
    net.then("c5", Conv::new(120, 7)).act(Relu); //     120@1x1
    net.then("flatten", Layer::Flatten);
    net.then("f6", Linear::new(84)).act(Relu); //        84
    net.then("output", Linear::new(10)); //              10
    net.build()
}

/// The layers of [`lenet5`] with `pieces` times as many outputs, each but the last followed by what `unit` adds.
fn variant(
    name: &str,
    input: Shape,
    pieces: usize,
    unit: &dyn Fn(&mut GraphBuilder),
) -> Result<Graph, NetError> {
    let mut net = GraphBuilder::new(name, input);
    unit(net.then("c1", Conv::new(6 * pieces, 5))); //      6@28x28
    net.then("s2", Pool::average(2, 2)); //                 6@14x14
    unit(net.then("c3", Conv::new(16 * pieces, 5))); //    16@10x10
    net.then("s4", Pool::average(2, 2)); //                16@5x5
    unit(net.then("c5", Conv::new(120 * pieces, 5))); //  120@1x1
    net.then("flatten", Layer::Flatten);
    unit(net.then("f6", Linear::new(84 * pieces))); //     84
    net.then("output", Linear::new(10)); //                10
    net.build()
}

/// The network of the paper, with 60,000 trained parameters. Table I connects C3, subsampling is trained, and
/// the output layer computes distances to ten fixed codes of 84 numbers. The activation is a plain tanh
/// instead of the paper's `1.7159 tanh(2/3 x)`, because trained weights can absorb both factors.
pub(super) fn original(name: &str, input: Shape) -> Result<Graph, NetError> {
    let subsample = Layer::Subsample(Subsample { window: Size2::square(2) });
    let mut net = GraphBuilder::new(name, input);
    net.then("c1", Conv::new(6, 5)).act(Tanh); //        6@28x28
    net.then("s2", subsample.clone()).act(Tanh); //      6@14x14
    let table = TABLE_I.iter().map(|maps| maps.to_vec()).collect();
    net.then("c3", Layer::SparseConv(SparseConv { conv: Conv::new(16, 5), table })).act(Tanh); // 16@10x10
    net.then("s4", subsample).act(Tanh); //             16@5x5
    net.then("c5", Conv::new(120, 5)).act(Tanh); //    120@1x1
    net.then("flatten", Layer::Flatten);
    net.then("f6", Linear::new(84)).act(Tanh); //       84
    net.then("output", Layer::Rbf { codes: 10 }); //    10
    net.build()
}

/// The maps of S2 that each map of C3 reads: three adjacent ones, four adjacent ones, two adjacent pairs, and all.
const TABLE_I: [&[usize]; 16] = [
    &[0, 1, 2],
    &[1, 2, 3],
    &[2, 3, 4],
    &[3, 4, 5],
    &[0, 4, 5],
    &[0, 1, 5],
    &[0, 1, 2, 3],
    &[1, 2, 3, 4],
    &[2, 3, 4, 5],
    &[0, 3, 4, 5],
    &[0, 1, 4, 5],
    &[0, 1, 2, 5],
    &[0, 1, 3, 4],
    &[1, 2, 4, 5],
    &[0, 2, 3, 5],
    &[0, 1, 2, 3, 4, 5],
];
