//! The messages of onnx.proto that an export needs, written field by field.

/// `TensorProto.DataType`.
pub(super) const FLOAT: u64 = 1;
pub(super) const INT64: u64 = 7;

/// A protocol buffers message under construction: a sequence of fields with a number, a wire type and a value.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(super) fn int(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    pub(super) fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Starts a field whose `len` bytes the caller writes.
    pub(super) fn opened(mut self, field: u64, len: u64) -> Self {
        self.varint(field << 3 | 2);
        self.varint(len);
        self
    }

    pub(super) fn bytes(self, field: u64, bytes: &[u8]) -> Self {
        let mut message = self.opened(field, bytes.len() as u64);
        message.0.extend_from_slice(bytes);
        message
    }

    pub(super) fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub(super) fn message(self, field: u64, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }
}

/// The value of an `AttributeProto`.
#[derive(Debug, Clone)]
pub(super) enum Attribute {
    Float(f32),
    Int(usize),
    Ints(Vec<usize>),
}

/// A `NodeProto` with the name of its output.
pub(super) fn node(op: &str, inputs: &[&str], output: &str, attributes: &[(&str, Attribute)]) -> Message {
    let node = inputs.iter().fold(Message::default(), |node, input| node.text(1, input));
    let node = node.text(2, output).text(3, output).text(4, op);
    attributes.iter().fold(node, |node, (name, value)| node.message(5, &attribute(name, value)))
}

fn attribute(name: &str, value: &Attribute) -> Message {
    let named = Message::default().text(1, name);
    match value {
        Attribute::Float(value) => named.float(2, *value).int(20, 1),
        Attribute::Int(value) => named.int(3, *value as u64).int(20, 2),
        Attribute::Ints(values) => {
            values.iter().fold(named, |message, &value| message.int(8, value as u64)).int(20, 7)
        }
    }
}

/// A `ValueInfoProto` of an `f32` tensor.
pub(super) fn value(name: &str, dims: &[usize]) -> Message {
    let dim = |shape: Message, &extent: &usize| shape.message(1, &Message::default().int(1, extent as u64));
    let shape = dims.iter().fold(Message::default(), dim);
    let tensor = Message::default().int(1, FLOAT).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}

/// A `TensorProto` up to its last field, the `len` bytes of its elements.
pub(super) fn tensor(name: &str, dims: &[usize], dtype: u64, len: u64) -> Message {
    let tensor = dims.iter().fold(Message::default(), |tensor, &extent| tensor.int(1, extent as u64));
    tensor.int(2, dtype).text(8, name).opened(9, len)
}
