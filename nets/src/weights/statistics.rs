//! [`InputStatistics`]: how the inputs of a network were normalised in its training.

use super::tensors::{elements, parsed};
use crate::error::{NetError, WeightsError};
use safetensors::{Dtype, SafeTensors};

/// The tensor of means in a file: one for each channel, or one for each number of an image.
pub(super) const MEAN: &str = "input.mean";
/// The tensor of standard deviations in a file: one for each channel.
pub(super) const DEVIATION: &str = "input.deviation";

/// What is subtracted from inputs, and what they are divided by then. Inputs are numbers from 0 to 1 before.
///
/// A file of weights has them as the tensors `input.mean` and `input.deviation`.
#[derive(Debug, Clone, PartialEq)]
pub struct InputStatistics {
    /// One for each channel, or one for each number of an image.
    mean: Vec<f32>,
    /// One for each channel.
    deviation: Vec<f32>,
}

impl InputStatistics {
    #[cfg(feature = "train")]
    pub(crate) fn new(mean: Vec<f32>, deviation: Vec<f32>) -> Self {
        Self { mean, deviation }
    }

    /// The means: one for each channel, or one for each number of an image.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The standard deviations, one for each channel.
    pub fn deviation(&self) -> &[f32] {
        &self.deviation
    }

    /// The names and elements of the tensors in a file.
    pub(crate) fn tensors(&self) -> [(&'static str, &[f32]); 2] {
        [(MEAN, &self.mean), (DEVIATION, &self.deviation)]
    }

    /// Normalises an image in NCHW order, with `pixels` numbers per channel.
    pub fn apply(&self, image: &mut [f32], pixels: usize) {
        let per_channel = self.mean.len() == self.deviation.len();
        let channels = image.chunks_exact_mut(pixels).zip(&self.deviation).enumerate();
        for (index, (channel, &deviation)) in channels {
            let factor = 1.0 / deviation;
            if per_channel {
                let mean = self.mean[index];
                channel.iter_mut().for_each(|number| *number = (*number - mean) * factor);
            } else {
                let means = &self.mean[index * pixels..];
                channel.iter_mut().zip(means).for_each(|(number, mean)| *number = (*number - mean) * factor);
            }
        }
    }

    /// Reads the statistics of a file of weights; `None` if it has none.
    ///
    /// # Errors
    /// [`NetError::Weights`] if the bytes are no safetensors file, or if the statistics are not `f32`, not for `channels`
    /// channels of `pixels` numbers, or not usable.
    pub fn from_safetensors(
        bytes: &[u8],
        channels: usize,
        pixels: usize,
        origin: &str,
    ) -> Result<Option<Self>, NetError> {
        Self::of_file(&parsed(bytes, origin)?, channels, pixels, origin)
    }

    /// The same, from a file whose header has been read.
    pub(crate) fn of_file(
        file: &SafeTensors<'_>,
        channels: usize,
        pixels: usize,
        origin: &str,
    ) -> Result<Option<Self>, NetError> {
        let format = |reason: String| WeightsError::Format { origin: origin.to_owned(), reason };
        let (Ok(mean), Ok(deviation)) = (file.tensor(MEAN), file.tensor(DEVIATION)) else { return Ok(None) };
        let read = |name: &str, view: &safetensors::tensor::TensorView<'_>, lens: &[usize]| {
            if view.dtype() != Dtype::F32 {
                return Err(format(format!("a tensor `{name}` of {:?}", view.dtype())));
            }
            let numbers = elements(view);
            let is_usable = lens.contains(&numbers.len()) && numbers.iter().all(|number| number.is_finite());
            if is_usable {
                Ok(numbers)
            } else {
                Err(format(format!("a tensor `{name}` of extents {:?}", view.shape())))
            }
        };
        let image = channels.saturating_mul(pixels);
        let mean = read(MEAN, &mean, &[channels, image])?;
        let deviation = read(DEVIATION, &deviation, &[channels])?;
        if deviation.iter().any(|&deviation| deviation <= 0.0) {
            return Err(format(format!("a tensor `{DEVIATION}` with numbers that are not above 0")).into());
        }
        Ok(Some(Self { mean, deviation }))
    }
}
