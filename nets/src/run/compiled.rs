//! [`CompiledNet`]: the shared plan of a network. [`Memory`]: the buffers of one run.

use super::StepReport;
use super::operand::{Context, Operand};
use super::step::{Kernel, Step};
use crate::count::{LayerCount, NetCount};
use crate::error::NetError;
use crate::graph::NodeId;
use crate::shape::Shape;
use kernels::{
    Buffer, ConvPlan, Isa, Layout, Ops, PlanReport, Products, Shape4, Threads, Workspace, WorkspaceReq,
};

/// A network that is ready to run: all layers are planned, weights packed, and activations placed.
///
/// It is immutable, `Send` and `Sync`. Any number of threads can run it at the same time, each with its own
/// [`Memory`].
pub struct CompiledNet {
    pub(super) inputs: Vec<Shape>,
    /// At least one.
    pub(super) outputs: Vec<Shape>,
    pub(super) batch: usize,
    pub(super) ops: Ops,
    pub(super) steps: Vec<Step>,
    pub(super) arena_len: usize,
    pub(super) workspace: WorkspaceReq,
    /// Elements of the bands of convolutions in turns.
    pub(super) bands_len: usize,
    pub(super) count: NetCount,
}

/// The buffers of one run except the output: the activations, in one buffer on huge pages, rows of activations that no
/// other step needs, and the workspace of the kernels.
pub struct Memory {
    arena: Buffer,
    bands: Buffer,
    workspace: Workspace,
}

impl Memory {
    /// Bytes of activations.
    pub fn activation_bytes(&self) -> usize {
        (self.arena.len() + self.bands.len()) * size_of::<f32>()
    }

    /// Bytes of workspace.
    pub fn workspace_bytes(&self) -> usize {
        self.workspace.len() * size_of::<f32>()
    }
}

impl CompiledNet {
    /// Allocates the memory for one run at a time.
    ///
    /// # Errors
    /// [`NetError::Kernel`] if the system cannot provide the memory.
    pub fn memory(&self) -> Result<Memory, NetError> {
        let (arena, bands) = (Buffer::zeroed(self.arena_len)?, Buffer::zeroed(self.bands_len)?);
        Ok(Memory { arena, bands, workspace: Workspace::for_req(self.workspace)? })
    }

    /// Images per forward pass.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The shape of one input image, of the first input if there are several.
    pub fn input(&self) -> Shape {
        self.inputs[0]
    }

    /// The shape of the output, for one image; of the main output if there are several.
    pub fn output(&self) -> Shape {
        self.outputs[0]
    }

    /// The shape of each input, in the order of [`run_all`](Self::run_all).
    pub fn inputs(&self) -> &[Shape] {
        &self.inputs
    }

    /// The shape of each computed output, the main one first.
    pub fn outputs(&self) -> &[Shape] {
        &self.outputs
    }

    /// Number of elements of all images of the first input.
    pub fn input_len(&self) -> usize {
        elements(self.inputs[0], self.batch)
    }

    /// Number of elements of the main output for all images.
    pub fn output_len(&self) -> usize {
        elements(self.outputs[0], self.batch)
    }

    /// Bytes of packed weights.
    pub fn packed_bytes(&self) -> usize {
        self.plans().map(|(_, plan)| plan.packed_bytes()).sum()
    }

    /// The instruction set of the kernels.
    pub fn isa(&self) -> Isa {
        self.ops.isa()
    }

    /// Parameters and multiply-accumulates of every layer of the graph.
    pub fn count(&self) -> &NetCount {
        &self.count
    }

