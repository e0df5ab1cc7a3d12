//! Stripes of rows, for kernels that the library applies as sums of products.

use super::across::Across;
use super::banded::plan_pass;
use super::gather::assign;
use super::{Engine, Geometry, Passes, run_plan};
use crate::error::Error;
use crate::memory::{Room, Scratch, collected, reserved};
use kernels::{ConvDesc, ConvError, ConvPlan, Layout, Shape4, Size2, Threads};
use ndarray::{ArrayView3, ArrayViewMut3, Axis};
use rayon::prelude::*;

/// Elements of a stripe: a quarter of the second-level cache of most cores.
const STRIPE: usize = 64 << 10;

/// Minimum elements of an image whose outermost rows are stripes of their own.
const SEPARATE_EDGES: usize = 16 << 10;

/// The stripes of an image. They depend on its size, but not on the threads.
pub(super) struct Stripes {
    /// A stripe for each number of rows that occurs.
    plans: Vec<Stripe>,
    /// Their indices, from the top of the output to its bottom.
    order: Vec<usize>,
    threads: usize,
}

impl Stripes {
    pub(super) fn new(engine: &Engine, geometry: Geometry, threads: usize) -> Result<Self, Error> {
        let heights = heights(engine, geometry)?;
        // A single stripe is split among the threads by the library.
        let inside = if heights.len() == 1 { threads } else { 1 };
        let mut plans: Vec<Stripe> = Vec::new();
        let mut order = reserved("stripes", heights.len())?;
        for rows in heights {
            let known = plans.iter().position(|stripe| stripe.rows == rows);
            order.push(known.unwrap_or(plans.len()));
            if known.is_none() {
                plans.push(Stripe::new(engine, geometry, rows, inside)?);
            }
        }
        Ok(Self { plans, order, threads })
    }

    /// Computes an image of one channel, or an image whose channels are adjacent.
    pub(super) fn run(
        &self,
        engine: &Engine,
        image: ArrayView3<'_, f32>,
        output: ArrayViewMut3<'_, f32>,
    ) -> Result<(), Error> {
        let mut rest = Some(output);
        let mut first = 0;
        let stripes = self.order.iter().map(|&index| {
            let stripe = &self.plans[index];
            let whole = rest.take().expect("what the stripe before left");
            let (output, below) = whole.split_at(Axis(0), stripe.rows);
            rest = Some(below);
            first += stripe.rows;
            (stripe, first - stripe.rows, output)
        });
        if self.order.len() == 1 || self.threads == 1 {
            let scratch = &mut *engine.pool.lease();
            for (stripe, first, output) in stripes {
                stripe.run(engine, image, first, output, (scratch, engine.threads.of_library()))?;
            }
            return Ok(());
        }
        let stripes = collected("stripes", stripes)?;
        stripes.into_par_iter().try_for_each_init(
            || engine.pool.lease(),
            |lease, (stripe, first, output)| {
                stripe.run(engine, image, first, output, (&mut *lease, Threads::Seq))
            },
        )
    }
}

/// The numbers of output rows of the stripes, from top to bottom.
///
/// The outputs that read rows above or below the image are stripes of their own, because their input must be
/// copied. An image that is small anyway is copied as a whole.
fn heights(engine: &Engine, Geometry { image, lanes, .. }: Geometry) -> Result<Vec<usize>, Error> {
    let output = engine.output(image)?;
    let width = output.w.saturating_mul(lanes);
    // Neighbouring stripes read common rows, so a stripe should not be much smaller than the kernel.
    let most = (STRIPE / width).max(engine.kernel.h / 2);
    // Whole register tiles of rows.
    let most = if most >= 8 { most / 8 * 8 } else { most.max(1) };
    let (top, bottom) = (engine.pad.top, engine.pad.bottom);
    let inner = (image.h + 1).saturating_sub(engine.kernel.h);
    let segments = if inner > 0 && output.h.saturating_mul(width) >= SEPARATE_EDGES {
        [top, inner, bottom]
    } else {
        [output.h, 0, 0]
    };
    let mut heights = reserved("stripes", segments.iter().map(|rows| rows.div_ceil(most)).sum())?;
    for rows in segments {
        heights.extend(std::iter::repeat_n(most, rows / most));
        heights.extend(Some(rows % most).filter(|rest| *rest > 0));
    }
    Ok(heights)
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
            Passes::One(kernel) => {
                Self { rows, column: None, across: Across::new(engine, kernel, geometry, inputs.h, threads)? }
            }
            Passes::Two(passes) => {
                let desc = ConvDesc::builder(inputs, 1, Size2::new(engine.kernel.h, 1)).build()?;
                let across = Across::new(engine, &passes.row, geometry, rows, threads)?;
                Self { rows, column: Some(plan_pass(&passes.column, &desc, threads)?), across }
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
                let middle = middle.of(plan.desc().output().len(plan.desc().layout())?)?;
                run_plan(plan, input, middle, (workspace, threads))?;
                middle
            }
        };
        let constant = match &engine.passes {
            Passes::Two(passes) => engine.border.constant() * passes.column_sum,
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
