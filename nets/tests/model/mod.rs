//! Builds ONNX models node by node, for import tests.
#![allow(dead_code)] // each test uses a part

/// A protocol buffers message: fields with a number, a wire type and a value.
#[derive(Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
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

    fn message(self, field: u64, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }
}

/// The value of an attribute.
pub enum Attribute<'a> {
    Int(i64),
    Float(f32),
    Text(&'a str),
    Ints(&'a [i64]),
    Floats(&'a [f32]),
}

/// A known extent, or the name of a symbolic one.
#[derive(Clone, Copy)]
pub enum Extent<'a> {
    Is(i64),
    Named(&'a str),
}

impl From<i64> for Extent<'_> {
    fn from(extent: i64) -> Self {
        Self::Is(extent)
    }
}

impl<'a> From<&'a str> for Extent<'a> {
    fn from(name: &'a str) -> Self {
        Self::Named(name)
    }
}

/// Converts `[N, 3, 4]` to extents: numbers and names.
#[macro_export]
macro_rules! extents {
    ($($extent:expr),*) => { &[$($crate::model::Extent::from($extent)),*] };
}

/// A model under construction, with one graph and float tensors.
pub struct Model {
    opset: i64,
    graph: Message,
}

impl Model {
    /// A model with an input `x` of these extents.
    pub fn new(opset: i64, input: &[Extent<'_>]) -> Self {
        Self::empty(opset).value(11, "x", Some(input))
    }

    /// A model without inputs.
    pub fn empty(opset: i64) -> Self {
        Self { opset, graph: Message::default() }
    }

    fn value(mut self, field: u64, name: &str, extents: Option<&[Extent<'_>]>) -> Self {
        let extent = |extent: &Extent<'_>| match *extent {
            Extent::Is(extent) => Message::default().int(1, extent),
            Extent::Named(name) => Message::default().text(2, name),
        };
        let mut tensor = Message::default().int(1, 1);
        if let Some(extents) = extents {
            let shape = extents.iter().fold(Message::default(), |shape, dim| shape.message(1, &extent(dim)));
            tensor = tensor.message(2, &shape);
        }
        let info = Message::default().text(1, name).message(2, &Message::default().message(1, &tensor));
        self.graph = self.graph.message(field, &info);
        self
    }

    /// Adds another input.
    pub fn input(self, name: &str, extents: &[Extent<'_>]) -> Self {
        self.value(11, name, Some(extents))
    }

    /// Records the extents of an intermediate value, as exporters do.
    pub fn info(self, name: &str, extents: &[Extent<'_>]) -> Self {
        self.value(13, name, Some(extents))
    }

    fn tensor(name: &str, dims: &[i64], dtype: i64, raw: &[u8]) -> Message {
        let dims = dims.iter().fold(Message::default(), |tensor, &dim| tensor.int(1, dim));
        dims.int(2, dtype).text(8, name).bytes(9, raw)
    }

    /// Adds a tensor of floats.
    pub fn floats(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        assert_eq!(dims.iter().product::<i64>(), values.len() as i64, "{name}");
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.graph = self.graph.message(5, &Self::tensor(name, dims, 1, &raw));
        self
    }

    /// Adds a tensor with the same value in every element.
    pub fn filled(self, name: &str, dims: &[i64], value: f32) -> Self {
        self.floats(name, dims, &vec![value; dims.iter().product::<i64>() as usize])
    }

    /// Adds a vector of integers.
    pub fn ints(self, name: &str, values: &[i64]) -> Self {
        self.ints_of(name, &[values.len() as i64], values)
    }

    /// Adds a tensor of integers.
    pub fn ints_of(mut self, name: &str, dims: &[i64], values: &[i64]) -> Self {
        assert_eq!(dims.iter().product::<i64>(), values.len() as i64, "{name}");
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.graph = self.graph.message(5, &Self::tensor(name, dims, 7, &raw));
        self
    }

    /// Adds a boolean scalar.
    pub fn truth(self, name: &str, value: bool) -> Self {
        self.truths(name, &[], &[value])
    }

    /// Adds a tensor of truth values.
    pub fn truths(mut self, name: &str, dims: &[i64], values: &[bool]) -> Self {
        assert_eq!(dims.iter().product::<i64>(), values.len() as i64, "{name}");
        let raw: Vec<u8> = values.iter().map(|&value| value.into()).collect();
        self.graph = self.graph.message(5, &Self::tensor(name, dims, 9, &raw));
        self
    }

    /// Adds a node, named after its first output.
    pub fn node(self, op: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        self.node_with(op, inputs, outputs, &[])
    }

    pub fn node_with(
        mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, Attribute<'_>)],
    ) -> Self {
        let node = inputs.iter().fold(Message::default(), |node, name| node.text(1, name));
        let node = outputs.iter().fold(node, |node, name| node.text(2, name));
        let node = node.text(3, &format!("{}_{op}", outputs[0])).text(4, op);
        let node = attributes.iter().fold(node, |node, (name, value)| {
            let named = Message::default().text(1, name);
            let attribute = match value {
                Attribute::Float(value) => named.float(2, *value).int(20, 1),
                Attribute::Int(value) => named.int(3, *value).int(20, 2),
                Attribute::Text(value) => named.text(4, value).int(20, 3),
                Attribute::Ints(values) => {
                    values.iter().fold(named, |named, &value| named.int(8, value)).int(20, 7)
                }
                Attribute::Floats(values) => {
                    values.iter().fold(named, |named, &value| named.float(7, value)).int(20, 6)
                }
            };
            node.message(5, &attribute)
        });
        self.graph = self.graph.message(1, &node);
        self
    }

    /// The bytes of the model with these outputs.
    pub fn outputs(self, names: &[&str]) -> Vec<u8> {
        let opset = Message::default().text(1, "").int(2, self.opset);
        let named = names.iter().fold(self, |model, name| model.value(12, name, None));
        let graph = named.graph.text(2, "made");
        Message::default().int(1, 8).message(7, &graph).message(8, &opset).0
    }

    /// The model with output `y` and one more tensor of floats, whose elements are the rest of the file: the bytes before
    /// them, and the length of the file.
    pub fn ending_in(self, name: &str, dims: &[i64]) -> (Vec<u8>, u64) {
        let elements = 4 * dims.iter().product::<i64>() as u64;
        // A field of this many bytes, of which only the first ones are written.
        let open = |message: Message, field: u64, begun: &Message, rest: u64| {
            let mut message = message;
            message.varint(field << 3 | 2);
            message.varint(begun.0.len() as u64 + rest);
            message.0.extend_from_slice(&begun.0);
            message
        };
        let opset = Message::default().text(1, "").int(2, self.opset);
        let tensor = dims.iter().fold(Message::default(), |tensor, &dim| tensor.int(1, dim));
        let tensor = open(tensor.int(2, 1).text(8, name), 9, &Message::default(), elements);
        let graph = open(self.value(12, "y", None).graph.text(2, "made"), 5, &tensor, elements);
        let model = open(Message::default().int(1, 8).message(8, &opset), 7, &graph, elements);
        let length = model.0.len() as u64 + elements;
        (model.0, length)
    }

    /// The bytes of the model with output `y`.
    pub fn done(self) -> Vec<u8> {
        self.outputs(&["y"])
    }
}