    /// Reports on every step, in the order of execution.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = StepReport> {
        self.steps.iter().map(|step| step.report(&self.count))
    }

    /// For every convolution and fully connected layer, its name and the report of its plan.
    pub fn explain(&self) -> impl Iterator<Item = (&str, &PlanReport)> {
        self.plans().map(|(name, plan)| (name, plan.explain()))
    }

    fn plans(&self) -> impl Iterator<Item = (&str, &ConvPlan)> {
        self.steps.iter().flat_map(Step::convolutions).map(|(name, _, plan)| (name, plan))
    }

    /// Runs one forward pass. `input` and `output` hold `batch` images in NCHW order.
    ///
    /// It allocates nothing. A thread pool is entered once per pass, and its threads stay awake between
    /// layers ([`Threads::with_team`]). Networks that are too small to benefit run on the calling thread. The
    /// output is the same to the bit for every number of threads and every previous use of `memory`.
    ///
    /// # Errors
    /// - [`NetError::InputLen`] or [`NetError::OutputLen`] if a slice does not hold `batch` images or
    ///   outputs.
    /// - [`NetError::MemoryLen`] if `memory` was made for a smaller network.
    /// - [`NetError::Option`] if the network has several inputs, or several outputs are computed.
    pub fn run(
        &self,
        input: &[f32],
        output: &mut [f32],
        memory: &mut Memory,
        threads: Threads<'_>,
    ) -> Result<(), NetError> {
        self.run_observed(input, output, memory, threads, &mut |_| ())
    }

    /// [`run`](Self::run) with a callback: `done` is called after each step with its index among
    /// [`steps`](Self::steps). The call is on one of the threads.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_observed(
        &self,
        input: &[f32],
        output: &mut [f32],
        memory: &mut Memory,
        threads: Threads<'_>,
        done: &mut (dyn FnMut(usize) + Send),
    ) -> Result<(), NetError> {
        self.run_tensors((&[input], &mut [output]), memory, threads, done)
    }

    /// [`run`](Self::run) with several inputs and outputs: one slice for each of [`inputs`](Self::inputs) and of
    /// [`outputs`](Self::outputs).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_all(
        &self,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        memory: &mut Memory,
        threads: Threads<'_>,
    ) -> Result<(), NetError> {
        self.run_tensors((inputs, outputs), memory, threads, &mut |_| ())
    }

    fn run_tensors(
        &self,
        (inputs, outputs): Given<'_, '_>,
        memory: &mut Memory,
        threads: Threads<'_>,
        done: &mut (dyn FnMut(usize) + Send),
    ) -> Result<(), NetError> {
        self.check(inputs, outputs, memory)?;
        let macs = (self.count.macs / self.count.batch).saturating_mul(self.batch as u64);
        let threads = if macs < MACS_OF_A_POOL { Threads::Seq } else { threads };
        threads.with_team(|threads| self.forward((inputs, outputs), memory, threads, done))
    }

    fn check(&self, inputs: &[&[f32]], outputs: &[&mut [f32]], memory: &Memory) -> Result<(), NetError> {
        let batch = self.batch;
        for (option, expected, got) in
            [("inputs", self.inputs.len(), inputs.len()), ("outputs", self.outputs.len(), outputs.len())]
        {
            if expected != got {
                return Err(NetError::Option {
                    option,
                    expected: expected.to_string(),
                    got: got.to_string(),
                });
            }
        }
        for (&shape, input) in self.inputs.iter().zip(inputs) {
            let (expected, got) = (elements(shape, batch), input.len());
            if expected != got {
                return Err(NetError::InputLen { batch, shape, expected, got });
            }
        }
        for (&shape, output) in self.outputs.iter().zip(outputs) {
            let (expected, got) = (elements(shape, batch), output.len());
            if expected != got {
                return Err(NetError::OutputLen { batch, shape, expected, got });
            }
        }
        for (what, expected, got) in [
            ("activations", self.arena_len, memory.arena.len()),
            ("bands", self.bands_len, memory.bands.len()),
            ("workspace", self.workspace.len(), memory.workspace.len()),
        ] {
            if got < expected {
                return Err(NetError::MemoryLen { what, expected, got });
            }
        }
        Ok(())
    }

    fn forward(
        &self,
        (inputs, outputs): Given<'_, '_>,
        memory: &mut Memory,
        threads: Threads<'_>,
        done: &mut (dyn FnMut(usize) + Send),
    ) -> Result<(), NetError> {
        let context = Context { ops: &self.ops, threads, inputs };
        let Memory { arena, bands, workspace } = memory;
        for (number, step) in self.steps.iter().enumerate() {
            step.run(&context, arena, outputs, (workspace, bands))
                .map_err(|error| NetError::layer(&step.name, error))?;
            done(number);
        }
        Ok(())
    }
}

