//! `--balance`: how evenly many threads would share the layers. It is computed from where the library splits the
//! output, so it needs no machine with that many cores.

mod layer;
mod region;
#[cfg(test)]
mod tests;

use super::args::Args;
use crate::cli::{Format, Outcome};
use crate::layers::LayerSpec;
use crate::table::{number, report, table, written};
use crate::turns::geometric_mean;
use comfy_table::Table;
use kernels::Isa;
use layer::{GROUPS, LayerBalance};
use nets::zoo::{self, Entry};
use serde::Serialize;

/// The numbers of threads.
const THREADS: [usize; 6] = [4, 8, 16, 32, 64, 128];

/// A group of layers of the list, or the convolutions of a network.
#[derive(Debug, Serialize)]
struct BalanceRow {
    isa: &'static str,
    threads: usize,
    /// The width of the output at batch 1, larger batches, or a network.
    group: String,
    layers: usize,
    /// The average number of threads that a layer uses.
    used: f64,
    /// The mean part divided by the largest part, over the threads that a layer uses. For a group it is the geometric
    /// mean of its layers. A network is weighted by multiplications.
    balance: f64,
    /// The same over all threads.
    balance_of_all: f64,
    /// The smallest balance of a layer over the threads that it uses.
    worst: f64,
    worst_layer: String,
    /// The time to start and end parallel regions as a percentage of all time, if a region takes as long as with two
    /// threads.
    region_percent: f64,
    /// The same if the time of a region grows in proportion to the threads.
    region_percent_linear: f64,
}

/// Computes the balance and formats it.
pub(super) fn run(args: &Args, layers: &[LayerSpec]) -> anyhow::Result<Outcome> {
    let region = region::seconds()?;
    let networks = networks(args);
    let mut rows = Vec::new();
    for isa in isas(args)? {
        for threads in THREADS {
            let of_list = LayerBalance::of_list(args, layers, isa, threads)?;
            rows.extend(of_groups(&of_list, (isa, threads), region));
            for entry in &networks {
                let of_network = LayerBalance::of_network(args, entry, isa, threads)?;
                rows.extend(network_row(entry.name, &of_network, (isa, threads), region));
            }
        }
    }
    let note = format!(
        "a parallel region takes {:.2} us on two threads of this machine (measured); with more threads it is assumed \
         to take as long (region %), or to grow in proportion to the threads (linear %)\n",
        1e6 * region
    );
    if matches!(args.format, Format::Json | Format::Csv) {
        eprint!("{note}");
    }
    let text = report(&rows, args.format, || note + "\n" + &written(&page(&rows, args.format), args.format))?;
    Ok(Outcome { text, wrong: 0, failure: None })
}

/// The networks that `--filter` names. Without it, all of them, unless other layers are given.
fn networks(args: &Args) -> Vec<&'static Entry> {
    let is_alone =
        args.filter.is_empty() && args.layer.is_empty() && args.layers.is_empty() && args.random == 0;
    let is_meant =
        |entry: &&Entry| is_alone || args.filter.iter().any(|name| name == entry.name || name == "all");
    zoo::ALL.iter().filter(is_meant).collect()
}

/// The instruction sets of `--isa`, or AVX-512 and AVX2 as far as this machine has them.
fn isas(args: &Args) -> anyhow::Result<Vec<Isa>> {
    let named = args.isas()?;
    let both: Vec<Isa> = Isa::available().filter(|isa| matches!(isa, Isa::Avx512F | Isa::Avx2Fma)).collect();
    Ok(if args.isa.is_empty() && !both.is_empty() { both } else { named })
}

/// One row per group that has layers.
fn of_groups(layers: &[LayerBalance], setting: (Isa, usize), region: f64) -> Vec<BalanceRow> {
    let of_group = |group: &&'static str| {
        let members: Vec<&LayerBalance> = layers.iter().filter(|layer| layer.group == *group).collect();
        let mean =
            |balance: fn(&LayerBalance) -> f64| geometric_mean(members.iter().map(|layer| balance(layer)));
        let balances = [LayerBalance::balance, LayerBalance::balance_of_all].map(mean);
        row(group, &members, balances, setting, region)
    };
    GROUPS.iter().filter_map(of_group).collect()
}

/// The row of a network; `None` if it has no convolutions.
fn network_row(
    name: &str,
    layers: &[LayerBalance],
    setting: (Isa, usize),
    region: f64,
) -> Option<BalanceRow> {
    let members: Vec<&LayerBalance> = layers.iter().collect();
    let mean = |balance: fn(&LayerBalance) -> f64| {
        let macs: f64 = layers.iter().map(|layer| layer.macs as f64).sum();
        // The largest parts of all layers, one after another, and the time that they take.
        macs / layers.iter().map(|layer| layer.macs as f64 / balance(layer)).sum::<f64>()
    };
    let balances = [LayerBalance::balance, LayerBalance::balance_of_all].map(mean);
    row(name, &members, balances, setting, region)
}

fn row(
    group: &str,
    members: &[&LayerBalance],
    [balance, balance_of_all]: [f64; 2],
    (isa, threads): (Isa, usize),
    region: f64,
) -> Option<BalanceRow> {
    let worst = members.iter().min_by(|a, b| a.balance().total_cmp(&b.balance()))?;
    let used: usize = members.iter().map(|layer| layer.cuts.threads).sum();
    let work: f64 = members.iter().map(|layer| layer.cuts.seconds).sum();
    let percent = |regions: f64| 100.0 * regions / (regions + work);
    let regions = |of: fn(usize) -> f64| members.iter().map(|layer| region * of(layer.cuts.threads)).sum();
    Some(BalanceRow {
        isa: isa.name(),
        threads,
        group: group.to_owned(),
        layers: members.len(),
        used: used as f64 / members.len() as f64,
        balance,
        balance_of_all,
        worst: worst.balance(),
        worst_layer: format!("{} ({})", worst.name, worst.cuts.method),
        region_percent: percent(regions(|threads| if threads > 1 { 1.0 } else { 0.0 })),
        region_percent_linear: percent(regions(
            |threads| if threads > 1 { threads as f64 / 2.0 } else { 0.0 },
        )),
    })
}

fn page(rows: &[BalanceRow], format: Format) -> Table {
    let header = [
        "isa",
        "threads",
        "layers of",
        "layers",
        "used",
        "balance",
        "of all",
        "worst",
        "worst layer",
        "region %",
        "linear %",
    ];
    let mut table = table(&header, &[1, 3, 4, 5, 6, 7, 9, 10], format);
    for row in rows {
        table.add_row([
            row.isa.to_owned(),
            row.threads.to_string(),
            row.group.clone(),
            row.layers.to_string(),
            number(Some(row.used), 1),
            number(Some(row.balance), 3),
            number(Some(row.balance_of_all), 3),
            number(Some(row.worst), 3),
            row.worst_layer.clone(),
            number(Some(row.region_percent), 1),
            number(Some(row.region_percent_linear), 1),
        ]);
    }
    table
}
