//! Runs many ONNX files with tract, with and without this crate, at several numbers of threads.
//!
//! `compare [--threads 1,2] FILE.onnx[@SHAPE]...`, for example `compare resnet50.onnx det.onnx@1x3x640x640`

mod common;

use common::{Pair, median, parse_shape};
use convkernels_tract::Options;
use std::path::Path;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{ensure, format_err};

const USAGE: &str = "usage: compare [--threads 1,2] FILE.onnx[@SHAPE]...";

fn main() -> TractResult<()> {
    let mut threads = vec![1, 2];
    let mut files = vec![];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--threads" {
            let list = arguments.next().ok_or_else(|| format_err!("--threads needs a value\n{USAGE}"))?;
            threads = list.split(',').map(|count| Ok(count.parse()?)).collect::<TractResult<_>>()?;
        } else {
            files.push(argument);
        }
    }
    ensure!(!files.is_empty(), "{USAGE}");
    println!(
        "network                        threads  without ms (min)     with ms (min)  ratio  error   left"
    );
    let (mut failed, mut logarithms) = (vec![], vec![vec![]; threads.len()]);
    for file in &files {
        if let Err(error) = compare(file, &threads, &mut logarithms) {
            println!("{file}: {error:#}");
            failed.push(file.clone());
        }
    }
    for (threads, logarithms) in threads.iter().zip(&logarithms) {
        if !logarithms.is_empty() {
            let mean = (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp();
            println!("geometric mean of {} networks, {threads} threads: {mean:.2}", logarithms.len());
        }
    }
    ensure!(failed.is_empty(), "failed or different: {}", failed.join(", "));
    Ok(())
}

/// Prints one line per number of threads, and adds the logarithms of the ratios.
fn compare(file: &str, threads: &[usize], logarithms: &mut [Vec<f64>]) -> TractResult<()> {
    let (path, shapes) = match file.split_once('@') {
        Some((path, shape)) => (path, vec![parse_shape(shape)?]),
        None => (file, vec![]),
    };
    let pair = Pair::load(Path::new(path), &shapes, &Options::default())?;
    let name = Path::new(path).file_stem().map_or(path.into(), |name| name.to_string_lossy());
    let mut worst = 0.0f64;
    for (threads, logarithms) in threads.iter().zip(logarithms) {
        let outcome = pair.compare(*threads)?;
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        println!(
            "{name:30} {threads:7}  {:10.2} ({:8.2}) {:9.2} ({:7.2}) {:6.2} {:.0e} {:4}{}",
            ms(median(&outcome.without)),
            ms(outcome.without[0]),
            ms(median(&outcome.with)),
            ms(outcome.with[0]),
            outcome.ratio(),
            outcome.error,
            pair.report.fell_back.len(),
            if outcome.error <= 1e-5 { "" } else { "  DIFFERENT" },
        );
        logarithms.push(outcome.ratio().ln());
        worst = worst.max(outcome.error);
    }
    ensure!(worst <= 1e-5, "the outputs differ by {worst:.1e}");
    Ok(())
}
