//! The layout of feature maps: blocks of 16 channels, unless too many lanes would be empty.

use crate::graph::{Graph, NodeId};
use crate::layer::{Conv, Layer, SparseConv};
use crate::shape::Shape;
pub(crate) use kernels::BLOCK;
use kernels::{Layout, Shape4};

/// Maximum products with empty lanes for the blocked layout, in per cent of the real ones. LeNet-5 with 6
/// maps would compute two and a half times as many; GoogLeNet with 24 maps adds less than 1 %.
const MOST_EMPTY: u128 = 25;

/// The layout of most feature maps of `graph`. It is [`Layout::Nchw16c`] if there is a convolution and
/// rounding channels up to 16 adds at most a quarter to the products.
pub(crate) fn of_network(graph: &Graph) -> Layout {
    let (mut real, mut padded) = (0u128, 0u128);
    for node in graph.nodes() {
        let (Layer::Conv(conv) | Layer::SparseConv(SparseConv { conv, .. })) = &node.layer else { continue };
        let input = graph.node(node.inputs[0]).output;
        let (macs, all) = products(conv, input, node.output, node.inputs[0] == NodeId::INPUT);
        real = real.saturating_add(macs);
        padded = padded.saturating_add(all);
    }
    let few_are_empty = padded.saturating_mul(100) <= real.saturating_mul(100 + MOST_EMPTY);
    if real > 0 && few_are_empty { Layout::Nchw16c } else { Layout::Nchw }
}

/// Whether blocks of 16 channels would add at most a quarter to the elements of a map.
pub(crate) fn few_are_empty(channels: usize) -> bool {
    let padded = channels.next_multiple_of(BLOCK) as u128;
    padded * 100 <= channels as u128 * (100 + MOST_EMPTY)
}

/// Products of a convolution, without and with empty lanes. A convolution on the caller's image reads NCHW.
fn products(conv: &Conv, input: Shape, output: Shape, first: bool) -> (u128, u128) {
    let (ins, outs) = (input.channels(), output.channels());
    let depthwise = conv.groups == ins;
    let rounded = |channels: usize| channels.next_multiple_of(BLOCK) as u128;
    let taps = conv.kernel.h as u128 * conv.kernel.w as u128;
    let size = output.batched(1).size();
    let pixels = size.h as u128 * size.w as u128;
    // Every output channel has this many products, independent of groups.
    let per_output = (ins / conv.groups) as u128;
    let per_padded = match first || depthwise {
        true => per_output,
        false => (per_output * rounded(ins)).div_ceil(ins as u128),
    };
    let all =
        |channels: u128, products: u128| channels.saturating_mul(products).saturating_mul(taps * pixels);
    (all(outs as u128, per_output), all(rounded(outs), per_padded))
}

/// Whether a tensor in layout `from` can be read as layout `to`. An image of one pixel is a row of channels
/// in both layouts. Padding lanes can be skipped only when reading as NCHW.
pub(super) fn interchangeable(from: Layout, to: Layout, shape: Shape4) -> bool {
    let one_pixel = shape.h == 1 && shape.w == 1;
    from == to || (one_pixel && (to == Layout::Nchw || has_no_padding(shape)))
}

/// Whether all blocks of 16 channels are full.
pub(super) fn has_no_padding(shape: Shape4) -> bool {
    shape.c.is_multiple_of(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo;

    #[test]
    fn small_networks_stay_in_nchw_and_large_ones_are_blocked() {
        for entry in zoo::ALL {
            let small = ["mlp", "mlp-mnist"].contains(&entry.name) || entry.name.starts_with("lenet5");
            let expected = if small { Layout::Nchw } else { Layout::Nchw16c };
            assert_eq!(of_network(&entry.graph().unwrap()), expected, "{}", entry.name);
        }
    }
}
