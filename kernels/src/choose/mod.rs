//! Step 2, choose: the instruction set, the algorithm, the tile, and the reasons against the others.

mod constants;
mod cost;
#[cfg(feature = "internal")]
mod fitting;
mod model;
mod numerics;
mod profile;
mod terms;
mod weights;
mod wisdom;

pub use cost::Estimate;
pub(crate) use cost::{Machine, typical};
#[cfg(feature = "internal")]
pub use fitting::{choice_with, parts_of};
pub use model::{Candidate, Choice, Rejection, Select};
pub(crate) use model::{Limits, choose};
pub use numerics::Numerics;
pub use profile::Profile;
pub use terms::{Bound, Comparison, Difference, Terms};
pub(crate) use weights::choose_weights;
pub use wisdom::{Loaded, Wisdom};
pub(crate) use wisdom::{Runs, WisdomKey, cpu_model};
