//! `nets demo`: LeNet-5 reads the held-out digits.

mod degradation;

use super::args::{Hardware, Plain};
use super::{cpu, text};
use clap::{Args, Subcommand};
use kernels::{Isa, Numerics, Products, Threads};
use nets::digits::{Digits, trained_weights};
use nets::{Net, NetError, StepReport, to_safetensors, write, zoo};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const CLASSES: usize = 10;
/// Timing ends after `FEWEST_PASSES` passes and `SHORTEST` time, and at the latest after `LONGEST`.
const FEWEST_PASSES: usize = 9;
const SHORTEST: Duration = Duration::from_millis(400);
const LONGEST: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  nets demo --threads 1 --isa portable --format json",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Demo {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    hardware: Hardware,
    /// Images per forward pass
    #[arg(long, value_name = "N", default_value_t = Demo::BATCH, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: u16,
    /// Format of the results
    #[arg(long, value_enum, default_value_t)]
    format: Plain,
    /// Also write the logits to this safetensors file, as one F32 tensor `logits` [1000, 10]
    #[arg(long, value_name = "FILE")]
    logits: Option<PathBuf>,
}

/// Other demonstrations.
#[derive(Debug, Subcommand)]
enum Other {
    /// Train plain and residual networks of 20 and 56 layers: only the plain ones get worse with depth
    Degradation(Box<degradation::Degradation>),
}

impl Default for Demo {
    fn default() -> Self {
        Self {
            other: None,
            hardware: Hardware::default(),
            batch: Self::BATCH,
            format: Plain::Text,
            logits: None,
        }
    }
}

/// The output of `--format json`.
#[derive(Serialize)]
struct DemoReport {
    isa: &'static str,
    threads: usize,
    digits: usize,
    accuracy: f64,
    numerics: &'static str,
    /// The accuracy at every level, by its name.
    accuracy_at: BTreeMap<&'static str, f64>,
    /// The unit of this machine for bf16 products; `null` if it has none.
    bf16_unit: Option<&'static str>,
    images_per_second: f64,
    params: u64,
    macs: u64,
    layers: Vec<DemoLayer>,
}

#[derive(Serialize)]
struct DemoLayer {
    name: String,
    op: String,
    output: Vec<usize>,
    params: u64,
    macs: u64,
    algorithm: Option<&'static str>,
    products: Option<&'static str>,
    /// The algorithm with its products.
    #[serde(skip)]
    method: String,
    kernel: Option<&'static str>,
}

impl From<StepReport> for DemoLayer {
    fn from(step: StepReport) -> Self {
        let method = step.method().map_or("-".to_owned(), |method| method.to_string());
        let StepReport { name, op, output, params, macs, algorithm, products, kernel, .. } = step;
        let algorithm = algorithm.map(|algorithm| algorithm.name());
        let products = products.map(|products| products.name());
        Self { name, op, output: output.dims(), params, macs, algorithm, products, method, kernel }
    }
}

/// All digits in batches. Empty images fill up the last one.
struct Inputs {
    numbers: Vec<f32>,
    batch_len: usize,
    digits: usize,
}

impl Inputs {
    fn new(digits: &Digits, batch: usize) -> Self {
        let (mut numbers, digits) = (digits.inputs(), digits.len());
        let image = numbers.len() / digits;
        numbers.resize(digits.next_multiple_of(batch) * image, 0.0);
        Self { numbers, batch_len: batch * image, digits }
    }

    fn batches(&self) -> impl Iterator<Item = &[f32]> {
        self.numbers.chunks_exact(self.batch_len)
    }

    fn logits(&self, net: &mut Net, threads: Threads<'_>) -> Result<Vec<f32>, NetError> {
        let mut logits = Vec::new();
        for images in self.batches() {
            logits.extend_from_slice(net.run(images, threads)?);
        }
        logits.truncate(self.digits * CLASSES);
        Ok(logits)
    }
}

/// What the network reads at one level of rounding error.
struct Level {
    numerics: Numerics,
    right: usize,
    /// The products of its layers.
    products: Vec<Products>,
}

/// The logits of all digits, and the speed.
struct Reading {
    logits: Vec<f32>,
    right: usize,
    passes: usize,
    images_per_second: f64,
}

impl Demo {
    const BATCH: u16 = 50;

    pub(super) fn execute(&self) -> anyhow::Result<String> {
        if let Some(Other::Degradation(degradation)) = &self.other {
            return degradation.execute();
        }
        let digits = Digits::held_out()?;
        let inputs = Inputs::new(&digits, self.batch.into());
        let pool = self.hardware.pool()?;
        let mut net = self.net(self.hardware.numerics())?;
        let reading = read(&mut net, &inputs, digits.labels(), pool.threads())?;
        if let Some(path) = &self.logits {
            let dims = [digits.len(), CLASSES];
            write(path, &to_safetensors(&[("logits", &dims, &reading.logits)]))?;
        }
        let level = |numerics| self.level(numerics, &inputs, digits.labels(), pool.threads());
        let levels = Numerics::ALL.into_iter().map(level).collect::<Result<Vec<Level>, NetError>>()?;
        let report = self.report(&net, &digits, &reading, &levels);
        Ok(match self.format {
            Plain::Json => serde_json::to_string(&report)? + "\n",
            Plain::Text => self.text(&report, &reading, &levels),
        })
    }

