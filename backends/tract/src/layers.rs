//! Which nodes become layers of the library: convolutions, and what stands between them.

use crate::fuse::{
    Fused, activation, clamp, fuse, is_approximate_output, only_reader, scalar_reader, scalar_with,
    scale_and_shift,
};
use crate::recognise::recognise;
use crate::report::{FellBack, Report};
use crate::view::View;
use crate::window::Window;
use kernels::{Activation, BLOCK, PoolKind, Size2};
use std::collections::{HashMap, HashSet};
use tract_core::internal::*;
use tract_core::ops::array::{Slice, TypedConcat};
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cnn::{MaxPool, SumPool};
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Add, Max, Min, Mul};
use tract_core::ops::nn::{NearestUpsample, Reduce, Reducer};

/// The axes and the channels of a tensor that can be in blocks.
pub(crate) type Blockable = (View, usize);

/// A layer that replaces one or more nodes.
#[derive(Debug)]
pub(crate) enum Layer {
    Conv(Box<Fused>),
    Pool {
        input: OutletId,
        window: Window,
        kind: PoolKind,
    },
    /// The sum over all pixels, times a factor.
    Sum {
        input: OutletId,
        factor: f32,
    },
    Activate {
        input: OutletId,
        activation: Activation,
    },
    Add {
        inputs: [OutletId; 2],
        activation: Activation,
    },
    ScaleShift {
        input: OutletId,
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    ScaleBy {
        input: OutletId,
        scales: OutletId,
        plus: f32,
    },
    Upsample {
        input: OutletId,
        scale: Size2,
    },
    /// An operator of tract that works on blocks as well, with other axes.
    Blocked {
        inputs: TVec<OutletId>,
        op: Box<dyn TypedOp>,
    },
}

/// All layers of a model.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// By the node that makes the output of the layer.
    pub(crate) by_output: HashMap<usize, Layer>,
    /// The layer of every node that a layer replaces, named by its output's node.
    pub(crate) owner: HashMap<usize, usize>,
    /// The outputs of layers that can be in blocks.
    pub(crate) blockable: HashMap<OutletId, Blockable>,
}

impl Layers {
    /// Finds the layers of a decluttered model: convolutions only, without `blocks` between them. What cannot be
    /// taken is noted in the report.
    pub(crate) fn find(
        model: &TypedModel,
        skip: &dyn Fn(&str) -> bool,
        blocks: bool,
        report: &mut Report,
    ) -> TractResult<Self> {
        let mut layers = Self::default();
        let order = model.eval_order()?;
        let mut is_conv = HashSet::new();
        let mut found = vec![];
        for &id in &order {
            let node = model.node(id);
            let Some(result) = recognise(model, node) else { continue };
            let result = if skip(&node.name) { Err("excluded by the options".into()) } else { result };
            match result {
                Ok(conv) => {
                    is_conv.insert(id);
                    found.push(conv);
                }
                Err(reason) => report.fell_back.push(FellBack {
                    node: node.name.clone(),
                    operator: node.op.name().into_owned(),
                    reason,
                }),
            }
        }
        for conv in found {
            let taken = |node: usize| is_conv.contains(&node) || layers.owner.contains_key(&node);
            let fused = fuse(model, conv, &taken);
            layers.add(fused.output, fused.found.nodes.clone(), Layer::Conv(Box::new(fused)));
        }
        if blocks {
            layers.find_all_between(model, &order);
        }
        Ok(layers)
    }

    fn add(&mut self, output: OutletId, nodes: Vec<usize>, layer: Layer) {
        self.owner.extend(nodes.into_iter().map(|node| (node, output.node)));
        self.by_output.insert(output.node, layer);
    }

    /// Finds what can be in blocks: outputs of convolutions, and the layers that read these or each other's.
    fn find_all_between(&mut self, model: &TypedModel, order: &[usize]) {
        for &id in order {
            match self.by_output.get(&id) {
                Some(Layer::Conv(fused)) if fused.found.output_can_block() => {
                    let blockable = (fused.found.output_view, fused.found.channels());
                    self.blockable.insert(fused.output, blockable);
                }
                Some(_) => (),
                None if self.owner.contains_key(&id) => (),
                None => self.find_between(model, model.node(id)),
            }
        }
    }

