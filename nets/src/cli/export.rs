//! `nets export`: writes a network as an ONNX file.

use super::args;
use super::source::{Loaded, Network, Wanted};
use super::text;
use clap::Args;
use nets::{Shape, export::onnx};
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  nets export resnet50 resnet50.onnx
  nets export vgg16 vgg16.onnx --batch 8 --weights vgg16.safetensors";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Export {
    /// A network of the zoo or an .onnx file
    network: String,
    /// The file to write
    #[arg(value_name = "FILE.onnx")]
    file: PathBuf,
    /// Shape of one input image [default: the input of the published network]
    #[arg(long, value_name = "CxHxW", value_parser = args::image)]
    input: Option<Shape>,
    /// Images per forward pass
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Weights, with tensors named after the network's layers [default: trained weights for lenet5, else random ones]
    #[arg(long, value_name = "FILE.safetensors")]
    weights: Option<PathBuf>,
    /// Seed of random weights
    #[arg(long, value_name = "N", conflicts_with = "weights")]
    seed: Option<u64>,
}

impl Export {
    pub(super) fn execute(&self) -> anyhow::Result<String> {
        let (weights, seed) = (self.weights.as_deref(), self.seed);
        let (input, batch) = (self.input, self.batch.into());
        let wanted = Wanted { input, batch, weights, seed, ..Wanted::default() };
        let Loaded { graph, weights, .. } = Network::named(&self.network)?.load(wanted)?;
        onnx::save(&graph, &*weights, self.batch.into(), &self.file)?;
        let size = std::fs::metadata(&self.file).map_or(0, |file| file.len());
        let (name, file) = (graph.name(), self.file.display());
        Ok(format!("{name} for {} image(s) in {file}, {}\n", self.batch, text::bytes(size)))
    }
}
