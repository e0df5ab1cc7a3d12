//! [`NetError`]: the layer, tensor or file that was wrong, what was expected, and what was given.

mod onnx;

use crate::shape::Shape;
use kernels::{ConvError, PackedError};
pub use onnx::{OnnxError, Place};
use std::path::PathBuf;
use thiserror::Error;

/// The error type of this library. Each message is one complete line that includes its cause.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NetError {
    /// A layer does not fit its inputs, or the kernels reject it.
    #[error("layer `{layer}`: {problem}")]
    Layer {
        /// The name of the layer.
        layer: String,
        /// What is wrong with the layer.
        problem: LayerError,
    },
    /// The graph has no layers.
    #[error("network `{network}`: expected at least one layer, got none")]
    NoLayers {
        /// The name of the graph.
        network: String,
    },
    /// A count overflows 64 bits.
    #[error("layer `{layer}`: expected a number of {what} that fits 64 bits, got an overflow")]
    CountOverflow {
        /// The layer at which the count overflows.
        layer: String,
        /// The quantity that was counted.
        what: &'static str,
    },
    /// An operation needs more memory than the limit.
    #[error("{what}: expected at most {} (the memory limit), got {}", bytes(*limit), bytes(*needed))]
    TooLarge {
        /// What the memory is for.
        what: String,
        /// The limit in bytes.
        limit: u64,
        /// The number of bytes needed; `u64::MAX` if it overflows.
        needed: u64,
    },
    /// The input of a forward pass has the wrong number of elements.
    #[error("input: expected {expected} elements ({batch} x {shape}), got {got}")]
    InputLen {
        /// The batch size of the plan.
        batch: usize,
        /// The input shape of one image.
        shape: Shape,
        /// Required number of elements.
        expected: usize,
        /// Given number of elements.
        got: usize,
    },
    /// The output of a forward pass has the wrong number of elements.
    #[error("output: expected {expected} elements ({batch} x {shape}), got {got}")]
    OutputLen {
        /// The batch size of the plan.
        batch: usize,
        /// The output shape of one image.
        shape: Shape,
        /// Required number of elements.
        expected: usize,
        /// Given number of elements.
        got: usize,
    },
    /// The memory of a forward pass was made for a smaller network.
    #[error(
        "memory: expected at least {expected} elements of {what} (`memory()` of this network), got {got}"
    )]
    MemoryLen {
        /// The part of the memory.
        what: &'static str,
        /// Required number of elements.
        expected: usize,
        /// Available number of elements.
        got: usize,
    },
    /// An option has an invalid value.
    #[error("{option}: expected {expected}, got {got}")]
    Option {
        /// The option.
        option: &'static str,
        /// The allowed values.
        expected: String,
        /// The value that was given.
        got: String,
    },
    /// The zoo has no network of this name.
    #[error("network: expected one of {known}, got `{name}`{hint}")]
    UnknownNetwork {
        /// The requested name.
        name: String,
        /// All names in the zoo, separated by commas.
        known: String,
        /// `", did you mean ...?"`, or empty.
        hint: String,
    },
    /// The kernels rejected a call outside of any layer.
    #[error(transparent)]
    Kernel(#[from] ConvError),
    /// Packed weights cannot be written, read or used.
    #[error("{network}: {cause}")]
    Packed {
        /// The name of the network.
        network: String,
        /// The reason.
        cause: PackedError,
    },
    /// The weights do not match the network.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// An ONNX model cannot be imported.
    #[error(transparent)]
    Onnx(OnnxError),
    /// A tensor file is unusable.
    #[error("{origin}: expected an .npy file of little-endian f32 in C order, got {reason}")]
    Npy {
        /// The file.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Data to train on are unusable, or do not fit the network.
    #[error("{origin}: expected {expected}, got {got}")]
    Data {
        /// The file, the directory, or what the data are for.
        origin: String,
        /// What would be usable.
        expected: String,
        /// What is there.
        got: String,
    },
    /// A checkpoint is unusable, or belongs to another training.
    #[error("{origin}: expected {expected}, got {got}")]
    Checkpoint {
        /// The file.
        origin: String,
        /// What would be usable.
        expected: String,
        /// What is there.
        got: String,
    },
    /// A training left the range of numbers. A lower learning rate or other initial weights can help.
    #[error("step {step}: expected finite numbers, got {what} that began in `{place}`")]
    NotFinite {
        /// The step, from 0.
        step: u64,
        /// The numbers that are infinite or NaN.
        what: &'static str,
        /// The layer or parameter where they began.
        place: String,
    },
    /// A picture is unusable.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// What cannot be done, such as `"read"` or `"write"`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        cause: std::io::Error,
    },
}

