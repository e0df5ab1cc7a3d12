//! Lowers operators on tensors: their operands are rows of elements without gaps.

use super::blockwise::blockwise;
use super::fuse::Fused;
use super::layout::has_no_padding;
use super::lower::{Arg, Lowering, Op, Seen, Work};
use super::storage::Value;
use crate::graph::{Node, NodeId};
use crate::layer::TensorLayer;
use crate::shape::Shape;
use kernels::{Layout, Shape4};

impl Lowering<'_> {
    /// The value of an operator's output. It is in blocks of channels if the operator runs on blocks.
    pub(super) fn operator(
        &mut self,
        (id, node): (NodeId, &Node),
        tensor: &TensorLayer,
        (fused, shape): (&Fused, Shape),
    ) -> usize {
        let layout = if self.runs_on_blocks(node, tensor) { Layout::Nchw16c } else { Layout::Nchw };
        let mut reads: Vec<Arg> = node.inputs.iter().map(|&id| self.row(self.at(id), layout)).collect();
        if let Some([columns, _]) = tensor.trained_matrix() {
            // The rows of the product are the pixels of one image, as for a fully connected layer.
            let row = Shape4::new(1, columns, 1, reads[0].shape.w / columns);
            reads[0] = Arg { shape: row, layout: Layout::Nhwc, ..reads[0] };
        }
        let write = self.storages.add(Value { shape: shape.batched(self.batch), layout });
        self.storages.pin(write);
        self.ops.push(Op { work: Work::Layers(vec![fused.clone()]), node: id, reads, write: Some(write) });
        write
    }

    /// Whether an operator runs on blocks of channels: it can, and all of its maps are in blocks already. A map of one pixel is
    /// in both layouts.
    fn runs_on_blocks(&self, node: &Node, tensor: &TensorLayer) -> bool {
        let is_pixel = |value: Value| value.shape.h == 1 && value.shape.w == 1;
        let values = || node.inputs.iter().map(|&id| self.storages.value(self.at(id).value));
        let in_blocks = values().all(|value| value.layout == Layout::Nchw16c || is_pixel(value));
        let shapes = self.graph.input_shapes(node);
        in_blocks && !values().all(is_pixel) && blockwise(tensor, &shapes, self.batch).is_some()
    }

    /// The elements of `seen` in the order of a layout and without gaps, as one row. In blocks of channels, all blocks are full.
    fn row(&mut self, seen: Seen, layout: Layout) -> Arg {
        let arg = self.demand(seen, layout);
        let value = self.packed(arg.value, layout);
        let Shape4 { n, c, h, w } = arg.shape;
        Arg { value, shape: Shape4::new(1, 1, 1, n * c * h * w), layout: Layout::Nchw }
    }

    /// The value, or a copy of it in a layout, without gaps between its images, which stays so.
    pub(super) fn packed(&mut self, value: usize, layout: Layout) -> usize {
        let held = self.storages.value(value);
        let is_plain = held.layout == Layout::Nchw || has_no_padding(held.shape);
        let is_whole = held.shape.n == 1 || self.storages.is_alone(value);
        let value = match is_plain && is_whole {
            true => value,
            false => self.copy(Arg { value, shape: held.shape, layout: held.layout }, layout),
        };
        self.storages.pin(value);
        value
    }
}
