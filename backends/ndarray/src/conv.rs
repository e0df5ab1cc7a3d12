//! [`Conv2d`]: convolutions of batches with many channels, as in neural networks.

use crate::error::{Error, check_filled, check_shape};
use crate::memory::{Pool, Recent, Room, Scratch, copied, plan, workspace_for, zeros};
use crate::threads::Threads;
use kernels::{
    Activation, ConvDesc, ConvError, ConvIo, ConvPlan, EpilogueSpec, Filter, FilterShape, Layout, Pad2,
    Shape4, Size2, TensorMut, TensorRef, Weights, Workspace,
};
use ndarray::{Array4, ArrayView1, ArrayView3, ArrayView4, ArrayViewMut4, Axis};
use std::fmt;
use std::sync::Arc;

/// The parameters of a convolution. The defaults are stride 1, no padding, one group and no activation.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ConvOptions<'a> {
    /// Input elements between neighbouring outputs.
    pub stride: Size2,
    /// Zeros around the input.
    pub padding: Pad2,
    /// Input elements between neighbouring kernel taps.
    pub dilation: Size2,
    /// Number of groups, a divisor of the input and output channels.
    pub groups: usize,
    /// One number per output channel that is added to the sum.
    pub bias: Option<ArrayView1<'a, f32>>,
    /// The function that is applied to the sum.
    pub activation: Activation,
    /// One slope per output channel, if and only if the activation is [`Activation::PRelu`].
    pub slopes: Option<ArrayView1<'a, f32>>,
    /// Who computes.
    pub threads: Threads,
}

impl Default for ConvOptions<'_> {
    fn default() -> Self {
        Self {
            stride: Size2::square(1),
            padding: Pad2::VALID,
            dilation: Size2::square(1),
            groups: 1,
            bias: None,
            activation: Activation::None,
            slopes: None,
            threads: Threads::Seq,
        }
    }
}

impl<'a> ConvOptions<'a> {
    /// Sets the input elements between neighbouring outputs.
    pub const fn stride(mut self, stride: Size2) -> Self {
        self.stride = stride;
        self
    }

    /// Sets the zeros around the input. They can differ on the four sides.
    pub const fn padding(mut self, padding: Pad2) -> Self {
        self.padding = padding;
        self
    }

    /// Sets the input elements between neighbouring kernel taps.
    pub const fn dilation(mut self, dilation: Size2) -> Self {
        self.dilation = dilation;
        self
    }

    /// Sets the number of groups.
    pub const fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Adds a bias: one number per output channel.
    pub const fn bias(mut self, bias: ArrayView1<'a, f32>) -> Self {
        self.bias = Some(bias);
        self
    }

    /// Sets the function that is applied to the sum.
    pub const fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Sets the slopes of [`Activation::PRelu`]: one number per output channel.
    pub const fn slopes(mut self, slopes: ArrayView1<'a, f32>) -> Self {
        self.slopes = Some(slopes);
        self
    }

    /// Sets who computes.
    pub const fn threads(mut self, threads: Threads) -> Self {
        self.threads = threads;
        self
    }
}

/// A convolution with packed weights, for inputs of any batch and image size.
///
/// Arrays have the axes images, channels, height and width, in any memory order. An image is read and written
/// in place if its memory is NCHW or NHWC without gaps, and copied otherwise. The images of a batch can be
/// anywhere: apart, in reverse order, or all the same.
///
/// ```
/// use convkernels_ndarray::{Activation, Conv2d, ConvOptions, Pad2};
/// use ndarray::{Array1, Array4};
/// # fn main() -> Result<(), convkernels_ndarray::Error> {
/// let (weights, bias) = (Array4::from_elem((16, 3, 3, 3), 0.1), Array1::from_elem(16, 0.5));
/// let options = ConvOptions::default().padding(Pad2::all(1)).bias(bias.view()).activation(Activation::Relu);
/// let conv = Conv2d::new(weights.view(), &options)?;
/// for (batch, side) in [(1, 32), (4, 32), (2, 50)] {
///     let output = conv.run(Array4::from_elem((batch, 3, side, side), 1.0).view())?;
///     assert_eq!(output.dim(), (batch, 16, side, side));
/// }
/// # Ok(())
/// # }
/// ```
pub struct Conv2d<'a> {
    filter: Filter<'a>,
    stride: Size2,
    padding: Pad2,
    dilation: Size2,
    epilogue: EpilogueSpec,
    threads: Threads,
    plans: Recent<(Shape4, Layout, usize), Arc<ConvPlan>>,
    pool: Pool,
}

