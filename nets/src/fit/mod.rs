//! The training of a network on labelled pictures: the loop, its recipe, and checkpoints.
//!
//! | topic | API |
//! |---|---|
//! | everything that decides the result | [`Recipe`] |
//! | the loop, one step or epoch at a time | [`Trainer`] |
//! | saving and resuming, to the same bits | [`Checkpoint`] |
//! | which parameters are frozen or slowed down, by name | [`Pattern`] |
//! | values of hyperparameters to try | [`Space`] |
//! | averages of predictions | [`Ensemble`] |

mod atomic;
mod checkpoint;
mod ensemble;
mod full;
mod norms;
mod pattern;
mod recipe;
mod report;
mod space;
mod trained;
mod trainer;
mod transfer;
mod updates;
mod values;

pub use atomic::{check_writable, write_atomically};
pub use checkpoint::{Checkpoint, Progress};
pub use ensemble::Ensemble;
pub use pattern::Pattern;
pub use recipe::{Method, Recipe, Scale};
pub use report::{EpochReport, Event, LayerFigures, StepReport};
pub use space::{Range, Space, Trial};
pub use trainer::{Hardware, Trainer};
pub use transfer::{Transfer, with_classes};
