//! Common parts of the programs: output formats, names as arguments, exit codes.

use crate::layers::nearest;
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// Exit code if an output of the library was wrong.
const WRONG: u8 = 1;
/// Exit code for every other failure.
const FAILURE: u8 = 2;

/// The format of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned text for a terminal
    Text,
    /// A JSON array with one object per row
    Json,
    /// Comma-separated values
    Csv,
    /// A Markdown table
    Markdown,
}

/// The result of a program.
pub struct Outcome {
    /// The text for standard output.
    pub text: String,
    /// Number of wrong outputs of the library.
    pub wrong: usize,
    /// Any other failure, in one line.
    pub failure: Option<String>,
}

/// The `main` of a program: parses the arguments, runs, and prints. The exit code is 0 on success, 1 if
/// outputs were wrong, and 2 with one line on standard error for any other failure.
pub fn program<A: Parser>(run: fn(&A) -> anyhow::Result<Outcome>) -> ExitCode {
    program_with(run, std::env::args_os())
}

/// [`program`] with other arguments than those of the process; the first is the name of the program.
pub fn program_with<A: Parser, T: Into<OsString> + Clone>(
    run: fn(&A) -> anyhow::Result<Outcome>,
    args: impl IntoIterator<Item = T>,
) -> ExitCode {
    match A::try_parse_from(args) {
        Ok(args) => match run(&args) {
            Ok(outcome) => finish(&outcome),
            Err(error) => fail(&format!("error: {error:#}")),
        },
        // `clap` also returns `--help` and `--version` as errors.
        Err(error) if !error.use_stderr() => print(&error.render().to_string()),
        Err(error) => fail(&one_line(&error.render().to_string())),
    }
}

fn finish(outcome: &Outcome) -> ExitCode {
    let printed = print(&outcome.text);
    if outcome.wrong == 0 && outcome.failure.is_none() {
        return printed;
    }
    if outcome.wrong > 0 {
        let _ = writeln!(io::stderr(), "error: {} outputs were wrong", outcome.wrong);
    }
    if let Some(failure) = &outcome.failure {
        let _ = writeln!(io::stderr(), "error: {failure}");
    }
    ExitCode::from(WRONG)
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
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("Usage:"));
    lines.collect::<Vec<_>>().join("; ").replace(":; ", ": ")
}

/// A progress bar on standard error, drawn only if that is a terminal.
pub(crate) fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{pos}/{len} {wide_msg} {elapsed} of about {duration}");
    let bar = ProgressBar::new(steps as u64);
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}

pub(crate) fn once_each<T: PartialEq + Copy>(values: &[T]) -> Vec<T> {
    let mut unique = Vec::new();
    for &value in values {
        if !unique.contains(&value) {
            unique.push(value);
        }
    }
    unique
}

/// The known value named `text`, or an error that lists the names.
pub(crate) fn named<T: Copy>(
    text: &str,
    known: impl Iterator<Item = T>,
    name: impl Fn(T) -> String,
) -> Result<T, String> {
    let known: Vec<T> = known.collect();
    let names: Vec<String> = known.iter().map(|&known| name(known)).collect();
    let found = names.iter().position(|name| name == text).map(|index| known[index]);
    found.ok_or_else(|| {
        format!("expected one of {}{}", names.join(", "), nearest(text, names.iter().map(String::as_str)))
    })
}
