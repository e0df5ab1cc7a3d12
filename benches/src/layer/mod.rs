//! One planned layer that can run repeatedly, either on the same memory (warm) or on memory that has been
//! evicted from the inner caches since its last turn (cold).

mod pass;

use crate::direction::Direction;
use crate::layers::LayerSpec;
use crate::problem::{Errors, Problem};
use kernels::{
    Buffer, ConvDesc, ConvDescBuilder, ConvError, Layout, Method, Numerics, PlanOptions, TensorRef, Threads,
    Workspace,
};
use pass::{Pass, Place};
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

    /// [`of_network`](Self::of_network) for `direction`: both tensors of a transposed convolution have the same layout.
    pub fn of_direction(layout: Layout, layer: &LayerSpec, direction: Direction) -> Self {
        if direction == Direction::Transposed { Self::same(layout) } else { Self::of_network(layout, layer) }
    }

    /// The same layout for input and output.
    pub fn same(layout: Layout) -> Self {
        Self { input: layout, output: layout }
    }

    /// Sets these layouts on `builder`.
    pub fn on(self, builder: ConvDescBuilder) -> ConvDescBuilder {
        builder.layout(self.input).output_layout(self.output)
    }

    /// Describes the convolution in these layouts.
    ///
    /// # Errors
    /// Those of [`ConvDescBuilder::build`].
    pub fn describe(self, problem: &Problem) -> Result<ConvDesc, ConvError> {
        self.on(problem.spec.builder().epilogue(problem.desc.epilogue())).build()
    }
}

/// A ring of plans, each with its own weights, tensors and result. Warm memory is a ring of one slot.
pub struct Layer<'a> {
    problem: &'a Problem,
    passes: Vec<Pass>,
    /// The tensors that are read and the results, slot after slot, each aligned to a cache line.
    tensors: Buffer,
    results: Buffer,
    /// Elements of the tensors of a slot, and of a result without what separates it from the next one.
    lens: (usize, usize),
    workspace: Workspace,
    next: usize,
    planning: Duration,
}

impl<'a> Layer<'a> {
    /// Plans `problem`. All results are NaN until they are computed.
    ///
    /// # Errors
    /// Those of the plan of its direction, for example if an algorithm cannot do the problem.
    pub fn new(
        problem: &'a Problem,
        layouts: Layouts,
        options: &PlanOptions,
        memory: Memory,
    ) -> Result<Self, ConvError> {
        let start = Instant::now();
        let first = Pass::new(problem, layouts, options)?;
        let planning = start.elapsed();
        let reads = first.reads();
        let read_len = reads.iter().map(|place| pitch(place.len())).sum();
        let result_len = first.writes().map_or(problem.result_len(), Place::len);
        let slots = memory.slots((read_len + result_len) * size_of::<f32>() + first.packed_bytes());
        // The other slots force the method of the first one. A choice by timing could differ from plan to plan.
        let same = match &methods(&first)[..] {
            [method] => options.force(*method),
            _ => *options,
        };
        let others = (1..slots).map(|_| Pass::new(problem, layouts, &same));
        let passes = std::iter::once(Ok(first)).chain(others).collect::<Result<Vec<_>, _>>()?;
        let mut tensors = Buffer::zeroed(slots * read_len)?;
        let (slot, rest) = tensors.split_at_mut(read_len);
        let mut to = &mut *slot;
        for (place, plain) in reads.into_iter().zip(read_by(problem)) {
            let (tensor, after) = to.split_at_mut(pitch(place.len()));
            fill(&mut tensor[..place.len()], plain, place)?;
            to = after;
        }
        rest.chunks_exact_mut(read_len).for_each(|other| other.copy_from_slice(slot));
        let mut results = Buffer::zeroed(slots * pitch(result_len))?;
        results.fill(f32::NAN);
        let workspace = Workspace::for_req(passes[0].workspace_req())?;
        let lens = (read_len, result_len);
        Ok(Self { problem, passes, tensors, results, lens, workspace, next: 0, planning })
    }

