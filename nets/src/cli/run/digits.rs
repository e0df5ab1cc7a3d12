//! `nets run lenet5 --image`: shows pictures as the network sees them, and its answers.

use super::args::RunArgs;
use crate::cli::args::Plain;
use crate::cli::demo::most_likely;
use crate::cli::source::{Network, Wanted};
use kernels::{Layout, Ops, TensorMut};
use nets::digits::{PADDED, SIDE, to_input};
use nets::picture;
use serde::Serialize;
use std::fmt::Write as _;

/// Characters from no ink to full ink.
const RAMP: &[u8; 10] = b" .:-=+*#%@";
/// Length in characters of a bar for probability 1.
const BAR: f32 = 40.0;

/// The output of `--format json` for one picture; for several pictures it is an array of these.
#[derive(Serialize)]
struct DigitRun {
    network: &'static str,
    image: String,
    isa: &'static str,
    numerics: &'static str,
    class: usize,
    probabilities: Vec<f32>,
}

pub(super) fn execute(run: &RunArgs, network: &Network, name: &'static str) -> anyhow::Result<String> {
    let (weights, seed) = (run.weights.as_deref(), run.seed);
    let loaded = network.load(Wanted { weights, seed, ..Wanted::default() })?;
    let graph = &loaded.graph;
    let pool = run.hardware.pool()?;
    let mut net = run.net(graph, &*loaded.weights, 1, &pool)?;
    let mut reports = Vec::new();
    let mut texts = Vec::new();
    for image in &run.image {
        let pixels = picture::load(image)?;
        let mut input = to_input(&pixels);
        loaded.statistics.iter().for_each(|statistics| statistics.apply(&mut input, PADDED * PADDED));
        let mut probabilities = net.run(&input, pool.threads())?.to_vec();
        let tensor = TensorMut::packed(&mut probabilities, graph.output().batched(1), Layout::Nchw)?;
        Ops::new(Some(net.isa()))?.softmax(tensor, pool.threads())?;
        let report = DigitRun {
            network: name,
            image: image.display().to_string(),
            isa: net.isa().name(),
            numerics: run.hardware.numerics().name(),
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

fn text(report: &DigitRun, pixels: &[u8]) -> String {
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
