//! [`Convention`]: which operations a tool or a paper counts.

use super::{NetCount, ops};
use crate::error::NetError;
use crate::graph::{Graph, Node};
use crate::layer::{Layer, Norm, NormKind, Pool};
use crate::shape::Shape;
use kernels::{Activation, PoolKind};

/// A way to count. The tools are those of the versions named; each is reproduced to the last digit, also where it
/// counts what one would not expect (`docs/counting.md` compares them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Convention {
    /// Multiply-accumulates of convolutions, fully connected layers and matrix products, products with padding
    /// included, nothing else: what papers of the years of these networks call FLOPs, "multiply-adds" or MACs.
    #[default]
    Mac,
    /// Twice that: every multiplication and every addition. A bias makes this exact; without one it is too many by
    /// one addition per output.
    Flop,
    /// [`Flop`](Self::Flop) and the operations of every other layer. Per output element: an activation 1, pooling one
    /// per element of its window, batch normalisation 2 (folded into scale and shift), other normalisations 4 or,
    /// with scale and shift, 5, local response normalisation its size and 4, residual addition one per addition,
    /// multiplication 1, maxout its pieces less 1, softmax 5, subsampling its window and 1, distances to codes 3 per
    /// input. Concatenation, padding, flattening and dropout are nothing.
    Ops,
    /// fvcore 0.1.5: multiply-accumulates; 2 per input of batch normalisation (1 without scale and shift), 5 or 4 of
    /// other normalisations; 1 per input of global and adaptive average pooling.
    Fvcore,
    /// ptflops 0.7.5 with its default backend, of a model made of modules: multiply-accumulates and biases; 2 per
    /// input of normalisations (1 without scale and shift); ReLU, ELU and PReLU count 2 per element and pooling 2 per
    /// input, because the module and the function in it are both counted; other activations at most 1.
    Ptflops,
    /// ptflops 0.7.5 with backend `aten`: multiply-accumulates and biases.
    PtflopsAten,
    /// thop 0.1.1: multiply-accumulates; 4 per input of normalisations (2 without scale and shift); average pooling 1
    /// per output, global and adaptive ones the window and 1; PReLU 1; softmax 3 less 1 per pixel.
    Thop,
    /// The figures of torchvision's model pages, from PyTorch's own counter: the same as [`Mac`](Self::Mac), in units
    /// of 10^9 under the name GFLOPS.
    Torchvision,
}

impl Convention {
    /// All of them.
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

    /// What it counts, layer by layer, for the batch of `count`, which is the count of `graph`.
    ///
    /// # Errors
    /// [`NetError::CountOverflow`] if a number does not fit 64 bits.
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

    /// What a tool counts for one image beyond multiply-accumulates.
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

/// One addition per output.
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