/// What is wrong with a layer.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The kernels reject it.
    #[error(transparent)]
    Kernel(#[from] ConvError),
    /// It does not accept the shape of its input.
    #[error("expected {expected} as input, got {got}")]
    Input {
        /// The inputs that it accepts.
        expected: &'static str,
        /// The shape that was given.
        got: Shape,
    },
    /// Its inputs do not fit each other.
    #[error("expected {what}, got {a} and {b}")]
    Differ {
        /// The rule for its inputs.
        what: &'static str,
        /// The shape of the first input.
        a: Shape,
        /// The shape of the input that does not fit.
        b: Shape,
    },
    /// It can be counted but not run.
    #[error("expected a layer that can be run, got `{op}`, which can only be counted")]
    NoKernel {
        /// The name of the operation.
        op: String,
    },
    /// It can be run but not trained.
    #[error("expected a layer that can be trained, got `{op}`")]
    NoGradient {
        /// The name of the operation.
        op: String,
    },
    /// It does not take the mask.
    #[error("expected a dropout layer and a mask of its length, got {}", got.map_or("no mask".to_owned(), |len| format!("{len} elements")))]
    NoMask {
        /// Number of elements of the mask, if there was one.
        got: Option<usize>,
    },
    /// It is an operator that was not imported as a layer, so it can be counted but not run.
    #[error("expected a layer that can be run, got `{op}`, which can only be counted: {reason}")]
    NotImported {
        /// The name of the operator.
        op: String,
        /// Why it was not imported.
        reason: String,
    },
    /// ONNX has no operator for it.
    #[error("expected a layer that is an operator of ONNX, got `{op}`")]
    NoOperator {
        /// The name of the operation.
        op: String,
    },
    /// It has the wrong number of inputs.
    #[error("expected {expected} inputs, got {got}")]
    Arity {
        /// The number of inputs it accepts: `1`, `at least 1` and so on.
        expected: String,
        /// The number of inputs that was given.
        got: usize,
    },
    /// The weights belong to another network.
    #[error("expected weights with a tensor `{tensor}` of its shape, got the weights of network `{network}`")]
    NoWeights {
        /// The missing tensor.
        tensor: String,
        /// The network that the weights belong to.
        network: String,
    },
    /// Another layer already has its name.
    #[error("expected a name that no other layer has")]
    DuplicateName,
    /// It reads a node that comes later or belongs to another graph.
    #[error("expected inputs among the {nodes} nodes before it, got number {got}")]
    UnknownInput {
        /// Number of nodes before it.
        nodes: usize,
        /// The index of the requested node.
        got: usize,
    },
}

/// What is wrong with a set of weights.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The data is not a safetensors file.
    #[error("{origin}: expected a safetensors file, got {reason}")]
    Format {
        /// The file, or the source of the bytes.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is shorter or longer than its header says.
    #[error("{origin}: expected {expected} bytes (as its header says), got {got}")]
    FileLen {
        /// The file, or the source of the bytes.
        origin: String,
        /// The length in bytes by the header.
        expected: u64,
        /// The actual length in bytes.
        got: u64,
    },
    /// A tensor of the network is missing.
    #[error("{origin}: tensor `{tensor}`: expected shape {expected:?}, got no such tensor")]
    Missing {
        /// The file, or the source of the bytes.
        origin: String,
        /// The name of the tensor.
        tensor: String,
        /// The shape of the tensor in the network.
        expected: Vec<usize>,
    },
    /// The file has a tensor that the network does not have.
    #[error(
        "{origin}: tensor `{tensor}`: expected only the tensors of network `{network}`, got this one too"
    )]
    Unknown {
        /// The file, or the source of the bytes.
        origin: String,
        /// The name of the tensor.
        tensor: String,
        /// The name of the network.
        network: String,
    },
    /// A tensor has the wrong shape.
    #[error("{origin}: tensor `{tensor}`: expected shape {expected:?}, got {got:?}")]
    Shape {
        /// The file, or the source of the bytes.
        origin: String,
        /// The name of the tensor.
        tensor: String,
        /// The shape of the tensor in the network.
        expected: Vec<usize>,
        /// The shape in the file.
        got: Vec<usize>,
    },
    /// A tensor has the wrong element type.
    #[error("{origin}: tensor `{tensor}`: expected element type F32, got {got}")]
    Dtype {
        /// The file, or the source of the bytes.
        origin: String,
        /// The name of the tensor.
        tensor: String,
        /// The element type in the file.
        got: String,
    },
}

/// Why a picture cannot be read as a digit.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The data is not an image, or is damaged.
    #[error("{origin}: expected a picture (PNG, JPEG, GIF, BMP, WebP or PNM), got {reason}")]
    Decode {
        /// The file, or the source of the bytes.
        origin: String,
        /// The message of the decoder.
        reason: String,
    },
    /// The picture shows nothing.
    #[error("{origin}: expected a digit that stands out from its background, got a picture of one shade")]
    Blank {
        /// The file, or the source of the bytes.
        origin: String,
    },
}

impl NetError {
    /// Adds the name of the layer to an error.
    pub(crate) fn layer(layer: &str, problem: impl Into<LayerError>) -> Self {
        Self::Layer { layer: layer.to_owned(), problem: problem.into() }
    }
}

/// Formats a number of bytes for messages: `123 bytes`, `4.0 GiB`.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} bytes");
    }
    let power = (n.ilog2() / 10).min(6);
    format!("{:.1} {}", n as f64 / (1u64 << (10 * power)) as f64, UNITS[power as usize - 1])
}
