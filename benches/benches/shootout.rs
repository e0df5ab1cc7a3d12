//! The shoot-out of a cross-section of the layers: the library's choice and every algorithm against the FMA roof that is
//! measured in the same rounds. `cargo bench` runs it after the other benches; alone, `cargo bench --bench shootout`.
//! The program `shootout` has all layers, instruction sets and peers.

use benches::layers::SAMPLE;
use benches::{cli, shootout};
use std::process::ExitCode;

fn main() -> ExitCode {
    // `cargo bench -- --test` and `cargo test --benches` want everything once.
    let once = std::env::args().any(|argument| argument == "--test");
    let rounds = if once { "1" } else { "7" };
    let layers = SAMPLE.join(",");
    let args = ["shootout", "--filter", &layers, "--rounds", rounds, "--turn", "1"];
    cli::program_with(shootout::run, args)
}
