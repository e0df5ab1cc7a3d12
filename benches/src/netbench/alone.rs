//! Times each convolution and fully connected layer of a network alone, weighted by its occurrences. Weights
//! are evicted and activations are in cache, as they are when the previous layer of a network has just run.

use crate::pin::Crew;
use crate::turns::median;
use crate::values;
use anyhow::Result;
use kernels::{
    Activation, Buffer, ConvDesc, ConvIo, ConvPlan, Layout, PlanOptions, Shape4, TensorMut, TensorRef,
    Weights, Workspace,
};
use nets::{CompiledNet, StepReport};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Minimum number of rounds.
const FEWEST: usize = 5;
/// Upper bound on the bytes read for eviction; more bytes evict nothing more.
const LARGEST: usize = 128 << 20;

/// The median time of a pass, compared with its layers alone.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Alone {
    /// Milliseconds per pass.
    pub(super) pass_ms: f64,
    /// Milliseconds per pass in layers that are neither convolutions nor fully connected.
    pub(super) outside_ms: f64,
    /// Milliseconds of all other layers, each timed alone.
    pub(super) alone_ms: f64,
}

impl Alone {
    /// The time of a pass divided by its layers alone plus the layers outside, as measured in the pass.
    pub(super) fn ratio(&self) -> f64 {
        self.pass_ms / (self.alone_ms + self.outside_ms)
    }

    pub(super) fn outside_percent(&self) -> f64 {
        100.0 * self.outside_ms / self.pass_ms
    }
}

/// One layer, and how often it occurs in the network.
struct Single {
    plan: ConvPlan,
    times: usize,
    input: Buffer,
    output: Buffer,
    residual: Option<Buffer>,
    workspace: Workspace,
    seconds: Vec<f64>,
}

impl Single {
    fn new(desc: &ConvDesc, options: &PlanOptions) -> Result<Self> {
        let filter = values(desc.filter_len(), 1);
        let epilogue = desc.epilogue();
        let channel = vec![0.1; desc.output().c];
        let slope = (epilogue.activation == Activation::PRelu).then_some(&channel[..]);
        let weights = Weights { filter: &filter, bias: epilogue.bias.then_some(&channel[..]), slope };
        let plan = ConvPlan::new(desc, weights, options)?;
        let filled = |shape: Shape4, layout: Layout| -> Result<Buffer> {
            Ok(Buffer::copy_of(&values(shape.len(layout)?, 2))?)
        };
        let output = filled(desc.output(), desc.output_layout())?;
        let residual = epilogue.residual.then(|| Buffer::copy_of(&output)).transpose()?;
        let input = filled(desc.input(), desc.layout())?;
        let workspace = Workspace::for_req(plan.workspace_req())?;
        Ok(Self { plan, times: 1, input, output, residual, workspace, seconds: Vec::new() })
    }

    fn run(&mut self, crew: &Crew) -> Result<()> {
        // Loads the input, which the previous layer would have written, and the output.
        let touched: f32 = self.input.iter().chain(&*self.output).step_by(16).sum();
        std::hint::black_box(touched);
        let desc = *self.plan.desc();
        let tensor = |data| TensorRef::packed(data, desc.output(), desc.output_layout());
        let io = ConvIo {
            input: TensorRef::packed(&self.input, desc.input(), desc.layout())?,
            output: TensorMut::packed(&mut self.output, desc.output(), desc.output_layout())?.into(),
            residual: self.residual.as_deref().map(tensor).transpose()?,
        };
        let start = Instant::now();
        self.plan.run(io, &mut self.workspace, crew.run_threads())?;
        self.seconds.push(start.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Runs one pass, with a callback after each step.
pub(super) type Pass<'a> = dyn FnMut(&mut (dyn FnMut(usize) + Send)) -> Result<()> + 'a;

/// Times passes and single layers in turns for about `time`.
pub(super) fn measure(
    net: &CompiledNet,
    options: &PlanOptions,
    crew: &Crew,
    time: Duration,
    pass: &mut Pass<'_>,
) -> Result<Alone> {
    let mut singles: Vec<Single> = Vec::new();
    for (_, report) in net.explain() {
        match singles.iter_mut().find(|single| *single.plan.desc() == report.desc) {
            Some(single) => single.times += 1,
            None => singles.push(Single::new(&report.desc, options)?),
        }
    }
    let is_outside: Vec<bool> = net.steps().map(|step: StepReport| step.algorithm.is_none()).collect();
    // Stands for the data that the rest of the network reads between two runs of a layer.
    let others = Buffer::copy_of(&vec![1.0; net.packed_bytes().min(LARGEST) / size_of::<f32>()])?;
    let mut ends = vec![Instant::now(); is_outside.len()];
    let (mut passes, mut outside) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    while passes.len() < FEWEST || begin.elapsed() < time {
        pass(&mut |_| ())?;
        let start = Instant::now();
        pass(&mut |step| ends[step] = Instant::now())?;
        passes.push(start.elapsed().as_secs_f64());
        let starts = std::iter::once(&start).chain(&ends);
        let spans = starts.zip(&ends).map(|(from, to)| (*to - *from).as_secs_f64());
        outside.push(spans.zip(&is_outside).filter(|(_, outside)| **outside).map(|(span, _)| span).sum());
        for single in &mut singles {
            std::hint::black_box(others.iter().step_by(16).sum::<f32>());
            single.run(crew)?;
        }
    }
    let alone: f64 = singles.iter().map(|single| single.times as f64 * median(&single.seconds)).sum();
    Ok(Alone { pass_ms: 1e3 * median(&passes), outside_ms: 1e3 * median(&outside), alone_ms: 1e3 * alone })
}
