//! The command line, one module per command. Every command returns its whole output as text.

mod args;
mod bench;
mod check;
mod conv;
mod count;
mod cpu;
mod demo;
mod ensemble;
mod explain;
mod export;
mod planning;
mod roofline;
mod roofs;
mod rows;
mod run;
mod search;
mod source;
mod text;
mod timing;
mod train;

use clap::{Parser, Subcommand};

/// Reference networks on fast CPU convolutions.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "Without a command, `nets` runs `nets demo`.\n\n\
    Examples:\n  \
    nets demo --threads 1 --isa portable\n  \
    nets run lenet5 --image digit.png\n  \
    nets count resnet50\n  \
    nets count model.onnx --format json\n  \
    nets count resnet152 --graph resnet152.svg\n  \
    nets train lenet5 --plot curves.svg\n  \
    nets bench googlenet --threads 1 --per-layer\n  \
    nets explain resnet50\n  \
    nets conv --input 1x64x56x56 --out 128 --kernel 3 --pad 1 --time";

#[derive(Debug, Subcommand)]
enum Command {
    /// Read 1,000 unseen handwritten digits with LeNet-5: accuracy, speed and layers
    Demo(demo::Demo),
    /// Run a network or an ONNX file on pictures or a tensor
    Run(run::RunArgs),
    /// Count the parameters, MACs, FLOPs and memory of a network or an ONNX file, layer by layer
    Count(Box<count::Count>),
    /// Time a network or an ONNX file, as a whole and layer by layer
    Bench(Box<bench::Bench>),
    /// Train a network on digits, MNIST, CIFAR-10 or folders of pictures
    Train(Box<train::Train>),
    /// Check a network before a long training: first loss, a few pictures by heart, learning rates, gradients, activations
    Check(Box<check::Check>),
    /// Search learning rates and other hyperparameters: random, on a grid, coarse to fine, with cross-validation
    Search(Box<search::Search>),
    /// Average the answers or the weights of several trained networks
    Ensemble(ensemble::EnsembleArgs),
    /// Write a network and its weights as an ONNX file
    Export(export::Export),
    /// Explain how each convolution of a network is computed, without running it
    Explain(explain::Explain),
    /// Explain how one convolution would be computed and what it costs, and time it on request
    Conv(conv::Conv),
}

impl Cli {
    pub(crate) fn execute(self) -> anyhow::Result<String> {
        match self.command.unwrap_or(Command::Demo(demo::Demo::default())) {
            Command::Demo(demo) => demo.execute(),
            Command::Run(run) => run.execute(),
            Command::Count(count) => count.execute(),
            Command::Bench(bench) => bench.execute(),
            Command::Train(train) => train.execute(),
            Command::Check(check) => check.execute(),
            Command::Search(search) => search.execute(),
            Command::Ensemble(ensemble) => ensemble.execute(),
            Command::Export(export) => export.execute(),
            Command::Explain(explain) => explain.execute(),
            Command::Conv(conv) => conv.execute(),
        }
    }
}
