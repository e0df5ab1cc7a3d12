//! `nets run --image`: one picture, shown as the network sees it, and what the network says of it.

use super::args::Plain;
use super::demo::most_likely;
use super::run::Run;
use anyhow::bail;
use kernels::{Layout, Ops, TensorMut};
use nets::digits::{SIDE, to_input, trained_weights};
use nets::{Net, WeightSet, picture, zoo};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// From no ink to full ink.
const RAMP: &[u8; 10] = b" .:-=+*#%@";
/// Characters of a bar of probability 1.
const BAR: f32 = 40.0;

/// What `--format json` prints.
#[derive(Serialize)]
struct Report {
    network: &'static str,
    image: String,
    isa: &'static str,
    class: usize,
    probabilities: Vec<f32>,
}

pub(super) fn execute(run: &Run, image: &Path) -> anyhow::Result<String> {
    let entry = zoo::find(&run.network)?;
    let graph = entry.graph()?;
    if graph != zoo::lenet5()? {
        bail!(
            "--image: expected the network lenet5, which reads digits, got {}: give it --input x.npy",
            entry.name
        );
    }
    let weights = match &run.weights {
        Some(path) => WeightSet::load(&graph, path)?,
        None => trained_weights(&graph)?,
    };
    let pixels = picture::load(image)?;
    let mut net = Net::new(&graph, &weights, &run.hardware.options(1))?;
    let pool = run.hardware.pool()?;
    let mut probabilities = net.run(&to_input(&pixels), pool.threads())?.to_vec();
    let tensor = TensorMut::packed(&mut probabilities, graph.output().batched(1), Layout::Nchw)?;
    Ops::new(Some(net.isa()))?.softmax(tensor, pool.threads())?;
    let report = Report {
        network: entry.name,
        image: image.display().to_string(),
        isa: net.isa().name(),
        class: most_likely(&probabilities),
        probabilities,
    };
    Ok(match run.format {
        Plain::Json => serde_json::to_string(&report)? + "\n",
        Plain::Text => text(&report, &pixels),
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
