//! Running a graph: compiled once for a batch size, then run as often as wanted without planning or allocating.
//!
//! ```text
//! Graph  ->  fuse, lower (layouts, concatenations)  ->  merge  ->  places in one arena  ->  plans  ->  CompiledNet
//! ```

mod arena;
mod compile;
mod compiled;
mod filter;
mod fuse;
mod kernel;
mod layout;
mod lower;
mod merge;
mod plain;
mod step;
mod storage;

use crate::count::NetCount;
use crate::error::NetError;
use crate::graph::Graph;
use crate::shape::Shape;
use crate::weights::{MEMORY_LIMIT, WeightSource};
pub use compiled::{CompiledNet, Memory};
use kernels::{Algorithm, Isa, Layout, Numerics, Select, Threads};

/// How a network is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetOptions {
    /// Images of one forward pass. At least 1.
    pub batch: usize,
    /// The instruction set, if not the best one of this machine.
    pub isa: Option<Isa>,
    /// Threads that [`CompiledNet::run`] uses at most, and has memory for; no more than the process may use cores when the
    /// network is compiled. At least 1.
    pub max_threads: usize,
    /// How much rounding error the algorithms of the convolutions may add.
    pub numerics: Numerics,
    /// Who chooses the algorithms of the convolutions. [`Select::Measured`] times equal problems once, on several threads in
    /// the rayon pool that the caller is in; fully connected layers, whose weights are not worth packing several times, go
    /// by the model.
    pub select: Select,
    /// The memory order of feature maps between layers, NCHW or Nchw16c, if not that of the library's rule: blocks of
    /// 16 channels, unless they would make more than a quarter more products. Input and output are NCHW always.
    pub layout: Option<Layout>,
    /// Bytes that the activations may take.
    pub memory_limit: u64,
}

impl Default for NetOptions {
    /// One image, the best instruction set, as many threads as the machine has cores.
    fn default() -> Self {
        let max_threads = num_cpus::get_physical().max(1);
        let (numerics, select) = (Numerics::Default, Select::Auto);
        Self { batch: 1, isa: None, max_threads, numerics, select, layout: None, memory_limit: MEMORY_LIMIT }
    }
}

impl NetOptions {
    /// With `batch` images.
    pub const fn batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }

    /// With the kernels of `isa`.
    pub const fn isa(self, isa: Isa) -> Self {
        Self { isa: Some(isa), ..self }
    }

    /// With at most `max_threads` threads.
    pub const fn max_threads(self, max_threads: usize) -> Self {
        Self { max_threads, ..self }
    }

    /// With `numerics`.
    pub const fn numerics(self, numerics: Numerics) -> Self {
        Self { numerics, ..self }
    }

    /// With algorithms that `select` chooses.
    pub const fn select(self, select: Select) -> Self {
        Self { select, ..self }
    }

    /// With feature maps in `layout`.
    pub const fn layout(self, layout: Layout) -> Self {
        Self { layout: Some(layout), ..self }
    }
}

/// A [`CompiledNet`] with memory and output of its own: for those who run it from one place.
pub struct Net {
    compiled: CompiledNet,
    memory: Memory,
    result: Vec<f32>,
}

/// What a row of the layer table says of one step: a layer, with those that are computed with it.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// The name of the layer; of convolutions that have been merged, all of their names.
    pub name: String,
    /// Its kind, as in `"conv+tanh"`; `"reorder"` and `"copy"` belong to no layer.
    pub op: String,
    /// The shape that comes out, for one image.
    pub output: Shape,
    /// The memory order that comes out; `None` if nothing is written.
    pub layout: Option<Layout>,
    /// Trained numbers.
    pub params: u64,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Bytes of what is read and written, weights included, for all images: each once.
    pub bytes: u64,
    /// How it is computed, where there is a choice.
    pub algorithm: Option<Algorithm>,
    /// The register tile that computes it, where there is one.
    pub kernel: Option<&'static str>,
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

    /// The network without the memory.
    pub fn compiled(&self) -> &CompiledNet {
        &self.compiled
    }

    /// Images of one forward pass.
    pub fn batch(&self) -> usize {
        self.compiled.batch()
    }

    /// The shape of one input image.
    pub fn input(&self) -> Shape {
        self.compiled.input()
    }

    /// The shape of the output for one image.
    pub fn output(&self) -> Shape {
        self.compiled.output()
    }

    /// The instruction set whose kernels run.
    pub fn isa(&self) -> Isa {
        self.compiled.isa()
    }

    /// Parameters and multiply-accumulates of every layer of the graph.
    pub fn count(&self) -> &NetCount {
        self.compiled.count()
    }

    /// What runs, step by step.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = StepReport> {
        self.compiled.steps()
    }

    /// One forward pass: `batch` images in NCHW order in, as many outputs out.
    ///
    /// # Errors
    /// [`NetError::InputLen`] if `input` is not `batch` images.
    pub fn run(&mut self, input: &[f32], threads: Threads<'_>) -> Result<&[f32], NetError> {
        let Self { compiled, memory, result } = self;
        compiled.run(input, result, memory, threads)?;
        Ok(result)
    }
}
