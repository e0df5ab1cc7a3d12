//! Sums of small integers, which are exact in every order.
//!
//! The error bound of other tests grows with the number of products K. Beyond about 2,900 products it exceeds one
//! product, so a sum that misses a product would pass. Here, every product is a nonzero integer and every partial sum
//! is an integer below 2^24, which `f32` represents exactly. So every bit must be right, up to K of 100,000.

mod common;

use common::{ConvProblem, Data, Values};
use kernels::{
    Activation, Algorithm, ConvDesc, EpilogueSpec, Isa, Layout, Numerics, Pad2, PlanOptions, Shape4, Size2,
    Threads,
};

/// Whether an algorithm is exact on small integers. This holds for algorithms that only reorder sums, and for
/// Winograd with the points 0, 1, -1 and infinity, whose transforms add, subtract and finally halve.
fn is_exact(algorithm: Algorithm, desc: &ConvDesc) -> bool {
    let taps = desc.kernel().h.div_ceil(desc.stride().h);
    algorithm.numerics(desc) == Numerics::Strict || (algorithm == Algorithm::Winograd2x2 && taps == 3)
}

/// The definition, in integer arithmetic.
fn truth(desc: &ConvDesc, data: &Data) -> Vec<f32> {
    let (input, output, kernel) = (desc.input(), desc.output(), desc.kernel());
    let (channels, per_group) = (input.c / desc.groups(), output.c / desc.groups());
    let taps = channels * kernel.h * kernel.w;
    assert!(4 * (taps + 1) < 1 << 24, "a partial sum could leave the integers that f32 holds exactly");
    let mut sums = Vec::with_capacity(output.n * output.c * output.h * output.w);
    for at in 0..sums.capacity() {
        let (x, y) = (at % output.w, at / output.w % output.h);
        let (o, n) = (at / (output.w * output.h) % output.c, at / (output.w * output.h * output.c));
        let mut sum = 0i64;
        for (tap, &weight) in data.filter[o * taps..][..taps].iter().enumerate() {
            let (i, j) = (tap / kernel.w % kernel.h, tap % kernel.w);
            let c = o / per_group * channels + tap / (kernel.h * kernel.w);
            let row = (y * desc.stride().h + i * desc.dilation().h).wrapping_sub(desc.pad().top);
            let column = (x * desc.stride().w + j * desc.dilation().w).wrapping_sub(desc.pad().left);
            if row < input.h && column < input.w {
                let pixel = data.input[((n * input.c + c) * input.h + row) * input.w + column];
                sum += pixel as i64 * weight as i64;
            }
        }
        let addend = |values: &Option<Vec<f32>>, at: usize| values.as_ref().map_or(0, |v| v[at] as i64);
        sum += addend(&data.bias, o) + addend(&data.residual, at);
        sums.push(sum as f32);
    }
    sums
}

/// Every exact algorithm on every instruction set, in every layout, with and without conversion to the
/// blocked layout.
fn exact(problem: ConvProblem) {
    let problem = ConvProblem { values: Values::Integers, ..problem };
    let (data, desc) = (problem.data(), problem.desc().expect("a valid problem"));
    let truth = truth(&desc, &data);
    let layouts = Layout::ALL.map(|layout| (layout, layout));
    for (layout, output) in layouts.into_iter().chain([(Layout::Nchw, Layout::Nchw16c)]) {
        let problem = ConvProblem { layout, output_layout: Some(output), ..problem };
        let desc = problem.desc().expect("a valid problem");
        let able = |a: &Algorithm| a.supports(&desc).is_ok() && is_exact(*a, &desc);
        for algorithm in Algorithm::ALL.into_iter().filter(able) {
            let instruction_sets = if algorithm == Algorithm::Reference { 1 } else { usize::MAX };
            for isa in Isa::available().take(instruction_sets) {
                let plan =
                    problem.plan(&data, &PlanOptions::default().force(algorithm).isa(isa)).expect("a plan");
                let got = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
                let wrong = truth.iter().zip(&got).position(|(truth, got)| truth != got);
                if let Some(at) = wrong {
                    let kernel = &plan.explain().kernel;
                    panic!(
                        "{algorithm} on {isa} with {kernel}: element {at} is {}, not {}: {problem:?}",
                        got[at], truth[at]
                    );
                }
            }
        }
    }
}

fn plain(input: Shape4, out_channels: usize, kernel: usize) -> ConvProblem {
    let epilogue = EpilogueSpec { bias: true, residual: true, activation: Activation::None };
    ConvProblem { input, out_channels, kernel: Size2::square(kernel), epilogue, ..ConvProblem::simple() }
}

#[test]
fn a_hundred_thousand_products() {
    let pad = Pad2::all(1);
    let problems = [
        ConvProblem { pad, ..plain(Shape4::new(1, 11_112, 3, 4), 5, 3) },
        // Phases of three taps: Winograd with a stride.
        ConvProblem { pad, stride: Size2::square(2), ..plain(Shape4::new(1, 4_003, 6, 7), 4, 5) },
        plain(Shape4::new(1, 100_352, 1, 3), 7, 1),
        // A kernel that covers the image.
        plain(Shape4::new(2, 393, 16, 16), 5, 16),
        plain(Shape4::new(1, 27, 62, 63), 3, 61),
        ConvProblem { dilation: Size2::new(1, 2), ..plain(Shape4::new(1, 4_001, 5, 12), 3, 5) },
        ConvProblem { groups: 2, ..plain(Shape4::new(1, 2, 318, 319), 2, 317) },
        ConvProblem { groups: 2, ..plain(Shape4::new(1, 32, 81, 80), 6, 80) },
    ];
    for problem in problems {
        let desc = problem.desc().expect("a valid problem");
        assert!(desc.filter_len() / problem.out_channels >= 100_000, "{problem:?}");
        exact(problem);
    }
}

/// Sizes one below, at and above those at which sums over channels can be split.
#[test]
fn around_every_block_of_channels() {
    let around = |edge: usize| [edge - 1, edge, edge + 1];
    for edge in [16, 32, 48, 64, 128, 256, 384, 512, 1024, 2048, 4096] {
        for channels in around(edge) {
            exact(plain(Shape4::new(1, channels, 2, 9), 19, 1));
            // The channels cross the edge, and so do the products of 3x3 taps.
            for channels in [channels, channels.div_ceil(9)] {
                exact(ConvProblem { pad: Pad2::all(1), ..plain(Shape4::new(1, channels, 2, 3), 17, 3) });
            }
        }
    }
}

/// Windows of every height and width up to 33, with one channel and with a few.
#[test]
fn around_every_window() {
    for side in 1..=33 {
        let pad = Pad2 { top: 1, bottom: 0, left: 0, right: 1 };
        for (groups, ins, outs) in [(17, 1, 1), (3, 1, 2), (5, 4, 4), (1, 3, 5)] {
            let input = Shape4::new(1, groups * ins, side + 2, side + 3);
            let problem = ConvProblem { groups, pad, ..plain(input, groups * outs, side) };
            exact(problem);
            exact(ConvProblem { kernel: Size2::new(side, 3), ..problem });
            exact(ConvProblem { kernel: Size2::new(3, side), stride: Size2::new(2, 1), ..problem });
        }
    }
}
