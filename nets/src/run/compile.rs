//! Compiles a graph to an executable network: lower, merge, assign memory, plan.

use super::arena::{self, Need};
use super::chain::{self, Described, Planned};
use super::compiled::CompiledNet;
use super::in_place::in_place;
use super::kernel::{Kernels, Known};
use super::lower::{Op, Program, Work, lower};
use super::merge::merge;
use super::narrow::narrow;
use super::operand::Operand;
use super::packed::PackedWeights;
use super::places::Places;
use super::step::{Kernel, Step};
use super::{NetOptions, layout};
use crate::count::{count, count_batch};
use crate::error::{LayerError, NetError};
use crate::graph::{Graph, NodeId};
use crate::layer::Layer;
use crate::shape::Shape;
use crate::weights::WeightSource;
use kernels::{ConvPlan, Layout, Ops, PlanOptions, Select, Team, Wisdom, WorkspaceReq};
use std::cell::RefCell;
use std::ops::Range;

impl CompiledNet {
    /// Plans every layer of `graph` for a batch size and packs its weights.
    ///
    /// # Errors
    /// - [`NetError::Layer`] for a layer that the kernels reject.
    /// - [`NetError::TooLarge`] for activations beyond the memory limit.
    /// - [`NetError::Option`] for an invalid option.
    /// - [`NetError::Kernel`] for an instruction set that this machine does not have.
    /// - Those of `weights`.
    pub fn new(graph: &Graph, weights: &dyn WeightSource, options: &NetOptions) -> Result<Self, NetError> {
        // Equal layers are timed once.
        let wisdom = (options.select == Select::Measured).then(Wisdom::new);
        net(graph, weights, options, Known { wisdom: wisdom.as_ref(), packed: None })
    }

    /// [`new`](Self::new) with weights that are packed already, where they are packed in a form that is about as fast as
    /// the best one. The others are packed from `weights`.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`NetError::Packed`] if `packed` is not of `graph` and `weights`.
    pub fn with_packed(
        graph: &Graph,
        weights: &dyn WeightSource,
        options: &NetOptions,
        packed: &PackedWeights,
    ) -> Result<Self, NetError> {
        packed.check(graph, weights)?;
        let wisdom = (options.select == Select::Measured).then(Wisdom::new);
        net(graph, weights, options, Known { wisdom: wisdom.as_ref(), packed: Some(packed) })
    }

    /// [`new`](Self::new) with measured times from other plans. Under [`Select::Measured`], it reuses the
    /// times in `wisdom` and adds the missing ones.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_wisdom(
        graph: &Graph,
        weights: &dyn WeightSource,
        options: &NetOptions,
        wisdom: &Wisdom,
    ) -> Result<Self, NetError> {
        net(graph, weights, options, Known { wisdom: Some(wisdom), packed: None })
    }
}

