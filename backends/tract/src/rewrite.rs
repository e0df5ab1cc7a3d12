//! Builds the new model: layers of the library in place of tract's nodes, and copies between layouts where a
//! tensor is needed in another one.

use crate::Options;
use crate::fuse::Fused;
use crate::layers::{Blockable, Layer, Layers};
use crate::ops::conv::Conv;
use crate::ops::interleave::Interleave;
use crate::ops::pointwise::{Kind, Pointwise};
use crate::ops::pool::{GlobalMean, Pool};
use crate::ops::reorder::Reorder;
use crate::ops::upsample::Upsample;
use crate::plans::{Plans, PlansSpec};
use crate::recognise::Found;
use crate::report::{Replaced, Report};
use crate::view::{OutDim, Port, View};
use kernels::{Activation, BLOCK, FilterShape, Size2};
use std::collections::{HashMap, HashSet};
use tract_core::internal::*;
use tract_core::ops::konst::Const;
use tract_core::ops::source::TypedSource;

/// The fewest output channels of a transposed convolution that is computed in blocks.
const FEW_CHANNELS: usize = BLOCK / 2;

/// A tensor of the old model in the new one: plain, in blocks of channels, or both.
#[derive(Clone, Copy, Default)]
struct Value {
    plain: Option<OutletId>,
    blocked: Option<OutletId>,
}

pub(crate) struct Rewrite<'a> {
    old: &'a TypedModel,
    new: TypedModel,
    layers: Layers,
    options: &'a Options,
    values: HashMap<OutletId, Value>,
    names: HashSet<String>,
    report: Report,
}

impl<'a> Rewrite<'a> {
    pub(crate) fn run(
        old: &'a TypedModel,
        layers: Layers,
        options: &'a Options,
        report: Report,
    ) -> TractResult<(TypedModel, Report)> {
        let new = TypedModel {
            symbols: old.symbols.clone(),
            properties: old.properties.clone(),
            ..TypedModel::default()
        };
        let names = old.nodes().iter().map(|node| node.name.clone()).collect();
        let mut rewrite = Self { old, new, layers, options, values: HashMap::new(), names, report };
        rewrite.translate()?;
        Ok((rewrite.new, rewrite.report))
    }

    fn translate(&mut self) -> TractResult<()> {
        for input in &self.old.inputs {
            let node = self.old.node(input.node);
            let outlet = self.new.add_source(&node.name, node.outputs[input.slot].fact.clone())?;
            self.set_plain(*input, outlet);
        }
        for id in self.old.eval_order()? {
            let node = self.old.node(id);
            if let Some(layer) = self.layers.by_output.remove(&id) {
                self.layer(node, layer).with_context(|| format!("replacing {}", node.name))?;
            } else if !self.layers.owner.contains_key(&id) && !self.old.inputs.contains(&OutletId::new(id, 0))
            {
                self.copy(node)?;
            }
        }
        let outputs: Vec<OutletId> =
            self.old.outputs.iter().map(|output| self.plain(*output)).collect::<TractResult<_>>()?;
        self.new.select_output_outlets(&outputs)?;
        for (outlet, label) in &self.old.outlet_labels {
            if let Some(plain) = self.values.get(outlet).and_then(|value| value.plain) {
                self.new.set_outlet_label(plain, label.clone())?;
            }
        }
        Ok(())
    }

    /// Copies a node that stays with tract. Constants are copied when something reads them.
    fn copy(&mut self, node: &TypedNode) -> TractResult<()> {
        if node.op_is::<Const>() && !self.old.outputs.iter().any(|output| output.node == node.id) {
            return Ok(());
        }
        ensure!(!node.op_is::<TypedSource>(), "{} is a source, but not an input of the model", node.name);
        let inputs: TVec<OutletId> =
            node.inputs.iter().map(|input| self.plain(*input)).collect::<TractResult<_>>()?;
        let outputs = self.new.wire_node(&node.name, node.op.clone(), &inputs)?;
        for (slot, output) in outputs.into_iter().enumerate() {
            self.set_plain(OutletId::new(node.id, slot), output);
        }
        Ok(())
    }

    fn set_plain(&mut self, old: OutletId, new: OutletId) {
        self.values.entry(old).or_default().plain = Some(new);
    }

    fn set_blocked(&mut self, old: OutletId, new: OutletId) {
        self.values.entry(old).or_default().blocked = Some(new);
    }

    fn value(&self, outlet: OutletId) -> Value {
        self.values.get(&outlet).copied().unwrap_or_default()
    }

