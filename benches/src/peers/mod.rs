//! The peer engines, one process each, controlled by lines of text. `benches/peers` describes their installation.

mod engines;
pub(crate) mod tolerance;
mod worker;

pub use engines::Engine;
pub(crate) use engines::{Task, WORKER, installed, is_comparable};
pub(crate) use worker::{Worker, floats, request, volume_request, write};
