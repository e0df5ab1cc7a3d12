//! `netbench`: whole networks against the engines of others, on the same ONNX files.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // The process of the library itself, which this program starts as it starts its peers.
    if let Some(code) = benches::netbench::serve() {
        return code;
    }
    benches::cli::program(benches::netbench::run)
}
