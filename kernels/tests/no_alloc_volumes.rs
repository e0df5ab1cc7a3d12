//! Counts allocations: runs of signals and of volumes allocate nothing, in every layout, alone and in a pool.

mod counting;

use counting::counted;
use kernels::*;

const SHAPE: Shape5 = Shape5::new(2, 20, 5, 9, 11);

fn zeros(shape: Shape5, layout: VolumeLayout) -> Buffer {
    Buffer::zeroed(shape.len(layout).expect("it fits")).expect("memory")
}

/// Checks one convolution and its gradients.
fn assert_convolution(desc: &Conv3dDesc, threads: Threads<'_>) {
    let options = PlanOptions::default().max_threads(2).macs_per_thread(1);
    let filter = vec![0.5; desc.filter_len()];
    let (layout, to) = (desc.layout(), desc.output_layout());
    let (mut x, mut y) = (zeros(desc.input(), layout), zeros(desc.output(), to));
    let plan = Conv3dPlan::new(desc, Weights::filter(&filter), &options).expect("a plan");
    let mut workspace = Workspace::for_req(plan.workspace_req()).expect("memory");
    let count = counted(&mut || {
        let input = VolumeRef::packed(&x, desc.input(), layout).expect("it fits");
        let output = VolumeMut::packed(&mut y, desc.output(), to).expect("it fits");
        plan.run(Conv3dIo::new(input, output), &mut workspace, threads).expect("a valid run");
    });
    assert_eq!(count, 0, "{desc}, {threads:?}");
    let plan = BackwardData3d::new(desc, &filter, DataSpec { accumulate: true }, &options).expect("a plan");
    let mut workspace = Workspace::for_req(plan.workspace_req()).expect("memory");
    let count = counted(&mut || {
        let grad_output = VolumeRef::packed(&y, desc.output(), to).expect("it fits");
        let grad_input = VolumeMut::packed(&mut x, desc.input(), layout).expect("it fits");
        let io = BackwardData3dIo::new(grad_output, grad_input);
        plan.run(io, &mut workspace, threads).expect("a valid run");
    });
    assert_eq!(count, 0, "gradient of the input of {desc}, {threads:?}");
    let plan = BackwardWeights3d::new(desc, &WeightsSpec::default().bias(), &options).expect("a plan");
    let mut workspace = Workspace::for_req(plan.workspace_req()).expect("memory");
    let (mut gradient, mut bias) = (filter, vec![0.0; desc.output().c]);
    let count = counted(&mut || {
        let input = VolumeRef::packed(&x, desc.input(), layout).expect("it fits");
        let grad_output = VolumeRef::packed(&y, desc.output(), to).expect("it fits");
        let io = BackwardWeights3dIo::new(input, grad_output, &mut gradient).bias(&mut bias);
        plan.run(io, &mut workspace, threads).expect("a valid run");
    });
    assert_eq!(count, 0, "gradient of the weights of {desc}, {threads:?}");
}

/// Checks maximum pooling and its gradient.
fn assert_pooling(layout: VolumeLayout, threads: Threads<'_>) {
    let builder = Pool3dDesc::builder(SHAPE, Size3::cube(3), PoolKind::Max).layout(layout);
    let desc = builder.stride(Size3::cube(2)).pad(Pad3::all(1)).build().expect("a valid layer");
    let (mut x, mut y) = (zeros(SHAPE, layout), zeros(desc.output(), layout));
    let source = zeros(SHAPE, layout);
    let ops = Ops::new(None).expect("the best instruction set");
    let mut workspace = Workspace::for_req(desc.gradient_workspace_req()).expect("memory");
    let count = counted(&mut || {
        let input = VolumeRef::packed(&source, SHAPE, layout).expect("it fits");
        let output = VolumeMut::packed(&mut y, desc.output(), layout).expect("it fits");
        ops.pool3d(&desc, input, output, &mut workspace, threads).expect("a valid run");
        let gradient = VolumeRef::packed(&y, desc.output(), layout).expect("it fits");
        let dx = VolumeMut::packed(&mut x, SHAPE, layout).expect("it fits");
        ops.pool3d_gradient(&desc, (Some(input), gradient), dx, &mut workspace, threads)
            .expect("a valid run");
    });
    assert_eq!(count, 0, "pooling in {layout}, {threads:?}");
}

/// Checks a long signal, which is cut into segments.
fn assert_signal(threads: Threads<'_>) {
    let desc = Conv1dDesc::builder(Shape3::new(1, 40, 10_000), 8, 2).dilation(4).pad(Pad1::causal(2, 4));
    let desc = desc.build().expect("a valid problem");
    let filter = vec![0.5; desc.filter_len()];
    let options = PlanOptions::default().max_threads(2).macs_per_thread(1);
    let plan = Conv1dPlan::new(&desc, Weights::filter(&filter), &options).expect("a plan");
    assert!(plan.plans().count() > 1);
    let (x, mut y) = (vec![0.5; 400_000], vec![0.0; 80_000]);
    let mut workspace = Workspace::for_req(plan.workspace_req()).expect("memory");
    let count = counted(&mut || {
        let input = TensorRef::packed(&x, desc.input().into(), desc.layout()).expect("it fits");
        let output = TensorMut::packed(&mut y, desc.output().into(), desc.layout()).expect("it fits");
        plan.run(ConvIo::new(input, output), &mut workspace, threads).expect("a valid run");
    });
    assert_eq!(count, 0, "{desc}, {threads:?}");
}

fn assert_all(threads: Threads<'_>) {
    for layout in VolumeLayout::ALL {
        for (stride, dilation, groups) in [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 20)] {
            let desc = Conv3dDesc::builder(SHAPE, 40, Size3::cube(3))
                .stride(Size3::cube(stride))
                .dilation(Size3::cube(dilation))
                .pad(Pad3::all(1))
                .groups(groups)
                .layout(layout)
                .build()
                .expect("a valid problem");
            assert_convolution(&desc, threads);
        }
        assert_pooling(layout, threads);
    }
    assert_signal(threads);
}

/// A single test, because another test in this process would allocate during the count.
fn main() {
    assert!(counted(&mut || drop(std::hint::black_box(vec![1u8; 100]))) > 0, "the counter does not count");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads can be started");
    pool.broadcast(|_| ()); // a thread that is still starting allocates
    assert_all(Threads::Seq);
    pool.install(|| assert_all(Threads::Current));
}
