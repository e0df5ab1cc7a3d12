//! The engines of others, one process each, asked by line. How they are installed: `benches/peers`.

mod engines;
mod worker;

pub use engines::Engine;
pub(crate) use engines::{Task, WORKER, installed};
pub(crate) use worker::{Worker, floats, write};
