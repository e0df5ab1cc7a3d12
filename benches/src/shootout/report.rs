//! The results as text, Markdown, JSON or CSV.

use super::ratios::LayerRatio;
use super::row::LayerRow;
use super::summary::{Summary, written_table};
use crate::cli::Format;
use crate::table::{csv, number, report, table, written};
use comfy_table::Table;

/// The rows, and a description of the machine.
pub(super) struct LayerReport {
    /// The machine and its roofs, one line each.
    pub(super) machine: Vec<String>,
    /// Rows in the order of the list.
    pub(super) rows: Vec<LayerRow>,
}

impl LayerReport {
    pub(super) fn write(&self, format: Format) -> anyhow::Result<String> {
        report(&self.rows, format, || self.page(format))
    }

    fn page(&self, format: Format) -> String {
        let machine = self.machine.iter().map(|line| format!("{line}\n")).collect();
        let mut parts = vec![machine, written(&self.table(format), format)];
        let ratios = LayerRatio::all(&self.rows);
        if !ratios.is_empty() {
            let what = "Median time of the peer divided by that of auto: above 1, auto is faster.\n";
            parts.extend([what.to_owned(), written(&ratio_table(&ratios, format), format)]);
            parts.push(self.comparison(format));
        }
        parts.join("\n")
    }

    /// The tables of the comparison with the peers, by kind of layer and over all layers. Empty without peers.
    pub(super) fn comparison(&self, format: Format) -> String {
        let ratios = LayerRatio::all(&self.rows);
        let tables = [Summary::by_kind(&ratios), Summary::totals(&ratios)];
        let tables = tables.iter().filter(|summaries| !summaries.is_empty());
        tables.map(|summaries| written_table(summaries, format)).collect::<Vec<_>>().join("\n")
    }

    /// The lines of both tables as comma-separated values.
    pub(super) fn summary(&self) -> anyhow::Result<String> {
        let ratios = LayerRatio::all(&self.rows);
        csv(&[Summary::by_kind(&ratios), Summary::totals(&ratios)].concat())
    }

    fn table(&self, format: Format) -> Table {
        let header = [
            "layer",
            "algorithm",
            "direction",
            "isa",
            "layout",
            "threads",
            "min ms",
            "median ms",
            "GFLOP/s",
            "% roof",
            "x bound",
            "error",
            "largest",
            "",
        ];
        let mut table = table(&header, &[5, 6, 7, 8, 9, 10, 11, 12], format);
        for row in &self.rows {
            let mark = match (row.is_wrong, row.ms_median) {
                // A peer that does not support the layer.
                (true, None) if row.peer().is_some() && row.rel_l2_error.is_nan() => "none: ",
                (true, _) => "WRONG ",
                (false, None) => "FAILED ",
                (false, Some(_)) => "",
            };
            table.add_row([
                row.layer.clone(),
                row.algorithm.clone(),
                row.direction.to_string(),
                row.isa.to_owned(),
                row.layout.to_owned(),
                row.threads.to_string(),
                number(row.ms_min, 4),
                number(row.ms_median, 4),
                number(row.gflops, 1),
                number(row.roof_percent, 1),
                number(row.bound_ratio, 2),
                format!("{:.1e}", row.rel_l2_error),
                format!("{:.1e}", row.max_error),
                format!("{mark}{}", row.note),
            ]);
        }
        table
    }
}

fn ratio_table(ratios: &[LayerRatio<'_>], format: Format) -> Table {
    let header = [
        "layer",
        "direction",
        "isa",
        "layout",
        "threads",
        "auto ms",
        "best peer",
        "ratio",
        "layout's peer",
        "ratio",
        "better torch",
    ];
    let mut table = table(&header, &[4, 5, 7, 9, 10], format);
    for ratio in ratios {
        let (best, value) = ratio.best().unzip();
        let (of_layout, of_layout_value) = ratio.of_layout().unzip();
        table.add_row([
            ratio.ours.layer.clone(),
            ratio.ours.direction.to_string(),
            ratio.ours.isa.to_owned(),
            ratio.ours.layout.to_owned(),
            ratio.ours.threads.to_string(),
            number(ratio.ours.ms_median, 4),
            best.unwrap_or("-").to_owned(),
            number(value, 2),
            of_layout.unwrap_or("-").to_owned(),
            number(of_layout_value, 2),
            number(ratio.better_torch(), 2),
        ]);
    }
    table
}
