//! `nets demo`: LeNet-5 reads the held-out digits.

use super::args::{Hardware, Plain};
use super::{cpu, text};
use clap::Args;
use nets::digits::{Digits, trained_weights};
use nets::{Net, StepReport, to_safetensors, write, zoo};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const CLASSES: usize = 10;
/// Timing ends after `FEWEST_PASSES` passes and `SHORTEST` time, and at the latest after `LONGEST`.
const FEWEST_PASSES: usize = 9;
const SHORTEST: Duration = Duration::from_millis(400);
const LONGEST: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  nets demo --threads 1 --isa portable --format json")]
pub(crate) struct Demo {
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

impl Default for Demo {
    fn default() -> Self {
        Self { hardware: Hardware::default(), batch: Self::BATCH, format: Plain::Text, logits: None }
    }
}

/// The output of `--format json`.
#[derive(Serialize)]
struct DemoReport {
    isa: &'static str,
    threads: usize,
    digits: usize,
    accuracy: f64,
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
    kernel: Option<&'static str>,
}

impl From<StepReport> for DemoLayer {
    fn from(step: StepReport) -> Self {
        let StepReport { name, op, output, params, macs, algorithm, kernel, .. } = step;
        let algorithm = algorithm.map(|algorithm| algorithm.name());
        Self { name, op, output: output.dims(), params, macs, algorithm, kernel }
    }
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
        let digits = Digits::held_out()?;
        let graph = zoo::lenet5()?;
        let options = self.hardware.options(usize::from(self.batch));
        let mut net = Net::new(&graph, &trained_weights(&graph)?, &options)?;
        let reading = self.read(&mut net, &digits)?;
        if let Some(path) = &self.logits {
            let dims = [digits.len(), CLASSES];
            write(path, &to_safetensors(&[("logits", &dims, &reading.logits)]))?;
        }
        let report = self.report(&net, &digits, &reading);
        Ok(match self.format {
            Plain::Json => serde_json::to_string(&report)? + "\n",
            Plain::Text => self.text(&report, &reading),
        })
    }

    fn read(&self, net: &mut Net, digits: &Digits) -> anyhow::Result<Reading> {
        let (pool, batch) = (self.hardware.pool()?, usize::from(self.batch));
        let mut inputs = digits.inputs();
        let image = inputs.len() / digits.len();
        // Fill up the last batch with empty images.
        inputs.resize(digits.len().next_multiple_of(batch) * image, 0.0);
        let batches = || inputs.chunks_exact(batch * image);

        let mut logits = Vec::with_capacity(inputs.len() / image * CLASSES);
        for images in batches() {
            logits.extend_from_slice(net.run(images, pool.threads())?);
        }
        logits.truncate(digits.len() * CLASSES);

        let mut times: Vec<Duration> = Vec::new();
        while !is_enough(&times) {
            let start = Instant::now();
            for images in batches() {
                net.run(images, pool.threads())?;
            }
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let images_per_second = digits.len() as f64 / times[times.len() / 2].as_secs_f64();
        Ok(Reading { right: right(&logits, digits.labels()), logits, passes: times.len(), images_per_second })
    }

    fn report(&self, net: &Net, digits: &Digits, reading: &Reading) -> DemoReport {
        DemoReport {
            isa: net.isa().name(),
            threads: self.hardware.threads(),
            digits: digits.len(),
            accuracy: reading.right as f64 / digits.len() as f64,
            images_per_second: reading.images_per_second.round(),
            params: net.count().params,
            macs: net.count().macs,
            layers: net.steps().map(DemoLayer::from).collect(),
        }
    }

    fn text(&self, report: &DemoReport, reading: &Reading) -> String {
        let thousands = text::thousands;
        let threads =
            if report.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", report.threads) };
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "CPU        {}: {} kernels, {threads}", cpu::name(), report.isa);
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
        out + &table(report) + NEXT
    }
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
            row.algorithm.unwrap_or("-").to_owned(),
            row.kernel.unwrap_or("-").to_owned(),
        ]);
    }
    let (params, macs) = (text::thousands(report.params), text::thousands(report.macs));
    table.add_row(["total", "", "", &params, &macs, "", ""]);
    text::lines(&table)
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
