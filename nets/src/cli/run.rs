//! `nets run`: a network on pictures, or on a tensor.

use super::args::{self, Hardware, Plain, Pool, Target};
use super::planning::Planning;
use super::source::{self, Wanted};
use super::{classify, photos, text};
use anyhow::{Context, bail};
use clap::Args;
use nets::{Graph, Net, NetError, Shape, WeightSource, npy, zoo};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

const EXAMPLES: &str = "Examples:
  nets run lenet5 --image digit.png
  nets run resnet50 --weights resnet50.safetensors --image dog.jpg cat.png --labels imagenet.txt --top 5
  nets run resnet50 --weights resnet50.safetensors --input x.npy --output y.npy
  nets run resnet50 --seed 7 --input x.npy --output y.npy
  nets run model.onnx --input x.npy --output y.npy";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Run {
    /// A network of the zoo or an .onnx file
    pub(super) network: String,
    /// Pictures (PNG, JPEG, GIF, BMP, WebP, PNM): photographs, or for lenet5 digits, dark on light or light on dark
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "input", conflicts_with = "input")]
    image: Vec<PathBuf>,
    /// What the classes of photographs are called: one a line
    #[arg(long, value_name = "FILE.txt", requires = "image")]
    pub(super) labels: Option<PathBuf>,
    /// How many classes are listed for each photograph
    #[arg(long, value_name = "N", default_value_t = 5, requires = "image", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) top: u16,
    /// The shorter side of photographs, before the middle is cut out [default: 256/224 of the input's]
    #[arg(long, value_name = "PIXELS", requires = "image")]
    pub(super) resize: Option<usize>,
    /// Is taken off the colours of photographs [default: 0.485,0.456,0.406]
    #[arg(long, value_name = "R,G,B", requires = "image", value_parser = super::args::colours)]
    pub(super) mean: Option<[f32; 3]>,
    /// The colours of photographs are divided by it [default: 0.229,0.224,0.225]
    #[arg(long, value_name = "R,G,B", requires = "image", value_parser = super::args::colours)]
    pub(super) std: Option<[f32; 3]>,
    /// A tensor of images, CxHxW or NxCxHxW, float32
    #[arg(long, value_name = "FILE.npy")]
    input: Option<PathBuf>,
    /// Where the network's output goes
    #[arg(long, value_name = "FILE.npy", requires = "input")]
    output: Option<PathBuf>,
    /// Weights under the names of the network's layers [default: trained ones for lenet5, else seeded ones]
    #[arg(long, value_name = "FILE.safetensors", conflicts_with = "seed")]
    pub(super) weights: Option<PathBuf>,
    /// Random weights that depend on this number alone
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// How the results are written
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Plain,
    #[command(flatten)]
    pub(super) hardware: Hardware,
    #[command(flatten)]
    pub(super) planning: Planning,
}

/// What `--format json` prints for a tensor.
#[derive(Serialize)]
struct Report {
    network: String,
    isa: &'static str,
    batch: usize,
    input: Vec<usize>,
    output: Vec<usize>,
    milliseconds: f64,
    /// The largest output of each image: where, and what.
    largest: Vec<(usize, f32)>,
}

impl Run {
    pub(super) fn execute(&self) -> anyhow::Result<String> {
        match &self.input {
            Some(input) => self.tensor(input),
            None if self.is_lenet5()? => classify::execute(self, &self.image),
            None => photos::execute(self, &self.image),
        }
    }

    fn is_lenet5(&self) -> anyhow::Result<bool> {
        Ok(match args::target(&self.network)? {
            Target::Zoo(entry) => entry.graph()? == zoo::lenet5()?,
            Target::Onnx(_) => false,
        })
    }

    fn tensor(&self, path: &Path) -> anyhow::Result<String> {
        let (dims, numbers) = npy::read(path)?;
        let (graph, weights) = self.network(&dims, path)?;
        let batch = batch(&graph, &dims, path)?;
        let pool = self.hardware.pool()?;
        let mut net = self.net(&graph, &*weights, batch, &pool)?;
        drop(weights);
        let start = Instant::now();
        let result = net.run(&numbers, pool.threads())?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        let output: Vec<usize> = [batch].into_iter().chain(graph.output().dims()).collect();
        if let Some(path) = &self.output {
            npy::write(path, &output, result)?;
        }
        let largest = result.chunks_exact(result.len() / batch).map(|image| {
            let class = super::demo::most_likely(image);
            (class, image[class])
        });
        let largest = largest.collect();
        let (network, isa) = (graph.name().to_owned(), net.isa().name());
        let report = Report { network, isa, batch, input: dims, output, milliseconds, largest };
        Ok(match self.format {
            Plain::Json => serde_json::to_string(&report)? + "\n",
            Plain::Text => report.text(&net),
        })
    }

    /// The network, compiled for so many images.
    pub(super) fn net(
        &self,
        graph: &Graph,
        weights: &dyn WeightSource,
        batch: usize,
        pool: &Pool,
    ) -> Result<Net, NetError> {
        self.planning.compile(graph, weights, self.hardware.options(batch), pool)?.try_into()
    }

    /// The network for images of these extents, with its weights.
    fn network(&self, dims: &[usize], path: &Path) -> anyhow::Result<(Graph, Box<dyn WeightSource>)> {
        let image = match *dims {
            [_, c, h, w] | [c, h, w] => Shape::map(c, h, w),
            [_, len] | [len] => Shape::vector(len),
            _ => bail!("{}: expected extents CxHxW or NxCxHxW, got {dims:?}", path.display()),
        };
        let (weights, seed) = (self.weights.as_deref(), self.seed);
        source::load(Wanted { network: &self.network, input: Some(image), weights, seed })
    }
}

/// How many images such a tensor is.
fn batch(graph: &Graph, dims: &[usize], path: &Path) -> anyhow::Result<usize> {
    let image = graph.input().dims();
    let batch = match dims.strip_suffix(image.as_slice()) {
        Some([]) => Some(1),
        Some(&[batch]) if batch > 0 => Some(batch),
        _ => None,
    };
    batch.with_context(|| format!("{}: expected images of {}, got {dims:?}", path.display(), graph.input()))
}

impl Report {
    fn text(&self, net: &Net) -> String {
        let (params, macs) = (text::thousands(net.count().params), text::thousands(net.count().macs));
        let mut out = format!(
            "{}: {params} parameters, {macs} MACs per image\n{} of {} in {:.2} ms on {} kernels\n",
            self.network,
            if self.batch == 1 { "1 image".to_owned() } else { format!("{} images", self.batch) },
            net.input(),
            self.milliseconds,
            self.isa
        );
        for (image, (class, value)) in self.largest.iter().enumerate() {
            out += &format!(
                "image {image}: the largest of {} outputs is number {class}: {value}\n",
                net.output()
            );
        }
        out
    }
}
