//! `nets count`: counts the costs of networks, layer by layer.

mod all;
mod graph;
mod operator;
mod plot;
mod report;

use super::args::{self, Format};
use super::roofs::{MULTIPLY_ADDS, Roofs};
use super::source::Network;
use clap::Args;
use kernels::Isa;
use nets::{Convention, Graph, NetCount, NetError, Shape};
use report::CountReport;
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  nets count                                        every network with the figures cited for it
  nets count resnet50                               layer by layer
  nets count vgg16 --input 3x448x448 --batch 8 --convention flop
  nets count resnet50 --convention thop --format csv
  nets count model.onnx --format json --strict
  nets count googlenet --plot googlenet.svg --roof-gflops 140 --roof-gbs 25
  nets count resnet152 --graph resnet152.svg

Conventions:
  mac           multiply-accumulates of convolutions and matrix products, which papers call FLOPs
  flop          twice the multiply-accumulates
  ops           flop and the operations of every other layer
  fvcore, ptflops, ptflops-aten, thop, torchvision
                exactly the numbers of these tools (fvcore 0.1.5, ptflops 0.7.5, thop 0.1.1)";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Count {
    /// A network of the zoo or an .onnx file [default: all networks, compared with cited figures]
    network: Option<String>,
    /// Shape of one input image [default: the input of the published network]
    #[arg(long, value_name = "CxHxW", value_parser = args::image)]
    input: Option<Shape>,
    /// Images per forward pass; activations and operations are for all of them
    /// [default: 1, or the only batch size of the .onnx file]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Convention for counting operations in the column `cost`
    #[arg(long, default_value = "mac", value_parser = convention, value_name = "CONVENTION")]
    convention: Convention,
    /// Format of the results
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Also draw parameters, MACs and the roofline
    #[arg(long, value_name = "FILE.svg", requires = "network")]
    plot: Option<PathBuf>,
    /// Also draw the layers as boxes and arrows
    #[arg(long, value_name = "FILE.svg", requires = "network", value_parser = args::svg)]
    graph: Option<PathBuf>,
    /// The roofline's flat roof: 10^9 floating-point operations per second [default: measured, one thread]
    #[arg(long, value_name = "GFLOPS", value_parser = positive)]
    roof_gflops: Option<f64>,
    /// The roofline's slope: 10^9 bytes per second from memory [default: measured, one thread]
    #[arg(long, value_name = "GB/S", value_parser = positive)]
    roof_gbs: Option<f64>,
    /// Fail if the file has an unknown operator
    #[arg(long)]
    strict: bool,
}

fn convention(text: &str) -> Result<Convention, String> {
    let names = || Convention::ALL.map(Convention::name).join(", ");
    let found = Convention::ALL.into_iter().find(|convention| convention.name() == text);
    found.ok_or_else(|| format!("expected one of {}, got {text}", names()))
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && f64::is_finite(number) => Ok(number),
        _ => Err(format!("expected a number above 0, got {text}")),
    }
}

/// A network with its counts.
struct Counted {
    graph: Graph,
    count: NetCount,
    warnings: Vec<String>,
}

impl Count {
    pub(super) fn execute(&self) -> anyhow::Result<String> {
        let Some(network) = &self.network else {
            anyhow::ensure!(self.input.is_none(), "--input: expected a network to go with it, got none");
            return all::execute(self.format, self.batch.unwrap_or(1).into());
        };
        let counted = self.count(network)?;
        for warning in &counted.warnings {
            eprintln!("warning: {warning}");
        }
        let costs = self.convention.costs(&counted.graph, &counted.count)?;
        let report = CountReport::new(&counted, self.convention, &costs)?;
        if let Some(path) = &self.plot {
            let (roofs, source) = self.roofs()?;
            nets::write(path, plot::svg(&report, &roofs, source).as_bytes())?;
        }
        if let Some(path) = &self.graph {
            nets::write(path, graph::svg(&counted).as_bytes())?;
        }
        Ok(match self.format {
            Format::Text => report.text(),
            Format::Json => serde_json::to_string(&report)? + "\n",
            Format::Csv => report.rows(false).csv()?,
            Format::Markdown => report.rows(true).markdown(),
        })
    }

    /// The roofs, and where they come from. What is not given is measured.
    fn roofs(&self) -> Result<(Roofs, &'static str), NetError> {
        if let (Some(gflops), Some(gbs)) = (self.roof_gflops, self.roof_gbs) {
            let roofs = Roofs { gflops, arithmetic: MULTIPLY_ADDS, bf16_gflops: None, gbs };
            return Ok((roofs, "as given on the command line"));
        }
        let measured = Roofs::measure(Isa::detect(), 1)?;
        let source = match (self.roof_gflops, self.roof_gbs) {
            (None, None) => "one thread of this machine, measured for this picture",
            (Some(_), _) => {
                "arithmetic as given on the command line, memory measured with one thread of this machine"
            }
            (_, Some(_)) => {
                "memory as given on the command line, arithmetic measured with one thread of this machine"
            }
        };
        let (gflops, gbs) =
            (self.roof_gflops.unwrap_or(measured.gflops), self.roof_gbs.unwrap_or(measured.gbs));
        let bf16_gflops = measured.bf16_gflops.filter(|_| self.roof_gflops.is_none());
        Ok((Roofs { gflops, bf16_gflops, gbs, ..measured }, source))
    }

    fn count(&self, network: &str) -> anyhow::Result<Counted> {
        let batch = self.batch.map(u64::from);
        Ok(match Network::named(network)? {
            Network::Zoo(entry) => {
                let graph = entry.graph_for(self.input.unwrap_or(entry.input))?;
                Counted { count: nets::count_batch(&graph, batch.unwrap_or(1))?, graph, warnings: Vec::new() }
            }
            Network::Onnx(path) => {
                let mut options = nets::import::onnx::ImportOptions::default();
                options = options.strict(self.strict).batch(self.batch.unwrap_or(1) as usize);
                options.input = self.input;
                let model = nets::import::onnx::load(&path, &options)?;
                let batch = batch.map_or_else(|| nets::count(&model.graph).map(|count| count.batch), Ok)?;
                Counted { count: model.count(batch)?, graph: model.graph, warnings: model.warnings }
            }
        })
    }
}
