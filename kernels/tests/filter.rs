//! Weights apart from plans: packed once, shared, bounded, dropped, and as bytes.

mod common;

use common::{ConvProblem, Rng, Scoped, Values};
use kernels::{
    Activation, Algorithm, Conv, ConvDesc, ConvError, ConvIo, ConvPlan, EpilogueSpec, Executor, Filter,
    FilterShape, Isa, Layout, PackedError, Pad2, PlanOptions, Shape4, Size2, TensorMut, TensorOut, TensorRef,
    Threads, Weights, Workspace,
};
use std::mem::MaybeUninit;
use std::sync::Arc;

/// A filter of 3x3 with a bias, and its descriptor for an input.
struct Layer {
    weights: Vec<f32>,
    bias: Vec<f32>,
    shape: FilterShape,
    layout: Layout,
}

impl Layer {
    fn new(layout: Layout) -> Self {
        let mut rng = Rng(7);
        let shape = FilterShape::new(40, 24, Size2::square(3));
        let weights = rng.values(Values::Uniform, shape.elements().unwrap());
        Self { weights, bias: rng.values(Values::Uniform, 40), shape, layout }
    }

    fn weights(&self) -> Weights<'_> {
        Weights::with_bias(&self.weights, &self.bias)
    }

    fn filter(&self) -> Filter<'_> {
        Filter::new(self.shape, self.weights()).unwrap()
    }

    fn desc(&self, batch: usize, side: usize) -> ConvDesc {
        let builder = ConvDesc::builder(Shape4::new(batch, 24, side, side), 40, Size2::square(3));
        let epilogue = EpilogueSpec::bias(Activation::Relu);
        builder.pad(Pad2::all(1)).layout(self.layout).epilogue(epilogue).build().unwrap()
    }

    fn conv(&self) -> Conv<'_> {
        let builder = Conv::builder(self.filter()).pad(Pad2::all(1)).activation(Activation::Relu);
        builder.layout(self.layout).build().unwrap()
    }

    fn input(&self, shape: Shape4) -> Vec<f32> {
        Rng(shape.h as u64).values(Values::Uniform, shape.len(self.layout).unwrap())
    }

    /// What a plan of its own gives.
    fn alone(&self, desc: &ConvDesc, options: &PlanOptions) -> Vec<f32> {
        run(&ConvPlan::new(desc, self.weights(), options).unwrap(), &self.input(desc.input()))
    }
}

fn run(plan: &ConvPlan, input: &[f32]) -> Vec<f32> {
    let desc = plan.desc();
    let mut output = vec![f32::NAN; desc.output().len(desc.output_layout()).unwrap()];
    let io = ConvIo::new(
        TensorRef::packed(input, desc.input(), desc.layout()).unwrap(),
        TensorMut::packed(&mut output, desc.output(), desc.output_layout()).unwrap(),
    );
    plan.run(io, &mut Workspace::for_req(plan.workspace_req()).unwrap(), Threads::Seq).unwrap();
    output
}

/// Every algorithm, on every instruction set: a plan with a shared form gives the bits of a plan with its own.
#[test]
fn plans_of_a_filter_give_the_bits_of_their_own_weights() {
    for layout in Layout::ALL {
        let layer = Layer::new(layout);
        // Each plan with the best form, as without a filter.
        let filter = layer.filter().reuse_within(1.0);
        for (batch, side) in [(1, 9), (2, 14), (3, 30)] {
            let desc = layer.desc(batch, side);
            for algorithm in Algorithm::ALL.into_iter().filter(|a| a.supports(&desc).is_ok()) {
                for isa in Isa::available() {
                    let options = PlanOptions::default().force(algorithm).isa(isa);
                    let plan = ConvPlan::new(&desc, &filter, &options).unwrap();
                    let of_plan = ConvPlan::new(&desc, &plan.filter(), &options).unwrap();
                    let (alone, input) = (layer.alone(&desc, &options), layer.input(desc.input()));
                    assert!(run(&plan, &input) == alone, "{algorithm} on {isa}: {desc}");
                    assert!(
                        run(&of_plan, &input) == alone,
                        "{algorithm} on {isa}, the filter of a plan: {desc}"
                    );
                }
            }
        }
    }
}

