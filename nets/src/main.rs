//! `nets`: the command-line program for reference networks on fast CPU convolutions.
#![forbid(unsafe_code)]

mod cli;

use clap::Parser;
use cli::Cli;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// Exit code for every failure.
const FAILURE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match Cli::try_parse_from(arguments) {
        Ok(cli) => match cli.execute() {
            Ok(text) => print(&text),
            Err(error) => fail(&format!("error: {error:#}")),
        },
        // `clap` also returns `--help` and `--version` as errors.
        Err(error) if !error.use_stderr() => print(&error.render().to_string()),
        Err(error) => fail(&one_line(&error.render().to_string())),
    }
}

/// Prints everything with one write. A closed pipe (`| head -1`) is not an error.
fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            fail(&format!("error: cannot write to standard output: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn fail(line: &str) -> ExitCode {
    // If standard error is closed too, there is nowhere left to report to.
    let _ = writeln!(io::stderr(), "{line}");
    ExitCode::from(FAILURE)
}

/// Joins the several lines of a `clap` error into one.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim).take_while(|line| !line.starts_with("For more information"));
    let lines = lines.filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ").replace(":; ", ": ")
}