fn net(
    graph: &Graph,
    weights: &dyn WeightSource,
    options: &NetOptions,
    known: Known<'_>,
) -> Result<CompiledNet, NetError> {
    check_options(options)?;
    let outputs = if options.all_outputs { graph.outputs() } else { &graph.outputs()[..1] };
    check_graph(graph, outputs, options.batch)?;
    // The peak of live activations is a lower bound of the memory that will be allocated.
    let peak = count_batch(graph, options.batch as u64).map_or(u64::MAX, |count| count.peak_activation_bytes);
    within_limit(graph, options, peak)?;
    let ops = Ops::new(options.isa)?;
    let layout = options.layout.unwrap_or_else(|| layout::of_network(graph));
    let mut program = lower(graph, outputs, options.batch, layout)?;
    merge(graph, &mut program);
    let plan_options = PlanOptions::default()
        .isa(ops.isa())
        .max_threads(options.max_threads.min(Team::most_members()))
        .numerics(options.numerics)
        .bytes_between_runs(usize::try_from(weight_bytes(graph, &program)).unwrap_or(usize::MAX))
        .select(options.select);
    narrow(graph, &mut program, &plan_options);
    in_place(graph, &mut program);
    let bytes = |places: &Places| (places.len as u64).saturating_mul(size_of::<f32>() as u64);
    within_limit(graph, options, bytes(&places_of(&program, &[])))?;

    let part = RefCell::default();
    let kernels = Kernels { graph, weights, program: &program, options: plan_options, known, part };
    let kernels = largest_first(graph, &program, &kernels)?;
    let plans: Vec<Option<&ConvPlan>> = kernels.iter().map(Kernel::plan).collect();
    let chains = chain::plan(&program, &plans, &plan_options);
    let places = places_of(&program, &chains);
    let steps = steps(graph, &program, &places, kernels, chains);
    let workspace = steps.iter().map(Step::workspace_req).fold(WorkspaceReq::default(), WorkspaceReq::union);
    Ok(CompiledNet {
        inputs: graph.inputs().map(|id| graph.node(id).output).collect(),
        outputs: outputs.iter().map(|&id| graph.node(id).output).collect(),
        batch: options.batch,
        ops,
        arena_len: places.len,
        bands_len: steps.iter().map(Step::bands_len).max().unwrap_or_default(),
        workspace,
        steps,
        count: count(graph)?,
    })
}

/// The steps, one for each chain and one for each other operation.
fn steps(
    graph: &Graph,
    program: &Program,
    places: &Places,
    kernels: Vec<Kernel>,
    chains: Vec<Planned>,
) -> Vec<Step> {
    let mut chains = chains.into_iter().peekable();
    let mut kernels = kernels.into_iter().enumerate();
    let mut steps = Vec::with_capacity(program.ops.len());
    while let Some((index, kernel)) = kernels.next() {
        let Some(chain) = chains.next_if(|chain| chain.ops.start == index) else {
            steps.push(step(graph, program, places, index..index + 1, kernel));
            continue;
        };
        let ops = chain.ops.clone();
        let others = kernels.by_ref().take(ops.len() - 1).map(|(_, kernel)| kernel);
        let plans = std::iter::once(kernel).chain(others).filter_map(Kernel::into_plan);
        let links = program.ops[ops.clone()].iter().map(|op| link_of(graph, program, op)).zip(plans);
        let kernel = Kernel::Chain(Box::new(chain.finish(links)));
        steps.push(step(graph, program, places, ops, kernel));
    }
    steps
}

/// The name and the layers of one convolution of a chain.
fn link_of(graph: &Graph, program: &Program, op: &Op) -> Described {
    let (nodes, _) = described(graph, program, op);
    Described { name: name(graph, &nodes, op), nodes }
}

/// The step of one operation, or of a chain of them.
fn step(graph: &Graph, program: &Program, places: &Places, ops: Range<usize>, kernel: Kernel) -> Step {
    let ops = &program.ops[ops];
    let (first, last) = (&ops[0], &ops[ops.len() - 1]);
    // In a chain, the first operand of every operation but the first is an inner value.
    let reads = first.reads.iter().chain(ops[1..].iter().flat_map(|op| &op.reads[1..]));
    let sources: Vec<Operand> = reads.map(|arg| places.operand(&program.storages, arg)).collect();
    let target = last.write.map(|write| places.target(&program.storages, last.reads.first(), write));
    let links: Vec<Described> = ops.iter().map(|op| link_of(graph, program, op)).collect();
    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    let name = names.join(" > ");
    let nodes = links.into_iter().flat_map(|link| link.nodes).collect();
    Step { name, nodes, kernel, sources, target, shape: described(graph, program, last).1 }
}

