//! `--redraw`: rows that an earlier run has written.

use super::args::Candidate;
use super::row::LayerRow;
use crate::described;
use crate::direction::Direction;
use crate::kind::Kind;
use crate::layers::{self, LayerSpec};
use crate::peers::Engine;
use crate::turns::median;
use anyhow::Context;
use kernels::{Isa, Layout};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A line of the file, as `--out` and `--format csv` write it.
#[derive(Deserialize)]
struct Line {
    layer: String,
    algorithm: String,
    isa: String,
    layout: String,
    threads: usize,
    ms_min: Option<f64>,
    ms_median: Option<f64>,
    gflops: Option<f64>,
    roof_percent: Option<f64>,
    bf16_roof_gflops: Option<f64>,
    rel_l2_error: Option<f64>,
    max_error: Option<f64>,
    /// Missing in files of older versions, like `chosen` and `direction`.
    shape: Option<String>,
    chosen: Option<String>,
    direction: Option<Direction>,
}

/// The rows of `file` on layers that `filter` means.
///
/// # Errors
/// A file that cannot be read, or has other rows, or no row that `filter` means.
pub(super) fn rows(file: &Path, filter: &[String]) -> anyhow::Result<Vec<LayerRow>> {
    let name = || file.display().to_string();
    let mut reader = csv::Reader::from_path(file).with_context(|| format!("cannot read {}", name()))?;
    let mut lines = reader.deserialize().collect::<Result<Vec<Line>, _>>().with_context(name)?;
    let specs = specs(&lines).with_context(name)?;
    if !filter.is_empty() {
        let known: Vec<LayerSpec> = specs.values().flatten().cloned().collect();
        let meant = layers::select_from(&known, filter).map_err(anyhow::Error::msg).with_context(name)?;
        lines.retain(|line| meant.iter().any(|layer| layer.id == line.layer));
    }
    let mut rows: Vec<LayerRow> = lines
        .into_iter()
        .map(|line| {
            let spec = specs.get(&line.layer).and_then(Option::as_ref);
            row(line, spec).with_context(name)
        })
        .collect::<Result<_, _>>()?;
    name_choices(&mut rows);
    Ok(rows)
}

/// The layer behind each name, or `None` for a name that older files do not explain.
fn specs(lines: &[Line]) -> anyhow::Result<BTreeMap<String, Option<LayerSpec>>> {
    let mut specs = BTreeMap::new();
    for line in lines {
        if !specs.contains_key(&line.layer) {
            let spec = described::of_row(&line.layer, line.shape.as_deref());
            specs.insert(line.layer.clone(), spec.transpose().map_err(anyhow::Error::msg)?);
        }
    }
    Ok(specs)
}

/// Older files do not say what the library has chosen, but the chosen algorithm has the same times.
fn name_choices(rows: &mut [LayerRow]) {
    let is_choice = |row: &LayerRow| Candidate::parse(&row.algorithm).is_ok_and(Candidate::is_choice);
    let is_unnamed = |row: &LayerRow| is_choice(row) && row.chosen.is_none();
    for index in (0..rows.len()).filter(|&index| is_unnamed(&rows[index])).collect::<Vec<_>>() {
        let chosen = rows.iter().find(|row| !is_choice(row) && row.is_same_run(&rows[index]));
        rows[index].chosen = chosen.map(|chosen| chosen.algorithm.clone());
    }
    for row in rows {
        row.note = row.chosen.clone().unwrap_or_default();
    }
}

fn row(line: Line, spec: Option<&LayerSpec>) -> anyhow::Result<LayerRow> {
    let isa: Isa =
        line.isa.parse().map_err(|_| anyhow::anyhow!("no instruction set is called {}", line.isa))?;
    let layout =
        Layout::ALL.into_iter().find(|layout| layout.name() == line.layout).map_or("own", Layout::name);
    let error = line.rel_l2_error.unwrap_or(f64::NAN);
    let (intensity, bytes) = moved(spec)?;
    // Wrong outputs of the library are not timed.
    let tolerance = line.algorithm.strip_prefix("peer:").map_or(f64::INFINITY, Engine::layer_tolerance);
    Ok(LayerRow {
        is_wrong: line.ms_median.is_none() || error.is_nan() || error > tolerance,
        layer: line.layer,
        algorithm: line.algorithm,
        isa: isa.name(),
        layout,
        threads: line.threads,
        ms_min: line.ms_min,
        ms_median: line.ms_median,
        gflops: line.gflops,
        roof_percent: line.roof_percent,
        bf16_roof_gflops: line.bf16_roof_gflops,
        rel_l2_error: error,
        max_error: line.max_error.unwrap_or(f64::NAN),
        shape: spec.map(LayerSpec::shape),
        chosen: line.chosen,
        direction: line.direction.unwrap_or(Direction::Forward),
        note: String::new(),
        kind: spec.map(|spec| Kind::of(spec).name),
        intensity,
        bytes,
        bound_ratio: None,
        plan_ms: 0.0,
    })
}

/// Operations per byte, and bytes; zeros of a layer whose extents are unknown.
fn moved(spec: Option<&LayerSpec>) -> anyhow::Result<(f64, f64)> {
    let Some(spec) = spec else { return Ok((0.0, 0.0)) };
    let cost = spec.builder().build()?.cost();
    Ok((cost.intensity(), cost.min_bytes as f64))
}

/// Instruction set, threads, and 10^9 operations per second: the roofs that the percentages of the rows are of.
pub(super) fn roofs(rows: &[LayerRow]) -> Vec<(&'static str, usize, f64)> {
    let mut found: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for row in rows {
        if let (Some(gflops), Some(percent)) = (row.gflops, row.roof_percent.filter(|&percent| percent > 0.0))
        {
            found.entry((row.isa, row.threads)).or_default().push(100.0 * gflops / percent);
        }
    }
    found.into_iter().map(|((isa, threads), roofs)| (isa, threads, median(&roofs))).collect()
}
