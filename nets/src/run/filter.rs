//! [`Filter`]: the weights of an operation for packing, read from their source some output channels at a time.

use super::layout::BLOCK;
use crate::error::{LayerError, NetError};
use crate::layer::Param;
use crate::weights::WeightSource;
use std::borrow::Cow;
use std::ops::Range;

/// The filters of all output channels, one row each, with scales folded in.
pub(super) struct Filter<'a> {
    /// The filters of merged layers, in order.
    pub(super) members: Vec<Member<'a>>,
    /// The number of pixels in the flattened input, if its blocks of channels require [`permute`].
    pub(super) pixels: Option<usize>,
}

/// The filters of one layer.
pub(super) struct Member<'a> {
    pub(super) rows: Rows<'a>,
    pub(super) channels: usize,
    /// A factor for the row of each channel.
    pub(super) scale: Option<Vec<f32>>,
}

/// The source of the rows.
pub(super) enum Rows<'a> {
    Whole(Cow<'a, [f32]>),
    /// A tensor of a source that supports parts.
    Parts {
        weights: &'a dyn WeightSource,
        name: String,
        param: Param,
    },
}

/// The reason why a kernel cannot be built.
pub(super) enum Problem {
    /// An error that still needs the name of the layer.
    Layer(LayerError),
    /// A complete error of the weights.
    Weights(NetError),
}

impl<E: Into<LayerError>> From<E> for Problem {
    fn from(problem: E) -> Self {
        Self::Layer(problem.into())
    }
}

impl Rows<'_> {
    /// Reads the elements from index `first` on.
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
    /// Reads the rows of `channels`, each of `taps` weights.
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

/// Reorders rows of weights for an input of flattened channel blocks, whose elements are not in the order of
/// flattened planes. This happens once during packing, instead of for the image in every run.
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
