//! Gradients of group normalisation, which includes layer norm and instance norm.

use super::{Gradient, Shared, SliceGradient, Sources, finish, tile_of};
use crate::describe::{BLOCK, ConvError, Layout, Shape4, TensorRef};
use crate::memory::check_workspace;
use crate::ops::Ops;
use crate::ops::norm::{Moments, Norm, NormSpec, check_len, runs};
use crate::run::Threads;
use crate::run::elementwise::{elements, split};
use crate::tile::grad::table::{GradLines, SumLines, SumOf};
use crate::tile::output::OutputRegion;
use crate::work::parts::SplitUnits;
use std::ops::Range;

/// The gradients of a normalisation.
#[derive(Debug)]
pub struct NormGradients<'a> {
    /// The gradient of the input.
    pub input: Gradient<'a>,
    /// The gradient of the scale, if it is wanted.
    pub scale: Option<SliceGradient<'a>>,
    /// The gradient of the shift, if it is wanted.
    pub shift: Option<SliceGradient<'a>>,
}

impl NormGradients<'_> {
    /// Checks the number of parameters.
    pub(super) fn check(&self, channels: usize) -> Result<(), ConvError> {
        let named = [("gradient of the scale", &self.scale), ("gradient of the shift", &self.shift)];
        named.into_iter().try_for_each(|(what, numbers)| match numbers {
            Some(numbers) => numbers.check(what, channels),
            None => Ok(()),
        })
    }
}

/// A checked problem.
struct NormGradient<'a> {
    norm: Norm<'a>,
    sources: Sources<'a>,
    add: bool,
    /// For each image, the sums of `g * z` of its channels, and then of `g`.
    scratch: Shared<&'a mut [f32]>,
}

impl Ops {
    /// The number of elements of `scratch` that [`normalize_gradient`](Self::normalize_gradient) needs: two for each
    /// channel of each image.
    ///
    /// # Errors
    /// [`ConvError::SizeOverflow`] if the number overflows.
    pub fn normalize_gradient_scratch_len(input: Shape4) -> Result<usize, ConvError> {
        let len = input.n.checked_mul(input.c).and_then(|len| len.checked_mul(2));
        len.ok_or(ConvError::SizeOverflow { what: "scratch of a normalisation" })
    }

    /// The gradient of [`normalize`](Self::normalize). With `z = (x - mean) / sqrt(variance + eps)` and means over a group
    /// of an image, `dx = (scale * g - mean(scale * g) - z * mean(scale * g * z)) / sqrt(variance + eps)`. The gradients
    /// of scale and shift are the sums of `g * z` and of `g` over images and pixels.
    ///
    /// `(input, gradient)` are the input of the layer and the gradient of its output. The statistics are computed again.
    /// `scratch` needs [`normalize_gradient_scratch_len`](Self::normalize_gradient_scratch_len) elements. Threads divide
    /// images and groups.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] and [`ConvError::BufferLen`] as in `normalize`, and for gradients of parameters with
    ///   another number of channels.
    /// - [`ConvError::WorkspaceTooSmall`] if `scratch` is too small.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] unless all tensors have one shape and layout.
    ///
    /// On an error the gradients are unchanged.
    pub fn normalize_gradient(
        &self,
        spec: NormSpec,
        scale: Option<&[f32]>,
        (input, gradient): (TensorRef<'_>, TensorRef<'_>),
        into: NormGradients<'_>,
        scratch: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let shape = input.shape();
        let size = spec.check(shape.c)?;
        check_len("scale", scale, shape.c)?;
        into.check(shape.c)?;
        let needed = Self::normalize_gradient_scratch_len(shape)?;
        check_workspace(scratch, needed)?;
        let NormGradients { input: dx, scale: mut dscale, shift: mut dshift } = into;
        Sources::new(gradient, input, &dx)?;
        let problem = NormGradient {
            norm: Norm { input: input.pixels(), size, eps: f64::from(spec.eps), scale, shift: None },
            sources: Sources { gradient: gradient.pixels(), value: input.pixels() },
            add: dx.adds(),
            scratch: Shared::new(&mut scratch[..needed]),
        };
        let region = OutputRegion::new(dx.into_tensor(), false);
        let split_units = SplitUnits::new(region.pixels.end, size);
        split(region, split_units, elements(shape).saturating_mul(10), threads, &|mut region| {
            let step = (BLOCK / size).max(1) * size;
            let Range { start, end } = region.channels.clone();
            for n in region.images.clone() {
                for c in (start..end).step_by(step) {
                    self.groups_gradient(&problem, n, c..end.min(c + step), &mut region);
                }
            }
            finish(&mut region, problem.add);
        });
        for (into, half) in [&mut dscale, &mut dshift].into_iter().zip([0, shape.c]) {
            let Some(into) = into else { continue };
            for c in 0..shape.c {
                let of_image = |n: usize| f64::from(scratch[(2 * n) * shape.c + half + c]);
                into.put(c, &[(0..shape.n).map(of_image).sum::<f64>() as f32]);
            }
        }
        Ok(())
    }

