//! `nets run`: one picture, shown as the network sees it, and what the network says of it.

use super::args::{Format, Hardware};
use super::demo::most_likely;
use clap::Args;
use kernels::{Layout, Ops, TensorMut};
use nets::digits::{SIDE, to_input, trained_weights};
use nets::{Net, WeightSet, picture, zoo};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::PathBuf;

/// From no ink to full ink.
const RAMP: &[u8; 10] = b" .:-=+*#%@";
/// Characters of a bar of probability 1.
const BAR: f32 = 40.0;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  nets run lenet5 --image digit.png")]
pub(crate) struct Run {
    /// The network: lenet5
    network: String,
    /// A picture of one digit: dark on light or light on dark, any size (PNG, JPEG, GIF, BMP, WebP, PNM)
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// Weights to use instead of the embedded ones
    #[arg(long, value_name = "FILE.safetensors")]
    weights: Option<PathBuf>,
    /// How the results are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    hardware: Hardware,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Report {
    network: &'static str,
    image: String,
    isa: &'static str,
    class: usize,
    probabilities: Vec<f32>,
}

impl Run {
    pub(super) fn execute(&self) -> anyhow::Result<String> {
        let entry = zoo::find(&self.network)?;
        let graph = (entry.build)()?;
        let weights = match &self.weights {
            Some(path) => WeightSet::load(&graph, path)?,
            None => trained_weights(&graph)?,
        };
        let pixels = picture::load(&self.image)?;
        let mut net = Net::new(&graph, &weights, &self.hardware.options(1))?;
        let pool = self.hardware.pool()?;
        let mut probabilities = net.run(&to_input(&pixels), pool.threads())?.to_vec();
        let tensor = TensorMut::packed(&mut probabilities, graph.output().batched(1), Layout::Nchw)?;
        Ops::new(Some(net.isa()))?.softmax(tensor, pool.threads())?;
        let report = Report {
            network: entry.name,
            image: self.image.display().to_string(),
            isa: net.isa().name(),
            class: most_likely(&probabilities),
            probabilities,
        };
        Ok(match self.format {
            Format::Json => serde_json::to_string(&report)? + "\n",
            Format::Text => text(&report, &pixels),
        })
    }
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
