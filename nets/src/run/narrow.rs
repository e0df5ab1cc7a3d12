//! Tensors of bf16 numbers between convolutions that compute with them.
//!
//! At the level `bf16`, a convolution that multiplies bf16 numbers rounds its input first. If all readers of a
//! tensor do that, its writer rounds it once: the tensor is half as large, and a 1x1 convolution reads it in
//! place. Sums stay `f32`.

use super::lower::{Op, Program, Work};
use crate::graph::Graph;
use crate::layer::{Conv, Layer};
use kernels::{
    Activation, Algorithm, ConvDesc, ConvPlan, EpilogueSpec, Isa, Layout, Numerics, PlanOptions, Products,
};

/// Channels of a block of bf16 numbers.
const WIDE_BLOCK: usize = 32;

/// Gives every tensor that can hold bf16 numbers their layout.
pub(super) fn narrow(graph: &Graph, program: &mut Program, options: &PlanOptions) {
    let isa = options.isa.unwrap_or_else(Isa::detect);
    if options.numerics < Numerics::Bf16 || !isa.products().contains(&Products::Bf16) {
        return;
    }
    let rounds: Vec<bool> = program.ops.iter().map(|op| rounds_input(graph, program, op, options)).collect();
    let written =
        program.ops.iter().zip(&rounds).filter(|(_, rounds)| **rounds).filter_map(|(op, _)| op.write);
    let narrow: Vec<usize> = written.filter(|&value| can_be_narrow(program, &rounds, value)).collect();
    for value in narrow {
        program.storages.set_layout(value, Layout::Nchw32cBf16);
        for arg in program.ops.iter_mut().flat_map(|op| &mut op.reads).filter(|arg| arg.value == value) {
            arg.layout = Layout::Nchw32cBf16;
        }
    }
}

/// Whether `value`, which such a convolution writes, is read only by such convolutions.
fn can_be_narrow(program: &Program, rounds: &[bool], value: usize) -> bool {
    let storages = &program.storages;
    let held = storages.value(value);
    let fits = held.layout == Layout::Nchw16c && held.shape.c.is_multiple_of(WIDE_BLOCK);
    let own = storages.is_alone(value) && program.output_in(storages.of(value)).is_none();
    let shares = |other: usize| other != value && storages.of(other) == storages.of(value);
    let reads_it = |op: &Op| op.reads.iter().any(|arg| arg.value == value);
    let is_fine = |(op, rounds): (&Op, &bool)| {
        let others = op.write.into_iter().chain(op.reads.iter().map(|arg| arg.value));
        let as_it_is = op
            .reads
            .iter()
            .all(|arg| arg.value != value || (arg.shape, arg.layout) == (held.shape, held.layout));
        (!reads_it(op) || *rounds) && as_it_is && !others.into_iter().any(shares)
    };
    fits && own && program.ops.iter().zip(rounds).all(is_fine)
}

/// Whether an operation is a convolution that multiplies bf16 numbers and can read and write them.
fn rounds_input(graph: &Graph, program: &Program, op: &Op, options: &PlanOptions) -> bool {
    let Some(desc) = desc(graph, program, op) else { return false };
    let Ok(choice) = ConvPlan::choice(&desc, options) else { return false };
    let has_bf16_tensors = matches!(choice.method.algorithm, Algorithm::Direct | Algorithm::Pointwise);
    choice.method.products == Products::Bf16 && has_bf16_tensors && desc.groups() == 1
}

/// The descriptor of a convolution in blocks of 16 channels. Merged convolutions are one.
fn desc(graph: &Graph, program: &Program, op: &Op) -> Option<ConvDesc> {
    let (Work::Layers(layers), Some(write)) = (&op.work, op.write) else { return None };
    let read = op.reads.first()?;
    let Layer::Conv(conv) = graph.node(layers.first()?.nodes[0]).layer else { return None };
    let output = program.storages.value(write);
    let conv = Conv { out_channels: output.shape.c, ..conv };
    let residual = layers[0].residual.is_some();
    let epilogue = EpilogueSpec { bias: true, residual, activation: Activation::Relu };
    conv.desc_with(read.shape, (read.layout, output.layout), epilogue).ok()
}
