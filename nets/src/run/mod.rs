//! [`Net`]: a graph planned once for a batch size, then run as often as wanted without planning or allocating.

mod compile;
mod fuse;
mod plain;
mod slots;
mod step;

use crate::count::{LayerCount, NetCount};
use crate::error::NetError;
use crate::graph::Graph;
use crate::shape::Shape;
use crate::weights::{MEMORY_LIMIT, WeightSet};
use kernels::{Algorithm, ConvPlan, Isa, Layout, Ops, Threads, Workspace};
use std::mem;
use step::{Place, Sources, Step};

/// How a network is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetOptions {
    /// Images of one forward pass. At least 1.
    pub batch: usize,
    /// The instruction set, if not the best one of this machine.
    pub isa: Option<Isa>,
    /// Threads that [`Net::run`] may be given at most. At least 1.
    pub max_threads: usize,
    /// Bytes that the activations may take.
    pub memory_limit: u64,
}

impl Default for NetOptions {
    /// One image, the best instruction set, as many threads as the machine has cores.
    fn default() -> Self {
        let max_threads = num_cpus::get_physical().max(1);
        Self { batch: 1, isa: None, max_threads, memory_limit: MEMORY_LIMIT }
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
}

/// A network that is ready to run: every layer planned, its weights packed, its activations allocated.
pub struct Net {
    input: Shape,
    output: Shape,
    batch: usize,
    ops: Ops,
    steps: Vec<Step>,
    /// What the steps write; each is used again once nobody needs what is in it.
    buffers: Vec<Vec<f32>>,
    /// Where the network's output is.
    result: Place,
    workspace: Workspace,
    count: NetCount,
}

/// What a row of the layer table says of one step: a layer, with the activation that is fused into it.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// The name of the layer.
    pub name: String,
    /// Its kind, as in `"conv+tanh"`.
    pub op: String,
    /// The shape that comes out, for one image.
    pub output: Shape,
    /// Trained numbers.
    pub params: u64,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// How it is computed, where there is a choice.
    pub algorithm: Option<Algorithm>,
    /// The register tile that computes it, where there is one.
    pub kernel: Option<&'static str>,
}

impl Net {
    /// Plans every layer of `graph` for a batch size and packs its weights.
    ///
    /// # Errors
    /// [`NetError::Layer`] for a layer that the kernels refuse, [`NetError::TooLarge`] before activations beyond the
    /// memory limit are allocated, [`NetError::Option`], and [`NetError::Kernel`] for an instruction set that this
    /// machine does not have.
    pub fn new(graph: &Graph, weights: &WeightSet, options: &NetOptions) -> Result<Self, NetError> {
        compile::net(graph, weights, options)
    }

    /// Images of one forward pass.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The shape of one input image.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// The shape of the output for one image.
    pub fn output(&self) -> Shape {
        self.output
    }

    /// The instruction set whose kernels run.
    pub fn isa(&self) -> Isa {
        self.ops.isa()
    }

    /// Parameters and multiply-accumulates of every layer of the graph.
    pub fn count(&self) -> &NetCount {
        &self.count
    }

    /// What runs, step by step.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = StepReport> {
        self.steps.iter().map(|step| step.report(&self.count))
    }

    /// One forward pass: `batch` images in NCHW order in, as many outputs out.
    ///
    /// # Errors
    /// [`NetError::InputLen`] if `input` is not `batch` images.
    pub fn run<'a>(&'a mut self, input: &'a [f32], threads: Threads<'_>) -> Result<&'a [f32], NetError> {
        let expected = self.input.batched(self.batch).len(Layout::Nchw)?;
        if input.len() != expected {
            let (batch, shape) = (self.batch, self.input);
            return Err(NetError::InputLen { batch, shape, expected, got: input.len() });
        }
        match threads {
            // The pool is entered once, not once per layer.
            Threads::Pool(pool) => pool.install(|| self.forward(input, Threads::Current))?,
            threads => self.forward(input, threads)?,
        }
        let len = self.output.batched(self.batch).len(Layout::Nchw)?;
        Ok(match self.result {
            Place::Input => input,
            Place::Buffer(index) => &self.buffers[index][..len],
        })
    }

    fn forward(&mut self, input: &[f32], threads: Threads<'_>) -> Result<(), NetError> {
        let Self { steps, buffers, workspace, ops, .. } = self;
        for step in steps {
            let Some(slot) = step.target else { continue };
            let len = step.output.len(Layout::Nchw)?;
            // The target is none of the sources; out of the list, it can be borrowed apart from them.
            let mut target = mem::take(&mut buffers[slot]);
            let sources = Sources { places: &step.sources, lens: &step.inputs, input, buffers };
            let done = step.run(ops, &sources, &mut target[..len], workspace, threads);
            buffers[slot] = target;
            done.map_err(|error| NetError::layer(&step.name, error))?;
        }
        Ok(())
    }
}

impl Step {
    fn report(&self, count: &NetCount) -> StepReport {
        let layers = || self.nodes.iter().map(|node| &count.layers[node.index()]);
        let ops: Vec<&str> = layers().map(|layer| layer.op.as_str()).collect();
        let sum = |number: fn(&LayerCount) -> u64| layers().map(number).sum();
        StepReport {
            name: self.name.clone(),
            op: ops.join("+"),
            output: self.shape,
            params: sum(|layer| layer.params),
            macs: sum(|layer| layer.macs),
            algorithm: self.plan().map(ConvPlan::algorithm),
            kernel: self.plan().map(|plan| plan.explain().kernel),
        }
    }
}
