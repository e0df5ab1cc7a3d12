//! Step 2, choose: which instruction set, which algorithm, which tile, and why not the others.

mod constants;
mod cost;
mod model;
mod profile;
mod terms;
mod wisdom;

pub use cost::{Estimate, parts_of};
pub(crate) use cost::{Machine, typical};
pub use model::{Candidate, Choice, Numerics, Rejection, Select, choice_with};
pub(crate) use model::{Limits, choose};
pub use profile::Profile;
pub(crate) use profile::{cache_bytes, cores::for_pools as cores_for_pools};
pub use terms::{Bound, Comparison, Difference, Terms};
pub(crate) use wisdom::WisdomKey;
pub use wisdom::{Loaded, Wisdom};
