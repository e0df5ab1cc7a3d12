use super::*;
use crate::layers::{SAMPLE, all, by_id};
use clap::Parser;
use kernels::internal::{Cuts, OutputBox};
use std::ops::Range;

fn args() -> Args {
    Args::parse_from(["shootout", "--balance"])
}

fn balances(layers: &[LayerSpec], isa: Isa, threads: usize) -> Vec<LayerBalance> {
    LayerBalance::of_list(&args(), layers, isa, threads).unwrap()
}

fn are_apart(a: &OutputBox, b: &OutputBox) -> bool {
    let apart = |a: &Range<usize>, b: &Range<usize>| a.end <= b.start || b.end <= a.start;
    apart(&a.images, &b.images) || apart(&a.channels, &b.channels) || apart(&a.pixels, &b.pixels)
}

#[test]
fn parts_cover_the_output_exactly_once() {
    let layers = SAMPLE.map(|id| by_id(id).clone());
    for (isa, threads) in Isa::available().flat_map(|isa| THREADS.map(|threads| (isa, threads))) {
        for LayerBalance { name, cuts, .. } in balances(&layers, isa, threads) {
            let Cuts { parts, whole, .. } = &cuts;
            assert!(parts.len() <= cuts.threads && cuts.threads <= threads, "{name} on {isa}");
            let sizes: usize = parts.iter().map(OutputBox::size).sum();
            assert_eq!(sizes, whole.size(), "{name} on {isa}, {threads} threads");
            for (number, part) in parts.iter().enumerate() {
                let is_new = parts[..number].iter().all(|other| are_apart(part, other));
                assert!(part.size() > 0 && is_new, "{name}: {part:?} on {isa}");
            }
            assert!(cuts.balance() > 0.0 && cuts.balance() <= 1.0, "{name}: {}", cuts.balance());
        }
    }
}

#[test]
fn a_layer_that_threads_divide_exactly_has_balance_1() {
    // 784 pixels and 512 channels.
    let layers = [by_id("resnet50.s2.1x1out").clone()];
    for (isa, threads) in Isa::available().flat_map(|isa| [4, 8, 16].map(|threads| (isa, threads))) {
        let balance = &balances(&layers, isa, threads)[0];
        assert_eq!((balance.cuts.threads, balance.balance()), (threads, 1.0), "{isa}");
    }
}

#[test]
fn a_layer_of_one_pixel_is_divided_by_vectors_of_channels() {
    let mut layer = by_id("resnet50.s2.1x1out").clone();
    (layer.c, layer.o, layer.h, layer.w) = (1 << 20, 16, 1, 1);
    for isa in Isa::available() {
        let balance = &balances(std::slice::from_ref(&layer), isa, 64)[0];
        assert_eq!(balance.cuts.threads, 64);
        // Sixteen threads at most have anything to compute.
        assert!(balance.balance() <= 0.25, "{isa}: {}", balance.balance());
    }
}

#[test]
fn sixty_four_threads_share_the_maps_of_the_list_evenly() {
    for isa in isas(&args()).unwrap() {
        let rows = of_groups(&balances(all(), isa, 64), (isa, 64), 1e-6);
        for (group, least) in [("56 wide", 0.9), ("28 wide", 0.9), ("14 wide", 0.75), ("7 wide", 0.75)] {
            let row = rows.iter().find(|row| row.group == group).expect("the list has such layers");
            assert!(row.layers >= 15 && row.balance >= least, "{row:?}");
        }
    }
}

#[test]
fn networks_weigh_layers_by_their_multiplications() {
    let entry = zoo::find("resnet18").unwrap();
    let layers = LayerBalance::of_network(&args(), entry, Isa::Portable, 64).unwrap();
    let counted = nets::count(&entry.graph().unwrap()).unwrap();
    let macs: u64 = layers.iter().map(|layer| layer.macs).sum();
    let others: u64 = counted.layers.iter().filter(|layer| layer.op != "conv").map(|layer| layer.macs).sum();
    assert_eq!((layers.len(), macs), (20, counted.macs - others));
    let row = network_row("resnet18", &layers, (Isa::Portable, 64), 1e-6).unwrap();
    let largest: f64 = layers.iter().map(|layer| layer.macs as f64 / layer.balance_of_all()).sum();
    assert!((row.balance_of_all - macs as f64 / largest).abs() < 1e-12, "{row:?}");
    assert!(row.worst <= row.balance && row.region_percent < row.region_percent_linear, "{row:?}");
}
