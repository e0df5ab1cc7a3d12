//! `netbench`: compares whole networks with peer engines, on the same ONNX files.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // The library's own worker process: the program starts itself, just as it starts its peers.
    if let Some(code) = benches::netbench::serve() {
        return code;
    }
    benches::cli::program(benches::netbench::run)
}
