//! Merges convolutions that read the same tensor in the same way, such as the 1x1 convolutions at the start
//! of an inception module. The merged convolution has the output channels of all. One matrix product with
//! many columns is faster than several with few, and the image is read only once.

use super::fuse::Fused;
use super::lower::{Arg, Op, Program, Work};
use super::storage::Value;
use crate::graph::{Graph, NodeId};
use crate::layer::{Conv, Layer};
use kernels::{Activation, Layout, Shape4};

/// The properties that merged convolutions must share.
#[derive(PartialEq)]
struct Key {
    read: Arg,
    layout: Layout,
    /// Without the attributes that can differ: output channels and bias.
    conv: Conv,
    activation: Activation,
}

/// Merges all convolutions that can be merged.
pub(super) fn merge(graph: &Graph, program: &mut Program) {
    let mut first = 0;
    while first < program.ops.len() {
        if let Some(key) = key(graph, program, &program.ops[first]) {
            let same = |&op: &usize| self::key(graph, program, &program.ops[op]).as_ref() == Some(&key);
            let members: Vec<usize> = (first..program.ops.len()).filter(same).collect();
            merge_members(program, &members);
        }
        first += 1;
    }
}

/// The key of an operation; `None` if it cannot be merged.
fn key(graph: &Graph, program: &Program, op: &Op) -> Option<Key> {
    let (Work::Layers(layers), &[read], Some(write)) = (&op.work, &op.reads[..], op.write) else {
        return None;
    };
    let [Fused { nodes, residual: None, activation, .. }] = &layers[..] else { return None };
    let Layer::Conv(conv) = graph.node(nodes[0]).layer else { return None };
    let Value { shape, layout } = program.storages.value(write);
    // The output of the network is the caller's memory and cannot be shared.
    let own = program.output_in(program.storages.of(write)).is_none()
        && (program.batch == 1 || !program.storages.is_pinned(write));
    let fits = layout == Layout::Nchw || shape.c.is_multiple_of(super::layout::BLOCK);
    let activation = activation.map_or(Activation::None, |(_, activation)| activation);
    let possible = conv.groups == 1 && fits && activation != Activation::PRelu && own;
    let conv = Conv { out_channels: 0, bias: false, ..conv };
    possible.then_some(Key { read, layout, conv, activation })
}

/// Makes the outputs adjacent where possible, and replaces the operations that write them by one.
fn merge_members(program: &mut Program, members: &[usize]) {
    let written = |op: usize| program.ops[op].write.expect("it has a key");
    let one_image = program.batch == 1;
    let (free, bound): (Vec<usize>, Vec<usize>) =
        members.iter().copied().partition(|&op| program.storages.is_alone(written(op)));
    // A member at the edge of a concatenation can have the others next to it. This works only for one image: with
    // several, the others would lie between the images of the concatenation, and their readers could not write there.
    let at_edge = |&op: &usize| program.storages.is_at_edge(written(op));
    let anchor = bound.into_iter().map(|op| (op, at_edge(&op))).find(|&(_, (low, high))| low || high);
    let anchor = anchor.filter(|_| one_image);
    let mut chosen = free;
    match anchor {
        Some((op, (true, _))) => chosen.push(op),
        Some((op, _)) => chosen.insert(0, op),
        None => {}
    }
    let [start, .., _] = chosen[..] else { return };
    let values: Vec<usize> = chosen.iter().map(|&op| written(op)).collect();
    let channels = |value: &usize| program.storages.value(*value).shape.c;
    let total = values.iter().map(channels).sum();
    let Value { shape, layout } = program.storages.value(values[0]);
    let whole = program.storages.add(Value { shape: Shape4 { c: total, ..shape }, layout });
    let mut channel = 0;
    for &value in &values {
        program.storages.join(value, whole, channel);
        channel += program.storages.value(value).shape.c as isize;
    }
    let (reads, place) = (program.ops[start].reads.clone(), members[0]);
    let layers = chosen.iter().flat_map(|&op| match &program.ops[op].work {
        Work::Layers(layers) => layers.clone(),
        _ => Vec::new(),
    });
    let (layers, node): (Vec<Fused>, NodeId) = (layers.collect(), program.ops[start].node);
    let mut index = 0;
    program.ops.retain(|_| {
        index += 1;
        !chosen.contains(&(index - 1))
    });
    let op = Op { work: Work::Layers(layers), node, reads, write: Some(whole) };
    program.ops.insert(place.min(program.ops.len()), op);
}
