//! The results as text, Markdown, JSON or CSV.

use super::row::NetRow;
use crate::cli::Format;
use crate::table::{number, report, table, written};
use comfy_table::Table;

/// The rows, and a description of the machine.
pub(super) struct NetReport {
    pub(super) machine: String,
    /// Ordered by network; the library precedes its peers.
    pub(super) rows: Vec<NetRow>,
}

/// A row of the library, and the rows of the peers with the same precision and output.
struct NetRatio<'a> {
    ours: &'a NetRow,
    peers: Vec<&'a NetRow>,
}

impl<'a> NetRatio<'a> {
    fn all(rows: &'a [NetRow]) -> Vec<Self> {
        let of = |ours: &'a NetRow| {
            let is_right = |row: &&NetRow| !row.is_ours() && !row.is_wrong && row.ms_median.is_some();
            let is_meant = |row: &&NetRow| row.is_same_run(ours) && row.is_comparable(ours);
            Self { ours, peers: rows.iter().filter(is_right).filter(is_meant).collect() }
        };
        rows.iter().filter(|row| row.is_ours()).map(of).collect()
    }

    /// The peer with the smallest `value`, and that value divided by the library's.
    fn best(&self, value: fn(&NetRow) -> Option<f64>) -> Option<(&'a str, f64)> {
        let ours = value(self.ours)?;
        let ratios = self.peers.iter().filter_map(|row| Some((row.engine.as_str(), value(row)? / ours)));
        ratios.min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

impl NetReport {
    /// Number of outputs of the library that are too far from its output in `f32`, or that no peer of the same precision
    /// agrees with.
    pub(super) fn wrong(&self) -> usize {
        let is_wrong = |ratio: &&NetRatio<'_>| {
            let is_compared = |row: &&NetRow| {
                let is_same = (&row.net, row.batch) == (&ratio.ours.net, ratio.ours.batch);
                !row.is_ours() && is_same && row.is_comparable(ratio.ours) && row.rel_l2_distance.is_some()
            };
            let compared: Vec<&NetRow> = self.rows.iter().filter(is_compared).collect();
            ratio.ours.is_wrong || !compared.is_empty() && compared.iter().all(|row| row.is_wrong)
        };
        NetRatio::all(&self.rows).iter().filter(is_wrong).count()
    }

    pub(super) fn write(&self, format: Format) -> anyhow::Result<String> {
        report(&self.rows, format, || self.page(format))
    }

    fn page(&self, format: Format) -> String {
        let ratios = NetRatio::all(&self.rows);
        let mut parts = vec![format!("{}\n", self.machine), written(&self.times(format), format)];
        if ratios.iter().any(|ratio| !ratio.peers.is_empty()) {
            parts.push(
                "Time of the best peer divided by this library's: above 1, this library is faster.\n"
                    .to_owned(),
            );
            parts.push(written(&ratio_table(&ratios, format), format));
        }
        parts.push(
            "Memory. Ratio: the peak of the process divided by weights, memory (activations, workspace) and program.\n"
                .to_owned(),
        );
        parts.push(written(&memory_table(&ratios, format), format));
        if let Some(table) = self.threads(format) {
            parts.push(
                "Median times divided by the median with one thread, and with two threads.\n".to_owned(),
            );
            parts.push(written(&table, format));
        }
        parts.join("\n")
    }

    fn times(&self, format: Format) -> Table {
        let header = [
            "network",
            "batch",
            "threads",
            "engine",
            "min ms",
            "median ms",
            "GFLOP/s",
            "% roof",
            "bf16 roof",
            "distance",
            "peak MB",
            "",
        ];
        let mut table = table(&header, &[1, 2, 4, 5, 6, 7, 8, 9, 10], format);
        for row in &self.rows {
            table.add_row([
                row.net.clone(),
                row.batch.to_string(),
                row.threads.to_string(),
                row.engine.clone(),
                number(row.ms_min, 3),
                number(row.ms_median, 3),
                number(row.gflops, 1),
                number(row.roof_percent, 1),
                number(row.bf16_roof_gflops, 1),
                row.rel_l2_distance.map_or("-".to_owned(), |distance| format!("{distance:.1e}")),
                number(row.peak_mb, 0),
                remark(row),
            ]);
        }
        table
    }

    /// The library's times by number of threads, if there is more than one number.
    fn threads(&self, format: Format) -> Option<Table> {
        let mut table = table(
            &["network", "batch", "engine", "threads", "median ms", "/ 1 thread", "/ 2 threads"],
            &[1, 3, 4, 5, 6],
            format,
        );
        let ours = || self.rows.iter().filter(|row| row.is_ours());
        let first = ours().next()?.threads;
        if ours().all(|row| row.threads == first) {
            return None;
        }
        for row in ours().filter(|row| row.threads > 1) {
            let by = |threads: usize| {
                let same = |other: &&NetRow| {
                    let key = |row: &NetRow| (row.net.clone(), row.batch, row.numerics);
                    key(other) == key(row) && other.threads == threads
                };
                Some(row.ms_median? / ours().find(same)?.ms_median?)
            };
            table.add_row([
                row.net.clone(),
                row.batch.to_string(),
                row.engine.clone(),
                row.threads.to_string(),
                number(row.ms_median, 3),
                number(by(1), 3),
                number(by(2), 3),
            ]);
        }
        Some(table)
    }
}

