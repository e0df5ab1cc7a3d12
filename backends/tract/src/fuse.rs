//! What follows a convolution and can be computed in its epilogue.

use crate::recognise::Found;
use kernels::Activation;
use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Add, Div, Max, Min, Mul, Sub, Tanh};
use tract_core::ops::nn::{HardSwish, LeakyRelu, Sigmoid, Silu};

/// How far the constants of a hard-swish may be from those of its definition, relative to them.
const TOLERANCE: f32 = 1e-5;

/// A convolution with everything that was fused into it.
#[derive(Debug)]
pub(crate) struct Fused {
    pub(crate) found: Found,
    pub(crate) residual: Option<OutletId>,
    pub(crate) activation: Activation,
    /// A scale and a shift per channel after the activation.
    pub(crate) after: Option<(Vec<f32>, Vec<f32>)>,
    /// The output of the last fused node.
    pub(crate) output: OutletId,
}

/// Fuses as many of the following nodes as possible, as long as nothing else reads what is between them.
pub(crate) fn fuse(model: &TypedModel, found: Found, taken: &dyn Fn(usize) -> bool) -> Fused {
    let output = OutletId::new(found.nodes[found.nodes.len() - 1], 0);
    let mut fused = Fused { found, residual: None, activation: Activation::None, after: None, output };
    loop {
        let step = fused.hard_swish(model).or_else(|| fused.next(model, taken));
        match step {
            Some(Step { nodes, output }) => {
                fused.found.nodes.extend(nodes);
                fused.output = output;
            }
            None => return fused,
        }
    }
}

/// Nodes that were fused, and the output that they make.
struct Step {
    nodes: Vec<usize>,
    output: OutletId,
}

impl Step {
    fn of(node: &TypedNode) -> Self {
        Self { nodes: vec![node.id], output: OutletId::new(node.id, 0) }
    }
}

/// The only reader of `outlet`, with the input that it reads it from.
pub(crate) fn only_reader(model: &TypedModel, outlet: OutletId) -> Option<(&TypedNode, usize)> {
    match model.outlet_successors(outlet) {
        [reader] if !model.outputs.contains(&outlet) => Some((model.node(reader.node), reader.slot)),
        _ => None,
    }
}

/// The value of a constant whose elements are all the same.
fn scalar(model: &TypedModel, outlet: OutletId) -> Option<f32> {
    let fact = model.outlet_fact(outlet).ok()?;
    let values = fact.konst.as_ref().filter(|tensor| tensor.datum_type() == f32::datum_type())?;
    let values = values.as_plain_ram()?.as_slice::<f32>().ok()?;
    let (first, rest) = values.split_first()?;
    rest.iter().all(|value| value == first).then_some(*first)
}

/// The scalar constant that `node` combines with its input `slot`, if the output has the shape of that input.
pub(crate) fn scalar_with(model: &TypedModel, node: &TypedNode, slot: usize) -> Option<f32> {
    let value = scalar(model, node.inputs[1 - slot])?;
    let input = model.outlet_fact(node.inputs[slot]).ok()?;
    (input.shape == node.outputs[0].fact.shape).then_some(value)
}

/// The binary operator that is the only reader of `outlet`, its node, and its other input: a scalar constant that does
/// not change the shape.
pub(crate) fn scalar_reader(model: &TypedModel, outlet: OutletId) -> Option<(&TypedNode, &TypedBinOp, f32)> {
    let (node, slot) = only_reader(model, outlet)?;
    let op = node.op_as::<TypedBinOp>()?;
    Some((node, op, scalar_with(model, node, slot)?))
}

/// One value per channel of a constant that is added to or multiplied with a tensor of this rank.
pub(crate) fn per_channel(
    model: &TypedModel,
    outlet: OutletId,
    (channel_axis, channels): (usize, usize),
) -> Option<Vec<f32>> {
    let tensor = model.outlet_fact(outlet).ok()?.konst.clone()?;
    if tensor.datum_type() != f32::datum_type() {
        return None;
    }
    let values = tensor.as_plain_ram()?.as_slice::<f32>().ok()?;
    let mut others = tensor.shape().iter().enumerate().filter(|(axis, _)| *axis != channel_axis);
    match values {
        [value] => Some(vec![*value; channels]),
        _ => (others.all(|(_, extent)| *extent == 1) && values.len() == channels).then(|| values.to_vec()),
    }
}

