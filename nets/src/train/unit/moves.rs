//! Layers that move elements: copies to another layout, zero padding, shortcuts without parameters, and maxout.

use super::{Run, Unit, Wiring, read, split};
use crate::run::plain;
use kernels::{Activation, ConvError, Gradient, Pad2, Shape4, TensorMut, TensorRef, WorkspaceReq};

/// A copy to another layout or to a part of a concatenation.
pub(in crate::train) struct CopyUnit {
    pub(in crate::train) wiring: Wiring,
}

impl Unit for CopyUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let (sources, data) = split(run.arena, run.inputs, &self.wiring.target);
        run.ops.copy(read(&sources, self.wiring.source())?, self.wiring.target.tensor_mut(data)?, run.threads)
    }

    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let Some(dx) = self.wiring.dx() else { return Ok(()) };
        let (sources, data) = split(run.arena, run.inputs, &dx.operand);
        let gradient = read(&sources, &self.wiring.dy)?;
        match dx.gradient(data)? {
            Gradient::Write(to) => run.ops.copy(gradient, to, run.threads),
            Gradient::Add(to) => {
                // Sums need both tensors in one layout.
                let (shape, layout) = (to.shape(), to.layout());
                let room = &mut run.workspace.as_mut_slice()[..shape.len(layout)?];
                run.ops.copy(gradient, TensorMut::packed(room, shape, layout)?, run.threads)?;
                run.ops.add(TensorRef::packed(room, shape, layout)?, to, Activation::None, run.threads)
            }
        }
    }

    fn workspace_req(&self, _threads: usize) -> WorkspaceReq {
        let len = |dx: &super::Dx| dx.operand.shape.len(dx.operand.layout).unwrap_or(usize::MAX);
        WorkspaceReq::default().shared(self.wiring.dx().map_or(0, len))
    }
}

/// Zero padding around the image.
pub(in crate::train) struct PadUnit {
    pub(in crate::train) wiring: Wiring,
    pub(in crate::train) pad: Pad2,
}

/// The shortcut of option A: every `stride`-th pixel, and zeros in the additional channels.
pub(in crate::train) struct ShortcutUnit {
    pub(in crate::train) wiring: Wiring,
    pub(in crate::train) stride: usize,
}

/// Calls `each` with every image of the source and of the target.
fn forward_images(
    wiring: &Wiring,
    run: &mut Run<'_>,
    each: impl Fn((&[f32], plain::Image), (&mut [f32], plain::Image)),
) -> Result<(), ConvError> {
    let (source, target) = (wiring.source(), &wiring.target);
    let (sources, data) = split(run.arena, run.inputs, target);
    let images = source.images(sources.get(source)).zip(target.images_mut(data));
    images.for_each(|(from, to)| each((from, source.image()), (to, target.image())));
    Ok(())
}

/// Calls `each` with every image of the gradient of the output and of the gradient to add to.
fn backward_images(
    wiring: &Wiring,
    run: &mut Run<'_>,
    each: impl Fn((&[f32], plain::Image), (&mut [f32], plain::Image)),
) -> Result<(), ConvError> {
    let (dy, Some(dx)) = (&wiring.dy, wiring.dx()) else { return Ok(()) };
    let (sources, data) = split(run.arena, run.inputs, &dx.operand);
    for (from, to) in dy.images(sources.get(dy)).zip(dx.operand.images_mut(data)) {
        if !dx.adds {
            to.fill(0.0);
        }
        each((from, dy.image()), (to, dx.operand.image()));
    }
    Ok(())
}

impl Unit for PadUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        forward_images(&self.wiring, run, |from, to| plain::pad(from, self.pad, to))
    }

    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        backward_images(&self.wiring, run, |from, to| plain::add_middle(from, self.pad, to))
    }
}

impl Unit for ShortcutUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        forward_images(&self.wiring, run, |from, to| plain::shortcut(from, self.stride, to))
    }

    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        backward_images(&self.wiring, run, |from, to| plain::add_strided(from, self.stride, to))
    }
}

/// The maximum over every `pieces` neighbouring channels.
pub(in crate::train) struct MaxoutUnit {
    pub(in crate::train) wiring: Wiring,
    pub(in crate::train) pieces: usize,
}

impl Unit for MaxoutUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let (sources, data) = split(run.arena, run.inputs, &self.wiring.target);
        let (x, y) = (read(&sources, self.wiring.source())?, self.wiring.target.tensor_mut(data)?);
        run.ops.maxout(self.pieces, x, y, run.threads)
    }

    /// The first of the largest channels gets the gradient.
    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let Some(dx) = self.wiring.dx() else { return Ok(()) };
        let (sources, data) = split(run.arena, run.inputs, &dx.operand);
        let (x, dy) = (read(&sources, self.wiring.source())?, read(&sources, &self.wiring.dy)?);
        if !dx.adds {
            dx.operand.images_mut(data).for_each(|image| image.fill(0.0));
        }
        let Shape4 { n, c, h, w } = dy.shape();
        let mut to = dx.operand.tensor_mut(data)?;
        for (n, c) in (0..n).flat_map(|n| (0..c).map(move |c| (n, c))) {
            for (row, column) in (0..h).flat_map(|row| (0..w).map(move |column| (row, column))) {
                let piece = |i: usize| x.offset(n, c * self.pieces + i, row, column);
                let largest = (1..self.pieces)
                    .fold(0, |best, i| if x.data()[piece(i)] > x.data()[piece(best)] { i } else { best });
                let at = to.offset(n, c * self.pieces + largest, row, column);
                to.data_mut()[at] += dy.data()[dy.offset(n, c, row, column)];
            }
        }
        Ok(())
    }
}
