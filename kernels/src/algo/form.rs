//! [`Form`]: how a filter is packed, and [`Packed`]: a filter in a packed form.
//!
//! A form depends on the filter, the tile and the layout, and for Fourier transforms on their lengths. It
//! does not depend on the batch, and usually not on the image size. Plans for many shapes therefore share one
//! packed filter.

use super::Driver;
use super::depthwise::{DepthwiseForm, DepthwiseWeights};
use super::few::{FewForm, FewWeightsOf};
use super::fft::{Spectra, SpectraForm};
use super::packed::{GemmForm, GemmWeights, PACKED};
use super::parts::{PartsForm, PartsWeights};
use super::reference::{PlainForm, PlainWeights};
use super::winograd::{WinogradForm, WinogradWeights};
use crate::describe::{ConvError, FilterCut, Weights};
use crate::memory::{Buffer, try_vec};
use crate::tile::table::KernelSet;
use std::ops::Range;
use std::sync::Arc;

/// How a filter is packed. It does not depend on the values of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    /// The taps that are packed, if not all of them are.
    pub(crate) cut: Option<FilterCut>,
    pub(crate) kind: FormKind,
}

/// How the taps are packed, with one variant for each kind of packed weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FormKind {
    Plain(PlainForm),
    /// The form of im2col, pointwise and direct convolution.
    Gemm(GemmForm),
    /// The form of direct convolution with few output channels.
    Few(FewForm),
    Depthwise(DepthwiseForm),
    Winograd(WinogradForm),
    Spectra(SpectraForm),
    Parts(PartsForm),
}

/// A packed filter, shared by the plans that use it.
#[derive(Clone)]
pub(crate) enum Packed {
    Plain(Arc<PlainWeights>),
    Gemm(Arc<GemmWeights>),
    Few(Arc<FewWeightsOf>),
    Depthwise(Arc<DepthwiseWeights>),
    Winograd(Arc<WinogradWeights>),
    Spectra(Arc<Spectra>),
    Parts(Arc<PartsWeights>),
}

impl Form {
    /// Elements of the packed filter, the packed bias and the packed slopes.
    pub(crate) fn lens(&self) -> [usize; 3] {
        match &self.kind {
            FormKind::Plain(form) => form.lens(),
            FormKind::Gemm(form) => form.lens(),
            FormKind::Few(form) => form.lens(),
            FormKind::Depthwise(form) => form.lens(),
            FormKind::Winograd(form) => form.lens(),
            FormKind::Spectra(form) => form.lens(),
            FormKind::Parts(form) => form.lens(),
        }
    }

    /// How the weights are stored, in words.
    pub(crate) fn stored(&self) -> &'static str {
        match &self.kind {
            FormKind::Parts(form) => form.stored_as(),
            FormKind::Winograd(form) if !form.is_f32() => "bf16 parts",
            _ => "f32",
        }
    }

    /// Packs `weights` of `channels` output channels. They must fit the problem that the form was made for.
    pub(crate) fn pack(
        &self,
        weights: &Weights<'_>,
        channels: usize,
        kernels: &'static KernelSet,
    ) -> Result<Packed, ConvError> {
        let mut packed = self.room(weights)?;
        self.fill(&mut packed, 0..channels, weights.filter, kernels)?;
        Ok(packed)
    }

    /// Packs the filters of some output channels, with all of their taps. A form that does not
    /// [take parts](Self::takes_parts) needs all channels.
    pub(crate) fn fill(
        &self,
        packed: &mut Packed,
        channels: Range<usize>,
        filters: &[f32],
        kernels: &'static KernelSet,
    ) -> Result<(), ConvError> {
        self.fill_unshared(packed.unshared(), channels, (filters, &mut Vec::new()), kernels)
    }

    fn fill_unshared(
        &self,
        packed: PackedMut<'_>,
        channels: Range<usize>,
        (filters, left): (&[f32], &mut Vec<f32>),
        kernels: &'static KernelSet,
    ) -> Result<(), ConvError> {
        let Some(cut) = self.cut else { return packed.fill(channels, filters, kernels) };
        let count = cut.count(filters.len());
        if left.capacity() < count {
            *left = try_vec("taps of a filter", count)?;
        }
        left.clear();
        cut.rows(filters).for_each(|row| left.extend_from_slice(row));
        packed.fill(channels, left, kernels)
    }

    /// Packs `weights` of `channels` output channels over the weights of a driver. Returns whether they were not shared;
    /// otherwise nothing changes. `room` keeps memory for the next call.
    pub(crate) fn repack(
        &self,
        driver: &mut Driver,
        weights: &Weights<'_>,
        channels: usize,
        kernels: &'static KernelSet,
        room: &mut Vec<f32>,
    ) -> Result<bool, ConvError> {
        let Some(mut packed) = driver.weights_mut() else { return Ok(false) };
        packed.pack_per_channel(weights);
        self.fill_unshared(packed, 0..channels, (weights.filter, room), kernels)?;
        Ok(true)
    }

    /// Allocates the packed filter, and packs the bias and the slopes of `weights`.
    pub(crate) fn room(&self, weights: &Weights<'_>) -> Result<Packed, ConvError> {
        let [filter, bias, slope] = self.lens();
        let per_channel = |len| Buffer::zeroed_for("bias and slopes", len);
        let buffers = [Buffer::zeroed_for(PACKED, filter)?, per_channel(bias)?, per_channel(slope)?];
        let mut packed = self.with(buffers)?;
        packed.unshared().pack_per_channel(weights);
        Ok(packed)
    }

    /// Makes the packed filter from buffers of [`lens`](FormKind::lens) elements.
    pub(crate) fn with(&self, buffers: [Buffer; 3]) -> Result<Packed, ConvError> {
        debug_assert_eq!(buffers.each_ref().map(|buffer| buffer.len()), self.lens());
        Ok(match self.kind {
            FormKind::Plain(form) => Packed::Plain(Arc::new(PlainWeights::new(form, buffers))),
            FormKind::Gemm(form) => Packed::Gemm(Arc::new(GemmWeights::new(form, buffers)?)),
            FormKind::Few(form) => Packed::Few(Arc::new(FewWeightsOf::new(form, buffers))),
            FormKind::Depthwise(form) => Packed::Depthwise(Arc::new(DepthwiseWeights::new(form, buffers)?)),
            FormKind::Winograd(form) => Packed::Winograd(Arc::new(WinogradWeights::new(form, buffers)?)),
            FormKind::Spectra(form) => Packed::Spectra(Arc::new(Spectra::new(form, buffers)?)),
            FormKind::Parts(form) => Packed::Parts(Arc::new(PartsWeights::new(form, buffers)?)),
        })
    }

    /// Whether a filter can be packed in parts of a few output channels.
    pub(crate) fn takes_parts(&self) -> bool {
        match &self.kind {
            FormKind::Few(_) | FormKind::Depthwise(_) | FormKind::Spectra(_) => false,
            FormKind::Parts(form) => form.panels.are_whole(),
            FormKind::Winograd(form) => form.panels.are_whole() || form.is_f32(),
            FormKind::Plain(_) | FormKind::Gemm(_) => true,
        }
    }

    /// Unit of the output channels of a part. With whole units, no panel is packed twice.
    pub(crate) fn channels_of_part(&self) -> usize {
        match &self.kind {
            FormKind::Gemm(form) => form.panels.width,
            FormKind::Winograd(form) => form.panels.width,
            FormKind::Parts(form) => form.panels.width,
            FormKind::Plain(_) | FormKind::Few(_) | FormKind::Depthwise(_) | FormKind::Spectra(_) => 1,
        }
    }
}

