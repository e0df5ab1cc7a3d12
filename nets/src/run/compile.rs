//! From a graph to steps: fuse, plan, allocate.

use super::{Net, NetOptions};
use crate::count::count;
use crate::error::{LayerError, NetError};
use crate::graph::{Graph, Node, NodeId};
use crate::layer::{Conv, Layer, Linear};
use crate::shape::Shape;
use crate::weights::WeightSet;
use kernels::{
    Activation, ConvPlan, EpilogueSpec, Layout, LinearPlan, Ops, PlanOptions, PoolDesc, Shape4, Weights,
    Workspace, WorkspaceReq,
};

/// One kernel call of a forward pass.
pub(super) struct Step {
    /// The layer's, for errors and tables.
    pub(super) name: String,
    /// The layer, and the activation fused into it.
    pub(super) nodes: Vec<NodeId>,
    pub(super) kernel: Kernel,
    pub(super) source: Place,
    /// The buffer that is written; `None` if the step only gives its source another shape.
    pub(super) target: Option<usize>,
    pub(super) input: Shape4,
    pub(super) output: Shape4,
    /// The shape that comes out, for one image.
    pub(super) shape: Shape,
}

pub(super) enum Kernel {
    Conv(ConvPlan),
    Linear(LinearPlan),
    Pool(PoolDesc),
    Activation {
        activation: Activation,
        slope: Option<Vec<f32>>,
    },
    Softmax,
    /// Nothing to compute.
    View,
}

/// Where the output of a node is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// In the caller's input.
    Input,
    /// In a buffer of the network.
    Buffer(usize),
}

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
    let consumers = graph.consumers();
    for (id, node) in graph.ids() {
        if compiler.places[id.index()].is_none() {
            compiler.node(id, node, fused_activation(graph, node, &consumers[id.index()]))?;
        }
    }
    Ok(Net {
        input: graph.input(),
        output: graph.output(),
        batch: options.batch,
        ops,
        result: compiler.place(graph.output_id()),
        steps: compiler.steps,
        buffers: compiler.buffer_lens.into_iter().map(|len| vec![0.0; len]).collect(),
        workspace: Workspace::for_req(compiler.workspace),
        count: count(graph)?,
    })
}

fn check_options(options: &NetOptions) -> Result<(), NetError> {
    for (option, value) in [("batch", options.batch), ("threads", options.max_threads)] {
        if value == 0 {
            return Err(NetError::Option { option, expected: "at least 1".to_owned(), got: "0".to_owned() });
        }
    }
    Ok(())
}

/// Every output has its own buffer here, so their sum is what will be allocated.
fn check_memory(graph: &Graph, options: &NetOptions) -> Result<(), NetError> {
    let element = size_of::<f32>() as u64;
    let bytes = |node: &Node| match node.output.batched(options.batch).len(Layout::Nchw) {
        Ok(len) => (len as u64).saturating_mul(element),
        Err(_) => u64::MAX,
    };
    let needed = graph.nodes().iter().map(bytes).fold(0, u64::saturating_add);
    if needed > options.memory_limit {
        let what = format!("activations of network `{}` for {} images", graph.name(), options.batch);
        return Err(NetError::TooLarge { what, limit: options.memory_limit, needed });
    }
    Ok(())
}

/// The activation that is the only reader of a layer whose kernel can apply it while the sums are in registers.
fn fused_activation(graph: &Graph, node: &Node, consumers: &[NodeId]) -> Option<(NodeId, Activation)> {
    let (Layer::Conv(_) | Layer::Linear(_), &[reader]) = (&node.layer, consumers) else { return None };
    match graph.node(reader).layer {
        Layer::Activation(activation) => Some((reader, activation)),
        _ => None,
    }
}