/// The activation of an element-wise node.
pub(crate) fn activation(op: &ElementWiseOp) -> Option<Activation> {
    let op = &op.0;
    if op.is::<Sigmoid>() {
        Some(Activation::Sigmoid)
    } else if op.is::<Tanh>() {
        Some(Activation::Tanh)
    } else if op.is::<Silu>() {
        Some(Activation::Silu)
    } else if op.is::<HardSwish>() {
        Some(Activation::HardSwish)
    } else {
        let alpha = op.downcast_ref::<LeakyRelu>()?.alpha;
        alpha.is_finite().then_some(Activation::LeakyRelu { alpha })
    }
}

/// Whether an activation that tract approximates where it saturates makes an output of the model at `outlet`, perhaps
/// with other axes. The absolute error is 4.5e-7. A network whose outputs are all that small would seem to be wrong
/// if it did not keep tract's approximation.
pub(crate) fn is_approximate_output(model: &TypedModel, activation: Activation, outlet: OutletId) -> bool {
    matches!(activation, Activation::Sigmoid | Activation::Tanh) && makes_output(model, outlet)
}

/// Whether a tensor is an output of the model, or becomes one in nodes that change nothing but its axes.
fn makes_output(model: &TypedModel, outlet: OutletId) -> bool {
    let changes_axes = |reader: &InletId| {
        let node = model.node(reader.node);
        node.op_is::<AxisOp>() && makes_output(model, OutletId::new(node.id, 0))
    };
    model.outputs.contains(&outlet) || model.outlet_successors(outlet).iter().any(changes_axes)
}

/// `activation`, followed by `max(x, bound)` or `min(x, bound)`, if that is an activation too.
pub(crate) fn clamp(activation: Activation, bound: f32, is_max: bool) -> Option<Activation> {
    let (lo, hi) = match activation {
        Activation::None => (f32::NEG_INFINITY, f32::INFINITY),
        Activation::Relu => (0.0, f32::INFINITY),
        Activation::Clip { lo, hi } => (lo, hi),
        _ => return None,
    };
    let (lo, hi) = if is_max { (lo.max(bound), hi) } else { (lo, hi.min(bound)) };
    if lo == 0.0 && hi == f32::INFINITY {
        return Some(Activation::Relu);
    }
    (lo <= hi).then_some(Activation::Clip { lo, hi })
}

/// What a binary operator with a constant does to `x`.
enum Linear {
    Scale(Vec<f32>),
    Shift(Vec<f32>),
    /// `shift - x`.
    ShiftNegated(Vec<f32>),
}

impl Fused {
    fn axis(&self) -> (usize, usize) {
        (self.found.output_view.channel_axis(), self.found.channels())
    }

    /// Fuses the only reader of the output.
    fn next(&mut self, model: &TypedModel, taken: &dyn Fn(usize) -> bool) -> Option<Step> {
        let (node, slot) = only_reader(model, self.output)?;
        if taken(node.id) {
            return None;
        }
        if let Some(op) = node.op_as::<ElementWiseOp>() {
            let activation = activation(op)?;
            let stays = is_approximate_output(model, activation, OutletId::new(node.id, 0));
            if self.activation != Activation::None || self.after.is_some() || stays {
                return None;
            }
            self.activation = activation;
            return Some(Step::of(node));
        }
        let op = &node.op_as::<TypedBinOp>()?.0;
        let other = node.inputs[1 - slot];
        if op.is::<Max>() || op.is::<Min>() {
            let bound = scalar_with(model, node, slot).filter(|_| self.after.is_none())?;
            self.activation = clamp(self.activation, bound, op.is::<Max>())?;
            return Some(Step::of(node));
        }
        if self.found.output_view.channels != 1 {
            return None;
        }
        match linear(model, node, slot, self.axis()) {
            Some(linear) => self.absorb(linear)?,
            None => self.add_residual(model, node, other)?,
        }
        Some(Step::of(node))
    }