/// Strides, dilations, groups and kernels that the layers above do not have.
#[test]
fn forms_tell_problems_apart_that_pack_differently() {
    let kinds = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (2, 2, 1), (3, 2, 1), (1, 1, 4), (2, 1, 4), (1, 3, 16)];
    for layout in Layout::ALL {
        for groups in [1, 4, 16] {
            let shape = FilterShape::new(32, 32 / groups, Size2::square(5)).groups(groups);
            let mut rng = Rng(3);
            let weights = rng.values(Values::Uniform, shape.elements().unwrap());
            let filter = Filter::new(shape, Weights::filter(&weights)).unwrap();
            for (stride, dilation, _) in kinds.iter().filter(|kind| kind.2 == groups || kind.2 == 1) {
                let builder =
                    ConvDesc::builder(Shape4::new(1, 32, 33, 35), 32, Size2::square(5)).groups(groups);
                let builder = builder.stride(Size2::square(*stride)).dilation(Size2::square(*dilation));
                let desc = builder.layout(layout).build().unwrap();
                let input = rng.values(Values::Uniform, desc.input().len(layout).unwrap());
                for algorithm in Algorithm::ALL.into_iter().filter(|a| a.supports(&desc).is_ok()) {
                    let options = PlanOptions::default().force(algorithm);
                    let shared = ConvPlan::new(&desc, &filter, &options).unwrap();
                    let own = ConvPlan::new(&desc, Weights::filter(&weights), &options).unwrap();
                    assert!(run(&shared, &input) == run(&own, &input), "{algorithm}: {desc}");
                }
            }
        }
    }
}

#[test]
fn fifty_shapes_share_one_packed_form_and_memory_stays_flat() {
    let layer = Layer::new(Layout::Nchw16c);
    // One algorithm, so that one form is enough. Auto may choose several.
    let options = PlanOptions::default().force(Algorithm::Winograd4x4);
    let builder = Conv::builder(layer.filter()).pad(Pad2::all(1)).activation(Activation::Relu);
    let conv = builder.layout(layer.layout).options(options).plans(8).build().unwrap();
    let shapes: Vec<(usize, usize)> = (0..50).map(|i| (1 + i % 5, 8 + i)).collect();
    let run = |&(batch, side): &(usize, usize)| {
        let desc = layer.desc(batch, side);
        let input = layer.input(desc.input());
        let output = conv.run(TensorRef::packed(&input, desc.input(), layer.layout).unwrap(), Threads::Seq);
        assert!(output.unwrap() == layer.alone(&desc, &options), "{desc}");
    };
    shapes.iter().for_each(run);
    assert_eq!((conv.filter().packed_forms(), conv.planned()), (1, 8));
    let bytes = conv.bytes();
    shapes.iter().rev().for_each(run);
    assert_eq!((conv.filter().packed_forms(), conv.bytes()), (1, bytes), "the memory grows");

    std::thread::scope(|scope| {
        for thread in 0..8 {
            let shapes = &shapes;
            scope.spawn(move || shapes.iter().cycle().skip(7 * thread).take(50).for_each(run));
        }
    });
    assert_eq!((conv.filter().packed_forms(), conv.planned()), (1, 8));
    assert!(conv.bytes() <= conv.filter().packed_bytes() + 8 * (bytes - conv.filter().packed_bytes()));
    conv.clear();
    assert_eq!((conv.planned(), conv.bytes()), (0, conv.filter().packed_bytes()));
}

#[test]
fn a_shape_that_is_kept_is_not_planned_again() {
    let layer = Layer::new(Layout::Nhwc);
    let conv = layer.conv();
    let shape = |side| Shape4::new(1, 24, side, side);
    let first = conv.plan(shape(10), Threads::Seq).unwrap();
    assert!(Arc::ptr_eq(&first, &conv.plan(shape(10), Threads::Seq).unwrap()));
    // Another number of threads is another plan.
    let scoped = Scoped(4);
    let four = conv.plan(shape(10), Threads::Executor(&scoped)).unwrap();
    assert_eq!((first.workspace_req().threads, four.workspace_req().threads), (1, 4));
    // The least recently used goes first.
    (11..42).for_each(|side| drop(conv.plan(shape(side), Threads::Seq).unwrap()));
    assert!(!Arc::ptr_eq(&first, &conv.plan(shape(10), Threads::Seq).unwrap()));
    assert!(
        Arc::ptr_eq(&four, &conv.plan(shape(10), Threads::Executor(&scoped)).unwrap())
            || conv.planned() == 32
    );
}

