//! Networks that train: a forward pass, a loss, and a reverse pass over the graph.

mod loss;
mod net;
mod options;
mod parameter;

pub use loss::{BatchLoss, Loss};
pub use net::{ActivationFigures, TrainNet};
pub use options::TrainOptions;
pub use parameter::ParameterMut;