/// Builds the kernel of each operation, those with the most weights first.
///
/// If a source has no parts, a layer's weights are in memory twice while they are packed. Packing the largest
/// layers first keeps the peak low, because little else is packed then.
fn largest_first(graph: &Graph, program: &Program, kernels: &Kernels<'_>) -> Result<Vec<Kernel>, NetError> {
    let weights = |op: &Op| weights_of(graph, program, op);
    let mut order: Vec<usize> = (0..program.ops.len()).collect();
    order.sort_by_cached_key(|&index| std::cmp::Reverse(weights(&program.ops[index])));
    let built: Result<Vec<_>, NetError> =
        order.into_iter().map(|index| Ok((index, kernels.kernel(&program.ops[index])?))).collect();
    // Report the first wrong layer in the order of the graph, not the first one built.
    let first = |error| program.ops.iter().find_map(|op| kernels.kernel(op).err()).unwrap_or(error);
    let mut built = built.map_err(first)?;
    built.sort_by_key(|&(index, _)| index);
    Ok(built.into_iter().map(|(_, kernel)| kernel).collect())
}

/// Number of weights of an operation.
fn weights_of(graph: &Graph, program: &Program, op: &Op) -> u64 {
    let nodes = described(graph, program, op).0.into_iter().map(|id| graph.node(id));
    let params = nodes.flat_map(|node| node.layer.params(&graph.input_shapes(node)));
    params.filter_map(|param| param.len()).sum()
}

/// Bytes of all weights, which is about what a pass reads between two runs of a layer.
fn weight_bytes(graph: &Graph, program: &Program) -> u64 {
    let weights: u64 = program.ops.iter().map(|op| weights_of(graph, program, op)).sum();
    weights.saturating_mul(size_of::<f32>() as u64)
}

/// Rejects graphs whose output depends on a layer that can only be counted, and batch sizes that the graph
/// does not allow.
fn check_graph(graph: &Graph, outputs: &[NodeId], batch: usize) -> Result<(), NetError> {
    let mut needed = graph.nodes().iter().zip(graph.ancestors(outputs)).filter(|&(_, needed)| needed);
    if let Some((node, _)) = needed.find(|(node, _)| node.layer.is_unknown()) {
        let op = node.layer.op().to_owned();
        return Err(NetError::layer(
            &node.name,
            match &node.layer {
                Layer::Unknown { reason, .. } => LayerError::NotImported { op, reason: reason.clone() },
                _ => LayerError::NoKernel { op },
            },
        ));
    }
    match graph.batch().filter(|&only| only != batch) {
        Some(only) => Err(NetError::Option {
            option: "batch",
            expected: format!("{only} (the layers of network `{}` depend on the batch)", graph.name()),
            got: batch.to_string(),
        }),
        None => Ok(()),
    }
}

fn check_options(options: &NetOptions) -> Result<(), NetError> {
    for (option, value) in [("batch", options.batch), ("threads", options.max_threads)] {
        if value == 0 {
            return Err(NetError::Option { option, expected: "at least 1".to_owned(), got: "0".to_owned() });
        }
    }
    match options.layout {
        Some(layout @ Layout::Nhwc) => Err(NetError::Option {
            option: "layout",
            expected: format!("{} or {}", Layout::Nchw, Layout::Nchw16c),
            got: layout.to_string(),
        }),
        _ => Ok(()),
    }
}

fn within_limit(graph: &Graph, options: &NetOptions, needed: u64) -> Result<(), NetError> {
    if needed > options.memory_limit {
        let what = format!("activations of network `{}` for {} images", graph.name(), options.batch);
        return Err(NetError::TooLarge { what, limit: options.memory_limit, needed });
    }
    Ok(())
}

/// The layers of an operation, and the shape that it writes.
fn described(graph: &Graph, program: &Program, op: &Op) -> (Vec<NodeId>, Shape) {
    match &op.work {
        Work::View => (vec![op.node], graph.node(op.node).output),
        Work::Copy => {
            let shape = op.write.map(|write| program.storages.value(write).shape);
            (Vec::new(), shape.map_or(graph.node(op.node).output, Shape::from))
        }
        Work::Layers(layers) => {
            let nodes: Vec<NodeId> = layers.iter().flat_map(|fused| fused.nodes.iter().copied()).collect();
            let last = graph.node(nodes[nodes.len() - 1]).output;
            let merged = op.write.map(|write| program.storages.value(write).shape);
            let shape = if layers.len() > 1 { merged.map_or(last, Shape::from) } else { last };
            (nodes, shape)
        }
    }
}