    /// A name that no node has.
    fn name(&mut self, base: &str, suffix: &str) -> String {
        let mut name = format!("{base}.{suffix}");
        while !self.names.insert(name.clone()) {
            name.push('_');
        }
        name
    }

    /// The plain tensor of an outlet of the old model.
    fn plain(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        let node = self.old.node(outlet.node);
        match self.value(outlet) {
            Value { plain: Some(plain), .. } => Ok(plain),
            Value { blocked: Some(blocked), .. } => {
                let (view, channels) = self.layers.blockable[&outlet];
                let plain = self.reorder(&node.name, blocked, (view, channels), false)?;
                self.set_plain(outlet, plain);
                Ok(plain)
            }
            _ => {
                let op = node.op_as::<Const>().with_context(|| format!("{} has no value yet", node.name))?;
                let plain = self.new.wire_node(&node.name, op.clone(), &[])?[0];
                self.set_plain(outlet, plain);
                Ok(plain)
            }
        }
    }

    /// The tensor of an outlet in blocks of channels.
    fn blocked(&mut self, outlet: OutletId, blockable: Blockable) -> TractResult<OutletId> {
        let existing = self.value(outlet).blocked;
        if let Some(blocked) = existing
            && self.layers.blockable.get(&outlet) == Some(&blockable)
        {
            return Ok(blocked);
        }
        let plain = self.plain(outlet)?;
        let blocked = self.reorder(&self.old.node(outlet.node).name, plain, blockable, true)?;
        // A reader that sees other axes in the same tensor gets a copy of its own.
        if existing.is_none() {
            self.layers.blockable.insert(outlet, blockable);
            self.set_blocked(outlet, blocked);
        }
        Ok(blocked)
    }

    fn reorder(
        &mut self,
        name: &str,
        from: OutletId,
        (view, channels): Blockable,
        to_blocks: bool,
    ) -> TractResult<OutletId> {
        let port = |blocked| Port { view, channels, blocked };
        let op = Reorder {
            input: port(!to_blocks),
            output: port(to_blocks),
            dims: OutDim::of_view(view, channels),
        };
        let name = self.name(name, if to_blocks { "blocked" } else { "plain" });
        self.report.reorders += 1;
        Ok(self.new.wire_node(name, op, &[from])?[0])
    }

    /// Whether an output should be made in blocks: if most of its readers take it so.
    fn prefers_blocks(&self, outlet: OutletId) -> bool {
        let mut votes = [0, 0];
        for reader in self.old.outlet_successors(outlet) {
            let takes =
                match self.layers.owner.get(&reader.node).map(|owner| self.layers.by_output.get(owner)) {
                    Some(Some(Layer::Conv(conv))) => {
                        conv.residual == Some(outlet) || conv.found.input_view.can_block()
                    }
                    Some(Some(Layer::ScaleBy { scales, .. })) => *scales != outlet,
                    Some(_) => true,
                    None => false,
                };
            votes[usize::from(takes)] += 1;
        }
        votes[0] += usize::from(self.old.outputs.contains(&outlet));
        votes[1] > 0 && 2 * votes[1] >= votes[0]
    }

    fn layer(&mut self, node: &TypedNode, layer: Layer) -> TractResult<()> {
        let output = OutletId::new(node.id, 0);
        let what = match layer {
            Layer::Conv(fused) => return self.conv(*fused),
            Layer::Pool { input, window, kind } => {
                let port = self.port(input)?;
                self.wire_blocked(output, &[input], Box::new(Pool { window, port, kind }))?;
                format!("{kind} pooling")
            }
            Layer::Sum { input, factor } => {
                let port = self.port(input)?;
                let dims = ones(port.view, port.channels);
                let image = self.blocked(input, (port.view, port.channels))?;
                let op = GlobalMean { port, dims, factor, sum: true };
                let new = self.new.wire_node(&node.name, op, &[image])?[0];
                self.set_plain(output, new);
                "global pooling".to_string()
            }
            Layer::Activate { input, activation } => {
                let kind = Kind::Activate(activation);
                self.pointwise(output, &[input], kind)?;
                activation.to_string()
            }
            Layer::Add { inputs, activation } => {
                self.pointwise(output, &inputs, Kind::Add(activation))?;
                format!("sum, {activation}")
            }
            Layer::ScaleShift { input, scale, shift } => {
                let kind = Kind::ScaleShift { scale: scale.into(), shift: shift.into() };
                self.pointwise(output, &[input], kind)?;
                "scale and shift".to_string()
            }
            Layer::ScaleBy { input, scales, plus } => {
                let port = self.port(input)?;
                let image = self.blocked(input, (port.view, port.channels))?;
                let scales = self.plain(scales)?;
                let op = Pointwise { kind: Kind::ScaleBy { plus }, port };
                let new = self.new.wire_node(&node.name, op, &[image, scales])?[0];
                self.set_blocked(output, new);
                "product with a value per channel".to_string()
            }
            Layer::Upsample { input, scale } => {
                let port = self.port(input)?;
                self.wire_blocked(output, &[input], Box::new(Upsample { port, scale }))?;
                format!("nearest upsampling {scale}")
            }
            Layer::Blocked { inputs, op } => {
                let name = op.name().into_owned();
                self.wire_blocked(output, &inputs, op)?;
                format!("{name} in blocks")
            }
        };
        self.note(node, what);
        Ok(())
    }