/// The last column: whether something is wrong, and the engine's note.
fn remark(row: &NetRow) -> String {
    let mark = match (row.is_wrong, row.rel_l2_distance, row.ms_median) {
        (true, None, _) => "none: ",
        (true, Some(_), _) => "ANOTHER OUTPUT ",
        (false, _, None) => "FAILED ",
        (false, _, Some(_)) => "",
    };
    format!("{mark}{}", row.note)
}

/// One row as a line of a log.
pub(super) fn line(row: &NetRow) -> String {
    let NetRow { net, batch, threads, engine, .. } = row;
    let (least, median) = (number(row.ms_min, 3), number(row.ms_median, 3));
    format!("{net} x {batch}, {threads} thread(s), {engine}: {least} ms, median {median} {}", remark(row))
}

fn ratio_table(ratios: &[NetRatio<'_>], format: Format) -> Table {
    let header = [
        "network",
        "batch",
        "threads",
        "engine",
        "min ms",
        "median ms",
        "best by minimum",
        "ratio",
        "best by median",
        "ratio",
    ];
    let mut table = table(&header, &[1, 2, 4, 5, 7, 9], format);
    for ratio in ratios.iter().filter(|ratio| !ratio.peers.is_empty()) {
        let (least, by_least) = ratio.best(|row| row.ms_min).unzip();
        let (median, by_median) = ratio.best(|row| row.ms_median).unzip();
        table.add_row([
            ratio.ours.net.clone(),
            ratio.ours.batch.to_string(),
            ratio.ours.threads.to_string(),
            ratio.ours.engine.clone(),
            number(ratio.ours.ms_min, 3),
            number(ratio.ours.ms_median, 3),
            least.unwrap_or_default().to_owned(),
            number(by_least, 2),
            median.unwrap_or_default().to_owned(),
            number(by_median, 2),
        ]);
    }
    table
}

fn memory_table(ratios: &[NetRatio<'_>], format: Format) -> Table {
    let header = [
        "network",
        "batch",
        "threads",
        "engine",
        "compile ms",
        "weights MB",
        "memory MB",
        "program MB",
        "peak MB",
        "ratio",
        "least peer MB",
        "outside %",
        "pass by layers",
    ];
    let mut table = table(&header, &[1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12], format);
    for NetRatio { ours, peers } in ratios {
        let least = peers.iter().filter_map(|row| row.peak_mb).min_by(f64::total_cmp);
        table.add_row([
            ours.net.clone(),
            ours.batch.to_string(),
            ours.threads.to_string(),
            ours.engine.clone(),
            number(ours.compile_ms, 1),
            number(ours.packed_mb, 1),
            number(ours.memory_mb, 1),
            number(ours.program_mb, 1),
            number(ours.peak_mb, 1),
            number(ours.peak_ratio(), 3),
            number(least, 1),
            number(ours.outside_percent, 1),
            number(ours.pass_by_layers, 3),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::Numerics;

    fn row(engine: &str, threads: usize, ms: f64, distance: f64) -> NetRow {
        let mut row = NetRow {
            net: "net".to_owned(),
            batch: 1,
            threads,
            engine: engine.to_owned(),
            ..NetRow::default()
        };
        row.compared(distance);
        (row.ms_min, row.ms_median) = (Some(ms / 2.0), Some(ms));
        row
    }

    #[test]
    fn only_right_peers_of_the_same_run_count() {
        let rows = vec![
            row("ours", 1, 1.0, 0.0),
            row("ort", 1, 3.0, 1e-6),
            row("ncnn", 1, 2.0, 2e-6),
            row("mnn", 1, 0.5, 1e-2),
            row("ours", 2, 0.6, 0.0),
            row("ort", 2, 0.9, 1e-6),
        ];
        let ratios = NetRatio::all(&rows);
        let best: Vec<_> = ratios.iter().map(|ratio| ratio.best(|row| row.ms_median).unwrap()).collect();
        assert_eq!((best[0], best[1].0), (("ncnn", 2.0), "ort"));
        let report = NetReport { machine: "machine".to_owned(), rows };
        assert_eq!(report.wrong(), 0);
        let text = report.write(Format::Text).unwrap();
        assert!(text.contains("ANOTHER OUTPUT") && text.contains("0.600"), "{text}");
    }

    #[test]
    fn ratios_compare_equal_precision() {
        let at = |numerics: Numerics, engine: &str, ms: f64, distance: f64| {
            let mut row = NetRow { numerics, ..row(engine, 1, ms, 0.0) };
            row.compared(distance);
            row
        };
        let rows = vec![
            at(Numerics::Default, "ours", 2.0, 0.0),
            at(Numerics::Tf32, "ours-tf32", 1.5, 1e-3),
            at(Numerics::Bf16, "ours-bf16", 1.0, 1e-2),
            at(Numerics::Default, "ort", 3.0, 1e-6),
            at(Numerics::Bf16, "torch-bf16", 1.2, 1e-2),
            at(Numerics::Bf16, "openvino-bf16", 0.1, 1e-1),
        ];
        let ratios = NetRatio::all(&rows);
        let best: Vec<_> = ratios.iter().map(|ratio| ratio.best(|row| row.ms_median).unwrap()).collect();
        assert_eq!(best, [("ort", 1.5), ("ort", 2.0), ("torch-bf16", 1.2)]);
        let wrong = |rows: &[NetRow]| NetReport { machine: String::new(), rows: rows.to_vec() }.wrong();
        // A peer of another precision says nothing about an output.
        assert_eq!((wrong(&rows), wrong(&rows[..3])), (0, 0));
        assert_eq!(wrong(&[rows[0].clone(), rows[5].clone()]), 0);
        assert_eq!(wrong(&[rows[2].clone(), rows[5].clone()]), 1);
        assert_eq!(wrong(&[at(Numerics::Tf32, "ours-tf32", 1.0, 1e-2)]), 1);
    }

    #[test]
    fn ours_is_wrong_if_it_is_nan_or_alone() {
        let report = |rows: Vec<NetRow>| NetReport { machine: String::new(), rows };
        assert_eq!(report(vec![row("ours", 1, 1.0, f64::NAN)]).wrong(), 1);
        assert_eq!(report(vec![row("ours", 1, 1.0, 0.0), row("ort", 1, 1.0, 1e-2)]).wrong(), 1);
        assert_eq!(report(vec![row("ours", 1, 1.0, 0.0)]).wrong(), 0);
    }
}
