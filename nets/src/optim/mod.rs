//! Optimisers, learning-rate schedules and averages of weights, on plain slices.
//!
//! | topic | API |
//! |---|---|
//! | a step from a gradient | [`Rule`] and [`Optimizer`] |
//! | L2, L1 and both (elastic net) | [`Penalty`] |
//! | the learning rate over time | [`Schedule`] and [`LearningRate`] |
//! | second order, for full batches of small networks | [`Lbfgs`] |
//! | averages of weights | [`Average`] |
//!
//! Every element is updated on its own, so the results do not depend on threads. A step allocates nothing.
//!
//! ```
//! use nets::optim::{Optimizer, Penalty, Rule};
//!
//! let mut weights = [1.0, -2.0];
//! let mut optimizer = Optimizer::new(Rule::momentum(0.9), Penalty::default(), [("w", 2)]);
//! for _ in 0..200 {
//!     // The gradient of half the sum of squares.
//!     let gradient = weights;
//!     optimizer.begin();
//!     optimizer.step(0, 0.1, &mut weights, &gradient, true);
//! }
//! assert!(weights.iter().all(|weight| weight.abs() < 1e-3));
//! ```

mod average;
mod lbfgs;
mod optimizer;
mod rule;
mod schedule;
mod text;
mod update;

pub use average::Average;
pub use lbfgs::Lbfgs;
pub use optimizer::{Optimizer, StateError};
pub use rule::{Penalty, Rule};
pub use schedule::{LearningRate, PlateauState, Schedule};