impl fmt::Debug for Conv2d<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conv2d")
            .field("filter", &self.filter)
            .field("stride", &self.stride)
            .field("padding", &self.padding)
            .field("dilation", &self.dilation)
            .field("epilogue", &self.epilogue)
            .finish_non_exhaustive()
    }
}

impl<'a> Conv2d<'a> {
    /// Prepares weights with the axes output channels, input channels per group, height and width. Weights in
    /// standard memory order are borrowed.
    ///
    /// # Errors
    /// - [`Error::Empty`] if the weights have no elements.
    /// - [`Error::Shape`] if there is not one bias or slope per output channel.
    /// - [`Error::Conv`] if the groups do not divide the output channels, if slopes are missing or not needed,
    ///   or if the system refuses memory.
    pub fn new<'o: 'a>(weights: ArrayView4<'a, f32>, options: &ConvOptions<'o>) -> Result<Self, Error> {
        let (out_channels, in_channels, h, w) = weights.dim();
        check_filled("weights", weights.shape())?;
        for (what, values) in [("bias", options.bias), ("slopes", options.slopes)] {
            if let Some(values) = values {
                check_shape(what, &[out_channels], values.shape())?;
            }
        }
        let planned = options.activation == Activation::PRelu;
        if planned != options.slopes.is_some() {
            return Err(ConvError::EpilogueMismatch { what: "PReLU slopes", planned }.into());
        }
        let shape = FilterShape::new(out_channels, in_channels, Size2::new(h, w)).groups(options.groups);
        // The plans of a size must not depend on the sizes before it.
        let [bias, slopes] = [options.bias, options.slopes].map(|values| values.map(ArrayView1::reborrow));
        let filter = filter(shape, weights, bias, slopes)?.reuse_within(1.0);
        let epilogue =
            EpilogueSpec { bias: options.bias.is_some(), residual: false, activation: options.activation };
        let conv = Self {
            filter,
            stride: options.stride,
            padding: options.padding,
            dilation: options.dilation,
            epilogue,
            threads: options.threads,
            plans: Recent::default(),
            pool: Pool::default(),
        };
        // The smallest image that the kernel fits. With dilation it may leave no output.
        match conv.desc(Shape4::new(1, shape.input_channels(), h, w), Layout::Nchw) {
            Ok(_) | Err(ConvError::EmptyOutput { .. }) => Ok(conv),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the same convolution with a copy of its weights, so that it borrows nothing.
    ///
    /// # Errors
    /// [`Error::Conv`] if the system refuses the copy.
    pub fn into_owned(self) -> Result<Conv2d<'static>, Error> {
        let Self { filter, stride, padding, dilation, epilogue, threads, plans, pool } = self;
        Ok(Conv2d { filter: filter.into_owned()?, stride, padding, dilation, epilogue, threads, plans, pool })
    }

    /// The shape of the output for an input of this shape.
    ///
    /// # Errors
    /// - [`Error::Empty`] if the input has no elements.
    /// - [`Error::Shape`] if it does not have the channels of the weights.
    /// - [`Error::Conv`] if there is no output, or if a size overflows.
    pub fn output_dim(
        &self,
        input: (usize, usize, usize, usize),
    ) -> Result<(usize, usize, usize, usize), Error> {
        let Shape4 { n, c, h, w } = self.desc(self.check(input)?, Layout::Nchw)?.output();
        Ok((n, c, h, w))
    }

    /// Convolves `input`. The output has the memory order of the input: NHWC if the input's images are NHWC,
    /// else NCHW.
    ///
    /// # Errors
    /// The errors of [`output_dim`](Self::output_dim), and [`Error::Conv`] if the system refuses memory.
    pub fn run(&self, input: ArrayView4<'_, f32>) -> Result<Array4<f32>, Error> {
        let (n, c, h, w) = self.output_dim(input.dim())?;
        let values = zeros(Shape4::new(n, c, h, w))?;
        let mut output = match layout_of(input) {
            Some(Layout::Nhwc) => {
                Array4::from_shape_vec((n, h, w, c), values).map(|a| a.permuted_axes([0, 3, 1, 2]))
            }
            _ => Array4::from_shape_vec((n, c, h, w), values),
        }
        .expect("as many elements as the shape has");
        self.run_into(input, output.view_mut())?;
        Ok(output)
    }

    /// Convolves `input` and writes to the caller's memory.
    ///
    /// # Errors
    /// The errors of [`run`](Self::run), and [`Error::Shape`] if `output` does not have the shape of
    /// [`output_dim`](Self::output_dim).
    pub fn run_into(&self, input: ArrayView4<'_, f32>, output: ArrayViewMut4<'_, f32>) -> Result<(), Error> {
        let (n, c, h, w) = self.output_dim(input.dim())?;
        check_shape("output", &[n, c, h, w], output.shape())?;
        let Scratch { workspace, block, output: room, .. } = &mut *self.pool.lease();
        if let Some(layout) = layout_of(input) {
            return self.run_layout(layout, input, output, (workspace, room));
        }
        let (n, c, h, w) = input.dim();
        let block = block.of(Shape4::new(n, c, h, w).len(Layout::Nchw)?)?;
        let mut copy = ArrayViewMut4::from_shape(input.raw_dim(), block).expect("as many elements");
        copy.assign(&input);
        self.run_layout(Layout::Nchw, copy.view(), output, (workspace, room))
    }

    /// Convolves an input each of whose images has this layout, without gaps.
    fn run_layout(
        &self,
        layout: Layout,
        input: ArrayView4<'_, f32>,
        output: ArrayViewMut4<'_, f32>,
        (workspace, room): (&mut Option<Workspace>, &mut Room),
    ) -> Result<(), Error> {
        let (n, c, h, w) = input.dim();
        let (input, mut output) = (input.permuted_axes(axes(layout)), output.permuted_axes(axes(layout)));
        if let (Some(input), Some(output)) = (input.as_slice(), output.as_slice_mut()) {
            let plan = self.plan(Shape4::new(n, c, h, w), layout)?;
            return self.run_plan(&plan, input, output, workspace);
        }
        let plan = self.plan(Shape4::new(1, c, h, w), layout)?;
        for (input, mut output) in input.outer_iter().zip(output.outer_iter_mut()) {
            let input = input.as_slice().expect("images without gaps");
            if let Some(output) = output.as_slice_mut() {
                self.run_plan(&plan, input, output, workspace)?;
                continue;
            }
            let room = room.of(plan.desc().output().len(layout)?)?;
            self.run_plan(&plan, input, room, workspace)?;
            let shape = output.raw_dim();
            output.assign(&ArrayView3::from_shape(shape, room).expect("as many elements"));
        }
        Ok(())
    }

    fn run_plan(
        &self,
        plan: &ConvPlan,
        input: &[f32],
        output: &mut [f32],
        workspace: &mut Option<Workspace>,
    ) -> Result<(), Error> {
        let layout = plan.desc().layout();
        let input = TensorRef::packed(input, plan.desc().input(), layout)?;
        let output = TensorMut::packed(output, plan.desc().output(), layout)?;
        let workspace = workspace_for(workspace, plan)?;
        Ok(plan.run(ConvIo::new(input, output), workspace, self.threads.of_library())?)
    }

    fn plan(&self, input: Shape4, layout: Layout) -> Result<Arc<ConvPlan>, Error> {
        let threads = self.threads.count();
        self.plans.get((input, layout, threads), || {
            Ok(Arc::new(plan(&self.filter, &self.desc(input, layout)?, threads)?))
        })
    }

    fn desc(&self, input: Shape4, layout: Layout) -> Result<ConvDesc, ConvError> {
        let shape = self.filter.shape();
        ConvDesc::builder(input, shape.out_channels, shape.kernel)
            .stride(self.stride)
            .pad(self.padding)
            .dilation(self.dilation)
            .groups(shape.groups)
            .layout(layout)
            .epilogue(self.epilogue)
            .build()
    }

    /// Checks the shape of an input.
    fn check(&self, (n, c, h, w): (usize, usize, usize, usize)) -> Result<Shape4, Error> {
        check_filled("input", &[n, c, h, w])?;
        let channels = self.filter.shape().input_channels();
        if c != channels {
            let expected =
                format!("{channels} channels on the second axis, as the weights have in all groups");
            return Err(Error::Shape { what: "input", expected, got: vec![n, c, h, w] });
        }
        Ok(Shape4::new(n, c, h, w))
    }
}

/// The axes of an array of images, channels, rows and columns, in the order of the layout.
pub(crate) fn axes(layout: Layout) -> [usize; 4] {
    match layout {
        Layout::Nhwc => [0, 2, 3, 1],
        _ => [0, 1, 2, 3],
    }
}

/// The layout of each image of a batch; `None` if the images are in another order or have gaps.
fn layout_of(batch: ArrayView4<'_, f32>) -> Option<Layout> {
    [Layout::Nchw, Layout::Nhwc].into_iter().find(|&layout| {
        let image = batch.permuted_axes(axes(layout)).index_axis_move(Axis(0), 0);
        image.is_standard_layout()
    })
}

/// The weights as the library takes them: borrowed if they are in standard order.
fn filter<'a>(
    shape: FilterShape,
    weights: ArrayView4<'a, f32>,
    bias: Option<ArrayView1<'a, f32>>,
    slopes: Option<ArrayView1<'a, f32>>,
) -> Result<Filter<'a>, ConvError> {
    let in_order = |values: Option<ArrayView1<'a, f32>>| values.is_none_or(|v| v.is_standard_layout());
    match weights.to_slice() {
        Some(filter) if in_order(bias) && in_order(slopes) => {
            let slice = |values: Option<ArrayView1<'a, f32>>| values.and_then(|values| values.to_slice());
            Filter::new(shape, Weights { filter, bias: slice(bias), slope: slice(slopes) })
        }
        _ => {
            let vec = |what, values: Option<ArrayView1<'a, f32>>| values.map(|v| copied(what, v)).transpose();
            let (bias, slopes) = (vec("bias", bias)?, vec("slopes", slopes)?);
            Filter::from_vecs(shape, copied("weights", weights)?, bias, slopes)
        }
    }
}

/// Convolves once. Keep a [`Conv2d`] for a convolution that runs more than once: each call of this function
/// packs the weights.
///
/// `input` has the axes images, channels, height and width. `weights` has the axes output channels, input
/// channels per group, height and width. The output has the memory order of the input, as in [`Conv2d::run`].
///
/// # Errors
/// The errors of [`Conv2d::new`] and [`Conv2d::run`].
pub fn conv2d(
    input: ArrayView4<'_, f32>,
    weights: ArrayView4<'_, f32>,
    options: &ConvOptions<'_>,
) -> Result<Array4<f32>, Error> {
    Conv2d::new(weights.reborrow(), options)?.run(input)
}
