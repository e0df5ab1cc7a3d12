//! [`Filter`]: the weights of one layer as they are packed, read from their source some output channels at a time.

use super::layout::BLOCK;
use crate::error::{LayerError, NetError};
use crate::layer::Param;
use crate::weights::WeightSource;
use std::borrow::Cow;
use std::ops::Range;

/// The filters of all output channels, one row each, with everything folded in.
pub(super) struct Filter<'a> {
    /// Those of layers that are computed together follow one another.
    pub(super) members: Vec<Member<'a>>,
    /// Pixels of the flattened blocks of channels that the rows are multiplied with: see [`permute`].
    pub(super) pixels: Option<usize>,
}

/// The filters of one layer.
pub(super) struct Member<'a> {
    pub(super) rows: Rows<'a>,
    pub(super) channels: usize,
    /// What the row of each channel is multiplied by.
    pub(super) scale: Option<Vec<f32>>,
}

/// Where they come from.
pub(super) enum Rows<'a> {
    Whole(Cow<'a, [f32]>),
    /// A tensor of a source that gives parts.
    Parts {
        weights: &'a dyn WeightSource,
        name: String,
        param: Param,
    },
}

/// Why there is no kernel.
pub(super) enum Problem {
    /// To be tied to the layer.
    Layer(LayerError),
    /// Of the file of the weights; complete as it is.
    Weights(NetError),
}

impl<E: Into<LayerError>> From<E> for Problem {
    fn from(problem: E) -> Self {
        Self::Layer(problem.into())
    }
}

impl Rows<'_> {
    /// Writes the numbers from `first` on.
    fn read(&self, first: usize, to: &mut [f32]) -> Result<(), Problem> {
        match self {
            Self::Whole(numbers) => to.copy_from_slice(&numbers[first..first + to.len()]),
            Self::Parts { weights, name, param } => {
                if !weights.part(name, param, first, to).map_err(Problem::Weights)? {
                    let (tensor, network) = (name.clone(), weights.network().to_owned());
                    return Err(LayerError::NoWeights { tensor, network }.into());
                }
            }
        }
        Ok(())
    }
}

impl Filter<'_> {
    /// Writes the rows of `channels`, each of `taps` weights.
    pub(super) fn read(&self, channels: Range<usize>, taps: usize, to: &mut [f32]) -> Result<(), Problem> {
        let (mut begin, mut rest) = (0, to);
        for member in &self.members {
            let first = channels.start.clamp(begin, begin + member.channels) - begin;
            let last = channels.end.clamp(begin, begin + member.channels) - begin;
            let (rows, behind) = rest.split_at_mut((last - first) * taps);
            if !rows.is_empty() {
                member.rows.read(first * taps, rows)?;
            }
            if let Some(scale) = &member.scale {
                for (row, scale) in rows.chunks_exact_mut(taps).zip(&scale[first..last]) {
                    row.iter_mut().for_each(|weight| *weight *= scale);
                }
            }
            if let Some(pixels) = self.pixels {
                permute(rows, taps, pixels);
            }
            (begin, rest) = (begin + member.channels, behind);
        }
        Ok(())
    }
}

/// Rows of weights in the order of what they are multiplied with: flattened blocks of channels have another order than
/// flattened planes. Done when the weights are packed, instead of with the image at every run.
pub(super) fn permute(rows: &mut [f32], taps: usize, pixels: usize) {
    let mut plain = Vec::with_capacity(taps);
    for row in rows.chunks_exact_mut(taps) {
        plain.clear();
        plain.extend_from_slice(row);
        for (block, to) in plain.chunks_exact(BLOCK * pixels).zip(row.chunks_exact_mut(BLOCK * pixels)) {
            for (pixel, to) in to.chunks_exact_mut(BLOCK).enumerate() {
                to.iter_mut().zip(block[pixel..].iter().step_by(pixels)).for_each(|(to, &from)| *to = from);
            }
        }
    }
}
