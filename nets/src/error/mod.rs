//! [`NetError`]: which layer, tensor or file was wrong, what was expected, what was got.

mod onnx;

use crate::shape::Shape;
use kernels::ConvError;
pub use onnx::{OnnxError, Place};
use std::path::PathBuf;
use thiserror::Error;

/// Every way in which a call of this library can fail. Each message is one line and complete: it includes its cause.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NetError {
    /// A layer does not fit where it was put, or the kernels refuse it.
    #[error("layer `{layer}`: {problem}")]
    Layer {
        /// The name of the layer.
        layer: String,
        /// What is wrong with it.
        problem: LayerError,
    },
    /// A graph without a layer.
    #[error("network `{network}`: expected at least one layer, got none")]
    NoLayers {
        /// The name of the graph.
        network: String,
    },
    /// A count does not fit 64 bits.
    #[error("layer `{layer}`: expected a number of {what} that fits 64 bits, got an overflow")]
    CountOverflow {
        /// The layer at which it happens.
        layer: String,
        /// What was being counted.
        what: &'static str,
    },
    /// More memory would be needed than is allowed.
    #[error("{what}: expected at most {} (the memory limit), got {}", bytes(*limit), bytes(*needed))]
    TooLarge {
        /// What would be allocated.
        what: String,
        /// Bytes allowed.
        limit: u64,
        /// Bytes needed, `u64::MAX` if they cannot be counted.
        needed: u64,
    },
    /// The input of a forward pass has the wrong number of elements.
    #[error("input: expected {expected} elements ({batch} x {shape}), got {got}")]
    InputLen {
        /// Images that the network was planned for.
        batch: usize,
        /// The shape of each.
        shape: Shape,
        /// Elements needed.
        expected: usize,
        /// Elements given.
        got: usize,
    },
    /// The output of a forward pass has the wrong number of elements.
    #[error("output: expected {expected} elements ({batch} x {shape}), got {got}")]
    OutputLen {
        /// Images that the network was planned for.
        batch: usize,
        /// The shape of each output.
        shape: Shape,
        /// Elements needed.
        expected: usize,
        /// Elements given.
        got: usize,
    },
    /// The memory of a forward pass is that of a smaller network.
    #[error(
        "memory: expected at least {expected} elements of {what} (`memory()` of this network), got {got}"
    )]
    MemoryLen {
        /// Which part of it.
        what: &'static str,
        /// Elements needed.
        expected: usize,
        /// Elements there are.
        got: usize,
    },
    /// An option that makes no sense.
    #[error("{option}: expected {expected}, got {got}")]
    Option {
        /// The option.
        option: &'static str,
        /// What it may be.
        expected: String,
        /// What it was.
        got: String,
    },
    /// A name that is not in the zoo.
    #[error("network: expected one of {known}, got `{name}`{hint}")]
    UnknownNetwork {
        /// What was asked for.
        name: String,
        /// The names there are, with commas.
        known: String,
        /// `", did you mean ...?"`, or nothing.
        hint: String,
    },
    /// The kernels refuse, outside of any layer.
    #[error(transparent)]
    Kernel(#[from] ConvError),
    /// Trained weights are not those of the network.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A model of another tool cannot be imported.
    #[error(transparent)]
    Onnx(OnnxError),
    /// A tensor file cannot be used.
    #[error("{origin}: expected an .npy file of little-endian f32 in C order, got {reason}")]
    Npy {
        /// The file.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A picture cannot be used.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// `"read"` or `"write"`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
}

/// What is wrong with a layer.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The kernels refuse it.
    #[error(transparent)]
    Kernel(#[from] ConvError),
    /// It cannot take such an input.
    #[error("expected {expected} as input, got {got}")]
    Input {
        /// What it takes.
        expected: &'static str,
        /// The shape that it was given.
        got: Shape,
    },
    /// Its inputs do not fit each other.
    #[error("expected {what}, got {a} and {b}")]
    Differ {
        /// How they should fit.
        what: &'static str,
        /// The shape of the first.
        a: Shape,
        /// The shape of the one that does not fit it.
        b: Shape,
    },
    /// It can be counted but not be run.
    #[error("expected a layer that can be run, got `{op}`, which can only be counted")]
    NoKernel {
        /// What it is called.
        op: String,
    },
    /// It cannot be exported.
    #[error("expected a layer that is an operator of ONNX, got `{op}`")]
    NoOperator {
        /// What it is called.
        op: String,
    },
    /// It has the wrong number of inputs.
    #[error("expected {expected} inputs, got {got}")]
    Arity {
        /// Inputs that it takes: `1`, `at least 1`.
        expected: String,
        /// Inputs that it was given.
        got: usize,
    },
    /// The weights are those of another network.
    #[error("expected a tensor `{tensor}` of its shape among the weights, got those of network `{network}`")]
    NoWeights {
        /// The tensor.
        tensor: String,
        /// The network that the weights are of.
        network: String,
    },
    /// Another layer has this name already.
    #[error("expected a name that no other layer has")]
    DuplicateName,
    /// It is to read a node that comes later or belongs to another graph.
    #[error("expected inputs among the {nodes} nodes before it, got number {got}")]
    UnknownInput {
        /// Nodes so far.
        nodes: usize,
        /// The number of the node asked for.
        got: usize,
    },
}

/// What is wrong with a set of weights.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// Not a safetensors file.
    #[error("{origin}: expected a safetensors file, got {reason}")]
    Format {
        /// The file, or where the bytes come from.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file ends before its last tensor, or goes on after it.
    #[error("{origin}: expected {expected} bytes (as its header says), got {got}")]
    FileLen {
        /// The file, or where the bytes come from.
        origin: String,
        /// Bytes by the header.
        expected: u64,
        /// Bytes there are.
        got: u64,
    },
    /// A tensor that the network needs is not there.
    #[error("{origin}: tensor `{tensor}`: expected shape {expected:?}, got no such tensor")]
    Missing {
        /// The file, or where the bytes come from.
        origin: String,
        /// The tensor.
        tensor: String,
        /// Its shape.
        expected: Vec<usize>,
    },
    /// A tensor that the network does not have.
    #[error(
        "{origin}: tensor `{tensor}`: expected only the tensors of network `{network}`, got this one too"
    )]
    Unknown {
        /// The file, or where the bytes come from.
        origin: String,
        /// The tensor.
        tensor: String,
        /// The network.
        network: String,
    },
    /// A tensor has another shape.
    #[error("{origin}: tensor `{tensor}`: expected shape {expected:?}, got {got:?}")]
    Shape {
        /// The file, or where the bytes come from.
        origin: String,
        /// The tensor.
        tensor: String,
        /// The shape of the network's.
        expected: Vec<usize>,
        /// The shape found.
        got: Vec<usize>,
    },
    /// A tensor has another element type.
    #[error("{origin}: tensor `{tensor}`: expected element type F32, got {got}")]
    Dtype {
        /// The file, or where the bytes come from.
        origin: String,
        /// The tensor.
        tensor: String,
        /// The element type found.
        got: String,
    },
}

/// Why a picture cannot be read as a digit.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum PictureError {
    /// Not an image, or a damaged one.
    #[error("{origin}: expected a picture (PNG, JPEG, GIF, BMP, WebP or PNM), got {reason}")]
    Decode {
        /// The file, or where the bytes come from.
        origin: String,
        /// What the decoder says.
        reason: String,
    },
    /// Nothing is drawn on it.
    #[error("{origin}: expected a digit that stands out from its background, got an even picture")]
    Blank {
        /// The file, or where the bytes come from.
        origin: String,
    },
}

impl NetError {
    /// Ties what went wrong to the layer where it did.
    pub(crate) fn layer(layer: &str, problem: impl Into<LayerError>) -> Self {
        Self::Layer { layer: layer.to_owned(), problem: problem.into() }
    }
}

/// `123 bytes`, `4.0 GiB`: for messages.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} bytes");
    }
    let power = (n.ilog2() / 10).min(6);
    format!("{:.1} {}", n as f64 / (1u64 << (10 * power)) as f64, UNITS[power as usize - 1])
}