    /// Adds the layer of one node that is no convolution, if its input can be in blocks.
    fn find_between(&mut self, model: &TypedModel, node: &TypedNode) {
        let output = OutletId::new(node.id, 0);
        let Some(&input) = node.inputs.first() else { return };
        if node.outputs.len() != 1 || node.outputs[0].fact.datum_type != f32::datum_type() {
            return;
        }
        if let Some((layer, nodes, last, blockable)) = self
            .pool(model, node, input)
            .or_else(|| self.sum(model, node, input))
            .or_else(|| self.elementwise(model, node, input))
            .or_else(|| self.binary(model, node))
            .or_else(|| self.concat(node))
            .or_else(|| self.slice(node, input))
            .or_else(|| self.upsample(node, input))
        {
            self.add(last.unwrap_or(output), nodes, layer);
            if let Some(blockable) = blockable {
                self.blockable.insert(last.unwrap_or(output), blockable);
            }
        }
    }

    fn of(&self, outlet: OutletId) -> Option<Blockable> {
        self.blockable.get(&outlet).copied()
    }

    fn pool(&self, model: &TypedModel, node: &TypedNode, input: OutletId) -> Option<Between> {
        let blockable = self.of(input)?;
        let (spec, kind) = if let Some(op) = node.op_as::<MaxPool>() {
            if op.with_index_outputs.is_some() {
                return None;
            }
            (&op.pool_spec, PoolKind::Max)
        } else {
            let op = node.op_as::<SumPool>().filter(|op| op.normalize)?;
            (&op.pool_spec, PoolKind::Average { count_include_pad: op.count_include_pad })
        };
        let window = Window::of(spec).ok()?;
        let format = crate::recognise::view_of(spec.data_format, spec.rank());
        if format != blockable.0 || !window.pads_less_than_kernel() {
            return None;
        }
        // The divisor is that of the padding as it is, which `Window::concrete` can extend.
        let counts_pad = kind == PoolKind::Average { count_include_pad: true };
        if window.rounds_up() && counts_pad {
            let shape = &model.outlet_fact(input).ok()?.shape;
            if !window.fits(&blockable.0.extents(shape).ok()?) {
                return None;
            }
        }
        Some((Layer::Pool { input, window, kind }, vec![node.id], None, Some(blockable)))
    }

    fn sum(&self, model: &TypedModel, node: &TypedNode, input: OutletId) -> Option<Between> {
        let op = node.op_as::<Reduce>().filter(|op| op.reducer == Reducer::Sum)?;
        let (view, _) = self.of(input)?;
        let spatial = view.spatial_axis()..view.spatial_axis() + view.spatial;
        if !op.axes.iter().copied().eq(spatial) {
            return None;
        }
        let output = OutletId::new(node.id, 0);
        let (mut nodes, mut last, mut factor) = (vec![node.id], None, 1.0);
        if let Some((next, op, by)) = scalar_reader(model, output)
            && op.0.is::<Mul>()
            && !self.owner.contains_key(&next.id)
        {
            nodes.push(next.id);
            (last, factor) = (Some(OutletId::new(next.id, 0)), by);
        }
        Some((Layer::Sum { input, factor }, nodes, last, None))
    }

    fn elementwise(&self, model: &TypedModel, node: &TypedNode, input: OutletId) -> Option<Between> {
        let activation = activation(node.op_as::<ElementWiseOp>()?)?;
        let blockable = self.of(input)?;
        let output = OutletId::new(node.id, 0);
        if model.outputs.contains(&output) || is_approximate_output(model, activation, output) {
            return None;
        }
        Some((Layer::Activate { input, activation }, vec![node.id], None, Some(blockable)))
    }

    fn binary(&self, model: &TypedModel, node: &TypedNode) -> Option<Between> {
        let op = &node.op_as::<TypedBinOp>()?.0;
        let shape = &node.outputs[0].fact.shape;
        let slot = (0..2).find(|slot| {
            let outlet = node.inputs[*slot];
            self.of(outlet).is_some() && model.outlet_fact(outlet).is_ok_and(|fact| fact.shape == *shape)
        })?;
        let (input, other) = (node.inputs[slot], node.inputs[1 - slot]);
        let (view, channels) = self.of(input)?;
        let blockable = Some((view, channels));
        if op.is::<Max>() || op.is::<Min>() {
            let activation = clamp(Activation::None, scalar_with(model, node, slot)?, op.is::<Max>())?;
            return Some((Layer::Activate { input, activation }, vec![node.id], None, blockable));
        }
        let axis = (view.channel_axis(), channels);
        if let Some((scale, shift)) = scale_and_shift(model, node, slot, axis) {
            return Some((Layer::ScaleShift { input, scale, shift }, vec![node.id], None, blockable));
        }
        let fact = model.outlet_fact(other).ok()?;
        if fact.konst.is_some() {
            return None;
        }
        if op.is::<Add>() && fact.shape == *shape && self.of(other) == blockable {
            return Some(self.add_of(model, node, [input, other], (view, channels)));
        }
        if op.is::<Mul>() && is_one_pixel(&fact.shape, shape, view) {
            return Some(self.scale_by(model, node, [input, other], (view, channels)));
        }
        None
    }