    /// The gradient of the groups of `channels` of image `n`, at most 16 groups.
    fn groups_gradient(
        &self,
        problem: &NormGradient<'_>,
        n: usize,
        channels: Range<usize>,
        region: &mut OutputRegion<'_>,
    ) {
        let NormGradient { norm, sources, .. } = problem;
        let Moments { centre, rest, inverse } = self.moments(norm, n, channels.clone());
        let group = |c: usize| (c - channels.start) / norm.size;
        let scale = |c: usize| norm.scale.map_or(1.0, |scale| f64::from(scale[c]));
        let centres = |part: &Range<usize>| {
            std::array::from_fn(|i| if i < part.len() { centre[group(part.start + i)] } else { 0.0 })
        };
        // Of each group: the sums of `scale * g` and of `scale * g * (x - mean)`.
        let mut sums = [[0.0f64; BLOCK]; 2];
        for part in runs(&channels) {
            let pixels = 0..norm.input.view.pixels;
            let centres: [f32; BLOCK] = centres(&part);
            let lines = SumLines { centre: &centres, gate: None };
            let found = self.run_sums(SumOf::Products, sources, n, (&pixels, &part), lines);
            let mut params = [[0.0; BLOCK]; 2];
            for (i, c) in part.clone().enumerate() {
                let of_g = f64::from(found[0][i]);
                // `centre` is a rounded mean.
                let of_product = f64::from(found[1][i]) - rest[group(c)] * of_g;
                sums[0][group(c)] += scale(c) * of_g;
                sums[1][group(c)] += scale(c) * of_product;
                [params[0][i], params[1][i]] = [(of_product * inverse[group(c)]) as f32, of_g as f32];
            }
            let all = norm.input.view.channels;
            problem.scratch.with(|scratch| {
                for (half, params) in params.iter().enumerate() {
                    scratch[(2 * n + half) * all + part.start..][..part.len()]
                        .copy_from_slice(&params[..part.len()]);
                }
            });
        }
        let count = norm.size as f64 * norm.input.view.pixels as f64;
        let per_row = region.layout() == Layout::Nchw;
        for part in runs(&channels) {
            let (mut factor, mut slope, mut shift) = ([0.0; BLOCK], [0.0; BLOCK], [0.0; BLOCK]);
            for (i, c) in part.clone().enumerate() {
                let inverse = inverse[group(c)];
                let of_z = -inverse * inverse * inverse * sums[1][group(c)] / count;
                factor[i] = (scale(c) * inverse) as f32;
                slope[i] = of_z as f32;
                shift[i] = (-inverse * sums[0][group(c)] / count - of_z * rest[group(c)]) as f32;
            }
            let centre: [f32; BLOCK] = centres(&part);
            let lines = GradLines { centre: &centre, factor: &factor, slope: &slope, shift: &shift };
            let tiles = sources.tiles(tile_of(region, n, part.clone()), problem.add, (n, part.start, 0));
            self.kernels().grad.affine(lines, None, per_row, tiles);
        }
    }
}
