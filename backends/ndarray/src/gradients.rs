//! The gradients of [`conv2d`](crate::conv2d), and transposed convolution.

use crate::conv::{ConvOptions, axes};
use crate::error::{Error, check_filled, check_shape};
use crate::memory::{copied, zeros};
use kernels::{
    Activation, BackwardData, BackwardDataIo, BackwardWeights, BackwardWeightsIo, ConvDesc, ConvError,
    ConvIo, DataSpec, EpilogueSpec, Layout, PlanOptions, Shape4, Size2, TensorMut, TensorRef, TransposedDesc,
    TransposedPlan, Weights, WeightsSpec, Workspace,
};
use ndarray::{Array1, Array4, ArrayView1, ArrayView4};
use std::borrow::Cow;

/// The gradients of the weights and of the bias of a convolution.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WeightGradients {
    /// The gradient of the weights, with their axes.
    pub weights: Array4<f32>,
    /// The gradient of the bias: one number per output channel.
    pub bias: Array1<f32>,
}

/// An array without gaps in a layout of the library.
struct Packed<'a> {
    values: Cow<'a, [f32]>,
    shape: Shape4,
    layout: Layout,
}

impl<'a> Packed<'a> {
    /// Borrows an array that is NCHW or NHWC without gaps. Copies any other to NCHW.
    fn any(what: &'static str, array: ArrayView4<'a, f32>) -> Result<Self, Error> {
        let nhwc = array.permuted_axes(axes(Layout::Nhwc)).is_standard_layout();
        let layout = if nhwc && !array.is_standard_layout() { Layout::Nhwc } else { Layout::Nchw };
        Self::of(what, array, layout)
    }

    /// Borrows an array in `layout`. Copies any other.
    fn of(what: &'static str, array: ArrayView4<'a, f32>, layout: Layout) -> Result<Self, Error> {
        check_filled(what, array.shape())?;
        let (n, c, h, w) = array.dim();
        let array = array.permuted_axes(axes(layout));
        let values = match array.to_slice() {
            Some(values) => Cow::Borrowed(values),
            None => Cow::Owned(copied(what, array)?),
        };
        Ok(Self { values, shape: Shape4::new(n, c, h, w), layout })
    }

    fn tensor(&self) -> Result<TensorRef<'_>, ConvError> {
        TensorRef::packed(&self.values, self.shape, self.layout)
    }
}

/// An array of `shape` whose memory is `values` in `layout`.
fn array(shape: Shape4, layout: Layout, values: Vec<f32>) -> Array4<f32> {
    let Shape4 { n, c, h, w } = shape;
    match layout {
        Layout::Nhwc => Array4::from_shape_vec((n, h, w, c), values).map(|a| a.permuted_axes([0, 3, 1, 2])),
        _ => Array4::from_shape_vec((n, c, h, w), values),
    }
    .expect("as many elements as the shape has")
}

/// The convolution whose gradients are computed.
fn describe(
    input: Shape4,
    weights: (usize, usize, usize, usize),
    layout: Layout,
    options: &ConvOptions<'_>,
) -> Result<ConvDesc, Error> {
    let (out_channels, in_channels, h, w) = weights;
    check_filled("weights", &[out_channels, in_channels, h, w])?;
    if options.groups == 0 || in_channels.checked_mul(options.groups) != Some(input.c) {
        let expected = format!("the {} input channels divided by {} groups", input.c, options.groups);
        let got = vec![out_channels, in_channels, h, w];
        return Err(Error::Shape { what: "weights", expected: expected + " on the second axis", got });
    }
    let desc = ConvDesc::builder(input, out_channels, Size2::new(h, w))
        .stride(options.stride)
        .pad(options.padding)
        .dilation(options.dilation)
        .groups(options.groups)
        .layout(layout);
    if options.activation != Activation::None {
        // The library would need the output of the convolution, too.
        let expected = "none: multiply the gradient of the output by the derivative of the activation first";
        let (expected, got) = (expected.to_string(), options.activation.name().to_string());
        return Err(ConvError::InvalidField { field: "activation", expected, got }.into());
    }
    Ok(desc.build()?)
}

