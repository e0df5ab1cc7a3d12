//! Kinds of layers: what makes a layer unlike the layers of a well-known network. Reports compare kind by kind,
//! because a mean over all layers hides a kind that is slow.

use crate::layers::LayerSpec;

/// The most input or output channels that are few.
const FEW: usize = 5;
/// Channels of a block in the layout Nchw16c.
const BLOCK: usize = 16;
/// The most output pixels of a tiny map.
const TINY: usize = 16;

/// A kind of layer. Every layer has exactly one: the first of [`Kind::ALL`] that applies.
pub struct Kind {
    /// The name in reports.
    pub name: &'static str,
    applies: fn(&LayerSpec) -> bool,
}

impl Kind {
    /// All kinds. A kind stands before another if it explains the time of a layer of both better. Groups come
    /// first, because other loops compute them. Then come few channels, which leave vectors or sums short,
    /// then the size of the map, then stride and kernel. Every layer is at least "other dense".
    pub const ALL: [Self; 19] = [
        Self::new("depthwise with multiplier", |layer| is_channelwise(layer) && layer.o > layer.groups),
        Self::new("depthwise, kernel to 3, stride 1", |layer| depthwise(layer) == Some((0, false))),
        Self::new("depthwise, kernel to 3, strided", |layer| depthwise(layer) == Some((0, true))),
        Self::new("depthwise, kernel 4 to 7, stride 1", |layer| depthwise(layer) == Some((1, false))),
        Self::new("depthwise, kernel 4 to 7, strided", |layer| depthwise(layer) == Some((1, true))),
        Self::new("depthwise, kernel over 7, stride 1", |layer| depthwise(layer) == Some((2, false))),
        Self::new("depthwise, kernel over 7, strided", |layer| depthwise(layer) == Some((2, true))),
        Self::new("grouped, under 16 channels", |layer| layer.groups > 1 && of_group(layer) < BLOCK),
        Self::new("grouped, 16 channels and more", |layer| layer.groups > 1),
        Self::new("few inputs", |layer| layer.c <= FEW),
        Self::new("few outputs", |layer| layer.o <= FEW),
        Self::new("kernel larger than the map", is_larger_than_map),
        Self::new("tiny map", |layer| pixels(layer) <= TINY),
        Self::new("thin map", |layer| layer.h == 1 || layer.w == 1),
        Self::new("strided", |layer| layer.stride > 1),
        Self::new("1x1", |layer| (layer.kh, layer.kw) == (1, 1)),
        Self::new("odd channels", |layer| layer.c % BLOCK != 0 || layer.o % BLOCK != 0),
        Self::new("batch", |layer| layer.n > 1),
        Self::new("other dense", |_| true),
    ];

    const fn new(name: &'static str, applies: fn(&LayerSpec) -> bool) -> Self {
        Self { name, applies }
    }

    /// The kind of `layer`.
    ///
    /// # Panics
    /// Never: the last kind applies to every layer.
    pub fn of(layer: &LayerSpec) -> &'static Self {
        const ALL: &[Kind] = &Kind::ALL;
        ALL.iter().find(|kind| (kind.applies)(layer)).expect("the last kind applies to every layer")
    }
}

/// Whether every group has one input channel. A layer with one input channel in all is dense.
fn is_channelwise(layer: &LayerSpec) -> bool {
    layer.groups > 1 && layer.groups == layer.c
}

/// The class of the longer side of a depthwise kernel (0: up to 3, 1: 4 to 7, 2: over 7), and whether the layer
/// is strided.
fn depthwise(layer: &LayerSpec) -> Option<(usize, bool)> {
    let class = match layer.kh.max(layer.kw) {
        ..=3 => 0,
        4..=7 => 1,
        _ => 2,
    };
    (is_channelwise(layer) && layer.o == layer.groups).then_some((class, layer.stride > 1))
}

/// Channels of one group: input or output channels, whichever are fewer.
fn of_group(layer: &LayerSpec) -> usize {
    layer.c.min(layer.o) / layer.groups
}

/// Whether the dilated kernel exceeds the map without its padding, so that some taps often meet only padding.
fn is_larger_than_map(layer: &LayerSpec) -> bool {
    let extent = |taps: usize| (taps - 1).saturating_mul(layer.dilation).saturating_add(1);
    extent(layer.kh) > layer.h || extent(layer.kw) > layer.w
}

/// Output pixels of one image.
fn pixels(layer: &LayerSpec) -> usize {
    layer.builder().build().map_or(0, |desc| desc.output().h * desc.output().w)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::described::by_text;
    use crate::{layers, random};
    use std::collections::HashSet;

    #[test]
    fn every_kind_has_its_layers() {
        let examples = [
            ("depthwise with multiplier", "1x32x56x56 -> 64 3x3 p1 g32"),
            ("depthwise, kernel to 3, stride 1", "1x32x56x56 -> 32 3x3 p1 g32"),
            ("depthwise, kernel to 3, stride 1", "1x3x1x1 -> 3 1x1 g3"),
            ("depthwise, kernel to 3, strided", "1x32x56x56 -> 32 2x3 s2 g32"),
            ("depthwise, kernel 4 to 7, stride 1", "1x32x56x56 -> 32 1x4 g32"),
            ("depthwise, kernel 4 to 7, strided", "1x32x56x56 -> 32 7x7 s3 p3 g32"),
            ("depthwise, kernel over 7, stride 1", "1x723x4x4 -> 723 10x10 p5 g723"),
            ("depthwise, kernel over 7, strided", "1x32x56x56 -> 32 8x1 s2 g32"),
            ("grouped, under 16 channels", "1x128x56x56 -> 128 3x3 p1 g32"),
            ("grouped, under 16 channels", "1x128x56x56 -> 4 3x3 p1 g4"),
            ("grouped, 16 channels and more", "1x64x56x56 -> 32 3x3 p1 g2"),
            ("few inputs", "1x3x224x224 -> 64 7x7 s2 p3"),
            ("few inputs", "1x1x9x9 -> 1 3x3"),
            ("few outputs", "1x64x56x56 -> 5 3x3 p1"),
            ("kernel larger than the map", "1x64x5x5 -> 64 7x7 p3"),
            ("kernel larger than the map", "1x64x8x8 -> 64 3x3 p4 d4"),
            ("tiny map", "1x64x5x5 -> 64 3x3 p1 s2"),
            ("tiny map", "1x64x1x1 -> 64 1x1"),
            ("thin map", "1x64x1x92 -> 64 1x7 p0"),
            ("strided", "1x64x56x56 -> 64 1x1 s2"),
            ("1x1", "1x60x56x56 -> 64 1x1"),
            ("odd channels", "1x64x56x56 -> 50 3x3 p1"),
            ("odd channels", "1x6x56x56 -> 64 3x3 p1"),
            ("batch", "2x64x56x56 -> 64 3x3 p1"),
            ("other dense", "1x64x56x56 -> 64 3x3 p1"),
        ];
        for (kind, text) in examples {
            assert_eq!(Kind::of(&by_text(text).unwrap()).name, kind, "{text}");
        }
        let named: HashSet<&str> = examples.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(named.len(), Kind::ALL.len(), "a kind has no example, or two kinds have the same name");
    }

    #[test]
    fn the_list_and_random_layers_reach_every_kind() {
        let mut missing: HashSet<&str> = Kind::ALL.iter().map(|kind| kind.name).collect();
        for layer in layers::all().iter().cloned().chain(random::layers(2000, 1)) {
            missing.remove(Kind::of(&layer).name);
        }
        assert!(missing.is_empty(), "{missing:?}");
    }
}
