//! The constants of the cost model, fitted by `cargo run --release -p benches --bin fit` (docs/choice.md). Those of
//! "pointwise columns", "im2col columns", "direct image" and "winograd" are from an Intel Sapphire Rapids (2026-11-22). The others are
//! from an AMD EPYC (Zen 5, 2026-11-28). Its times were multiplied by 1.45 (AVX2: 1.65), which makes the first families
//! equally fast on both. Those of "winograd parts" were set by hand: no machine with matrix tiles was there.

use crate::describe::Isa;
use crate::work::TERMS;
use crate::work::prices::{Constants, Table};

const fn row(terms: [f64; TERMS], memory: [f64; 3]) -> Constants {
    Constants { terms, memory }
}

/// The constants of an instruction set. Sets that were not measured borrow another set's constants, in slots
/// of their own FMA pipes: NEON those of AVX-512, which also has 32 registers, and Portable those of AVX2.
pub(super) fn of(isa: Isa) -> &'static Table {
    if matches!(isa.of_f32(), Isa::Avx512F | Isa::Neon) { &AVX512F } else { &AVX2FMA }
}

#[rustfmt::skip]
static AVX512F: Table = [
    // reference
    row([30.000, 30.000, 0.000, 0.000, 0.000, 500.000], [0.000, 0.000, 0.000]),
    // pointwise columns
    row([0.976, 0.000, 5.632, 1.000, 1.000, 579.419], [0.686, 0.357, 2.242]),
    // pointwise rows
    row([0.894, 0.000, 2.617, 28.626, 1.000, 258.515], [1.031, 0.247, 2.111]),
    // im2col columns
    row([1.050, 24.822, 2.985, 26.914, 13.595, 251.596], [0.094, 0.549, 0.555]),
    // im2col rows
    row([0.533, 155.368, 0.000, 19.766, 2.735, 222.261], [1.956, 0.159, 2.623]),
    // direct image
    row([1.012, 55.813, 3.722, 1.000, 1.000, 416.971], [0.000, 0.000, 0.100]),
    // direct rows
    row([0.899, 0.000, 1.668, 7.162, 4.165, 694.331], [0.222, 0.197, 1.232]),
    // direct few
    row([1.264, 4.145, 6.246, 1.000, 1.000, 929.247], [0.825, 0.844, 0.970]),
    // depthwise channels
    row([0.654, 0.000, 4.144, 1.389, 0.000, 709.437], [0.261, 0.285, 1.159]),
    // depthwise permuted
    row([0.644, 6.943, 3.771, 1.164, 0.000, 561.985], [0.000, 0.023, 0.721]),
    // depthwise pixels
    row([0.988, 7.949, 5.898, 3.122, 0.413, 328.463], [3.599, 0.521, 1.240]),
    // winograd
    row([0.735, 59.789, 0.000, 3.254, 11.945, 341.602], [0.684, 0.683, 0.880]),
    // fft
    row([1.200, 0.000, 4.000, 3.200, 40.000, 3.000], [0.800, 0.600, 1.000]),
    // fft groups
    row([3.585, 1.000, 7.291, 0.000, 22.596, 12.778], [3.567, 0.000, 2.334]),
    // fft tiles
    row([0.113, 1.000, 1.000, 1.486, 0.000, 102.657], [3.630, 1.252, 6.052]),
    // parts
    row([1.030, 0.000, 7.540, 4.100, 5.410, 383.000], [0.000, 0.300, 1.000]),
    // parts matrix
    row([0.945, 212.000, 0.000, 14.200, 9.560, 252.000], [0.000, 0.300, 1.000]),
    // winograd parts
    row([1.050, 60.000, 2.000, 3.254, 11.945, 341.602], [0.684, 0.683, 0.880]),
];

#[rustfmt::skip]
static AVX2FMA: Table = [
    // reference
    row([30.000, 30.000, 0.000, 0.000, 0.000, 500.000], [0.000, 0.000, 0.000]),
    // pointwise columns
    row([1.266, 0.000, 0.000, 1.000, 1.000, 619.148], [0.064, 0.085, 5.416]),
    // pointwise rows
    row([1.189, 4.609, 6.851, 0.000, 1.000, 290.520], [0.000, 0.232, 3.027]),
    // im2col columns
    row([1.138, 0.000, 0.000, 30.620, 17.291, 209.241], [0.358, 0.293, 0.599]),
    // im2col rows
    row([0.405, 203.271, 0.000, 25.738, 3.811, 213.250], [2.873, 0.706, 2.249]),
    // direct image
    row([1.469, 0.000, 14.606, 1.000, 1.000, 283.624], [0.033, 0.000, 0.089]),
    // direct rows
    row([1.283, 50.028, 0.000, 7.315, 6.604, 805.298], [0.133, 0.101, 0.616]),
    // direct few
    row([1.152, 6.185, 114.465, 1.000, 1.000, 965.083], [0.685, 0.344, 1.000]),
    // depthwise channels
    row([0.425, 0.000, 6.585, 1.422, 0.000, 700.826], [0.000, 1.075, 1.144]),
    // depthwise permuted
    row([0.761, 0.000, 0.000, 1.466, 0.000, 574.233], [2.075, 1.349, 0.777]),
    // depthwise pixels
    row([0.916, 0.000, 15.930, 2.623, 1.224, 444.965], [0.476, 0.000, 3.809]),
    // winograd
    row([1.001, 81.521, 0.000, 2.797, 7.238, 0.000], [0.000, 0.428, 0.524]),
    // fft
    row([0.000, 0.000, 0.000, 1.676, 7.242, 48.754], [4.445, 1.291, 1.047]),
    // fft groups
    row([0.000, 0.000, 0.000, 1.619, 69.970, 129.029], [2.885, 0.812, 2.174]),
    // fft tiles
    row([1.349, 1.000, 1.000, 3.101, 0.000, 86.946], [1.693, 0.503, 1.052]),
    // parts
    row([1.050, 60.000, 2.000, 10.000, 1.500, 200.000], [0.300, 0.600, 1.000]),
    // parts matrix
    row([1.050, 60.000, 2.000, 10.000, 1.500, 200.000], [0.300, 0.600, 1.000]),
    // winograd parts
    row([1.050, 60.000, 2.000, 10.000, 11.945, 341.602], [0.684, 0.683, 0.880]),
];
