//! tract's `EinSum` with constant weights: 1x1 convolutions, which declutter writes this way, and fully connected
//! layers.

use super::{Found, check_input, constant, elements};
use crate::view::{OutDim, View};
use crate::window::Window;
use kernels::{FilterShape, Size2};
use tract_core::internal::*;
use tract_core::ops::einsum::EinSum;

/// The part of an axis in a product `input x weights -> output`.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// In the input and the weights, summed over.
    Sum,
    /// In the weights and the output.
    New,
    /// In the input, and perhaps in the output.
    Kept,
    /// Only in the output, where its extent is 1.
    Unit,
}

pub(super) fn recognise(model: &TypedModel, node: &TypedNode, op: &EinSum) -> Result<Found, String> {
    if op.q_params.is_some() {
        return Err("quantised".into());
    }
    if op.operating_dt != f32::datum_type() || node.inputs.len() != 2 {
        return Err(format!("a product of {} tensors in {:?}", node.inputs.len(), op.operating_dt));
    }
    let is_constant =
        |slot: usize| model.outlet_fact(node.inputs[slot]).is_ok_and(|fact| fact.konst.is_some());
    let slot = match (is_constant(0), is_constant(1)) {
        (false, true) => 1,
        (true, false) => 0,
        _ => return Err("the weights are not constant".into()),
    };
    let input = check_input(model, node.inputs[1 - slot])?;
    let weights = constant(model, node.inputs[slot], "the weights")?;
    let output = &node.outputs[0].fact.shape;
    let product = Product { op, slot, input: &input.shape, weights: &weights, output };
    product.check_sums()?;
    product.found(node).ok_or_else(|| "a product with other axes than a 1x1 convolution has".into())
}

struct Product<'a> {
    op: &'a EinSum,
    /// Which input is the weights.
    slot: usize,
    input: &'a ShapeFact,
    weights: &'a Tensor,
    output: &'a ShapeFact,
}

