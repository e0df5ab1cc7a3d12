//! [`Border`]: the values outside of an image.

/// The values that a filter reads outside of an image.
///
/// The columns show the row `abcd` with four values on either side, and the names that other libraries use.
/// Every rule extends the image as far as a kernel needs, also if the kernel is larger than the image.
///
/// | border | values | OpenCV | SciPy's `ndimage` | NumPy's `pad` |
/// |---|---|---|---|---|
/// | `Zero` | `0000 abcd 0000` | `BORDER_CONSTANT` | `constant` | `constant` |
/// | `Constant(k)` | `kkkk abcd kkkk` | `BORDER_CONSTANT` | `constant` | `constant` |
/// | `Reflect101` | `cdcb abcd cbab` | `BORDER_REFLECT_101` | `mirror` | `reflect` |
/// | `Reflect` | `dcba abcd dcba` | `BORDER_REFLECT` | `reflect` | `symmetric` |
/// | `Replicate` | `aaaa abcd dddd` | `BORDER_REPLICATE` | `nearest` | `edge` |
/// | `Wrap` | `abcd abcd abcd` | `BORDER_WRAP` | `wrap` | `wrap` |
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Border {
    /// Zeros.
    #[default]
    Zero,
    /// One value.
    Constant(f32),
    /// The image mirrored at its outermost pixels, which are not repeated.
    Reflect101,
    /// The image mirrored at its edges, so that the outermost pixels are repeated.
    Reflect,
    /// The nearest pixel of the image.
    Replicate,
    /// The image repeated.
    Wrap,
}

impl Border {
    /// Returns the index in `0..len` whose value stands at `index`; `None` if a constant stands there.
    pub(crate) fn source(self, index: isize, len: usize) -> Option<usize> {
        // No axis of an array is longer than `isize::MAX`.
        let n = len as isize;
        if (0..n).contains(&index) {
            return Some(index as usize);
        }
        let mirrored = |period: isize, shift: isize| {
            let place = index.rem_euclid(period);
            if place < n { place } else { period - shift - place }
        };
        let source = match self {
            Self::Zero | Self::Constant(_) => return None,
            Self::Reflect101 if n == 1 => 0,
            Self::Reflect101 => mirrored(2 * (n - 1), 0),
            Self::Reflect => mirrored(2 * n, 1),
            Self::Replicate => index.clamp(0, n - 1),
            Self::Wrap => index.rem_euclid(n),
        };
        Some(source as usize)
    }

    /// The value where [`source`](Self::source) is `None`.
    pub(crate) fn constant(self) -> f32 {
        if let Self::Constant(value) = self { value } else { 0.0 }
    }

    /// Whether the library's own zero padding is this border.
    pub(crate) fn is_zero(self) -> bool {
        matches!(self, Self::Zero) || self == Self::Constant(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Border::{self, *};

    fn extended(border: Border, image: &str, by: isize) -> String {
        let pixels: Vec<char> = image.chars().collect();
        let range = -by..pixels.len() as isize + by;
        range.map(|index| border.source(index, pixels.len()).map_or('k', |at| pixels[at])).collect()
    }

    #[test]
    fn extends_an_image_as_documented() {
        assert_eq!(extended(Zero, "abcd", 4), "kkkkabcdkkkk");
        assert_eq!(extended(Reflect101, "abcd", 4), "cdcbabcdcbab");
        assert_eq!(extended(Reflect, "abcd", 4), "dcbaabcddcba");
        assert_eq!(extended(Replicate, "abcd", 4), "aaaaabcddddd");
        assert_eq!(extended(Wrap, "abcd", 4), "abcdabcdabcd");
    }

    #[test]
    fn extends_a_short_image_repeatedly() {
        assert_eq!(extended(Reflect101, "abc", 7), "bcbabcbabcbabcbab");
        assert_eq!(extended(Reflect, "ab", 5), "aabbaabbaabb");
        for border in [Reflect101, Reflect, Replicate, Wrap] {
            assert_eq!(extended(border, "a", 3), "aaaaaaa", "{border:?}");
        }
    }
}
