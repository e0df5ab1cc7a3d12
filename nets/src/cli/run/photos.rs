//! `nets run --image` for networks that classify photographs: lists the most likely classes.

use super::args::RunArgs;
use crate::cli::args::Plain;
use crate::cli::source::{Loaded, Network, Wanted};
use anyhow::{Context, bail, ensure};
use kernels::{Layout, Ops, TensorMut};
use nets::photo::{self, Recipe};
use nets::{Graph, Layer, Shape};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

/// The output of `--format json`.
#[derive(Serialize)]
struct PhotoRun {
    network: String,
    isa: &'static str,
    numerics: &'static str,
    preprocessing: Preprocessing,
    milliseconds: f64,
    images: Vec<Photo>,
}

#[derive(Serialize)]
struct Preprocessing {
    resize: usize,
    crop: [usize; 2],
    mean: [f32; 3],
    std: [f32; 3],
}

#[derive(Serialize)]
struct Photo {
    image: String,
    top: Vec<Guess>,
}

#[derive(Serialize)]
struct Guess {
    class: usize,
    label: Option<String>,
    probability: f32,
}

pub(super) fn execute(run: &RunArgs, network: &Network) -> anyhow::Result<String> {
    let images = run.image.as_slice();
    let is_file = matches!(network, Network::Onnx(_));
    ensure!(
        is_file || run.weights.is_some() || run.seed.is_some(),
        "{}: expected --weights FILE.safetensors (or --seed N for random ones), got neither",
        run.network
    );
    let (weights, seed) = (run.weights.as_deref(), run.seed);
    let wanted = Wanted { batch: images.len(), weights, seed, ..Wanted::default() };
    let Loaded { graph, weights, statistics, .. } = network.load(wanted)?;
    let Shape::Map { c: 3, h, w } = graph.input() else {
        bail!("--image: expected a network that reads 3 colours, got one that reads {}", graph.input());
    };
    let mut recipe = Recipe::imagenet(kernels::Size2::new(h, w));
    recipe.resize = run.resize.unwrap_or(recipe.resize);
    let statistics = statistics.filter(|_| run.mean.is_none() && run.std.is_none());
    if statistics.is_some() {
        (recipe.mean, recipe.std) = ([0.0; 3], [1.0; 3]);
    }
    recipe.mean = run.mean.unwrap_or(recipe.mean);
    recipe.std = run.std.unwrap_or(recipe.std);
    let classes = graph.output().len()?;
    let labels = run.labels.as_deref().map(|path| labels(path, classes)).transpose()?;
    let mut input = Vec::new();
    for image in images {
        let mut photo = photo::load(image, &recipe)?;
        statistics.iter().for_each(|statistics| statistics.apply(&mut photo, h * w));
        input.extend(photo);
    }
    let pool = run.hardware.pool()?;
    // A model for batch size 1 runs on one photograph at a time.
    let together = if graph.batch() == Some(1) { 1 } else { images.len() };
    let mut net = run.net(&graph, &*weights, together, &pool)?;
    drop(weights);
    let start = Instant::now();
    let mut output = Vec::with_capacity(images.len() * classes);
    for photos in input.chunks_exact(together * 3 * h * w) {
        output.extend_from_slice(net.run(photos, pool.threads())?);
    }
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    if !ends_in_softmax(&graph) {
        let shape = kernels::Shape4::new(images.len(), classes, 1, 1);
        let tensor = TensorMut::packed(&mut output, shape, Layout::Nchw)?;
        Ops::new(Some(net.isa()))?.softmax(tensor, pool.threads())?;
    }
    let guesses = images.iter().zip(output.chunks_exact(classes)).map(|(image, probabilities)| Photo {
        image: image.display().to_string(),
        top: top(probabilities, run.top.into(), labels.as_deref()),
    });
    let Recipe { resize, crop, mean, std } = recipe;
    let report = PhotoRun {
        network: graph.name().to_owned(),
        isa: net.isa().name(),
        numerics: run.hardware.numerics().name(),
        preprocessing: Preprocessing { resize, crop: [crop.h, crop.w], mean, std },
        milliseconds,
        images: guesses.collect(),
    };
    Ok(match run.format {
        Plain::Json => serde_json::to_string(&report)? + "\n",
        Plain::Text => report.text(),
    })
}

/// Whether the outputs already are probabilities.
fn ends_in_softmax(graph: &Graph) -> bool {
    let mut node = graph.node(graph.output_id());
    while let (Layer::Flatten | Layer::Reshape(_) | Layer::Dropout, Some(&input)) =
        (&node.layer, node.inputs.first())
    {
        node = graph.node(input);
    }
    node.layer == Layer::Softmax
}

/// Reads the labels, one per line, as many as there are classes.
fn labels(path: &Path, classes: usize) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let labels: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    let got = labels.len();
    ensure!(got == classes, "{}: expected {classes} lines, one label each, got {got}", path.display());
    Ok(labels)
}

/// The most likely classes, in descending order.
fn top(probabilities: &[f32], count: usize, labels: Option<&[String]>) -> Vec<Guess> {
    let mut classes: Vec<usize> = (0..probabilities.len()).collect();
    classes.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    let guess = |class: usize| Guess {
        class,
        label: labels.map(|labels| labels[class].clone()),
        probability: probabilities[class],
    };
    classes.into_iter().take(count).map(guess).collect()
}

impl PhotoRun {
    fn text(&self) -> String {
        let Preprocessing { resize, crop: [h, w], mean, std } = self.preprocessing;
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{}: {} image(s) in {:.2} ms on {} kernels, numerics {}\nshorter side to {resize}, {h}x{w} from the middle, mean \
             {mean:?}, deviation {std:?}",
            self.network,
            self.images.len(),
            self.milliseconds,
            self.isa,
            self.numerics
        );
        for Photo { image, top } in &self.images {
            let _ = writeln!(out, "\n{image}");
            for Guess { class, label, probability } in top {
                let label = label.as_ref().map_or_else(|| format!("class {class}"), Clone::clone);
                let _ = writeln!(out, "  {:5.1} %  {label}", probability * 100.0);
            }
        }
        out
    }
}
