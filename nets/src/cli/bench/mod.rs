//! `nets bench`: how long a network takes, whole and layer by layer.

mod measure;
mod plot;
mod report;
mod trace;

use super::args::{self, Kernels, Pool};
use super::planning::Planning;
use super::source::{Loaded, Network, Wanted};
use clap::{Args, ValueEnum};
use kernels::Layout;
use measure::Measured;
use nets::Shape;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "Examples:
  nets bench resnet50 --threads 1,2 --batch 1,8
  nets bench googlenet --threads 1 --per-layer
  nets bench model.onnx --per-layer --format csv
  nets bench resnet50 --numerics bf16 --per-layer
  nets bench resnet50 --measured --wisdom times.txt
  nets bench vgg16 --threads 1 --plot vgg16.svg --trace vgg16.json     (open the trace in ui.perfetto.dev)";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Bench {
    /// A network of the zoo or an .onnx file
    network: String,
    /// Extents of one input image [default: those that the network is published for]
    #[arg(long, value_name = "CxHxW", value_parser = args::image)]
    input: Option<Shape>,
    /// Threads, one measurement for each number [default: one per physical core]
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,
    /// Images of one forward pass, one measurement for each number
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    batch: Vec<u16>,
    #[command(flatten)]
    kernels: Kernels,
    /// Memory order of feature maps between layers: nchw or nchw16c [default: the library's rule]
    #[arg(long)]
    layout: Option<Layout>,
    #[command(flatten)]
    planning: Planning,
    /// Weights under the names of the network's layers [default: trained ones for lenet5, else seeded ones]
    #[arg(long, value_name = "FILE.safetensors")]
    weights: Option<PathBuf>,
    /// How long each measurement goes on, at least five passes
    #[arg(long, value_name = "S", default_value = "1", value_parser = args::seconds)]
    seconds: Duration,
    /// Also list every layer (JSON always does)
    #[arg(long)]
    per_layer: bool,
    /// How the results are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Also draw the layers' times
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Also write a timeline of one pass of each measurement, in the trace format of Chrome
    #[arg(long, value_name = "FILE.json")]
    trace: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// An array of objects, one for each measurement
    Json,
    /// Comma-separated values
    Csv,
}

impl Bench {
    pub(super) fn execute(&self) -> anyhow::Result<String> {
        let wanted = Wanted { input: self.input, weights: self.weights.as_deref(), ..Wanted::default() };
        let Loaded { graph, weights, .. } = Network::named(&self.network)?.load(wanted)?;
        let threads = match &self.threads[..] {
            [] => vec![num_cpus::get_physical().max(1)],
            given => given.iter().map(|&threads| usize::from(threads)).collect(),
        };
        let runs: Vec<(usize, usize)> = self
            .batch
            .iter()
            .flat_map(|&batch| threads.iter().map(move |&threads| (usize::from(batch), threads)))
            .collect();
        let mut results: Vec<Measured> = Vec::new();
        for &(batch, threads) in &runs {
            let done = results.len();
            progress(&format!("{done}/{} {}: {batch} x {threads} threads", runs.len(), graph.name()));
            let mut options = self.kernels.options().batch(batch).max_threads(threads);
            options.layout = self.layout;
            let pool = Pool::new(threads)?;
            let start = Instant::now();
            let net = self.planning.compile(&graph, &*weights, options, &pool)?;
            let compile_ms = start.elapsed().as_secs_f64() * 1e3;
            results.push(measure::measure((&net, compile_ms), pool.pool(), self.seconds)?);
        }
        progress("");
        if let Some(path) = &self.plot {
            nets::write(path, plot::svg(graph.name(), &results)?.as_bytes())?;
        }
        if let Some(path) = &self.trace {
            nets::write(path, trace::json(graph.name(), &results)?.as_bytes())?;
        }
        let report = report::BenchReport::new(graph.name(), self.kernels.numerics, &results);
        Ok(match self.format {
            Format::Text => report.text(self.per_layer),
            Format::Json => report.json()?,
            Format::Csv => report.csv(self.per_layer)?,
        })
    }
}

/// A line on standard error, if that is a terminal, instead of the one before.
fn progress(line: &str) {
    const CLEAR: &str = "\r\x1b[K";
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        // Nobody has to know how far it is.
        let _ = write!(stderr, "{CLEAR}{line}").and_then(|()| stderr.flush());
    }
}
