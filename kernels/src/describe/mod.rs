//! Step 1, describe: the problem and the vocabulary. Shapes, borrowed tensors, the checked descriptor and its
//! cost; algorithms, instruction sets and errors.

mod algorithm;
mod backwards;
mod cost;
mod desc;
mod epilogue;
mod error;
mod isa;
mod names;
mod products;
mod reduced;
mod shape;
mod signal;
mod sizes;
mod tensor;
mod transposed;
mod view;
mod volume;
mod weights;

pub(crate) use algorithm::AlgorithmKind;
pub use algorithm::{Algorithm, Algorithms, Unsupported};
pub(crate) use backwards::{Axis, Backwards, Phase};
pub use cost::Cost;
pub use desc::{ConvDesc, ConvDescBuilder};
pub use epilogue::{Activation, EpilogueSpec};
pub use error::ConvError;
pub use isa::Isa;
pub(crate) use names::by_name;
pub use products::{Method, Products, ProductsSet};
pub(crate) use reduced::{FilterCut, Reduced};
pub(crate) use shape::WIDE_BLOCK;
pub use shape::{BLOCK, Layout, Pad2, Shape4, Size2};
pub use signal::{Conv1dDesc, Conv1dDescBuilder, Pad1, Shape3, Transposed1dDesc, Transposed1dDescBuilder};
pub(crate) use sizes::{check_extents, check_positive, checked_product, window_output};
pub use tensor::{Pitch, TensorMut, TensorOut, TensorRef};
pub(crate) use transposed::extent as transposed_extent;
pub use transposed::{TransposedDesc, TransposedDescBuilder};
pub(crate) use view::{PixelRef, PixelView};
pub use volume::{
    Conv3dDesc, Conv3dDescBuilder, Pad3, Shape5, Size3, Transposed3dDesc, Transposed3dDescBuilder,
    VolumeLayout, VolumeMut, VolumeRef,
};
pub(crate) use volume::{DepthRun, Sequence, Slices, Taps, VolumeBackwards, VolumeView, runs_of};
pub use weights::{FilterShape, Weights};
