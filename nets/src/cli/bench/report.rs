//! The results as text, JSON and CSV.

use super::measure::{Layer, Measured};
use crate::cli::rows::{Align, Rows};
use crate::cli::text;
use crate::cli::timing::rounded;
use kernels::Numerics;
use serde::Serialize;

/// All measurements of one network.
pub(super) struct BenchReport<'a> {
    name: &'a str,
    numerics: &'static str,
    results: &'a [Measured],
}

/// An element of the JSON array.
#[derive(Serialize)]
struct BenchRun<'a> {
    net: &'a str,
    batch: usize,
    threads: usize,
    isa: &'static str,
    numerics: &'static str,
    passes: usize,
    ms_min: f64,
    ms_median: f64,
    activation_bytes: usize,
    workspace_bytes: usize,
    packed_bytes: usize,
    compile_ms: f64,
    /// Peak memory of the process, including earlier measurements.
    peak_bytes: Option<u64>,
    /// Per cent of the time in layers without multiply-accumulates.
    outside_percent: f64,
    roof_gflops: f64,
    layers: Vec<BenchLayer<'a>>,
}

#[derive(Serialize)]
struct BenchLayer<'a> {
    name: &'a str,
    op: &'a str,
    algorithm: Option<&'static str>,
    products: Option<&'static str>,
    kernel: Option<&'static str>,
    layout: Option<&'static str>,
    ms: f64,
    gflops: Option<f64>,
    roof_percent: Option<f64>,
    bytes: u64,
}

impl<'a> BenchLayer<'a> {
    fn new(run: &Measured, layer: &'a Layer) -> Self {
        let step = &layer.step;
        let gflops = run.gflops(layer);
        Self {
            name: &step.name,
            op: &step.op,
            algorithm: step.algorithm.map(|algorithm| algorithm.name()),
            products: step.products.map(|products| products.name()),
            kernel: step.kernel,
            layout: step.layout.map(|layout| layout.name()),
            ms: rounded(layer.ms, 1e6),
            gflops: gflops.map(|gflops| rounded(gflops, 1e3)),
            roof_percent: gflops.map(|gflops| rounded(100.0 * gflops / run.roof_gflops, 1e2)),
            bytes: step.bytes,
        }
    }
}

impl BenchLayer<'_> {
    /// The fields for CSV. Values that do not apply are empty.
    fn fields(&self) -> [String; 9] {
        let number = |number: Option<f64>| number.map_or(String::new(), |number| number.to_string());
        [
            self.name.to_owned(),
            self.op.to_owned(),
            self.algorithm.unwrap_or_default().to_owned(),
            self.kernel.unwrap_or_default().to_owned(),
            self.ms.to_string(),
            number(self.gflops),
            number(self.roof_percent),
            self.bytes.to_string(),
            self.products.unwrap_or_default().to_owned(),
        ]
    }
}

/// The columns of [`BenchLayer::fields`].
const LAYER: [&str; 9] =
    ["layer", "op", "algorithm", "kernel", "ms", "gflops", "roof_percent", "bytes", "products"];

impl<'a> BenchReport<'a> {
    pub(super) fn new(name: &'a str, numerics: Numerics, results: &'a [Measured]) -> Self {
        Self { name, numerics: numerics.name(), results }
    }

