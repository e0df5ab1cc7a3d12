//! What is trained: the network, its data, its first weights.

use crate::cli::args::{self, InstructionSet, Pool, ThreadCount};
use anyhow::ensure;
use clap::Args;
use nets::data::{Normalisation, Parts, open};
use nets::fit::{Hardware, Recipe, Setting, Trainer, Transfer, with_classes};
use nets::train::Recompute;
use nets::zoo::{self, Entry};
use nets::{Graph, SeededWeights, Shape, WeightSource};
use std::path::{Path, PathBuf};

/// The network and the data, for all commands that train.
#[derive(Debug, Clone, Args)]
pub(crate) struct Source {
    /// A network of the zoo
    pub(super) network: String,
    /// digits (embedded), or a directory with MNIST in IDX form, CIFAR-10 in binary form, or a folder of pictures for each
    /// class [default: digits]
    #[arg(long, value_name = "digits|DIR")]
    pub(super) data: Option<String>,
    /// Shape of one input image, CxHxW [default: the published one]
    #[arg(long, value_name = "CxHxW", value_parser = args::image)]
    pub(super) input: Option<Shape>,
    /// What the reverse pass computes again, which needs less memory and gives the same bits: nothing, cheap (normalisations,
    /// activations, pooling) or blocks (also all layers inside residual blocks)
    #[arg(long, value_name = "LAYERS", default_value = "nothing")]
    pub(super) recompute: Recompute,
    #[command(flatten)]
    pub(super) threads: ThreadCount,
    #[command(flatten)]
    pub(super) instructions: InstructionSet,
}

impl Source {
    /// A network of the zoo on some data.
    pub(crate) fn of(network: &str, data: &str, threads: ThreadCount) -> Self {
        let (network, data) = (network.to_owned(), Some(data.to_owned()));
        let instructions = InstructionSet::default();
        Self { network, data, input: None, recompute: Recompute::Nothing, threads, instructions }
    }

    pub(crate) fn network(&self) -> &str {
        &self.network
    }

    pub(crate) fn pool(&self) -> anyhow::Result<Pool> {
        Pool::new(self.max_threads())
    }

    pub(crate) fn max_threads(&self) -> usize {
        self.threads.get()
    }

    /// A training of `graph` on `parts`. `figures` says whether activations are measured.
    pub(crate) fn setting<'a>(&'a self, graph: &'a Graph, parts: &'a Parts, figures: bool) -> Setting<'a> {
        let (isa, recompute) = (self.instructions.isa, self.recompute);
        let hardware = Hardware { isa, max_threads: self.max_threads(), figures, recompute };
        Setting { graph, parts, data: self.data_name(), hardware }
    }

    fn entry(&self) -> anyhow::Result<&'static Entry> {
        Ok(zoo::find(&self.network)?)
    }

    pub(crate) fn data_name(&self) -> &str {
        self.data.as_deref().unwrap_or("digits")
    }

    /// The network with as many outputs as the data have classes.
    pub(crate) fn graph(&self, parts: &Parts) -> anyhow::Result<Graph> {
        self.graph_for(parts, None)
    }

    /// The same; `input` is the shape of one image if the options do not say it.
    pub(super) fn graph_for(&self, parts: &Parts, input: Option<Shape>) -> anyhow::Result<Graph> {
        let entry = self.entry()?;
        let graph = entry.graph_for(self.input.or(input).unwrap_or(entry.input))?;
        let classes = parts.training.classes().len();
        if graph.output().len()? == classes {
            return Ok(graph);
        }
        Ok(with_classes(&graph, classes)?)
    }
}

/// Reads data by their name on the command line.
pub(crate) fn parts(name: &str) -> anyhow::Result<Parts> {
    Ok(if name == "digits" { Parts::digits()? } else { open(Path::new(name))? })
}

/// A training from initial weights, with a normalisation that is known.
pub(crate) fn trainer(
    setting: Setting<'_>,
    recipe: &Recipe,
    normalisation: &Normalisation,
) -> anyhow::Result<Trainer> {
    let weights = SeededWeights::new(setting.graph, recipe.init, recipe.seed)?;
    Ok(Trainer::normalised(setting, &weights, recipe, normalisation.clone())?)
}

/// The weights to start from, and a sentence about them.
pub(super) fn weights(
    graph: &Graph,
    file: Option<&PathBuf>,
    new_last: bool,
    recipe: &Recipe,
) -> anyhow::Result<(Box<dyn WeightSource>, String)> {
    let seeded = SeededWeights::new(graph, recipe.init, recipe.seed)?;
    let Some(path) = file else {
        let about = format!("initial weights: {}, seed {}", recipe.init.name(), recipe.seed);
        return Ok((Box::new(seeded), about));
    };
    let Transfer { weights, initial } = Transfer::load(graph, path, &seeded, new_last)?;
    ensure!(
        initial.len() < graph.params().count(),
        "{}: expected weights of network `{}`, got none that fit",
        path.display(),
        graph.name()
    );
    let about = match initial.is_empty() {
        true => format!("initial weights: {}", path.display()),
        false => format!("initial weights: {}; new: {}", path.display(), initial.join(", ")),
    };
    Ok((Box::new(weights), about))
}
