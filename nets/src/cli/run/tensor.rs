//! `nets run --input`: runs a network on the tensor in a file.

use super::args::RunArgs;
use crate::cli::args::Plain;
use crate::cli::demo::most_likely;
use crate::cli::source::{Loaded, Network, Wanted};
use crate::cli::text;
use anyhow::{Context, bail};
use nets::import::onnx::Extents;
use nets::{Graph, Net, Shape, npy};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// The output of `--format json`.
#[derive(Serialize)]
struct TensorRun {
    network: String,
    isa: &'static str,
    numerics: &'static str,
    batch: usize,
    input: Vec<usize>,
    output: Vec<usize>,
    milliseconds: f64,
    /// Index and value of the largest output of each image.
    largest: Vec<(usize, f32)>,
}

pub(super) fn execute(run: &RunArgs, network: &Network, path: &Path) -> anyhow::Result<String> {
    let (dims, numbers) = npy::read(path)?;
    let loaded = load(run, network, &dims, path)?;
    let batch = batch(&loaded, &dims, path)?;
    let Loaded { graph, weights, extents } = loaded;
    let pool = run.hardware.pool()?;
    let mut net = run.net(&graph, &*weights, batch, &pool)?;
    drop(weights);
    let output = output_extents(&graph, extents.as_ref(), batch)?;
    let start = Instant::now();
    let result = net.run(&numbers, pool.threads())?;
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    if let Some(path) = &run.output {
        npy::write(path, &output, result)?;
    }
    let largest = result.chunks_exact(result.len() / batch).map(|image| {
        let class = most_likely(image);
        (class, image[class])
    });
    let largest = largest.collect();
    let (network, isa) = (graph.name().to_owned(), net.isa().name());
    let numerics = run.hardware.numerics().name();
    let report = TensorRun { network, isa, numerics, batch, input: dims, output, milliseconds, largest };
    Ok(match run.format {
        Plain::Json => serde_json::to_string(&report)? + "\n",
        Plain::Text => report.text(&net),
    })
}

/// Loads the network with its weights for data of these extents. The data for an ONNX file must have as many
/// axes as the model's input. For a network of the zoo, one image can come without a batch axis.
fn load(run: &RunArgs, network: &Network, dims: &[usize], path: &Path) -> anyhow::Result<Loaded> {
    let (weights, seed) = (run.weights.as_deref(), run.seed);
    let said = |input| Wanted { input: Some(input), weights, seed, ..Wanted::default() };
    match (network, dims) {
        (Network::Zoo(_), &[_, c, h, w] | &[c, h, w]) => network.load(said(Shape::map(c, h, w))),
        (Network::Zoo(_), &[_, len] | &[len]) => network.load(said(Shape::vector(len))),
        (Network::Zoo(_), _) => bail!("{}: expected extents CxHxW or NxCxHxW, got {dims:?}", path.display()),
        (Network::Onnx(_), &[batch, ref image @ ..]) => {
            let image = match *image {
                [len] => Shape::vector(len),
                [c, w] => Shape::map(c, 1, w),
                [c, h, w] => Shape::map(c, h, w),
                _ => bail!("{}: expected 2 to 4 axes, the batch first, got {dims:?}", path.display()),
            };
            let wanted = Wanted { batch, axes: Some(dims.len()), ..said(image) };
            network.load(wanted).with_context(|| format!("{}: data of {dims:?}", path.display()))
        }
        (Network::Onnx(_), []) => bail!("{}: expected 2 to 4 axes, got {dims:?}", path.display()),
    }
}

/// The number of images in the tensor.
fn batch(loaded: &Loaded, dims: &[usize], path: &Path) -> anyhow::Result<usize> {
    let batch = match &loaded.extents {
        Some(extents) => (dims[1..] == extents.input[1..]).then_some(dims[0]),
        None => images(&loaded.graph, dims),
    };
    let batch = batch.filter(|&batch| batch > 0);
    let expected = loaded.graph.input();
    batch.with_context(|| format!("{}: expected images of {expected}, got {dims:?}", path.display()))
}

/// The number of images of the graph's input shape in a tensor of these extents.
fn images(graph: &Graph, dims: &[usize]) -> Option<usize> {
    match dims.strip_suffix(graph.input().dims().as_slice())? {
        [] => Some(1),
        &[batch] => Some(batch),
        _ => None,
    }
}

/// The extents of the output for `batch` images.
fn output_extents(graph: &Graph, extents: Option<&Extents>, batch: usize) -> anyhow::Result<Vec<usize>> {
    match extents {
        None => Ok([batch].into_iter().chain(graph.output().dims()).collect()),
        Some(extents) => extents.output_for(batch).with_context(|| {
            let (name, own) = (graph.name(), extents.input[0]);
            format!(
                "{name}: expected a batch of {own}, for which its output's extents are known, got {batch}"
            )
        }),
    }
}

impl TensorRun {
    fn text(&self, net: &Net) -> String {
        let (params, macs) = (text::thousands(net.count().params), text::thousands(net.count().macs));
        let mut out = format!(
            "{}: {params} parameters, {macs} MACs per image\n{} of {} in {:.2} ms on {} kernels, numerics {}\n",
            self.network,
            if self.batch == 1 { "1 image".to_owned() } else { format!("{} images", self.batch) },
            net.input(),
            self.milliseconds,
            self.isa,
            self.numerics
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
