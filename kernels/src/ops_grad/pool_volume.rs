//! Gradients of pooling volumes, in the two stages of the layer (`ops/pool/volume.rs`), in reverse order.

use super::Gradient;
use crate::describe::{ConvError, TensorMut, TensorRef, VolumeMut, VolumeRef, check_volume};
use crate::ops::{Ops, Pool3dDesc, PoolKind};
use crate::run::Threads;

/// The gradient of a tensor of volumes, as a result. Every [`VolumeMut`] is a gradient to write, by `From`.
#[derive(Debug)]
pub enum VolumeGradient<'a> {
    /// Writes every element. Padding lanes are set to zero.
    Write(VolumeMut<'a>),
    /// Adds to every element.
    Add(VolumeMut<'a>),
}

impl<'a> From<VolumeMut<'a>> for VolumeGradient<'a> {
    fn from(tensor: VolumeMut<'a>) -> Self {
        Self::Write(tensor)
    }
}

impl Ops {
    /// The gradient of [`pool3d`](Self::pool3d).
    ///
    /// As [`pool_gradient`](Self::pool_gradient): of equal maxima the first one in the order of slices, rows and columns gets
    /// the gradient of the window. `input` must be given exactly for a maximum. `scratch` is a
    /// [`Workspace`](crate::Workspace) or any `[f32]` slice of at least [`Pool3dDesc::gradient_workspace_req`]`.len()`
    /// elements.
    ///
    /// ```
    /// use kernels::*;
    /// # fn main() -> Result<(), ConvError> {
    /// let shape = Shape5::new(1, 1, 2, 1, 2);
    /// let desc = Pool3dDesc::global(shape, PoolKind::Max, VolumeLayout::Ncdhw)?;
    /// let x = VolumeRef::packed(&[1.0, 4.0, 4.0, 3.0], shape, desc.layout())?;
    /// let g = VolumeRef::packed(&[10.0], desc.output(), desc.layout())?;
    /// let mut dx = [7.0; 4];
    /// let mut workspace = Workspace::for_req(desc.gradient_workspace_req())?;
    /// let result = VolumeMut::packed(&mut dx, shape, desc.layout())?;
    /// Ops::new(None)?.pool3d_gradient(&desc, (Some(x), g), result, &mut workspace, Threads::Seq)?;
    /// assert_eq!(dx, [0.0, 10.0, 0.0, 0.0]); // the first of the two fours
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`ConvError::EpilogueMismatch`] if the input is missing or not needed.
    /// - [`ConvError::VolumeMismatch`] or [`ConvError::VolumeLayoutMismatch`] if a tensor does not match `desc`.
    /// - [`ConvError::WorkspaceTooSmall`] if `scratch` is too short.
    ///
    /// On an error `dx` is unchanged.
    pub fn pool3d_gradient<'a>(
        &self,
        desc: &Pool3dDesc,
        (input, gradient): (Option<VolumeRef<'_>>, VolumeRef<'_>),
        dx: impl Into<VolumeGradient<'a>>,
        scratch: &mut (impl AsMut<[f32]> + ?Sized),
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let (dx, adds) = match dx.into() {
            VolumeGradient::Write(dx) => (dx, false),
            VolumeGradient::Add(dx) => (dx, true),
        };
        let planned = desc.kind() == PoolKind::Max;
        if planned != input.is_some() {
            return Err(ConvError::EpilogueMismatch { what: "input of the pooling layer", planned });
        }
        let (of_input, of_output) = ((desc.input(), desc.layout()), (desc.output(), desc.layout()));
        if let Some(input) = &input {
            check_volume("input", of_input, (input.shape(), input.layout()))?;
        }
        check_volume("gradient of the output", of_output, (gradient.shape(), gradient.layout()))?;
        check_volume("gradient of the input", of_input, (dx.shape(), dx.layout()))?;
        let (plane, depth) = desc.stages();
        let gradient = TensorRef::packed(gradient.data(), depth.output(), depth.layout())?;
        let dx = TensorMut::packed(dx.into_data(), plane.input(), plane.layout())?;
        let dx = if adds { Gradient::Add(dx) } else { Gradient::from(dx) };
        let Some(input) = input else {
            let [slices] = desc.split_workspace(scratch.as_mut())?;
            let of_slices = TensorMut::packed(slices, depth.input(), depth.layout())?;
            self.pool_gradient(depth, None, gradient, of_slices, threads)?;
            let of_slices = TensorRef::packed(slices, plane.output(), plane.layout())?;
            return self.pool_gradient(plane, None, of_slices, dx, threads);
        };
        // The maxima of the slices, once more.
        let [maxima, slices] = desc.split_workspace(scratch.as_mut())?;
        let input = TensorRef::packed(input.data(), plane.input(), plane.layout())?;
        self.pool(plane, input, TensorMut::packed(maxima, plane.output(), plane.layout())?, threads)?;
        let maxima = TensorRef::packed(maxima, depth.input(), depth.layout())?;
        let of_slices = TensorMut::packed(slices, depth.input(), depth.layout())?;
        self.pool_gradient(depth, Some(maxima), gradient, of_slices, threads)?;
        let of_slices = TensorRef::packed(slices, plane.output(), plane.layout())?;
        self.pool_gradient(plane, Some(input), of_slices, dx, threads)
    }
}
