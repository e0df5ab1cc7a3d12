//! [`OnnxError`]: which byte, tensor or node of a model is wrong, and how.

use std::fmt;
use thiserror::Error;

/// Why a model cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{origin}: {place}: {problem}")]
pub struct OnnxError {
    /// The file, or where the bytes come from.
    pub origin: String,
    /// Where in it.
    pub place: Place,
    /// What was expected there and what was found.
    pub problem: String,
}

/// A place in a model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// So many bytes from the start of the file.
    Byte(u64),
    /// A node: its name (or its first output, if it has none) and its operator.
    Node {
        /// The name.
        name: String,
        /// The operator.
        op: String,
    },
    /// An initializer or another tensor.
    Tensor(String),
    /// An input or output of the graph.
    Value(String),
    /// The model as a whole.
    Model,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte(at) => write!(f, "byte {at}"),
            Self::Node { name, op } => write!(f, "node `{name}` ({op})"),
            Self::Tensor(name) => write!(f, "tensor `{name}`"),
            Self::Value(name) => write!(f, "value `{name}`"),
            Self::Model => f.write_str("model"),
        }
    }
}
