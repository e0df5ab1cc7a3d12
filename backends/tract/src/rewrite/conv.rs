//! Convolutions in the new model, and the scale that can follow them.

use super::Rewrite;
use crate::fuse::Fused;
use crate::ops::conv::Conv;
use crate::ops::pointwise::{Kind, Pointwise};
use crate::plans::{Plans, PlansSpec};
use crate::recognise::Found;
use crate::view::Port;
use kernels::{Activation, BLOCK, FilterShape, Layout};
use tract_core::internal::*;

/// The fewest output channels of a transposed convolution that is computed in blocks.
const FEW_CHANNELS: usize = BLOCK / 2;

/// Whether the input and the output of a convolution are in blocks.
#[derive(Clone, Copy)]
struct Form {
    input: bool,
    output: bool,
}

impl Rewrite<'_> {
    /// Adds a convolution with everything that was fused into it.
    pub(super) fn conv(&mut self, fused: Fused) -> TractResult<()> {
        let Fused { found, residual, activation, after, output } = fused;
        let after = after.filter(|(scale, shift)| !is_identity(scale, shift));
        let node = self.old.node(output.node);
        let label = label(&found, activation, residual.is_some(), after.is_some());
        let (channels, form) = (found.channels(), self.form(&found, output));
        let wires = self.inputs(&found, residual, form)?;
        let view = found.output_view;
        let port = Port { view, channels, blocked: form.output };
        let conv = self.operator(found, port, form, (activation, residual.is_some()), &label)?;
        let name = if after.is_none() { node.name.clone() } else { self.name(&node.name, "conv") };
        let mut wire = self.new.wire_node(name, conv, &wires)?[0];
        if let Some((scale, shift)) = after {
            let kind = Kind::ScaleShift { scale: scale.into(), shift: shift.into() };
            wire = self.new.wire_node(&node.name, Pointwise { kind, port }, &[wire])?[0];
        }
        if port.blocked {
            self.set_blocked(output, (view, channels), wire);
        } else {
            self.set_plain(output, wire);
        }
        self.note(node, label);
        Ok(())
    }

    fn inputs(
        &mut self,
        found: &Found,
        residual: Option<OutletId>,
        form: Form,
    ) -> TractResult<TVec<OutletId>> {
        let image = (found.input_view, found.shape.input_channels());
        let mut wires =
            tvec!(if form.input { self.blocked(found.input, image)? } else { self.plain(found.input)? });
        if let Some(residual) = residual {
            wires.push(if form.output {
                self.blocked(residual, (found.output_view, found.channels()))?
            } else {
                self.plain(residual)?
            });
        }
        Ok(wires)
    }

    /// The operator, whose output is `output`.
    fn operator(
        &self,
        found: Found,
        output: Port,
        form: Form,
        (activation, residual): (Activation, bool),
        label: &str,
    ) -> TractResult<Conv> {
        let channels = found.shape.input_channels();
        let input = Port { view: found.input_view, channels, blocked: form.input };
        let spec = PlansSpec {
            shape: found.shape,
            weights: found.weights,
            bias: found.bias,
            stride: found.window.stride,
            dilation: found.window.dilation,
            added: found.window.is_transposed().then(|| found.window.cut().1),
            activation,
            residual,
            layout: input.layout(),
            output_layout: if form.output { Layout::Nchw16c } else { input.layout() },
            capacity: self.options.plans,
            options: self.options.plan,
        };
        Ok(Conv {
            plans: Arc::new(Plans::new(spec)?),
            window: found.window,
            input,
            output,
            dims: found.dims,
            residual,
            label: label.to_string(),
        })
    }

    /// Whether a convolution reads and makes tensors in blocks.
    fn form(&self, found: &Found, output: OutletId) -> Form {
        let input_can = found.input_view.can_block();
        let output_can = found.output_can_block();
        let value = self.values.get(&found.input);
        let seen = (found.input_view, found.shape.input_channels());
        let is_blocked = value.is_some_and(|value| value.blocked(seen).is_some());
        let transposed = found.window.is_transposed();
        // Blocks of a tensor of few channels are mostly padding.
        let too_few = transposed && found.channels() < FEW_CHANNELS;
        if !self.options.blocks || !input_can || !output_can || too_few {
            return Form { input: false, output: false };
        }
        let has_plain = value.is_some_and(|value| value.plain.is_some());
        let prefers = self.prefers_blocks(output);
        if is_blocked && (prefers || !has_plain) {
            return Form { input: true, output: true };
        }
        // Kernels of more than one pixel can read plain channels and write blocks.
        let mixed = !found.window.is_point() && found.shape.groups == 1 && !transposed;
        Form { input: prefers && !mixed, output: prefers }
    }
}

/// Whether `x * scale + shift` is `x` but for rounding errors.
fn is_identity(scale: &[f32], shift: &[f32]) -> bool {
    scale.iter().all(|scale| (scale - 1.0).abs() <= 2.0 * f32::EPSILON)
        && shift.iter().all(|shift| *shift == 0.0)
}

fn label(found: &Found, activation: Activation, residual: bool, after: bool) -> String {
    let FilterShape { out_channels, groups, kernel, .. } = found.shape;
    let kind = if found.window.is_transposed() { "transposed convolution" } else { "convolution" };
    let mut label = format!("{kind} {kernel} to {out_channels} channels");
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