impl Compiler<'_> {
    fn node(&mut self, id: NodeId, node: &Node, fused: Option<(NodeId, Activation)>) -> Result<(), NetError> {
        if let Layer::Input(_) = node.layer {
            self.places[id.index()] = Some(Place::Input);
            return Ok(());
        }
        let source_id = node.inputs[0];
        let (source, input) = (self.place(source_id), self.graph.node(source_id).output.batched(self.batch));
        let kernel =
            self.kernel(node, input, fused).map_err(|problem| NetError::layer(&node.name, problem))?;
        let output = node.output.batched(self.batch);
        let target = match kernel {
            Kernel::View => None,
            _ => {
                self.buffer_lens.push(output.len(Layout::Nchw)?);
                Some(self.buffer_lens.len() - 1)
            }
        };
        let nodes: Vec<NodeId> = [Some(id), fused.map(|(reader, _)| reader)].into_iter().flatten().collect();
        for node in &nodes {
            self.places[node.index()] = Some(target.map_or(source, Place::Buffer));
        }
        let (name, shape) = (node.name.clone(), node.output);
        self.steps.push(Step { name, nodes, kernel, source, target, input, output, shape });
        Ok(())
    }

    /// Where a node's output is; nodes come in an order in which it is known.
    fn place(&self, id: NodeId) -> Place {
        self.places[id.index()].expect("a graph's nodes read earlier nodes only")
    }

    fn kernel(
        &mut self,
        node: &Node,
        input: Shape4,
        fused: Option<(NodeId, Activation)>,
    ) -> Result<Kernel, LayerError> {
        Ok(match &node.layer {
            Layer::Conv(conv) => Kernel::Conv(self.conv(node, conv, input, fused)?),
            Layer::Linear(linear) => Kernel::Linear(self.linear(node, linear, input, fused)?),
            Layer::Pool(pool) => Kernel::Pool(pool.desc(input, Layout::Nchw)?),
            &Layer::Activation(activation) => {
                let slope = (activation == Activation::PRelu).then(|| self.tensor(node, "weight"));
                Kernel::Activation { activation, slope: slope.transpose()?.map(<[f32]>::to_vec) }
            }
            Layer::Softmax => Kernel::Softmax,
            Layer::Flatten | Layer::Input(_) => Kernel::View,
        })
    }

    fn conv(
        &mut self,
        node: &Node,
        conv: &Conv,
        input: Shape4,
        fused: Option<(NodeId, Activation)>,
    ) -> Result<ConvPlan, LayerError> {
        let activation = fused.map_or(Activation::None, |(_, activation)| activation);
        let desc = conv.desc(input, Layout::Nchw, activation)?;
        let weights = self.weights(node, conv.bias, fused)?;
        let plan = ConvPlan::new(&desc, weights, &self.plan_options)?;
        self.workspace = self.workspace.union(plan.workspace_req());
        Ok(plan)
    }

    fn linear(
        &mut self,
        node: &Node,
        linear: &Linear,
        input: Shape4,
        fused: Option<(NodeId, Activation)>,
    ) -> Result<LinearPlan, LayerError> {
        let activation = fused.map_or(Activation::None, |(_, activation)| activation);
        let epilogue = EpilogueSpec { bias: linear.bias, residual: false, activation };
        let weights = self.weights(node, linear.bias, fused)?;
        let plan =
            LinearPlan::new(input.n, input.c, linear.out_features, epilogue, weights, &self.plan_options)?;
        self.workspace = self.workspace.union(plan.workspace_req());
        Ok(plan)
    }

    fn weights(
        &self,
        node: &Node,
        bias: bool,
        fused: Option<(NodeId, Activation)>,
    ) -> Result<Weights<'_>, LayerError> {
        let slope = fused.filter(|&(_, activation)| activation == Activation::PRelu);
        Ok(Weights {
            filter: self.tensor(node, "weight")?,
            bias: bias.then(|| self.tensor(node, "bias")).transpose()?,
            slope: slope.map(|(reader, _)| self.tensor(self.graph.node(reader), "weight")).transpose()?,
        })
    }

    fn tensor(&self, node: &Node, param: &'static str) -> Result<&[f32], LayerError> {
        let name = format!("{}.{param}", node.name);
        let tensor = self.weights.get(&name).map(|tensor| tensor.data());
        tensor
            .ok_or_else(|| LayerError::NoWeights { tensor: name, network: self.weights.network().to_owned() })
    }
}
