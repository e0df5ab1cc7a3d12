//! `fit`: constants of the cost model from measured times.
#![forbid(unsafe_code)]

use clap::Parser;
use std::path::PathBuf;

/// Fits the constants of the library's cost model to what `shootout --format csv` measured
#[derive(Parser)]
#[command(name = "fit", version)]
struct Args {
    /// Results of `shootout --format csv`
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Also name the rows that fit worst, with milliseconds by term
    #[arg(long, short)]
    verbose: bool,
    /// Fit nothing: judge the constants that the library has, on rows that they were not fitted to
    #[arg(long)]
    check: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    print!("{}", benches::fit::run(&args.files, args.verbose, args.check)?);
    Ok(())
}
