//! Residual networks and their plain counterparts: K. He, X. Zhang, S. Ren and J. Sun, "Deep residual
//! learning for image recognition", CVPR 2016, table 1 (ImageNet) and section 4.2 (CIFAR-10). Tensor names
//! are torchvision's. ResNeXt: S. Xie, R. Girshick, P. Dollár, Z. Tu and K. He, "Aggregated residual transformations
//! for deep neural networks", CVPR 2017, table 1.

use crate::error::NetError;
use crate::graph::{Graph, GraphBuilder, NodeId};
use crate::layer::{Conv, Layer, Linear, Norm, Pool};
use crate::shape::Shape;
use kernels::Activation::Relu;

/// Channels of the first stage of the networks for ImageNet.
const STAGE_1: usize = 64;

/// The shortcut around the convolutions of a block.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Shortcut {
    /// No shortcut: a plain network.
    None,
    /// The input itself. Where the extents change, every second pixel of it, with zeros for the additional channels.
    A,
    /// The input itself. Where the extents change, a 1x1 projection of it.
    B,
}

/// The layers of a block.
#[derive(Clone, Copy)]
pub(super) enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3, and 1x1 with four times the channels. The stride is in the first convolution, or in the
    /// second as in torchvision ("v1.5").
    Bottleneck { stride_first: bool },
    /// A bottleneck whose second convolution has groups. In the first stage each group has `width` channels, and every
    /// later stage doubles that. The stride is in the second convolution.
    Grouped { groups: usize, width: usize },
}

/// A column of table 1: the number of blocks in each stage, and their kind.
#[derive(Clone, Copy)]
pub(super) struct Column {
    pub(super) blocks: [usize; 4],
    pub(super) block: Block,
    pub(super) shortcut: Shortcut,
}

impl Column {
    pub(super) const fn basic(blocks: [usize; 4], shortcut: Shortcut) -> Self {
        Self { blocks, block: Block::Basic, shortcut }
    }

    pub(super) const fn bottleneck(blocks: [usize; 4], stride_first: bool) -> Self {
        Self { blocks, block: Block::Bottleneck { stride_first }, shortcut: Shortcut::B }
    }

    pub(super) const fn grouped(blocks: [usize; 4], groups: usize, width: usize) -> Self {
        Self { blocks, block: Block::Grouped { groups, width }, shortcut: Shortcut::B }
    }

    /// Builds the network for ImageNet.
    pub(super) fn build(self, name: &str, input: Shape) -> Result<Graph, NetError> {
        let mut net = GraphBuilder::new(name, input); //                             3@224x224
        conv(&mut net, "conv1", "bn1", Conv::new(64, 7).stride(2).pad(3)).act(Relu); // 64@112x112
        net.then("maxpool", Pool::max(3, 2).pad(1)); //                             64@56x56
        self.stages(&mut net, &[64, 128, 256, 512]); //                        512@7x7
        net.then("avgpool", Pool::global_average()).then("flatten", Layer::Flatten);
        net.then("fc", Linear::new(1000));
        net.build()
    }

    /// Adds the blocks `layer1.0`, `layer1.1` and so on. The first block of every stage but the first halves
    /// the extents.
    fn stages(self, net: &mut GraphBuilder, channels: &[usize]) {
        for ((stage, &channels), blocks) in channels.iter().enumerate().zip(self.blocks) {
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                self.block(net, &format!("layer{}.{block}", stage + 1), channels, stride);
            }
        }
    }

    fn block(self, net: &mut GraphBuilder, name: &str, channels: usize, stride: usize) {
        let (input, three) = (net.last(), Conv::new(channels, 3).pad(1));
        let layers = match self.block {
            Block::Basic => vec![three.stride(stride), three],
            Block::Bottleneck { stride_first } => {
                let (one, last) = (Conv::new(channels, 1), Conv::new(4 * channels, 1));
                match stride_first {
                    true => vec![one.stride(stride), three, last],
                    false => vec![one, three.stride(stride), last],
                }
            }
            Block::Grouped { groups, width } => {
                let inner = groups * width * channels / STAGE_1;
                let three = Conv { out_channels: inner, ..three }.stride(stride).groups(groups);
                vec![Conv::new(inner, 1), three, Conv::new(4 * channels, 1)]
            }
        };
        for (number, &layer) in (1..).zip(&layers) {
            conv(net, &format!("{name}.conv{number}"), &format!("{name}.bn{number}"), layer);
            if number < layers.len() {
                net.act(Relu);
            }
        }
        let body = net.last();
        if self.shortcut != Shortcut::None {
            let shortcut = self.shortcut(net, name, (input, body), stride);
            net.add(&format!("{name}.add"), Layer::Add, &[body, shortcut]);
        }
        net.act(Relu);
    }

    fn shortcut(
        self,
        net: &mut GraphBuilder,
        name: &str,
        (input, body): (NodeId, NodeId),
        stride: usize,
    ) -> NodeId {
        if net.shape(input) == net.shape(body) {
            return input;
        }
        let channels = net.shape(body).channels();
        net.at(input);
        match self.shortcut {
            Shortcut::A => net.then(&format!("{name}.shortcut"), Layer::ShortcutA { stride, channels }),
            Shortcut::B | Shortcut::None => {
                let projection = Conv::new(channels, 1).stride(stride);
                conv(net, &format!("{name}.downsample.0"), &format!("{name}.downsample.1"), projection)
            }
        };
        net.last()
    }
}

/// Section 4.2: `6n + 2` layers in three stages of `n` blocks with 16, 32 and 64 channels, with shortcuts A or none.
pub(super) fn cifar(name: &str, input: Shape, layers: usize, shortcut: Shortcut) -> Result<Graph, NetError> {
    let n = (layers - 2) / 6;
    let column = Column::basic([n, n, n, 0], shortcut);
    let mut net = GraphBuilder::new(name, input); //                                  3@32x32
    conv(&mut net, "conv1", "bn1", Conv::new(16, 3).pad(1)).act(Relu); //            16@32x32
    column.stages(&mut net, &[16, 32, 64]); //                                       64@8x8
    net.then("avgpool", Pool::global_average()).then("flatten", Layer::Flatten);
    net.then("fc", Linear::new(10));
    net.build()
}

/// Section 3.4: batch normalisation directly after each convolution.
fn conv<'a>(net: &'a mut GraphBuilder, name: &str, norm: &str, conv: Conv) -> &'a mut GraphBuilder {
    net.then(name, conv.no_bias()).then(norm, Norm::batch())
}
