//! Step 4, run: every check first, then the output is cut among threads, then one driver.

#[cfg(feature = "rayon")]
mod cores;
mod executor;
#[cfg(feature = "rayon")]
mod gather;
#[cfg(all(test, loom))]
mod models;
#[cfg(feature = "rayon")]
mod sync;
#[allow(unsafe_code)]
#[cfg(feature = "rayon")]
mod team;
pub(crate) mod threads;

use crate::algo::{Driver, Form, Operands, Packed};
use crate::describe::{ConvDesc, ConvError, Layout, Shape4, TensorOut, TensorRef};
use crate::memory::WorkspaceReq;
use crate::tile::output::OutputRegion;
pub use executor::Executor;
#[cfg(feature = "rayon")]
pub use team::Team;
pub use threads::Threads;

/// The tensors of one run. The borrow checker keeps the output apart from the inputs.
#[derive(Debug)]
pub struct ConvIo<'a> {
    /// Of the descriptor's input shape and layout.
    pub input: TensorRef<'a>,
    /// Of the descriptor's output shape and output layout. Every element is written. A [`TensorMut`](crate::TensorMut)
    /// becomes one by `into()`.
    pub output: TensorOut<'a>,
    /// Of the output's shape and layout, if and only if the epilogue has a residual.
    pub residual: Option<TensorRef<'a>>,
}

impl<'a> ConvIo<'a> {
    /// Input and output, no residual.
    pub fn new(input: TensorRef<'a>, output: impl Into<TensorOut<'a>>) -> Self {
        Self { input, output: output.into(), residual: None }
    }

    /// With a residual, which is added to the sum.
    pub fn residual(mut self, residual: TensorRef<'a>) -> Self {
        self.residual = Some(residual);
        self
    }
}

/// A convolution that is packed and sized: what a plan wraps.
pub(crate) struct PreparedConv {
    pub(crate) desc: ConvDesc,
    pub(crate) form: Form,
    pub(crate) packed: Packed,
    pub(crate) driver: Driver,
    pub(crate) req: WorkspaceReq,
    /// Threads that the work is worth, at most those that the workspace is sized for.
    pub(crate) parts: usize,
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
        check("input", (desc.input(), desc.layout()), (input.shape(), input.layout()))?;
        check("output", (desc.output(), layout), (output.shape(), output.layout()))?;
        let planned = desc.epilogue().residual;
        if planned != residual.is_some() {
            return Err(ConvError::EpilogueMismatch { what: "residual", planned });
        }
        if let Some(residual) = &residual {
            check("residual", (desc.output(), layout), (residual.shape(), residual.layout()))?;
        }
        let (expected, got) = (self.req.len(), scratch.len());
        if got < expected {
            return Err(ConvError::WorkspaceTooSmall { expected, got });
        }

        let views = [input.view(), output.view(), residual.map_or(output.view(), |r| r.view())];
        let merge = self.driver.merges(&views);
        let operands = Operands {
            input: input.pixels().merged_if(merge),
            residual: residual.map(|residual| residual.pixels().merged_if(merge)),
        };
        let region = OutputRegion::new(output, merge);
        let split = threads::Split {
            parts: threads.count().min(self.parts),
            split_units: self.driver.split_units(),
            slab_len: self.req.per_thread_len,
        };
        let slabs = &mut scratch[..expected];
        split.run(threads, region, slabs, &|region, slab| self.driver.run(&operands, region, slab));
        Ok(())
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
