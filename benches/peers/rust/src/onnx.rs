//! One convolution as an ONNX model: the few messages of onnx.proto that it takes, written field by field.

use crate::layer::Layer;

/// What `TensorProto.DataType` calls an f32.
const FLOAT: u64 = 1;
/// What `AttributeProto.AttributeType` calls an integer, and a list of them.
const INT: u64 = 2;
const INTS: u64 = 7;

/// A protobuf message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn numbers(self, field: u64, values: &[usize]) -> Self {
        values.iter().fold(self, |message, &value| message.number(field, value as u64))
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(self, field: u64, message: Message) -> Self {
        self.bytes(field, &message.0)
    }
}

/// The bytes of a model from `x` to `y`, whose filter is a constant.
pub fn model(layer: &Layer) -> Vec<u8> {
    let [_, _, kh, kw] = layer.filter_shape;
    let node = Message::default()
        .text(1, "x")
        .text(1, "filter")
        .text(2, "y")
        .text(3, "conv")
        .text(4, "Conv")
        .message(5, list("kernel_shape", &[kh, kw]))
        .message(5, list("strides", &[layer.stride; 2]))
        .message(5, list("pads", &[layer.pad; 4]))
        .message(5, list("dilations", &[layer.dilation; 2]))
        .message(5, Message::default().text(1, "group").number(3, layer.groups as u64).number(20, INT));
    let raw: Vec<u8> = layer.filter.iter().flat_map(|value| value.to_le_bytes()).collect();
    let filter =
        Message::default().numbers(1, &layer.filter_shape).number(2, FLOAT).text(8, "filter").bytes(9, &raw);
    let [n, _, h, w] = layer.input_shape;
    let output = |len: usize, kernel: usize| {
        (len + 2 * layer.pad - layer.dilation * (kernel - 1) - 1) / layer.stride + 1
    };
    let graph = Message::default()
        .message(1, node)
        .text(2, "layer")
        .message(5, filter)
        .message(11, value("x", &layer.input_shape))
        .message(12, value("y", &[n, layer.filter_shape[0], output(h, kh), output(w, kw)]));
    let opset = Message::default().text(1, "").number(2, 17);
    Message::default().number(1, 8).message(7, graph).message(8, opset).0
}

fn list(name: &str, values: &[usize]) -> Message {
    Message::default().text(1, name).numbers(8, values).number(20, INTS)
}

fn value(name: &str, shape: &[usize]) -> Message {
    let extents = shape.iter().map(|&extent| Message::default().number(1, extent as u64));
    let shape = extents.fold(Message::default(), |shape, extent| shape.message(1, extent));
    let tensor = Message::default().number(1, FLOAT).message(2, shape);
    Message::default().text(1, name).message(2, Message::default().message(1, tensor))
}
