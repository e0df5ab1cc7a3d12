//! The lifetimes of activations, and the memory that a forward pass needs at every layer.

use super::{F32, overflow};
use crate::error::NetError;
use crate::graph::Graph;
use crate::shape::Shape;

/// For each node, the bytes of all activations that are live while it runs: its inputs, its output, and
/// whatever later nodes read. A layer that only passes on its input shares its memory. Nothing is computed in
/// place. The output of a node without readers is kept to the end.
pub(super) fn live(graph: &Graph, batch: u64) -> Result<Vec<u64>, NetError> {
    let (owners, last) = (owners(graph), last_uses(graph));
    let mut freed = vec![Vec::new(); graph.nodes().len()];
    for (owner, &last) in last.iter().enumerate().filter(|&(owner, _)| owners[owner] == owner) {
        freed[last].push(owner);
    }
    let (mut now, mut live) = (0u64, Vec::with_capacity(graph.nodes().len()));
    let size = |index: usize| bytes(graph.nodes()[index].output, batch);
    for (index, node) in graph.nodes().iter().enumerate() {
        let written = if owners[index] == index { size(index) } else { Some(0) };
        let sum = written.and_then(|written| now.checked_add(written));
        now = sum.ok_or_else(|| overflow(node, "activation bytes"))?;
        live.push(now);
        // Cannot fail: each of these sizes was added before.
        now -= freed[index].iter().map(|&owner| size(owner).unwrap_or(0)).sum::<u64>();
    }
    Ok(live)
}

/// For each node, the node that owns the memory of its output. It differs from the node itself for layers
/// that only pass on their input.
pub(crate) fn owners(graph: &Graph) -> Vec<usize> {
    let mut owners: Vec<usize> = Vec::with_capacity(graph.nodes().len());
    for (index, node) in graph.nodes().iter().enumerate() {
        let owner = node.inputs.first().filter(|_| node.layer.is_view());
        owners.push(owner.map_or(index, |input| owners[input.index()]));
    }
    owners
}

/// For each owner, the last node that reads its memory, or the last node of the graph if the memory holds an output.
fn last_uses(graph: &Graph) -> Vec<usize> {
    let (owners, end) = (owners(graph), graph.nodes().len() - 1);
    let mut last: Vec<usize> = (0..graph.nodes().len()).collect();
    for ((id, node), readers) in graph.ids().zip(graph.consumers()) {
        for input in &node.inputs {
            let last = &mut last[owners[input.index()]];
            *last = id.index().max(*last);
        }
        if readers.is_empty() || graph.outputs().contains(&id) {
            last[owners[id.index()]] = end;
        }
    }
    last
}

/// Bytes of `batch` activations of this shape.
pub(super) fn bytes(shape: Shape, batch: u64) -> Option<u64> {
    let elements = |elements: Result<usize, kernels::ConvError>| u64::try_from(elements.ok()?).ok();
    let all = match shape {
        Shape::Tensor(_) => elements(shape.elements(usize::try_from(batch).ok()?))?,
        _ => elements(shape.len())?.checked_mul(batch)?,
    };
    all.checked_mul(F32)
}
