//! Normalisations.

use super::conv::invalid;
use super::param::{Param, Role};
use crate::error::LayerError;

/// Normalisation to mean 0 and variance 1, followed by a trained scale and shift per channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// The elements that share a mean and a variance.
    pub kind: NormKind,
    /// Added to the variance.
    pub eps: f32,
    /// Whether there are trained scales and shifts.
    pub affine: bool,
}

/// The elements that share a mean and a variance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NormKind {
    /// Running statistics of each channel. At inference, this is a scale and a shift (Ioffe and Szegedy 2015).
    Batch,
    /// All channels and pixels of one image (Ba et al. 2016).
    Layer,
    /// The pixels of one channel of one image (Ulyanov et al. 2016).
    Instance,
    /// The pixels of one group of channels of one image (Wu and He 2018). The number is the number of groups.
    Group(usize),
}

impl Norm {
    /// Batch normalisation with scale and shift, and with PyTorch's default `eps` of 1e-5.
    pub const fn batch() -> Self {
        Self { kind: NormKind::Batch, eps: 1e-5, affine: true }
    }

    /// Layer normalisation with scale and shift.
    pub const fn layer() -> Self {
        Self { kind: NormKind::Layer, ..Self::batch() }
    }

    /// Instance normalisation without scale and shift, as is PyTorch's default.
    pub const fn instance() -> Self {
        Self { kind: NormKind::Instance, affine: false, ..Self::batch() }
    }

    /// Group normalisation with scale and shift.
    pub const fn group(groups: usize) -> Self {
        Self { kind: NormKind::Group(groups), ..Self::batch() }
    }

    /// Sets the number added to the variance.
    pub const fn eps(self, eps: f32) -> Self {
        Self { eps, ..self }
    }

    /// Number of channel groups with shared statistics; `None` for the running statistics of batch normalisation.
    pub(crate) const fn groups(&self, channels: usize) -> Option<usize> {
        match self.kind {
            NormKind::Batch => None,
            NormKind::Layer => Some(1),
            NormKind::Instance => Some(channels),
            NormKind::Group(groups) => Some(groups),
        }
    }

    pub(super) const fn op(&self) -> &'static str {
        match self.kind {
            NormKind::Batch => "batch_norm",
            NormKind::Layer => "layer_norm",
            NormKind::Instance => "instance_norm",
            NormKind::Group(_) => "group_norm",
        }
    }

    pub(super) fn check(&self, channels: usize) -> Result<(), LayerError> {
        match self.kind {
            NormKind::Group(groups) if groups == 0 || !channels.is_multiple_of(groups) => {
                Err(invalid("groups", format!("a divisor of the {channels} channels"), groups))
            }
            _ if !(self.eps.is_finite() && self.eps >= 0.0) => {
                Err(invalid("eps", "a finite number, at least 0", self.eps))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn params(&self, channels: usize) -> Vec<Param> {
        let affine = self.affine.then(|| {
            [Param::vector("weight", channels, Role::Scale), Param::vector("bias", channels, Role::Shift)]
        });
        let running = (self.kind == NormKind::Batch).then(|| {
            [
                Param::vector("running_mean", channels, Role::RunningMean),
                Param::vector("running_var", channels, Role::RunningVar),
            ]
        });
        affine.into_iter().chain(running).flatten().collect()
    }
}

/// Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3):
/// `x / (k + alpha / size * sum of x^2 over size channels)^beta`. As in Caffe, PyTorch and ONNX, `alpha` is
/// divided by the size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lrn {
    /// Number of channels in the sum.
    pub size: usize,
    /// Factor of the sum, before the division by the size.
    pub alpha: f32,
    /// Exponent of the divisor.
    pub beta: f32,
    /// Constant in the divisor.
    pub k: f32,
}

impl Lrn {
    pub(super) fn check(&self) -> Result<(), LayerError> {
        match self.size {
            0 => Err(invalid("size", "at least 1", 0)),
            _ => Ok(()),
        }
    }
}
