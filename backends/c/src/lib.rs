//! The C interface of `convkernels`: what `include/convkernels.h` declares.
//!
//! The header is generated from this crate. Its introduction states the rules that all functions share: which
//! pointers can be null, how errors are reported, and what threads can share.
//!
//! Nothing that C passes is trusted before it is checked. Enums arrive as numbers and are looked up in tables.
//! Pointers are checked for null and alignment, and lengths for overflow, before a slice is made. A panic never
//! leaves a function of this crate: it becomes [`ck_status::Internal`].
//!
//! This crate is also a Rust library, for its own tests and benches. Rust programs should use `convkernels`
//! itself.

// The types have the names that they have in the header.
#![allow(non_camel_case_types)]
// What a caller in C must guarantee is the same for all functions. The header's introduction says it once.
#![allow(clippy::missing_safety_doc)]

// The order of the header. Without the empty lines rustfmt would sort the modules.
mod version;

mod status;

mod enums;

mod shape;

mod desc;

mod filter;

mod packed;

mod tensor;

mod threads;

mod plan;

mod conv;

mod transposed;

mod gradients;

mod buffer;

mod pointer;

pub use buffer::*;
pub use conv::*;
pub use desc::*;
pub use enums::*;
pub use filter::*;
pub use gradients::*;
pub use packed::*;
pub use plan::*;
pub use shape::*;
pub use status::*;
pub use tensor::*;
pub use threads::*;
pub use transposed::*;
pub use version::*;
