//! Random problems of three axes.

use super::super::ACTIVATIONS;
use super::{Axes, Spatial};
use kernels::EpilogueSpec;
use proptest::prelude::*;

/// Maximum products of a problem: the definition computes them one by one.
const MOST_PRODUCTS: usize = 400_000;

/// Channels of a group: few, or about a block or two.
fn channels() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 1..6usize, 1 => 14..19usize, 1 => Just(16), 1 => Just(32)]
}

/// Groups with the channels of each.
fn groups() -> impl Strategy<Value = (usize, usize, usize)> {
    prop_oneof![
        4 => (Just(1), channels(), channels()),
        1 => (2..4usize, channels(), channels()),
        1 => (2..36usize, Just(1), 1..3usize),
    ]
}

fn axes(of: impl Strategy<Value = usize> + Clone, most: Axes, rest: usize) -> impl Strategy<Value = Axes> {
    // An axis of one element has nothing to choose.
    (of.clone(), of.clone(), of).prop_map(move |(d, h, w)| {
        let pick = |axis: usize, value: usize| if most[axis] == 1 { rest } else { value };
        [pick(0, d), pick(1, h), pick(2, w)]
    })
}

fn epilogue() -> impl Strategy<Value = EpilogueSpec> {
    (any::<bool>(), any::<bool>(), 0..ACTIVATIONS.len()).prop_map(|(bias, residual, activation)| {
        EpilogueSpec { bias, residual, activation: ACTIVATIONS[activation] }
    })
}

/// Problems whose extents are at most `most`, with at most `taps` taps along an axis.
pub fn spatial(most: Axes, taps: usize) -> impl Strategy<Value = Spatial> {
    let size = (1..=most[0], 1..=most[1], 1..=most[2]).prop_map(|(d, h, w)| [d, h, w]);
    let kernel = axes(1..=taps, most, 1);
    let stride = axes(prop_oneof![3 => Just(1usize), 1 => 2..4usize], most, 1);
    let dilation = axes(prop_oneof![2 => Just(1usize), 1 => 2..4usize], most, 1);
    let pads = (axes(0..4usize, most, 0), axes(0..4usize, most, 0));
    let rest = (0..5usize, 0..5usize, epilogue(), any::<bool>(), any::<u64>());
    (1..4usize, groups(), size, (kernel, stride, dilation), pads, rest)
        .prop_map(|(n, (groups, ins, outs), size, (kernel, stride, dilation), (before, after), rest)| {
            let (layout, output_layout, epilogue, accumulate, seed) = rest;
            Spatial {
                n,
                ins,
                outs,
                groups,
                size,
                kernel,
                stride,
                dilation,
                before,
                after,
                layouts: (layout, output_layout),
                epilogue,
                accumulate,
                seed,
            }
        })
        .prop_filter("the output is not empty", |problem| problem.output().is_some())
        .prop_filter("the definition is slow", |problem| problem.most_products() <= MOST_PRODUCTS)
}
