//! Normalisations.

use super::conv::invalid;
use super::param::{Param, Role};
use crate::error::LayerError;

/// A normalisation to mean 0 and variance 1, then with a trained scale and shift for each channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// Over what mean and variance are taken.
    pub kind: NormKind,
    /// Is added to the variance.
    pub eps: f32,
    /// Whether there is a trained scale and shift.
    pub affine: bool,
}

/// Over what mean and variance are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NormKind {
    /// At inference, the running statistics of each channel: a scale and a shift (Ioffe and Szegedy 2015).
    Batch,
    /// All channels and pixels of one image (Ba et al. 2016).
    Layer,
    /// The pixels of each channel of one image (Ulyanov et al. 2016).
    Instance,
    /// The pixels of so many groups of channels of one image (Wu and He 2018).
    Group(usize),
}

impl Norm {
    /// Batch normalisation with scale, shift and PyTorch's default of 1e-5.
    pub const fn batch() -> Self {
        Self { kind: NormKind::Batch, eps: 1e-5, affine: true }
    }

    /// Layer normalisation with scale and shift.
    pub const fn layer() -> Self {
        Self { kind: NormKind::Layer, ..Self::batch() }
    }

    /// Instance normalisation without scale and shift, PyTorch's default.
    pub const fn instance() -> Self {
        Self { kind: NormKind::Instance, affine: false, ..Self::batch() }
    }

    /// Group normalisation with scale and shift.
    pub const fn group(groups: usize) -> Self {
        Self { kind: NormKind::Group(groups), ..Self::batch() }
    }

    /// With another number added to the variance.
    pub const fn eps(self, eps: f32) -> Self {
        Self { eps, ..self }
    }

    /// Groups of channels that share their statistics; `None` if they are those of training.
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

/// Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3), with `alpha` divided by the
/// size as in Caffe, PyTorch and ONNX: `x / (k + alpha / size * sum of x^2 over size channels)^beta`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lrn {
    /// Channels of the sum.
    pub size: usize,
    /// Factor of the sum, before it is divided by the size.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Is added to the sum.
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