    /// A sum, with the activation that follows it.
    fn add_of(
        &self,
        model: &TypedModel,
        node: &TypedNode,
        inputs: [OutletId; 2],
        blockable: Blockable,
    ) -> Between {
        let (mut nodes, mut last, mut activation) =
            (vec![node.id], OutletId::new(node.id, 0), Activation::None);
        while let Some((next, op, bound)) = scalar_reader(model, last)
            && (op.0.is::<Max>() || op.0.is::<Min>())
            && let Some(clamped) = clamp(activation, bound, op.0.is::<Max>())
        {
            nodes.push(next.id);
            (last, activation) = (OutletId::new(next.id, 0), clamped);
        }
        (Layer::Add { inputs, activation }, nodes, Some(last), Some(blockable))
    }

    /// `x * s`, or `x + x * s`, with one `s` per channel.
    fn scale_by(
        &self,
        model: &TypedModel,
        node: &TypedNode,
        [input, scales]: [OutletId; 2],
        blockable: Blockable,
    ) -> Between {
        let output = OutletId::new(node.id, 0);
        if let Some((next, slot)) = only_reader(model, output)
            && next.op_as::<TypedBinOp>().is_some_and(|op| op.0.is::<Add>())
            && next.inputs[1 - slot] == input
            && !self.owner.contains_key(&next.id)
        {
            let last = Some(OutletId::new(next.id, 0));
            let layer = Layer::ScaleBy { input, scales, plus: 1.0 };
            return (layer, vec![node.id, next.id], last, Some(blockable));
        }
        (Layer::ScaleBy { input, scales, plus: 0.0 }, vec![node.id], None, Some(blockable))
    }

    fn concat(&self, node: &TypedNode) -> Option<Between> {
        let op = node.op_as::<TypedConcat>()?;
        let parts: Vec<Blockable> = node.inputs.iter().map(|input| self.of(*input)).collect::<Option<_>>()?;
        let (view, _) = *parts.first()?;
        let (_, whole) = parts.split_last()?;
        let aligned = whole.iter().all(|(_, channels)| channels.is_multiple_of(BLOCK));
        if op.axis != view.channel_axis() || !aligned || parts.iter().any(|part| part.0 != view) {
            return None;
        }
        let channels = parts.iter().map(|(_, channels)| channels).sum();
        let op = Box::new(TypedConcat { axis: 1 });
        let layer = Layer::Blocked { inputs: node.inputs.iter().copied().collect(), op };
        Some((layer, vec![node.id], None, Some((view, channels))))
    }

    fn slice(&self, node: &TypedNode, input: OutletId) -> Option<Between> {
        let op = node.op_as::<Slice>()?;
        let (view, channels) = self.of(input)?;
        let (start, end) = (op.start.to_usize().ok()?, op.end.to_usize().ok()?);
        let aligned = start.is_multiple_of(BLOCK) && (end.is_multiple_of(BLOCK) || end == channels);
        if op.axis != view.channel_axis() || !aligned {
            return None;
        }
        let op = Box::new(Slice::new(1, start / BLOCK, end.div_ceil(BLOCK)));
        let layer = Layer::Blocked { inputs: tvec!(input), op };
        Some((layer, vec![node.id], None, Some((view, end - start))))
    }

    fn upsample(&self, node: &TypedNode, input: OutletId) -> Option<Between> {
        let op = node.op_as::<NearestUpsample>()?;
        let blockable = self.of(input)?;
        let spatial = blockable.0.spatial_axis();
        if op.scales[..spatial].iter().any(|scale| *scale != 1) || op.scales.contains(&0) {
            return None;
        }
        let (h, w) = match op.scales[spatial..] {
            [w] => (1, w),
            [h, w] => (h, w),
            _ => return None,
        };
        let layer = Layer::Upsample { input, scale: Size2::new(h, w) };
        Some((layer, vec![node.id], None, Some(blockable)))
    }
}

/// A layer, the nodes that it replaces, its output if that is not the node's, and whether it can be in blocks.
type Between = (Layer, Vec<usize>, Option<OutletId>, Option<Blockable>);

/// Whether `scales` has the images and channels of `shape`, and one pixel.
fn is_one_pixel(scales: &ShapeFact, shape: &ShapeFact, view: View) -> bool {
    let spatial = view.spatial_axis();
    scales.rank() == shape.rank()
        && (0..scales.rank())
            .all(|axis| if axis < spatial { scales[axis] == shape[axis] } else { scales[axis].is_one() })
}
