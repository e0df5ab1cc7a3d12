//! Gives the shared library its name for the loader. It changes with every incompatible version.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let version = env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
    match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos" | "ios") => {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libconvkernels.{version}.dylib");
        }
        Ok("windows") => (),
        _ => println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libconvkernels.so.{version}"),
    }
}
