//! The training of a network on labelled pictures: the loop, its recipe, and checkpoints.
//!
//! | topic | API |
//! |---|---|
//! | everything that decides the result | [`Recipe`] |
//! | the network, the data and the machine | [`Setting`] |
//! | the loop, one step or epoch at a time | [`Trainer`] |
//! | saving and resuming, to the same bits | [`Checkpoint`] |
//! | which parameters are frozen or slowed down, by name | [`Pattern`] |
//! | values of hyperparameters to try | [`Space`] |
//! | averages of predictions | [`Ensemble`] |

mod atomic;
mod checkpoint;
mod ensemble;
mod evaluate;
mod full;
mod norms;
mod pattern;
mod recipe;
mod report;
mod setting;
mod space;
mod trained;
mod trainer;
mod transfer;
mod updates;
mod values;

pub use atomic::{check_writable, write_atomically};
pub use checkpoint::{Checkpoint, CheckpointFile, Progress};
pub use ensemble::Ensemble;
pub use pattern::Pattern;
pub use recipe::{Method, Recipe, Scale};
pub use report::{EpochReport, Event, LayerFigures, StepReport};
pub use setting::{Hardware, Setting};
pub use space::{Range, Space, Trial};
pub use trainer::Trainer;
pub use transfer::{Transfer, with_classes};
