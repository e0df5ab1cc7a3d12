//! All networks of the zoo, with the figures cited for them.

use crate::cli::args::Format;
use crate::cli::rows::{Align, Rows};
use crate::cli::text::thousands;
use nets::zoo::{self, Cited, Entry, Quantity};
use serde::Serialize;
use std::fmt::Write as _;

/// An element of the list that `--format json` prints.
#[derive(Serialize)]
struct Network {
    name: &'static str,
    summary: &'static str,
    input: Vec<usize>,
    batch: u64,
    params: u64,
    macs: u64,
    cited: Vec<Figure>,
}

#[derive(Serialize)]
struct Figure {
    quantity: &'static str,
    text: &'static str,
    source: &'static str,
    agrees: bool,
    /// The exact count divided by the figure.
    ratio: f64,
    reason: &'static str,
}

pub(super) fn execute(format: Format, batch: u64) -> anyhow::Result<String> {
    let networks = zoo::ALL.iter().map(|entry| network(entry, batch));
    let networks = networks.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(match format {
        Format::Json => serde_json::to_string(&networks)? + "\n",
        Format::Csv => rows(&networks, false).csv()?,
        Format::Markdown => rows(&networks, false).markdown(),
        Format::Text => rows(&networks, true).text() + &differences(&networks),
    })
}

fn network(entry: &'static Entry, batch: u64) -> anyhow::Result<Network> {
    let count = nets::count_batch(&entry.graph()?, batch)?;
    // Figures are for one image.
    let figure = |cited: &'static Cited| {
        let (quantity, exact) = match cited.quantity {
            Quantity::Params => ("parameters", count.params),
            Quantity::Macs => ("MACs", count.macs / batch),
        };
        let (agrees, ratio) = (cited.agrees(exact), exact as f64 / cited.value);
        Figure { quantity, text: cited.text, source: cited.source, agrees, ratio, reason: cited.reason }
    };
    Ok(Network {
        name: entry.name,
        summary: entry.summary,
        input: entry.input.dims(),
        batch,
        params: count.params,
        macs: count.macs,
        cited: entry.cited.iter().map(figure).collect(),
    })
}

/// One row per figure. The first row of a network also holds its own counts.
fn rows(networks: &[Network], for_people: bool) -> Rows {
    let mut rows = Rows::new(&[
        ("Network", Align::Left, 0),
        ("Params", Align::Right, 0),
        ("MACs", Align::Right, 0),
        ("Cited", Align::Right, 0),
        ("Of", Align::Left, 0),
        ("Relation", Align::Left, 0),
        ("Source", Align::Left, 1),
    ]);
    for network in networks {
        let own = |first: bool| match first || !for_people {
            true => [network.name.to_owned(), thousands(network.params), thousands(network.macs)],
            false => [const { String::new() }; 3],
        };
        if network.cited.is_empty() {
            rows.push(own(true).into_iter().chain([const { String::new() }; 4]).collect());
        }
        for (index, figure) in network.cited.iter().enumerate() {
            let cited = [
                figure.text.to_owned(),
                figure.quantity.to_owned(),
                relation(figure),
                figure.source.to_owned(),
            ];
            rows.push(own(index == 0).into_iter().chain(cited).collect());
        }
    }
    rows
}

fn relation(figure: &Figure) -> String {
    if figure.agrees {
        return "agrees".to_owned();
    }
    match figure.ratio {
        ratio if (0.5..2.0).contains(&ratio) => format!("{:+.1} %", (ratio - 1.0) * 100.0),
        ratio => format!("{ratio:.2} x"),
    }
}

/// One line per figure that does not agree.
fn differences(networks: &[Network]) -> String {
    let mut out = "\nWhy figures differ:\n".to_owned();
    for network in networks {
        for figure in network.cited.iter().filter(|figure| !figure.agrees) {
            let _ = writeln!(out, "  {} \"{}\": {}", network.name, figure.text, figure.reason);
        }
    }
    out + "\nLayer by layer: nets count NAME. The rules of counting: docs/counting.md.\n"
}
