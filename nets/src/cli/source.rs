//! The source of a command's network and weights.

use anyhow::ensure;
use nets::digits::PADDED;
use nets::import::onnx::{self, Extents, ImportOptions, Imported, InputExtents};
use nets::zoo::{self, Entry};
use nets::{Graph, Init, InputStatistics, NetError, SeededWeights, Shape, WeightSet, WeightSource, digits};
use std::path::{Path, PathBuf};

/// The meaning of a network name on the command line.
pub(super) enum Network {
    /// A network of the zoo.
    Zoo(&'static Entry),
    /// An ONNX file.
    Onnx(PathBuf),
}

/// Further requests from the command line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Shape of one input image, if it differs from the published one.
    pub(super) input: Option<Shape>,
    /// Batch size, for ONNX files that do not state one.
    pub(super) batch: usize,
    /// The data for an ONNX file, if there is any.
    pub(super) data: &'a [InputExtents<'a>],
    pub(super) weights: Option<&'a Path>,
    pub(super) seed: Option<u64>,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self { input: None, batch: 1, data: &[], weights: None, seed: None }
    }
}

/// A network with its weights.
pub(super) struct Loaded {
    pub(super) graph: Graph,
    pub(super) weights: Box<dyn WeightSource>,
    /// How the inputs were normalised in the training, if the file of weights says it, as those of `nets train` do.
    pub(super) statistics: Option<InputStatistics>,
    /// The extents of input and output in the ONNX file.
    pub(super) extents: Option<Extents>,
}

impl Network {
    /// Interprets a name as a file if it looks like one, otherwise as a network of the zoo.
    pub(super) fn named(name: &str) -> Result<Self, NetError> {
        let path = Path::new(name);
        let is_file = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
        match zoo::find(name).map(Self::Zoo) {
            // A directory can have the same name as a network.
            Err(_) if path.exists() => Ok(Self::Onnx(path.to_owned())),
            _ if is_file || path.is_file() => Ok(Self::Onnx(path.to_owned())),
            network => network,
        }
    }

    /// Loads the network with its weights: the given ones, those in the file, trained ones for LeNet-5, or else
    /// random ones. Weights of ONNX files are read, and random ones generated, only when a layer needs them.
    pub(super) fn load(&self, wanted: Wanted<'_>) -> anyhow::Result<Loaded> {
        match self {
            Self::Zoo(entry) => {
                let graph = entry.graph_for(wanted.input.unwrap_or(entry.input))?;
                let mut statistics = None;
                let weights: Box<dyn WeightSource> = match (wanted.weights, wanted.seed) {
                    (Some(path), _) => {
                        let (weights, own) = WeightSet::load_with_statistics(&graph, path)?;
                        statistics = own;
                        Box::new(weights)
                    }
                    (None, None) if is_lenet5(entry)? => Box::new(trained(&graph, entry.input)?),
                    (None, seed) => Box::new(SeededWeights::new(&graph, Init::He, seed.unwrap_or(0))?),
                };
                Ok(Loaded { graph, weights, statistics, extents: None })
            }
            Self::Onnx(file) => {
                ensure!(
                    wanted.weights.is_none() && wanted.seed.is_none(),
                    "{}: expected neither --weights nor --seed, because the file contains the weights",
                    file.display()
                );
                let mut options = ImportOptions::default().batch(wanted.batch);
                options.input = wanted.input;
                let Imported { graph, weights, warnings, extents, .. } =
                    onnx::load_for(file, &options, wanted.data)?;
                warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
                Ok(Loaded { graph, weights: Box::new(weights), statistics: None, extents: Some(extents) })
            }
        }
    }
}

/// Whether this is the network that the trained weights belong to.
pub(super) fn is_lenet5(entry: &Entry) -> Result<bool, NetError> {
    Ok(entry.graph()? == zoo::lenet5()?)
}

/// Whether a network reads digits as LeNet-5 does.
pub(super) fn reads_digits(entry: &Entry) -> Result<bool, NetError> {
    let graph = entry.graph()?;
    Ok(graph.input() == Shape::map(1, PADDED, PADDED) && graph.output() == Shape::vector(10))
}

/// The trained weights. They fit only one input shape; another one makes another network.
fn trained(graph: &Graph, input: Shape) -> anyhow::Result<WeightSet> {
    ensure!(
        graph.input() == input,
        "{}: expected images of {input}, which its trained weights are for, or other weights (--weights, --seed), got {}",
        graph.name(),
        graph.input()
    );
    Ok(digits::trained_weights(graph)?)
}
