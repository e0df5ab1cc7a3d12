//! The constants of the cost model, fitted by `cargo run --release -p benches --bin fit` (docs/choice.md).

use super::Isa;
use super::work::{Family, TERMS};

/// What a family of loops takes for each unit of what is counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Constants {
    /// Slots of an FMA pipe, in the order of [`Term`](super::work::Term).
    pub(super) terms: [f64; TERMS],
    /// Of the time of a byte from the second level, the third, and memory: what is not hidden behind other work.
    pub(super) memory: [f64; 3],
}

const fn row(terms: [f64; TERMS], memory: [f64; 3]) -> Constants {
    Constants { terms, memory }
}

/// Of a family on an instruction set. Those that were not measured have the constants of AVX2: in slots of their own pipes.
pub(super) fn of(isa: Isa, family: Family) -> &'static Constants {
    let table = if isa == Isa::Avx512F { &AVX512F } else { &AVX2FMA };
    &table[family as usize]
}

#[rustfmt::skip]
static AVX512F: [Constants; Family::COUNT] = [
    // reference
    row([30.000, 30.000, 0.000, 0.000, 0.000, 500.000], [0.000, 0.000, 0.000]),
    // pointwise columns
    row([0.980, 0.000, 4.054, 1.000, 1.000, 718.652], [0.674, 0.353, 2.128]),
    // pointwise rows
    row([1.023, 0.000, 4.691, 53.477, 1.000, 232.628], [0.646, 0.624, 1.000]),
    // im2col columns
    row([1.051, 51.306, 2.388, 26.941, 13.614, 242.843], [0.098, 0.547, 0.554]),
    // im2col rows
    row([0.571, 249.319, 0.000, 23.724, 2.212, 330.730], [2.516, 0.720, 1.956]),
    // direct image
    row([0.938, 67.887, 15.721, 1.000, 1.000, 0.000], [0.000, 0.000, 0.096]),
    // direct rows
    row([1.130, 0.000, 0.000, 21.993, 6.419, 576.585], [0.160, 0.058, 1.450]),
    // depthwise channels
    row([0.290, 16.257, 8.729, 3.012, 0.334, 527.390], [1.055, 0.747, 1.000]),
    // depthwise permuted
    row([0.779, 45.425, 16.880, 3.336, 0.000, 165.178], [0.000, 0.128, 21.556]),
    // depthwise pixels
    row([1.600, 5.000, 0.000, 7.000, 100.000, 500.000], [0.500, 0.500, 1.500]),
    // winograd
    row([0.741, 68.068, 0.000, 3.383, 12.051, 246.034], [0.633, 0.674, 0.876]),
    // fft
    row([1.419, 0.000, 0.000, 4.406, 145.331, 3.124], [0.000, 0.707, 1.144]),
    // fft groups
    row([3.196, 69.447, 0.000, 0.000, 48.038, 0.000], [1.568, 2.788, 1.000]),
];

#[rustfmt::skip]
static AVX2FMA: [Constants; Family::COUNT] = [
    // reference
    row([30.000, 30.000, 0.000, 0.000, 0.000, 500.000], [0.000, 0.000, 0.000]),
    // pointwise columns
    row([1.251, 0.000, 0.000, 1.000, 1.000, 716.533], [0.095, 0.084, 5.091]),
    // pointwise rows
    row([1.177, 142.432, 0.753, 56.141, 1.000, 0.000], [0.288, 0.231, 1.000]),
    // im2col columns
    row([1.143, 0.000, 0.000, 30.656, 17.301, 210.189], [0.342, 0.289, 0.596]),
    // im2col rows
    row([0.399, 265.161, 0.000, 27.480, 2.276, 294.755], [3.372, 0.591, 1.995]),
    // direct image
    row([1.384, 0.000, 29.450, 1.000, 1.000, 0.000], [0.000, 0.000, 0.072]),
    // direct rows
    row([1.537, 0.289, 5.802, 21.049, 7.689, 635.810], [0.024, 0.006, 1.371]),
    // depthwise channels
    row([0.000, 24.516, 11.434, 3.194, 0.502, 262.620], [1.466, 0.795, 1.000]),
    // depthwise permuted
    row([0.869, 54.858, 16.255, 3.587, 0.000, 87.187], [0.147, 0.000, 33.615]),
    // depthwise pixels
    row([1.600, 5.000, 0.000, 7.000, 100.000, 500.000], [0.500, 0.500, 1.500]),
    // winograd
    row([1.001, 81.521, 0.000, 2.797, 7.238, 0.000], [0.000, 0.428, 0.524]),
    // fft
    row([0.932, 0.000, 0.000, 2.649, 164.246, 14.133], [2.207, 1.009, 1.414]),
    // fft groups
    row([5.039, 126.387, 0.000, 0.000, 39.943, 0.000], [2.660, 1.984, 1.000]),
];
