//! From a graph to steps: fuse, plan, assign buffers, allocate.

use super::fuse::{Fused, Readers, fuse};
use super::slots::{Slots, Use};
use super::step::{Kernel, Place, ScaleShift, Step};
use super::{Net, NetOptions};
use crate::count::{NetCount, count, count_batch};
use crate::error::{LayerError, NetError};
use crate::graph::{Graph, Node, NodeId};
use crate::layer::{Conv, Layer, Linear, Norm};
use crate::weights::WeightSet;
use kernels::{
    Activation, ConvPlan, EpilogueSpec, Layout, LinearPlan, LrnSpec, NormSpec, Ops, PlanOptions, Shape4,
    Weights, Workspace, WorkspaceReq,
};
use std::borrow::Cow;

/// What compiling one node after the other needs and makes.
struct Compiler<'a> {
    graph: &'a Graph,
    weights: &'a WeightSet,
    batch: usize,
    plan_options: PlanOptions,
    /// Of each node, once its step is made.
    places: Vec<Option<Place>>,
    steps: Vec<Step>,
    buffer_lens: Vec<usize>,
    workspace: WorkspaceReq,
}

pub(super) fn net(graph: &Graph, weights: &WeightSet, options: &NetOptions) -> Result<Net, NetError> {
    check_options(options)?;
    check_memory(graph, options)?;
    let ops = Ops::new(options.isa)?;
    let mut compiler = Compiler {
        graph,
        weights,
        batch: options.batch,
        plan_options: PlanOptions::default().isa(ops.isa()).max_threads(options.max_threads),
        places: vec![None; graph.nodes().len()],
        steps: Vec::new(),
        buffer_lens: Vec::new(),
        workspace: WorkspaceReq::default(),
    };
    let readers = Readers::of(graph);
    for (id, node) in graph.ids().filter(|&(id, _)| readers.needs(id)) {
        if compiler.places[id.index()].is_none() {
            let places = &compiler.places;
            let fused = fuse(graph, &readers, id, |id| places[id.index()].is_some());
            compiler.node(id, node, fused)?;
        }
    }
    compiler.finish(ops, options, count(graph)?)
}

fn check_options(options: &NetOptions) -> Result<(), NetError> {
    for (option, value) in [("batch", options.batch), ("threads", options.max_threads)] {
        if value == 0 {
            return Err(NetError::Option { option, expected: "at least 1".to_owned(), got: "0".to_owned() });
        }
    }
    Ok(())
}

/// What is needed at the same time is the least that will be allocated.
fn check_memory(graph: &Graph, options: &NetOptions) -> Result<(), NetError> {
    let peak = |count: NetCount| count.peak_activation_bytes;
    within_limit(graph, options, count_batch(graph, options.batch as u64).map_or(u64::MAX, peak))
}

fn within_limit(graph: &Graph, options: &NetOptions, needed: u64) -> Result<(), NetError> {
    if needed > options.memory_limit {
        let what = format!("activations of network `{}` for {} images", graph.name(), options.batch);
        return Err(NetError::TooLarge { what, limit: options.memory_limit, needed });
    }
    Ok(())
}

