//! The rule for the memory order of feature maps: blocks of 16 channels, unless too many of their lanes would be empty.

use crate::graph::{Graph, NodeId};
use crate::layer::{Conv, Layer, SparseConv};
use crate::shape::Shape;
pub(super) use kernels::BLOCK;
use kernels::{Layout, Shape4};

/// Products with empty lanes that are still worth the blocked layout, in percent of those that count. LeNet-5, with
/// its 6 maps, would make two and a half times as many; GoogLeNet, with its 24, makes less than 1 % more.
const MOST_EMPTY: u128 = 25;

/// The memory order in which most of the maps of `graph` are kept: [`Layout::Nchw16c`] if there is a convolution and at
/// most a quarter more products are computed because channels are rounded up to 16.
pub(super) fn of_network(graph: &Graph) -> Layout {
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

/// Products of a convolution, without and with the empty lanes. A convolution on the caller's image reads no blocks.
fn products(conv: &Conv, input: Shape, output: Shape, first: bool) -> (u128, u128) {
    let (ins, outs) = (input.channels(), output.channels());
    let depthwise = conv.groups == ins;
    let rounded = |channels: usize| channels.next_multiple_of(BLOCK) as u128;
    let taps = conv.kernel.h as u128 * conv.kernel.w as u128;
    let size = output.batched(1).size();
    let pixels = size.h as u128 * size.w as u128;
    // Each output channel has so many products, whatever the groups.
    let per_output = (ins / conv.groups) as u128;
    let per_padded = match first || depthwise {
        true => per_output,
        false => (per_output * rounded(ins)).div_ceil(ins as u128),
    };
    let all =
        |channels: u128, products: u128| channels.saturating_mul(products).saturating_mul(taps * pixels);
    (all(outs as u128, per_output), all(rounded(outs), per_padded))
}

/// Whether a tensor in one of these layouts can be read as one in the other: an image of one pixel is a row of channels
/// in both. Padding lanes are only skipped on the way to NCHW.
pub(super) fn interchangeable(from: Layout, to: Layout, shape: Shape4) -> bool {
    let one_pixel = shape.h == 1 && shape.w == 1;
    from == to || (one_pixel && (to == Layout::Nchw || has_no_padding(shape)))
}

/// Whether blocks of 16 channels are all full.
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
            let small = ["mlp", "mlp-mnist", "lenet5", "lenet5-1998"].contains(&entry.name);
            let expected = if small { Layout::Nchw } else { Layout::Nchw16c };
            assert_eq!(of_network(&entry.graph().unwrap()), expected, "{}", entry.name);
        }
    }
}
