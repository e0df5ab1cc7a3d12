//! The worker of the Rust engines: `rust-worker ENGINE THREADS`, one request and one answer a line. The requests are
//! those of `benches/src/peers/worker.rs`.

mod engines;
mod layer;
mod onnx;

use anyhow::{Context, Result, bail};
use engines::Run;
use layer::Layer;
use std::io::{BufRead, Write};
use std::time::Instant;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, threads] = &arguments[..] else { bail!("usage: rust-worker ENGINE THREADS") };
    let threads = threads.parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    if threads > 1 {
        use tract_linalg::multithread::{Executor, set_default_executor};
        set_default_executor(Executor::multithread(threads));
    }
    let (mut prepared, mut answers) = (None, std::io::stdout());
    for request in std::io::stdin().lock().lines() {
        let answer = match answer(engine, &mut prepared, &request?) {
            Ok(text) => format!("ok {text}"),
            Err(error) => format!("error {error:#}").replace('\n', " "),
        };
        writeln!(answers, "{answer}")?;
        answers.flush()?;
    }
    Ok(())
}

fn answer(engine: &str, prepared: &mut Option<Box<dyn Run>>, request: &str) -> Result<String> {
    let words: Vec<&str> = request.split_whitespace().collect();
    match &words[..] {
        ["prepare", words @ ..] => {
            // What was there before goes first: two of them may not fit.
            *prepared = None;
            *prepared = Some(engines::prepare(engine, Layer::parse(words)?)?);
            Ok(engine.to_owned())
        }
        ["network", model, input, extents @ ..] => {
            *prepared = None;
            let extents = extents.iter().map(|word| word.parse()).collect::<Result<Vec<usize>, _>>()?;
            *prepared = Some(engines::network(engine, model, &extents, layer::read(input)?)?);
            Ok(engine.to_owned())
        }
        ["output", file] => {
            let output = prepared.as_mut().context("nothing is prepared")?.output()?;
            let bytes: Vec<u8> = output.iter().flat_map(|value| value.to_le_bytes()).collect();
            std::fs::write(file, bytes)?;
            Ok(String::new())
        }
        ["time", calls] => {
            let prepared = prepared.as_mut().context("nothing is prepared")?;
            let calls: u64 = calls.parse()?;
            prepared.call()?;
            let start = Instant::now();
            for _ in 0..calls {
                prepared.call()?;
            }
            Ok(format!("{:e}", start.elapsed().as_secs_f64()))
        }
        _ => bail!("no request is called {request}"),
    }
}
