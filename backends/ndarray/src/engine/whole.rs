//! One run for the whole image. Fourier transforms are fastest so.

use super::gather::assign;
use super::{Engine, run_plan};
use crate::error::Error;
use crate::memory::{Scratch, plan};
use kernels::{ConvDesc, ConvPlan, Filter, Layout, Pad2, Shape4};
use ndarray::{ArrayView3, ArrayViewMut3};

/// A plan for all channels. They are images of a batch.
pub(super) struct Whole {
    plan: ConvPlan,
    /// Rows above and columns left of the image that are copied with it. The plan pads the others.
    copied: Pad2,
}

impl Whole {
    pub(super) fn new(
        engine: &Engine,
        filter: &Filter<'_>,
        desc: &ConvDesc,
        threads: usize,
    ) -> Result<Self, Error> {
        if engine.border.is_zero() {
            return Ok(Self { plan: plan(filter, desc, threads)?, copied: Pad2::VALID });
        }
        let (Shape4 { n, h, w, .. }, pad) = (desc.input(), desc.pad());
        let padded = Shape4::new(n, 1, h + pad.top + pad.bottom, w + pad.left + pad.right);
        let desc = ConvDesc::builder(padded, 1, desc.kernel()).build()?;
        Ok(Self { plan: plan(filter, &desc, threads)?, copied: pad })
    }

    pub(super) fn run(
        &self,
        engine: &Engine,
        image: ArrayView3<'_, f32>,
        output: ArrayViewMut3<'_, f32>,
    ) -> Result<(), Error> {
        let scratch = &mut *engine.pool.lease();
        let Scratch { workspace, block, output: room, .. } = scratch;
        let (from, to) = (self.plan.desc().input(), self.plan.desc().output());
        let planes = image.permuted_axes([2, 0, 1]);
        let input = match planes.as_slice() {
            Some(planes) if self.copied.is_zero() => planes,
            _ => {
                let block = block.of(from.len(Layout::Nchw)?)?;
                let mut copy = view_of(block, from);
                let region = engine.region(-(self.copied.top as isize), -(self.copied.left as isize));
                region.copy(image, copy.view_mut().permuted_axes([1, 2, 0]));
                block
            }
        };
        let how = (workspace, engine.threads.of_library());
        let mut planes = output.permuted_axes([2, 0, 1]);
        if let Some(planes) = planes.as_slice_mut() {
            return Ok(run_plan(&self.plan, input, planes, how)?);
        }
        let room = room.of(to.len(Layout::Nchw)?)?;
        run_plan(&self.plan, input, room, how)?;
        assign(planes.permuted_axes([1, 2, 0]), view_of(room, to).view().permuted_axes([1, 2, 0]));
        Ok(())
    }
}

/// A packed batch of one-channel images as an array.
fn view_of(packed: &mut [f32], shape: Shape4) -> ArrayViewMut3<'_, f32> {
    let Shape4 { n, h, w, .. } = shape;
    ArrayViewMut3::from_shape((n, h, w), packed).expect("as many elements as the shape has")
}