impl Product<'_> {
    /// The only position of an axis in an input or output; `None` if it is not there.
    fn at(axis: &Axis, io: InOut) -> Option<usize> {
        axis.interface(io).first().copied()
    }

    fn part(&self, axis: &Axis) -> Option<Part> {
        let (x, w) = (Self::at(axis, InOut::In(1 - self.slot)), Self::at(axis, InOut::In(self.slot)));
        let y = Self::at(axis, InOut::Out(0));
        // An axis of extent 1 can be left out of the weights, unless it is their inputs or their outputs.
        let w = w.filter(|w| self.weights.shape()[*w] != 1 || x.is_some() != y.is_some());
        match (x, w, y) {
            (Some(_), Some(_), None) => Some(Part::Sum),
            (None, Some(_), Some(_)) => Some(Part::New),
            (Some(_), None, Some(_)) => Some(Part::Kept),
            (Some(x), None, None) => self.input[x].is_one().then_some(Part::Kept),
            (None, None, Some(y)) => self.output[y].is_one().then_some(Part::Unit),
            (None, None, None) => Some(Part::Unit),
            _ => None,
        }
    }

    /// The axes of an input or the output in order, with their parts.
    fn axes(&self, io: InOut) -> Option<Vec<(&Axis, Part)>> {
        let mut axes = vec![None; self.op.axes.rank(io)];
        for axis in self.op.axes.iter_all_axes() {
            let positions = axis.interface(io);
            if positions.len() > 1 {
                return None;
            }
            if let Some(at) = positions.first() {
                axes[*at] = Some((axis, self.part(axis)?));
            }
        }
        axes.into_iter().collect()
    }

    /// An error unless each axis that is summed over has one known extent. tract broadcasts an extent of 1.
    fn check_sums(&self) -> Result<(), String> {
        for axis in self.op.axes.iter_all_axes().filter(|axis| self.part(axis) == Some(Part::Sum)) {
            let (x, w) = (Self::at(axis, InOut::In(1 - self.slot)), Self::at(axis, InOut::In(self.slot)));
            let (x, w) = (x.map(|x| &self.input[x]), w.map(|w| self.weights.shape()[w].to_dim()));
            if x != w.as_ref() {
                let [x, w] = [x, w.as_ref()].map(|extent| extent.map_or(String::new(), TDim::to_string));
                return Err(format!("a product that sums {x} elements of the input and {w} of the weights"));
            }
        }
        Ok(())
    }

    fn found(&self, node: &TypedNode) -> Option<Found> {
        let (x, y) = (self.axes(InOut::In(1 - self.slot))?, self.axes(InOut::Out(0))?);
        let input_view = view(&x, Part::Sum)?;
        let output_view = view(&y, Part::New)?;
        let sums: Vec<&Axis> =
            x.iter().filter(|(_, part)| *part == Part::Sum).map(|(axis, _)| *axis).collect();
        let news: Vec<&Axis> =
            y.iter().filter(|(_, part)| *part == Part::New).map(|(axis, _)| *axis).collect();
        // The axes that are kept must stay in order, on the same side of the channels.
        if self.kept(&x, Part::Sum) != self.kept(&y, Part::New) {
            return None;
        }
        let weights = self.matrix(&news, &sums)?;
        let (ins, outs) = (extent(&weights, news.len()), extent_before(&weights, news.len()));
        Some(Found {
            input: node.inputs[1 - self.slot],
            nodes: vec![node.id],
            window: Window::point(),
            shape: FilterShape::new(outs, ins, Size2::square(1)),
            weights: elements(&weights).ok()?.to_vec(),
            bias: None,
            input_view,
            output_view,
            dims: self.dims(&y, input_view),
        })
    }

    /// The names of the axes before and after the channels that input and output share.
    fn kept(&self, axes: &[(&Axis, Part)], channels: Part) -> [Vec<char>; 2] {
        let mut sides = [vec![], vec![]];
        let mut side = 0;
        for (axis, part) in axes {
            let x = Self::at(axis, InOut::In(1 - self.slot));
            if *part == channels {
                side = 1;
            } else if x.is_some_and(|x| !self.input[x].is_one()) {
                sides[side].push(axis.repr);
            }
        }
        sides
    }

    /// The weights as `[new axes][summed axes]`.
    fn matrix(&self, news: &[&Axis], sums: &[&Axis]) -> Option<Tensor> {
        let io = InOut::In(self.slot);
        let mut order: Vec<usize> = news.iter().chain(sums).filter_map(|axis| Self::at(axis, io)).collect();
        if order.len() != news.len() + sums.len() {
            return None;
        }
        // What is left has the extent 1.
        order.extend((0..self.weights.rank()).filter(|axis| !order.contains(axis)).collect::<Vec<_>>());
        self.weights.clone().permute_axes(&order).ok()
    }

    /// Where the extents of the output come from.
    fn dims(&self, y: &[(&Axis, Part)], input_view: View) -> TVec<OutDim> {
        let dim = |(at, (axis, part)): (usize, &(&Axis, Part))| match part {
            Part::New => OutDim::Fixed(self.output[at].to_usize().unwrap_or(1)),
            Part::Kept => Self::at(axis, InOut::In(1 - self.slot))
                .map_or(OutDim::Fixed(1), |x| OutDim::of_axis(input_view, x, 0)),
            Part::Sum | Part::Unit => OutDim::Fixed(1),
        };
        y.iter().enumerate().map(dim).collect()
    }
}

/// The view of axes whose channels are those of this part. They must be neighbours.
fn view(axes: &[(&Axis, Part)], channels: Part) -> Option<View> {
    let first = axes.iter().position(|(_, part)| *part == channels)?;
    let count = axes[first..].iter().take_while(|(_, part)| *part == channels).count();
    let spatial = axes.len() - first - count;
    if axes[first + count..].iter().any(|(_, part)| *part == channels) {
        return None;
    }
    // With several axes before the channels and none after them, those axes are pixels, not images.
    if spatial == 0 && first > 1 {
        return Some(View { lead: 0, channels: count, spatial: first, channels_last: true });
    }
    Some(View { lead: first, channels: count, spatial, channels_last: false })
}

/// The product of the extents from axis `from` on.
fn extent(tensor: &Tensor, from: usize) -> usize {
    tensor.shape()[from..].iter().product()
}

/// The product of the extents before axis `to`.
fn extent_before(tensor: &Tensor, to: usize) -> usize {
    tensor.shape()[..to].iter().product()
}
