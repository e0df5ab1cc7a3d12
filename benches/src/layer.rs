//! One planned layer that can run repeatedly, either on the same memory (warm) or on memory that has been
//! evicted from the inner caches since its last turn (cold).

use crate::layers::LayerSpec;
use crate::problem::{Errors, Problem};
use kernels::{
    Buffer, ConvDesc, ConvDescBuilder, ConvError, ConvIo, ConvPlan, Layout, Method, PlanOptions, Shape4,
    TensorMut, TensorRef, Threads, Weights, Workspace,
};
use std::time::{Duration, Instant};

/// Maximum slots of a ring. Even layers of a few kilobytes then exceed a second-level cache.
const MAX_SLOTS: usize = 4096;
/// `f32` elements per cache line.
const LINE: usize = 16;

/// The memory that the operands of a run are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// The same memory in every run.
    Warm,
    /// The next slot of a ring of at least two slots. The number is the size of the ring in bytes, weights
    /// and activations together.
    Cold(usize),
}

impl Memory {
    /// Number of ring slots if each has `bytes`.
    pub fn slots(self, bytes: usize) -> usize {
        match self {
            Self::Warm => 1,
            Self::Cold(all) => all.div_ceil(bytes.max(1)).clamp(2, MAX_SLOTS),
        }
    }
}

/// The input and output layouts of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layouts {
    /// The layout of the input.
    pub input: Layout,
    /// The layout of the output.
    pub output: Layout,
}

impl Layouts {
    /// The layouts of a layer in a network that uses `layout`. The first layer of a blocked network reads an
    /// NCHW image, as in the peers: a dense layer with fewer channels than a block is taken for it. A layer with
    /// groups stands inside a network and reads the blocks that its producer wrote, however few channels it has.
    pub fn of_network(layout: Layout, layer: &LayerSpec) -> Self {
        Self::of_channels(layout, layer.c, layer.groups)
    }

    /// [`of_network`](Self::of_network) for a layer with this number of input channels in `groups` groups.
    pub fn of_channels(layout: Layout, channels: usize, groups: usize) -> Self {
        /// Channels per block.
        const BLOCK: usize = 16;
        let is_first = layout == Layout::Nchw16c && groups == 1 && channels < BLOCK;
        Self { input: if is_first { Layout::Nchw } else { layout }, output: layout }
    }

    /// The same layout for input and output.
    pub fn same(layout: Layout) -> Self {
        Self { input: layout, output: layout }
    }

    /// Sets these layouts on `builder`.
    pub fn on(self, builder: ConvDescBuilder) -> ConvDescBuilder {
        builder.layout(self.input).output_layout(self.output)
    }

    /// Describes the problem in these layouts.
    ///
    /// # Errors
    /// Those of [`ConvDescBuilder::build`].
    pub fn describe(self, problem: &Problem) -> Result<ConvDesc, ConvError> {
        self.on(problem.spec.builder().epilogue(problem.desc.epilogue())).build()
    }
}

/// A ring of plans, each with its own weights, input and output. Warm memory is a ring of one slot.
pub struct Layer<'a> {
    problem: &'a Problem,
    layouts: Layouts,
    plans: Vec<ConvPlan>,
    /// The tensors of all slots, each aligned to a cache line.
    inputs: Buffer,
    outputs: Buffer,
    workspace: Workspace,
    next: usize,
    planning: Duration,
}

impl<'a> Layer<'a> {
    /// Plans `problem`. All outputs are NaN until they are computed.
    ///
    /// # Errors
    /// Those of [`ConvPlan::new`], for example if an algorithm cannot do the problem.
    pub fn new(
        problem: &'a Problem,
        layouts: Layouts,
        options: &PlanOptions,
        memory: Memory,
    ) -> Result<Self, ConvError> {
        let desc = layouts.describe(problem)?;
        let weights = || match problem.bias.as_slice() {
            [] => Weights::filter(&problem.filter),
            bias => Weights::with_bias(&problem.filter, bias),
        };
        let start = Instant::now();
        let first = ConvPlan::new(&desc, weights(), options)?;
        let planning = start.elapsed();
        let (input_len, output_len) = (desc.input().len(layouts.input)?, desc.output().len(layouts.output)?);
        let slots = memory.slots((input_len + output_len) * size_of::<f32>() + first.packed_bytes());
        // The other slots force the method of the first one. A choice by timing could differ from plan to plan.
        let same = options.force(method(&first));
        let others = (1..slots).map(|_| ConvPlan::new(&desc, weights(), &same));
        let plans = std::iter::once(Ok(first)).chain(others).collect::<Result<Vec<_>, _>>()?;
        let mut inputs = Buffer::zeroed(slots * pitch(input_len))?;
        let (image, rest) = inputs.split_at_mut(pitch(input_len));
        fill(&mut image[..input_len], &problem.input, desc.input(), layouts.input)?;
        rest.chunks_exact_mut(pitch(input_len)).for_each(|slot| slot.copy_from_slice(image));
        let mut outputs = Buffer::zeroed(slots * pitch(output_len))?;
        outputs.fill(f32::NAN);
        let workspace = Workspace::for_req(plans[0].workspace_req())?;
        Ok(Self { problem, layouts, plans, inputs, outputs, workspace, next: 0, planning })
    }

