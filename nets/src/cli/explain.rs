//! `nets explain`: explains how each convolution of a network would be computed, and why. It runs nothing,
//! except for timing algorithms on request.

use super::args::{self, Hardware};
use super::planning::Planning;
use super::source::{Loaded, Network, Wanted};
use clap::Args;
use kernels::{Candidate, PlanReport};
use nets::Shape;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nets explain resnet50\n  nets explain model.onnx --batch 8 --json\n  nets explain alexnet --numerics bf16\n  nets explain resnet50 --measured --wisdom times.txt"
)]
pub(crate) struct Explain {
    /// A network of the zoo or an .onnx file
    network: String,
    /// Shape of one input image [default: the input of the published network]
    #[arg(long, value_name = "CxHxW", value_parser = args::image)]
    input: Option<Shape>,
    /// Images per forward pass
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    #[command(flatten)]
    hardware: Hardware,
    #[command(flatten)]
    planning: Planning,
    /// Print a JSON array of objects instead of text
    #[arg(long)]
    json: bool,
}

/// The plan of one convolution.
#[derive(Serialize)]
pub(super) struct ConvRow<'a> {
    /// The layer. `None` if the convolution stands in no network.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    problem: String,
    algorithm: &'static str,
    products: &'static str,
    reason: &'a str,
    kernel: &'static str,
    isa: &'static str,
    macs: u64,
    packed_bytes: usize,
    workspace_bytes_per_thread: usize,
    rejected: Vec<Rejected>,
    candidates: Vec<CandidateLine>,
}

#[derive(Serialize)]
struct Rejected {
    algorithm: &'static str,
    products: &'static str,
    reason: String,
}

/// An algorithm that can do the problem. The list is sorted by time, measured or predicted.
#[derive(Serialize)]
struct CandidateLine {
    algorithm: &'static str,
    products: &'static str,
    predicted_ms: f64,
    /// Milliseconds per term of the prediction.
    terms: BTreeMap<&'static str, f64>,
    bound: &'static str,
    workspace_bytes: usize,
    packed_bytes: usize,
    /// `null` if the algorithm was not timed.
    measured_ms: Option<f64>,
    /// `null` for the chosen algorithm.
    rejected: Option<String>,
}

impl CandidateLine {
    fn new(report: &PlanReport, candidate: &Candidate) -> Self {
        let Candidate { method, estimate, measured, .. } = candidate;
        Self {
            algorithm: method.algorithm.name(),
            products: method.products.name(),
            predicted_ms: 1e3 * estimate.seconds,
            terms: estimate.terms.all().map(|(name, seconds)| (name, 1e3 * seconds)).into(),
            bound: estimate.bound.name(),
            workspace_bytes: estimate.workspace_bytes,
            packed_bytes: estimate.packed_bytes,
            measured_ms: measured.map(|seconds| 1e3 * seconds),
            rejected: report.choice.against(*method),
        }
    }
}

impl<'a> ConvRow<'a> {
    pub(super) fn new(name: Option<&'a str>, report: &'a PlanReport) -> Self {
        let choice = &report.choice;
        let rejected = choice.rejected.iter().map(|&(method, rejection)| {
            let reason = choice.against(method).unwrap_or_else(|| rejection.to_string());
            Rejected { algorithm: method.algorithm.name(), products: method.products.name(), reason }
        });
        Self {
            name,
            problem: report.desc.to_string(),
            algorithm: choice.method.algorithm.name(),
            products: choice.method.products.name(),
            reason: choice.reason,
            kernel: report.kernel,
            isa: report.isa.name(),
            macs: report.desc.cost().macs,
            packed_bytes: report.packed_bytes,
            workspace_bytes_per_thread: report.workspace_bytes_per_thread,
            rejected: rejected.collect(),
            candidates: choice
                .candidates
                .iter()
                .map(|candidate| CandidateLine::new(report, candidate))
                .collect(),
        }
    }
}

impl Explain {
    pub(super) fn execute(&self) -> anyhow::Result<String> {
        let wanted = Wanted { input: self.input, batch: self.batch.into(), ..Wanted::default() };
        let Loaded { graph, weights, .. } = Network::named(&self.network)?.load(wanted)?;
        let options = self.hardware.options(self.batch.into());
        let pool = self.planning.pool(options.max_threads)?;
        let net = self.planning.compile(&graph, &*weights, options, &pool)?;
        if self.json {
            let rows: Vec<ConvRow<'_>> =
                net.explain().map(|(name, report)| ConvRow::new(Some(name), report)).collect();
            return Ok(serde_json::to_string(&rows)? + "\n");
        }
        let mut out = String::new();
        for (name, report) in net.explain() {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{name}\n  {report}");
        }
        Ok(out)
    }
}
