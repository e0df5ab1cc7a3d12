//! The kernels of the gradients of the layers other than convolution, behind the safe calls of `table`.
//!
//! | file | gradients |
//! |---|---|
//! | `activate` | activations |
//! | `sums`, `affine` | normalisations and PReLU slopes: sums over pixels, and the map that follows them |
//! | `gate` | a rectifier after a batch normalisation, which both of them apply |
//! | `pool`, `pool_plane` | pooling, with vectors of channels and of pixels |
//! | `loss` | softmax with cross-entropy |

#[allow(unsafe_code)]
pub(crate) mod activate;
#[allow(unsafe_code)]
pub(crate) mod affine;
mod gate;
#[allow(unsafe_code)]
pub(crate) mod loss;
#[allow(unsafe_code)]
pub(crate) mod pool;
#[allow(unsafe_code)]
pub(crate) mod pool_plane;
#[allow(unsafe_code)]
pub(crate) mod sums;
#[allow(unsafe_code)]
pub(crate) mod table;

use super::output::InPlace;

/// A tile of a gradient to write, and the tiles of the same rows and columns that it is computed from. The columns of
/// a row are adjacent in each (`block` is not read).
pub(crate) struct Tiles {
    pub(super) out: InPlace,
    /// Whether to add to what `out` has.
    pub(super) add: bool,
    /// The gradient of the output of the layer.
    pub(super) gradient: Rows,
    /// The input of the layer, or its output.
    pub(super) value: Rows,
}

/// Rows to read.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub(super) base: *const f32,
    /// Distance between rows.
    pub(super) row: usize,
}

impl Rows {
    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> *const f32 {
        self.base.wrapping_add(row * self.row + column)
    }
}
