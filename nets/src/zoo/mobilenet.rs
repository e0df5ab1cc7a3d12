//! MobileNet-v2: M. Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", CVPR 2018, table 2.
//! Tensor names are torchvision's.

use crate::error::NetError;
use crate::graph::{Graph, GraphBuilder};
use crate::layer::{Conv, Layer, Linear, Norm, Pool};
use crate::shape::Shape;
use kernels::Activation;

/// Rows of table 2: expansion, output channels, blocks, and the stride of the first block.
const TABLE_2: [[usize; 4]; 7] = [
    [1, 16, 1, 1],
    [6, 24, 2, 2],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
];

pub(super) fn v2(name: &str, input: Shape) -> Result<Graph, NetError> {
    let mut net = GraphBuilder::new(name, input); //                                3@224x224
    conv(&mut net, ["features.0.0", "features.0.1"], Conv::new(32, 3).stride(2).pad(1))
        .act(Activation::RELU6); // 32@112x112
    let mut block = 1;
    for [expansion, channels, blocks, first_stride] in TABLE_2 {
        for stride in [first_stride].into_iter().chain(std::iter::repeat_n(1, blocks - 1)) {
            inverted_residual(&mut net, &format!("features.{block}"), [expansion, channels, stride]);
            block += 1;
        }
    } //                                                                           320@7x7
    conv(&mut net, ["features.18.0", "features.18.1"], Conv::new(1280, 1)).act(Activation::RELU6);
    net.then("avgpool", Pool::global_average()).then("flatten", Layer::Flatten); // 1280
    net.then("classifier.0", Layer::Dropout).then("classifier.1", Linear::new(1000));
    net.build()
}

/// Table 1: a 1x1 layer that expands the channels, a depthwise 3x3 layer, and a 1x1 layer without an activation.
fn inverted_residual(net: &mut GraphBuilder, name: &str, [expansion, channels, stride]: [usize; 3]) {
    let input = net.last();
    let hidden = expansion * net.shape(input).channels();
    let mut layer = 0;
    if expansion > 1 {
        expanded(net, name, layer, Conv::new(hidden, 1));
        layer += 1;
    }
    expanded(net, name, layer, Conv::new(hidden, 3).stride(stride).pad(1).groups(hidden));
    let names = [1, 2].map(|next| format!("{name}.conv.{}", layer + next));
    conv(net, [&names[0], &names[1]], Conv::new(channels, 1));
    let body = net.last();
    if net.shape(body) == net.shape(input) {
        net.add(&format!("{name}.add"), Layer::Add, &[input, body]);
    }
}

fn expanded(net: &mut GraphBuilder, name: &str, layer: usize, layer_conv: Conv) {
    let names = [0, 1].map(|part| format!("{name}.conv.{layer}.{part}"));
    conv(net, [&names[0], &names[1]], layer_conv).act(Activation::RELU6);
}

fn conv<'a>(net: &'a mut GraphBuilder, [name, norm]: [&str; 2], conv: Conv) -> &'a mut GraphBuilder {
    net.then(name, conv.no_bias()).then(norm, Norm::batch())
}
