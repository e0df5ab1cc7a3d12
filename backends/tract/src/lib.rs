//! Faster convolutions for [tract](https://crates.io/crates/tract-core), with the kernels of `convkernels`.
//!
//! [`accelerate`] takes a typed model and returns one in which the `f32` convolutions with constant weights are
//! operators of this crate. Bias, residual sum and activation are fused into them. Between convolutions,
//! tensors stay in blocks of 16 channels where that saves time. Everything else stays with tract.
//!
//! ```
//! use tract_core::prelude::*;
//! # fn main() -> TractResult<()> {
//! # let mut model = TypedModel::default();
//! # let input = model.add_source("input", f32::fact([1, 3]))?;
//! # model.select_output_outlets(&[input])?;
//! let model = convkernels_tract::accelerate(model, &convkernels_tract::Options::default())?;
//! let runnable = model.into_optimized()?.into_runnable()?;
//! # Ok(())
//! # }
//! ```
//!
//! tract can also find the transformation by its name, [`NAME`], if the program refers to anything of this
//! crate. Otherwise the linker may drop it.
//!
//! # Threads
//!
//! An operator runs on the threads of tract's current executor
//! (`tract_linalg::multithread::current_tract_executor`): on the calling thread, or in its rayon pool.

mod fuse;
mod layers;
mod ops;
mod plans;
mod recognise;
mod report;
mod rewrite;
mod tensors;
mod threads;
mod view;
mod window;

use kernels::PlanOptions;
pub use report::{FellBack, Replaced, Report};
use std::fmt;
use tract_core::internal::*;
use tract_core::transform::ModelTransform;

/// The name under which tract finds the transformation: `tract_core::transform::get_transform(NAME)`.
pub const NAME: &str = "convkernels";

/// How to replace convolutions.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Maximum number of plans that a convolution keeps, one per shape and number of threads. The default is 32.
    pub plans: usize,
    /// The options of all plans: instruction set, algorithms, numerics. The number of threads is replaced by
    /// that of tract's executor.
    pub plan: PlanOptions,
    /// Whether tensors between convolutions can be in blocks of 16 channels. The default is true. Otherwise only
    /// convolutions and products are replaced, with what is fused into them.
    pub blocks: bool,
    /// Parts of the names of nodes that stay with tract.
    pub exclude: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { plans: 32, plan: PlanOptions::default(), blocks: true, exclude: vec![] }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plans, blocks, exclude, .. } = self;
        f.debug_struct("Options")
            .field("plans", plans)
            .field("blocks", blocks)
            .field("exclude", exclude)
            .finish_non_exhaustive()
    }
}

/// Replaces the convolutions of a model. Run it before `into_optimized`; it declutters the model itself.
///
/// # Errors
/// tract's errors, if the model is not consistent. A layer that cannot be made is no error: it stays with tract.
pub fn accelerate(model: TypedModel, options: &Options) -> TractResult<TypedModel> {
    Ok(accelerate_with_report(model, options)?.0)
}

/// Like [`accelerate`], and tells what was replaced and what was not.
///
/// # Errors
/// tract's errors, if the model is not consistent.
pub fn accelerate_with_report(model: TypedModel, options: &Options) -> TractResult<(TypedModel, Report)> {
    let model = model.into_decluttered()?;
    let mut report = Report::default();
    let skip = |name: &str| options.exclude.iter().any(|part| name.contains(part.as_str()));
    let layers = layers::Layers::find(&model, &skip, options.blocks, &mut report)?;
    rewrite::Rewrite::run(&model, layers, options, report)
}

/// The transformation as tract's [`ModelTransform`].
#[derive(Debug, Clone, Default)]
pub struct Accelerate {
    /// How to replace convolutions.
    pub options: Options,
}

impl ModelTransform for Accelerate {
    fn name(&self) -> StaticName {
        NAME.into()
    }

    fn transform(&self, model: &mut TypedModel) -> TractResult<()> {
        // A clone shares the constants. It keeps the model as it was if there is an error.
        *model = accelerate(model.clone(), &self.options)?;
        Ok(())
    }
}

tract_core::register_simple_model_transform!("convkernels", Accelerate::default());
