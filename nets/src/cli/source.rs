//! Where a command's network and its weights come from.

use super::args::{self, Target};
use anyhow::ensure;
use nets::import::onnx::{self, ImportOptions};
use nets::{Graph, Init, NetError, Shape, WeightSet, digits, zoo};
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

/// The network with its weights: those given, those of the file, trained ones for LeNet-5, else seeded ones.
pub(super) fn load(wanted: Wanted<'_>) -> anyhow::Result<(Graph, WeightSet)> {
    match args::target(wanted.network)? {
        Target::Zoo(entry) => {
            let graph = entry.graph_for(wanted.input.unwrap_or(entry.input))?;
            let weights = match (wanted.weights, wanted.seed) {
                (Some(path), _) => WeightSet::load(&graph, path)?,
                (None, None) if graph == zoo::lenet5()? => digits::trained_weights(&graph)?,
                (None, seed) => WeightSet::seeded(&graph, Init::He, seed.unwrap_or(0))?,
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
            Ok((graph, weights))
        }
    }
}

fn import(file: &Path, input: Option<Shape>) -> Result<(Graph, WeightSet), NetError> {
    let mut options = ImportOptions::default();
    options.input = input;
    let model = onnx::load(file, &options)?;
    model.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let weights = model.weights.read(&model.graph)?;
    Ok((model.graph, weights))
}
