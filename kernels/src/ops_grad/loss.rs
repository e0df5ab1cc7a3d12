//! Softmax with cross-entropy.

use super::{Gradient, Shared, finish};
use crate::describe::{ConvError, Layout, TensorRef};
use crate::ops::{Ops, check_layout};
use crate::run::Threads;
use crate::run::elementwise::{elements, merges, split};
use crate::tile::copy_table::InputTile;
use crate::tile::grad::table::{GradTiles, LossOf, PIXELS_OF_LOSS};
use crate::tile::output::OutputRegion;
use crate::work::parts::SplitUnits;

impl Ops {
    /// The cross-entropy of the softmax over channels, and its gradient, from one set of exponentials. Each pixel is an
    /// example: `loss = ln(sum of exp(x - max)) + max - x[label]`, and `dx[c] = weight * (softmax(x)[c] - (c == label))`.
    ///
    /// `labels` and `losses` have one element for each pixel, image by image. With a `weight` of one divided by their
    /// number, `dx` is the gradient of the mean loss. Returns the mean of the losses.
    ///
    /// A pixel with a NaN, or whose largest logit is an infinity of either sign, becomes NaN, as in
    /// [`softmax`](Self::softmax).
    ///
    /// ```
    /// use kernels::*;
    /// # fn main() -> Result<(), ConvError> {
    /// // Two examples of three classes with equal logits.
    /// let (ops, shape) = (Ops::new(None)?, Shape4::new(2, 3, 1, 1));
    /// let logits = TensorRef::packed(&[1.0; 6], shape, Layout::Nhwc)?;
    /// let (mut losses, mut dx) = ([0.0; 2], [0.0; 6]);
    /// let out = TensorMut::packed(&mut dx, shape, Layout::Nhwc)?;
    /// let mean = ops.cross_entropy(logits, &[0, 2], 0.5, &mut losses, out, Threads::Seq)?;
    /// assert!((mean - 3f64.ln()).abs() < 1e-6);
    /// assert!((dx[0] + 1.0 / 3.0).abs() < 1e-6 && (dx[1] - 1.0 / 6.0).abs() < 1e-6);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`ConvError::BufferLen`] unless there are a label and a loss for each pixel.
    /// - [`ConvError::InvalidField`] for a label that is no channel.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] unless `dx` has the shape and layout of the logits.
    ///
    /// On an error losses and gradient are unchanged.
    pub fn cross_entropy<'a>(
        &self,
        logits: TensorRef<'_>,
        labels: &[u32],
        weight: f32,
        losses: &mut [f32],
        dx: impl Into<Gradient<'a>>,
        threads: Threads<'_>,
    ) -> Result<f64, ConvError> {
        let dx = dx.into();
        let shape = logits.shape();
        check_layout(logits.layout())?;
        dx.check((shape, logits.layout()))?;
        // The tensor exists, so the product does not overflow.
        let examples = shape.n * shape.h * shape.w;
        for (what, got) in [("labels", labels.len()), ("losses", losses.len())] {
            if got != examples {
                return Err(ConvError::BufferLen { what, expected: examples, got });
            }
        }
        if let Some((example, label)) =
            labels.iter().enumerate().find(|(_, label)| **label as usize >= shape.c)
        {
            let expected = format!("less than the {} channels for example {example}", shape.c);
            return Err(ConvError::field("labels", expected, label));
        }
        let merge = merges(&logits.view()) && merges(&dx.view());
        let logits = logits.pixels().merged_if(merge);
        let add = dx.adds();
        let region = OutputRegion::new(dx.into_tensor(), merge);
        // All channels of a pixel belong to one part.
        let per_row = region.layout() == Layout::Nchw;
        let split_units = SplitUnits::new(if per_row { PIXELS_OF_LOSS } else { 1 }, region.channels.end);
        let (pixels, shared) = (region.pixels.end, Shared::new(&mut *losses));
        let work = elements(shape).saturating_mul(32);
        split(region, split_units, work, threads, &|mut region| {
            let (channels, part) = (region.channels.clone(), region.pixels.clone());
            for n in region.images.clone() {
                for p in part.clone().step_by(PIXELS_OF_LOSS) {
                    let piece = p..part.end.min(p + PIXELS_OF_LOSS);
                    let examples = n * pixels + piece.start..n * pixels + piece.end;
                    let out = if per_row {
                        region.channels_as_rows(n, channels.clone(), piece)
                    } else {
                        region.channels_as_columns(n, piece, 0, channels.clone())
                    };
                    let value = InputTile::new(&logits, n, 0, p);
                    let of = LossOf { labels: &labels[examples.clone()], weight, per_row };
                    let mut found = [0.0; PIXELS_OF_LOSS];
                    let found = &mut found[..examples.len()];
                    let tiles = GradTiles { out, add, gradient: value, value };
                    self.kernels().grad.loss(&of, tiles, found);
                    shared.with(|losses| losses[examples].copy_from_slice(found));
                }
            }
            finish(&mut region, add);
        });
        Ok(losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / examples as f64)
    }
}
