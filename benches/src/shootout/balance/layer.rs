//! The balance of one layer.

use super::super::args::{Args, Candidate};
use crate::layer::Layouts;
use crate::layers::LayerSpec;
use anyhow::Context;
use kernels::internal::{Cuts, cuts};
use kernels::{ConvDesc, ConvDescBuilder, Isa};
use nets::zoo::Entry;
use nets::{Conv, Layer};

/// The groups of layers. At batch 1 they are widths of the output.
pub(super) const GROUPS: [&str; 6] = ["56 wide", "28 wide", "14 wide", "7 wide", "other widths", "batches"];

fn group(batch: usize, width: usize) -> &'static str {
    match (batch, width) {
        (1, 56) => GROUPS[0],
        (1, 28) => GROUPS[1],
        (1, 14) => GROUPS[2],
        (1, 7) => GROUPS[3],
        (1, _) => GROUPS[4],
        _ => GROUPS[5],
    }
}

/// How some threads would share one layer.
pub(super) struct LayerBalance {
    pub(super) name: String,
    pub(super) group: &'static str,
    pub(super) macs: u64,
    pub(super) cuts: Cuts,
    /// All threads. The layer can be too small to use all of them.
    threads: usize,
}

impl LayerBalance {
    /// Every layer in every layout of `args`.
    pub(super) fn of_list(
        args: &Args,
        layers: &[LayerSpec],
        isa: Isa,
        threads: usize,
    ) -> anyhow::Result<Vec<Self>> {
        let layouts = args.layouts();
        let all = layouts.iter().flat_map(|&layout| layers.iter().map(move |layer| (layout, layer)));
        all.map(|(layout, layer)| {
            let builder = Layouts::of_network(layout, layer).on(layer.builder());
            Self::new(args, layer.id.clone(), builder, isa, threads)
        })
        .collect()
    }

    /// Every convolution of a network for one image, in every layout of `args`.
    pub(super) fn of_network(
        args: &Args,
        entry: &Entry,
        isa: Isa,
        threads: usize,
    ) -> anyhow::Result<Vec<Self>> {
        let graph = entry.graph()?;
        let mut balances = Vec::new();
        for layout in args.layouts() {
            for node in graph.nodes() {
                let (Layer::Conv(conv), [input]) = (&node.layer, &node.inputs[..]) else { continue };
                let builder = builder(conv, graph.node(*input).output);
                let channels = graph.node(*input).output.channels();
                let builder = Layouts::of_channels(layout, channels, conv.groups).on(builder);
                balances.push(Self::new(args, node.name.clone(), builder, isa, threads)?);
            }
        }
        Ok(balances)
    }

    fn new(
        args: &Args,
        name: String,
        builder: ConvDescBuilder,
        isa: Isa,
        threads: usize,
    ) -> anyhow::Result<Self> {
        let desc = builder.build().with_context(|| name.clone())?;
        let cuts = cuts(&desc, &args.options(Candidate::Auto, isa, threads)).with_context(|| name.clone())?;
        let output = desc.output();
        Ok(Self { name, group: group(output.n, output.w), macs: desc.cost().macs, cuts, threads })
    }

    /// The mean part divided by the largest part, over the threads that the layer uses.
    pub(super) fn balance(&self) -> f64 {
        self.cuts.balance()
    }

    /// The same over all threads.
    pub(super) fn balance_of_all(&self) -> f64 {
        self.cuts.balance() * self.cuts.threads as f64 / self.threads as f64
    }
}

/// The convolution for one image of shape `input`.
fn builder(conv: &Conv, input: nets::Shape) -> ConvDescBuilder {
    ConvDesc::builder(input.batched(1), conv.out_channels, conv.kernel)
        .stride(conv.stride)
        .pad(conv.pad)
        .dilation(conv.dilation)
        .groups(conv.groups)
}
