//! [`Parts`]: what is trained on, and what is measured on.

use super::dataset::Dataset;
use crate::error::NetError;

/// A training part, and another part to measure on.
#[derive(Debug, Clone)]
pub struct Parts {
    /// What is trained on.
    pub training: Dataset,
    /// What is only measured on.
    pub validation: Dataset,
}

impl Parts {
    /// The embedded digits: 9,000 to train on, 1,000 held out.
    ///
    /// # Errors
    /// [`NetError::Picture`] if the embedded files are damaged.
    pub fn digits() -> Result<Self, NetError> {
        Ok(Self { training: Dataset::digits(false)?, validation: Dataset::digits(true)? })
    }
}
