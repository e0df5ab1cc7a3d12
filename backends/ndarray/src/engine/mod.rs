//! The computation behind every filter: one channel, one kernel, any border, outputs at any offset.
//!
//! ```text
//! if the library would compute the whole image by Fourier transforms:
//!     pad the image; one run                                              // whole.rs
//! else for stripe of rows, small enough for the second-level cache:       // stripes.rs
//!     rows that the stripe reads: borrowed if they are adjacent in memory, else copied
//!     column pass, if the kernel is a column times a row
//!     row pass, or the pass of the whole kernel, with zeros left and right
//!     again for the few columns that read another border than zeros
//! ```
//!
//! The channels of a pixel are adjacent in an HWC image. Such an image is computed as one wide image of one
//! channel, with a kernel whose columns are dilated by the number of channels.

mod across;
mod banded;
mod gather;
mod stripes;
mod whole;

use crate::border::Border;
use crate::error::Error;
use crate::memory::{Pool, Recent, copied, workspace_for};
use crate::separable::{self, Factors};
use crate::threads::Threads;
use gather::Region;
use kernels::{
    Algorithm, ConvDesc, ConvError, ConvIo, ConvPlan, Filter, FilterShape, Pad2, PlanOptions, Shape4, Size2,
    TensorMut, TensorRef, Weights, Workspace,
};
use ndarray::{ArrayView2, ArrayView3, ArrayViewMut3, Axis};
use std::sync::Arc;
use stripes::Stripes;
use whole::Whole;

/// Number of products per output from which two passes are faster than one.
const WORTH_TWO_PASSES: usize = 36;

/// A kernel that is ready to be applied to images of any size.
pub(crate) struct Engine {
    passes: Passes,
    kernel: Size2,
    pad: Pad2,
    border: Border,
    threads: Threads,
    schedules: Recent<(Geometry, usize), Arc<Schedule>>,
    pool: Pool,
}

/// The kernel as the library needs it.
enum Passes {
    One(Box<Kernel>),
    Two(Box<ColumnAndRow>),
}

/// A column, and a row that is applied to its result.
struct ColumnAndRow {
    column: Kernel,
    row: Kernel,
    /// The sum of the column's weights.
    column_sum: f32,
}

/// A kernel of one channel.
struct Kernel {
    weights: Vec<f32>,
    filter: Filter<'static>,
}

impl Kernel {
    fn new((h, w): (usize, usize), weights: Vec<f32>) -> Result<Self, ConvError> {
        let shape = FilterShape::new(1, 1, Size2::new(h, w));
        let filter = Filter::new(shape, Weights::filter(&weights))?.into_owned()?;
        // The plans of a size must not depend on the sizes before it.
        Ok(Self { weights, filter: filter.reuse_within(1.0) })
    }
}

/// What a schedule depends on, besides the kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Geometry {
    /// Extents of the image in pixels.
    image: Size2,
    /// Number of channels that are adjacent in memory.
    lanes: usize,
    /// Number of channels that are computed one after another.
    planes: usize,
}

/// How images of one size are computed.
enum Schedule {
    Whole(Box<Whole>),
    Stripes(Box<Stripes>),
}

impl Engine {
    /// Prepares the correlation with `kernel`, which must have elements. `pad` is the number of rows and
    /// columns that the outputs read outside of the image.
    pub(crate) fn new(
        kernel: ArrayView2<'_, f32>,
        pad: Pad2,
        (border, threads, separable): (Border, Threads, bool),
    ) -> Result<Self, Error> {
        let (h, w) = kernel.dim();
        let worth = separable && h > 1 && w > 1 && h * w >= WORTH_TWO_PASSES;
        let weights = copied("kernel", kernel)?;
        let passes = match if worth { separable::factors(kernel)? } else { None } {
            Some(Factors { column, row }) => {
                let column_sum = column.iter().map(|&w| f64::from(w)).sum::<f64>() as f32;
                let (column, row) = (Kernel::new((h, 1), column)?, Kernel::new((1, w), row)?);
                Passes::Two(Box::new(ColumnAndRow { column, row, column_sum }))
            }
            None => Passes::One(Box::new(Kernel::new((h, w), weights)?)),
        };
        let kernel = Size2::new(h, w);
        Ok(Self { passes, kernel, pad, border, threads, schedules: Recent::default(), pool: Pool::default() })
    }

