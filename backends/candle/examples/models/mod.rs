//! The same model sources, compiled against `candle_nn` and against this crate. Each of them says
//! `use super::nn::{...}` where a model would say `use candle_nn::{...}`.

#![allow(clippy::duplicate_mod, reason = "each source is compiled against two crates")]
#![allow(dead_code, reason = "not every program uses every model")]

/// The models with candle's layers.
#[path = "."]
pub mod theirs {
    pub use candle_nn as nn;

    #[path = "lenet.rs"]
    pub mod lenet;
    #[path = "resnet.rs"]
    pub mod resnet;
    #[path = "yolo.rs"]
    pub mod yolo;
}

/// The models with the layers of this crate.
#[path = "."]
pub mod ours {
    pub use convkernels_candle as nn;

    #[path = "lenet.rs"]
    pub mod lenet;
    #[path = "resnet.rs"]
    pub mod resnet;
    #[path = "yolo.rs"]
    pub mod yolo;
}
