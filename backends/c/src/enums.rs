//! The enums of the header. C passes them as numbers, which are looked up in tables and never cast to an enum.

use crate::status::{Failure, guard_value};
use kernels::{Algorithm, Isa, Layout, Numerics, Products};
use std::ffi::{CStr, c_char};

/// The order of a tensor's elements in memory. Filters are always `[out_channels][channels / groups][kernel_h][kernel_w]`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ck_layout {
    /// The layout of the input. Only the output's layout can have this value.
    AsInput = 0,
    /// `[n][c][h][w]`.
    Nchw = 1,
    /// `[n][h][w][c]`.
    Nhwc = 2,
    /// `[n][ceil(c / 16)][h][w][16]`: the fastest for whole networks. The lanes after the last channel are ignored
    /// in inputs and written as zero in outputs.
    Nchw16c = 3,
}

/// The function that is applied to the sum, the bias and the residual.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ck_activation {
    /// The identity.
    None = 0,
    /// `max(x, 0)`.
    Relu = 1,
    /// `x` for `x >= 0`, `activation_alpha * x` below.
    LeakyRelu = 2,
    /// `min(max(x, activation_lo), activation_hi)`. ReLU6 is a clip from 0 to 6.
    Clip = 3,
    /// `1 / (1 + exp(-x))`.
    Sigmoid = 4,
    /// Hyperbolic tangent.
    Tanh = 5,
    /// `x` for `x >= 0`, `activation_alpha * (exp(x) - 1)` below.
    Elu = 6,
    /// `x` for `x >= 0`, `slope[channel] * x` below. The slopes are part of the weights.
    Prelu = 7,
    /// `x * min(max(x + 3, 0), 6) / 6`.
    HardSwish = 8,
    /// `x / (1 + exp(-x))`, also called swish.
    Silu = 9,
}

/// How much rounding error an algorithm can add.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ck_numerics {
    /// Only the order of the summands changes.
    Strict = 0,
    /// At most 2e-6 relative L2 error, and no output off by more than 5e-6 of the largest output.
    Default = 1,
    /// At most 6e-6 relative L2 error, and no output off by more than 2e-5 of the largest output.
    Fast = 2,
    /// At most 5e-4 relative L2 error, and no output off by more than 2e-3 of the largest output.
    Tf32 = 3,
    /// At most 4e-3 relative L2 error, and no output off by more than 2e-2 of the largest output.
    Bf16 = 4,
}

/// How a convolution is computed.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ck_algorithm {
    /// The cost model chooses.
    Auto = 0,
    /// The library times the most promising algorithms on this machine when it makes the plan, which takes some
    /// milliseconds. Only for plans of one thread, and not for a `ck_conv`.
    Measured = 1,
    /// Plain loops that accumulate in double precision: slow, for tests.
    Reference = 2,
    /// A matrix product of the filter and the lowered image.
    Im2colGemm = 3,
    /// A matrix product on the image in place, for 1x1 kernels.
    Pointwise = 4,
    /// Register tiles on the image in place.
    Direct = 5,
    /// For depthwise convolution and small groups.
    Depthwise = 6,
    /// Winograd with tiles of 2x2 outputs.
    Winograd_2x2 = 7,
    /// Winograd with tiles of 3x3 outputs.
    Winograd_3x3 = 8,
    /// Winograd with tiles of 4x2 outputs.
    Winograd_4x2 = 9,
    /// Winograd with tiles of 4x4 outputs.
    Winograd_4x4 = 10,
    /// Winograd with tiles of 6x6 outputs.
    Winograd_6x6 = 11,
    /// Fourier transforms, for large kernels.
    Fft = 12,
    /// Winograd with tiles of 5x5 outputs.
    Winograd_5x5 = 13,
}

/// The numbers that a convolution multiplies. Tensors and sums are always `float`. The bf16 products split each
/// operand into one, two or three bf16 numbers and multiply these.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ck_products {
    /// With `CK_ALGORITHM_AUTO` and `CK_ALGORITHM_MEASURED`, the fastest that `numerics` permits and the instruction
    /// set is made for. With any other algorithm, `CK_PRODUCTS_F32`.
    Auto = 0,
    /// Products of `float`.
    F32 = 1,
    /// Six products of three bf16 numbers, about as accurate as those of `float`. The choice takes them only from
    /// `CK_NUMERICS_DEFAULT` on.
    Bf16x6 = 2,
    /// Three products of two bf16 numbers. The choice takes them only from `CK_NUMERICS_FAST` on.
    Bf16x3 = 3,
    /// One product of operands that are rounded to bf16. The choice takes it only with `CK_NUMERICS_BF16`.
    Bf16 = 4,
}

/// The instruction set of the kernels.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ck_isa {
    /// The best instruction set of this machine.
    Auto = 0,
    /// What every machine has that the library was compiled for.
    Portable = 1,
    /// AArch64 Advanced SIMD.
    Neon = 2,
    /// x86-64 AVX2 with FMA.
    Avx2fma = 3,
    /// x86-64 AVX-512 Foundation.
    Avx512f = 4,
    /// AVX-512 with dot products of bf16 numbers.
    Avx512bf16 = 5,
    /// AVX-512 with matrix tiles of bf16 numbers.
    Amx = 6,
}