    fn net(&self, numerics: Numerics) -> Result<Net, NetError> {
        let graph = zoo::lenet5()?;
        let options = self.hardware.options(self.batch.into()).numerics(numerics);
        Net::new(&graph, &trained_weights(&graph)?, &options)
    }

    fn level(
        &self,
        numerics: Numerics,
        inputs: &Inputs,
        labels: &[u8],
        threads: Threads<'_>,
    ) -> Result<Level, NetError> {
        let mut net = self.net(numerics)?;
        let right = right(&inputs.logits(&mut net, threads)?, labels);
        let mut products: Vec<Products> = net.steps().filter_map(|step| step.products).collect();
        products.sort_unstable();
        products.dedup();
        Ok(Level { numerics, right, products })
    }

    fn report(&self, net: &Net, digits: &Digits, reading: &Reading, levels: &[Level]) -> DemoReport {
        let share = |right: usize| right as f64 / digits.len() as f64;
        DemoReport {
            isa: net.isa().name(),
            threads: self.hardware.threads(),
            digits: digits.len(),
            accuracy: share(reading.right),
            numerics: self.hardware.numerics().name(),
            accuracy_at: levels.iter().map(|level| (level.numerics.name(), share(level.right))).collect(),
            bf16_unit: cpu::bf16_unit(Isa::detect()),
            images_per_second: reading.images_per_second.round(),
            params: net.count().params,
            macs: net.count().macs,
            layers: net.steps().map(DemoLayer::from).collect(),
        }
    }

    fn text(&self, report: &DemoReport, reading: &Reading, levels: &[Level]) -> String {
        let thousands = text::thousands;
        let threads =
            if report.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", report.threads) };
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "CPU        {}: {} kernels, {threads}", cpu::name(), report.isa);
        let _ = writeln!(out, "bf16 unit  {}", report.bf16_unit.unwrap_or("none"));
        let _ = writeln!(out, "Network    LeNet-5 (LeCun et al. 1998), trained on other handwritten digits");
        let _ = writeln!(
            out,
            "Accuracy   {:.1} %: {} of {} held-out digits read correctly",
            report.accuracy * 100.0,
            thousands(reading.right as u64),
            thousands(report.digits as u64),
        );
        let _ = writeln!(
            out,
            "Speed      {} images per second (batches of {}, median of {} passes)\n",
            thousands(report.images_per_second as u64),
            self.batch,
            thousands(reading.passes as u64),
        );
        out + &table(report) + &accuracies(levels, report.digits) + NEXT
    }
}

/// One line for each level.
fn accuracies(levels: &[Level], digits: usize) -> String {
    let mut out = "\nDigits read correctly at each level of --numerics:\n".to_owned();
    for Level { numerics, right, products } in levels {
        let share = 100.0 * *right as f64 / digits as f64;
        let products: Vec<&str> = products.iter().map(|products| products.name()).collect();
        let (right, digits) = (text::thousands(*right as u64), text::thousands(digits as u64));
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "  {numerics:8} {share:.1} %: {right} of {digits}, products of {}",
            products.join(", ")
        );
    }
    out
}

const NEXT: &str = "
Next:
  cargo run --release -- run lenet5 --image nets/data/samples/photo-3.png   (or a picture of your own)
  cargo run --release -- demo --threads 1 --isa portable
  cargo run --release -- conv --input 1x64x56x56 --out 128 --kernel 3 --pad 1
  cargo run --release -- --help
";

fn table(report: &DemoReport) -> String {
    let mut table =
        text::table(&["Layer", "Op", "Output", "Params", "MACs", "Algorithm", "Kernel"], &[2, 3, 4]);
    for row in &report.layers {
        let dims: Vec<String> = row.output.iter().map(usize::to_string).collect();
        table.add_row([
            row.name.clone(),
            row.op.clone(),
            dims.join("x"),
            text::thousands(row.params),
            text::thousands(row.macs),
            row.method.clone(),
            row.kernel.unwrap_or("-").to_owned(),
        ]);
    }
    let (params, macs) = (text::thousands(report.params), text::thousands(report.macs));
    table.add_row(["total", "", "", &params, &macs, "", ""]);
    text::lines(&table)
}

/// Reads all digits once, and then for the speed.
fn read(net: &mut Net, inputs: &Inputs, labels: &[u8], threads: Threads<'_>) -> Result<Reading, NetError> {
    let logits = inputs.logits(net, threads)?;
    let mut times: Vec<Duration> = Vec::new();
    while !is_enough(&times) {
        let start = Instant::now();
        for images in inputs.batches() {
            net.run(images, threads)?;
        }
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let images_per_second = inputs.digits as f64 / times[times.len() / 2].as_secs_f64();
    Ok(Reading { right: right(&logits, labels), logits, passes: times.len(), images_per_second })
}

fn is_enough(times: &[Duration]) -> bool {
    let total = times.iter().sum::<Duration>();
    total >= LONGEST || (times.len() >= FEWEST_PASSES && total >= SHORTEST)
}

fn right(logits: &[f32], labels: &[u8]) -> usize {
    let answers = logits.chunks_exact(CLASSES).map(most_likely);
    answers.zip(labels).filter(|&(answer, &label)| answer == usize::from(label)).count()
}

/// The index of the largest number.
pub(super) fn most_likely(numbers: &[f32]) -> usize {
    let classes = numbers.iter().enumerate();
    classes.max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(class, _)| class)
}
