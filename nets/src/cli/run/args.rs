//! The arguments of `nets run`.

use crate::cli::args::{self, Hardware, Plain, Pool};
use crate::cli::planning::Planning;
use clap::Args;
use nets::{CompiledNet, Graph, Net, NetError, WeightSource};
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  nets run lenet5 --image digit.png
  nets run resnet50 --weights resnet50.safetensors --image dog.jpg cat.png --labels imagenet.txt --top 5
  nets run resnet50 --weights resnet50.safetensors --input x.npy --output y.npy
  nets run resnet50 --seed 7 --input x.npy --output y.npy
  nets run model.onnx --input x.npy --output y.npy --numerics bf16
  nets run model.onnx --input image=x.npy --input mask=m.npy --output boxes=b.npy --output scores=s.npy";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// A network of the zoo or an .onnx file
    pub(super) network: String,
    /// Pictures (PNG, JPEG, GIF, BMP, WebP or PNM): photographs, or digits for lenet5, dark on light or light on dark
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "input", conflicts_with = "input")]
    pub(super) image: Vec<PathBuf>,
    /// Names of the classes of photographs, one per line
    #[arg(long, value_name = "FILE.txt", requires = "image")]
    pub(super) labels: Option<PathBuf>,
    /// Number of classes to list for each photograph
    #[arg(long, value_name = "N", default_value_t = 5, requires = "image", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) top: u16,
    /// Length to which the shorter side of photographs is scaled before cropping [default: 256/224 of the
    /// input's side]
    #[arg(long, value_name = "PIXELS", requires = "image")]
    pub(super) resize: Option<usize>,
    /// Per-channel mean to subtract from photographs [default: 0.485,0.456,0.406]
    #[arg(long, value_name = "R,G,B", requires = "image", value_parser = args::colours)]
    pub(super) mean: Option<[f32; 3]>,
    /// Per-channel standard deviation to divide photographs by [default: 0.229,0.224,0.225]
    #[arg(long, value_name = "R,G,B", requires = "image", value_parser = args::colours)]
    pub(super) std: Option<[f32; 3]>,
    /// Tensor as float32: images as CxHxW or NxCxHxW, or what an .onnx file expects. For each input of an .onnx file with
    /// several, as NAME=FILE.npy
    #[arg(long, value_name = "[NAME=]FILE.npy")]
    pub(super) input: Vec<String>,
    /// File for the network's output. For further outputs of an .onnx file, as NAME=FILE.npy
    #[arg(long, value_name = "[NAME=]FILE.npy", requires = "input")]
    pub(super) output: Vec<String>,
    /// Weights, with tensors named after the network's layers [default: trained weights for lenet5, else random ones]
    #[arg(long, value_name = "FILE.safetensors", conflicts_with = "seed")]
    pub(super) weights: Option<PathBuf>,
    /// Seed of random weights
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// Format of the results
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Plain,
    #[command(flatten)]
    pub(super) hardware: Hardware,
    #[command(flatten)]
    pub(super) planning: Planning,
}

impl RunArgs {
    /// The network, compiled for `batch` images.
    pub(super) fn net(
        &self,
        graph: &Graph,
        weights: &dyn WeightSource,
        batch: usize,
        pool: &Pool,
    ) -> Result<Net, NetError> {
        self.compiled(graph, weights, (batch, false), pool)?.try_into()
    }

    /// The network, compiled for `batch` images, with all its outputs or the main one.
    pub(super) fn compiled(
        &self,
        graph: &Graph,
        weights: &dyn WeightSource,
        (batch, all_outputs): (usize, bool),
        pool: &Pool,
    ) -> Result<CompiledNet, NetError> {
        let options = self.hardware.options(batch).all_outputs(all_outputs);
        self.planning.compile(graph, weights, options, pool)
    }
}
