//! `--accuracy`: the error of outputs against PyTorch in `f64`, next to the errors of ONNX Runtime and
//! PyTorch in `f32`, and of OpenVINO and PyTorch in bf16.

use super::args::Args;
use super::model::{Model, Network, distance};
use crate::cli::{Format, Outcome, progress};
use crate::peers::{Engine, Task, Worker, floats, installed, tolerance};
use crate::pin::Crew;
use crate::table::{report, table, written};
use kernels::{Isa, Numerics};
use serde::Serialize;
use std::path::Path;

/// Maximum relative L2 error of a network with default numerics, absolute and as a multiple of ONNX Runtime's error.
const LIMIT: f64 = 1e-5;
const TIMES: f64 = 2.0;

/// The relative L2 errors for one network; `None` if the engine is not installed.
#[derive(Debug, Clone, Serialize)]
struct AccuracyRow {
    net: String,
    strict: Option<f64>,
    default: Option<f64>,
    fast: Option<f64>,
    ort: Option<f64>,
    torch: Option<f64>,
    tf32: Option<f64>,
    bf16: Option<f64>,
    openvino_bf16: Option<f64>,
    torch_bf16: Option<f64>,
}

impl AccuracyRow {
    /// Whether the library is within both limits with default numerics, and within the tolerances of rounded
    /// products with those.
    fn is_right(&self) -> bool {
        let beside = self.ort.map_or(f64::INFINITY, |ort| TIMES * ort);
        let is_within = |error: Option<f64>, limit: f64| error.is_some_and(|error| error <= limit);
        is_within(self.default, LIMIT.min(beside))
            && is_within(self.tf32, tolerance::of_network(Numerics::Tf32))
            && is_within(self.bf16, tolerance::of_network(Numerics::Bf16))
    }
}

pub(super) fn run(args: &Args, networks: &[Network]) -> anyhow::Result<Outcome> {
    let folder = args.peers.as_deref().unwrap_or(Path::new(""));
    let by_name = |name: &str| Engine::ALL.iter().find(|engine| engine.name == name);
    let truth: Vec<&'static Engine> = Engine::of(Task::Truth).collect();
    let truth = installed(folder, &truth, &[Task::Truth], &[])?[0];
    let crew = Crew::new(1)?;
    let progress = progress(networks.len());
    let mut rows = Vec::new();
    for network in networks {
        progress.set_message(network.name());
        let model = Model::new(network, 1)?;
        let expected = in_f64(truth, folder, &crew, &model)?;
        let error = |engine: Option<&'static Engine>| {
            let output = in_f32(engine?, folder, &crew, &model).ok()?;
            Some(distance(&output, &expected)).filter(|error| error.is_finite())
        };
        let [strict, default, fast, tf32, bf16] = Engine::OURS.each_ref().map(|engine| error(Some(engine)));
        let [ort, torch, openvino_bf16, torch_bf16] =
            ["ort", "torch", "openvino-bf16", "torch-bf16"].map(|name| error(by_name(name)));
        let net = network.name();
        rows.push(AccuracyRow {
            net,
            strict,
            default,
            fast,
            ort,
            torch,
            tf32,
            bf16,
            openvino_bf16,
            torch_bf16,
        });
        progress.inc(1);
    }
    progress.finish_and_clear();
    let wrong = rows.iter().filter(|row| !row.is_right()).count();
    let text = report(&rows, args.format, || page(&rows, args.format))?;
    Ok(Outcome { text, wrong, failure: None })
}

/// The output of an engine as bytes. Its process ends when this function returns.
fn output(engine: &'static Engine, folder: &Path, crew: &Crew, model: &Model) -> Result<Vec<u8>, String> {
    let mut worker = Worker::new(engine, folder, crew.threads(), Isa::detect());
    worker.prepare(crew, &model.request())?;
    worker.output_bytes(&model.file("output"))
}

fn in_f32(engine: &'static Engine, folder: &Path, crew: &Crew, model: &Model) -> Result<Vec<f32>, String> {
    let bytes = output(engine, folder, crew, model)?;
    Ok(floats(&bytes))
}

fn in_f64(engine: &'static Engine, folder: &Path, crew: &Crew, model: &Model) -> anyhow::Result<Vec<f64>> {
    let bytes = output(engine, folder, crew, model);
    let bytes = bytes.map_err(|error| anyhow::anyhow!("{}: {}: {error}", model.name, engine.name))?;
    Ok(bytes.as_chunks::<8>().0.iter().map(|&value| f64::from_le_bytes(value)).collect())
}

fn page(rows: &[AccuracyRow], format: Format) -> String {
    let header = [
        "network",
        "strict",
        "default",
        "fast",
        "ort",
        "torch",
        "default / ort",
        "tf32",
        "bf16",
        "openvino-bf16",
        "torch-bf16",
        "",
    ];
    let mut table = table(&header, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], format);
    let number = |error: Option<f64>| error.map_or("-".to_owned(), |error| format!("{error:.2e}"));
    for row in rows {
        let ratio = row.default.zip(row.ort).map(|(default, ort)| format!("{:.2}", default / ort));
        table.add_row([
            row.net.to_owned(),
            number(row.strict),
            number(row.default),
            number(row.fast),
            number(row.ort),
            number(row.torch),
            ratio.unwrap_or("-".to_owned()),
            number(row.tf32),
            number(row.bf16),
            number(row.openvino_bf16),
            number(row.torch_bf16),
            if row.is_right() { "" } else { "WRONG" }.to_owned(),
        ]);
    }
    let title = "Relative L2 error of the output against PyTorch in f64, for one image of noise and seeded weights.\n\n";
    title.to_owned() + &written(&table, format)
}
