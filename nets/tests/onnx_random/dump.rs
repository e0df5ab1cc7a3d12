//! A readable text of a graph.

use super::{Draw, Kind, Origin, Value};
use std::fmt;

/// The name of a value in the ONNX file.
pub fn name(id: usize) -> String {
    format!("v{id}")
}

/// Extents and, of small tensors, elements.
fn tensor(f: &mut fmt::Formatter<'_>, value: &Value) -> fmt::Result {
    write!(f, "{:?} {:?}{}", value.kind, value.dims, if value.exact { " exact" } else { "" })?;
    if value.len() <= 24 { write!(f, " {:?}", value.data) } else { Ok(()) }
}

impl fmt::Display for Draw<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "opset {}", self.opset)?;
        for (id, (origin, value)) in self.values.iter().enumerate() {
            if matches!(origin, Origin::Input | Origin::Constant) {
                write!(f, "{} = {origin:?} ", name(id))?;
                tensor(f, value)?;
                writeln!(f)?;
            }
        }
        for node in &self.nodes {
            let inputs: Vec<String> =
                node.inputs.iter().map(|id| id.map_or_else(|| "-".to_owned(), name)).collect();
            writeln!(f, "{}({}) {:?}", node.op, inputs.join(", "), node.attrs)?;
            for &id in &node.outputs {
                write!(f, "    -> {} ", name(id))?;
                tensor(f, &self.values[id].1)?;
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// The number of an element type in ONNX.
pub const fn dtype(kind: Kind) -> i64 {
    match kind {
        Kind::Float => 1,
        Kind::Whole => 7,
        Kind::Truth => 9,
    }
}