impl Compiler<'_> {
    /// Buffers are shared by activations that are not needed at the same time.
    fn finish(mut self, ops: Ops, options: &NetOptions, count: NetCount) -> Result<Net, NetError> {
        let buffer = |place: &Place| match place {
            Place::Buffer(index) => Some(*index),
            Place::Input => None,
        };
        let result = self.place(self.graph.output_id());
        let uses = self
            .steps
            .iter()
            .map(|step| Use { reads: step.sources.iter().filter_map(buffer).collect(), writes: step.target });
        let slots = Slots::assign(&self.buffer_lens, &uses.collect::<Vec<_>>(), buffer(&result));
        let bytes = slots
            .lens
            .iter()
            .fold(0u64, |sum, &len| sum.saturating_add(len as u64 * size_of::<f32>() as u64));
        within_limit(self.graph, options, bytes)?;
        let moved =
            |place: Place| buffer(&place).map_or(Place::Input, |index| Place::Buffer(slots.of[index]));
        for step in &mut self.steps {
            step.target = step.target.map(|target| slots.of[target]);
            step.sources.iter_mut().for_each(|source| *source = moved(*source));
        }
        Ok(Net {
            input: self.graph.input(),
            output: self.graph.output(),
            batch: self.batch,
            ops,
            result: moved(result),
            steps: self.steps,
            buffers: slots.lens.iter().map(|&len| vec![0.0; len]).collect(),
            workspace: Workspace::for_req(self.workspace),
            count,
        })
    }

    fn node(&mut self, id: NodeId, node: &Node, fused: Fused) -> Result<(), NetError> {
        if let Layer::Input(_) = node.layer {
            if id.index() > 0 {
                return Err(NetError::layer(
                    &node.name,
                    LayerError::NoKernel { op: "second input".to_owned() },
                ));
            }
            self.places[0] = Some(Place::Input);
            return Ok(());
        }
        let kernel = self.kernel(node, &fused).map_err(|problem| NetError::layer(&node.name, problem))?;
        let last = fused.nodes[fused.nodes.len() - 1];
        let shape = self.graph.node(last).output;
        let output = shape.batched(self.batch);
        let read: Vec<NodeId> = node.inputs.iter().copied().chain(fused.residual).collect();
        let sources: Vec<Place> = read.iter().map(|&id| self.place(id)).collect();
        let target = match kernel {
            Kernel::View => None,
            _ => {
                self.buffer_lens.push(output.len(Layout::Nchw)?);
                Some(self.buffer_lens.len() - 1)
            }
        };
        for node in &fused.nodes {
            self.places[node.index()] = Some(target.map_or(sources[0], Place::Buffer));
        }
        let inputs = read.iter().map(|&id| self.graph.node(id).output.batched(self.batch)).collect();
        let name = node.name.clone();
        self.steps.push(Step { name, nodes: fused.nodes, kernel, sources, target, inputs, output, shape });
        Ok(())
    }

    /// Where a node's output is; nodes come in an order in which it is known.
    fn place(&self, id: NodeId) -> Place {
        self.places[id.index()].expect("a graph's nodes read earlier nodes only")
    }

    fn input(&self, node: &Node) -> Result<Shape4, LayerError> {
        let first = node.inputs.first().ok_or_else(|| no_kernel(node))?;
        Ok(self.graph.node(*first).output.batched(self.batch))
    }

    fn kernel(&mut self, node: &Node, fused: &Fused) -> Result<Kernel, LayerError> {
        let input = self.input(node)?;
        Ok(match &node.layer {
            layer if layer.is_view() => Kernel::View,
            Layer::Conv(conv) => {
                let plan = self.conv(node, conv, fused, self.tensor(node, "weight")?.into())?;
                self.planned(plan)
            }
            Layer::SparseConv(sparse) => {
                let dense = sparse.dense(self.tensor(node, "weight")?, input.c);
                let plan = self.conv(node, &sparse.conv, fused, dense.into())?;
                self.planned(plan)
            }
            Layer::Linear(linear) => Kernel::Linear(self.linear(node, linear, input, fused)?),
            Layer::Pool(pool) => Kernel::Pool(pool.desc(input, Layout::Nchw)?),
            Layer::AdaptivePool(pool) => match pool.as_pool(input) {
                Some(pool) => Kernel::Pool(pool.desc(input, Layout::Nchw)?),
                None => Kernel::AdaptivePool,
            },
            Layer::Subsample(subsample) => {
                let window = subsample.window.h as f32 * subsample.window.w as f32;
                let scale = self.tensor(node, "weight")?.iter().map(|factor| factor * window).collect();
                let shift = self.tensor(node, "bias")?.to_vec();
                Kernel::Subsample(subsample.pool().desc(input, Layout::Nchw)?, ScaleShift { scale, shift })
            }
            &Layer::Activation(activation) => {
                let slope = (activation == Activation::PRelu).then(|| self.tensor(node, "weight"));
                Kernel::Activation { activation, slope: slope.transpose()?.map(<[f32]>::to_vec) }
            }
            Layer::Norm(norm) => self.norm(node, norm, input)?,
            Layer::Scale { scale, shift } => {
                let part = |wanted: bool, name, absent: f32| match wanted {
                    true => self.tensor(node, name).map(<[f32]>::to_vec),
                    false => Ok(vec![absent; input.c]),
                };
                let (scale, shift) = (part(*scale, "weight", 1.0)?, part(*shift, "bias", 0.0)?);
                Kernel::ScaleShift(ScaleShift { scale, shift })
            }
            Layer::Lrn(lrn) => {
                Kernel::Lrn(LrnSpec { size: lrn.size, alpha: lrn.alpha, beta: lrn.beta, k: lrn.k })
            }
            Layer::Maxout { pieces } => Kernel::Maxout(*pieces),
            Layer::Concat => Kernel::Concat,
            Layer::Add => Kernel::Add(activation(fused)),
            Layer::Mul => Kernel::Mul,
            Layer::Pad(pad) => Kernel::Pad(*pad),
            Layer::ShortcutA { stride, .. } => Kernel::ShortcutA(*stride),
            Layer::Rbf { .. } => Kernel::Rbf(self.tensor(node, "weight")?.to_vec()),
            Layer::Softmax => Kernel::Softmax,
            _ => return Err(no_kernel(node)),
        })
    }

    fn norm(&self, node: &Node, norm: &Norm, input: Shape4) -> Result<Kernel, LayerError> {
        let Some(groups) = norm.groups(input.c) else {
            return Ok(Kernel::ScaleShift(self.folded(node, norm)?));
        };
        let spec = NormSpec { groups, eps: norm.eps };
        let part = |name| norm.affine.then(|| self.tensor(node, name).map(<[f32]>::to_vec)).transpose();
        Ok(Kernel::Normalize { spec, scale: part("weight")?, shift: part("bias")? })
    }

    /// Batch normalisation as one factor and one sum per channel, computed in `f64`.
    fn folded(&self, node: &Node, norm: &Norm) -> Result<ScaleShift, LayerError> {
        let (mean, var) = (self.tensor(node, "running_mean")?, self.tensor(node, "running_var")?);
        let part = |name| norm.affine.then(|| self.tensor(node, name)).transpose();
        let (weight, bias) = (part("weight")?, part("bias")?);
        let number = |numbers: Option<&[f32]>, c: usize, absent| numbers.map_or(absent, |n| f64::from(n[c]));
        let both = mean.iter().zip(var).enumerate().map(|(c, (&mean, &var))| {
            let scale = number(weight, c, 1.0) / (f64::from(var) + f64::from(norm.eps)).sqrt();
            (scale as f32, (number(bias, c, 0.0) - f64::from(mean) * scale) as f32)
        });
        let (scale, shift) = both.unzip();
        Ok(ScaleShift { scale, shift })
    }

    fn planned(&mut self, plan: ConvPlan) -> Kernel {
        self.workspace = self.workspace.union(plan.workspace_req());
        Kernel::Conv(plan)
    }

    fn conv(
        &self,
        node: &Node,
        conv: &Conv,
        fused: &Fused,
        mut filter: Cow<'_, [f32]>,
    ) -> Result<ConvPlan, LayerError> {
        let mut bias = conv.bias.then(|| self.tensor(node, "bias")).transpose()?.map(Cow::Borrowed);
        if let Some((id, norm)) = &fused.norm {
            let ScaleShift { scale, shift } = self.folded(self.graph.node(*id), norm)?;
            let taps = filter.len() / scale.len();
            for (row, scale) in filter.to_mut().chunks_exact_mut(taps).zip(&scale) {
                row.iter_mut().for_each(|weight| *weight *= scale);
            }
            let old = |c: usize| bias.as_ref().map_or(0.0, |bias| bias[c]);
            let sums = scale.iter().zip(&shift).enumerate().map(|(c, (scale, shift))| old(c) * scale + shift);
            bias = Some(sums.collect());
        }
        let residual = fused.residual.is_some();
        let epilogue = EpilogueSpec { bias: bias.is_some(), residual, activation: activation(fused) };
        let desc = conv.desc_with(self.input(node)?, Layout::Nchw, epilogue)?;
        let weights = Weights { filter: &filter, bias: bias.as_deref(), slope: self.slope(fused)? };
        Ok(ConvPlan::new(&desc, weights, &self.plan_options)?)
    }

    fn linear(
        &mut self,
        node: &Node,
        linear: &Linear,
        input: Shape4,
        fused: &Fused,
    ) -> Result<LinearPlan, LayerError> {
        let epilogue = EpilogueSpec { bias: linear.bias, residual: false, activation: activation(fused) };
        let bias = linear.bias.then(|| self.tensor(node, "bias")).transpose()?;
        let weights = Weights { filter: self.tensor(node, "weight")?, bias, slope: self.slope(fused)? };
        let plan =
            LinearPlan::new(input.n, input.c, linear.out_features, epilogue, weights, &self.plan_options)?;
        self.workspace = self.workspace.union(plan.workspace_req());
        Ok(plan)
    }

    /// The slopes of a PReLU that is fused.
    fn slope(&self, fused: &Fused) -> Result<Option<&[f32]>, LayerError> {
        let node = fused.activation.filter(|&(_, activation)| activation == Activation::PRelu);
        node.map(|(node, _)| self.tensor(self.graph.node(node), "weight")).transpose()
    }

    fn tensor(&self, node: &Node, param: &'static str) -> Result<&[f32], LayerError> {
        let name = format!("{}.{param}", node.name);
        let tensor = self.weights.get(&name).map(|tensor| tensor.data());
        tensor
            .ok_or_else(|| LayerError::NoWeights { tensor: name, network: self.weights.network().to_owned() })
    }
}

fn activation(fused: &Fused) -> Activation {
    fused.activation.map_or(Activation::None, |(_, activation)| activation)
}

fn no_kernel(node: &Node) -> LayerError {
    LayerError::NoKernel { op: node.layer.op().to_owned() }
}
