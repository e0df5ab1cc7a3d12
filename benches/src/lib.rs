//! What the benches share: the list of layers, the roofs of the machine, measured in the same run as what is held
//! against them, the timing of rivals in turns, and the programs `shootout` and `netbench`.

pub mod cli;
pub mod fit;
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

pub use splitmix::values;
