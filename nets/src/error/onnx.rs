//! [`OnnxError`]: the byte, tensor or node of a model that is wrong, and why.

use super::NetError;
use std::fmt;
use std::path::PathBuf;
use thiserror::Error;

/// The reason why a model cannot be imported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The content of the model is wrong or unsupported.
    #[error("{origin}: {place}: {problem}")]
    Model {
        /// The file, or the source of the bytes.
        origin: String,
        /// The position in the model.
        place: Place,
        /// What was expected there and what was found.
        problem: String,
    },
    /// The model's file, or an external data file, cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        cause: std::io::Error,
    },
}

impl From<OnnxError> for NetError {
    fn from(error: OnnxError) -> Self {
        match error {
            OnnxError::Io { path, cause } => Self::Io { action: "read", path, cause },
            model => Self::Onnx(model),
        }
    }
}

/// A position in a model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// An offset in bytes from the start of the file.
    Byte(u64),
    /// A node.
    Node {
        /// The name of the node, or of its first output if it has none.
        name: String,
        /// The operator of the node.
        op: String,
    },
    /// An initializer or another tensor.
    Tensor(String),
    /// An input or output of the graph.
    Value(String),
    /// The whole model.
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
