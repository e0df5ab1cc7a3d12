//! The arguments of `shootout`.

use crate::cli::{Format, named, once_each};
use crate::described;
use crate::direction::Direction;
use crate::layer::Memory;
use crate::layers::{LayerSpec, List};
use crate::peers::{Engine, Task};
use crate::problem::Numbers;
use crate::random;
use clap::Parser;
use kernels::{Algorithm, ConvDesc, Isa, Layout, Method, Numerics, PlanOptions, Products, Select};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Times every algorithm on the layers of a list, or on given or random layers, in turns with the FMA roof of the
/// machine and with the peers, and checks every output
#[derive(Debug, Clone, Parser)]
#[command(name = "shootout", version)]
pub struct Args {
    /// What to compute of each layer
    #[arg(long, value_enum, value_name = "D,...", value_delimiter = ',', default_value = "forward")]
    pub direction: Vec<Direction>,
    /// The list of layers
    #[arg(long, value_enum, default_value = "networks")]
    pub list: List,
    /// Time every layer with this number of images
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch: Option<u16>,
    /// Layers of the list to time: ids, prefixes of ids, networks, or all; also ids of random layers [default: all,
    /// or none with --layer, --layers or --random]
    #[arg(long, value_name = "A,B,...", value_delimiter = ',')]
    pub filter: Vec<String>,
    /// Time this layer, such as "1x64x56x56 -> 128 3x3 s1 p1 g1 d1": stride, padding, groups and dilation are
    /// optional. Repeat the option for several layers
    #[arg(long, value_name = "NxCxHxW -> O KHxKW", value_parser = described::by_text)]
    pub layer: Vec<LayerSpec>,
    /// Time the layers of this file: columns n, c, h, w, o, kh and kw, and optionally stride, pad, dilation, groups
    /// and id
    #[arg(long, value_name = "FILE.csv")]
    pub layers: Vec<PathBuf>,
    /// Numbers of threads
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Vec<u16>,
    /// Instruction sets: portable, neon, avx2fma, avx512f, avx512bf16 or amx [default: the best of this machine]
    #[arg(long, value_name = "ISA,...", value_delimiter = ',', value_parser = isa)]
    pub isa: Vec<Isa>,
    /// Layouts: nchw16c, nhwc or nchw. In nchw16c, layers with fewer than 16 input channels and no groups read nchw
    #[arg(long, value_name = "LAYOUT,...", value_delimiter = ',', default_value = "nchw16c", value_parser = layout)]
    pub layout: Vec<Layout>,
    /// Algorithms to time, such as direct, or with bf16 products direct+bf16x3. auto is the library's choice by
    /// its model, measured its choice by timing [default: auto and every algorithm that can do the layer except
    /// the reference, also with the bf16 products of the instruction set that --numerics allows; with
    /// --assert-choice or --measured also measured]
    #[arg(long, value_name = "A,B,...", value_delimiter = ',', value_parser = Candidate::parse)]
    pub algorithm: Vec<Candidate>,
    /// Maximum rounding error that an algorithm may add: strict, default, fast, tf32 or bf16. With bf16, peers
    /// use bf16 products, too
    #[arg(long, default_value = "default")]
    pub numerics: Numerics,
    /// Distribution of weights and inputs
    #[arg(long, value_enum, default_value = "uniform")]
    pub numbers: Numbers,
    /// Format of the results
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// Number of rounds; every rival of a layer takes one turn per round
    #[arg(long, value_name = "N", default_value = "15", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rounds: u32,
    /// Minimum milliseconds per turn
    #[arg(long, value_name = "MS", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub turn: u32,
    /// Evict weights and activations from the inner caches by cycling through a ring of copies
    #[arg(long)]
    pub cold: bool,
    /// Megabytes of the ring
    #[arg(long, value_name = "MB", default_value = "96", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub cold_mb: u32,
    /// Compare the library's choices with the fastest algorithm, and exit with 1 if auto is slower by more
    /// than this many per cent (geometric mean)
    #[arg(long, value_name = "PERCENT")]
    pub assert_choice: Option<f64>,
    /// Also time the library's choice by timing
    #[arg(long)]
    pub measured: bool,
    /// Time this many random layers
    #[arg(long, value_name = "N", default_value = "0")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub random: u32,
    /// Seed of the random layers
    #[arg(long, value_name = "SEED", default_value = "1")]
    pub seed: u64,
    /// Only measure the roofs of this machine, with one thread and with one thread per core
    #[arg(long)]
    pub roofs: bool,
    /// Time no layer, and report how evenly 4 to 128 threads would share each layer, computed from where the output
    /// is split. Reports avx512f and avx2fma unless --isa names others
    #[arg(long)]
    #[arg(conflicts_with_all = ["peers", "out", "plot", "redraw", "roofs", "algorithm", "assert_choice", "threads", "cold", "summary", "direction"])]
    pub balance: bool,
    /// Also draw the results as bars and a roofline; with --assert-choice, draw the loss of the choices
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Time nothing, and redraw the rows that an earlier run wrote with --out or --format csv
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["peers", "out", "random", "layer", "layers", "roofs", "direction", "list", "batch"])]
    pub redraw: Option<PathBuf>,
    /// Also write the rows as comma-separated values, after each layer, so that an interrupted run keeps its results
    #[arg(long, value_name = "FILE.csv")]
    pub out: Option<PathBuf>,
    /// Also write the comparison with the peers by kind of layer as comma-separated values
    #[arg(long, value_name = "FILE.csv")]
    pub summary: Option<PathBuf>,
    /// Also time the peers that benches/peers/setup.sh installed in this folder
    #[arg(long, value_name = "DIR")]
    pub peers: Option<PathBuf>,
    /// Peers to time [default: all of the precision of --numerics that are installed]
    #[arg(long, value_name = "A,B,...", value_delimiter = ',', value_parser = engine, requires = "peers")]
    pub engines: Vec<&'static Engine>,
}

