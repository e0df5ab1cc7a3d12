//! Gradients of activations, and of the slopes of PReLU.

use super::channels::{BAND, bands, channels_alone};
use super::{Gradient, Shared, SliceGradient, Sources, finish, tile_of};
use crate::describe::{Activation, ConvError, Layout, TensorMut, TensorRef};
use crate::ops::combine::combine;
use crate::ops::norm::check_len;
use crate::ops::{Ops, check_layout, check_without_slopes};
use crate::run::elementwise::{cost, elements, split};
use crate::run::slopes::{Applied, activation_gradient};
use crate::run::{Threads, check};
use crate::tile::grad::table::{SumLines, SumOf};
use crate::tile::ops_table::Slopes;
use crate::tile::output::OutputRegion;

/// What is known of an activation that was applied: its input or its output.
///
/// Where the activation worked in place, only its output is left.
#[derive(Debug, Clone, Copy)]
pub enum ActivationValue<'a> {
    /// The input. The gradient of every activation can be computed from it.
    Input(TensorRef<'a>),
    /// The output. It is enough for ReLU, clips, sigmoid and tanh, and for leaky ReLU and ELU with a positive `alpha`.
    Output(TensorRef<'a>),
}

impl ActivationValue<'_> {
    /// Checks that the gradient of `activation` can be computed from this.
    fn check(&self, activation: Activation) -> Result<(), ConvError> {
        if matches!(self, Self::Input(_)) || activation.is_known_by_output() {
            return Ok(());
        }
        let got = format!("the output of {}", activation.name());
        Err(ConvError::field("value", "the input, because the output does not determine it", got))
    }
}

impl Ops {
    /// The gradient of an activation: `dx = gradient * act'(x)`.
    ///
    /// Where an activation bends, its derivative is the one that PyTorch takes: zero at 0 for ReLU and at both ends of a
    /// clip, and `alpha` at 0 for leaky ReLU and ELU. A NaN in the value of a piecewise linear activation counts as a
    /// negative input.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] for PReLU, which has [`prelu_gradient`](Self::prelu_gradient), for an output that does
    ///   not determine the gradient, and for invalid activation parameters.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] unless all tensors have one shape and layout.
    ///
    /// On an error `dx` is unchanged.
    pub fn activate_gradient<'a>(
        &self,
        activation: Activation,
        value: ActivationValue<'_>,
        gradient: TensorRef<'_>,
        dx: impl Into<Gradient<'a>>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let dx = dx.into();
        check_without_slopes(activation)?;
        value.check(activation)?;
        let by_output = matches!(value, ActivationValue::Output(_));
        let (ActivationValue::Input(value) | ActivationValue::Output(value)) = value;
        Sources::new(gradient, value, &dx)?;
        let add = dx.adds();
        let applied = Applied { activation, value, by_output };
        activation_gradient(&self.kernels().grad, applied, gradient, (dx.into_tensor(), add), threads);
        Ok(())
    }

    /// `gradient = gradient * act'(x)` in place, from the output of the activation. It is the fastest form where nothing else
    /// needs the gradient of the output. The padding lanes of Nchw16c keep their values.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] for an activation whose output does not determine the gradient, and for invalid activation
    ///   parameters.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] unless both tensors have one shape and layout.
    ///
    /// On an error the gradient is unchanged.
    pub fn activate_gradient_in_place(
        &self,
        activation: Activation,
        output: TensorRef<'_>,
        gradient: TensorMut<'_>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        check_without_slopes(activation)?;
        ActivationValue::Output(output).check(activation)?;
        check_layout(gradient.layout())?;
        check("output", (gradient.shape(), gradient.layout()), (output.shape(), output.layout()))?;
        combine(output, gradient, 1 + cost(activation), threads, &|output, tile| {
            self.kernels().grad.activate_in_place(activation, tile, output);
        });
        Ok(())
    }

    /// The gradient of PReLU and of its slopes: `dx = gradient * (x > 0 ? 1 : slope[c])`, and
    /// `dslope[c] = sum of gradient * min(x, 0)` over images and pixels.
    ///
    /// Threads divide the channels.
    ///
    /// # Errors
    /// - [`ConvError::BufferLen`] unless `slope` and its gradient have one element per channel.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] unless all tensors have one shape and layout.
    ///
    /// On an error the gradients are unchanged.
    pub fn prelu_gradient<'a, 's>(
        &self,
        slope: &[f32],
        input: TensorRef<'_>,
        gradient: TensorRef<'_>,
        dx: impl Into<Gradient<'a>>,
        dslope: impl Into<SliceGradient<'s>>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let (dx, dslope) = (dx.into(), dslope.into());
        let channels = input.shape().c;
        check_len("PReLU slopes", Some(slope), channels)?;
        dslope.check("gradient of the PReLU slopes", channels)?;
        let (sources, merge) = Sources::new(gradient, input, &dx)?;
        let (add, dslope) = (dx.adds(), Shared::new(dslope));
        let work = elements(input.shape()).saturating_mul(3);
        let region = OutputRegion::of_all_images(dx.into_tensor(), merge);
        let per_row = region.layout() == Layout::Nchw;
        let split_units = channels_alone(&region);
        split(region, split_units, work, threads, &|mut region| {
            for band in bands(region.layout(), &region.channels.clone()) {
                let lines = SumLines { centre: &[0.0; BAND], gate: None };
                let [sums, _] = self.band_sums(SumOf::Negatives, &sources, &band, lines);
                let sums = sums.map(|sum| sum as f32);
                dslope.with(|dslope| dslope.put(band.start, &sums[..band.len()]));
                for n in region.images.clone() {
                    let slopes = Slopes { values: &slope[band.clone()], per_row };
                    let out = tile_of(&mut region, n, band.clone());
                    let tiles = sources.tiles(out, add, (n, band.start, 0));
                    self.kernels().grad.activate(Activation::PRelu, slopes, false, tiles);
                }
            }
            finish(&mut region, add);
        });
        Ok(())
    }
}
