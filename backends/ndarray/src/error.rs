//! [`Error`]: what was wrong, what was expected, and what was given.

use kernels::ConvError;
use std::fmt;

/// The error type of this crate. Bad arguments return an error and never panic.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// An array has no elements.
    Empty {
        /// The array.
        what: &'static str,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// An array has the wrong shape.
    Shape {
        /// The array.
        what: &'static str,
        /// The expected shape, or the rule that the shape violates.
        expected: String,
        /// The shape that was given.
        got: Vec<usize>,
    },
    /// The anchor is outside of the kernel.
    Anchor {
        /// Height and width of the kernel.
        kernel: (usize, usize),
        /// Row and column of the anchor.
        got: (usize, usize),
    },
    /// The kernel does not fit into the image, so [`Mode::Valid`](crate::Mode::Valid) has no output.
    KernelTooLarge {
        /// Height and width of the image.
        image: (usize, usize),
        /// Height and width of the kernel.
        kernel: (usize, usize),
    },
    /// An error of the convolution library: parameters that do not fit together, a size that overflows, or
    /// memory that the system refuses.
    Conv(ConvError),
}

impl From<ConvError> for Error {
    fn from(error: ConvError) -> Self {
        Self::Conv(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { what, shape } => {
                write!(f, "{what}: expected at least one element on every axis, got shape {shape:?}")
            }
            Self::Shape { what, expected, got } => write!(f, "{what}: expected {expected}, got {got:?}"),
            Self::Anchor { kernel, got } => write!(
                f,
                "anchor: expected a row and a column inside of the {}x{} kernel, got ({}, {})",
                kernel.0, kernel.1, got.0, got.1
            ),
            Self::KernelTooLarge { image, kernel } => write!(
                f,
                "kernel: expected one that fits into the {}x{} image, got {}x{}",
                image.0, image.1, kernel.0, kernel.1
            ),
            Self::Conv(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Conv(error) => Some(error),
            _ => None,
        }
    }
}

/// Checks that an array has elements.
pub(crate) fn check_filled(what: &'static str, shape: &[usize]) -> Result<(), Error> {
    if shape.contains(&0) { Err(Error::Empty { what, shape: shape.to_vec() }) } else { Ok(()) }
}

/// Checks that an array has this shape.
pub(crate) fn check_shape(what: &'static str, expected: &[usize], got: &[usize]) -> Result<(), Error> {
    if expected == got {
        return Ok(());
    }
    Err(Error::Shape { what, expected: format!("shape {expected:?}"), got: got.to_vec() })
}
