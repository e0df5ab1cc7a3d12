//! The layers other than convolution, and fully connected layers.

use super::child::note;
use super::common::{ACTIVATIONS, Placed, Rng, Values};
use super::conv::every;
use super::pages::Guarded;
use kernels::{
    Activation, ActivationValue, BatchNormSpec, BatchStatistics, ConvError, EpilogueSpec, Gradient, Isa,
    Layout, LinearPlan, LrnSpec, NormGradients, NormSpec, Ops, Pad2, PlanOptions, PoolDesc, PoolKind, Shape4,
    Size2, SliceGradient, TensorMut, Threads, Weights, Workspace,
};
use std::ops::DerefMut;

/// A tensor's shape and layout, and who works on it.
#[derive(Debug, Clone, Copy)]
struct Case {
    shape: Shape4,
    layout: Layout,
    slack: usize,
    isa: Isa,
}

type Run<'a> = Box<dyn Fn(TensorMut<'_>) -> Result<(), ConvError> + 'a>;

/// A layer: its name, the tensor that it writes, whether that is also its input, and its function.
struct Layer<'a> {
    name: String,
    output: (Shape4, Layout),
    in_place: bool,
    run: Run<'a>,
}

/// Windows inside the image, at its edges, as large as the image, and dilated.
fn pools(shape: Shape4, layout: Layout) -> Vec<PoolDesc> {
    let kinds = [PoolKind::Max, PoolKind::Average { count_include_pad: true }];
    let windows = [(1, 1, 1), (2, 2, 1), (3, 1, 1), (3, 2, 1), (3, 2, 2), (5, 3, 1)];
    let of = |kind| {
        let described = windows.into_iter().map(move |(window, stride, dilation)| {
            let builder = PoolDesc::builder(shape, Size2::square(window), kind).layout(layout);
            let builder = builder.stride(Size2::square(stride)).dilation(Size2::square(dilation));
            builder.pad(Pad2 { top: window / 2, bottom: 0, left: 0, right: window / 2 }).build()
        });
        described.chain([PoolDesc::global(shape, kind, layout)]).flatten()
    };
    kinds.into_iter().flat_map(of).collect()
}

