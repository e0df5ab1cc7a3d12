//! Compiles a graph to a network that trains.
//!
//! ```text
//! Graph  ->  lower  ->  which gradients are needed  ->  share and assign memory  ->  plan  ->  TrainNet
//! ```

mod blocks;
mod build;
mod memory;
mod needs;
mod recompute;
#[cfg(test)]
mod tests;

use super::heads::Heads;
use super::net::TrainNet;
use super::parameter::Params;
use super::pass::{Parts, Step};
use super::unit::combine::Block;
use super::{TrainOptions, figures};
use crate::error::{LayerError, NetError};
use crate::graph::{Graph, NodeId};
use crate::layer::Layer;
use crate::run::layout;
use crate::run::lower::{Arg, Op, Program, Wanted, Work, lower_for_training};
use crate::weights::WeightSource;
use blocks::{ResidualBlock, residual_blocks, survival};
use build::Builder;
use kernels::{Buffer, Layout, Ops, PlanOptions, Team, Workspace, WorkspaceReq};
use memory::{Memory, Writes};
use needs::Needed;
use recompute::Recomputed;

/// The nodes whose values are logits: the output of the network, and side classifiers.
struct Outputs {
    nodes: Vec<NodeId>,
    weights: Vec<f32>,
    /// Whether small values mean similar: distances to codes.
    are_distances: bool,
}

impl TrainNet {
    /// Plans every layer of `graph` for training.
    ///
    /// A softmax at the end is part of the loss. Side classifiers are nodes that no other layer reads and that have as many
    /// outputs as the network; their losses count [`side_weight`](TrainOptions::side_weight) times.
    ///
    /// # Errors
    /// - [`NetError::Layer`] for a layer that cannot be trained, or that the kernels reject.
    /// - [`NetError::TooLarge`] for activations and gradients beyond the memory limit.
    /// - [`NetError::Option`] for an invalid option, another batch size than that of the network, and several inputs.
    /// - [`NetError::Kernel`] for an instruction set that this machine does not have.
    /// - Those of `weights`.
    pub fn new(graph: &Graph, weights: &dyn WeightSource, options: &TrainOptions) -> Result<Self, NetError> {
        options.check()?;
        if let Some(expected) = graph.batch().filter(|&expected| expected != options.batch) {
            let (expected, got) = (expected.to_string(), options.batch.to_string());
            return Err(NetError::Option { option: "batch", expected, got });
        }
        let inputs = graph.inputs().count();
        if inputs != 1 {
            let (expected, got) = ("1".to_owned(), inputs.to_string());
            return Err(NetError::Option { option: "inputs", expected, got });
        }
        let ops = Ops::new(options.isa)?;
        let outputs = outputs(graph, options);
        let wanted = Wanted {
            batch: options.batch,
            layout: options
                .layout
                .or_else(|| Some(layout::of_network(graph)).filter(|of| *of != Layout::Nchw)),
            outputs: &outputs.nodes,
            drops: options.dropout > 0.0,
        };
        let mut program = lower_for_training(graph, &wanted)?;
        let reaches = graph.ancestors(&outputs.nodes);
        let mut params = Params::new(graph, weights, &options.frozen, |node| reaches[node])?;
        params.parametrize(graph, options.parametrization);
        let needed = Needed::new(graph, &program, &params);
        let blocks = if options.survival < 1.0 { residual_blocks(graph) } else { Vec::new() };
        blocks.iter().for_each(|block| branch_first(graph, &mut program, block));
        let sums: Vec<NodeId> = blocks.iter().map(|block| block.add).collect();
        memory::share_values(graph, &mut program, &needed, &sums);
        let recomputed = Recomputed::find(graph, &mut program, &needed, options.recompute);
        let (memory, writes) = Memory::new(graph, &program, &needed, recomputed);
        memory.check(graph, options)?;
        let threads = options.max_threads.min(Team::most_members());
        let plan_options = PlanOptions::default().isa(ops.isa()).max_threads(threads);
        let builder =
            Builder { graph, options, plan_options, params: &params, needed: &needed, memory: &memory };
        let steps = steps(&builder, &program, &writes, &blocks)?;
        let req = steps
            .iter()
            .fold(WorkspaceReq::default(), |all, step| all.union(step.unit.workspace_req(threads)));
        let heads = heads(graph, options, &program, &memory, &outputs)?;
        let survivals = (0..blocks.len()).map(|number| survival(number, blocks.len(), options.survival));
        Ok(Self::from_parts(
            graph,
            options,
            Parts {
                ops,
                steps,
                heads,
                params,
                arena: Buffer::zeroed(memory.len)?,
                workspace: Workspace::for_req(req)?,
                survivals: survivals.collect(),
            },
        ))
    }
}

