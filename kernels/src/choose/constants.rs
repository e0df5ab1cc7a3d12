//! The constants of the cost model, fitted by `cargo run --release -p benches --bin fit` (docs/choice.md) to times of an AMD EPYC
//! (Zen 5, 2026-11-30). The times were multiplied by 1.45 (AVX2: 1.27), which makes its FMA rate that of the typical profile.
//! Older times remain in "fft tiles" (AVX2: also "fft groups") and in the families with bf16 parts, of which those of "winograd
//! parts" were set by hand: no machine with matrix tiles was there. Those of "fft" with AVX-512 were set by hand, too.

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
    row([0.917, 0.000, 4.565, 1.000, 1.000, 349.058], [0.463, 0.399, 2.791]),
    // pointwise rows
    row([0.738, 0.000, 8.954, 67.629, 1.000, 176.876], [0.000, 1.406, 0.540]),
    // im2col columns
    row([0.889, 0.000, 0.000, 22.148, 8.966, 327.650], [0.556, 0.188, 0.713]),
    // im2col rows
    row([0.474, 151.724, 0.000, 18.554, 2.005, 401.906], [2.245, 0.367, 0.954]),
    // direct image
    row([0.803, 43.102, 0.329, 1.000, 1.000, 656.234], [0.610, 0.429, 1.136]),
    // direct rows
    row([0.921, 72.592, 0.030, 6.115, 2.695, 653.511], [0.222, 0.160, 0.771]),
    // direct few
    row([1.186, 21.479, 4.422, 1.000, 1.000, 753.244], [0.680, 0.973, 3.694]),
    // depthwise channels
    row([0.636, 6.927, 2.776, 1.070, 0.000, 185.882], [0.515, 0.405, 1.108]),
    // depthwise permuted
    row([0.480, 10.354, 4.874, 1.487, 0.000, 606.335], [0.000, 0.000, 1.447]),
    // depthwise pixels
    row([0.472, 23.470, 4.617, 2.753, 0.640, 241.911], [0.000, 1.939, 0.790]),
    // winograd
    row([0.824, 62.550, 0.000, 2.750, 10.556, 679.418], [0.000, 0.403, 0.607]),
    // fft
    row([1.200, 0.000, 4.000, 3.200, 40.000, 3.000], [0.800, 1.029, 1.429]),
    // fft groups
    row([0.000, 0.000, 23.014, 0.069, 31.010, 0.000], [1.956, 1.438, 2.126]),
    // fft tiles
    row([0.113, 1.000, 1.000, 1.486, 0.000, 102.657], [3.630, 2.146, 8.646]),
    // parts
    row([1.030, 0.000, 7.540, 4.100, 5.410, 383.000], [0.000, 0.514, 1.429]),
    // parts matrix
    row([0.945, 212.000, 0.000, 14.200, 9.560, 252.000], [0.000, 0.514, 1.429]),
    // winograd parts
    row([1.050, 60.000, 2.000, 3.254, 11.945, 341.602], [0.684, 1.171, 1.257]),
];

#[rustfmt::skip]
static AVX2FMA: Table = [
    // reference
    row([30.000, 30.000, 0.000, 0.000, 0.000, 500.000], [0.000, 0.000, 0.000]),
    // pointwise columns
    row([0.973, 0.000, 2.368, 1.000, 1.000, 403.511], [0.220, 0.243, 1.000]),
    // pointwise rows
    row([0.981, 0.000, 6.031, 32.669, 1.000, 430.322], [0.000, 0.427, 0.495]),
    // im2col columns
    row([0.901, 0.000, 0.000, 27.633, 8.369, 258.034], [0.319, 0.000, 0.000]),
    // im2col rows
    row([0.567, 48.653, 0.000, 17.832, 2.523, 323.404], [1.891, 1.149, 1.047]),
    // direct image
    row([1.029, 7.957, 0.000, 1.000, 1.000, 674.290], [0.319, 0.187, 4.153]),
    // direct rows
    row([0.949, 30.704, 0.000, 11.595, 3.183, 718.692], [0.189, 0.084, 0.492]),
    // direct few
    row([1.086, 17.691, 23.197, 1.000, 1.000, 682.990], [0.413, 0.244, 0.855]),
    // depthwise channels
    row([0.006, 0.000, 6.995, 0.928, 0.066, 328.623], [0.760, 0.723, 1.000]),
    // depthwise permuted
    row([1.045, 0.000, 10.810, 1.134, 0.000, 626.782], [2.902, 0.000, 1.000]),
    // depthwise pixels
    row([0.475, 10.133, 15.931, 1.769, 0.797, 141.991], [0.492, 0.000, 0.003]),
    // winograd
    row([0.878, 47.009, 0.000, 1.502, 4.679, 773.767], [0.000, 0.339, 0.233]),
    // fft
    row([0.209, 0.000, 0.000, 1.227, 33.813, 48.392], [3.400, 1.426, 1.063]),
    // fft groups
    row([0.000, 0.000, 0.000, 1.246, 53.856, 99.313], [2.221, 1.071, 2.390]),
    // fft tiles
    row([1.038, 0.770, 0.770, 2.387, 0.000, 66.922], [1.303, 0.664, 1.157]),
    // parts
    row([0.808, 46.182, 1.539, 7.697, 1.155, 153.939], [0.231, 0.792, 1.100]),
    // parts matrix
    row([0.808, 46.182, 1.539, 7.697, 1.155, 153.939], [0.231, 0.792, 1.100]),
    // winograd parts
    row([0.808, 46.182, 1.539, 7.697, 9.194, 262.930], [0.526, 0.901, 0.968]),
];