/// The outputs of every layer for `case`, with all operands in `memory`.
fn outputs<M>(case: Case, threads: Threads<'_>, memory: fn(usize) -> M) -> Vec<Vec<f32>>
where
    M: DerefMut<Target = [f32]>,
{
    let Case { shape, layout, slack, isa } = case;
    let ops = Ops::new(Some(isa)).expect("an instruction set of this machine");
    let plain = Rng(7).values(Values::Uniform, shape.n * shape.c * shape.h * shape.w);
    let input = Placed::tight(shape, layout, slack, Some(&plain), memory);
    let mut numbers = memory(shape.c);
    numbers.copy_from_slice(&Rng(8).values(Values::Uniform, shape.c));
    let (x, numbers) = (input.tensor(), &numbers[..]);

    let first_pixel = Placed::tight(
        Shape4 { h: 1, w: 1, ..shape },
        layout,
        slack,
        Some(&plain[..shape.n * shape.c]),
        memory,
    );
    let gate = first_pixel.tensor();
    let mut layers: Vec<Layer<'_>> = Vec::new();
    let mut layer = |name: String, output, in_place, run| {
        layers.push(Layer { name, output, in_place, run });
    };
    let same = (shape, layout);
    for activation in ACTIVATIONS {
        let slope = (activation == Activation::PRelu).then_some(numbers);
        let run = Box::new(move |y: TensorMut<'_>| ops.activate(activation, slope, y, threads));
        layer(format!("activation {}", activation.name()), same, true, run);
    }
    layer("softmax".into(), same, true, Box::new(move |y| ops.softmax(y, threads)));
    layer("scale_shift".into(), same, true, Box::new(move |y| ops.scale_shift(numbers, numbers, y, threads)));
    for activation in [Activation::None, Activation::Silu] {
        let run = Box::new(move |y: TensorMut<'_>| ops.add(x, y, activation, threads));
        layer(format!("add, {}", activation.name()), same, true, run);
    }
    layer("multiply".into(), same, true, Box::new(move |y| ops.multiply(x, y, threads)));
    layer("multiply by a pixel".into(), same, true, Box::new(move |y| ops.multiply(gate, y, threads)));
    let run =
        Box::new(move |y: TensorMut<'_>| ops.affine((numbers, numbers), Activation::Relu, x, y, threads));
    layer("affine".into(), same, false, run);
    for (size, beta) in [(5, 0.75), (4, 0.5), (1, 1.0), (33, 0.6)] {
        let spec = LrnSpec { size, alpha: 1e-2, beta, k: 1.0 };
        layer(format!("{spec:?}"), same, false, Box::new(move |y| ops.lrn(spec, x, y, threads)));
    }
    for (groups, affine) in [(1, None), (shape.c, Some(numbers))] {
        let spec = NormSpec { groups, eps: 1e-5 };
        let run = Box::new(move |y: TensorMut<'_>| ops.normalize(spec, affine, affine, x, y, threads));
        layer(format!("{spec:?}"), same, false, run);
    }
    for pieces in (1..=shape.c).filter(|&pieces| shape.c.is_multiple_of(pieces)) {
        let output = (Shape4 { c: shape.c / pieces, ..shape }, layout);
        layer(
            format!("maxout {pieces}"),
            output,
            false,
            Box::new(move |y| ops.maxout(pieces, x, y, threads)),
        );
    }
    for to in Layout::ALL {
        layer(format!("copy to {to}"), (shape, to), false, Box::new(move |y| ops.copy(x, y, threads)));
    }
    for desc in pools(shape, layout) {
        let run = Box::new(move |y: TensorMut<'_>| ops.pool(&desc, x, y, threads));
        layer(desc.to_string(), (desc.output(), layout), false, run);
    }

    for activation in ACTIVATIONS.into_iter().filter(|of| *of != Activation::PRelu) {
        let value = ActivationValue::Input(x);
        let run = Box::new(move |y: TensorMut<'_>| {
            ops.activate_gradient(activation, value, x, Gradient::Add(y), threads)
        });
        layer(format!("gradient of {}", activation.name()), same, true, run);
    }
    layer("gradient of tanh in place".into(), same, true, {
        Box::new(move |y: TensorMut<'_>| ops.activate_gradient_in_place(Activation::Tanh, x, y, threads))
    });
    layer("gradient of PReLU".into(), same, false, {
        let run = move |y: TensorMut<'_>| {
            let mut slopes = memory(shape.c);
            ops.prelu_gradient(numbers, x, x, y, &mut slopes[..], threads)
        };
        Box::new(run)
    });
    let norm = move |y: TensorMut<'_>, groups: Option<usize>| {
        let (mut scale, mut shift) = (memory(shape.c), memory(shape.c));
        let into = NormGradients {
            input: y.into(),
            scale: Some(SliceGradient::Write(&mut scale)),
            shift: Some(SliceGradient::Write(&mut shift)),
        };
        let Some(groups) = groups else {
            let spec = BatchNormSpec { eps: 1e-5, momentum: 0.1, activation: Activation::Relu };
            let params = (Some(numbers), Some(numbers));
            return ops.batch_norm_gradient(spec, params, (numbers, numbers), (x, x), into, threads);
        };
        let mut scratch = memory(Ops::normalize_gradient_scratch_len(shape)?);
        let spec = NormSpec { groups, eps: 1e-5 };
        ops.normalize_gradient(spec, Some(numbers), (x, x), into, &mut scratch, threads)
    };
    for groups in [None, Some(1), Some(shape.c)] {
        layer(format!("gradient of norm, {groups:?}"), same, false, Box::new(move |y| norm(y, groups)));
    }
    if shape.n * shape.h * shape.w > 1 {
        let run = move |y: TensorMut<'_>| {
            let (mut mean, mut inverse) = (memory(shape.c), memory(shape.c));
            let statistics = BatchStatistics { mean: &mut mean, inverse: &mut inverse, running: None };
            let spec = BatchNormSpec { eps: 1e-5, momentum: 0.1, activation: Activation::Relu };
            ops.batch_norm(spec, (Some(numbers), Some(numbers)), x, y, statistics, threads)
        };
        layer("batch norm".into(), same, false, Box::new(run));
    }
    layer("gradient of lrn".into(), same, false, {
        let run = move |y: TensorMut<'_>| {
            let spec = LrnSpec { size: 5, alpha: 1e-2, beta: 0.75, k: 1.0 };
            let mut scratch = memory(Ops::lrn_gradient_workspace(shape, threads.count()).len());
            ops.lrn_gradient(spec, (x, x), y, &mut scratch[..], threads)
        };
        Box::new(run)
    });
    for add in [false, true] {
        let run = move |y: TensorMut<'_>| {
            let examples = shape.n * shape.h * shape.w;
            let labels: Vec<u32> = (0..examples).map(|i| (i % shape.c) as u32).collect();
            let to = if add { Gradient::Add(y) } else { y.into() };
            ops.cross_entropy(x, &labels, 0.5, &mut memory(examples), to, threads).map(|_| ())
        };
        layer(format!("cross-entropy, add: {add}"), same, true, Box::new(run));
    }
    for desc in pools(shape, layout) {
        let of_output = desc.output();
        let len = of_output.n * of_output.c * of_output.h * of_output.w;
        let gradient = Placed::tight(of_output, layout, slack, Some(&vec![0.75; len]), memory);
        let value = (desc.kind() == PoolKind::Max).then_some(x);
        let run = move |y: TensorMut<'_>| ops.pool_gradient(&desc, value, gradient.tensor(), y, threads);
        layer(format!("gradient of {desc}"), same, false, Box::new(run));
    }

    let output_of = |Layer { name, output: (shape, layout), in_place, run }: &Layer<'_>| {
        note(&format!("{name}: {case:?}, {threads:?}"));
        let mut output = Placed::tight(*shape, *layout, slack, in_place.then_some(&plain[..]), memory);
        run(output.tensor_mut()).expect("a valid run");
        output.elements()
    };
    layers.iter().map(output_of).collect()
}

