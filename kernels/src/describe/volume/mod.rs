//! 3-D convolution: extents, layouts, tensors and descriptors of volumes.

mod backwards;
mod depth;
mod desc;
mod extents;
mod tensor;
mod transposed;

pub(crate) use backwards::VolumeBackwards;
pub(crate) use depth::{DepthRun, Sequence, runs_of};
pub use desc::{Conv3dDesc, Conv3dDescBuilder};
pub use extents::{Pad3, Shape5, Size3, VolumeLayout};
pub(crate) use tensor::{Slices, Taps, VolumeView};
pub use tensor::{VolumeMut, VolumeRef};
pub use transposed::{Transposed3dDesc, Transposed3dDescBuilder};