#[test]
fn packed_bytes_are_bounded_and_told() {
    let layer = Layer::new(Layout::Nchw16c);
    let desc = layer.desc(1, 20);
    let algorithms =
        [Algorithm::Direct, Algorithm::Winograd4x4, Algorithm::Im2colGemm, Algorithm::Winograd2x2];
    let plan = |filter: &Filter<'_>, algorithm| {
        ConvPlan::new(&desc, filter, &PlanOptions::default().force(algorithm)).unwrap()
    };
    let filter = layer.filter();
    let bytes: Vec<usize> = algorithms.iter().map(|&a| plan(&filter, a).packed_bytes()).collect();
    assert_eq!((filter.packed_forms(), filter.packed_bytes()), (4, bytes.iter().sum()));
    // im2col and direct have room beside one Winograd form, not beside two.
    let limit = bytes[0] + bytes[1] + bytes[2];
    let filter = layer.filter().max_packed_bytes(limit);
    for algorithm in algorithms {
        plan(&filter, algorithm);
        assert!(filter.packed_bytes() <= limit, "{algorithm}");
    }
    // The newest is kept, however large.
    let filter = layer.filter().max_packed_bytes(1);
    algorithms.iter().for_each(|&algorithm| drop(plan(&filter, algorithm)));
    assert_eq!((filter.packed_forms(), filter.packed_bytes()), (1, bytes[3]));
}

#[test]
fn without_the_original_weights_the_packed_forms_still_serve() {
    let layer = Layer::new(Layout::Nchw16c);
    let (desc, auto) = (layer.desc(1, 20), PlanOptions::default());
    let (direct, im2col) = (auto.force(Algorithm::Direct), auto.force(Algorithm::Im2colGemm));
    let mut filter = layer.filter();
    ConvPlan::new(&desc, &filter, &direct).unwrap();
    filter.drop_weights();
    assert!(!filter.has_weights());
    // Auto takes what is packed, and says why not the others.
    let plan = ConvPlan::new(&layer.desc(2, 31), &filter, &auto).unwrap();
    assert_eq!(plan.algorithm(), Algorithm::Direct);
    assert!(plan.explain().to_string().contains("its weights are not packed yet"), "{}", plan.explain());
    let refused = ConvPlan::new(&desc, &filter, &im2col).err();
    assert_eq!(refused, Some(ConvError::WeightsDropped { method: Algorithm::Im2colGemm.into() }));
    let mut nothing = layer.filter();
    nothing.drop_weights();
    let refused = ConvPlan::new(&desc, &nothing, &auto).err();
    assert!(matches!(refused, Some(ConvError::WeightsDropped { .. })), "{refused:?}");
}

#[test]
fn other_filters_are_refused_in_words() {
    let layer = Layer::new(Layout::Nchw);
    let filter = layer.filter();
    let plan =
        |desc: &ConvDesc| ConvPlan::new(desc, &filter, &PlanOptions::default()).unwrap_err().to_string();
    let builder = ConvDesc::builder(Shape4::new(1, 24, 9, 9), 40, Size2::square(5));
    let wrong = plan(&builder.epilogue(EpilogueSpec::bias(Activation::None)).build().unwrap());
    assert_eq!(wrong, "filter: expected extents 40x24x5x5, got 40x24x3x3");
    let builder = ConvDesc::builder(Shape4::new(1, 24, 9, 9), 40, Size2::square(3));
    assert_eq!(
        plan(&builder.build().unwrap()),
        "bias: expected none, because the descriptor has none, got one"
    );
    let short = Filter::new(layer.shape, Weights::filter(&layer.weights[1..])).unwrap_err().to_string();
    assert_eq!(short, "filter: expected 8640 elements, got 8639");
    let groups = Filter::new(layer.shape.groups(3), Weights::filter(&layer.weights)).unwrap_err().to_string();
    assert_eq!(groups, "groups: expected a divisor of the 40 output channels, got 3");
    let prelu = Conv::builder(layer.filter()).activation(Activation::PRelu).build().unwrap_err().to_string();
    assert_eq!(prelu, "PReLU slopes: expected one, because the descriptor asks for it, got none");
    let stride = Conv::builder(layer.filter()).stride(Size2::new(1, 0)).build().unwrap_err().to_string();
    assert_eq!(stride, "stride.w: expected at least 1, got 0");
    let channels = layer.conv().plan(Shape4::new(1, 23, 9, 9), Threads::Seq).unwrap_err().to_string();
    assert_eq!(channels, "filter: expected extents 40x23x3x3, got 40x24x3x3");
    let small = layer.conv().plan(Shape4::new(1, 24, 0, 9), Threads::Seq).unwrap_err().to_string();
    assert_eq!(small, "input.h: expected at least 1, got 0");
}

