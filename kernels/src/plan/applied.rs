//! [`OwnActivation`]: the activation that a convolution applied, whose derivative multiplies the gradient of its output
//! before the gradients of the convolution are computed.

use crate::describe::{
    Activation, Conv3dDesc, ConvDesc, ConvError, Layout, Shape4, TensorMut, TensorRef, VolumeRef,
    check_volume,
};
use crate::memory::WorkspaceReq;
#[cfg(feature = "ops")]
use crate::run::slopes::{Applied, activation_gradient};
use crate::run::{Threads, check};
use crate::tile::table::KernelSet;

/// Elements of a cache line.
const LINE: usize = 16;

/// The activation of a convolution whose gradients are computed.
pub(crate) struct OwnActivation {
    activation: Activation,
    #[cfg_attr(not(feature = "ops"), allow(dead_code))] // without them there is no activation
    kernels: &'static KernelSet,
    /// Elements of the multiplied gradient.
    len: usize,
}

impl OwnActivation {
    /// `activation` of a convolution whose output has `output_len` elements.
    ///
    /// # Errors
    /// [`ConvError::InvalidField`] if its output does not determine its derivative, or the crate is compiled without the
    /// feature `ops`.
    pub(crate) fn new(
        activation: Activation,
        output_len: usize,
        kernels: &'static KernelSet,
    ) -> Result<Self, ConvError> {
        let len = match activation {
            Activation::None => 0,
            _ if cfg!(feature = "ops") && activation.is_known_by_output() => {
                output_len.next_multiple_of(LINE)
            }
            _ => {
                let expected = "none, or one whose output determines its derivative (with the feature `ops`): otherwise \
                                multiply the gradient of the output by the derivative first";
                return Err(ConvError::field("epilogue.activation", expected, activation.name()));
            }
        };
        Ok(Self { activation, kernels, len })
    }

    /// `req`, and the memory of the multiplied gradient.
    pub(crate) fn workspace_req(&self, req: WorkspaceReq) -> WorkspaceReq {
        req.shared(self.len)
    }

    /// Checks that the output of the convolution is given if and only if it is needed, and has its shape.
    pub(super) fn check(&self, desc: &ConvDesc, output: Option<&TensorRef<'_>>) -> Result<(), ConvError> {
        self.check_given(output.is_some())?;
        output.map_or(Ok(()), |output| {
            check("output", (desc.output(), desc.output_layout()), (output.shape(), output.layout()))
        })
    }

    /// The same for volumes.
    pub(crate) fn check_volume(
        &self,
        desc: &Conv3dDesc,
        output: Option<&VolumeRef<'_>>,
    ) -> Result<(), ConvError> {
        self.check_given(output.is_some())?;
        output.map_or(Ok(()), |output| {
            check_volume("output", (desc.output(), desc.output_layout()), (output.shape(), output.layout()))
        })
    }

    fn check_given(&self, is_given: bool) -> Result<(), ConvError> {
        let planned = self.activation != Activation::None;
        if planned != is_given {
            return Err(ConvError::EpilogueMismatch { what: "output of the activation", planned });
        }
        Ok(())
    }

    /// The gradient before the activation, and the rest of `scratch`. The caller has checked everything.
    pub(super) fn before<'t>(
        &self,
        grad_output: TensorRef<'t>,
        output: Option<TensorRef<'_>>,
        scratch: &'t mut [f32],
        threads: Threads<'_>,
    ) -> Result<(TensorRef<'t>, &'t mut [f32]), ConvError> {
        let Some(output) = output else { return Ok((grad_output, scratch)) };
        let (shape, layout) = (grad_output.shape(), grad_output.layout());
        let (room, rest) = scratch.split_at_mut(self.len);
        let room = &mut room[..shape.len(layout)?];
        let product = TensorMut::packed(room, shape, layout)?;
        #[cfg(feature = "ops")]
        {
            let applied = Applied { activation: self.activation, value: output, by_output: true };
            activation_gradient(&self.kernels.grad, applied, grad_output, (product.into(), false), threads);
        }
        #[cfg(not(feature = "ops"))]
        let _ = (product, output, threads);
        Ok((TensorRef::packed(room, shape, layout)?, rest))
    }

    /// The same for volumes. They are packed and have the same order, so they are signals of one channel here.
    pub(crate) fn before_volume<'t>(
        &self,
        grad_output: VolumeRef<'t>,
        output: Option<VolumeRef<'_>>,
        scratch: &'t mut [f32],
        threads: Threads<'_>,
    ) -> Result<(VolumeRef<'t>, &'t mut [f32]), ConvError> {
        let Some(output) = output else { return Ok((grad_output, scratch)) };
        let (gradient, rest) = self.before(flat(grad_output)?, Some(flat(output)?), scratch, threads)?;
        let product = VolumeRef::packed(gradient.pixels().data, grad_output.shape(), grad_output.layout())?;
        Ok((product, rest))
    }
}

/// The elements of a volume as a signal.
fn flat(volume: VolumeRef<'_>) -> Result<TensorRef<'_>, ConvError> {
    let len = volume.shape().len(volume.layout())?;
    TensorRef::packed(&volume.data()[..len], Shape4::new(1, 1, 1, len), Layout::Nchw)
}
