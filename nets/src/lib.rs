//! Reference networks on [`kernels`]: a graph with exact counts, a forward pass, weights, and a zoo.
//!
//! | step | module |
//! |---|---|
//! | say what the network is | [`GraphBuilder`], [`Layer`], or by name: [`zoo`] |
//! | count it | [`count`] |
//! | give it weights | [`WeightSet`]: seeded, or from safetensors |
//! | compile it once, run it often, from many threads | [`CompiledNet`], each run with its [`Memory`] |
//! | the same from one place | [`Net`] |
//!
//! ```
//! use kernels::Threads;
//! use nets::{Init, Net, NetOptions, WeightSet, count, zoo};
//!
//! let graph = zoo::lenet5()?;
//! assert_eq!(count(&graph)?.params, 61_706);
//!
//! let weights = WeightSet::seeded(&graph, Init::Xavier, 1)?;
//! let mut net = Net::new(&graph, &weights, &NetOptions::default().batch(2))?;
//! let images = vec![0.5; 2 * 32 * 32];
//! let logits = net.run(&images, Threads::Seq)?;
//! assert_eq!(logits.len(), 2 * 10);
//! # Ok::<(), nets::NetError>(())
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod count;
mod decode;
pub mod digits;
mod error;
pub mod export;
mod graph;
pub mod import;
mod layer;
pub mod npy;
#[cfg(feature = "pictures")]
pub mod photo;
#[cfg(feature = "pictures")]
pub mod picture;
#[cfg(feature = "plot")]
#[doc(hidden)]
pub mod plot;
mod process;
mod run;
mod shape;
mod weights;
pub mod zoo;

pub use count::{Convention, LayerCount, NetCount, ParamKinds, Receptive, count, count_batch};
pub use error::{LayerError, NetError, PictureError, WeightsError};
pub use graph::{Graph, GraphBuilder, Node, NodeId};
pub use layer::{
    AdaptivePool, Conv, ConvTranspose, Layer, Linear, Lrn, Norm, NormKind, Param, Pool, Role, SparseConv,
    Subsample,
};
pub use process::peak_bytes;
pub use run::{CompiledNet, Memory, Net, NetOptions, StepReport};
pub use shape::Shape;
pub use weights::{
    Init, MEMORY_LIMIT, SeededWeights, Tensor, WeightSet, WeightSource, to_safetensors, write,
};
