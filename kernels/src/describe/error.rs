//! [`ConvError`]: what was wrong, what was expected, and what was given.

use super::algorithm::Unsupported;
use super::isa::Isa;
use super::products::Method;
use super::shape::{Layout, Shape4, Size2};
use super::volume_shape::{Shape5, VolumeLayout};
use super::weights::FilterShape;
use std::fmt;

/// The error type of this library. Invalid arguments return an error and never panic.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ConvError {
    /// A field of a descriptor has an invalid value.
    InvalidField {
        /// The field, named as in the builder: `"stride.h"`, `"groups"` and so on.
        field: &'static str,
        /// The rule that the value violates.
        expected: String,
        /// The value that was given.
        got: String,
    },
    /// The dilated kernel is larger than the padded input, so the output is empty.
    EmptyOutput {
        /// Input extents plus padding.
        padded_input: Size2,
        /// Kernel extents with dilation: `dilation * (k - 1) + 1`.
        dilated_kernel: Size2,
    },
    /// The dilated kernel of a 3-D convolution has more slices than the padded input, so the output is empty.
    EmptyDepth {
        /// Input slices plus padding.
        padded_input: usize,
        /// Kernel slices with dilation: `dilation * (k - 1) + 1`.
        dilated_kernel: usize,
    },
    /// A product or sum of extents exceeds the address space.
    SizeOverflow {
        /// The quantity that overflowed.
        what: &'static str,
    },
    /// A buffer has the wrong number of `f32` elements.
    BufferLen {
        /// The buffer.
        what: &'static str,
        /// Required number of elements.
        expected: usize,
        /// Given number of elements.
        got: usize,
    },
    /// The shape of a tensor differs from the descriptor.
    ShapeMismatch {
        /// The tensor.
        what: &'static str,
        /// The shape in the descriptor.
        expected: Shape4,
        /// The shape of the tensor.
        got: Shape4,
    },
    /// The layout of a tensor differs from the descriptor.
    LayoutMismatch {
        /// The tensor.
        what: &'static str,
        /// The layout in the descriptor.
        expected: Layout,
        /// The layout of the tensor.
        got: Layout,
    },
    /// The shape of a tensor of volumes differs from the descriptor.
    VolumeMismatch {
        /// The tensor.
        what: &'static str,
        /// The shape in the descriptor. It is boxed, so that other errors stay small.
        expected: Box<Shape5>,
        /// The shape of the tensor.
        got: Box<Shape5>,
    },
    /// The layout of a tensor of volumes differs from the descriptor.
    VolumeLayoutMismatch {
        /// The tensor.
        what: &'static str,
        /// The layout in the descriptor.
        expected: VolumeLayout,
        /// The layout of the tensor.
        got: VolumeLayout,
    },
    /// Bias, PReLU slopes or residual are missing although the descriptor asks for them, or given although it
    /// does not.
    EpilogueMismatch {
        /// The operand.
        what: &'static str,
        /// Whether the descriptor asks for the operand.
        planned: bool,
    },
    /// The forced algorithm cannot do this problem.
    Unsupported {
        /// The forced algorithm.
        method: Method,
        /// The reason.
        reason: Unsupported,
    },
    /// Every algorithm that can do this problem within the error bound is forbidden.
    NothingAllowed,
    /// The algorithms that are allowed, or the forced one, need more memory than the limit.
    TooLarge {
        /// The algorithm that needs the least memory.
        method: Method,
        /// The kind of memory: `"workspace"` or `"packed weights"`.
        what: &'static str,
        /// Bytes that it needs.
        needed: usize,
        /// The limit in bytes.
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
        method: Method,
    },
    /// This machine does not have the requested instruction set.
    IsaUnavailable {
        /// The requested instruction set.
        isa: Isa,
        /// The best instruction set of this machine.
        best: Isa,
    },
    /// The system could not provide the requested memory.
    OutOfMemory {
        /// The purpose of the memory.
        what: &'static str,
        /// The number of bytes requested.
        bytes: usize,
    },
    /// The workspace is smaller than the plan requires.
    WorkspaceTooSmall {
        /// Required number of elements.
        expected: usize,
        /// Number of elements in the workspace.
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
                "the output is empty: the dilated kernel is {dilated_kernel}, the padded input is only {padded_input}"
            ),
            Self::EmptyDepth { padded_input, dilated_kernel } => write!(
                f,
                "the output is empty: the dilated kernel has {dilated_kernel} slices, the padded input only {padded_input}"
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
            Self::VolumeMismatch { what, expected, got } => {
                write!(f, "{what}: expected shape {expected}, got {got}")
            }
            Self::VolumeLayoutMismatch { what, expected, got } => {
                write!(f, "{what}: expected layout {expected}, got {got}")
            }
            Self::EpilogueMismatch { what, planned: true } => {
                write!(f, "{what}: expected one, because the descriptor asks for it, got none")
            }
            Self::EpilogueMismatch { what, planned: false } => {
                write!(f, "{what}: expected none, because the descriptor has none, got one")
            }
            Self::Unsupported { method, reason } => {
                write!(f, "algorithm {method} cannot do this convolution: {reason}")
            }
            Self::NothingAllowed => {
                write!(
                    f,
                    "algorithms: expected at least one that can do this convolution, got only forbidden ones"
                )
            }
            Self::TooLarge { method, what, needed, limit } => write!(
                f,
                "{what}: expected an algorithm that needs at most {limit} bytes, got {method}, which needs {needed}"
            ),
            Self::FilterMismatch { expected, got } => {
                write!(f, "filter: expected extents {expected}, got {got}")
            }
            Self::WeightsDropped { method } => write!(
                f,
                "filter: expected weights packed for {method}, got none, and the original weights were dropped"
            ),
            Self::IsaUnavailable { isa, best } => {
                write!(
                    f,
                    "instruction set {isa}: expected one that this machine supports (the best is {best})"
                )
            }
            Self::OutOfMemory { what, bytes } => {
                write!(f, "{what}: expected {bytes} bytes of memory, got a failed allocation")
            }
            Self::WorkspaceTooSmall { expected, got } => {
                write!(f, "workspace: expected at least {expected} elements, got {got}")
            }
        }
    }
}

impl std::error::Error for ConvError {}
