//! The arguments of `shootout`.

use crate::cli::{Format, Precision, named, once_each};
use crate::layer::Memory;
use crate::layers::{self, LayerSpec};
use crate::peers::{Engine, Task};
use crate::problem::Numbers;
use crate::random;
use clap::Parser;
use kernels::{Algorithm, ConvDesc, Isa, Layout, PlanOptions, Select};
use std::path::PathBuf;
use std::time::Duration;

/// Times every algorithm on every layer of benches/layers.csv, in turns with the FMA roof of the machine and with
/// the peers, and checks every output
#[derive(Debug, Clone, Parser)]
#[command(name = "shootout", version)]
pub struct Args {
    /// Layers: ids, beginnings of ids, or networks [default: all]
    #[arg(long, value_name = "A,B,...", value_delimiter = ',')]
    pub filter: Vec<String>,
    /// Numbers of threads
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Vec<u16>,
    /// Instruction sets: portable, neon, avx2fma or avx512f [default: the best of this machine]
    #[arg(long, value_name = "ISA,...", value_delimiter = ',', value_parser = isa)]
    pub isa: Vec<Isa>,
    /// Layouts: nchw16c, nhwc or nchw. In nchw16c, layers with fewer than 16 input channels read nchw
    #[arg(long, value_name = "LAYOUT,...", value_delimiter = ',', default_value = "nchw16c", value_parser = layout)]
    pub layout: Vec<Layout>,
    /// Algorithms, auto and measured among them: what the library chooses by its model, and by timing [default: auto, and
    /// all that can do the layer but the reference; with --assert-choice or --measured also measured]
    #[arg(long, value_name = "A,B,...", value_delimiter = ',', value_parser = Candidate::parse)]
    pub algorithm: Vec<Candidate>,
    /// How much rounding error an algorithm may add
    #[arg(long, value_enum, default_value = "default")]
    pub numerics: Precision,
    /// What the numbers are drawn from
    #[arg(long, value_enum, default_value = "uniform")]
    pub numbers: Numbers,
    /// How the result is written
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// Rounds in which all rivals of a layer take turns
    #[arg(long, value_name = "N", default_value = "15", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rounds: u32,
    /// Milliseconds of one turn, at least
    #[arg(long, value_name = "MS", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub turn: u32,
    /// Visit rings of weights and activations in turns, so that they are out of the near caches
    #[arg(long)]
    pub cold: bool,
    /// Megabytes of such a ring
    #[arg(long, value_name = "MB", default_value = "96", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub cold_mb: u32,
    /// Judge the library's choices: print their times by that of the fastest algorithm, and exit with 1 if the geometric
    /// mean of auto loses more per cent than this
    #[arg(long, value_name = "PERCENT")]
    pub assert_choice: Option<f64>,
    /// Also what the library chooses by timing the layer
    #[arg(long)]
    pub measured: bool,
    /// Also so many random layers
    #[arg(long, value_name = "N", default_value = "0")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub random: u32,
    /// Which random layers
    #[arg(long, value_name = "SEED", default_value = "1")]
    pub seed: u64,
    /// Only measure the roofs of this machine, for one thread and for one on each core
    #[arg(long)]
    pub roofs: bool,
    /// Also draw bars and a roofline; with --assert-choice, what the choices lose
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Time nothing, and take the rows that an earlier run has written with --out or --format csv
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["peers", "out", "random", "roofs"])]
    pub redraw: Option<PathBuf>,
    /// Also write the rows there as comma-separated values, layer by layer: what a run that is cut off has found
    #[arg(long, value_name = "FILE.csv")]
    pub out: Option<PathBuf>,
    /// Also time the peers that benches/peers/setup.sh installed there
    #[arg(long, value_name = "DIR")]
    pub peers: Option<PathBuf>,
    /// Which of the peers [default: all that are installed]
    #[arg(long, value_name = "A,B,...", value_delimiter = ',', value_parser = engine, requires = "peers")]
    pub engines: Vec<&'static Engine>,
}

/// Who computes a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    /// Whatever the library chooses by its model.
    Auto,
    /// Whatever it chooses by timing the layer, on the threads of the crew.
    Measured,
    /// This algorithm.
    Forced(Algorithm),
}

