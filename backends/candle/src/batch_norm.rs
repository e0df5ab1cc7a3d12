//! [`BatchNorm`]: `candle_nn`'s batch norm, in one pass in evaluation mode.

use crate::output::written_by;
use crate::run::storage;
use crate::threads::{self, PARALLEL};
use crate::view;
use candle_core::{CpuStorage, CustomOp3, DType, Layout as Strides, ModuleT, Result, Shape, Tensor};
pub use candle_nn::BatchNormConfig;
use candle_nn::VarBuilder;
use rayon::prelude::*;
use std::iter::repeat_n;
use std::mem::MaybeUninit;
use std::ops::Deref;

/// A batch norm with the constructors and methods of [`candle_nn::BatchNorm`], to which it dereferences.
///
/// In evaluation mode it computes `x * scale + shift` in one pass if the tensors are `f32` on the CPU, none of them
/// needs a gradient, and there are at least four elements per channel. Everything else is candle's.
#[derive(Clone, Debug)]
pub struct BatchNorm(candle_nn::BatchNorm);

impl Deref for BatchNorm {
    type Target = candle_nn::BatchNorm;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl From<candle_nn::BatchNorm> for BatchNorm {
    fn from(norm: candle_nn::BatchNorm) -> Self {
        Self(norm)
    }
}

/// Creates a batch norm from `vb`, as [`candle_nn::batch_norm()`] does.
///
/// # Errors
/// If `vb` does not have the tensors in these shapes, or if `config` has a negative `eps`.
pub fn batch_norm<C: Into<BatchNormConfig>>(
    num_features: usize,
    config: C,
    vb: VarBuilder<'_>,
) -> Result<BatchNorm> {
    candle_nn::batch_norm(num_features, config, vb).map(BatchNorm)
}

impl BatchNorm {
    /// See [`candle_nn::BatchNorm::new`].
    ///
    /// # Errors
    /// If a tensor does not have `num_features` elements, or if `eps` is negative.
    pub fn new(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: f64,
    ) -> Result<Self> {
        candle_nn::BatchNorm::new(num_features, running_mean, running_var, weight, bias, eps).map(Self)
    }

    /// See [`candle_nn::BatchNorm::new_no_bias`].
    ///
    /// # Errors
    /// If a tensor does not have `num_features` elements, or if `eps` is negative.
    pub fn new_no_bias(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        eps: f64,
    ) -> Result<Self> {
        candle_nn::BatchNorm::new_no_bias(num_features, running_mean, running_var, eps).map(Self)
    }

    /// See [`candle_nn::BatchNorm::new_with_momentum`].
    ///
    /// # Errors
    /// As [`new`](Self::new), and if `momentum` is not between 0 and 1.
    pub fn new_with_momentum(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: f64,
        momentum: f64,
    ) -> Result<Self> {
        let norm = candle_nn::BatchNorm::new_with_momentum;
        norm(num_features, running_mean, running_var, weight, bias, eps, momentum).map(Self)
    }

    /// See [`candle_nn::BatchNorm::new_no_bias_with_momentum`].
    ///
    /// # Errors
    /// As [`new_no_bias`](Self::new_no_bias), and if `momentum` is not between 0 and 1.
    pub fn new_no_bias_with_momentum(
        num_features: usize,
        running_mean: Tensor,
        running_var: Tensor,
        eps: f64,
        momentum: f64,
    ) -> Result<Self> {
        let norm = candle_nn::BatchNorm::new_no_bias_with_momentum;
        norm(num_features, running_mean, running_var, eps, momentum).map(Self)
    }

