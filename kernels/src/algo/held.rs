//! The packed weights that a [`Driver`] holds.

use super::Driver;
use super::form::{Packed, PackedMut};
use std::sync::Arc;

impl Driver {
    /// The packed weights, shared with the driver.
    pub(crate) fn packed(&self) -> Packed {
        match self {
            Self::Reference(driver) => Packed::Plain(driver.weights.clone()),
            Self::Gemm(driver) => Packed::Gemm(driver.weights.clone()),
            Self::Direct(driver) => Packed::Gemm(driver.weights.clone()),
            Self::Rows(driver) => Packed::Gemm(driver.weights.clone()),
            Self::Few(driver) => Packed::Few(driver.weights.clone()),
            Self::Depthwise(driver) => Packed::Depthwise(driver.weights.clone()),
            Self::Winograd(driver) => Packed::Winograd(driver.weights.clone()),
            Self::Fft(driver) => Packed::Spectra(driver.spectra.clone()),
            Self::Parts(driver) => Packed::Parts(driver.weights.clone()),
        }
    }

    /// Mutable access to the packed weights, unless something else shares them.
    pub(crate) fn weights_mut(&mut self) -> Option<PackedMut<'_>> {
        Some(match self {
            Self::Reference(driver) => PackedMut::Plain(Arc::get_mut(&mut driver.weights)?),
            Self::Gemm(driver) => PackedMut::Gemm(Arc::get_mut(&mut driver.weights)?),
            Self::Direct(driver) => PackedMut::Gemm(Arc::get_mut(&mut driver.weights)?),
            Self::Rows(driver) => PackedMut::Gemm(Arc::get_mut(&mut driver.weights)?),
            Self::Few(driver) => PackedMut::Few(Arc::get_mut(&mut driver.weights)?),
            Self::Depthwise(driver) => PackedMut::Depthwise(Arc::get_mut(&mut driver.weights)?),
            Self::Winograd(driver) => PackedMut::Winograd(Arc::get_mut(&mut driver.weights)?),
            Self::Fft(driver) => PackedMut::Spectra(Arc::get_mut(&mut driver.spectra)?),
            Self::Parts(driver) => PackedMut::Parts(Arc::get_mut(&mut driver.weights)?),
        })
    }
}