/// How the algorithm for a layer is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    /// The library chooses by its model.
    Auto,
    /// The library chooses by timing the layer, on the threads of the crew.
    Measured,
    /// This method is forced.
    Forced(Method),
}

impl fmt::Display for Candidate {
    /// The name in arguments and rows: `auto`, `measured`, or the method.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Measured => f.pad("measured"),
            Self::Forced(method) => method.fmt(f),
        }
    }
}

impl Candidate {
    /// Whether the library chooses.
    pub const fn is_choice(self) -> bool {
        matches!(self, Self::Auto | Self::Measured)
    }

    /// All candidates with these products, choices first: a method that a choice selects is not timed again.
    fn all(products: &[Products]) -> impl Iterator<Item = Self> {
        [Self::Auto, Self::Measured].into_iter().chain(Method::all(products).map(Self::Forced))
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        named(text, Self::all(&Products::ALL), |candidate| candidate.to_string())
    }
}

impl Args {
    /// The instruction sets without duplicates.
    ///
    /// # Errors
    /// An instruction set that this machine does not have.
    pub(super) fn isas(&self) -> anyhow::Result<Vec<Isa>> {
        let available: Vec<Isa> = Isa::available().collect();
        if let Some(isa) = self.isa.iter().find(|isa| !available.contains(isa)) {
            let names: Vec<&str> = available.iter().map(|isa| isa.name()).collect();
            anyhow::bail!("this machine does not support {isa}, only {}", names.join(", "));
        }
        Ok(if self.isa.is_empty() { vec![Isa::detect()] } else { once_each(&self.isa) })
    }