    /// Scale and shift per channel, if [`ScaleShift`] can compute this, and faster than candle.
    fn affine(&self, x: &Tensor) -> Result<Option<(Tensor, Tensor)>> {
        let fits =
            |tensor: &Tensor| tensor.dtype() == DType::F32 && tensor.device().is_cpu() && !tensor.track_op();
        let moments = [self.running_mean().detach(), self.running_var().detach()];
        let parameters = self.weight_and_bias();
        let fit = fits(x) && moments.iter().all(fits) && parameters.is_none_or(|(w, b)| fits(w) && fits(b));
        let channels = x.rank() >= 2 && x.dims()[1] == self.running_mean().elem_count();
        // candle passes over `x` four times, and scale and shift take as many passes over the channels.
        let pays = x.elem_count() >= 4 * self.running_mean().elem_count().max(1);
        if !fit || !channels || !x.is_contiguous() || !pays {
            return Ok(None);
        }
        let (scale, shift) = scale_and_shift(self, None)?;
        Ok(Some((scale.contiguous()?, shift.contiguous()?)))
    }
}

/// The numbers per channel with which `x * scale + shift` is `norm` of `x + bias` in evaluation mode.
///
/// They have gradients to the weight and bias of `norm` and to `bias`. candle keeps the moments in variables, which
/// no optimizer changes, so they count as constants here.
pub(crate) fn scale_and_shift(
    norm: &candle_nn::BatchNorm,
    bias: Option<&Tensor>,
) -> Result<(Tensor, Tensor)> {
    let (mean, var) = (norm.running_mean().detach(), norm.running_var().detach());
    let mean = match bias {
        None => mean,
        Some(bias) => (mean - bias)?,
    };
    let deviation = (var + norm.eps())?.sqrt()?;
    match norm.weight_and_bias() {
        None => {
            let scale = deviation.recip()?;
            let shift = (mean * &scale)?.neg()?;
            Ok((scale, shift))
        }
        Some((weight, bias)) => {
            let scale = (weight / deviation)?;
            let shift = (bias - (mean * &scale)?)?;
            Ok((scale, shift))
        }
    }
}

impl ModuleT for BatchNorm {
    /// # Errors
    /// As [`candle_nn::BatchNorm`].
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        match if train { None } else { self.affine(x)? } {
            Some((scale, shift)) => x.apply_op3_no_bwd(&scale, &shift, &ScaleShift),
            None => self.0.forward_t(x, train),
        }
    }
}

/// Planes of fewer elements are not worth a loop of their own: whole images are multiplied element by element.
const SMALL: usize = 16;

/// Least number of elements that are multiplied at once where planes are small.
const BLOCK: usize = 1024;

/// `x * scale[c] + shift[c]`, where `c` is the second axis of a contiguous `x`.
struct ScaleShift;

impl CustomOp3 for ScaleShift {
    fn name(&self) -> &'static str {
        "convkernels-scale-shift"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_strides: &Strides,
        scale: &CpuStorage,
        scale_strides: &Strides,
        shift: &CpuStorage,
        shift_strides: &Strides,
    ) -> Result<(CpuStorage, Shape)> {
        let values = view::contiguous("input", x, x_strides)?;
        let scale = view::contiguous("scale", scale, scale_strides)?;
        let shift = view::contiguous("shift", shift, shift_strides)?;
        let plane: usize = x_strides.dims()[2..].iter().product();
        let write = |space: &mut [MaybeUninit<f32>]| {
            if plane < SMALL {
                let images = BLOCK.div_ceil(plane * scale.len());
                let len = (images * plane * scale.len()).min(values.len());
                let (scale, shift) = (spread(scale, plane, len), spread(shift, plane, len));
                for_chunks(space, values, len, |_, space, values| {
                    let factors = scale.iter().zip(&shift);
                    for ((output, x), (scale, shift)) in space.iter_mut().zip(values).zip(factors) {
                        output.write(x * scale + shift);
                    }
                });
            } else {
                for_chunks(space, values, plane, |index, space, values| {
                    let (scale, shift) = (scale[index % scale.len()], shift[index % scale.len()]);
                    for (output, x) in space.iter_mut().zip(values) {
                        output.write(x * scale + shift);
                    }
                });
            }
            Ok(())
        };
        // SAFETY: `space` has the length of `values`, `for_chunks` visits all of both, and the loops write every
        // element of a chunk: no chunk is longer than the factors of `spread`.
        let output = unsafe { written_by(values.len(), write)? };
        Ok((storage(output), x_strides.shape().clone()))
    }
}

/// Calls `fill` with the number and the elements of each chunk of `space` and `values`, which are equally long.
fn for_chunks(
    space: &mut [MaybeUninit<f32>],
    values: &[f32],
    len: usize,
    fill: impl Fn(usize, &mut [MaybeUninit<f32>], &[f32]) + Sync,
) {
    if values.len() >= PARALLEL && threads::count() > 1 {
        let chunks = space.par_chunks_mut(len).zip(values.par_chunks(len));
        chunks.enumerate().for_each(|(index, (space, values))| fill(index, space, values));
    } else {
        let chunks = space.chunks_mut(len).zip(values.chunks(len));
        chunks.enumerate().for_each(|(index, (space, values))| fill(index, space, values));
    }
}

/// One number per channel for each element of planes, image after image, `len` numbers in all.
fn spread(channels: &[f32], plane: usize, len: usize) -> Vec<f32> {
    let mut factors = Vec::new();
    channels.iter().for_each(|number| factors.extend(repeat_n(*number, plane)));
    let image = factors.len();
    while factors.len() < len {
        factors.extend_from_within(..image.min(len - factors.len()));
    }
    factors
}
