//! [`OnnxError`]: which byte, tensor or node of a model is wrong, and how.

use super::NetError;
use std::fmt;
use std::path::PathBuf;
use thiserror::Error;

/// Why a model cannot be imported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// Something in it is not as it should be.
    #[error("{origin}: {place}: {problem}")]
    Model {
        /// The file, or where the bytes come from.
        origin: String,
        /// Where in it.
        place: Place,
        /// What was expected there and what was found.
        problem: String,
    },
    /// Its file, or one beside it, cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
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
