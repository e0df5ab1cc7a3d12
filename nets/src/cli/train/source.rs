//! What is trained: the network, its data, its first weights.

use crate::cli::args::{self, Pool};
use anyhow::{Context, ensure};
use clap::Args;
use kernels::Isa;
use nets::data::{Parts, open};
use nets::fit::{Hardware, Recipe, Transfer, with_classes};
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
    #[command(flatten)]
    machine: Machine,
}

/// What a training runs on.
#[derive(Debug, Clone, Args)]
pub(crate) struct Machine {
    /// Number of threads [default: one per physical core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Instruction set: portable, neon, avx2fma, avx512f, avx512bf16 or amx [default: the best of this machine]
    #[arg(long)]
    isa: Option<Isa>,
}

impl Machine {
    fn threads(&self) -> usize {
        self.threads.map_or_else(|| num_cpus::get_physical().max(1), usize::from)
    }
}

impl Source {
    /// A network of the zoo on some data.
    pub(crate) fn of(network: &str, data: &str, threads: Option<u16>) -> Self {
        let machine = Machine { threads, isa: None };
        Self { network: network.to_owned(), data: Some(data.to_owned()), input: None, machine }
    }

    pub(crate) fn network(&self) -> &str {
        &self.network
    }

    pub(crate) fn pool(&self) -> anyhow::Result<Pool> {
        Pool::new(self.max_threads())
    }

    pub(crate) fn max_threads(&self) -> usize {
        self.machine.threads()
    }

    /// `figures` says whether activations are measured.
    pub(crate) fn hardware(&self, figures: bool) -> Hardware {
        Hardware { isa: self.machine.isa, max_threads: self.max_threads(), figures }
    }

    pub(super) fn entry(&self) -> anyhow::Result<&'static Entry> {
        Ok(zoo::find(&self.network)?)
    }

    pub(crate) fn data_name(&self) -> &str {
        self.data.as_deref().unwrap_or("digits")
    }

    /// The network with as many outputs as the data have classes.
    pub(crate) fn graph(&self, parts: &Parts) -> anyhow::Result<Graph> {
        let entry = self.entry()?;
        let graph = entry.graph_for(self.input.unwrap_or(entry.input))?;
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

/// The weights to start from, and a sentence about them.
pub(crate) fn weights(
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
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let Transfer { weights, initial } =
        Transfer::from_safetensors(graph, &bytes, &path.display().to_string(), &seeded, new_last)?;
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
