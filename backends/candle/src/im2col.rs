//! [`Windows`]: the matrix whose rows are taps and whose columns are positions of the kernel.

use crate::output::written_by;
use crate::run::storage;
use crate::spec::Problem;
use crate::threads::{self, PARALLEL};
use crate::view;
use candle_core::{CpuStorage, CustomOp1, Layout as Strides, Result, Shape};
use kernels::{Shape4, Size2};
use rayon::prelude::*;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Gathers the windows of some images: `[channels * taps][images * positions]`.
pub(crate) struct Windows {
    pub(crate) problem: Problem,
    /// Positions of the kernel: the pixels of the tensor that is not gathered.
    pub(crate) positions: Size2,
    pub(crate) images: Range<usize>,
}

/// How one axis maps a position and a tap to an input.
#[derive(Clone, Copy)]
struct Line {
    stride: usize,
    dilation: usize,
    padding: usize,
    inputs: usize,
    positions: usize,
}

impl Line {
    /// The input at `position` and `tap`; `None` in the padding.
    fn input(&self, position: usize, tap: usize) -> Option<usize> {
        let place = position * self.stride + tap * self.dilation;
        place.checked_sub(self.padding).filter(|&input| input < self.inputs)
    }

    /// The positions whose input at `tap` is inside the image.
    fn inside(&self, tap: usize) -> Range<usize> {
        let offset = tap * self.dilation;
        let first = self.padding.saturating_sub(offset).div_ceil(self.stride).min(self.positions);
        let last = (self.inputs + self.padding).saturating_sub(offset).div_ceil(self.stride);
        first..last.clamp(first, self.positions)
    }
}

impl CustomOp1 for Windows {
    fn name(&self) -> &'static str {
        "convkernels-windows"
    }

    fn cpu_fwd(&self, values: &CpuStorage, strides: &Strides) -> Result<(CpuStorage, Shape)> {
        let Problem { spec, kernel, .. } = self.problem;
        let shape = spec.shape("input", strides.dims())?;
        let values = view::contiguous("input", values, strides)?;
        let columns = self.images.len() * self.positions.h * self.positions.w;
        let rows = shape.c * kernel.h * kernel.w;
        let fill = |(row, space): (usize, &mut [MaybeUninit<f32>])| self.row(row, values, shape, space);
        let write = |space: &mut [MaybeUninit<f32>]| {
            if space.len() >= PARALLEL && threads::count() > 1 {
                space.par_chunks_mut(columns).enumerate().for_each(fill);
            } else {
                space.chunks_mut(columns).enumerate().for_each(fill);
            }
            Ok(())
        };
        // SAFETY: `row` writes every element of each of the `rows` chunks.
        let windows = unsafe { written_by(rows * columns, write)? };
        Ok((storage(windows), Shape::from((rows, columns))))
    }
}

impl Windows {
    /// Writes the inputs that one tap of one channel meets, for all images and positions.
    fn row(&self, row: usize, values: &[f32], shape: Shape4, space: &mut [MaybeUninit<f32>]) {
        let Problem { spec, kernel, .. } = self.problem;
        let (stride, dilation) = (spec.size(spec.stride, 1), spec.size(spec.dilation, 1));
        let padding = spec.size(spec.padding, 0);
        let line = |stride, dilation, padding, inputs, positions| Line {
            stride,
            dilation,
            padding,
            inputs,
            positions,
        };
        let rows = line(stride.h, dilation.h, padding.h, shape.h, self.positions.h);
        let columns = line(stride.w, dilation.w, padding.w, shape.w, self.positions.w);
        let (channel, tap_y, tap_x) =
            (row / (kernel.h * kernel.w), row / kernel.w % kernel.h, row % kernel.w);
        let inside = columns.inside(tap_x);
        let mut lines = space.chunks_exact_mut(columns.positions);
        for image in self.images.clone() {
            let plane = &values[(image * shape.c + channel) * shape.h * shape.w..][..shape.h * shape.w];
            for (y, line) in (0..rows.positions).zip(&mut lines) {
                let source = rows.input(y, tap_y).map(|y| &plane[y * shape.w..][..shape.w]);
                columns.copy(source, tap_x, inside.clone(), line);
            }
        }
    }
}

impl Line {
    /// Writes one line of positions: zeros outside `inside`, or everywhere if there is no source.
    fn copy(&self, source: Option<&[f32]>, tap: usize, inside: Range<usize>, line: &mut [MaybeUninit<f32>]) {
        let zero = MaybeUninit::new(0.0);
        let (Some(source), false) = (source, inside.is_empty()) else {
            return line.fill(zero);
        };
        line[..inside.start].fill(zero);
        line[inside.end..].fill(zero);
        let first = inside.start * self.stride + tap * self.dilation - self.padding;
        let line = &mut line[inside];
        if self.stride == 1 {
            for (output, &value) in line.iter_mut().zip(&source[first..]) {
                output.write(value);
            }
        } else {
            for (output, &value) in line.iter_mut().zip(source[first..].iter().step_by(self.stride)) {
                output.write(value);
            }
        }
    }
}
