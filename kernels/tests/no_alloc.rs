//! Counts allocations: `run` allocates nothing, for every algorithm, layer, instruction set and layout, alone
//! and in a pool.

mod common;
mod counting;

use common::ConvProblem;
use common::gradient::WeightsProblem;
use counting::counted;
use kernels::{
    Activation, Algorithm, BackwardData, BackwardDataIo, BackwardWeights, BackwardWeightsIo, Buffer,
    ConvError, ConvIo, DataSpec, EpilogueSpec, Isa, Layout, LinearPlan, LrnSpec, Method, NormSpec, Ops, Pad2,
    PlanOptions, PoolDesc, PoolKind, Shape4, Size2, TensorMut, TensorRef, Threads, Weights, Workspace,
};

/// Allocations of all threads during ten runs.
fn allocations(problem: &ConvProblem, algorithm: Algorithm, isa: Isa, threads: Threads<'_>) -> usize {
    let data = problem.data();
    let options = PlanOptions::default().force(algorithm).isa(isa).max_threads(2).macs_per_thread(1);
    let plan = problem.plan(&data, &options).expect("a valid problem");
    let (input_shape, shape, layout) = (problem.input, plan.desc().output(), problem.layout);
    let input = Buffer::zeroed(input_shape.len(layout).expect("it fits")).unwrap();
    let residual = Buffer::zeroed(shape.len(layout).expect("it fits")).unwrap();
    let mut output = Buffer::zeroed(residual.len()).unwrap();
    let mut workspace = Workspace::for_req(plan.workspace_req()).unwrap();
    let mut run = || {
        let io = ConvIo {
            input: TensorRef::packed(&input, input_shape, layout).expect("it fits"),
            output: TensorMut::packed(&mut output, shape, layout).expect("it fits").into(),
            residual: Some(TensorRef::packed(&residual, shape, layout).expect("it fits")),
        };
        plan.run(io, &mut workspace, threads).expect("a valid run");
    };
    counted(&mut run)
}

/// Allocations of all threads during ten runs of a gradient of weights.
fn allocations_of_gradient(problem: &ConvProblem, method: Method, isa: Isa, threads: Threads<'_>) -> usize {
    let problem = WeightsProblem::new(*problem, true, true);
    let (desc, layout) = (problem.desc(), problem.conv.layout);
    let options = PlanOptions::default().force(method).isa(isa).max_threads(2).macs_per_thread(1);
    let plan = problem.plan(&options);
    let input = Buffer::zeroed(desc.input().len(layout).expect("it fits")).unwrap();
    let grad_output = Buffer::zeroed(desc.output().len(layout).expect("it fits")).unwrap();
    let (mut filter, mut bias) = (vec![0.0; desc.filter_len()], vec![0.0; desc.output().c]);
    let mut workspace = Workspace::for_req(plan.workspace_req()).unwrap();
    counted(&mut || {
        let io = BackwardWeightsIo::new(
            TensorRef::packed(&input, desc.input(), layout).expect("it fits"),
            TensorRef::packed(&grad_output, desc.output(), layout).expect("it fits"),
            &mut filter,
        );
        plan.run(io.bias(&mut bias), &mut workspace, threads).expect("a valid run");
    })
}

/// Checks the gradients of weights of a layer of 20 channels in all layouts.
fn assert_gradients_allocate_nothing(base: ConvProblem, pool: &rayon::ThreadPool) {
    for (kernel, groups) in [(1, 1), (3, 1), (3, 20)] {
        let pad = Pad2::all(kernel / 2);
        let problem = ConvProblem {
            kernel: Size2::square(kernel),
            groups,
            pad,
            out_channels: 2 * base.input.c,
            ..base
        };
        let desc = WeightsProblem::new(problem, true, true).desc();
        let able = |(method, _): &(Method, Isa)| BackwardWeights::supports(*method, &desc).is_ok();
        for (method, isa) in common::methods_on_isas().filter(able) {
            let alone = allocations_of_gradient(&problem, method, isa, Threads::Seq);
            assert_eq!(alone, 0, "weights of {desc}: {method} on {isa}");
            let run = || allocations_of_gradient(&problem, method, isa, Threads::Current);
            assert_eq!(pool.install(run), 0, "weights of {desc}: {method} on {isa} inside a pool");
        }
    }
}

