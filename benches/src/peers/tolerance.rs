//! The tolerances of comparisons between engines, by the precision of their products.

use kernels::Numerics;

/// Relative L2 error of a layer above which a peer is excluded from the comparison.
///
/// In `f32`, it separates errors of rounding from those of another computation. A peer with bf16 products rounds
/// each operand by up to `2^-9`, and its output, too: about 3e-3 in all.
pub(crate) fn of_layer(numerics: Numerics) -> f64 {
    match numerics {
        Numerics::Bf16 => 1e-2,
        _ => 1e-4,
    }
}

/// Relative L2 distance of the outputs of a network above which an engine counts as computing something else.
///
/// With rounded products it is ten times the promise of a layer, because the errors of a hundred layers in a row
/// add up like independent ones. bf16 engines are at 3e-3 to 1e-2 in the networks of the zoo; another network would
/// be at about 1.
pub(crate) fn of_network(numerics: Numerics) -> f64 {
    match numerics {
        Numerics::Tf32 => 5e-3,
        Numerics::Bf16 => 4e-2,
        _ => 1e-4,
    }
}
