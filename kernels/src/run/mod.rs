//! Step 4, run: checks all arguments, splits the output among threads, and calls one driver on each part.

pub(crate) mod copies;
#[cfg(feature = "rayon")]
mod cores;
pub(crate) mod elementwise;
mod executor;
#[cfg(feature = "rayon")]
mod gather;
#[cfg(not(all(test, loom)))]
mod helpers;
#[cfg(all(test, loom))]
mod models;
mod rows;
#[cfg(feature = "ops")]
pub(crate) mod slopes;
mod sync;
#[allow(unsafe_code)]
mod team;
pub(crate) mod threads;
pub(crate) mod weights;

use crate::algo::{Driver, Form, Operands, Residual};
use crate::describe::{ConvDesc, ConvError, Layout, Shape4, TensorOut, TensorRef};
use crate::memory::WorkspaceReq;
use crate::simd::fence;
use crate::tile::output::OutputRegion;
pub use executor::Executor;
#[cfg(not(all(test, loom)))]
pub use helpers::Helpers;
#[cfg(feature = "rayon")]
pub use team::Team;
pub use threads::Threads;
pub use weights::BackwardWeightsIo;

/// The tensors of one run. The output never overlaps the inputs, because it is borrowed mutably.
#[derive(Debug)]
pub struct ConvIo<'a> {
    /// The input, in the descriptor's input shape and layout.
    pub input: TensorRef<'a>,
    /// The output, in the descriptor's output shape and layout. A run writes every element. A
    /// [`TensorMut`](crate::TensorMut) converts by `into()`. An output of 8 MiB or more is written faster if it begins at a
    /// cache line, as a [`Buffer`](crate::Buffer) does.
    pub output: TensorOut<'a>,
    /// The residual, in the output's shape and layout, if and only if the epilogue has one. With bf16 products, one of
    /// output and residual can be in [`Layout::Nchw16c`] and the other in [`Layout::Nchw32cBf16`].
    pub residual: Option<TensorRef<'a>>,
}

impl<'a> ConvIo<'a> {
    /// An input and an output, without a residual.
    pub fn new(input: TensorRef<'a>, output: impl Into<TensorOut<'a>>) -> Self {
        Self { input, output: output.into(), residual: None }
    }

    /// Adds a residual, which the run adds to the sum.
    pub fn residual(mut self, residual: TensorRef<'a>) -> Self {
        self.residual = Some(residual);
        self
    }
}

/// A convolution with packed weights and a sized workspace. A plan wraps it.
pub(crate) struct PreparedConv {
    pub(crate) desc: ConvDesc,
    /// Whether the driver computes all images as the pixels of one image.
    pub(crate) merged: bool,
    pub(crate) form: Form,
    pub(crate) driver: Driver,
    pub(crate) req: WorkspaceReq,
    /// Number of threads that the amount of work justifies, at most as many as the workspace is sized for.
    pub(crate) parts: usize,
    /// Whether the output is written past the caches, because it does not stay in them.
    pub(crate) streams: bool,
    /// Room for the taps that are left of a filter, from the first time that weights are packed again.
    pub(crate) cut_room: Vec<f32>,
}

impl PreparedConv {
    /// See [`ConvPlan::run`](crate::ConvPlan::run).
    pub(crate) fn run(
        &self,
        io: ConvIo<'_>,
        scratch: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let ConvIo { input, output, residual } = io;
        let desc = &self.desc;
        let layout = desc.output_layout();
        let planned = desc.epilogue().residual;
        if planned != residual.is_some() {
            return Err(ConvError::EpilogueMismatch { what: "residual", planned });
        }
        if let Some(residual) = &residual {
            let other = self.driver.other_residuals().filter(|&other| other == residual.layout());
            let layout = other.unwrap_or(layout);
            check("residual", (desc.output(), layout), (residual.shape(), residual.layout()))?;
        }
        let residual = residual.map_or(Residual::None, |residual| Residual::Tensor(residual.pixels()));
        self.compute(input, output, residual, scratch, threads)
    }

    /// Adds the convolution to `output`, as its residual. The driver must [add in place](Driver::adds_in_place).
    pub(crate) fn add_to(
        &self,
        input: TensorRef<'_>,
        output: TensorOut<'_>,
        scratch: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        debug_assert!(self.desc.epilogue().residual && self.driver.adds_in_place());
        self.compute(input, output, Residual::Output, scratch, threads)
    }

    fn compute(
        &self,
        input: TensorRef<'_>,
        output: TensorOut<'_>,
        residual: Residual<'_>,
        scratch: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let desc = &self.desc;
        check("input", (desc.input(), desc.layout()), (input.shape(), input.layout()))?;
        check("output", (desc.output(), desc.output_layout()), (output.shape(), output.layout()))?;
        self.req.check(scratch)?;

        let views = [input.view(), output.view(), residual.view().unwrap_or(output.view())];
        let merge = self.merged || self.driver.merges(&views);
        let operands =
            Operands { input: input.pixels().merged_if(merge), residual: residual.merged_if(merge) };
        let region = OutputRegion::new(output, merge).streamed(self.streams);
        let split = threads::Split {
            parts: threads.count().min(self.parts),
            split_units: self.driver.split_units(),
            slab_len: self.req.per_thread_len,
        };
        let slabs = &mut scratch[..self.req.len()];
        split.run(threads, region, slabs, &|mut region, slab| {
            let _fence = region.is_streamed().then_some(Fence);
            self.driver.run(&operands, &mut region, slab);
        });
        Ok(())
    }
}

/// What was streamed before this is dropped can be read afterwards, by any thread.
struct Fence;

impl Drop for Fence {
    fn drop(&mut self) {
        fence();
    }
}

pub(crate) fn check(
    what: &'static str,
    planned: (Shape4, Layout),
    given: (Shape4, Layout),
) -> Result<(), ConvError> {
    if planned.0 != given.0 {
        return Err(ConvError::ShapeMismatch { what, expected: planned.0, got: given.0 });
    }
    if planned.1 != given.1 {
        return Err(ConvError::LayoutMismatch { what, expected: planned.1, got: given.1 });
    }
    Ok(())
}
