//! The loop of the roof of matrix tiles, on emulated tiles where the CPU does not have them.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[allow(clippy::disallowed_methods)] // a signal handler is stored as a number
#[path = "../../kernels/tests/common/tiles/mod.rs"]
mod tiles;

use benches::peak::{self, Arithmetic};
use benches::turns::take_turns;
use kernels::Isa;
use std::time::Duration;

#[test]
fn the_roof_of_tiles_counts_every_product() {
    let has_tiles = Isa::available().any(|isa| isa == Isa::Amx);
    tiles::emulate_if_missing();
    let Some(mut rival) = peak::roof(Arithmetic::Bf16, Isa::Amx) else {
        eprintln!("skipped: neither tiles nor what their emulation needs");
        return;
    };
    let flops = rival.flops;
    take_turns(std::slice::from_mut(&mut rival), 1, Duration::ZERO);
    assert!(rival.seconds[0] > 0.0);
    let products = tiles::executed() as f64;
    let calls = products * f64::from(2 * 16 * 16 * 32) / flops;
    // If the CPU has tiles, nothing is emulated.
    let is_whole = calls >= 2.0 && calls.fract() == 0.0;
    assert!(has_tiles || is_whole, "{products} products, {flops} operations");
}
