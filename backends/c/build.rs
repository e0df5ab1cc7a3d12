//! Gives the shared library its name for the loader. It changes with every incompatible version.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let number = |name: &str| env::var(name).unwrap_or_default();
    let (major, minor) = (number("CARGO_PKG_VERSION_MAJOR"), number("CARGO_PKG_VERSION_MINOR"));
    // Before version 1.0, another minor version is incompatible.
    let version = if major == "0" { format!("0.{minor}") } else { major };
    match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos" | "ios") => {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libconvkernels.{version}.dylib");
        }
        Ok("windows") => (),
        _ => println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libconvkernels.so.{version}"),
    }
}
