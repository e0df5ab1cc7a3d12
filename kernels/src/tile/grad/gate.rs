//! The derivative of a rectifier that follows a batch normalisation, from the input of the normalisation.

use crate::simd::Simd;

/// The map of one channel, or of a vector of channels, and the limits between which the rectifier passes it on:
/// `lo < (x - centre) * factor + shift < hi`.
#[derive(Clone, Copy)]
pub(super) struct Gate<V> {
    pub(super) factor: V,
    pub(super) shift: V,
    pub(super) lo: V,
    pub(super) hi: V,
}

impl<V: Copy> Gate<V> {
    /// `g` where the rectifier passes `x` on, and zero elsewhere. `deviation` is `x - centre`.
    #[inline(always)]
    pub(super) fn pass<S: Simd<V = V>>(self, s: S, g: V, deviation: V) -> V {
        let (y, zero) = (s.mul_add(deviation, self.factor, self.shift), s.splat(0.0));
        s.where_negative(s.sub(self.lo, y), s.where_negative(s.sub(y, self.hi), g, zero), zero)
    }
}
