//! `--plot`: parameters and MACs of each layer, and the roofline with every layer on it.

use super::report::{CountReport, LayerRow};
use crate::cli::roofline;
use crate::cli::roofs::Roofs;
use crate::cli::text::thousands;
use nets::plot::{Bar, BarChart, Block, Chart, Column, Point, Row, blocks, blocks_note, page, short};

/// The picture as text; `source` says where the roofs come from.
pub(super) fn svg(report: &CountReport, roofs: &Roofs, source: &str) -> String {
    let charts = [Chart::Bars(bars(report)), Chart::Plane(roofline(report, roofs, source))];
    let images = if report.batch == 1 { "one image".to_owned() } else { format!("{} images", report.batch) };
    let note = format!(
        "{} parameters, {} multiply-accumulates (MACs) for {images}.",
        thousands(report.params),
        thousands(report.macs)
    );
    page(&format!("{}: what each layer costs", report.name), &[note], &charts)
}

fn bars(report: &CountReport) -> BarChart {
    let layers: Vec<&LayerRow> = report.layers.iter().filter(|row| row.params > 0 || row.macs > 0).collect();
    let row = |block: Block| {
        let bar = |series: usize, value: fn(&LayerRow) -> u64, total: u64, unit: &str| {
            let sum: u64 = block.layers.iter().map(|&layer| value(layers[layer])).sum();
            let share = 100.0 * sum as f64 / total.max(1) as f64;
            let figure = format!("{} ({share:.1} %)", short(sum as f64));
            Bar { figure, note: format!("{} {unit}", thousands(sum)), ..Bar::plain(series, sum as f64) }
        };
        let params = bar(0, |row| row.params, report.params, "parameters");
        let macs = bar(1, |row| row.macs, report.macs, "MACs");
        Row { cells: vec![vec![params], vec![macs]], name: block.name }
    };
    let column = |title: &str| Column { title: title.to_owned(), mark: None };
    let rows = blocks(layers.iter().map(|row| row.name.as_str()));
    BarChart {
        title: "Parameters and multiply-accumulates".to_owned(),
        notes: vec![format!("Layers that have neither are left out.{}", blocks_note(&rows))],
        columns: vec![column("parameters"), column("multiply-accumulates (MACs)")],
        rows: rows.into_iter().map(row).collect(),
        ..BarChart::default()
    }
}

fn roofline(report: &CountReport, roofs: &Roofs, source: &str) -> nets::plot::PlaneChart {
    let mut layers: Vec<(&LayerRow, f64)> = report
        .layers
        .iter()
        .filter_map(|row| Some((row, row.intensity.filter(|&intensity| intensity > 0.0)?)))
        .collect();
    // The heaviest are named first.
    layers.sort_by_key(|(row, _)| std::cmp::Reverse(row.macs));
    let point = |(row, intensity): (&LayerRow, f64)| Point {
        name: row.name.clone(),
        note: format!(
            "{} operations per byte, {} operations",
            short(intensity),
            thousands(row.flops + row.other_ops)
        ),
        series: usize::from(row.macs == 0),
        at: (intensity, roofs.at(intensity)),
    };
    let notes = vec![
        format!("Roofs: {source}."),
        format!(
            "A layer stands where the roofs let it be at best. Memory bounds those left of {} operations per byte, \
             arithmetic the others.",
            short(roofs.ridge())
        ),
    ];
    let points = layers.into_iter().map(point).collect();
    roofline::chart("Roofline: how fast each layer can be at most".to_owned(), notes, roofs, points)
}
