//! Step 1, describe: what is asked. Shapes, borrowed tensors, the checked descriptor, its cost.

mod cost;
mod desc;
mod epilogue;
mod shape;
mod tensor;
mod weights;

pub use cost::Cost;
pub use desc::{ConvDesc, ConvDescBuilder};
pub use epilogue::{Activation, EpilogueSpec};
pub(crate) use shape::{BLOCK, check_positive, checked_product, window_output};
pub use shape::{Layout, Pad2, Shape4, Size2};
pub use tensor::{Pitch, TensorMut, TensorRef};
pub(crate) use tensor::{PixelRef, PixelView};
pub use weights::Weights;
