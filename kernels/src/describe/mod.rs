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
mod sizes;
mod tensor;
mod transposed;
mod view;
mod weights;

pub(crate) use algorithm::AlgorithmKind;
pub use algorithm::{Algorithm, Algorithms, Unsupported};
pub(crate) use backwards::{Backwards, Phase};
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
pub(crate) use sizes::{check_extents, check_positive, checked_product, window_output};
pub(crate) use tensor::PixelRef;
pub use tensor::{TensorMut, TensorOut, TensorRef};
pub use transposed::{TransposedDesc, TransposedDescBuilder};
pub use view::Pitch;
pub(crate) use view::{Lattice, PixelView};
pub use weights::{FilterShape, Weights};