    /// Whether the kernel runs as a column and a row.
    pub(crate) fn is_separable(&self) -> bool {
        matches!(self.passes, Passes::Two(_))
    }

    /// Extents of the output for an image of `image` pixels; an error if there is no output.
    pub(crate) fn output(&self, image: Size2) -> Result<Size2, ConvError> {
        Ok(self.desc(Shape4::new(1, 1, image.h, image.w))?.output().size())
    }

    /// The convolution of planes by the whole kernel, with the padding.
    fn desc(&self, input: Shape4) -> Result<ConvDesc, ConvError> {
        ConvDesc::builder(input, 1, self.kernel).pad(self.pad).build()
    }

    /// Applies the kernel to each channel of `image`, an array of rows, columns and channels. `output` has
    /// the extents of [`output`](Self::output) and as many channels.
    pub(crate) fn run(
        &self,
        image: ArrayView3<'_, f32>,
        mut output: ArrayViewMut3<'_, f32>,
    ) -> Result<(), Error> {
        let (h, w, channels) = image.dim();
        let interleaved = channels > 1 && image.strides()[2].abs() < image.strides()[1].abs();
        let (lanes, planes) = if interleaved { (channels, 1) } else { (1, channels) };
        let geometry = Geometry { image: Size2::new(h, w), lanes, planes };
        let threads = self.threads_for(geometry)?;
        let schedule =
            self.schedules.get((geometry, threads), || self.schedule(geometry, threads).map(Arc::new))?;
        match &*schedule {
            Schedule::Whole(whole) => whole.run(self, image, output),
            Schedule::Stripes(stripes) if interleaved => stripes.run(self, image, output),
            Schedule::Stripes(stripes) => {
                let planes = image.axis_chunks_iter(Axis(2), 1).zip(output.axis_chunks_iter_mut(Axis(2), 1));
                planes.into_iter().try_for_each(|(image, output)| stripes.run(self, image, output))
            }
        }
    }

    /// Number of threads that the work justifies.
    fn threads_for(&self, Geometry { image, lanes, planes }: Geometry) -> Result<usize, ConvError> {
        /// Waking a thread takes about as long.
        const MACS_PER_THREAD: u64 = 100_000;
        let macs = self.desc(Shape4::new(1, 1, image.h, image.w))?.cost().macs;
        let macs = macs.saturating_mul((lanes * planes) as u64);
        Ok(if macs < 2 * MACS_PER_THREAD { 1 } else { self.threads.count() })
    }

    fn schedule(&self, geometry: Geometry, threads: usize) -> Result<Schedule, Error> {
        let Geometry { image, lanes, planes } = geometry;
        let as_planes = self.desc(Shape4::new(lanes * planes, 1, image.h, image.w))?;
        let thin = self.kernel.h == 1 || self.kernel.w == 1;
        if let Passes::One(kernel) = &self.passes
            && !thin
        {
            let method = ConvPlan::choice(&as_planes, &PlanOptions::default())?.method;
            if method == Algorithm::Fft {
                let whole = Whole::new(self, &kernel.filter, &as_planes, threads)?;
                return Ok(Schedule::Whole(Box::new(whole)));
            }
        }
        Ok(Schedule::Stripes(Box::new(Stripes::new(self, geometry, threads)?)))
    }

    /// The rows and columns of the image that a copy consists of, and the values outside of it.
    fn region(&self, top: isize, left: isize) -> Region {
        Region { top, left, border: self.border, constant: self.border.constant() }
    }
}

/// Runs a plan on packed tensors of its layout.
fn run_plan(
    plan: &ConvPlan,
    input: &[f32],
    output: &mut [f32],
    (workspace, threads): (&mut Option<Workspace>, kernels::Threads<'_>),
) -> Result<(), ConvError> {
    let layout = plan.desc().layout();
    let input = TensorRef::packed(input, plan.desc().input(), layout)?;
    let output = TensorMut::packed(output, plan.desc().output(), layout)?;
    plan.run(ConvIo::new(input, output), workspace_for(workspace, plan)?, threads)
}