/// Computes the gradient of the input of a convolution, of shape `input`, from the gradient of its output.
///
/// `weights` and `options` are those of the convolution; bias and slopes do not matter. The result has the memory order of
/// `grad_output`, NCHW or NHWC. With [`Threads::Rayon`](crate::Threads::Rayon) the algorithms are chosen for the pool's number
/// of threads, so the last bits can differ from those of one thread.
///
/// ```
/// use convkernels_ndarray::{ConvOptions, conv2d, conv2d_input_gradient};
/// use ndarray::Array4;
/// # fn main() -> Result<(), convkernels_ndarray::Error> {
/// let (input, weights) = (Array4::ones((1, 2, 5, 5)), Array4::from_elem((3, 2, 3, 3), 0.5));
/// let options = ConvOptions::default();
/// let output = conv2d(input.view(), weights.view(), &options)?;
/// // The gradient of the sum of all outputs.
/// let ones = Array4::ones(output.dim());
/// let gradient = conv2d_input_gradient(ones.view(), weights.view(), input.dim(), &options)?;
/// // Nine outputs of three channels read the pixel in the middle. One of each reads a corner.
/// assert_eq!((gradient[(0, 0, 2, 2)], gradient[(0, 0, 0, 0)]), (13.5, 1.5));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// - [`Error::Empty`] if an array has no elements.
/// - [`Error::Shape`] if the shapes do not belong to one convolution.
/// - [`Error::Conv`] if the options do not fit the shapes, if there is an activation (multiply `grad_output` by its derivative
///   first), or if the system refuses memory.
pub fn conv2d_input_gradient(
    grad_output: ArrayView4<'_, f32>,
    weights: ArrayView4<'_, f32>,
    input: (usize, usize, usize, usize),
    options: &ConvOptions<'_>,
) -> Result<Array4<f32>, Error> {
    let gradient = Packed::any("grad_output", grad_output)?;
    let filter = Packed::of("weights", weights, Layout::Nchw)?;
    let (n, c, h, w) = input;
    check_filled("input", &[n, c, h, w])?;
    let desc = describe(Shape4::new(n, c, h, w), weights.dim(), gradient.layout, options)?;
    check_output(&desc, grad_output)?;
    let threads = PlanOptions::default().max_threads(options.threads.count());
    let plan = BackwardData::new(&desc, &filter.values, DataSpec::default(), &threads)?;
    let mut values = zeros(desc.input())?;
    let io =
        BackwardDataIo::new(gradient.tensor()?, TensorMut::packed(&mut values, desc.input(), desc.layout())?);
    plan.run(io, &mut Workspace::for_req(plan.workspace_req())?, options.threads.of_library())?;
    Ok(array(desc.input(), desc.layout(), values))
}

/// Computes the gradients of the weights and of the bias of a convolution, from its input and the gradient of its output.
///
/// `kernel` is the height and width of the weights. `options` are those of the convolution; bias and slopes do not matter. The
/// bits do not depend on the threads.
///
/// ```
/// use convkernels_ndarray::{ConvOptions, Size2, conv2d_weight_gradients};
/// use ndarray::Array4;
/// # fn main() -> Result<(), convkernels_ndarray::Error> {
/// let (input, grad_output) = (Array4::from_elem((2, 3, 6, 6), 0.5), Array4::ones((2, 4, 4, 4)));
/// let options = ConvOptions::default();
/// let gradients = conv2d_weight_gradients(input.view(), grad_output.view(), Size2::square(3), &options)?;
/// assert_eq!(gradients.weights, Array4::from_elem((4, 3, 3, 3), 0.5 * 2.0 * 16.0));
/// assert_eq!(gradients.bias.to_vec(), [2.0 * 16.0; 4]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`conv2d_input_gradient`].
pub fn conv2d_weight_gradients(
    input: ArrayView4<'_, f32>,
    grad_output: ArrayView4<'_, f32>,
    kernel: Size2,
    options: &ConvOptions<'_>,
) -> Result<WeightGradients, Error> {
    let gradient = Packed::any("grad_output", grad_output)?;
    let input = Packed::of("input", input, gradient.layout)?;
    if options.groups == 0 || !input.shape.c.is_multiple_of(options.groups) {
        let expected = format!("a divisor of the {} input channels", input.shape.c);
        let got = options.groups.to_string();
        return Err(ConvError::InvalidField { field: "groups", expected, got }.into());
    }
    let dim = (gradient.shape.c, input.shape.c / options.groups, kernel.h, kernel.w);
    let desc = describe(input.shape, dim, gradient.layout, options)?;
    check_output(&desc, grad_output)?;
    let one = PlanOptions::default();
    // The method for one thread: another would change the bits.
    let method = BackwardWeights::choice(&desc, &one)?.method;
    let plan = BackwardWeights::new(
        &desc,
        &WeightsSpec::default().bias(),
        &one.force(method).max_threads(options.threads.count()),
    )?;
    let mut weights = zeros(Shape4::new(dim.0, dim.1, dim.2, dim.3))?;
    let mut bias = zeros(Shape4::new(1, dim.0, 1, 1))?;
    let io = BackwardWeightsIo::new(input.tensor()?, gradient.tensor()?, &mut weights).bias(&mut bias);
    plan.run(io, &mut Workspace::for_req(plan.workspace_req())?, options.threads.of_library())?;
    let weights = array(Shape4::new(dim.0, dim.1, dim.2, dim.3), Layout::Nchw, weights);
    Ok(WeightGradients { weights, bias: bias.into() })
}

