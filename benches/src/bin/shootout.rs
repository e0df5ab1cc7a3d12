//! `shootout`: every algorithm on every layer of the list, against the roofs of this machine and against its peers.
#![forbid(unsafe_code)]

use benches::shootout::{Args, Outcome, run};
use clap::Parser;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// What the program exits with when an output was wrong.
const WRONG: u8 = 1;
/// What the program exits with when it was asked for something that cannot be done.
const FAILURE: u8 = 2;

fn main() -> ExitCode {
    match Args::try_parse() {
        Ok(args) => match run(&args) {
            Ok(outcome) => finish(&outcome),
            Err(error) => fail(&format!("error: {error:#}")),
        },
        // `--help` and `--version` come this way too.
        Err(error) if !error.use_stderr() => print(&error.render().to_string()),
        Err(error) => fail(&one_line(&error.render().to_string())),
    }
}

fn finish(outcome: &Outcome) -> ExitCode {
    let printed = print(&outcome.text);
    if outcome.wrong == 0 {
        return printed;
    }
    let _ = writeln!(io::stderr(), "error: {} outputs were wrong", outcome.wrong);
    ExitCode::from(WRONG)
}

/// Writes everything at once. A reader that has seen enough (`| head -1`) is no error.
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
    // If even standard error is closed there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{line}");
    ExitCode::from(FAILURE)
}

/// What `clap` says on several lines, on one.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim).take_while(|line| !line.starts_with("For more information"));
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("Usage:"));
    lines.collect::<Vec<_>>().join("; ").replace(":; ", ": ")
}
