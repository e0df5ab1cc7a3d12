//! `nets run --input`: runs a network on tensors in files.

use super::args::RunArgs;
use crate::cli::args::Plain;
use crate::cli::demo::most_likely;
use crate::cli::source::{Loaded, Network, Wanted};
use crate::cli::text;
use anyhow::{Context, bail, ensure};
use nets::import::onnx::InputExtents;
use nets::{CompiledNet, Graph, Shape, npy};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The output of `--format json`.
#[derive(Serialize)]
struct TensorRun {
    network: String,
    isa: &'static str,
    numerics: &'static str,
    batch: usize,
    /// The extents of the first input.
    input: Vec<usize>,
    /// The extents of the main output.
    output: Vec<usize>,
    milliseconds: f64,
    /// Index and value of the largest output of each image.
    largest: Vec<(usize, f32)>,
    /// The input for which the network was published, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<Vec<usize>>,
}

/// A file of the command line, and the name of its tensor; empty if there is one.
struct Named {
    name: String,
    path: PathBuf,
}

/// A tensor that was read.
struct Data {
    file: Named,
    dims: Vec<usize>,
    numbers: Vec<f32>,
}

impl Named {
    /// Splits `NAME=FILE`. A file whose name has the sign, and that exists, is a file.
    fn parse(text: &str) -> Self {
        match text.split_once('=') {
            Some((name, path)) if !Path::new(text).exists() => {
                Self { name: name.to_owned(), path: path.into() }
            }
            _ => Self { name: String::new(), path: text.into() },
        }
    }
}

pub(super) fn execute(run: &RunArgs, network: &Network) -> anyhow::Result<String> {
    let data = run.input.iter().map(|text| {
        let file = Named::parse(text);
        let (dims, numbers) = npy::read(&file.path)?;
        Ok(Data { file, dims, numbers })
    });
    let data = data.collect::<anyhow::Result<Vec<Data>>>()?;
    let loaded = load(run, network, &data)?;
    let batch = batch(&loaded, &data[0])?;
    let Loaded { graph, weights, extents, .. } = loaded;
    let outputs: Vec<Output> = match extents {
        None => vec![(String::new(), Some([batch].into_iter().chain(graph.output().dims()).collect()))],
        Some(extents) => extents.outputs,
    };
    let files = output_files(run, &outputs)?;
    let pool = run.hardware.pool()?;
    let all = files.iter().any(|&(number, _)| number > 0);
    let net = run.compiled(&graph, &*weights, (batch, all), &pool)?;
    drop(weights);
    let values = in_order(&graph, &data)?;
    let mut results = net
        .outputs()
        .iter()
        .map(|shape| Ok(vec![0.0; shape.elements(batch)?]))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut memory = net.memory()?;
    let mut slices: Vec<&mut [f32]> = results.iter_mut().map(Vec::as_mut_slice).collect();
    let start = Instant::now();
    net.run_all(&values, &mut slices, &mut memory, pool.threads())?;
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    for (number, path) in files {
        npy::write(&path, known(&outputs[number])?, &results[number])?;
    }
    let published = match network {
        Network::Zoo(entry) => Some(entry.input).filter(|&shape| shape != graph.input()),
        Network::Onnx(_) => None,
    };
    let output = known(&outputs[0])?.to_vec();
    let each = if output.first() == Some(&batch) { results[0].len() / batch } else { results[0].len() };
    let largest = results[0].chunks_exact(each.max(1)).map(|image| {
        let class = most_likely(image);
        (class, image[class])
    });
    let report = TensorRun {
        network: graph.name().to_owned(),
        isa: net.isa().name(),
        numerics: run.hardware.numerics().name(),
        batch,
        input: data[0].dims.clone(),
        output,
        milliseconds,
        largest: largest.collect(),
        published: published.map(Shape::dims),
    };
    Ok(match run.format {
        Plain::Json => serde_json::to_string(&report)? + "\n",
        Plain::Text => report.text(&net),
    })
}