    /// The methods that run: one, or one for each phase of a gradient of the input or a transposed convolution.
    pub fn methods(&self) -> Vec<Method> {
        methods(&self.passes[0])
    }

    /// The methods in one word, such as `direct`, or `winograd_3x3_2x2/direct` if the phases differ.
    pub fn method(&self) -> String {
        joined(self.methods().iter().map(Method::to_string))
    }

    /// The names of the kernels, like [`method`](Self::method).
    pub fn kernel(&self) -> String {
        joined(self.passes[0].reports().iter().map(|report| report.kernel.to_owned()))
    }

    /// The time to plan the first slot: choosing, including any timing, and packing.
    pub fn planning(&self) -> Duration {
        self.planning
    }

    /// Number of slots in the ring.
    pub fn slots(&self) -> usize {
        self.passes.len()
    }

    /// Runs the layer once, in the next slot.
    ///
    /// # Panics
    /// Never: the tensors have the shapes of the plan.
    pub fn run(&mut self, threads: Threads<'_>) {
        let (read_len, result_len) = self.lens;
        let slot = &self.tensors[self.next * read_len..][..read_len];
        let result = &mut self.results[self.next * pitch(result_len)..][..result_len];
        self.passes[self.next].run((slot, result), &mut self.workspace, threads).expect("a valid run");
        self.next = (self.next + 1) % self.passes.len();
    }

    /// The errors of the results. They are NaN if an element of any slot is NaN, which includes a slot that
    /// has not run. They are infinite if two slots differ, because all slots compute the same.
    ///
    /// # Panics
    /// Never: the tensors have the shapes of the plan.
    pub fn errors(&self) -> Errors {
        let (_, len) = self.lens;
        let slot = |index: usize| &self.results[index * pitch(len)..][..len];
        let first = slot(0);
        if (0..self.slots()).any(|index| slot(index).iter().any(|value| value.is_nan())) {
            return Errors::all(f64::NAN);
        }
        if (1..self.slots()).any(|index| slot(index) != first) {
            return Errors::all(f64::INFINITY);
        }
        let Some(Place { shape, layout }) = self.passes[0].writes() else {
            return self.problem.errors_of_plain(first);
        };
        let tensor = TensorRef::packed(first, shape, layout).expect("it fits");
        self.problem.errors(|index| {
            let (row, x) = (index / shape.w, index % shape.w);
            let (channel, y) = (row / shape.h, row % shape.h);
            first[tensor.offset(channel / shape.c, channel % shape.c, y, x)]
        })
    }

    /// The relative L2 error above which the result is wrong, by the promises of the methods that ran.
    pub fn tolerance(&self) -> f64 {
        let reports = self.passes[0].reports();
        let numerics = reports.iter().map(|report| report.choice.method.numerics(&report.desc));
        self.problem.tolerance(numerics.max().unwrap_or(Numerics::Strict))
    }

    /// Asserts that the result is right. Benches call it before they time a layer.
    ///
    /// # Panics
    /// If a result is wrong, or if a slot has not run.
    pub fn assert_right(&self) {
        let (error, id, method) = (self.errors().l2, &self.problem.spec.id, self.method());
        assert!(error < self.tolerance(), "{id}, {method}: relative L2 error {error}");
    }
}

fn methods(pass: &Pass) -> Vec<Method> {
    pass.reports().iter().map(|report| report.choice.method).collect()
}

/// Names in one word. Names that are all the same are written once.
fn joined(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect();
    if names.iter().all(|name| *name == names[0]) {
        names.truncate(1);
    }
    if names.is_empty() { "zero".to_owned() } else { names.join("/") }
}

/// The tensors of `problem` that a pass reads in each run, in the order of [`Pass::reads`].
fn read_by(problem: &Problem) -> Vec<&[f32]> {
    let [first, second] = problem.operands();
    if problem.direction == Direction::Weights { vec![first, second] } else { vec![first] }
}

