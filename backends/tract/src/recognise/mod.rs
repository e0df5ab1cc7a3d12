//! Which nodes of tract's model are convolutions that the library can take.

mod conv;
mod deconv;
mod einsum;

pub(crate) use conv::view_of;

use crate::view::{OutDim, View};
use crate::window::Window;
use kernels::{FilterShape, Size2};
use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, Deconv};
use tract_core::ops::downsample::Downsample;
use tract_core::ops::einsum::EinSum;

/// A convolution, a transposed convolution or a product, before anything is fused into it.
#[derive(Debug)]
pub(crate) struct Found {
    /// What it reads.
    pub(crate) input: OutletId,
    /// The nodes that it replaces. The last one makes its output.
    pub(crate) nodes: Vec<usize>,
    pub(crate) window: Window,
    pub(crate) shape: FilterShape,
    /// In OIHW order.
    pub(crate) weights: Vec<f32>,
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) input_view: View,
    pub(crate) output_view: View,
    /// The axes of the output.
    pub(crate) dims: TVec<OutDim>,
}

impl Found {
    /// Number of output channels.
    pub(crate) fn channels(&self) -> usize {
        self.shape.out_channels
    }

    /// Whether the output in blocks of channels has the images, rows and columns that its axes say.
    pub(crate) fn output_can_block(&self) -> bool {
        let (input, output) = (self.input_view, self.output_view);
        let expected = OutDim::of_view(output, self.channels());
        // An extent of 1 is right where the input has no such axis.
        let unit = |expected: &OutDim| match expected {
            OutDim::Images => input.lead == 0,
            OutDim::Rows => input.spatial < 2,
            _ => false,
        };
        let same = |(dim, expected): (&OutDim, &OutDim)| {
            dim == expected || (*dim == OutDim::Fixed(1) && unit(expected))
        };
        input.can_block() && output.can_block() && self.dims.iter().zip(&expected).all(same)
    }
}

/// Whether a node is one of those that [`recognise`] looks at.
pub(crate) fn is_convolution(node: &TypedNode) -> bool {
    node.op_is::<Conv>() || node.op_is::<Deconv>() || node.op_is::<EinSum>()
}

/// What a node is: `None` if it is no convolution, or the reason why the library cannot take it.
pub(crate) fn recognise(model: &TypedModel, node: &TypedNode) -> Option<Result<Found, String>> {
    let found = if let Some(op) = node.op_as::<Conv>() {
        conv::recognise(model, node, op)
    } else if let Some(op) = node.op_as::<Deconv>() {
        deconv::recognise(model, node, op)
    } else {
        let op = node.op_as::<EinSum>()?;
        einsum::recognise(model, node, op).map(|found| with_stride(model, found))
    };
    Some(found.and_then(check_weights))
}

/// An error for weights of an extent that the library refuses, such as zero.
fn check_weights(found: Found) -> Result<Found, String> {
    let expected = found.shape.elements().map_err(|error| error.to_string())?;
    if found.weights.len() != expected {
        return Err(format!("{} weights, where {expected} are expected", found.weights.len()));
    }
    Ok(found)
}

/// Turns `Downsample` nodes before a 1x1 convolution into its stride. tract's declutter does the reverse.
fn with_stride(model: &TypedModel, mut found: Found) -> Found {
    if !found.input_view.can_block() || found.input_view.spatial != 2 {
        return found;
    }
    let mut stride = Size2::square(1);
    while let Some((node, op)) = only_read_by(model, found.input, &found.nodes) {
        let axis = op.axis.wrapping_sub(found.input_view.spatial_axis());
        let extent = match axis {
            0 => &mut stride.h,
            1 => &mut stride.w,
            _ => break,
        };
        let (true, Ok(step)) = (op.modulo == 0 && *extent == 1, usize::try_from(op.stride)) else { break };
        *extent = step.max(1);
        found.input = node.inputs[0];
        found.nodes.insert(0, node.id);
    }
    found.window = found.window.with_stride(stride);
    found
}

/// The `Downsample` that makes `outlet`, if only these nodes read it.
fn only_read_by<'m>(
    model: &'m TypedModel,
    outlet: OutletId,
    nodes: &[usize],
) -> Option<(&'m TypedNode, &'m Downsample)> {
    let node = model.node(outlet.node);
    let readers = model.outlet_successors(outlet);
    let private =
        readers.iter().all(|reader| nodes.contains(&reader.node)) && !model.outputs.contains(&outlet);
    private.then(|| Some((node, node.op_as::<Downsample>()?))).flatten()
}

/// The elements of a constant of `f32`, with its shape.
fn constant(model: &TypedModel, outlet: OutletId, what: &str) -> Result<Arc<Tensor>, String> {
    let fact = model.outlet_fact(outlet).map_err(|error| error.to_string())?;
    let Some(tensor) = fact.konst.clone() else {
        return Err(format!("{what} are not constant"));
    };
    if tensor.datum_type() != f32::datum_type() || tensor.as_plain_ram().is_none() {
        return Err(format!("{what} are {:?}, where f32 is supported", tensor.datum_type()));
    }
    Ok(tensor)
}

/// The elements of a plain tensor of `f32`.
fn elements(tensor: &Tensor) -> Result<&[f32], String> {
    tensor.try_as_plain_ram().and_then(|plain| plain.as_slice::<f32>()).map_err(|error| error.to_string())
}

/// An error unless the input is `f32`.
fn check_input(model: &TypedModel, outlet: OutletId) -> Result<&TypedFact, String> {
    let fact = model.outlet_fact(outlet).map_err(|error| error.to_string())?;
    if fact.datum_type != f32::datum_type() || fact.is_exotic() {
        return Err(format!("the input is {:?}, where f32 is supported", fact.datum_type));
    }
    Ok(fact)
}

/// One value per output channel, from a bias of one or of all.
fn bias(model: &TypedModel, outlet: OutletId, channels: usize) -> Result<Option<Vec<f32>>, String> {
    let tensor = constant(model, outlet, "the biases")?;
    let values = elements(&tensor)?;
    match values {
        _ if values.iter().all(|value| *value == 0.0) => Ok(None),
        [value] => Ok(Some(vec![*value; channels])),
        _ if values.len() == channels => Ok(Some(values.to_vec())),
        _ => Err(format!("{} biases for {channels} channels", values.len())),
    }
}