/// Loads the network with its weights for data of these extents. The data for an ONNX file must have as many
/// axes as the model's input. For a network of the zoo, one image can come without a batch axis.
fn load(run: &RunArgs, network: &Network, data: &[Data]) -> anyhow::Result<Loaded> {
    let (weights, seed) = (run.weights.as_deref(), run.seed);
    let Data { file, dims, .. } = &data[0];
    match network {
        Network::Zoo(entry) => {
            ensure!(data.len() == 1, "--input: expected one file for {}, got {}", entry.name, data.len());
            let shape = match dims[..] {
                [_, c, h, w] | [c, h, w] => Shape::map(c, h, w),
                [_, len] | [len] => Shape::vector(len),
                _ => bail!("{}: expected extents CxHxW or NxCxHxW, got {dims:?}", file.path.display()),
            };
            network.load(Wanted { input: Some(shape), weights, seed, ..Wanted::default() })
        }
        Network::Onnx(_) => {
            let batch = dims.first().copied().filter(|&batch| batch > 0).unwrap_or(1);
            let extents: Vec<InputExtents<'_>> =
                data.iter().map(|data| InputExtents { name: &data.file.name, dims: &data.dims }).collect();
            let wanted = Wanted { batch, data: &extents, weights, seed, ..Wanted::default() };
            let all: Vec<&[usize]> = data.iter().map(|data| data.dims.as_slice()).collect();
            network.load(wanted).with_context(|| format!("{}: data of {all:?}", file.path.display()))
        }
    }
}

/// The data of each input of the graph.
fn in_order<'a>(graph: &Graph, data: &'a [Data]) -> anyhow::Result<Vec<&'a [f32]>> {
    let several = graph.inputs().count() > 1;
    let values = graph.inputs().map(|id| {
        let name = &graph.node(id).name;
        let found = data.iter().find(|data| !several || data.file.name == *name);
        let found = found.with_context(|| format!("--input: expected {name}=FILE.npy, got no such input"))?;
        Ok(found.numbers.as_slice())
    });
    values.collect()
}

/// The number of images in the data.
fn batch(loaded: &Loaded, data: &Data) -> anyhow::Result<usize> {
    let Data { file, dims, .. } = data;
    let batch = match &loaded.extents {
        Some(extents) => Some(extents.input.first().copied().unwrap_or(1)),
        None => images(&loaded.graph, dims),
    };
    let batch = batch.filter(|&batch| batch > 0);
    let expected = loaded.graph.input();
    batch.with_context(|| format!("{}: expected images of {expected}, got {dims:?}", file.path.display()))
}

/// The number of images of the graph's input shape in a tensor of these extents.
fn images(graph: &Graph, dims: &[usize]) -> Option<usize> {
    match dims.strip_suffix(graph.input().dims().as_slice())? {
        [] => Some(1),
        &[batch] => Some(batch),
        _ => None,
    }
}

/// The name and the extents of an output.
type Output = (String, Option<Vec<usize>>);

fn known((name, dims): &Output) -> anyhow::Result<&[usize]> {
    dims.as_deref().with_context(|| format!("output {name}: expected known extents, got unknown ones"))
}

/// The number of each output that is written, with its file.
fn output_files(run: &RunArgs, outputs: &[Output]) -> anyhow::Result<Vec<(usize, PathBuf)>> {
    let files = run.output.iter().map(|text| {
        let Named { name, path } = Named::parse(text);
        let number = match name.is_empty() {
            true => Some(0),
            false => outputs.iter().position(|(other, _)| *other == name),
        };
        let names: Vec<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
        let number =
            number.with_context(|| format!("--output: expected one of {}, got {name}", names.join(", ")))?;
        Ok((number, path))
    });
    files.collect()
}

impl TensorRun {
    fn text(&self, net: &CompiledNet) -> String {
        let (params, macs) =
            (text::thousands(net.count().params), text::thousands(net.count().macs / net.count().batch));
        let mut out = format!(
            "{}: {params} parameters, {macs} MACs per image\n{} of {} in {:.2} ms on {} kernels, numerics {}\n",
            self.network,
            if self.batch == 1 { "1 image".to_owned() } else { format!("{} images", self.batch) },
            net.input(),
            self.milliseconds,
            self.isa,
            self.numerics
        );
        if let Some(published) = &self.published {
            out += &format!("the network was published for {published:?}: this is another one\n");
        }
        for (image, (class, value)) in self.largest.iter().enumerate() {
            out += &format!(
                "image {image}: the largest of {} outputs is number {class}: {value}\n",
                net.output()
            );
        }
        out
    }
}
