//! Local response normalisation.

use super::{Ops, elements, elementwise_split_units, merges, split, tiles};
use crate::describe::{ConvError, TensorOut, TensorRef};
use crate::run::{Threads, check};
use crate::tile::copy_table::InputTile;
use crate::tile::layer_table::Response;
use crate::tile::lrn::Power;
use crate::tile::output::OutputRegion;

/// Parameters of local response normalisation:
/// `y = x / (k + alpha / size * sum of squares of size neighbouring channels)^beta`.
///
/// AlexNet uses `size: 5, alpha: 5e-4, beta: 0.75, k: 2.0`. The alpha of its paper, 1e-4, is not divided by
/// the size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LrnSpec {
    /// Channels in a window: the channel itself, `(size - 1) / 2` channels before it, and the remaining ones
    /// after it. Windows are clipped at the first and last channel; the divisor is always `size`.
    pub size: usize,
    /// Weight of the mean square; at least 0.
    pub alpha: f32,
    /// The exponent. 0.5, 0.75 and 1 are computed with square roots, all others with the standard library's
    /// `powf`.
    pub beta: f32,
    /// The constant in the divisor; at least 0.
    pub k: f32,
}

impl LrnSpec {
    pub(crate) fn check(&self) -> Result<Response, ConvError> {
        let Self { size, alpha, beta, k } = *self;
        if size == 0 {
            return Err(ConvError::field("lrn.size", "at least 1", size));
        }
        for (field, value) in [("lrn.alpha", alpha), ("lrn.k", k)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(ConvError::field(field, "a finite number, at least 0", value));
            }
        }
        if !beta.is_finite() {
            return Err(ConvError::field("lrn.beta", "a finite number", beta));
        }
        let power = match beta {
            1.0 => Power::One,
            0.5 => Power::Half,
            0.75 => Power::ThreeQuarters,
            _ => Power::Other(beta),
        };
        let before = (size - 1) / 2;
        Ok(Response { before, after: size - 1 - before, k, alpha: alpha / size as f32, power })
    }
}

impl Ops {
    /// Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3).
    ///
    /// It matches ONNX's `LRN` for every size and PyTorch's `LocalResponseNorm` for odd sizes: for an even
    /// size, the larger half of the window is after the channel. The padding lanes of Nchw16c are set to
    /// zero.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] for a size of 0, for alpha or k that is negative or not finite, and for
    ///   beta that is not finite.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] unless the output has the shape and
    ///   layout of the input.
    ///
    /// On an error the output is unchanged.
    pub fn lrn<'a>(
        &self,
        spec: LrnSpec,
        input: TensorRef<'_>,
        output: impl Into<TensorOut<'a>>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let output = output.into();
        let response = spec.check()?;
        super::check_layout(input.layout())?;
        check("output", (input.shape(), input.layout()), (output.shape(), output.layout()))?;
        let channels = input.shape().c;
        let per_element = 8 + spec.size.min(channels) as u64;
        let work = elements(input.shape()).saturating_mul(per_element);
        let merge = merges(&input.view()) && merges(&output.view());
        let input = input.pixels().merged_if(merge);
        let region = OutputRegion::new(output, merge);
        let split_units = elementwise_split_units(region.layout());
        split(region, split_units, work, threads, &|mut region| {
            tiles(&mut region, usize::MAX, |tile, at| {
                let source = InputTile::new(&input, at.n, 0, at.p);
                let place = (at.channels.start, channels);
                self.kernels.ops.layers.lrn(&response, source, place, at.per_row, tile);
            });
            region.zero_padding_lanes();
        });
        Ok(())
    }
}
