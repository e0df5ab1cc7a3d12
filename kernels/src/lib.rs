//! Convolution on CPUs.
#![deny(missing_docs)]

mod algo;
mod choose;
mod describe;
mod error;
mod plan;
mod run;
mod simd;
mod tile;

pub use choose::{Algorithm, Choice, Isa, Numerics, Rejection, Select, Unsupported};
pub use describe::{
    Activation, ConvDesc, ConvDescBuilder, Cost, EpilogueSpec, Layout, Pad2, Pitch, Shape4, Size2, TensorMut,
    TensorRef,
};
pub use error::ConvError;
pub use plan::{ConvPlan, PlanOptions, PlanReport, Weights, Workspace, WorkspaceReq};
pub use run::{ConvIo, Threads};

/// The register tiles themselves, for this workspace's tests and benches: no part of the public interface.
#[doc(hidden)]
pub mod internal {
    pub use crate::tile::table::{GemmTile, KernelSet};
}
