//! Dropout (Srivastava et al. 2014), inverted: the kept elements grow while training, and nothing changes at inference.

use super::combine::pass_on;
use super::{Mode, Run, Unit, Wiring, read, split};
use crate::train::random::{Mask, Stream};
use kernels::{ConvError, Layout, TensorMut, TensorRef};

/// A dropout layer.
pub(in crate::train) struct DropoutUnit {
    wiring: Wiring,
    stream: Stream,
    rate: f32,
    /// The mask of this pass, in NCHW order.
    mask: Vec<f32>,
    /// The same in the layout of the tensor.
    placed: Vec<f32>,
    /// Whether the caller set the mask.
    is_given: bool,
}

impl DropoutUnit {
    pub(in crate::train) fn new(wiring: Wiring, stream: Stream, rate: f32) -> Result<Self, ConvError> {
        let target = &wiring.target;
        let len = target.shape.len(Layout::Nchw)?;
        let placed = vec![0.0; target.shape.len(target.layout)?];
        Ok(Self { stream, rate, mask: vec![0.0; len], placed, is_given: false, wiring })
    }

    fn draw(&mut self, run: &Run<'_>) -> Result<(), ConvError> {
        if !self.is_given {
            self.stream.mask(run.draw, Mask { rate: self.rate }, &mut self.mask);
        }
        let (shape, layout) = (self.wiring.target.shape, self.wiring.target.layout);
        let mask = TensorRef::packed(&self.mask, shape, Layout::Nchw)?;
        run.ops.copy(mask, TensorMut::packed(&mut self.placed, shape, layout)?, run.threads)
    }

    /// Multiplies the source by the mask of this pass.
    fn apply(&self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let target = &self.wiring.target;
        let (sources, data) = split(run.arena, run.inputs, target);
        run.ops.copy(read(&sources, self.wiring.source())?, target.tensor_mut(data)?, run.threads)?;
        match run.mode {
            Mode::Training => run.ops.multiply(self.factor()?, target.tensor_mut(data)?, run.threads),
            Mode::Inference => Ok(()),
        }
    }

    fn factor(&self) -> Result<TensorRef<'_>, ConvError> {
        TensorRef::packed(&self.placed, self.wiring.target.shape, self.wiring.target.layout)
    }
}

impl Unit for DropoutUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        if run.mode == Mode::Training {
            self.draw(run)?;
        }
        self.apply(run)
    }

    fn recompute(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        self.apply(run)
    }

    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let dy = &self.wiring.dy;
        let (_, data) = split(run.arena, run.inputs, dy);
        run.ops.multiply(self.factor()?, dy.tensor_mut(data)?, run.threads)?;
        self.wiring.dx().map_or(Ok(()), |dx| pass_on(dy, dx, run))
    }

    fn set_mask(&mut self, mask: Option<&[f32]>) -> bool {
        match mask {
            Some(mask) if mask.len() != self.mask.len() => return false,
            Some(mask) => self.mask.copy_from_slice(mask),
            None => {}
        }
        self.is_given = mask.is_some();
        true
    }
}