    fn add_residual(&mut self, model: &TypedModel, node: &TypedNode, other: OutletId) -> Option<()> {
        let is_add = node.op_as::<TypedBinOp>()?.0.is::<Add>();
        let free = self.residual.is_none() && self.activation == Activation::None && self.after.is_none();
        let (this, that) = (model.outlet_fact(self.output).ok()?, model.outlet_fact(other).ok()?);
        let fits = this.shape == that.shape && that.datum_type == f32::datum_type() && other != self.output;
        if !is_add || !free || !fits || that.konst.is_some() {
            return None;
        }
        self.residual = Some(other);
        Some(())
    }

    /// Folds a scale or a shift into the weights and the bias, or remembers it for after the activation.
    fn absorb(&mut self, linear: Linear) -> Option<()> {
        if self.activation != Activation::None || self.after.is_some() {
            let channels = self.found.channels();
            let (scale, shift) = self.after.get_or_insert_with(|| (vec![1.0; channels], vec![0.0; channels]));
            match linear {
                Linear::Scale(by) => {
                    scale.iter_mut().zip(&by).for_each(|(scale, by)| *scale *= by);
                    shift.iter_mut().zip(&by).for_each(|(shift, by)| *shift *= by);
                }
                Linear::Shift(by) => shift.iter_mut().zip(&by).for_each(|(shift, by)| *shift += by),
                Linear::ShiftNegated(by) => {
                    scale.iter_mut().for_each(|scale| *scale = -*scale);
                    shift.iter_mut().zip(&by).for_each(|(shift, by)| *shift = by - *shift);
                }
            }
            return Some(());
        }
        match linear {
            Linear::Shift(by) => self.add_bias(&by),
            Linear::Scale(by) => self.scale(&by)?,
            Linear::ShiftNegated(by) => {
                self.scale(&vec![-1.0; by.len()])?;
                self.add_bias(&by);
            }
        }
        Some(())
    }

    fn scale(&mut self, by: &[f32]) -> Option<()> {
        if self.residual.is_some() {
            return None;
        }
        let found = &mut self.found;
        let per_channel = found.weights.len() / by.len();
        for (weights, by) in found.weights.chunks_exact_mut(per_channel).zip(by) {
            weights.iter_mut().for_each(|weight| *weight *= by);
        }
        if let Some(bias) = &mut found.bias {
            bias.iter_mut().zip(by).for_each(|(bias, by)| *bias *= by);
        }
        Some(())
    }

    fn add_bias(&mut self, by: &[f32]) {
        let found = &mut self.found;
        let bias = found.bias.get_or_insert_with(|| vec![0.0; found.shape.out_channels]);
        bias.iter_mut().zip(by).for_each(|(bias, by)| *bias += by);
    }

    /// Fuses `x * clip(a * x + b, 0, hi)` if it is a multiple of hard-swish.
    fn hard_swish(&mut self, model: &TypedModel) -> Option<Step> {
        if self.activation != Activation::None || self.after.is_some() {
            return None;
        }
        let (nodes, product, factor) = hard_swish_of(model, self.output)?;
        self.activation = Activation::HardSwish;
        if (factor - 1.0).abs() > TOLERANCE {
            let channels = self.found.channels();
            self.after = Some((vec![factor; channels], vec![0.0; channels]));
        }
        // A following division by 6 gives the factor of 1.
        let step = Step { nodes, output: product };
        Some(step)
    }
}