/// The name of an operation: the name of its layer, or the names of all merged layers.
fn name(graph: &Graph, nodes: &[NodeId], op: &Op) -> String {
    match &op.work {
        Work::Layers(layers) if layers.len() > 1 => {
            let firsts = layers.iter().map(|fused| graph.node(fused.nodes[0]).name.as_str());
            firsts.collect::<Vec<_>>().join(" + ")
        }
        _ => graph.node(nodes.first().copied().unwrap_or(op.node)).name.clone(),
    }
}

/// The places of all storages. A storage lives from the first operation that writes it to the last one that reads it. The
/// operations of a chain run at the same time, and their inner values have memory of their own.
fn places_of(program: &Program, chains: &[Planned]) -> Places {
    let storages = &program.storages;
    let of = |values: &[usize]| values.iter().map(|&value| storages.of(value)).collect::<Vec<_>>();
    let (inputs, outputs) = (of(&program.inputs), of(&program.outputs));
    let inner = chains.iter().flat_map(|chain| chain.inner_values(program));
    let inner = inner.map(|value| storages.of(value));
    let without: Vec<usize> = inner.chain(inputs.iter().chain(&outputs).copied()).collect();
    let mut needs: Vec<Option<Need>> = vec![None; storages.len()];
    for (step, op) in program.ops.iter().enumerate() {
        let chain = chains.iter().map(|chain| &chain.ops).find(|ops| ops.contains(&step));
        let (first, last) = chain.map_or((step, step), |ops| (ops.start, ops.end - 1));
        for value in op.write.into_iter().chain(op.reads.iter().map(|arg| arg.value)) {
            let storage = storages.of(value);
            if !without.contains(&storage) {
                let len = storages.len_of(value).0;
                let need = needs[storage].get_or_insert(Need { len, first, last });
                need.last = need.last.max(last);
            }
        }
    }
    let (offsets, len) = arena::assign(&needs);
    Places { offsets, len, inputs, outputs }
}

#[cfg(test)]
mod tests {
    use super::super::operand::Place;
    use super::*;
    use crate::zoo;

    /// The condition for sharing memory: no step writes to memory that it reads, except that an operation in place
    /// writes exactly where its first operand is.
    fn targets_are_apart(program: &Program) -> bool {
        let places = places_of(program, &[]);
        let op_is_fine = |op: &Op| {
            let Some(write) = op.write else { return true };
            let target = places.target(&program.storages, op.reads.first(), write).place;
            let sources = op.reads.iter().map(|arg| places.operand(&program.storages, arg).place).enumerate();
            let is_in_place = |index: usize, source: &Place| index == 0 && *source == target;
            sources.filter(|(index, source)| !is_in_place(*index, source)).all(|(_, source)| {
                match (&target, source) {
                    (Place::Arena(target), Place::Arena(source)) => {
                        source.end <= target.start || target.end <= source.start
                    }
                    (_, source) => !matches!(source, Place::Output(..)),
                }
            })
        };
        program.ops.iter().all(op_is_fine)
    }

    #[test]
    fn every_target_is_apart_from_what_its_step_reads() {
        for entry in zoo::ALL {
            let graph = entry.graph().unwrap();
            for (batch, layout) in [1, 2].into_iter().flat_map(|n| [(n, Layout::Nchw), (n, Layout::Nchw16c)])
            {
                let mut program = lower(&graph, graph.outputs(), batch, layout).unwrap();
                merge(&graph, &mut program);
                in_place(&graph, &mut program);
                assert!(targets_are_apart(&program), "{} x {batch} in {layout}", entry.name);
            }
        }
    }
}