/// All forms of a filter, as bytes.
fn packed(layer: &Layer) -> Vec<u8> {
    let (filter, desc) = (layer.filter(), layer.desc(1, 20));
    for algorithm in Algorithm::ALL.into_iter().filter(|a| a.supports(&desc).is_ok()) {
        ConvPlan::new(&desc, &filter, &PlanOptions::default().force(algorithm)).unwrap();
    }
    let mut bytes = Vec::new();
    filter.write_packed(&mut bytes).unwrap();
    bytes
}

#[test]
fn packed_forms_come_back_from_bytes() {
    for layout in Layout::ALL {
        let layer = Layer::new(layout);
        let bytes = packed(&layer);
        let same = layer.filter();
        same.read_packed(&mut &bytes[..]).unwrap();
        let alone = Filter::from_packed(&mut &bytes[..]).unwrap();
        assert_eq!(alone.shape(), layer.shape);
        assert_eq!((same.packed_forms(), alone.has_bias()), (alone.packed_forms(), true));
        for (batch, side) in [(1, 20), (2, 33)] {
            let desc = layer.desc(batch, side);
            for algorithm in Algorithm::ALL.into_iter().filter(|a| a.supports(&desc).is_ok()) {
                let options = PlanOptions::default().force(algorithm);
                let expected = layer.alone(&desc, &options);
                for filter in [&same, &alone] {
                    let plan = ConvPlan::new(&desc, filter, &options).unwrap();
                    let got = run(&plan, &layer.input(desc.input()));
                    // Transforms of another length have other bits. Without the weights, those that are packed serve.
                    if algorithm == Algorithm::Fft && side != 20 {
                        assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3), "{desc}");
                    } else {
                        assert!(got == expected, "{algorithm}: {desc}");
                    }
                }
            }
        }
        // What was read can be written again.
        let mut again = Vec::new();
        Filter::from_packed(&mut &bytes[..]).unwrap().write_packed(&mut again).unwrap();
        assert_eq!(again.len(), bytes.len());
        Filter::from_packed(&mut &again[..]).unwrap();
    }
}

/// Any byte that changes, and any length that is cut off, is noticed.
#[test]
fn damaged_bytes_are_refused() {
    let layer = Layer::new(Layout::Nhwc);
    let bytes = packed(&layer);
    let read = |bytes: &[u8]| {
        let filter = layer.filter();
        let refused = filter.read_packed(&mut &bytes[..]).err();
        assert_eq!(filter.packed_forms(), 0, "nothing of damaged bytes is kept");
        refused.expect("damaged bytes are refused").to_string()
    };
    let mut changed = bytes.clone();
    for at in (0..400).chain((400..bytes.len()).step_by(997)).chain(bytes.len() - 40..bytes.len()) {
        for bit in [0, 7] {
            changed[at] ^= 1 << bit;
            read(&changed);
            changed[at] ^= 1 << bit;
        }
    }
    for len in (0..300).chain((300..bytes.len()).step_by(4999)).chain([bytes.len() - 1]) {
        read(&bytes[..len]);
    }
    changed[bytes.len() - 20] ^= 1;
    assert_eq!(
        read(&changed),
        "packed weights: expected the bytes that were written, got damaged ones in the weights"
    );
    assert_eq!(read(b"anything else"), "packed weights: expected bytes of this format, got others");
}

