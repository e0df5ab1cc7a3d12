//! Networks that train: a forward pass, a loss, and a reverse pass over the graph.
//!
//! [`TrainNet`] is compiled once for a batch size. A step is [`TrainNet::gradients`] and then [`TrainNet::update`], which
//! calls an optimiser with every parameter and its gradient. A step allocates nothing, and its bits do not depend on the
//! number of threads.
//!
//! ```
//! use kernels::Threads;
//! use nets::train::{TrainNet, TrainOptions};
//! use nets::{Init, WeightSet, zoo};
//!
//! let graph = zoo::lenet5()?;
//! let weights = WeightSet::seeded(&graph, Init::Xavier, 1)?;
//! let mut net = TrainNet::new(&graph, &weights, &TrainOptions::default().batch(2))?;
//! let (images, labels) = (vec![0.5; 2 * 32 * 32], [3, 7]);
//! let first = net.gradients(&images, &labels, Threads::Seq)?;
//! // Stochastic gradient descent.
//! net.update(
//!     |_, parameter| {
//!         let pairs = parameter.value.iter_mut().zip(parameter.gradient.iter());
//!         pairs.for_each(|(value, gradient)| *value -= 0.01 * gradient);
//!     },
//!     Threads::Seq,
//! )?;
//! let second = net.gradients(&images, &labels, Threads::Seq)?;
//! assert!(second.value < first.value);
//! # Ok::<(), nets::NetError>(())
//! ```

mod compile;
mod figures;
mod form;
mod heads;
mod loss;
mod net;
mod options;
mod parameter;
mod parametrize;
mod pass;
mod random;
mod unit;

pub use figures::ActivationFigures;
pub use form::Parametrization;
pub use loss::{BatchLoss, Loss};
pub use net::TrainNet;
pub use options::{Recompute, TrainOptions};
pub use parameter::{Parameter, ParameterMut};
#[cfg(feature = "train")]
pub(crate) use random::mix;