/// Checks the gradient of the input, with one phase and with several, in all layouts.
fn assert_gradients_of_inputs_allocate_nothing(base: ConvProblem, pool: &rayon::ThreadPool) {
    for (stride, accumulate) in [(1, false), (1, true), (2, false), (2, true)] {
        let epilogue = EpilogueSpec::NONE;
        let desc = ConvProblem { stride: Size2::square(stride), epilogue, ..base }.desc().expect("valid");
        let filter = vec![0.5; desc.filter_len()];
        let options = PlanOptions::default().max_threads(2).macs_per_thread(1);
        let plan = BackwardData::new(&desc, &filter, DataSpec { accumulate }, &options).expect("a plan");
        let grad_output = Buffer::zeroed(desc.output().len(desc.layout()).expect("it fits")).unwrap();
        let mut grad_input = Buffer::zeroed(desc.input().len(desc.layout()).expect("it fits")).unwrap();
        let mut workspace = Workspace::for_req(plan.workspace_req()).unwrap();
        let mut run = |threads: Threads<'_>| {
            counted(&mut || {
                let io = BackwardDataIo::new(
                    TensorRef::packed(&grad_output, desc.output(), desc.layout()).expect("it fits"),
                    TensorMut::packed(&mut grad_input, desc.input(), desc.layout()).expect("it fits"),
                );
                plan.run(io, &mut workspace, threads).expect("a valid run");
            })
        };
        assert_eq!(run(Threads::Seq), 0, "{plan}");
        assert_eq!(pool.install(|| run(Threads::Current)), 0, "{plan}inside a pool");
    }
}

