//! Labelled pictures for training: reading, normalising, augmenting, and a thread that does so ahead of the training.
//!
//! | topic | API |
//! |---|---|
//! | the embedded digits, MNIST, CIFAR-10, folders of pictures | [`Dataset::digits`], [`open`] |
//! | zero mean and unit deviation, by the training part alone | [`Normalisation`] |
//! | flips, crops, scale, rotation, colour jitter, cut-out | [`Augment`] |
//! | batches, prepared ahead by a thread | [`Feed`] and [`Batches`] |
//!
//! Everything random depends on a seed, an epoch and the place in the epoch. It does not depend on the timing of threads.

mod augment;
mod cifar;
mod dataset;
mod feed;
mod files;
mod folder;
mod idx;
mod normalise;
mod parts;
mod random;
mod reading;

pub use augment::Augment;
pub use dataset::{Dataset, Frame};
pub use feed::{Batch, Batches, Feed, Span};
pub use files::open;
pub use normalise::{Normalisation, Normalise};
pub use parts::Parts;
pub use random::{Purpose, Random};