    fn note(&mut self, node: &TypedNode, layer: String) {
        let nodes = self.layers.owner.values().filter(|owner| **owner == node.id).count();
        self.report.replaced.push(Replaced { node: node.name.clone(), layer, nodes });
    }

    /// The blocked port of an input of a layer.
    fn port(&self, outlet: OutletId) -> TractResult<Port> {
        let blockable = self.layers.blockable.get(&outlet);
        let (view, channels) = *blockable.with_context(|| format!("{outlet:?} cannot be in blocks"))?;
        Ok(Port { view, channels, blocked: true })
    }

    fn pointwise(&mut self, output: OutletId, inputs: &[OutletId], kind: Kind) -> TractResult<()> {
        let port = self.port(inputs[0])?;
        self.wire_blocked(output, inputs, Box::new(Pointwise { kind, port }))
    }

    /// Adds an operator that reads and makes tensors in blocks.
    fn wire_blocked(
        &mut self,
        output: OutletId,
        inputs: &[OutletId],
        op: Box<dyn TypedOp>,
    ) -> TractResult<()> {
        let mut wires = tvec!();
        for input in inputs {
            let Port { view, channels, .. } = self.port(*input)?;
            wires.push(self.blocked(*input, (view, channels))?);
        }
        let new = self.new.wire_node(&self.old.node(output.node).name, op, &wires)?[0];
        self.set_blocked(output, new);
        Ok(())
    }

    fn conv(&mut self, fused: Fused) -> TractResult<()> {
        let Fused { mut found, residual, activation, after, output } = fused;
        let after = after.filter(|(scale, shift)| !is_identity(scale, shift));
        let node = self.old.node(output.node);
        let channels = found.channels();
        let taps = found.taps;
        let form = self.form(&found, output);
        let image = (found.input_view, found.shape.input_channels());
        let input_wire = match form {
            Form { input: true, .. } => self.blocked(found.input, image)?,
            Form { input: false, .. } => self.plain(found.input)?,
        };
        let mut wires = tvec!(input_wire);
        if let Some(residual) = residual {
            wires.push(match form.output {
                true => self.blocked(residual, (found.output_view, channels))?,
                false => self.plain(residual)?,
            });
        }
        let label = label(&found, activation, residual.is_some(), after.is_some());
        let in_blocks = taps.is_some() && form.output && channels >= FEW_CHANNELS;
        if in_blocks {
            pad_taps(&mut found);
        }
        let outs = found.shape.out_channels;
        let input = Port { view: image.0, channels: image.1, blocked: form.input };
        let port = Port { view: found.output_view, channels: outs, blocked: form.output };
        let dims = if taps.is_some() { OutDim::of_view(found.output_view, outs) } else { found.dims.clone() };
        let conv = Conv {
            plans: Arc::new(self.plans(&mut found, input, form, activation, residual.is_some())?),
            window: found.window,
            input,
            output: port,
            dims,
            residual: residual.is_some(),
            label: label.clone(),
        };
        let is_last = taps.is_none() && after.is_none();
        let name = if is_last { node.name.clone() } else { self.name(&node.name, "conv") };
        let mut wire = self.new.wire_node(name, conv, &wires)?[0];
        let mut blocked = form.output;
        if let Some(taps) = taps {
            if blocked && !in_blocks {
                wire = self.reorder(&node.name, wire, (found.output_view, outs), false)?;
                blocked = false;
            }
            let interleave = Interleave {
                taps,
                input: Port { blocked, ..port },
                output: Port { view: found.output_view, channels, blocked },
                dims: found.dims,
            };
            let name = if after.is_none() { node.name.clone() } else { self.name(&node.name, "interleave") };
            wire = self.new.wire_node(name, interleave, &[wire])?[0];
        }
        if let Some((scale, shift)) = after {
            let kind = Kind::ScaleShift { scale: scale.into(), shift: shift.into() };
            let port = Port { view: found.output_view, channels, blocked };
            wire = self.new.wire_node(&node.name, Pointwise { kind, port }, &[wire])?[0];
        }
        if blocked {
            self.set_blocked(output, wire);
        } else {
            self.set_plain(output, wire);
        }
        self.note(node, label);
        Ok(())
    }

