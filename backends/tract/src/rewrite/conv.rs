//! Convolutions in the new model, and the copy and the scale that can follow them.

use super::Rewrite;
use crate::fuse::Fused;
use crate::ops::conv::Conv;
use crate::ops::interleave::Interleave;
use crate::ops::pointwise::{Kind, Pointwise};
use crate::plans::{Plans, PlansSpec};
use crate::recognise::Found;
use crate::view::{OutDim, Port};
use kernels::{Activation, BLOCK, FilterShape, Layout, Size2};
use tract_core::internal::*;

/// The fewest output channels of a transposed convolution that is computed in blocks.
const FEW_CHANNELS: usize = BLOCK / 2;

/// Whether the input and the output of a convolution are in blocks.
#[derive(Clone, Copy)]
struct Form {
    input: bool,
    output: bool,
}

/// What is done with the output of a convolution.
struct Finish {
    taps: Option<Size2>,
    /// The output of the last node.
    port: Port,
    dims: TVec<OutDim>,
    /// A scale and a shift per channel.
    after: Option<(Vec<f32>, Vec<f32>)>,
}

impl Rewrite<'_> {
    /// Adds a convolution with everything that was fused into it.
    pub(super) fn conv(&mut self, fused: Fused) -> TractResult<()> {
        let Fused { mut found, residual, activation, after, output } = fused;
        let after = after.filter(|(scale, shift)| !is_identity(scale, shift));
        let node = self.old.node(output.node);
        let label = label(&found, activation, residual.is_some(), after.is_some());
        let (channels, taps, form) = (found.channels(), found.taps, self.form(&found, output));
        let wires = self.inputs(&found, residual, form)?;
        // A convolution to few channels is interleaved as a plain tensor, which has no padding lanes.
        let tap_blocks = taps.is_some() && form.output && channels >= FEW_CHANNELS;
        if tap_blocks {
            pad_taps(&mut found);
        }
        let outs = found.shape.out_channels;
        let view = found.output_view;
        let finish = Finish {
            taps,
            port: Port { view, channels, blocked: if taps.is_some() { tap_blocks } else { form.output } },
            dims: found.dims.clone(),
            after,
        };
        let port = Port { view, channels: outs, blocked: form.output };
        let conv = self.operator(found, port, form, (activation, residual.is_some()), &label)?;
        let is_last = taps.is_none() && finish.after.is_none();
        let name = if is_last { node.name.clone() } else { self.name(&node.name, "conv") };
        let wire = self.new.wire_node(name, conv, &wires)?[0];
        let (blocked, blockable) = (finish.port.blocked, (view, channels));
        let wire = self.finish(node, wire, port, finish)?;
        if blocked {
            self.set_blocked(output, blockable, wire);
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
            dims: if found.taps.is_some() {
                OutDim::of_view(output.view, output.channels)
            } else {
                found.dims
            },
            residual,
            label: label.to_string(),
        })
    }

    /// Adds what follows the convolution: the copy of a transposed one, a scale and a shift.
    fn finish(
        &mut self,
        node: &TypedNode,
        mut wire: OutletId,
        conv: Port,
        finish: Finish,
    ) -> TractResult<OutletId> {
        let Finish { taps, port, dims, after } = finish;
        if let Some(taps) = taps {
            if conv.blocked && !port.blocked {
                wire = self.reorder(&node.name, wire, (conv.view, conv.channels), false)?;
            }
            let input = Port { blocked: port.blocked, ..conv };
            let op = Interleave { taps, input, output: port, dims };
            let is_last = after.is_none();
            let name = if is_last { node.name.clone() } else { self.name(&node.name, "interleave") };
            wire = self.new.wire_node(name, op, &[wire])?[0];
        }
        if let Some((scale, shift)) = after {
            let kind = Kind::ScaleShift { scale: scale.into(), shift: shift.into() };
            wire = self.new.wire_node(&node.name, Pointwise { kind, port }, &[wire])?[0];
        }
        Ok(wire)
    }

    /// Whether a convolution reads and makes tensors in blocks.
    fn form(&self, found: &Found, output: OutletId) -> Form {
        let input_can = found.input_view.can_block();
        let output_can = found.output_can_block();
        let value = self.values.get(&found.input);
        let seen = (found.input_view, found.shape.input_channels());
        let is_blocked = value.is_some_and(|value| value.blocked(seen).is_some());
        if !self.options.blocks || !input_can || !output_can {
            return Form { input: false, output: false };
        }
        let has_plain = value.is_some_and(|value| value.plain.is_some());
        let prefers = self.prefers_blocks(output);
        if is_blocked && (prefers || !has_plain) {
            return Form { input: true, output: true };
        }
        // Kernels of more than one pixel can read plain channels and write blocks.
        let mixed = !found.window.is_point() && found.shape.groups == 1;
        Form { input: prefers && !mixed, output: prefers }
    }
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
