//! Runs graphs. A graph is compiled once for a batch size, and then runs without planning or allocating.
//!
//! ```text
//! Graph  ->  fuse, lower (layouts, concatenations)  ->  merge  ->  in place  ->  assign memory  ->  plan  ->  CompiledNet
//! ```

pub(crate) mod arena;
mod blockwise;
mod chain;
mod compile;
mod compiled;
mod concat;
mod filter;
pub(crate) mod fuse;
mod in_place;
mod kernel;
pub(crate) mod layout;
pub(crate) mod lower;
mod merge;
mod narrow;
pub(crate) mod operand;
mod operators;
mod packed;
pub(crate) mod places;
pub(crate) mod plain;
mod step;
pub(crate) mod storage;
mod stripes;
mod tensor;
mod volume;

use crate::count::NetCount;
use crate::error::NetError;
use crate::graph::Graph;
use crate::shape::Shape;
use crate::weights::{MEMORY_LIMIT, WeightSource};
pub use compiled::{CompiledNet, Memory};
use kernels::{Algorithm, Isa, Layout, Method, Numerics, Products, Select, Threads};
pub use packed::PackedWeights;
pub(crate) use tensor::evaluate;

/// Options for compiling a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetOptions {
    /// Images per forward pass. At least 1.
    pub batch: usize,
    /// The instruction set; `None` for the best one of this machine.
    pub isa: Option<Isa>,
    /// Maximum number of threads of [`CompiledNet::run`], which has memory for so many. It is limited to the
    /// cores that the process may use when the network is compiled. At least 1.
    pub max_threads: usize,
    /// Maximum rounding error that the methods of convolutions and fully connected layers may add.
    pub numerics: Numerics,
    /// How the algorithms of convolutions are chosen. [`Select::Measured`] times equal problems once, and
    /// runs several threads in the rayon pool of the caller. Fully connected layers always use the model,
    /// because their weights are too large to pack several times.
    pub select: Select,
    /// The layout of feature maps between layers, NCHW or Nchw16c. `None` selects blocks of 16 channels
    /// unless they would add more than a quarter to the products. Input and output are always NCHW.
    pub layout: Option<Layout>,
    /// Maximum bytes of activations.
    pub memory_limit: u64,
    /// Whether all outputs of the network are computed, or only the main one.
    pub all_outputs: bool,
}

impl Default for NetOptions {
    /// One image, the best instruction set, and one thread per core of the machine.
    fn default() -> Self {
        let max_threads = num_cpus::get_physical().max(1);
        let (numerics, select) = (Numerics::Default, Select::Auto);
        let memory_limit = MEMORY_LIMIT;
        Self {
            batch: 1,
            isa: None,
            max_threads,
            numerics,
            select,
            layout: None,
            memory_limit,
            all_outputs: false,
        }
    }
}

impl NetOptions {
    /// Sets the number of images per forward pass.
    pub const fn batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }

    /// Sets the instruction set.
    pub const fn isa(self, isa: Isa) -> Self {
        Self { isa: Some(isa), ..self }
    }

    /// Sets the maximum number of threads.
    pub const fn max_threads(self, max_threads: usize) -> Self {
        Self { max_threads, ..self }
    }

    /// Sets the maximum rounding error.
    pub const fn numerics(self, numerics: Numerics) -> Self {
        Self { numerics, ..self }
    }

    /// Sets how algorithms are chosen.
    pub const fn select(self, select: Select) -> Self {
        Self { select, ..self }
    }

    /// Sets whether all outputs of the network are computed, or only the main one.
    pub const fn all_outputs(self, all_outputs: bool) -> Self {
        Self { all_outputs, ..self }
    }

    /// Sets the layout of feature maps.
    pub const fn layout(self, layout: Layout) -> Self {
        Self { layout: Some(layout), ..self }
    }
}

/// A [`CompiledNet`] with its own memory and output, for programs that run it from one place.
pub struct Net {
    compiled: CompiledNet,
    memory: Memory,
    result: Vec<f32>,
}

/// The report on one step: a layer with the layers that are fused with it.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// The name of the layer. For merged convolutions, all of their names.
    pub name: String,
    /// The kind, such as `"conv+tanh"`. `"reorder"` and `"copy"` belong to no layer.
    pub op: String,
    /// The shape of the output, for one image.
    pub output: Shape,
    /// The layout of the output; `None` if nothing is written.
    pub layout: Option<Layout>,
    /// Number of trained parameters.
    pub params: u64,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// Bytes of inputs, weights and output for all images, each counted once. Weights have the bytes of their products.
    pub bytes: u64,
    /// The algorithm, if there is a choice.
    pub algorithm: Option<Algorithm>,
    /// The products of the algorithm.
    pub products: Option<Products>,
    /// The name of the register tile, if there is one.
    pub kernel: Option<&'static str>,
}

impl StepReport {
    /// The algorithm with its products, if there is a choice.
    pub fn method(&self) -> Option<Method> {
        Some(Method::new(self.algorithm?, self.products?))
    }
}

impl TryFrom<CompiledNet> for Net {
    type Error = NetError;

    /// # Errors
    /// As [`CompiledNet::memory`].
    fn try_from(compiled: CompiledNet) -> Result<Self, NetError> {
        let (memory, result) = (compiled.memory()?, vec![0.0; compiled.output_len()]);
        Ok(Self { compiled, memory, result })
    }
}

impl Net {
    /// Plans every layer of `graph` for a batch size and packs its weights.
    ///
    /// # Errors
    /// As [`CompiledNet::new`].
    pub fn new(graph: &Graph, weights: &dyn WeightSource, options: &NetOptions) -> Result<Self, NetError> {
        CompiledNet::new(graph, weights, options)?.try_into()
    }

    /// The compiled network.
    pub fn compiled(&self) -> &CompiledNet {
        &self.compiled
    }

    /// Images per forward pass.
    pub fn batch(&self) -> usize {
        self.compiled.batch()
    }

    /// The shape of one input image.
    pub fn input(&self) -> Shape {
        self.compiled.input()
    }

    /// The shape of the output, for one image.
    pub fn output(&self) -> Shape {
        self.compiled.output()
    }

    /// The instruction set of the kernels.
    pub fn isa(&self) -> Isa {
        self.compiled.isa()
    }

    /// Parameters and multiply-accumulates of every layer of the graph.
    pub fn count(&self) -> &NetCount {
        self.compiled.count()
    }

    /// Reports on every step, in the order of execution.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = StepReport> {
        self.compiled.steps()
    }

    /// Runs one forward pass. `input` holds `batch` images in NCHW order, and so does the result.
    ///
    /// # Errors
    /// [`NetError::InputLen`] if `input` does not hold `batch` images.
    pub fn run(&mut self, input: &[f32], threads: Threads<'_>) -> Result<&[f32], NetError> {
        let Self { compiled, memory, result } = self;
        compiled.run(input, result, memory, threads)?;
        Ok(result)
    }
}
