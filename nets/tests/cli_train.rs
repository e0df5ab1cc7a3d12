//! `nets train`, `search`, `check` and `ensemble`, as a user calls them.

mod program;

use program::{fails, nets};