    /// The plan of the first slot. The other slots have the same plan.
    pub fn plan(&self) -> &ConvPlan {
        &self.plans[0]
    }

    /// The method of the plan.
    pub fn method(&self) -> Method {
        method(self.plan())
    }

    /// The time to plan the first slot: choosing, including any timing, and packing.
    pub fn planning(&self) -> Duration {
        self.planning
    }

    /// Number of slots in the ring.
    pub fn slots(&self) -> usize {
        self.plans.len()
    }

    /// Runs the layer once, in the next slot.
    ///
    /// # Panics
    /// Never: the tensors have the shapes of the plan.
    pub fn run(&mut self, threads: Threads<'_>) {
        let plan = &self.plans[self.next];
        let desc = plan.desc();
        let (input_len, output_len) = self.lens();
        let input = &self.inputs[self.next * pitch(input_len)..][..input_len];
        let output = &mut self.outputs[self.next * pitch(output_len)..][..output_len];
        let input = TensorRef::packed(input, desc.input(), self.layouts.input).expect("it fits");
        let output = TensorMut::packed(output, desc.output(), self.layouts.output).expect("it fits");
        plan.run(ConvIo::new(input, output), &mut self.workspace, threads).expect("a valid run");
        self.next = (self.next + 1) % self.plans.len();
    }

    /// The errors of the outputs. They are NaN if an element of any slot is NaN, which includes a slot that
    /// has not run. They are infinite if two slots differ, because all slots compute the same.
    ///
    /// # Panics
    /// Never: the tensors have the shapes of the plan.
    pub fn errors(&self) -> Errors {
        let (_, len) = self.lens();
        let slot = |index: usize| &self.outputs[index * pitch(len)..][..len];
        let first = slot(0);
        if (0..self.slots()).any(|index| slot(index).iter().any(|value| value.is_nan())) {
            return Errors::all(f64::NAN);
        }
        if (1..self.slots()).any(|index| slot(index) != first) {
            return Errors::all(f64::INFINITY);
        }
        let shape = self.plan().desc().output();
        let tensor = TensorRef::packed(first, shape, self.layouts.output).expect("it fits");
        self.problem.errors(|[n, c, y, x]| first[tensor.offset(n, c, y, x)])
    }

    /// The relative L2 error above which the output is wrong, by the promise of the method that ran.
    pub fn tolerance(&self) -> f64 {
        self.problem.tolerance(self.method().numerics(self.plan().desc()))
    }

    /// Asserts that the output is right. Benches call it before they time a layer.
    ///
    /// # Panics
    /// If an output is wrong, or if a slot has not run.
    pub fn assert_right(&self) {
        let (error, id, method) = (self.errors().l2, &self.problem.spec.id, self.method());
        assert!(error < self.tolerance(), "{id}, {method}: relative L2 error {error}");
    }

    /// Number of elements of one input and of one output.
    fn lens(&self) -> (usize, usize) {
        let desc = self.plans[0].desc();
        let len = |shape: Shape4, layout| shape.len(layout).expect("it was planned");
        (len(desc.input(), self.layouts.input), len(desc.output(), self.layouts.output))
    }
}

fn method(plan: &ConvPlan) -> Method {
    Method::new(plan.algorithm(), plan.products())
}

/// Distance between slots: whole cache lines plus one, so that not all slots begin in the same cache set.
fn pitch(len: usize) -> usize {
    len.next_multiple_of(LINE) + LINE
}

