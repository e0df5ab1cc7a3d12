//! Shared code of the benches: the list of layers, the measured roofs of the machine, timing in turns, and
//! the programs `shootout`, `netbench` and `fit`.

pub mod cli;
pub mod described;
pub mod direction;
pub mod fit;
pub mod kind;
pub mod layer;
pub mod layers;
pub mod netbench;
pub mod peak;
pub mod peers;
pub mod pin;
pub mod problem;
pub mod random;
pub mod shootout;
mod splitmix;
mod table;
pub mod turns;
pub mod volume;

pub use splitmix::values;