/// Multiply-accumulates that justify entering a thread pool: about 50 microseconds on one core, the time to
/// wake the threads.
const MACS_OF_A_POOL: u64 = 4_000_000;

/// Number of elements of a shape for which memory was planned, so the product cannot overflow.
fn elements(shape: Shape, batch: usize) -> usize {
    let Shape4 { n, c, h, w } = shape.batched(batch);
    n * c * h * w
}

/// The inputs and the outputs of a run.
type Given<'a, 'b> = (&'a [&'a [f32]], &'a mut [&'b mut [f32]]);

impl Step {
    fn report(&self, count: &NetCount) -> StepReport {
        let layers = || self.nodes.iter().map(|node| &count.layers[node.index()]);
        let sum = |number: fn(&LayerCount) -> u64| layers().map(number).sum::<u64>();
        StepReport {
            name: self.name.clone(),
            op: self.op(count),
            output: self.shape,
            layout: self.target.as_ref().map(|target| seen_layout(target.layout)),
            params: sum(|layer| layer.params),
            macs: sum(|layer| layer.macs) / count.batch,
            bytes: self.bytes(),
            algorithm: self.plan().map(ConvPlan::algorithm),
            products: self.plan().map(ConvPlan::products),
            kernel: self.plan().map(|plan| plan.explain().kernel),
        }
    }

    /// The kind in reports, such as `conv+relu`, also for merged layers. Convolutions in turns have `>` between them.
    fn op(&self, count: &NetCount) -> String {
        let of_layers = |nodes: &[NodeId]| {
            let ops: Vec<&str> = nodes.iter().map(|node| count.layers[node.index()].op.as_str()).collect();
            self.op_of(&ops)
        };
        match &self.kernel {
            Kernel::Chain(chain) => {
                chain.links.iter().map(|link| of_layers(&link.nodes)).collect::<Vec<_>>().join(" > ")
            }
            _ => of_layers(&self.nodes),
        }
    }

    fn op_of(&self, ops: &[&str]) -> String {
        let from = self.sources.first().map(|source| source.layout);
        match (ops, &self.target) {
            ([], Some(target)) if from != Some(target.layout) => "reorder".to_owned(),
            ([], _) => "copy".to_owned(),
            ([first, ..], _) => {
                let next = ops.iter().skip(1).position(|op| op == first && *first == "conv");
                ops[..next.map_or(ops.len(), |next| next + 1)].join("+")
            }
        }
    }

    /// Bytes moved: inputs, weights and output, each counted once. Weights are in bf16 parts for bf16 products.
    fn bytes(&self) -> u64 {
        let tensor = |operand: &Operand| {
            let Shape4 { n, c, h, w } = operand.shape;
            [n, c, h, w].iter().fold(size_of::<f32>() as u64, |bytes, &extent| bytes * extent as u64)
        };
        let moved: u64 = self.sources.iter().chain(&self.target).map(tensor).sum();
        let bytes = |(_, _, plan): (&str, &[NodeId], &ConvPlan)| {
            plan.desc().filter_len() * weight_bytes(plan.products())
        };
        let weights: usize = self.convolutions().map(bytes).sum();
        if self.target.is_some() { moved + weights as u64 } else { 0 }
    }
}

/// Bytes of one weight: an `f32`, or its bf16 parts.
fn weight_bytes(products: Products) -> usize {
    match products {
        Products::Bf16 => 2,
        Products::Bf16x6 => 6,
        _ => 4,
    }
}

/// The layout to report: the internal row of vectors counts as NCHW.
fn seen_layout(layout: Layout) -> Layout {
    if layout == Layout::Nhwc { Layout::Nchw } else { layout }
}
