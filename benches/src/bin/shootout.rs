//! `shootout`: times every algorithm on every layer of the list, and compares it with the roofs and with peers.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    benches::cli::program(benches::shootout::run)
}