/// Packed weights that nothing else shares.
pub(crate) enum PackedMut<'a> {
    Plain(&'a mut PlainWeights),
    Gemm(&'a mut GemmWeights),
    Few(&'a mut FewWeightsOf),
    Depthwise(&'a mut DepthwiseWeights),
    Winograd(&'a mut WinogradWeights),
    Spectra(&'a mut Spectra),
    Parts(&'a mut PartsWeights),
}

impl PackedMut<'_> {
    fn pack_per_channel(&mut self, weights: &Weights<'_>) {
        match self {
            Self::Plain(packed) => packed.pack(weights),
            Self::Gemm(packed) => packed.pack(weights),
            Self::Few(packed) => packed.pack(weights),
            Self::Depthwise(packed) => packed.pack(weights),
            Self::Winograd(packed) => packed.pack(weights),
            Self::Spectra(packed) => packed.pack(weights),
            Self::Parts(packed) => packed.pack(weights),
        }
    }

    /// Packs the taps that are left of the filters of some output channels.
    fn fill(
        self,
        channels: Range<usize>,
        filters: &[f32],
        kernels: &'static KernelSet,
    ) -> Result<(), ConvError> {
        match self {
            Self::Plain(packed) => packed.fill(channels, filters),
            Self::Gemm(packed) => packed.fill(channels, filters)?,
            Self::Few(packed) => packed.fill(filters),
            Self::Depthwise(packed) => packed.fill(filters),
            Self::Winograd(packed) => packed.fill(channels, filters, kernels)?,
            Self::Spectra(packed) => packed.fill(filters, kernels.fft())?,
            Self::Parts(packed) => packed.fill(channels, filters, kernels)?,
        }
        Ok(())
    }
}

impl Packed {
    /// Mutable access to weights that no plan shares yet.
    fn unshared(&mut self) -> PackedMut<'_> {
        fn of<T>(weights: &mut Arc<T>) -> &mut T {
            Arc::get_mut(weights).expect("weights are shared after they are packed")
        }
        match self {
            Self::Plain(packed) => PackedMut::Plain(of(packed)),
            Self::Gemm(packed) => PackedMut::Gemm(of(packed)),
            Self::Few(packed) => PackedMut::Few(of(packed)),
            Self::Depthwise(packed) => PackedMut::Depthwise(of(packed)),
            Self::Winograd(packed) => PackedMut::Winograd(of(packed)),
            Self::Spectra(packed) => PackedMut::Spectra(of(packed)),
            Self::Parts(packed) => PackedMut::Parts(of(packed)),
        }
    }

    /// The packed filter, bias and slopes.
    pub(crate) fn buffers(&self) -> [&Buffer; 3] {
        match self {
            Self::Plain(packed) => packed.buffers(),
            Self::Gemm(packed) => packed.buffers(),
            Self::Few(packed) => packed.buffers(),
            Self::Depthwise(packed) => packed.buffers(),
            Self::Winograd(packed) => packed.buffers(),
            Self::Spectra(packed) => packed.buffers(),
            Self::Parts(packed) => packed.buffers(),
        }
    }

    /// Bytes of all packed data and of the tables that belong to it.
    pub(crate) fn bytes(&self) -> usize {
        let tables = match self {
            Self::Depthwise(packed) => packed.source_bytes(),
            Self::Spectra(packed) => packed.table_bytes(),
            Self::Plain(_) | Self::Gemm(_) | Self::Few(_) | Self::Winograd(_) | Self::Parts(_) => 0,
        };
        self.buffers().into_iter().map(Buffer::bytes).sum::<usize>() + tables
    }
}
