//! [`Receptive`]: the part of the input that one output element of a layer depends on.

use crate::graph::{Graph, Node};
use crate::layer::{Layer, window};

/// The receptive field of a layer, along rows and columns. It can be larger than the image, as it includes
/// padding. Where branches meet, it is the smallest field that contains the fields of all branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receptive {
    /// Extent of the field of one output, in input elements.
    pub size: [u64; 2],
    /// Distance between the fields of neighbouring outputs, in input elements.
    pub jump: [u64; 2],
    /// Start of the first output's field; negative if it begins in the padding.
    pub offset: [i64; 2],
}

impl Receptive {
    /// The field of the input itself.
    const POINT: Self = Self { size: [1; 2], jump: [1; 2], offset: [0; 2] };

    /// The smallest field that contains both.
    fn union(self, other: Self) -> Self {
        let mut all = self;
        for axis in 0..2 {
            let (a, b) = (self.end(axis), other.end(axis));
            all.offset[axis] = self.offset[axis].min(other.offset[axis]);
            all.jump[axis] = self.jump[axis].max(other.jump[axis]);
            all.size[axis] = a.max(b).saturating_sub(all.offset[axis]).unsigned_abs();
        }
        all
    }

    fn end(&self, axis: usize) -> i64 {
        self.offset[axis].saturating_add(signed(self.size[axis]))
    }

    /// The field of a window over elements with this field.
    fn through(self, [reach, stride, before]: [[usize; 2]; 3]) -> Self {
        let mut field = self;
        for axis in 0..2 {
            let jump = self.jump[axis];
            let wider = (reach[axis] as u64 - 1).saturating_mul(jump);
            field.size[axis] = self.size[axis].saturating_add(wider);
            field.offset[axis] =
                self.offset[axis].saturating_sub(signed(jump.saturating_mul(before[axis] as u64)));
            field.jump[axis] = jump.saturating_mul(stride[axis] as u64);
        }
        field
    }
}

/// Saturates sizes beyond any image instead of wrapping.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The receptive field of each node.
pub(super) fn fields(graph: &Graph) -> Vec<Option<Receptive>> {
    let mut fields: Vec<Option<Receptive>> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        fields.push(field(graph, node, &fields));
    }
    fields
}

fn field(graph: &Graph, node: &Node, fields: &[Option<Receptive>]) -> Option<Receptive> {
    if let Layer::Input(_) = node.layer {
        return Some(Receptive::POINT);
    }
    let inputs: Option<Vec<Receptive>> = node.inputs.iter().map(|input| fields[input.index()]).collect();
    let all = inputs?.into_iter().reduce(Receptive::union)?;
    let window = window(&node.layer, graph.node(*node.inputs.first()?).output)?;
    let (reach, stride, before) = (window.reach, window.stride, window.before);
    Some(all.through([[reach.h, reach.w], [stride.h, stride.w], [before.h, before.w]]))
}
