//! Builds the new model: layers of the library in place of tract's nodes, and copies between layouts where a
//! tensor is needed in another one.

mod conv;
#[cfg(test)]
mod tests;

use crate::Options;
use crate::layers::{Blockable, Layer, Layers};
use crate::ops::pointwise::{Kind, Pointwise};
use crate::ops::pool::{GlobalMean, Pool};
use crate::ops::reorder::Reorder;
use crate::ops::upsample::Upsample;
use crate::recognise::is_convolution;
use crate::report::{FellBack, Replaced, Report};
use crate::view::{OutDim, Port, View};
use std::collections::{HashMap, HashSet};
use tract_core::internal::*;
use tract_core::ops::konst::Const;
use tract_core::ops::source::TypedSource;

/// A tensor of the old model in the new one: plain, in blocks of channels, or both.
#[derive(Default)]
struct Value {
    plain: Option<OutletId>,
    /// One tensor for each way in which readers see its axes. The first is the one that the layer made, if it did.
    blocked: TVec<(Blockable, OutletId)>,
}

impl Value {
    fn blocked(&self, blockable: Blockable) -> Option<OutletId> {
        self.blocked.iter().find(|(seen, _)| *seen == blockable).map(|(_, outlet)| *outlet)
    }
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
        let order = self.old.eval_order()?;
        for &id in &order {
            let node = self.old.node(id);
            if let Some(layer) = self.layers.by_output.remove(&id) {
                if let Err(error) = self.layer(node, layer) {
                    self.fall_back(node, &error, &order)?;
                }
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

    /// Leaves all nodes of a layer to tract that could not be made.
    fn fall_back(&mut self, output: &TypedNode, error: &TractError, order: &[usize]) -> TractResult<()> {
        let owners = &self.layers.owner;
        let is_part = |id: &&usize| owners.get(id) == Some(&output.id);
        let nodes: Vec<&TypedNode> = order.iter().filter(is_part).map(|id| self.old.node(*id)).collect();
        for node in &nodes {
            self.copy(node)?;
        }
        let named = nodes.into_iter().find(|node| is_convolution(node)).unwrap_or(output);
        self.report.fell_back.push(FellBack {
            node: named.name.clone(),
            operator: named.op.name().into_owned(),
            reason: format!("{error:#}"),
        });
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

    fn set_blocked(&mut self, old: OutletId, blockable: Blockable, new: OutletId) {
        self.values.entry(old).or_default().blocked.push((blockable, new));
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
        let value = self.values.get(&outlet);
        if let Some(plain) = value.and_then(|value| value.plain) {
            return Ok(plain);
        }
        let plain = match value.and_then(|value| value.blocked.first()) {
            Some(&(blockable, blocked)) => self.reorder(&node.name, blocked, blockable, false)?,
            None => {
                let op = node.op_as::<Const>().with_context(|| format!("{} has no value yet", node.name))?;
                self.new.wire_node(&node.name, op.clone(), &[])?[0]
            }
        };
        self.set_plain(outlet, plain);
        Ok(plain)
    }

    /// The tensor of an outlet in blocks of channels. A reader that sees other axes gets another copy.
    fn blocked(&mut self, outlet: OutletId, blockable: Blockable) -> TractResult<OutletId> {
        if let Some(blocked) = self.values.get(&outlet).and_then(|value| value.blocked(blockable)) {
            return Ok(blocked);
        }
        let plain = self.plain(outlet)?;
        let blocked = self.reorder(&self.old.node(outlet.node).name, plain, blockable, true)?;
        self.set_blocked(outlet, blockable, blocked);
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
                self.set_blocked(output, (port.view, port.channels), new);
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
        let Port { view, channels, .. } = self.port(output)?;
        let new = self.new.wire_node(&self.old.node(output.node).name, op, &wires)?[0];
        self.set_blocked(output, (view, channels), new);
        Ok(())
    }
}

/// The axes of a tensor with one pixel.
fn ones(view: View, channels: usize) -> TVec<OutDim> {
    let mut dims = OutDim::of_view(view, channels);
    dims[view.spatial_axis()..].fill(OutDim::Fixed(1));
    dims
}
