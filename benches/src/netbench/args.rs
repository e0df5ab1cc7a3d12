//! The arguments of `netbench`.

use super::model::Network;
use crate::cli::{Format, named, once_each};
use crate::peers::{Engine, Task};
use clap::Parser;
use kernels::{Isa, Numerics};
use std::path::PathBuf;
use std::time::Duration;

/// Times whole networks in all engines, from the same ONNX files, in turns with the FMA roof of the machine,
/// and compares the outputs
#[derive(Debug, Clone, Parser)]
#[command(name = "netbench", version)]
pub struct Args {
    /// Networks of the zoo, or .onnx files for all engines [default: the networks in docs/results]
    #[arg(long, value_name = "A,FILE.onnx,...", value_delimiter = ',')]
    pub nets: Vec<String>,
    /// Numbers of threads. Without peers, all of them take turns with each other
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Vec<u16>,
    /// Images per forward pass
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: Vec<u16>,
    /// Maximum rounding errors that the library's algorithms may add: strict, default, fast, tf32 or bf16. Each is
    /// an engine of its own
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "default")]
    pub numerics: Vec<Numerics>,
    /// Instruction set of the library, and of the peers that can be limited to it: avx2fma, avx512f, ...
    /// [default: the best of this machine]
    #[arg(long, value_name = "ISA", value_parser = isa, conflicts_with = "accuracy")]
    pub isa: Option<Isa>,
    /// Seconds per engine and network, over all rounds together
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds)]
    pub seconds: Duration,
    /// Number of rounds; every engine takes one turn per round
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rounds: u32,
    /// Format of the results
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// Also time the library's layers alone with cold weights, and report the share of a pass outside of them
    #[arg(long)]
    pub layers: bool,
    /// Compare outputs instead of timing: report the error against PyTorch in f64, for one image and one thread
    #[arg(long, requires = "peers", conflicts_with_all = ["layers", "threads", "batch", "engines", "numerics"])]
    pub accuracy: bool,
    /// Also time the peers that benches/peers/setup.sh installed in this folder
    #[arg(long, value_name = "DIR")]
    pub peers: Option<PathBuf>,
    /// Peers to time [default: all of the precisions of --numerics that are installed]
    #[arg(long, value_name = "A,B,...", value_delimiter = ',', value_parser = engine, requires = "peers")]
    pub engines: Vec<&'static Engine>,
}

/// The networks of the committed results.
const USUAL: [&str; 15] = [
    "lenet5",
    "nin",
    "alexnet-torchvision",
    "googlenet-torchvision",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "vgg16",
    "vgg19",
    "mobilenet-v2",
    "efficientnet-b0",
    "resnext50-32x4d",
    "densenet121",
];

impl Args {
    /// The selected networks without duplicates.
    ///
    /// # Errors
    /// Those of [`Network::find`].
    pub(super) fn networks(&self) -> anyhow::Result<Vec<Network>> {
        let wanted: Vec<&str> = match &self.nets[..] {
            [] => USUAL.to_vec(),
            names => once_each(&names.iter().map(String::as_str).collect::<Vec<_>>()),
        };
        wanted.into_iter().map(Network::find).collect()
    }

    pub(super) fn thread_counts(&self) -> Vec<usize> {
        once_each(&self.threads).into_iter().map(usize::from).collect()
    }

    pub(super) fn batches(&self) -> Vec<usize> {
        once_each(&self.batch).into_iter().map(usize::from).collect()
    }

    pub(super) fn isa(&self) -> Isa {
        self.isa.unwrap_or(Isa::detect())
    }

    /// Duration of one turn.
    pub(super) fn slice(&self) -> Duration {
        self.seconds / self.rounds
    }

    /// The engines that stand for the library, the most accurate first.
    pub(super) fn ours(&self) -> impl Iterator<Item = &'static Engine> {
        Engine::OURS.iter().filter(|engine| self.numerics.contains(&engine.numerics))
    }
}

fn isa(text: &str) -> Result<Isa, String> {
    named(text, Isa::available(), |isa| isa.to_string())
}

fn engine(text: &str) -> Result<&'static Engine, String> {
    named(text, Engine::of(Task::Network), |engine| engine.name.to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected seconds, above 0 and at most 3600, got {text}");
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if seconds > 0.0 && seconds <= 3600.0 { Ok(Duration::from_secs_f64(seconds)) } else { Err(wrong()) }
}