pub(crate) const LAYOUTS: [(u32, Layout); 3] = [
    (ck_layout::Nchw as u32, Layout::Nchw),
    (ck_layout::Nhwc as u32, Layout::Nhwc),
    (ck_layout::Nchw16c as u32, Layout::Nchw16c),
];

pub(crate) const NUMERICS: [(u32, Numerics); 5] = [
    (ck_numerics::Strict as u32, Numerics::Strict),
    (ck_numerics::Default as u32, Numerics::Default),
    (ck_numerics::Fast as u32, Numerics::Fast),
    (ck_numerics::Tf32 as u32, Numerics::Tf32),
    (ck_numerics::Bf16 as u32, Numerics::Bf16),
];

type Named<C, T> = (C, T, &'static CStr);

const ALGORITHMS: [Named<ck_algorithm, Algorithm>; 12] = [
    (ck_algorithm::Reference, Algorithm::Reference, c"reference"),
    (ck_algorithm::Im2colGemm, Algorithm::Im2colGemm, c"im2col_gemm"),
    (ck_algorithm::Pointwise, Algorithm::Pointwise, c"pointwise"),
    (ck_algorithm::Direct, Algorithm::Direct, c"direct"),
    (ck_algorithm::Depthwise, Algorithm::Depthwise, c"depthwise"),
    (ck_algorithm::Winograd_2x2, Algorithm::Winograd2x2, c"winograd_2x2"),
    (ck_algorithm::Winograd_3x3, Algorithm::Winograd3x3, c"winograd_3x3"),
    (ck_algorithm::Winograd_4x2, Algorithm::Winograd4x2, c"winograd_4x2"),
    (ck_algorithm::Winograd_4x4, Algorithm::Winograd4x4, c"winograd_4x4"),
    (ck_algorithm::Winograd_5x5, Algorithm::Winograd5x5, c"winograd_5x5"),
    (ck_algorithm::Winograd_6x6, Algorithm::Winograd6x6, c"winograd_6x6"),
    (ck_algorithm::Fft, Algorithm::Fft, c"fft"),
];

const PRODUCTS: [Named<ck_products, Products>; 4] = [
    (ck_products::F32, Products::F32, c"f32"),
    (ck_products::Bf16x6, Products::Bf16x6, c"bf16x6"),
    (ck_products::Bf16x3, Products::Bf16x3, c"bf16x3"),
    (ck_products::Bf16, Products::Bf16, c"bf16"),
];

const ISAS: [Named<ck_isa, Isa>; 6] = [
    (ck_isa::Portable, Isa::Portable, c"portable"),
    (ck_isa::Neon, Isa::Neon, c"neon"),
    (ck_isa::Avx2fma, Isa::Avx2Fma, c"avx2fma"),
    (ck_isa::Avx512f, Isa::Avx512F, c"avx512f"),
    (ck_isa::Avx512bf16, Isa::Avx512Bf16, c"avx512bf16"),
    (ck_isa::Amx, Isa::Amx, c"amx"),
];

/// Returns what `number` stands for in `table`.
pub(crate) fn known<T: Copy>(field: &str, kind: &str, table: &[(u32, T)], number: u32) -> Result<T, Failure> {
    let found = table.iter().find(|(known, _)| *known == number);
    found.map(|&(_, value)| value).ok_or_else(|| unknown(field, kind, table.iter().map(|(n, _)| *n), number))
}

fn unknown(field: &str, kind: &str, numbers: impl Iterator<Item = u32> + Clone, got: u32) -> Failure {
    let (least, most) = (numbers.clone().min().unwrap_or(0), numbers.max().unwrap_or(0));
    Failure::invalid(format!("{field}: expected a {kind} from {least} to {most}, got {got}"))
}

pub(crate) fn layout(field: &str, number: u32) -> Result<Layout, Failure> {
    known(field, "ck_layout", &LAYOUTS, number)
}

/// The algorithm of a number other than `Auto` and `Measured`.
pub(crate) fn algorithm(number: u32) -> Result<Algorithm, Failure> {
    let found = ALGORITHMS.iter().find(|(known, ..)| *known as u32 == number);
    found.map(|&(_, algorithm, _)| algorithm).ok_or_else(|| {
        let numbers = ALGORITHMS.iter().map(|(known, ..)| *known).chain([ck_algorithm::Auto]);
        let numbers = numbers.map(|known| known as u32);
        unknown("algorithm", "ck_algorithm", numbers, number)
    })
}

/// The products of a number; `None` for those of the choice.
pub(crate) fn products(number: u32) -> Result<Option<Products>, Failure> {
    if number == ck_products::Auto as u32 {
        return Ok(None);
    }
    let found = PRODUCTS.iter().find(|(known, ..)| *known as u32 == number);
    found.map(|&(_, products, _)| Some(products)).ok_or_else(|| {
        let numbers = PRODUCTS.iter().map(|(known, ..)| *known).chain([ck_products::Auto]);
        let numbers = numbers.map(|known| known as u32);
        unknown("products", "ck_products", numbers, number)
    })
}

/// The instruction set of a number; `None` for the best one.
pub(crate) fn isa(number: u32) -> Result<Option<Isa>, Failure> {
    if number == ck_isa::Auto as u32 {
        return Ok(None);
    }
    let found = ISAS.iter().find(|(known, ..)| *known as u32 == number);
    found.map(|&(_, isa, _)| Some(isa)).ok_or_else(|| {
        let numbers = ISAS.iter().map(|(known, ..)| *known).chain([ck_isa::Auto]);
        let numbers = numbers.map(|known| known as u32);
        unknown("isa", "ck_isa", numbers, number)
    })
}

pub(crate) fn ck_algorithm_of(algorithm: Algorithm) -> Option<ck_algorithm> {
    ALGORITHMS.iter().find(|(_, known, _)| *known == algorithm).map(|&(number, ..)| number)
}

pub(crate) fn ck_products_of(products: Products) -> Option<ck_products> {
    PRODUCTS.iter().find(|(_, known, _)| *known == products).map(|&(number, ..)| number)
}

pub(crate) fn ck_isa_of(isa: Isa) -> Option<ck_isa> {
    ISAS.iter().find(|(_, known, _)| *known == isa).map(|&(number, ..)| number)
}

/// Returns the name of `algorithm`, a `ck_algorithm`: "direct", for example. It is a constant of the library.
#[unsafe(no_mangle)]
pub extern "C" fn ck_algorithm_name(algorithm: u32) -> *const c_char {
    let found = ALGORITHMS.iter().find(|(known, ..)| *known as u32 == algorithm);
    let name = match algorithm {
        0 => c"auto",
        1 => c"measured",
        _ => found.map_or(c"unknown", |&(.., name)| name),
    };
    name.as_ptr()
}

/// Returns the name of `products`, a `ck_products`: "bf16x3", for example. It is a constant of the library.
#[unsafe(no_mangle)]
pub extern "C" fn ck_products_name(products: u32) -> *const c_char {
    let found = PRODUCTS.iter().find(|(known, ..)| *known as u32 == products);
    let is_auto = products == ck_products::Auto as u32;
    let name = if is_auto { c"auto" } else { found.map_or(c"unknown", |&(.., name)| name) };
    name.as_ptr()
}

/// Returns the name of `isa`, a `ck_isa`: "avx2fma", for example. It is a constant of the library.
#[unsafe(no_mangle)]
pub extern "C" fn ck_isa_name(isa: u32) -> *const c_char {
    let found = ISAS.iter().find(|(known, ..)| *known as u32 == isa);
    let name =
        if isa == ck_isa::Auto as u32 { c"auto" } else { found.map_or(c"unknown", |&(.., name)| name) };
    name.as_ptr()
}

/// Returns the best instruction set of this machine.
#[unsafe(no_mangle)]
pub extern "C" fn ck_isa_detect() -> ck_isa {
    guard_value(ck_isa::Portable, || ck_isa_of(Isa::detect()).unwrap_or(ck_isa::Portable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_with_a_name_has_a_number() {
        for algorithm in Algorithm::ALL {
            let (number, _, name) = ALGORITHMS.iter().find(|(_, known, _)| *known == algorithm).unwrap();
            assert_eq!(name.to_str(), Ok(algorithm.name()));
            assert_eq!(super::algorithm(*number as u32).unwrap(), algorithm);
        }
        for products in Products::ALL {
            let (number, _, name) = PRODUCTS.iter().find(|(_, known, _)| *known == products).unwrap();
            assert_eq!(name.to_str(), Ok(products.name()));
            assert_eq!(super::products(*number as u32).unwrap(), Some(products));
            assert_eq!(ck_products_of(products), Some(*number));
        }
        for isa in Isa::ALL {
            let (number, _, name) = ISAS.iter().find(|(_, known, _)| *known == isa).unwrap();
            assert_eq!(name.to_str(), Ok(isa.name()));
            assert_eq!(super::isa(*number as u32).unwrap(), Some(isa));
        }
        assert_eq!(LAYOUTS.map(|(_, layout)| layout), Layout::ALL);
        assert_eq!(NUMERICS.map(|(_, numerics)| numerics), Numerics::ALL);
    }

    #[test]
    fn other_numbers_are_refused() {
        let text = |failure: Failure| failure.message;
        assert_eq!(text(layout("layout", 0).unwrap_err()), "layout: expected a ck_layout from 1 to 3, got 0");
        assert_eq!(
            text(algorithm(14).unwrap_err()),
            "algorithm: expected a ck_algorithm from 0 to 13, got 14"
        );
        assert_eq!(text(products(5).unwrap_err()), "products: expected a ck_products from 0 to 4, got 5");
        assert_eq!(text(isa(7).unwrap_err()), "isa: expected a ck_isa from 0 to 6, got 7");
    }
}
