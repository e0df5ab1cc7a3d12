//! Reference networks on [`kernels`]: graphs with exact operation counts, weights, forward passes, and a zoo
//! of networks.
//!
//! | step | API |
//! |---|---|
//! | describe a network | [`GraphBuilder`] and [`Layer`], or by name from the [`zoo`] |
//! | count parameters and operations | [`count`] |
//! | load or generate weights | [`WeightSet`]: from safetensors, or seeded |
//! | compile once, run many times, also concurrently | [`CompiledNet`], with one [`Memory`] per run |
//! | compile and run with one object | [`Net`] |
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
#[cfg(feature = "train")]
pub mod data;
mod decode;
pub mod digits;
mod error;
pub mod export;
#[cfg(feature = "train")]
pub mod fit;
mod graph;
pub mod import;
mod layer;
pub mod npy;
#[cfg(feature = "train")]
pub mod optim;
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
pub mod train;
mod weights;
pub mod zoo;

pub use count::{Convention, LayerCount, NetCount, ParamKinds, Receptive, count, count_batch};
pub use error::{LayerError, NetError, PictureError, WeightsError};
pub use graph::{Graph, GraphBuilder, Node, NodeId};
pub use layer::{
    AdaptivePool, Conv, ConvTranspose, FractionalPool, Layer, Linear, Lrn, Norm, NormKind, Param, Pool, Role,
    SparseConv, Subsample, TensorLayer,
};
pub use process::peak_bytes;
pub use run::{CompiledNet, Memory, Net, NetOptions, PackedWeights, StepReport};
pub use shape::{Shape, TensorShape};
pub use weights::{
    Init, InputStatistics, MEMORY_LIMIT, SeededWeights, Tensor, WeightSet, WeightSource, to_safetensors,
    write,
};
