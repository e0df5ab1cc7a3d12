//! `fit`: fits the constants of the cost model to measured times.
#![forbid(unsafe_code)]

use clap::Parser;
use std::path::PathBuf;

/// Fits the constants of the library's cost model to the results of `shootout --format csv`
#[derive(Parser)]
#[command(name = "fit", version)]
struct Args {
    /// Results of `shootout --format csv`
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Also list the rows with the largest errors, with milliseconds per term
    #[arg(long, short)]
    verbose: bool,
    /// Fit nothing, and judge the library's constants on rows that they were not fitted to
    #[arg(long)]
    check: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    print!("{}", benches::fit::run(&args.files, args.verbose, args.check)?);
    Ok(())
}
