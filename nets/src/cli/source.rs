//! Where a command's network and its weights come from.

use super::args::{self, Target};
use anyhow::ensure;
use nets::import::onnx::{self, ImportOptions, OnnxWeights};
use nets::{Graph, Init, NetError, SeededWeights, Shape, WeightSet, WeightSource, digits, zoo};
use std::path::Path;

/// What was asked for on the command line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    /// A network of the zoo, or an .onnx file.
    pub(super) network: &'a str,
    /// Extents of one image, if not those that the network is published for.
    pub(super) input: Option<Shape>,
    pub(super) weights: Option<&'a Path>,
    pub(super) seed: Option<u64>,
}

/// The network with its weights: those given, those of the file, trained ones for LeNet-5, else seeded ones. The numbers
/// of an ONNX file are read when a layer needs them, and seeded ones made then.
pub(super) fn load(wanted: Wanted<'_>) -> anyhow::Result<(Graph, Box<dyn WeightSource>)> {
    match args::target(wanted.network)? {
        Target::Zoo(entry) => {
            let graph = entry.graph_for(wanted.input.unwrap_or(entry.input))?;
            let weights: Box<dyn WeightSource> = match (wanted.weights, wanted.seed) {
                (Some(path), _) => Box::new(WeightSet::load(&graph, path)?),
                (None, None) if graph == zoo::lenet5()? => Box::new(digits::trained_weights(&graph)?),
                (None, seed) => Box::new(SeededWeights::new(&graph, Init::He, seed.unwrap_or(0))?),
            };
            Ok((graph, weights))
        }
        Target::Onnx(file) => {
            ensure!(
                wanted.weights.is_none() && wanted.seed.is_none(),
                "{}: expected no --weights and no --seed: its weights are in it",
                file.display()
            );
            let (graph, weights) = import(&file, wanted.input)?;
            Ok((graph, Box::new(weights)))
        }
    }
}

fn import(file: &Path, input: Option<Shape>) -> Result<(Graph, OnnxWeights), NetError> {
    let mut options = ImportOptions::default();
    options.input = input;
    let model = onnx::load(file, &options)?;
    model.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    Ok((model.graph, model.weights))
}
