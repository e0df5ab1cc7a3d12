//! Plans of 3-D convolutions. Each is made of 2-D plans, whose images are the slices that an output slice reads.

mod backward_data;
mod backward_weights;
mod conv;
mod problem;
mod ranges;
mod report;
mod slices;
mod source;
mod transposed;

pub use backward_data::{BackwardData3d, BackwardData3dIo};
pub use backward_weights::{BackwardWeights3d, BackwardWeights3dIo};
pub use conv::{Conv3dIo, Conv3dPlan};
pub use report::VolumeReport;
pub use transposed::Transposed3dPlan;
