//! What the programs have in common: formats, names as arguments, exit codes.

use crate::layers::nearest;
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use kernels::Numerics;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// What a program exits with when an output was wrong.
const WRONG: u8 = 1;
/// What a program exits with when it was asked for something that cannot be done.
const FAILURE: u8 = 2;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One array of objects
    Json,
    /// Comma-separated values
    Csv,
    /// A Markdown table
    Markdown,
}

/// [`Numerics`] as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// Re-ordered summation only
    Strict,
    /// At most 2e-6 of relative L2 error
    Default,
    /// At most 6e-6 of relative L2 error
    Fast,
}

impl Precision {
    pub(crate) fn numerics(self) -> Numerics {
        match self {
            Self::Strict => Numerics::Strict,
            Self::Default => Numerics::Default,
            Self::Fast => Numerics::Fast,
        }
    }
}

/// What a program prints, and whether all is well.
pub struct Outcome {
    /// For standard output.
    pub text: String,
    /// How many outputs of the library were wrong.
    pub wrong: usize,
    /// What else was not as it should be.
    pub failure: Option<String>,
}

/// A whole program: parses the arguments, does what they say, prints. 0 if all is well, 1 if outputs were wrong, 2 with one
/// line on standard error for everything else.
pub fn program<A: Parser>(run: fn(&A) -> anyhow::Result<Outcome>) -> ExitCode {
    match A::try_parse() {
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

/// A bar on standard error, if that is a terminal.
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

/// The one of that name, or which names there are.
pub(crate) fn named<T: Copy>(
    text: &str,
    known: impl Iterator<Item = T>,
    name: fn(T) -> &'static str,
) -> Result<T, String> {
    let known: Vec<T> = known.collect();
    let names: Vec<&'static str> = known.iter().map(|&known| name(known)).collect();
    let found = known.into_iter().find(|&known| name(known) == text);
    found.ok_or_else(|| {
        format!("expected one of {}{}", names.join(", "), nearest(text, names.iter().copied()))
    })
}
