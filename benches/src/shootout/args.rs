//! The arguments of `shootout`.

use crate::cli::{Format, Precision, named, once_each};
use crate::layer::Memory;
use crate::layers::{self, LayerSpec};
use crate::peers::{Engine, Task};
use crate::problem::Numbers;
use crate::random;
use clap::Parser;
use kernels::{Algorithm, ConvDesc, Isa, Layout, PlanOptions};
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
    /// Algorithms, auto among them: what the library chooses [default: auto, and all that can do the layer but the
    /// reference]
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
    /// Judge the library's choice: print its time by that of the fastest algorithm, and exit with 1 if the geometric mean
    /// loses more per cent than this
    #[arg(long, value_name = "PERCENT")]
    pub assert_choice: Option<f64>,
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
    /// Also draw bars and a roofline
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
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
    /// Whatever the library chooses.
    Auto,
    /// This algorithm.
    Forced(Algorithm),
}

impl Candidate {
    /// `auto`, or the name of the algorithm.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Forced(algorithm) => algorithm.name(),
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Auto).chain(Algorithm::ALL.map(Self::Forced))
    }

    fn parse(text: &str) -> Result<Self, String> {
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
            let is_timed = |candidate: &Candidate| *candidate != Candidate::Forced(Algorithm::Reference);
            return Candidate::all().filter(is_timed).collect();
        }
        once_each(&self.algorithm)
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
            Candidate::Auto => true,
            Candidate::Forced(algorithm) => algorithm.numerics(desc) <= self.numerics.numerics(),
        }
    }

    pub(super) fn options(&self, candidate: Candidate, isa: Isa, threads: usize) -> PlanOptions {
        let options = PlanOptions::default().isa(isa).max_threads(threads).numerics(self.numerics.numerics());
        match candidate {
            Candidate::Auto => options,
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
