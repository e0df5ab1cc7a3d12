//! [`Convention`]: the operations that a tool or a paper counts.

use super::{NetCount, ops};
use crate::error::NetError;
use crate::graph::{Graph, Node};
use crate::layer::{Layer, Norm, NormKind, Pool};
use crate::shape::Shape;
use kernels::{Activation, PoolKind};

/// A convention for counting operations. Each tool is reproduced exactly, in the version named, including
/// where its counts are surprising. `docs/counting.md` compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Convention {
    /// Multiply-accumulates of convolutions, fully connected layers and matrix products, including products with
    /// padding, and nothing else. Papers of the time of these networks call them FLOPs, "multiply-adds" or MACs.
    #[default]
    Mac,
    /// Twice the multiply-accumulates: one multiplication and one addition each. With a bias this is exact;
    /// without one it counts one addition per output too many.
    Flop,
    /// [`Flop`](Self::Flop) and the operations of all other layers. Per output element, an activation counts 1,
    /// pooling one per window element, batch normalisation 2 (folded into scale and shift), other normalisations 4,
    /// or 5 with scale and shift, local response normalisation its size plus 4, residual addition 1 per addition,
    /// multiplication 1, maxout one less than its pieces, softmax 5, subsampling its window plus 1, and distances to
    /// codes 3 per input. Concatenation, padding, flattening and dropout count nothing.
    Ops,
    /// fvcore 0.1.5. It counts multiply-accumulates. Batch normalisation adds 2 per input (1 without scale
    /// and shift), other normalisations add 5 or 4, and global and adaptive average pooling add 1.
    Fvcore,
    /// ptflops 0.7.5 with its default backend, for a model made of modules. It counts multiply-accumulates
    /// and biases. Normalisations add 2 per input (1 without scale and shift). ReLU, ELU and PReLU add 2 per
    /// element and pooling adds 2 per input, because ptflops counts both the module and the function in it.
    /// Other activations add at most 1.
    Ptflops,
    /// ptflops 0.7.5 with backend `aten`. It counts multiply-accumulates and biases.
    PtflopsAten,
    /// thop 0.1.1. It counts multiply-accumulates. Normalisations add 4 per input (2 without scale and
    /// shift), average pooling adds 1 per output, global and adaptive pooling add the window plus 1, PReLU
    /// adds 1, and softmax adds 3 per element minus 1 per pixel.
    Thop,
    /// The figures on torchvision's model pages, which come from PyTorch's own counter. They equal
    /// [`Mac`](Self::Mac), in units of 10^9, but are called GFLOPS.
    Torchvision,
}

impl Convention {
    /// Every convention.
    pub const ALL: [Self; 8] = [
        Self::Mac,
        Self::Flop,
        Self::Ops,
        Self::Fvcore,
        Self::Ptflops,
        Self::PtflopsAten,
        Self::Thop,
        Self::Torchvision,
    ];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mac => "mac",
            Self::Flop => "flop",
            Self::Ops => "ops",
            Self::Fvcore => "fvcore",
            Self::Ptflops => "ptflops",
            Self::PtflopsAten => "ptflops-aten",
            Self::Thop => "thop",
            Self::Torchvision => "torchvision",
        }
    }

    /// The cost of every layer. `count` must be the count of `graph`; the costs are for its batch.
    ///
    /// # Errors
    /// [`NetError::CountOverflow`] if a count overflows 64 bits.
    pub fn costs(self, graph: &Graph, count: &NetCount) -> Result<Vec<u64>, NetError> {
        let layers = graph.nodes().iter().zip(&count.layers);
        let costs = layers.map(|(node, layer)| {
            let extra = self.extra(graph, node).and_then(|extra| extra.checked_mul(count.batch));
            let base = match self {
                Self::Flop => layer.macs.checked_mul(2),
                Self::Ops => layer.macs.checked_mul(2).and_then(|flops| flops.checked_add(layer.other_ops)),
                _ => Some(layer.macs),
            };
            let cost = base.zip(extra).and_then(|(base, extra)| base.checked_add(extra));
            cost.ok_or_else(|| super::overflow(node, "operations"))
        });
        costs.collect()
    }

    /// What a tool counts per image in addition to multiply-accumulates.
    fn extra(self, graph: &Graph, node: &Node) -> Option<u64> {
        let inputs = graph.input_shapes(node);
        let Some(&input) = inputs.first() else { return Some(0) };
        let (layer, read, written) = (&node.layer, ops::elements(input)?, ops::elements(node.output)?);
        match self {
            Self::Mac | Self::Flop | Self::Ops | Self::Torchvision => Some(0),
            Self::Fvcore => fvcore(layer, read),
            Self::Ptflops => bias(layer, written)?.checked_add(ptflops(layer, read)?),
            Self::PtflopsAten => bias(layer, written),
            Self::Thop => thop(layer, input, read, written),
        }
    }
}

fn fvcore(layer: &Layer, read: u64) -> Option<u64> {
    read.checked_mul(match layer {
        Layer::Norm(Norm { kind: NormKind::Batch, affine, .. }) => 1 + u64::from(*affine),
        Layer::Norm(norm) => 4 + u64::from(norm.affine),
        Layer::AdaptivePool(_) | Layer::Pool(Pool { window: None, kind: PoolKind::Average { .. }, .. }) => 1,
        _ => 0,
    })
}

/// The additions of a bias: one per output element.
fn bias(layer: &Layer, written: u64) -> Option<u64> {
    let bias = match layer {
        Layer::Conv(conv) => conv.bias,
        Layer::SparseConv(sparse) => sparse.conv.bias,
        Layer::ConvTranspose(conv) => conv.bias,
        Layer::Linear(linear) => linear.bias,
        _ => false,
    };
    written.checked_mul(bias.into())
}

fn ptflops(layer: &Layer, read: u64) -> Option<u64> {
    use Activation::{Clip, Elu, LeakyRelu, PRelu, Relu, Silu};
    read.checked_mul(match layer {
        Layer::Norm(norm) => 1 + u64::from(norm.affine),
        Layer::Activation(Relu | Elu { .. } | PRelu) | Layer::Pool(_) | Layer::AdaptivePool(_) => 2,
        Layer::Activation(LeakyRelu { .. } | Clip { .. } | Silu) | Layer::Softmax => 1,
        _ => 0,
    })
}

fn thop(layer: &Layer, input: Shape, read: u64, written: u64) -> Option<u64> {
    match layer {
        Layer::Norm(norm) => read.checked_mul(2 + 2 * u64::from(norm.affine)),
        Layer::Pool(Pool { kind: PoolKind::Average { .. }, window: Some(_), .. }) => Some(written),
        Layer::Pool(Pool { kind: PoolKind::Average { .. }, window: None, .. }) | Layer::AdaptivePool(_) => {
            read.checked_add(written)
        }
        Layer::Activation(Activation::PRelu) => Some(read),
        Layer::Softmax => {
            let channels = u64::try_from(input.channels()).ok()?;
            (read / channels.max(1)).checked_mul(channels.checked_mul(3)?.checked_sub(1)?)
        }
        _ => Some(0),
    }
}