/// Distance between slots: whole cache lines plus one, so that not all slots begin in the same cache set.
fn pitch(len: usize) -> usize {
    len.next_multiple_of(LINE) + LINE
}

/// Writes an NCHW image in another layout. Padding lanes keep their values.
fn fill(to: &mut [f32], nchw: &[f32], Place { shape, layout }: Place) -> Result<(), ConvError> {
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
    use crate::problem::Numbers;
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
    fn every_direction_is_right_warm_and_cold() {
        let texts = ["2x18x9x8 -> 20 3x3 s2 p1", "1x16x7x7 -> 16 3x3 p1 g16", "2x4x9x9 -> 8 1x1 s2 g2"];
        for (text, direction) in
            texts.iter().flat_map(|text| Direction::ALL.map(|direction| (text, direction)))
        {
            let spec = by_text(text).unwrap();
            let problem = Problem::of(&spec, direction, Numbers::Uniform);
            for (layout, memory) in Layout::ALL
                .into_iter()
                .flat_map(|layout| [Memory::Warm, Memory::Cold(1)].map(|memory| (layout, memory)))
            {
                let layouts = Layouts::of_direction(layout, &spec, direction);
                let options = PlanOptions::default().max_threads(1);
                let mut layer = Layer::new(&problem, layouts, &options, memory).unwrap();
                for _ in 0..layer.slots() {
                    assert!(layer.errors().l2.is_nan());
                    layer.run(Threads::Seq);
                }
                let (error, tolerance) = (layer.errors().l2, layer.tolerance());
                assert!(error < tolerance, "{text}, {direction}, {layout}: {error}");
                // The last result: a weight, a bias, or an element or a padding lane of a tensor.
                let last = layer.lens.1 - 1;
                layer.results[last] = f32::NAN;
                assert!(layer.errors().l2.is_nan());
            }
        }
    }

    #[test]
    fn methods_of_phases_are_one_word() {
        let method = |text: &str, direction, algorithm: Option<Algorithm>| {
            let spec = by_text(text).unwrap();
            let problem = Problem::of(&spec, direction, Numbers::Uniform);
            let options = PlanOptions::default().max_threads(1);
            let options = algorithm.map_or(options, |algorithm| options.force(algorithm));
            let layer = Layer::new(&problem, Layouts::same(Layout::Nhwc), &options, Memory::Warm);
            layer.map(|layer| (layer.method(), layer.methods().len()))
        };
        let strided = "1x32x12x12 -> 32 3x3 s2 p1";
        let direct = || ("direct".to_owned(), 4);
        assert_eq!(method(strided, Direction::Data, Some(Algorithm::Direct)).unwrap(), direct());
        // Three of the four phases are not 1x1, and choose for themselves.
        let (mixed, phases) = method(strided, Direction::Transposed, Some(Algorithm::Pointwise)).unwrap();
        assert!(mixed.split('/').count() == 4 && mixed.contains("pointwise") && phases == 4, "{mixed}");
        assert!(method(strided, Direction::Data, Some(Algorithm::Depthwise)).is_err());
        let weights = method(strided, Direction::Weights, Some(Algorithm::Im2colGemm)).unwrap();
        assert_eq!(weights, ("im2col_gemm".to_owned(), 1));
        assert!(method(strided, Direction::Weights, Some(Algorithm::Fft)).is_err());
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
        let last = layer.results.len() - 2 * LINE;
        layer.results[last] += 1.0;
        assert!(layer.errors().l2.is_infinite());
    }

    #[test]
    fn a_cold_ring_has_two_slots_at_least() {
        assert_eq!(Memory::Cold(1).slots(1 << 30), 2);
        assert_eq!(Memory::Cold(96 << 20).slots(1 << 20), 96);
        assert_eq!(Memory::Warm.slots(1), 1);
    }
}