/// Checks every layer other than convolution, on tensors that are large enough to be split in two.
fn assert_ops_allocate_nothing(layout: Layout, isa: Isa, threads: Threads<'_>) {
    const SHAPE: Shape4 = Shape4::new(2, 40, 63, 65);
    let ops = Ops::new(Some(isa)).expect("an instruction set of this machine");
    let input = Buffer::zeroed(SHAPE.len(layout).expect("it fits")).unwrap();
    let mut output = Buffer::zeroed(Shape4 { c: 48, ..SHAPE }.len(layout).expect("it fits")).unwrap();
    let numbers = [0.5f32; SHAPE.c];
    let pool = PoolDesc::builder(SHAPE, Size2::square(3), PoolKind::Max).layout(layout).pad(Pad2::all(1));
    let pool = pool.build().expect("a valid layer");
    let lrn = LrnSpec { size: 5, alpha: 1e-4, beta: 0.6, k: 1.0 };
    let norm = NormSpec { groups: 8, eps: 1e-5 };
    let other = if layout == Layout::Nchw { Layout::Nhwc } else { Layout::Nchw };
    let x = TensorRef::packed(&input, SHAPE, layout).expect("it fits");
    let relu = Activation::Relu;
    type Layer<'a> = &'a dyn Fn(TensorMut<'_>) -> Result<(), ConvError>;
    let layers: [(&str, usize, Layout, Layer<'_>); 12] = [
        ("activate", 40, layout, &|y| ops.activate(Activation::PRelu, Some(&numbers), y, threads)),
        ("softmax", 40, layout, &|y| ops.softmax(y, threads)),
        ("pool", 40, layout, &|y| ops.pool(&pool, x, y, threads)),
        ("lrn", 40, layout, &|y| ops.lrn(lrn, x, y, threads)),
        ("scale_shift", 40, layout, &|y| ops.scale_shift(&numbers, &numbers, y, threads)),
        ("normalize", 40, layout, &|y| ops.normalize(norm, Some(&numbers), None, x, y, threads)),
        ("add", 40, layout, &|y| ops.add(x, y, relu, threads)),
        ("multiply", 40, layout, &|y| ops.multiply(x, y, threads)),
        ("affine", 40, layout, &|y| ops.affine((&numbers, &numbers), relu, x, y, threads)),
        ("maxout", 20, layout, &|y| ops.maxout(2, x, y, threads)),
        ("copy", 40, layout, &|y| ops.copy(x, y, threads)),
        ("reorder", 40, other, &|y| ops.copy(x, y, threads)),
    ];
    for (name, c, layout, layer) in layers {
        let shape = Shape4 { c, ..SHAPE };
        let len = shape.len(layout).expect("it fits");
        let count = counted(&mut || {
            layer(TensorMut::packed(&mut output[..len], shape, layout).expect("it fits"))
                .expect("a valid run");
        });
        assert_eq!(count, 0, "{name} of {layout} on {isa}, {threads:?}");
    }
}

/// Checks a fully connected layer that is large enough to be split in two.
fn assert_linear_allocates_nothing(isa: Isa, threads: Threads<'_>) {
    let (batch, ins, outs) = (4, 300, 200);
    let (filter, x) = (vec![0.1; ins * outs], vec![1.0; batch * ins]);
    let mut y = vec![0.0; batch * outs];
    let options = PlanOptions::default().isa(isa).max_threads(2).macs_per_thread(1);
    let plan = LinearPlan::new(batch, ins, outs, EpilogueSpec::NONE, Weights::filter(&filter), &options);
    let plan = plan.expect("a valid layer");
    let mut workspace = Workspace::for_req(plan.workspace_req()).unwrap();
    let count = counted(&mut || plan.run(&x, &mut y, None, &mut workspace, threads).expect("a valid run"));
    assert_eq!(count, 0, "linear on {isa}, {threads:?}");
}

/// A single test, because another test in this process would allocate during the count.
fn main() {
    assert!(counted(&mut || drop(std::hint::black_box(vec![1u8; 100]))) > 0, "the counter does not count");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads can be started");
    pool.broadcast(|_| ()); // a thread that is still starting allocates
    let epilogue = EpilogueSpec { bias: true, residual: true, activation: Activation::Tanh };
    let base =
        ConvProblem { input: Shape4::new(2, 20, 9, 11), out_channels: 36, epilogue, ..ConvProblem::simple() };
    for layout in Layout::ALL {
        assert_gradients_allocate_nothing(ConvProblem { layout, ..base }, &pool);
        assert_gradients_of_inputs_allocate_nothing(ConvProblem { layout, ..base }, &pool);
        for (kernel, groups) in [(1, 1), (3, 1), (3, 4)] {
            let pad = Pad2::all(kernel / 2);
            let problem = ConvProblem { layout, kernel: Size2::square(kernel), groups, pad, ..base };
            let desc = problem.desc().expect("a valid problem");
            for algorithm in Algorithm::ALL.into_iter().filter(|a| a.supports(&desc).is_ok()) {
                for isa in Isa::available() {
                    let alone = allocations(&problem, algorithm, isa, Threads::Seq);
                    assert_eq!(alone, 0, "{desc}: {algorithm} on {isa}");
                    let inside = pool.install(|| allocations(&problem, algorithm, isa, Threads::Current));
                    assert_eq!(inside, 0, "{desc}: {algorithm} on {isa} inside a pool");
                }
            }
        }
        for isa in Isa::available() {
            assert_ops_allocate_nothing(layout, isa, Threads::Seq);
            pool.install(|| assert_ops_allocate_nothing(layout, isa, Threads::Current));
        }
    }
    for isa in Isa::available() {
        assert_linear_allocates_nothing(isa, Threads::Seq);
        pool.install(|| assert_linear_allocates_nothing(isa, Threads::Current));
    }
}