    /// Whether a convolution reads and makes tensors in blocks.
    fn form(&self, found: &Found, output: OutletId) -> Form {
        let input_can = found.input_view.can_block();
        let output_can = found.output_can_block();
        let is_blocked = self.value(found.input).blocked.is_some()
            && self.layers.blockable.get(&found.input)
                == Some(&(found.input_view, found.shape.input_channels()));
        if !self.options.blocks || !input_can || !output_can {
            return Form { input: false, output: false };
        }
        let has_plain = self.value(found.input).plain.is_some();
        let prefers = self.prefers_blocks(output);
        if is_blocked && (prefers || !has_plain) {
            return Form { input: true, output: true };
        }
        // Kernels of more than one pixel can read plain channels and write blocks.
        let mixed = !found.window.is_point() && found.shape.groups == 1;
        Form { input: prefers && !mixed, output: prefers }
    }

    fn plans(
        &self,
        found: &mut Found,
        input: Port,
        form: Form,
        activation: Activation,
        residual: bool,
    ) -> TractResult<Plans> {
        let output_layout = if form.output { kernels::Layout::Nchw16c } else { input.layout() };
        Plans::new(PlansSpec {
            shape: found.shape,
            weights: std::mem::take(&mut found.weights),
            bias: found.bias.take(),
            stride: found.window.stride,
            dilation: found.window.dilation,
            activation,
            residual,
            layout: input.layout(),
            output_layout,
            capacity: self.options.plans,
            options: self.options.plan,
        })
    }
}

/// Whether the input and the output of a convolution are in blocks.
#[derive(Clone, Copy)]
struct Form {
    input: bool,
    output: bool,
}

/// Reorders the weights of a transposed convolution from `[channel][tap]` to `[tap][channel]`, with zeros for the
/// channels that fill the last block.
fn pad_taps(found: &mut Found) {
    let (channels, count) = (found.channels(), found.shape.out_channels / found.channels());
    let (padded, ins) = (channels.next_multiple_of(BLOCK), found.shape.in_channels);
    let mut weights = vec![0.0; count * padded * ins];
    for (row, from) in found.weights.chunks_exact(ins).enumerate() {
        let (channel, tap) = (row / count, row % count);
        weights[(tap * padded + channel) * ins..][..ins].copy_from_slice(from);
    }
    if let Some(bias) = &mut found.bias {
        let mut padded_bias = vec![0.0; count * padded];
        for (row, value) in bias.iter().enumerate() {
            padded_bias[row % count * padded + row / count] = *value;
        }
        *bias = padded_bias;
    }
    found.weights = weights;
    found.shape = FilterShape::new(count * padded, ins, Size2::square(1));
}

/// Whether `x * scale + shift` is `x` but for rounding errors.
fn is_identity(scale: &[f32], shift: &[f32]) -> bool {
    scale.iter().all(|scale| (scale - 1.0).abs() <= 2.0 * f32::EPSILON)
        && shift.iter().all(|shift| *shift == 0.0)
}

/// The axes of a tensor with one pixel.
fn ones(view: View, channels: usize) -> TVec<OutDim> {
    let mut dims = OutDim::of_view(view, channels);
    dims[view.spatial_axis()..].fill(OutDim::Fixed(1));
    dims
}

fn label(found: &Found, activation: Activation, residual: bool, after: bool) -> String {
    let FilterShape { out_channels, groups, kernel, .. } = found.shape;
    let mut label = match found.taps {
        Some(taps) => format!("transposed convolution {taps} to {} channels", found.channels()),
        None => format!("convolution {kernel} to {out_channels} channels"),
    };
    if groups > 1 {
        label += &format!(" in {groups} groups");
    }
    if found.bias.is_some() {
        label += ", bias";
    }
    if residual {
        label += ", residual";
    }
    if activation != Activation::None {
        label += &format!(", {activation}");
    }
    if after {
        label += ", scale and shift";
    }
    label
}