/// Writes an NCHW image in another layout. Padding lanes keep their values.
fn fill(to: &mut [f32], nchw: &[f32], shape: Shape4, layout: Layout) -> Result<(), ConvError> {
    // The offsets of a tensor do not depend on its data.
    let nothing = vec![0.0; to.len()];
    let tensor = TensorRef::packed(&nothing, shape, layout)?;
    for (row, values) in nchw.chunks_exact(shape.w).enumerate() {
        let (channel, y) = (row / shape.h, row % shape.h);
        for (x, &value) in values.iter().enumerate() {
            to[tensor.offset(channel / shape.c, channel % shape.c, y, x)] = value;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::described::by_text;
    use crate::layers::by_id;
    use kernels::{Algorithm, Numerics, Products};

    fn layer(problem: &Problem, layout: Layout, memory: Memory) -> Layer<'_> {
        let options = PlanOptions::default().max_threads(1);
        Layer::new(problem, Layouts::same(layout), &options, memory).unwrap()
    }

    #[test]
    fn every_layout_is_right_and_nothing_is_before_it_ran() {
        for problem in [Problem::bare(by_id("lenet5.c3")), Problem::with_relu(by_id("googlenet.4a.5x5"))] {
            for layout in Layout::ALL {
                let mut layer = layer(&problem, layout, Memory::Warm);
                assert!(layer.errors().l2.is_nan());
                layer.run(Threads::Seq);
                assert!(layer.errors().l2 < 2e-6, "{layout}: {}", layer.errors().l2);
            }
        }
    }

    #[test]
    fn only_a_dense_layer_of_few_channels_reads_an_image() {
        let input = |text: &str, layout| Layouts::of_network(layout, &by_text(text).unwrap()).input;
        let (image, channelwise) = ("1x3x9x9 -> 16 3x3", "1x3x9x9 -> 3 3x3 g3");
        assert_eq!(input(image, Layout::Nchw16c), Layout::Nchw);
        assert_eq!(input(image, Layout::Nhwc), Layout::Nhwc);
        assert_eq!(input("1x16x9x9 -> 16 3x3", Layout::Nchw16c), Layout::Nchw16c);
        assert_eq!(input("1x4x9x9 -> 8 3x3 g2", Layout::Nchw16c), Layout::Nchw16c);
        assert_eq!(input(channelwise, Layout::Nchw16c), Layout::Nchw16c);
        // Every algorithm that accepts such a layer reads its blocks correctly.
        for text in [channelwise, "2x4x9x9 -> 8 3x3 g2 p1 s2", "1x7x9x9 -> 14 5x5 g7 p2"] {
            let problem = Problem::bare(&by_text(text).unwrap());
            let layouts = Layouts::of_network(Layout::Nchw16c, &problem.spec);
            let mut count = 0;
            for algorithm in Algorithm::ALL {
                let options = PlanOptions::default().max_threads(1).force(algorithm);
                let Ok(mut layer) = Layer::new(&problem, layouts, &options, Memory::Warm) else { continue };
                layer.run(Threads::Seq);
                layer.assert_right();
                count += 1;
            }
            assert!(count > 1, "{text}");
        }
    }

    #[test]
    fn the_tolerance_is_the_promise_of_the_method_that_runs() {
        let problem = Problem::bare(by_id("resnet18.s1.3x3"));
        let tolerance = |method: Method| {
            let options = PlanOptions::default().max_threads(1).force(method);
            let layer = Layer::new(&problem, Layouts::same(Layout::Nchw), &options, Memory::Warm);
            layer.unwrap().tolerance()
        };
        let plain = problem.tolerance(Numerics::Strict);
        assert_eq!(tolerance(Algorithm::Direct.into()), plain);
        assert_eq!(tolerance(Algorithm::Winograd4x4.into()), plain);
        assert!((tolerance(Algorithm::Winograd6x6.into()) - plain - 4e-6).abs() < 1e-12);
        let direct = |products| tolerance(Method::new(Algorithm::Direct, products));
        assert_eq!(direct(Products::Bf16x6), plain);
        assert!((direct(Products::Bf16) - plain - 3.998e-3).abs() < 1e-12);
    }

    #[test]
    fn a_plain_image_may_become_a_blocked_one() {
        let problem = Problem::bare(by_id("lenet5caffe.conv1"));
        let layouts = Layouts { input: Layout::Nchw, output: Layout::Nchw16c };
        let options = PlanOptions::default().max_threads(1);
        let mut layer = Layer::new(&problem, layouts, &options, Memory::Warm).unwrap();
        layer.run(Threads::Seq);
        assert!(layer.errors().l2 < 2e-6, "{}", layer.errors().l2);
    }

    #[test]
    fn a_ring_is_right_when_every_slot_has_run_and_wrong_when_one_differs() {
        let problem = Problem::bare(by_id("lenet5.c3"));
        let mut layer = layer(&problem, Layout::Nchw16c, Memory::Cold(200_000));
        let slots = layer.slots();
        assert!((3..20).contains(&slots), "{slots}");
        for _ in 1..slots {
            layer.run(Threads::Seq);
        }
        assert!(layer.errors().l2.is_nan());
        layer.run(Threads::Seq);
        assert!(layer.errors().l2 < 2e-6);
        let last = layer.outputs.len() - 2 * LINE;
        layer.outputs[last] += 1.0;
        assert!(layer.errors().l2.is_infinite());
    }

    #[test]
    fn a_cold_ring_has_two_slots_at_least() {
        assert_eq!(Memory::Cold(1).slots(1 << 30), 2);
        assert_eq!(Memory::Cold(96 << 20).slots(1 << 20), 96);
        assert_eq!(Memory::Warm.slots(1), 1);
    }
}
