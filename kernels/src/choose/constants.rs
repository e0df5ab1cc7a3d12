//! The constants of the cost model, fitted by `cargo run --release -p benches --bin fit` (docs/choice.md). Those of
//! "fft tiles" were set by hand from ten layers on an AMD EPYC (2026-11-28), relative to its depthwise layers. Those of
//! "parts" and "parts matrix" were fitted there with dot products, and scaled by 1.45, the ratio of its FMA rate to the
//! typical one. Those of "winograd parts" were set by hand: no machine with matrix tiles was there.

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
    row([1.026, 0.000, 4.482, 53.168, 1.000, 233.282], [0.637, 0.615, 1.000]),
    // im2col columns
    row([1.050, 24.822, 2.985, 26.914, 13.595, 251.596], [0.094, 0.549, 0.555]),
    // im2col rows
    row([0.579, 248.469, 0.000, 23.921, 2.223, 279.417], [2.482, 0.715, 1.955]),
    // direct image
    row([1.012, 55.813, 3.722, 1.000, 1.000, 416.971], [0.000, 0.000, 0.100]),
    // direct rows
    row([1.133, 0.000, 0.000, 22.009, 6.383, 562.249], [0.142, 0.058, 1.451]),
    // direct few
    row([1.000, 60.000, 2.000, 1.000, 1.000, 200.000], [0.500, 0.700, 1.000]),
    // depthwise channels
    row([0.700, 9.915, 5.412, 5.452, 0.788, 1045.713], [0.698, 0.728, 1.000]),
    // depthwise permuted
    row([0.671, 48.753, 13.151, 3.777, 1.553, 182.323], [0.000, 0.333, 19.471]),
    // depthwise pixels
    row([1.796, 0.000, 0.000, 4.549, 4.072, 705.406], [4.784, 0.942, 4.686]),
    // winograd
    row([0.735, 59.789, 0.000, 3.254, 11.945, 341.602], [0.684, 0.683, 0.880]),
    // fft
    row([1.419, 0.000, 0.000, 4.406, 145.329, 3.098], [0.000, 0.707, 1.144]),
    // fft groups
    row([3.196, 69.447, 0.000, 0.000, 48.038, 0.000], [1.568, 2.788, 1.000]),
    // fft tiles
    row([1.000, 0.000, 0.000, 5.500, 3.000, 200.000], [0.500, 1.000, 1.000]),
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
    row([1.171, 142.615, 0.701, 56.022, 1.000, 0.000], [0.315, 0.235, 1.000]),
    // im2col columns
    row([1.138, 0.000, 0.000, 30.620, 17.291, 209.241], [0.358, 0.293, 0.599]),
    // im2col rows
    row([0.420, 265.503, 0.000, 27.767, 2.286, 243.213], [3.286, 0.574, 1.988]),
    // direct image
    row([1.469, 0.000, 14.606, 1.000, 1.000, 283.624], [0.033, 0.000, 0.089]),
    // direct rows
    row([1.538, 0.231, 5.962, 21.004, 7.620, 621.331], [0.007, 0.008, 1.369]),
    // direct few
    row([1.000, 60.000, 2.000, 1.000, 1.000, 200.000], [0.500, 0.700, 1.000]),
    // depthwise channels
    row([0.000, 28.968, 9.656, 5.460, 0.873, 292.441], [1.082, 0.821, 1.000]),
    // depthwise permuted
    row([0.720, 57.418, 16.116, 3.879, 1.820, 103.138], [0.000, 0.000, 31.200]),
    // depthwise pixels
    row([1.468, 0.000, 0.000, 6.455, 7.091, 686.347], [3.435, 1.489, 7.046]),
    // winograd
    row([1.001, 81.521, 0.000, 2.797, 7.238, 0.000], [0.000, 0.428, 0.524]),
    // fft
    row([0.932, 0.000, 0.000, 2.649, 164.211, 14.168], [2.206, 1.009, 1.414]),
    // fft groups
    row([5.039, 126.387, 0.000, 0.000, 39.943, 0.000], [2.660, 1.984, 1.000]),
    // fft tiles
    row([1.000, 0.000, 0.000, 4.400, 2.000, 200.000], [0.500, 1.000, 1.000]),
    // parts
    row([1.050, 60.000, 2.000, 10.000, 1.500, 200.000], [0.300, 0.600, 1.000]),
    // parts matrix
    row([1.050, 60.000, 2.000, 10.000, 1.500, 200.000], [0.300, 0.600, 1.000]),
    // winograd parts
    row([1.050, 60.000, 2.000, 10.000, 11.945, 341.602], [0.684, 0.683, 0.880]),
];