    /// The selected layers of the list, then the given ones, then the random ones. Without a filter, given or random
    /// layers replace the list.
    ///
    /// # Errors
    /// A name that selects nothing, a file of layers that is invalid, or two layers with the same id.
    pub(super) fn layers(&self) -> anyhow::Result<Vec<LayerSpec>> {
        let mut others = self.layer.clone();
        for file in &self.layers {
            others.extend(described::in_file(file)?);
        }
        others.extend(random::layers(self.random as usize, self.seed));
        let mut layers = match self.filter.is_empty() && !others.is_empty() {
            true => Vec::new(),
            false => described::select(self.list, &self.filter).map_err(anyhow::Error::msg)?,
        };
        layers = self.at_batch(layers);
        if self.assert_choice.is_some() {
            layers.retain(|layer| layer.macs <= random::MOST_MACS);
        }
        layers.extend(self.at_batch(others));
        described::distinct(layers).map_err(anyhow::Error::msg)
    }

    fn at_batch(&self, layers: Vec<LayerSpec>) -> Vec<LayerSpec> {
        match self.batch {
            Some(n) => layers.into_iter().map(|layer| layer.at_batch(n.into())).collect(),
            None => layers,
        }
    }

    /// The directions without duplicates.
    ///
    /// # Errors
    /// A choice by timing, if a direction has none.
    pub(super) fn directions(&self) -> anyhow::Result<Vec<Direction>> {
        let directions = once_each(&self.direction);
        let asked = self.measured || self.algorithm.contains(&Candidate::Measured);
        if let Some(other) = directions.iter().find(|&&direction| asked && !self.can_measure(direction)) {
            anyhow::bail!(
                "measured: expected a direction with a choice by timing, got {other}{}",
                if self.cold { " with --cold" } else { "" }
            );
        }
        Ok(directions)
    }

    /// Whether the library can choose by timing. The gradient of weights is chosen by the model alone. The phases of a
    /// stride can be timed differently in each slot of a ring, whose slots must compute the same.
    fn can_measure(&self, direction: Direction) -> bool {
        direction != Direction::Weights && !(self.cold && direction.has_phases())
    }

    /// The candidates for `desc` in `direction` on `isa`, without duplicates. By default, `f32` methods are timed even
    /// if `--numerics` does not allow them.
    pub(super) fn candidates(&self, isa: Isa, direction: Direction, desc: &ConvDesc) -> Vec<Candidate> {
        if self.algorithm.is_empty() {
            let is_timed = |candidate: &Candidate| match candidate {
                Candidate::Auto => true,
                Candidate::Measured => {
                    self.can_measure(direction) && (self.measured || self.assert_choice.is_some())
                }
                Candidate::Forced(Method { algorithm: Algorithm::Reference, .. }) => false,
                Candidate::Forced(method) => {
                    method.products == Products::F32 || self.allows(*candidate, desc)
                }
            };
            return Candidate::all(isa.products()).filter(is_timed).collect();
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

    /// Whether the candidate is accurate enough for `--numerics`.
    pub(super) fn allows(&self, candidate: Candidate, desc: &ConvDesc) -> bool {
        match candidate {
            Candidate::Auto | Candidate::Measured => true,
            Candidate::Forced(method) => method.numerics(desc) <= self.numerics,
        }
    }

    pub(super) fn options(&self, candidate: Candidate, isa: Isa, threads: usize) -> PlanOptions {
        let mut options = PlanOptions::default().isa(isa).max_threads(threads).numerics(self.numerics);
        if let Memory::Cold(ring) = self.memory() {
            options = options.bytes_between_runs(ring);
        }
        match candidate {
            Candidate::Auto => options,
            Candidate::Measured => options.select(Select::Measured),
            Candidate::Forced(method) => options.force(method),
        }
    }
}

// Where `FromStr` lists all names, these also suggest the nearest one.
fn isa(text: &str) -> Result<Isa, String> {
    named(text, Isa::ALL.into_iter(), |isa| isa.to_string())
}

fn layout(text: &str) -> Result<Layout, String> {
    named(text, Layout::ALL.into_iter(), |layout| layout.to_string())
}

fn engine(text: &str) -> Result<&'static Engine, String> {
    named(text, Engine::of(Task::Layer), |engine| engine.name.to_owned())
}
