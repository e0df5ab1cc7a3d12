//! Times planning: the choice by the model for each layer of the list, and the plans of a whole network. For
//! the network, it times the choice by the model, packing alone, and the choice by timing, cold and with
//! wisdom. Run `cargo bench -p benches --bench planning`, with `-- resnet50 vgg16` for networks other than
//! ResNet-152, or with `-- --test` to do everything once.

use anyhow::Context;
use benches::layer::Layouts;
use benches::pin::Crew;
use benches::turns::{least, median};
use benches::{layers, random, values};
use kernels::{ConvDesc, ConvPlan, Isa, Layout, PlanOptions, Select, Weights, Wisdom};
use nets::{CompiledNet, Init, NetOptions, SeededWeights, zoo};
use std::time::Instant;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds = if arguments.iter().any(|argument| argument == "--test") { 1 } else { 7 };
    let mut names: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|name| !name.starts_with('-')).collect();
    if names.is_empty() {
        names.push("resnet152");
    }
    of_layers(rounds)?;
    for name in names {
        for threads in [1, 2] {
            of_network(name, threads, rounds)?;
        }
    }
    Ok(())
}

/// The model alone: microseconds per layer, for the list and for 300 random layers.
fn of_layers(rounds: usize) -> anyhow::Result<()> {
    println!("{:<24} {:>8} {:>10} {:>10}", "choice by the model", "layers", "median us", "most us");
    let specs: Vec<_> = layers::all().iter().cloned().chain(random::layers(300, 7)).collect();
    for isa in Isa::available() {
        let options = PlanOptions::default().isa(isa).max_threads(1);
        let mut microseconds = Vec::with_capacity(specs.len());
        for spec in &specs {
            let desc = Layouts::of_network(Layout::Nchw16c, spec).on(spec.builder()).build()?;
            let mut of_layer = Vec::with_capacity(rounds);
            for _ in 0..rounds {
                let (seconds, _) = timed(|| ConvPlan::choice(&desc, &options))?;
                of_layer.push(1e6 * seconds);
            }
            microseconds.push(least(&of_layer));
        }
        let most = microseconds.iter().copied().fold(0.0, f64::max);
        println!("{:<24} {:>8} {:>10.1} {most:>10.1}", isa.name(), specs.len(), median(&microseconds));
    }
    println!();
    Ok(())
}

/// A convolution with its weights.
struct WeightedConv<'a> {
    desc: ConvDesc,
    filter: &'a [f32],
    bias: Option<&'a [f32]>,
}

impl WeightedConv<'_> {
    fn weights(&self) -> Weights<'_> {
        Weights { filter: self.filter, bias: self.bias, slope: None }
    }
}

/// Every convolution of a network: choice and packing, in turns.
fn of_network(name: &str, threads: usize, rounds: usize) -> anyhow::Result<()> {
    let graph = zoo::find(name)?.graph()?;
    let net_options = NetOptions::default().max_threads(threads);
    let net = CompiledNet::new(&graph, &SeededWeights::new(&graph, Init::He, 1)?, &net_options)?;
    // Timing never chooses the algorithm of a fully connected layer.
    let descs = net.explain().map(|(_, report)| report.desc).filter(|desc| desc.layout() != Layout::Nhwc);
    let descs: Vec<ConvDesc> = descs.collect();
    drop(net);
    let numbers = values(descs.iter().map(ConvDesc::filter_len).sum(), 1);
    let layers = with_weights(&descs, &numbers)?;
    let crew = Crew::new(threads)?;
    let options = PlanOptions::default().max_threads(threads);
    let measured = options.select(Select::Measured);
    let choices: Vec<_> =
        layers.iter().map(|layer| ConvPlan::choice(&layer.desc, &options)).collect::<Result<_, _>>()?;
    let mut wisdom = Wisdom::new();
    let mut stages = [
        Stage::new("choice by the model"),
        Stage::new("packing"),
        Stage::new("measured and packed"),
        Stage::new("wisdom and packed"),
    ];
    for _ in 0..rounds {
        crew.enter(|| {
            stages[0].time(&layers, |layer| ConvPlan::choice(&layer.desc, &options))?;
            let chosen = |index: usize| options.force(choices[index].method);
            let mut index = 0..;
            stages[1].time(&layers, |layer| {
                ConvPlan::new(&layer.desc, layer.weights(), &chosen(index.next().unwrap_or(0)))
            })?;
            wisdom = Wisdom::new();
            let plan = |layer: &WeightedConv<'_>| {
                ConvPlan::with_wisdom(&layer.desc, layer.weights(), &measured, &wisdom)
            };
            stages[2].time(&layers, plan)?;
            stages[3].time(&layers, plan)
        })?;
    }
    let megabytes = numbers.len() as f64 * 4e-6;
    println!(
        "{name}, {threads} thread(s): {} convolutions, {} different ones, {megabytes:.0} MB of weights",
        layers.len(),
        wisdom.len()
    );
    println!("{:<24} {:>10} {:>10}", "", "median ms", "best ms");
    for Stage { name, seconds } in &stages {
        println!("{name:<24} {:>10.1} {:>10.1}", 1e3 * median(seconds), 1e3 * least(seconds));
    }
    println!();
    Ok(())
}

fn with_weights<'a>(descs: &[ConvDesc], mut numbers: &'a [f32]) -> anyhow::Result<Vec<WeightedConv<'a>>> {
    let layer = |desc: &ConvDesc| {
        let (filter, rest) = numbers.split_at_checked(desc.filter_len())?;
        let bias = desc.epilogue().bias.then(|| &filter[..desc.output().c]);
        numbers = rest;
        Some(WeightedConv { desc: *desc, filter, bias })
    };
    descs.iter().map(layer).collect::<Option<_>>().context("too few numbers")
}

/// One way to plan all layers, with the seconds of each round.
struct Stage {
    name: &'static str,
    seconds: Vec<f64>,
}

impl Stage {
    fn new(name: &'static str) -> Self {
        Self { name, seconds: Vec::new() }
    }

    /// Results are dropped only after the clock has stopped.
    fn time<'a, 'b: 'a, R>(
        &mut self,
        layers: &'a [WeightedConv<'b>],
        plan: impl FnMut(&'a WeightedConv<'b>) -> Result<R, kernels::ConvError>,
    ) -> anyhow::Result<()> {
        let (seconds, _) = timed(|| layers.iter().map(plan).collect::<Result<Vec<R>, _>>())?;
        self.seconds.push(seconds);
        Ok(())
    }
}

/// The seconds that `work` takes, and its result.
fn timed<R, E: Into<anyhow::Error>>(work: impl FnOnce() -> Result<R, E>) -> anyhow::Result<(f64, R)> {
    let start = Instant::now();
    let result = work();
    let seconds = start.elapsed().as_secs_f64();
    Ok((seconds, result.map_err(Into::into)?))
}