/// The output of a fully connected layer, with all operands in `memory`.
fn linear<M>(sizes: [usize; 3], isa: Isa, threads: Threads<'_>, memory: fn(usize) -> M) -> Vec<f32>
where
    M: DerefMut<Target = [f32]>,
{
    note(&format!("linear layer, batch, inputs and outputs {sizes:?} on {isa}, {threads:?}"));
    let [batch, ins, outs] = sizes;
    let mut rng = Rng(9);
    let mut random = |len| {
        let mut numbers = memory(len);
        numbers.copy_from_slice(&rng.values(Values::Uniform, len));
        numbers
    };
    let (filter, bias, slope) = (random(ins * outs), random(outs), random(outs));
    let (input, residual, mut output) = (random(batch * ins), random(batch * outs), random(batch * outs));
    let epilogue = EpilogueSpec { bias: true, residual: true, activation: Activation::PRelu };
    let weights = Weights { filter: &filter, bias: Some(&bias), slope: Some(&slope) };
    let options = PlanOptions::default().isa(isa).max_threads(2).macs_per_thread(1);
    let plan = LinearPlan::new(batch, ins, outs, epilogue, weights, &options).expect("a plan");
    let mut workspace = Workspace::for_req(plan.workspace_req()).unwrap();
    plan.run(&input, &mut output, Some(&residual), &mut workspace, threads).expect("a valid run");
    output.to_vec()
}

fn assert_same(ordinary: &[f32], guarded: &[f32]) {
    let same = ordinary.iter().zip(guarded).all(|(a, b)| a.to_bits() == b.to_bits());
    assert!(same && ordinary.len() == guarded.len(), "the bits depend on where operands lie");
}

pub fn all() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads can be started");
    let ordinary = |len| vec![0.0f32; len];
    // Sizes around vectors of 4, 8 and 16 lanes and blocks of 16 channels, with one pixel and many. The last
    // is split in two.
    let shapes = [
        (1, 1, 1, 1),
        (3, 2, 1, 1),
        (2, 3, 1, 5),
        (1, 4, 7, 1),
        (1, 7, 3, 5),
        (2, 8, 2, 4),
        (1, 9, 4, 4),
        (1, 15, 1, 17),
        (2, 16, 5, 3),
        (1, 17, 5, 7),
        (3, 31, 3, 3),
        (1, 33, 8, 9),
        (2, 66, 3, 11),
        (2, 40, 39, 41),
    ];
    for isa in Isa::available() {
        for threads in [Threads::Seq, Threads::Pool(&pool)] {
            let places = Layout::ALL.into_iter().flat_map(|layout| [(layout, 0), (layout, 5)]);
            let cases = shapes.into_iter().flat_map(|shape| places.clone().map(move |place| (shape, place)));
            for ((n, c, h, w), (layout, slack)) in cases.step_by(every()) {
                let case = Case { shape: Shape4::new(n, c, h, w), layout, slack, isa };
                let [a, b] = [outputs(case, threads, ordinary), outputs(case, threads, Guarded::new)];
                a.iter().zip(&b).for_each(|(a, b)| assert_same(a, b));
            }
            for sizes in [[1, 1, 1], [1, 784, 300], [1, 33, 17], [2, 33, 129], [3, 17, 15], [64, 300, 100]] {
                assert_same(
                    &linear(sizes, isa, threads, ordinary),
                    &linear(sizes, isa, threads, Guarded::new),
                );
            }
        }
    }
}
