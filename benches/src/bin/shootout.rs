//! `shootout`: every algorithm on every layer of the list, against the roofs of this machine and against its peers.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    benches::cli::program(benches::shootout::run)
}
