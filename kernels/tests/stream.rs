//! Outputs that are written past the caches, because they do not stay in them. They must equal those of smaller problems,
//! which are not.

mod common;

use common::{JUNK, Rng, Values, pools};
use kernels::{
    Activation, Algorithm, BLOCK, Buffer, ConvDesc, ConvIo, ConvPlan, EpilogueSpec, Isa, Layout, Method,
    Pad2, PlanOptions, Products, Shape4, Size2, TensorMut, TensorRef, Threads, Weights, Workspace,
};

/// Images whose outputs have half of the bytes from which on outputs are written past the caches.
const HALF: Shape4 = Shape4 { n: 1, c: 32, h: 128, w: 256 };

/// A problem of `images` images.
fn desc(images: usize, (ins, groups, kernel): (usize, usize, usize), layout: Layout) -> ConvDesc {
    ConvDesc::builder(Shape4 { n: images, c: ins, ..HALF }, HALF.c, Size2::square(kernel))
        .pad(Pad2::all(kernel / 2))
        .groups(groups)
        .layout(layout)
        .epilogue(EpilogueSpec { bias: true, residual: true, activation: Activation::Relu })
        .build()
        .expect("a valid problem")
}

/// Runs `desc` on the first elements of `input` and `residual`. The output begins `slack` elements behind a cache line.
fn run(
    desc: &ConvDesc,
    options: &PlanOptions,
    (weights, input, residual): (Weights<'_>, &[f32], &[f32]),
    (slack, threads): (usize, Threads<'_>),
) -> Vec<f32> {
    let plan = ConvPlan::new(desc, weights, options).expect("a valid plan");
    let layout = desc.layout();
    let len = desc.output().len(layout).expect("a small tensor");
    let mut output = Buffer::zeroed(BLOCK + len).expect("memory");
    output.fill(JUNK);
    let input = &input[..desc.input().len(layout).expect("a small tensor")];
    let io = ConvIo::new(
        TensorRef::packed(input, desc.input(), layout).expect("a tensor"),
        TensorMut::packed(&mut output[slack..slack + len], desc.output(), layout).expect("a tensor"),
    );
    let io = io.residual(TensorRef::packed(&residual[..len], desc.output(), layout).expect("a tensor"));
    let mut workspace = Workspace::for_req(plan.workspace_req()).expect("memory");
    plan.run(io, &mut workspace, threads).expect("a valid run");
    output[slack..slack + len].to_vec()
}

#[test]
fn large_outputs_equal_small_ones() {
    let mut random = Rng(28);
    let pools = pools();
    let mut compared = 0;
    for problem in [(16, 1, 3), (32, 32, 3)] {
        for layout in [Layout::Nchw16c, Layout::Nhwc] {
            let [one, two] = [1, 2].map(|images| desc(images, problem, layout));
            let filter = random.values(Values::Uniform, two.filter_len());
            let bias = random.values(Values::Uniform, HALF.c);
            let input = random.values(Values::Uniform, two.input().len(layout).expect("a small tensor"));
            let residual = random.values(Values::Uniform, two.output().len(layout).expect("a small tensor"));
            let weights = Weights { filter: &filter, bias: Some(&bias), slope: None };
            for isa in Isa::available() {
                for algorithm in Algorithm::ALL.into_iter().filter(|&a| a != Algorithm::Reference) {
                    let method = Method { algorithm, products: Products::F32 };
                    if method.supports(&two).is_err() {
                        continue;
                    }
                    let mut options = PlanOptions::default().force(algorithm);
                    (options.isa, options.max_threads) = (Some(isa), 3);
                    let half = one.input().len(layout).expect("a small tensor");
                    let small = run(&one, &options, (weights, &input, &residual), (0, Threads::Seq));
                    let rest = (weights, &input[half..], &residual[small.len()..]);
                    let small = [small, run(&one, &options, rest, (0, Threads::Seq))].concat();
                    for (slack, threads) in [(0, Threads::Seq), (0, pools[1].threads()), (1, Threads::Seq)] {
                        let large = run(&two, &options, (weights, &input, &residual), (slack, threads));
                        let differs = large.iter().zip(&small).position(|(large, small)| {
                            // Blocks of work can differ, and with them the order of a sum.
                            (large - small).abs() > 1e-4 * small.abs().max(1.0) || large.is_nan()
                        });
                        assert_eq!(differs, None, "{isa} {algorithm} {layout} {problem:?} {slack}");
                        compared += 1;
                    }
                }
            }
        }
    }
    assert!(compared > 50, "{compared}");
}
