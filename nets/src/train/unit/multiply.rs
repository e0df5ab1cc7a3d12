//! Products of two tensors, and the gates of squeeze-and-excitation blocks (Hu et al. 2018).

use super::{Run, Unit, Wiring, read, split};
use crate::run::operand::Operand;
use kernels::ConvError;

/// The product of the first input with the second one, which can have one pixel.
pub(in crate::train) struct MultiplyUnit {
    pub(in crate::train) wiring: Wiring,
}

/// A block of channels of one image, with the number of adjacent elements of a pixel.
struct Block<'a> {
    dy: &'a [f32],
    other: &'a [f32],
    lanes: usize,
}

impl MultiplyUnit {
    /// The gradient of the input `number`: the product of `dy` with the other input.
    fn gradient(&self, number: usize, run: &mut Run<'_>) {
        let Some(dx) = &self.wiring.dx[number] else { return };
        let (dy, other) = (&self.wiring.dy, &self.wiring.sources[1 - number]);
        let (sources, data) = split(run.arena, run.inputs, &dx.operand);
        let lanes = dy.image().lanes;
        let len = |operand: &Operand| operand.shape.h * operand.shape.w * lanes;
        let images = dy.images(sources.get(dy)).zip(other.images(sources.get(other)));
        for ((dy_image, other_image), to) in images.zip(dx.operand.images_mut(data)) {
            if !dx.adds {
                to.fill(0.0);
            }
            let blocks = dy_image.chunks_exact(len(dy)).zip(other_image.chunks_exact(len(other)));
            for ((dy, other), to) in blocks.zip(to.chunks_exact_mut(len(&dx.operand))) {
                Block { dy, other, lanes }.add_products(to);
            }
        }
    }
}

impl Block<'_> {
    /// Adds `dy * other`, where one of `other` and `to` can have one pixel. The gradient of a single pixel is the sum over all
    /// pixels.
    fn add_products(&self, to: &mut [f32]) {
        let Self { dy, other, lanes } = *self;
        let gate = other.len() < dy.len();
        if to.len() < dy.len() {
            for (dy, other) in dy.chunks_exact(lanes).zip(other.chunks_exact(lanes)) {
                to.iter_mut().zip(dy.iter().zip(other)).for_each(|(to, (g, x))| *to += g * x);
            }
        } else if gate && lanes == 1 {
            to.iter_mut().zip(dy).for_each(|(to, g)| *to += g * other[0]);
        } else if gate {
            for (to, dy) in to.chunks_exact_mut(lanes).zip(dy.chunks_exact(lanes)) {
                to.iter_mut().zip(dy.iter().zip(other)).for_each(|(to, (g, x))| *to += g * x);
            }
        } else {
            to.iter_mut().zip(dy.iter().zip(other)).for_each(|(to, (g, x))| *to += g * x);
        }
    }
}

impl Unit for MultiplyUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let Wiring { sources: operands, target, .. } = &self.wiring;
        let (sources, data) = split(run.arena, run.inputs, target);
        run.ops.copy(read(&sources, &operands[0])?, target.tensor_mut(data)?, run.threads)?;
        run.ops.multiply(read(&sources, &operands[1])?, target.tensor_mut(data)?, run.threads)
    }

    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        self.gradient(0, run);
        self.gradient(1, run);
        Ok(())
    }
}