    fn run(&self, run: &'a Measured) -> BenchRun<'a> {
        BenchRun {
            net: self.name,
            batch: run.batch,
            threads: run.threads,
            isa: run.isa.name(),
            numerics: self.numerics,
            passes: run.passes.len(),
            ms_min: rounded(run.least(), 1e6),
            ms_median: rounded(run.median(), 1e6),
            activation_bytes: run.activation_bytes,
            workspace_bytes: run.workspace_bytes,
            packed_bytes: run.packed_bytes,
            compile_ms: rounded(run.compile_ms, 1e3),
            peak_bytes: run.peak_bytes,
            outside_percent: rounded(run.outside(), 1e2),
            roof_gflops: rounded(run.roof_gflops, 1e1),
            layers: run.layers.iter().map(|layer| BenchLayer::new(run, layer)).collect(),
        }
    }

    pub(super) fn json(&self) -> serde_json::Result<String> {
        let runs: Vec<BenchRun<'_>> = self.results.iter().map(|run| self.run(run)).collect();
        Ok(serde_json::to_string(&runs)? + "\n")
    }

    /// One row per measurement, or one row per layer of each measurement.
    pub(super) fn csv(&self, per_layer: bool) -> anyhow::Result<String> {
        let plain =
            |names: &[&'static str]| names.iter().map(|&name| (name, Align::Left, 0)).collect::<Vec<_>>();
        let mut columns = plain(&["net", "batch", "threads", "isa", "numerics", "ms_min", "ms_median"]);
        if per_layer {
            columns.extend(plain(&LAYER));
        }
        let mut rows = Rows::new(&columns);
        for run in self.results.iter().map(|run| self.run(run)) {
            let start = [
                run.net.to_owned(),
                run.batch.to_string(),
                run.threads.to_string(),
                run.isa.to_owned(),
                run.numerics.to_owned(),
                run.ms_min.to_string(),
                run.ms_median.to_string(),
            ];
            match per_layer {
                true => run.layers.iter().for_each(|row| rows.push([&start[..], &row.fields()].concat())),
                false => rows.push(start.to_vec()),
            }
        }
        rows.csv()
    }

    pub(super) fn text(&self, per_layer: bool) -> String {
        let names = [
            "Batch",
            "Threads",
            "min ms",
            "median ms",
            "Images/s",
            "GFLOP/s",
            "Outside",
            "Compile ms",
            "Weights",
            "Activations",
            "Peak",
        ];
        let mut rows = Rows::new(&names.map(|name| (name, Align::Right, 0)));
        for run in self.results {
            let flops: f64 = run.layers.iter().map(|layer| 2.0 * layer.step.macs as f64).sum();
            let median = run.median();
            rows.push(vec![
                run.batch.to_string(),
                run.threads.to_string(),
                format!("{:.3}", run.least()),
                format!("{median:.3}"),
                format!("{:.1}", run.batch as f64 * 1e3 / median),
                format!("{:.1}", flops * run.batch as f64 / median / 1e6),
                format!("{:.1} %", run.outside()),
                format!("{:.1}", run.compile_ms),
                text::bytes(run.packed_bytes as u64),
                text::bytes((run.activation_bytes + run.workspace_bytes) as u64),
                run.peak_bytes.map_or("-".to_owned(), text::bytes),
            ]);
        }
        let isa = self.results.first().map_or("", |run| run.isa.name());
        let mut out =
            format!("{} on {isa} kernels, numerics {}\n\n{}", self.name, self.numerics, rows.text());
        out += "\nOutside: time in layers that are neither convolutions nor fully connected. Activations include the \
                workspace.\nPeak: maximum memory of this process, including earlier measurements.\n";
        if per_layer {
            self.results.iter().for_each(|run| out += &layers(run));
        }
        out
    }
}

/// The layer table of one measurement.
fn layers(run: &Measured) -> String {
    use Align::{Left, Right};
    let mut rows = Rows::new(&[
        ("Layer", Left, 0),
        ("Op", Left, 1),
        ("Output", Left, 2),
        ("Layout", Left, 4),
        ("Algorithm", Left, 0),
        ("Kernel", Left, 3),
        ("ms", Right, 0),
        ("%", Right, 0),
        ("GFLOP/s", Right, 0),
        ("% roof", Right, 0),
        ("Bytes", Right, 5),
    ]);
    let total = run.layers_ms();
    for layer in &run.layers {
        let row = BenchLayer::new(run, layer);
        let number = |number: Option<f64>| number.map_or("-".to_owned(), |number| format!("{number:.1}"));
        rows.push(vec![
            row.name.to_owned(),
            row.op.to_owned(),
            layer.step.output.to_string(),
            row.layout.unwrap_or("-").to_owned(),
            layer.step.method().map_or("-".to_owned(), |method| method.to_string()),
            row.kernel.unwrap_or("-").to_owned(),
            format!("{:.3}", row.ms),
            format!("{:.1}", 100.0 * row.ms / total),
            number(row.gflops),
            number(row.roof_percent),
            text::thousands(row.bytes),
        ]);
    }
    format!(
        "\nBatch {}, {} thread(s); the roof is {:.0} GFLOP/s, the library's own f32 3x3 convolution in cache\n\n{}\n\
         {total:.3} ms in total, {:.3} ms ({:.1} %) of it outside convolutions and fully connected layers\n",
        run.batch,
        run.threads,
        run.roof_gflops,
        rows.text(),
        run.outside_ms(),
        run.outside()
    )
}
