//! Operators that read an image at places between its elements, and the sum of overlapping windows.

use super::Windows;
use crate::error::LayerError;
use crate::layer::conv::invalid;

/// How the value between elements is computed from those around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interpolation {
    Nearest,
    Linear,
    Cubic,
}

/// What is outside of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outside {
    Zeros,
    /// The nearest element of the image.
    Border,
    Reflection,
}

/// The values of the first operand `[batch, channels, image]` at the places of the second
/// `[batch, places, axes of the image]` (Jaderberg et al. 2015, section 3.3). A place has numbers from -1 to 1, those of the
/// last axis first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GridSample {
    pub(crate) how: Interpolation,
    pub(crate) outside: Outside,
    /// Whether -1 and 1 are the centres of the outermost elements, and not their edges.
    pub(crate) align_corners: bool,
}

/// A convolution whose taps are displaced, and multiplied by a mask (Zhu et al. 2019, equation 1). The operands are the image
/// `[batch, channels, rows, columns]`, the filter, the displacements `[batch, offset groups * taps * 2, outputs]`, the bias,
/// and the mask `[batch, offset groups * taps, outputs]`. A scalar stands for a bias or a mask that is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deform {
    pub(crate) windows: Windows,
    pub(crate) groups: usize,
    /// Groups of input channels with displacements of their own.
    pub(crate) offset_groups: usize,
}

/// The sum of the windows `[batch, channels * taps, windows]`, each put at its place in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Overlap {
    pub(crate) windows: Windows,
    pub(crate) image: Vec<usize>,
}

impl Interpolation {
    /// Elements along an axis from which a value is computed.
    pub(crate) const fn reach(self) -> usize {
        match self {
            Self::Nearest => 1,
            Self::Linear => 2,
            Self::Cubic => 4,
        }
    }
}

impl GridSample {
    /// Maximum number of axes of an image.
    pub(crate) const MOST_AXES: usize = 3;

    pub(super) fn output(self, input: &[usize], grid: &[usize]) -> Result<Vec<usize>, LayerError> {
        let axes = input.len().saturating_sub(2);
        let fits = (1..=Self::MOST_AXES).contains(&axes)
            && grid.len() == input.len()
            && grid[0] == input[0]
            && grid[axes + 1] == axes;
        match fits {
            true => Ok([&input[..2], &grid[1..=axes]].concat()),
            false => {
                let expected = format!("places of {axes} numbers for an image of {input:?}");
                Err(invalid("grid", expected, format!("{grid:?}")))
            }
        }
    }
}

impl Deform {
    pub(super) fn output(&self, operands: &[Vec<usize>]) -> Result<Vec<usize>, LayerError> {
        let [input, filter, offsets, bias, mask] = operands else {
            return Err(invalid("operands", "5", operands.len()));
        };
        let taps: usize = self.windows.kernel.iter().product();
        let channels = filter.get(1).and_then(|per_group| per_group.checked_mul(self.groups));
        let fits = input.len() == 4
            && filter.len() == 4
            && channels == Some(input[1])
            && filter[2..] == self.windows.kernel[..]
            && filter[0].is_multiple_of(self.groups)
            && input[1].is_multiple_of(self.offset_groups);
        if !fits {
            let expected = format!("filters for {input:?} in {} groups", self.groups);
            return Err(invalid("weights", expected, format!("{filter:?}")));
        }
        let image = self.windows.outputs(&input[2..])?;
        let per_pixel =
            |numbers: usize| [&[input[0], self.offset_groups * taps * numbers], &image[..]].concat();
        let absent = |dims: &[usize]| dims.is_empty();
        for (field, found, expected) in [("offset", offsets, per_pixel(2)), ("mask", mask, per_pixel(1))] {
            if *found != expected && !(field == "mask" && absent(found)) {
                return Err(invalid(field, format!("{expected:?}"), format!("{found:?}")));
            }
        }
        if !absent(bias) && *bias != [filter[0]] {
            return Err(invalid("bias", format!("[{}]", filter[0]), format!("{bias:?}")));
        }
        Ok([&[input[0], filter[0]], &image[..]].concat())
    }
}

impl Overlap {
    pub(super) fn output(&self, input: &[usize]) -> Result<Vec<usize>, LayerError> {
        let (taps, grid) =
            (self.windows.kernel.iter().product::<usize>(), self.windows.outputs(&self.image)?);
        match *input {
            [n, c, l] if c.is_multiple_of(taps) && l == grid.iter().product::<usize>() => {
                Ok([&[n, c / taps], &self.image[..]].concat())
            }
            _ => {
                let expected = format!("a multiple of {taps} channels and the windows {grid:?}");
                Err(invalid("input", expected, format!("{input:?}")))
            }
        }
    }
}

/// The kernel of cubic convolution at a distance (Keys 1981, equation 4).
pub(crate) fn cubic(x: f64, a: f64) -> f64 {
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}