/// Matches `x * clip(a * x + b, 0, hi)` with `a = hi / 6` and `b = hi / 2`, which is `hi` times the hard-swish of
/// `x`. Returns the nodes, the output and `hi`.
fn hard_swish_of(model: &TypedModel, x: OutletId) -> Option<(Vec<usize>, OutletId, f32)> {
    let [first, second] = model.outlet_successors(x) else { return None };
    if model.outputs.contains(&x) {
        return None;
    }
    let is_mul = |node: usize| model.node(node).op_as::<TypedBinOp>().is_some_and(|op| op.0.is::<Mul>());
    for (start, product) in [(first, second), (second, first)] {
        if start.node == product.node || !is_mul(product.node) {
            continue;
        }
        let gate = model.node(product.node).inputs[1 - product.slot];
        let Some((mut nodes, [a, b, lo, hi])) = gate_of(model, *start, gate) else { continue };
        let near = |value: f32, expected: f32| (value - expected).abs() <= TOLERANCE * expected.abs();
        if lo == 0.0 && hi > 0.0 && hi.is_finite() && near(a, hi / 6.0) && near(b, hi / 2.0) {
            nodes.push(product.node);
            return Some((nodes, OutletId::new(product.node, 0), hi));
        }
    }
    None
}

/// Follows scalar operators from the reader `start` of a tensor `x` to `gate`. Returns the nodes and `[a, b, lo, hi]` of
/// `clip(a * x + b, lo, hi)`.
fn gate_of(model: &TypedModel, start: InletId, gate: OutletId) -> Option<(Vec<usize>, [f32; 4])> {
    let (mut a, mut b, mut lo, mut hi) = (1.0, 0.0, f32::NEG_INFINITY, f32::INFINITY);
    let (mut nodes, mut reader) = (vec![], start);
    loop {
        let node = model.node(reader.node);
        let op = &node.op_as::<TypedBinOp>()?.0;
        let value = scalar_with(model, node, reader.slot)?;
        let unbounded = lo == f32::NEG_INFINITY && hi == f32::INFINITY;
        if op.is::<Max>() {
            lo = value.max(lo);
        } else if op.is::<Min>() {
            hi = value.min(hi);
        } else if op.is::<Add>() && unbounded {
            b += value;
        } else if op.is::<Mul>() && unbounded {
            (a, b) = (a * value, b * value);
        } else if op.is::<Div>() && reader.slot == 0 && unbounded {
            (a, b) = (a / value, b / value);
        } else {
            return None;
        }
        nodes.push(node.id);
        let output = OutletId::new(node.id, 0);
        let (next, slot) = only_reader(model, output).filter(|_| lo <= hi)?;
        if output == gate {
            return Some((nodes, [a, b, lo, hi]));
        }
        reader = InletId::new(next.id, slot);
    }
}

/// What a node does to the tensor in `slot`, if its other input is a constant with one value per channel.
fn linear(model: &TypedModel, node: &TypedNode, slot: usize, axis: (usize, usize)) -> Option<Linear> {
    let op = &node.op_as::<TypedBinOp>()?.0;
    let values = per_channel(model, node.inputs[1 - slot], axis)?;
    if op.is::<Add>() {
        Some(Linear::Shift(values))
    } else if op.is::<Mul>() {
        Some(Linear::Scale(values))
    } else if op.is::<Div>() && slot == 0 && values.iter().all(|value| value.is_normal()) {
        Some(Linear::Scale(values.iter().map(|value| value.recip()).collect()))
    } else if op.is::<Sub>() && slot == 0 {
        Some(Linear::Shift(values.iter().map(|value| -value).collect()))
    } else if op.is::<Sub>() {
        Some(Linear::ShiftNegated(values))
    } else {
        None
    }
}

/// The scale and the shift of a node that multiplies or adds a constant per channel.
pub(crate) fn scale_and_shift(
    model: &TypedModel,
    node: &TypedNode,
    slot: usize,
    axis: (usize, usize),
) -> Option<(Vec<f32>, Vec<f32>)> {
    let channels = axis.1;
    Some(match linear(model, node, slot, axis)? {
        Linear::Scale(scale) => (scale, vec![0.0; channels]),
        Linear::Shift(shift) => (vec![1.0; channels], shift),
        Linear::ShiftNegated(shift) => (vec![-1.0; channels], shift),
    })
}