fn outputs(graph: &Graph, options: &TrainOptions) -> Outputs {
    let output = graph.output_id();
    let (main, are_distances) = match graph.node(output).layer {
        Layer::Softmax => (graph.node(output).inputs[0], false),
        Layer::Rbf { .. } => (output, true),
        _ => (output, false),
    };
    let mut outputs = Outputs { nodes: vec![main], weights: vec![1.0], are_distances };
    if options.side_weight == 0.0 {
        return outputs;
    }
    let readers = graph.consumers();
    for (id, node) in graph.ids() {
        let is_side =
            readers[id.index()].is_empty() && id != output && node.output == graph.node(main).output;
        if is_side {
            outputs.nodes.push(id);
            outputs.weights.push(options.side_weight);
        }
    }
    outputs
}

/// Makes the branch of a residual block the first input of its sum.
fn branch_first(graph: &Graph, program: &mut Program, block: &ResidualBlock) {
    let sum = program.ops.iter_mut().find(|op| op.node == block.add && op.reads.len() == 2);
    if let Some(op) = sum
        && graph.node(block.add).inputs[1] == block.branch
    {
        op.reads.swap(0, 1);
    }
}

/// By operation: the residual block whose branch it belongs to. A copy belongs to the branch that alone reads it.
fn inside(ops: &[Op], blocks: &[ResidualBlock]) -> Vec<Option<usize>> {
    let mut inside: Vec<Option<usize>> = ops
        .iter()
        .map(|op| match op.work {
            Work::Layers(_) => blocks.iter().position(|block| block.inside[op.node.index()]),
            Work::Copy | Work::View => None,
        })
        .collect();
    for (index, op) in ops.iter().enumerate().rev() {
        if let (Work::Copy, Some(write)) = (&op.work, op.write) {
            let mut readers =
                ops.iter().zip(&inside).filter(|(op, _)| op.reads.iter().any(|arg| arg.value == write));
            let first = readers.next().and_then(|(_, block)| *block);
            let all = readers.all(|(_, block)| *block == first);
            inside[index] = first.filter(|_| all);
        }
    }
    inside
}

/// The steps of a pass.
fn steps(
    builder: &Builder<'_>,
    program: &Program,
    writes: &[Writes],
    blocks: &[ResidualBlock],
) -> Result<Vec<Step>, NetError> {
    let Program { ops, .. } = program;
    let (graph, inside) = (builder.graph, inside(ops, blocks));
    let mut steps = Vec::with_capacity(ops.len());
    // Operations without a target are no steps.
    let number_of = |index: usize| ops[..index].iter().filter(|op| op.write.is_some()).count();
    for (index, (op, writes)) in ops.iter().zip(writes).enumerate() {
        let Some(write) = op.write else { continue };
        let ends = blocks.iter().position(|block| block.add == op.node && matches!(op.work, Work::Layers(_)));
        let channels = program.storages.value(write).shape.c;
        let block = ends.map(|number| Block {
            number,
            survival: vec![survival(number, blocks.len(), builder.options.survival); channels],
            zeros: vec![0.0; channels],
        });
        let node = graph.node(op.node);
        let params = match &op.work {
            Work::Layers(layers) => {
                layers.iter().flat_map(|fused| &fused.nodes).map(|&id| &graph.node(id).name).collect()
            }
            Work::Copy | Work::View => Vec::new(),
        };
        let params =
            params.iter().flat_map(|name| ["weight", "bias"].map(|param| builder.params.find(name, param)));
        let first_written = op.reads.iter().zip(&writes.adds).filter(|(_, adds)| **adds == Some(false));
        steps.push(Step {
            name: node.name.clone(),
            unit: builder.unit(op, write, writes, block)?,
            has_gradient: builder.needed.op(op),
            zeros: writes
                .zeros
                .iter()
                .map(|(k, channels)| builder.memory.gradient_part(op.reads[*k].value, channels))
                .collect(),
            again: builder.memory.again_before(index).iter().map(|&index| number_of(index)).collect(),
            block: inside[index],
            skipped: first_written.map(|(arg, _)| builder.memory.gradient_of(arg)).collect(),
            params: params.flatten().collect(),
            target: builder.memory.target(write),
            figures: figures::kind(graph, op),
            row: None,
        });
    }
    Ok(steps)
}

/// The logits of the network and of its side classifiers.
fn heads(
    graph: &Graph,
    options: &TrainOptions,
    program: &Program,
    memory: &Memory,
    outputs: &Outputs,
) -> Result<Heads, NetError> {
    let tensors = program.outputs.iter().zip(&outputs.nodes).map(|(&value, &node)| {
        // The value can be the map that was flattened, which has as many elements in the same order.
        let shape = graph.node(node).output.batched(options.batch);
        let arg = Arg { value, shape, layout: Layout::Nchw };
        (memory.source(&arg), memory.gradient_of(&arg))
    });
    let tensors: Vec<_> = tensors.zip(&outputs.weights).map(|((x, dx), weight)| (x, dx, *weight)).collect();
    let name = &graph.node(outputs.nodes[0]).name;
    if graph.node(outputs.nodes[0]).output.channels() < 2 {
        let problem =
            LayerError::Input { expected: "at least two classes", got: graph.node(outputs.nodes[0]).output };
        return Err(NetError::layer(name, problem));
    }
    Ok(Heads::new(tensors, options.loss, outputs.are_distances))
}
