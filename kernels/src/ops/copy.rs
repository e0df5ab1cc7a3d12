//! Copies between tensors: reorders between layouts, and concatenation by channel slices.

use super::Ops;
use crate::describe::{ConvError, TensorOut, TensorRef};
use crate::run::Threads;
use crate::run::copies::copy;

impl Ops {
    /// Copies every element of `input` to `output`.
    ///
    /// Both have the same shape. The output can have any layout and pitch. A different layout makes the copy
    /// a reorder; a pitched channel slice of a wider tensor makes it one part of a concatenation. The padding
    /// lanes of Nchw16c are set to zero.
    ///
    /// # Errors
    /// [`ConvError::ShapeMismatch`] if the shapes differ. The output is unchanged then.
    pub fn copy<'a>(
        &self,
        input: TensorRef<'_>,
        output: impl Into<TensorOut<'a>>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let output = output.into();
        super::check_layout(input.layout())?;
        super::check_layout(output.layout())?;
        let (expected, got) = (input.shape(), output.shape());
        if expected != got {
            return Err(ConvError::ShapeMismatch { what: "output", expected, got });
        }
        copy(&self.kernels.copy, input, output, threads);
        Ok(())
    }
}