/// Checks that the gradient has the shape of the convolution's output.
fn check_output(desc: &ConvDesc, grad_output: ArrayView4<'_, f32>) -> Result<(), Error> {
    let Shape4 { n, c, h, w } = desc.output();
    check_shape("grad_output", &[n, c, h, w], grad_output.shape())
}

/// Computes a transposed convolution, which up-samples by its stride.
///
/// `input` has the axes images, channels, height and width. `weights` has the axes input channels, output channels per group,
/// height and width. Each extent of the output is
/// `(in - 1) * stride - before - after + dilation * (kernel - 1) + 1 + output_padding`: the padding of `options` is cut from the
/// output, and `output_padding` rows and columns are added at its end. The output has the memory order of the input, NCHW or
/// NHWC. About threads see [`conv2d_input_gradient`].
///
/// ```
/// use convkernels_ndarray::{ConvOptions, Size2, conv_transpose2d};
/// use ndarray::{Array4, array};
/// # fn main() -> Result<(), convkernels_ndarray::Error> {
/// let input = Array4::from_shape_fn((1, 1, 1, 2), |(_, _, _, x)| if x == 0 { 1.0 } else { 10.0 });
/// let weights = array![[[[1.0, 2.0], [3.0, 4.0]]]];
/// let options = ConvOptions::default().stride(Size2::square(2));
/// let output = conv_transpose2d(input.view(), weights.view(), Size2::new(0, 0), &options)?;
/// assert_eq!(output, array![[[[1.0, 2.0, 10.0, 20.0], [3.0, 4.0, 30.0, 40.0]]]]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// - [`Error::Empty`] if an array has no elements.
/// - [`Error::Shape`] if the weights do not have the channels of the input, or if there is not one bias or slope per output
///   channel.
/// - [`Error::Conv`] if the options do not fit the shapes, for output padding that is neither less than the stride nor less
///   than the dilation, and if the system refuses memory.
pub fn conv_transpose2d(
    input: ArrayView4<'_, f32>,
    weights: ArrayView4<'_, f32>,
    output_padding: Size2,
    options: &ConvOptions<'_>,
) -> Result<Array4<f32>, Error> {
    let input = Packed::any("input", input)?;
    let filter = Packed::of("weights", weights, Layout::Nchw)?;
    let (channels, per_group, h, w) = weights.dim();
    if channels != input.shape.c {
        let expected = format!("the {} input channels on the first axis", input.shape.c);
        return Err(Error::Shape { what: "weights", expected, got: weights.shape().to_vec() });
    }
    let too_many = ConvError::SizeOverflow { what: "output channels" };
    let out_channels = per_group.checked_mul(options.groups).ok_or(too_many)?;
    let values = |what, values: Option<ArrayView1<'_, f32>>| -> Result<Option<Vec<f32>>, Error> {
        let Some(values) = values else { return Ok(None) };
        check_shape(what, &[out_channels], values.shape())?;
        Ok(Some(copied(what, values)?))
    };
    let (bias, slopes) = (values("bias", options.bias)?, values("slopes", options.slopes)?);
    let desc = TransposedDesc::builder(input.shape, out_channels, Size2::new(h, w))
        .stride(options.stride)
        .pad(options.padding)
        .output_pad(output_padding)
        .dilation(options.dilation)
        .groups(options.groups)
        .layout(input.layout)
        .epilogue(EpilogueSpec { bias: bias.is_some(), residual: false, activation: options.activation })
        .build()?;
    let weights = Weights { filter: &filter.values, bias: bias.as_deref(), slope: slopes.as_deref() };
    let threads = PlanOptions::default().max_threads(options.threads.count());
    let plan = TransposedPlan::new(&desc, weights, &threads)?;
    let mut values = zeros(desc.output())?;
    let io = ConvIo::new(input.tensor()?, TensorMut::packed(&mut values, desc.output(), desc.layout())?);
    plan.run(io, &mut Workspace::for_req(plan.workspace_req())?, options.threads.of_library())?;
    Ok(array(desc.output(), desc.layout(), values))
}
