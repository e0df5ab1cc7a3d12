//! The library as a worker process: `netbench worker ours THREADS ISA`. It reads the same ONNX file as its peers
//! and answers the same requests (`peers/worker.rs`). It also answers two more: the footprint of its network,
//! and the times of its layers alone.

use super::alone::{self, Alone};
use crate::peers::{Engine, WORKER, floats};
use crate::pin::Crew;
use anyhow::{Context, Result, bail, ensure};
use kernels::{Isa, Numerics, PlanOptions};
use nets::import::onnx::{self, ImportOptions};
use nets::{CompiledNet, Memory, NetOptions, peak_bytes};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The footprint of a network.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Footprint {
    /// Milliseconds from the file to the runnable network, including reading and packing the weights.
    pub(super) compile_ms: f64,
    pub(super) packed_bytes: u64,
    /// Activations and workspace.
    pub(super) memory_bytes: u64,
    /// Memory of the process before it loads the network.
    pub(super) program_bytes: u64,
}

/// If this process was started as a worker, answers requests until standard input ends.
pub fn serve() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [worker, engine, threads, isa] = &arguments[..] else { return None };
    if worker != WORKER {
        return None;
    }
    Some(match Server::new(engine, threads, isa).and_then(Server::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If the parent is gone, nobody reads the message.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    })
}

struct Server {
    numerics: Numerics,
    isa: Isa,
    crew: Crew,
    program_bytes: u64,
    prepared: Option<Prepared>,
}

struct Prepared {
    net: CompiledNet,
    memory: Memory,
    input: Vec<f32>,
    output: Vec<f32>,
    footprint: Footprint,
}

impl Server {
    fn new(engine: &str, threads: &str, isa: &str) -> Result<Self> {
        let found = Engine::OURS.iter().find(|ours| ours.name == engine);
        let Engine { numerics, .. } = *found.with_context(|| format!("unknown engine {engine}"))?;
        let (isa, crew) = (isa.parse()?, Crew::new(threads.parse()?)?);
        Ok(Self { numerics, isa, crew, program_bytes: peak_bytes("self").unwrap_or(0), prepared: None })
    }

    fn run(mut self) -> Result<()> {
        let mut answers = std::io::stdout();
        for request in std::io::stdin().lines() {
            let answer = match self.answer(&request?) {
                Ok(text) => format!("ok {text}"),
                Err(error) => format!("error {error:#}").replace('\n', " "),
            };
            writeln!(answers, "{answer}")?;
            answers.flush()?;
        }
        Ok(())
    }

    fn answer(&mut self, request: &str) -> Result<String> {
        let words: Vec<&str> = request.split_whitespace().collect();
        if let ["network", model, input, batch, ..] = words[..] {
            // Drop the previous network first: two of them may not fit into memory.
            self.prepared = None;
            let prepared = self.prepare(Path::new(model), Path::new(input), batch.parse()?)?;
            let isa = prepared.net.isa().to_string();
            self.prepared = Some(prepared);
            return Ok(isa);
        }
        let crew = &self.crew;
        let prepared = self.prepared.as_mut().context("nothing is prepared")?;
        match words[..] {
            ["output", file] => {
                prepared.output.fill(f32::NAN);
                prepared.pass(crew)?;
                crate::peers::write(Path::new(file), &prepared.output)?;
                Ok(String::new())
            }
            ["time", calls] => {
                let calls: u64 = calls.parse()?;
                prepared.pass(crew)?;
                let start = Instant::now();
                (0..calls).try_for_each(|_| prepared.pass(crew))?;
                Ok(format!("{:e}", start.elapsed().as_secs_f64()))
            }
            ["footprint"] => Ok(serde_json::to_string(&prepared.footprint)?),
            ["layers", seconds] => {
                let time = Duration::try_from_secs_f64(seconds.parse()?)?;
                Ok(serde_json::to_string(&prepared.alone(crew, self.numerics, time)?)?)
            }
            _ => bail!("unknown request {request}"),
        }
    }

    fn prepare(&self, model: &Path, input: &Path, batch: usize) -> Result<Prepared> {
        let input = floats(&std::fs::read(input)?);
        let start = Instant::now();
        let model = onnx::load(model, &ImportOptions::default())?;
        let options = NetOptions::default().batch(batch).numerics(self.numerics).isa(self.isa);
        let net = CompiledNet::new(&model.graph, &model.weights, &options.max_threads(self.crew.threads()))?;
        let compile_ms = start.elapsed().as_secs_f64() * 1e3;
        let memory = net.memory()?;
        let footprint = Footprint {
            compile_ms,
            packed_bytes: net.packed_bytes() as u64,
            memory_bytes: (memory.activation_bytes() + memory.workspace_bytes()) as u64,
            program_bytes: self.program_bytes,
        };
        ensure!(input.len() == net.input_len(), "the input has {} elements", input.len());
        let output = vec![0.0; net.output_len()];
        Ok(Prepared { net, memory, input, output, footprint })
    }
}

impl Prepared {
    fn pass(&mut self, crew: &Crew) -> Result<()> {
        Ok(self.net.run(&self.input, &mut self.output, &mut self.memory, crew.run_threads())?)
    }

    /// Times passes in turns with each layer alone.
    fn alone(&mut self, crew: &Crew, numerics: Numerics, time: Duration) -> Result<Alone> {
        // The number of threads that the network plans its layers for.
        let threads = crew.threads();
        let options = PlanOptions::default().isa(self.net.isa()).max_threads(threads).numerics(numerics);
        let Self { net, memory, input, output, .. } = self;
        let mut pass = |done: &mut (dyn FnMut(usize) + Send)| {
            Ok(net.run_observed(input, output, memory, crew.run_threads(), done)?)
        };
        alone::measure(net, &options, crew, time, &mut pass)
    }
}
