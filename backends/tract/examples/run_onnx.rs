//! Runs an ONNX file with tract, with and without this crate.
//!
//! With `--plain`, tensors between convolutions are not in blocks of channels.
//!
//! `run_onnx FILE.onnx [--threads N] [--input NAME=SHAPE]... [--plain] [--quiet]`

mod common;

use common::{Pair, median, parse_shape};
use convkernels_tract::Options;
use std::path::PathBuf;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{bail, ensure, format_err};

const USAGE: &str = "usage: run_onnx FILE.onnx [--threads N] [--input NAME=SHAPE]... [--plain] [--quiet]";

fn main() -> TractResult<()> {
    let (mut file, mut threads, mut shapes, mut quiet) = (None, 1, vec![], false);
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format_err!("{argument} needs a value\n{USAGE}"));
        match argument.as_str() {
            "--threads" => threads = value()?.parse()?,
            "--input" => shapes.push(parse_shape(&value()?)?),
            "--plain" => options.blocks = false,
            "--quiet" => quiet = true,
            flag if flag.starts_with("--") => bail!("Unknown option {flag}\n{USAGE}"),
            path => file = Some(PathBuf::from(path)),
        }
    }
    let file = file.ok_or_else(|| format_err!("{USAGE}"))?;
    let pair = Pair::load(&file, &shapes, &options)?;
    if !quiet {
        print!("{}", pair.report);
    }
    let outcome = pair.compare(threads)?;
    println!("threads {threads}, {} runs of each, in turns", outcome.with.len());
    println!("relative difference of the outputs {:.1e}", outcome.error);
    for (name, times) in [("without", &outcome.without), ("with", &outcome.with)] {
        println!("{name:8} median {:10.3?}  fastest {:10.3?}", median(times), times[0]);
    }
    println!("ratio {:.2}", outcome.ratio());
    ensure!(outcome.error <= 1e-5, "The outputs differ by {:.1e}, which is more than 1e-5", outcome.error);
    Ok(())
}