impl Candidate {
    /// `auto`, `measured`, or the name of the algorithm.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Measured => "measured",
            Self::Forced(algorithm) => algorithm.name(),
        }
    }

    /// Whether the library chooses.
    pub const fn is_choice(self) -> bool {
        matches!(self, Self::Auto | Self::Measured)
    }

    /// The choices first: an algorithm that is one of them is not timed again.
    fn all() -> impl Iterator<Item = Self> {
        [Self::Auto, Self::Measured].into_iter().chain(Algorithm::ALL.map(Self::Forced))
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        named(text, Self::all(), Self::name)
    }
}

impl Args {
    /// The instruction sets, once each.
    ///
    /// # Errors
    /// One that this machine does not have.
    pub(super) fn isas(&self) -> anyhow::Result<Vec<Isa>> {
        let available: Vec<Isa> = Isa::available().collect();
        if let Some(isa) = self.isa.iter().find(|isa| !available.contains(isa)) {
            let names: Vec<&str> = available.iter().map(|isa| isa.name()).collect();
            anyhow::bail!("this machine has no {isa}, it has {}", names.join(", "));
        }
        Ok(if self.isa.is_empty() { vec![Isa::detect()] } else { once_each(&self.isa) })
    }

    /// The layers of the list, and the random ones.
    ///
    /// # Errors
    /// A name that means nothing.
    pub(super) fn layers(&self) -> anyhow::Result<Vec<LayerSpec>> {
        let listed = layers::select(&self.filter).map_err(anyhow::Error::msg)?;
        let mut layers: Vec<LayerSpec> = listed.into_iter().cloned().collect();
        if self.assert_choice.is_some() {
            layers.retain(|layer| layer.macs <= random::MOST_MACS);
        }
        layers.extend(random::layers(self.random as usize, self.seed));
        Ok(layers)
    }

    /// The candidates, once each.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        if self.algorithm.is_empty() {
            let is_timed = |candidate: &Candidate| match candidate {
                Candidate::Measured => self.measured || self.assert_choice.is_some(),
                other => *other != Candidate::Forced(Algorithm::Reference),
            };
            return Candidate::all().filter(is_timed).collect();
        }
        let (choices, forced): (Vec<_>, Vec<_>) =
            once_each(&self.algorithm).into_iter().partition(|candidate| candidate.is_choice());
        [choices, forced].concat()
    }

    pub(super) fn layouts(&self) -> Vec<Layout> {
        once_each(&self.layout)
    }

    pub(super) fn thread_counts(&self) -> Vec<usize> {
        once_each(&self.threads).into_iter().map(usize::from).collect()
    }

    pub(super) fn memory(&self) -> Memory {
        if self.cold { Memory::Cold((self.cold_mb as usize) << 20) } else { Memory::Warm }
    }

    pub(super) fn slice(&self) -> Duration {
        Duration::from_millis(self.turn.into())
    }

    /// Whether the candidate is as accurate as is asked for.
    pub(super) fn allows(&self, candidate: Candidate, desc: &ConvDesc) -> bool {
        match candidate {
            Candidate::Auto | Candidate::Measured => true,
            Candidate::Forced(algorithm) => algorithm.numerics(desc) <= self.numerics.numerics(),
        }
    }

    pub(super) fn options(&self, candidate: Candidate, isa: Isa, threads: usize) -> PlanOptions {
        let options = PlanOptions::default().isa(isa).max_threads(threads).numerics(self.numerics.numerics());
        match candidate {
            Candidate::Auto => options,
            Candidate::Measured => options.select(Select::Measured),
            Candidate::Forced(algorithm) => options.force(algorithm),
        }
    }
}

fn isa(text: &str) -> Result<Isa, String> {
    let known = [Isa::Portable, Isa::Neon, Isa::Avx2Fma, Isa::Avx512F];
    named(text, known.into_iter(), |isa| isa.name())
}

fn layout(text: &str) -> Result<Layout, String> {
    named(text, Layout::ALL.into_iter(), |layout| layout.name())
}

fn engine(text: &str) -> Result<&'static Engine, String> {
    named(text, Engine::of(Task::Layer), |engine| engine.name)
}