#[test]
fn bytes_of_other_weights_are_refused() {
    let layer = Layer::new(Layout::Nchw16c);
    let bytes = packed(&layer);
    let mut other = Layer::new(Layout::Nchw16c);
    other.bias[3] += 1.0;
    let refused = other.filter().read_packed(&mut &bytes[..]);
    assert!(matches!(refused, Err(PackedError::OtherWeights)), "{refused:?}");
    let shape = FilterShape::new(40, 9, Size2::new(3, 8));
    let filter = Filter::new(shape, layer.weights()).unwrap();
    let refused = filter.read_packed(&mut &bytes[..]).unwrap_err().to_string();
    assert!(refused.contains("expected extents 40x9x3x8") && refused.contains("got 40x24x3x3"), "{refused}");
    let without = Filter::new(layer.shape, Weights::filter(&layer.weights)).unwrap();
    assert!(matches!(without.read_packed(&mut &bytes[..]), Err(PackedError::OtherFilter { .. })));
}

/// Several filters share a file: each reader stops where its filter ends.
#[test]
fn filters_follow_one_another_in_a_file() {
    let layer = Layer::new(Layout::Nchw);
    let mut bytes = packed(&layer);
    bytes.extend(packed(&layer));
    let mut rest = &bytes[..];
    let (first, second) = (Filter::from_packed(&mut rest).unwrap(), Filter::from_packed(&mut rest).unwrap());
    assert!(rest.is_empty());
    assert_eq!(first.packed_bytes(), second.packed_bytes());
}

/// What a caller's executor may do wrong.
enum Careless {
    Nothing,
    Twice,
    Backwards,
    Beyond,
}

impl Executor for Careless {
    fn threads(&self) -> usize {
        if matches!(self, Self::Beyond) { usize::MAX } else { 3 }
    }

    fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) {
        match self {
            Self::Nothing => (),
            Self::Twice => (0..parts).chain(0..parts).for_each(part),
            Self::Backwards => (0..parts).rev().for_each(part),
            Self::Beyond => (0..parts + 100).for_each(part),
        }
    }
}

#[test]
fn an_executor_that_breaks_the_rules_gives_the_same_bits() {
    let problem =
        ConvProblem { input: Shape4::new(2, 16, 20, 20), out_channels: 40, ..ConvProblem::simple() };
    let data = problem.data();
    let plan = problem.plan(&data, &PlanOptions::default().max_threads(64).macs_per_thread(1)).unwrap();
    let alone = problem.run(&plan, &data, Threads::Seq).unwrap();
    for careless in [Careless::Nothing, Careless::Twice, Careless::Backwards, Careless::Beyond] {
        assert!(problem.run(&plan, &data, Threads::Executor(&careless)).unwrap() == alone);
    }
    for threads in [0, 1, 2, 5, 70] {
        assert!(problem.run(&plan, &data, Threads::Executor(&Scoped(threads))).unwrap() == alone);
    }
}

/// Uninitialised outputs and the caller's scratch, at any address.
#[test]
fn outputs_may_be_uninitialised_and_scratch_is_any_slice() {
    for layout in Layout::ALL {
        let layer = Layer::new(layout);
        let desc = layer.desc(1, 13);
        let input = layer.input(desc.input());
        for algorithm in Algorithm::ALL.into_iter().filter(|a| a.supports(&desc).is_ok()) {
            let options = PlanOptions::default().force(algorithm);
            let plan = ConvPlan::new(&desc, layer.weights(), &options).unwrap();
            let len = desc.output().len(layout).unwrap();
            let mut output = vec![MaybeUninit::new(f32::NAN); len];
            let mut scratch = vec![f32::NAN; plan.workspace_req().len() + 3];
            let io = ConvIo::new(
                TensorRef::packed(&input, desc.input(), layout).unwrap(),
                TensorOut::packed(&mut output, desc.output(), layout).unwrap(),
            );
            plan.run(io, &mut scratch[3..], Threads::Seq).unwrap();
            // SAFETY: initialised with NaN above, whatever the run has written.
            let output: Vec<f32> = output.iter().map(|x| unsafe { x.assume_init() }).collect();
            assert!(output == layer.alone(&desc, &options), "{algorithm} in {layout}");
        }
    }
}

#[test]
fn filters_and_convolutions_are_shared_between_threads() {
    fn assert_shareable<T: Send + Sync>() {}
    assert_shareable::<Filter<'_>>();
    assert_shareable::<Conv<'_>>();
    assert_shareable::<ConvPlan>();
}
