//! The results as text, Markdown, JSON or CSV.

use super::ratios::{LayerRatio, means};
use super::row::LayerRow;
use crate::cli::Format;
use crate::table::{number, report, table, written};
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
        let ratios = LayerRatio::all(&self.rows);
        let mut parts = vec![self.machine.iter().map(|line| format!("{line}\n")).collect()];
        parts.push(written(&self.table(format), format));
        if !ratios.is_empty() {
            parts.push(
                "Median time of the peer divided by that of auto: above 1, auto is faster.\n".to_owned(),
            );
            parts.push(written(&ratio_table(&ratios, format), format));
            parts.push(written(&mean_table(&ratios, format), format));
        }
        parts.join("\n")
    }

    fn table(&self, format: Format) -> Table {
        let header = [
            "layer",
            "algorithm",
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
        let mut table = table(&header, &[4, 5, 6, 7, 8, 9, 10, 11], format);
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
    let header = ["layer", "isa", "threads", "auto ms", "best peer", "ratio", "to onednn"];
    let mut table = table(&header, &[2, 3, 5, 6], format);
    for ratio in ratios {
        let (best, value) = ratio.best().unzip();
        table.add_row([
            ratio.ours.layer.clone(),
            ratio.ours.isa.to_owned(),
            ratio.ours.threads.to_string(),
            number(ratio.ours.ms_median, 4),
            best.unwrap_or_default().to_owned(),
            number(value, 2),
            number(ratio.engine("onednn"), 2),
        ]);
    }
    table
}

fn mean_table(ratios: &[LayerRatio<'_>], format: Format) -> Table {
    let header = ["auto against", "isa", "threads", "layers", "geometric mean", "as fast or faster"];
    let mut table = table(&header, &[2, 3, 4, 5], format);
    for mean in means(ratios) {
        table.add_row([
            mean.against.to_owned(),
            mean.isa.to_owned(),
            mean.threads.to_string(),
            mean.layers.to_string(),
            number(Some(mean.ratio), 3),
            mean.won.to_string(),
        ]);
    }
    table
}
