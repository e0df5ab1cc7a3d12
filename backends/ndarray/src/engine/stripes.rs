//! Stripes of rows, for kernels that the library applies as sums of products.

use super::across::Across;
use super::gather::assign;
use super::{Engine, Geometry, Passes, run_plan};
use crate::error::Error;
use crate::memory::{Room, Scratch, plan};
use kernels::{ConvDesc, ConvError, ConvPlan, Layout, Shape4, Size2, Threads};
use ndarray::{ArrayView3, ArrayViewMut3, Axis};
use rayon::prelude::*;

/// Elements of a stripe: a quarter of the second-level cache of most cores.
const STRIPE: usize = 64 << 10;

/// The stripes of an image. They depend on its size, but not on the threads.
pub(super) struct Stripes {
    /// Rows of every stripe but the last.
    rows: usize,
    every: Stripe,
    /// The last stripe, if it has fewer rows.
    last: Option<Stripe>,
    count: usize,
    threads: usize,
}

impl Stripes {
    pub(super) fn new(engine: &Engine, geometry: Geometry, threads: usize) -> Result<Self, Error> {
        let Geometry { image, lanes, .. } = geometry;
        let output = engine.output(image)?;
        // Neighbouring stripes read common rows, so a stripe should not be much smaller than the kernel.
        let rows = (STRIPE / output.w.saturating_mul(lanes)).max(engine.kernel.h / 2).clamp(1, output.h);
        let count = output.h.div_ceil(rows);
        // A single stripe is split among the threads by the library.
        let inside = if count == 1 { threads } else { 1 };
        let every = Stripe::new(engine, geometry, rows, inside)?;
        let last = match output.h % rows {
            0 => None,
            rest => Some(Stripe::new(engine, geometry, rest, inside)?),
        };
        Ok(Self { rows, every, last, count, threads })
    }

    /// Computes an image of one channel, or an image whose channels are adjacent.
    pub(super) fn run(
        &self,
        engine: &Engine,
        image: ArrayView3<'_, f32>,
        mut output: ArrayViewMut3<'_, f32>,
    ) -> Result<(), Error> {
        let stripes = output.axis_chunks_iter_mut(Axis(0), self.rows).enumerate();
        let run = |scratch: &mut Scratch, (index, output): (usize, ArrayViewMut3<'_, f32>), threads| {
            let last = self.last.as_ref().filter(|_| index + 1 == self.count);
            last.unwrap_or(&self.every).run(engine, image, index * self.rows, output, (scratch, threads))
        };
        if self.count == 1 || self.threads == 1 {
            let scratch = &mut *engine.pool.lease();
            for stripe in stripes {
                run(scratch, stripe, engine.threads.of_library())?;
            }
            return Ok(());
        }
        let stripes: Vec<_> = stripes.collect();
        let lease = || engine.pool.lease();
        stripes.into_par_iter().try_for_each_init(lease, |lease, stripe| run(lease, stripe, Threads::Seq))
    }
}

/// The plans of a stripe.
struct Stripe {
    /// Number of output rows.
    rows: usize,
    column: Option<ConvPlan>,
    across: Across,
}

impl Stripe {
    fn new(engine: &Engine, geometry: Geometry, rows: usize, threads: usize) -> Result<Self, Error> {
        let width = geometry.image.w * geometry.lanes;
        let inputs = Shape4::new(1, 1, rows.saturating_add(engine.kernel.h - 1), width);
        Ok(match &engine.passes {
            Passes::One(filter) => {
                Self { rows, column: None, across: Across::new(engine, filter, geometry, inputs.h, threads)? }
            }
            Passes::Two { column, row, .. } => {
                let desc = ConvDesc::builder(inputs, 1, Size2::new(engine.kernel.h, 1)).build()?;
                let across = Across::new(engine, row, geometry, rows, threads)?;
                Self { rows, column: Some(plan(column, &desc, threads)?), across }
            }
        })
    }

    fn run(
        &self,
        engine: &Engine,
        image: ArrayView3<'_, f32>,
        first: usize,
        mut output: ArrayViewMut3<'_, f32>,
        (scratch, threads): (&mut Scratch, Threads<'_>),
    ) -> Result<(), Error> {
        let Scratch { workspace, block, middle, edges, output: room } = scratch;
        let input = self.input(engine, image, first, block)?;
        let input = match &self.column {
            None => input,
            Some(plan) => {
                let middle = middle.of(plan.desc().output().len(Layout::Nchw)?)?;
                run_plan(plan, input, middle, (workspace, threads))?;
                middle
            }
        };
        let constant = match engine.passes {
            Passes::Two { column_sum, .. } => engine.border.constant() * column_sum,
            Passes::One(_) => engine.border.constant(),
        };
        let mut across = |output: &mut [f32]| -> Result<(), ConvError> {
            self.across.main(input, output, (workspace, threads))?;
            self.across.edges(constant, input, output, (edges, workspace))
        };
        if let Some(output) = output.as_slice_mut() {
            return Ok(across(output)?);
        }
        let room = room.of(output.len())?;
        across(room)?;
        let shape = output.raw_dim();
        assign(output, ArrayView3::from_shape(shape, room).expect("as many elements"));
        Ok(())
    }

    /// The rows of the image that the stripe from output row `first` reads. They are copied only if they are
    /// not adjacent in memory, or if some of them are outside of the image.
    fn input<'a>(
        &self,
        engine: &Engine,
        image: ArrayView3<'a, f32>,
        first: usize,
        block: &'a mut Room,
    ) -> Result<&'a [f32], Error> {
        let (h, w, lanes) = image.dim();
        let rows = self.rows + engine.kernel.h - 1;
        if let Some(pixels) = image.to_slice()
            && let Some(top) = first.checked_sub(engine.pad.top)
            && top + rows <= h
        {
            return Ok(&pixels[top * w * lanes..(top + rows) * w * lanes]);
        }
        let block = block.of(Shape4::new(1, rows, w, lanes).len(Layout::Nchw)?)?;
        let top = first as isize - engine.pad.top as isize;
        let copy = ArrayViewMut3::from_shape((rows, w, lanes), &mut *block).expect("as many elements");
        engine.region(top, 0).copy(image, copy);
        Ok(block)
    }
}
