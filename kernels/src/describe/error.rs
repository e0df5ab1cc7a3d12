//! [`ConvError`]: what was wrong, what was expected, what was got.

use super::algorithm::{Algorithm, Unsupported};
use super::isa::Isa;
use super::shape::{Layout, Shape4, Size2};
use super::weights::FilterShape;
use std::fmt;

/// Every way in which a call of this library can fail. Nothing in it panics on bad arguments.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ConvError {
    /// A field of a descriptor has a value that no problem can have.
    InvalidField {
        /// The field, as it is called in the builder (`"stride.h"`, `"groups"`, ...).
        field: &'static str,
        /// The rule that it breaks.
        expected: String,
        /// The value that was given.
        got: String,
    },
    /// The dilated kernel does not fit into the padded input, so there is not one output.
    EmptyOutput {
        /// Input extent plus padding.
        padded_input: Size2,
        /// Kernel extent with its dilation: `dilation * (k - 1) + 1`.
        dilated_kernel: Size2,
    },
    /// A product or sum of extents does not fit the address space.
    SizeOverflow {
        /// The quantity that was being computed.
        what: &'static str,
    },
    /// A buffer has the wrong number of `f32` elements.
    BufferLen {
        /// Which buffer.
        what: &'static str,
        /// Elements needed.
        expected: usize,
        /// Elements given.
        got: usize,
    },
    /// A tensor has another shape than the descriptor says.
    ShapeMismatch {
        /// Which tensor.
        what: &'static str,
        /// The shape of the descriptor.
        expected: Shape4,
        /// The shape of the tensor.
        got: Shape4,
    },
    /// A tensor has another layout than the descriptor says.
    LayoutMismatch {
        /// Which tensor.
        what: &'static str,
        /// The layout of the descriptor.
        expected: Layout,
        /// The layout of the tensor.
        got: Layout,
    },
    /// Bias, PReLU slopes or residual were planned and not given, or given and not planned.
    EpilogueMismatch {
        /// Which operand.
        what: &'static str,
        /// Whether the descriptor asks for it.
        planned: bool,
    },
    /// The forced algorithm cannot do this problem.
    Unsupported {
        /// The algorithm that was forced.
        algorithm: Algorithm,
        /// Why it cannot.
        reason: Unsupported,
    },
    /// Every algorithm that can do this problem, with the error that it may have, is forbidden.
    NothingAllowed,
    /// What may do this problem, or was forced to, needs more memory than the options allow.
    TooLarge {
        /// The one that needs the least.
        algorithm: Algorithm,
        /// Of which memory: `"workspace"` or `"packed weights"`.
        what: &'static str,
        /// Bytes that it needs.
        needed: usize,
        /// Bytes that it may have.
        limit: usize,
    },
    /// A [`Filter`](crate::Filter) has other extents than the descriptor says.
    FilterMismatch {
        /// The extents in the descriptor.
        expected: FilterShape,
        /// The extents of the filter.
        got: FilterShape,
    },
    /// A [`Filter`](crate::Filter) has dropped its weights, and did not pack them for this before.
    WeightsDropped {
        /// The algorithm that was asked for, or the fastest one that the options allow.
        algorithm: Algorithm,
    },
    /// The instruction set asked for is not there.
    IsaUnavailable {
        /// What was asked for.
        isa: Isa,
        /// The best instruction set of this machine.
        best: Isa,
    },
    /// The system has no such amount of memory.
    OutOfMemory {
        /// What it was for.
        what: &'static str,
        /// How much.
        bytes: usize,
    },
    /// The workspace is smaller than the plan's requirement.
    WorkspaceTooSmall {
        /// Elements needed.
        expected: usize,
        /// Elements in the workspace.
        got: usize,
    },
}

impl ConvError {
    pub(crate) fn field(field: &'static str, expected: impl fmt::Display, got: impl fmt::Display) -> Self {
        Self::InvalidField { field, expected: expected.to_string(), got: got.to_string() }
    }
}

impl fmt::Display for ConvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidField { field, expected, got } => {
                write!(f, "{field}: expected {expected}, got {got}")
            }
            Self::EmptyOutput { padded_input, dilated_kernel } => write!(
                f,
                "the output is empty: the dilated kernel is {dilated_kernel}, the padded input only {padded_input}"
            ),
            Self::SizeOverflow { what } => {
                write!(f, "{what}: expected a size that fits the address space, got an overflow")
            }
            Self::BufferLen { what, expected, got } => {
                write!(f, "{what}: expected {expected} elements, got {got}")
            }
            Self::ShapeMismatch { what, expected, got } => {
                write!(f, "{what}: expected shape {expected}, got {got}")
            }
            Self::LayoutMismatch { what, expected, got } => {
                write!(f, "{what}: expected layout {expected}, got {got}")
            }
            Self::EpilogueMismatch { what, planned: true } => {
                write!(f, "{what}: expected one, because the descriptor asks for it, got none")
            }
            Self::EpilogueMismatch { what, planned: false } => {
                write!(f, "{what}: expected none, because the descriptor has none, got one")
            }
            Self::Unsupported { algorithm, reason } => {
                write!(f, "algorithm {algorithm} cannot do this convolution: {reason}")
            }
            Self::NothingAllowed => {
                write!(f, "algorithms: expected one that can do this convolution, got all of them forbidden")
            }
            Self::TooLarge { algorithm, what, needed, limit } => write!(
                f,
                "{what}: expected an algorithm that needs at most {limit} bytes, got {algorithm}, which needs {needed}"
            ),
            Self::FilterMismatch { expected, got } => {
                write!(f, "filter: expected extents {expected}, got {got}")
            }
            Self::WeightsDropped { algorithm } => write!(
                f,
                "filter: expected weights packed for {algorithm}, got none, and the original weights were dropped"
            ),
            Self::IsaUnavailable { isa, best } => {
                write!(f, "instruction set {isa}: expected one that this machine has (the best is {best})")
            }
            Self::OutOfMemory { what, bytes } => {
                write!(f, "{what}: expected {bytes} bytes of memory, got none from the system")
            }
            Self::WorkspaceTooSmall { expected, got } => {
                write!(f, "workspace: expected at least {expected} elements, got {got}")
            }
        }
    }
}

impl std::error::Error for ConvError {}
