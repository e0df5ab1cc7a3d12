//! `nets run lenet5 --image`: pictures, shown as the network sees them, and what it says of them.

use super::args::Plain;
use super::demo::most_likely;
use super::run::Run;
use kernels::{Layout, Ops, TensorMut};
use nets::digits::{SIDE, to_input, trained_weights};
use nets::{Init, WeightSet, picture, zoo};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::PathBuf;

/// From no ink to full ink.
const RAMP: &[u8; 10] = b" .:-=+*#%@";
/// Characters of a bar of probability 1.
const BAR: f32 = 40.0;

/// What `--format json` prints for one picture; for several, an array of these.
#[derive(Serialize)]
struct Report {
    network: &'static str,
    image: String,
    isa: &'static str,
    class: usize,
    probabilities: Vec<f32>,
}

pub(super) fn execute(run: &Run, images: &[PathBuf]) -> anyhow::Result<String> {
    let graph = zoo::lenet5()?;
    let weights = match (&run.weights, run.seed) {
        (Some(path), _) => WeightSet::load(&graph, path)?,
        (None, Some(seed)) => WeightSet::seeded(&graph, Init::He, seed)?,
        (None, None) => trained_weights(&graph)?,
    };
    let pool = run.hardware.pool()?;
    let mut net = run.net(&graph, &weights, 1, &pool)?;
    let mut reports = Vec::new();
    let mut texts = Vec::new();
    for image in images {
        let pixels = picture::load(image)?;
        let mut probabilities = net.run(&to_input(&pixels), pool.threads())?.to_vec();
        let tensor = TensorMut::packed(&mut probabilities, graph.output().batched(1), Layout::Nchw)?;
        Ops::new(Some(net.isa()))?.softmax(tensor, pool.threads())?;
        let report = Report {
            network: "lenet5",
            image: image.display().to_string(),
            isa: net.isa().name(),
            class: most_likely(&probabilities),
            probabilities,
        };
        texts.push(text(&report, &pixels));
        reports.push(report);
    }
    Ok(match (run.format, &reports[..]) {
        (Plain::Json, [report]) => serde_json::to_string(report)? + "\n",
        (Plain::Json, reports) => serde_json::to_string(reports)? + "\n",
        (Plain::Text, _) => texts.join("\n"),
    })
}

fn text(report: &Report, pixels: &[u8]) -> String {
    let mut out = format!("{} as {} sees it:\n\n", report.image, report.network);
    for line in pixels.chunks_exact(SIDE) {
        // Characters are about twice as high as wide.
        let ink = line.iter().flat_map(|&byte| [ramp(byte); 2]).collect::<String>();
        out.push_str(ink.trim_end());
        out.push('\n');
    }
    let _ =
        writeln!(out, "\nIt is a {} ({:.1} %).\n", report.class, report.probabilities[report.class] * 100.0);
    for (class, &probability) in report.probabilities.iter().enumerate() {
        let bar = "#".repeat((probability * BAR).round() as usize);
        let line = format!("  {class}  {:5.1} %  {bar}", probability * 100.0);
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn ramp(byte: u8) -> char {
    char::from(RAMP[usize::from(byte) * (RAMP.len() - 1) / 255])
}
