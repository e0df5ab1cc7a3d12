//! How far a NaN or infinite pixel affects outputs that do not depend on it. The measured distances must
//! match docs/numerics.md.

mod common;

use common::{ConvProblem, Data};
use kernels::{Algorithm, ConvPlan, Isa, Layout, Pad2, PlanOptions, Shape4, Size2, Threads};

const PAGE: &str = include_str!("../../docs/numerics.md");

/// Kernels and strides: every number of taps that a phase of a Winograd tile can have, and others.
const WINDOWS: [(usize, usize); 12] =
    [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (7, 1), (5, 2), (6, 2), (7, 2), (9, 2), (9, 3), (11, 4)];

/// Outputs per side: enough for whole tiles of every kind on all sides of the pixel.
const OUTPUTS: usize = 24;

/// Twice the largest tile extent. On each axis, the pixel then takes every position in a tile.
const PERIOD: usize = 12;

/// Length of the longest Fourier transform.
const LONGEST: usize = 128;

/// Two groups with the given input and output channels. Two images, unless they are large.
fn problem(layout: Layout, per_group: (usize, usize), window: (usize, usize), outputs: usize) -> ConvProblem {
    let (kernel, stride) = window;
    let side = (outputs - 1) * stride + kernel;
    ConvProblem {
        input: Shape4::new(if per_group.0 < 16 { 2 } else { 1 }, 2 * per_group.0, side, side),
        out_channels: 2 * per_group.1,
        groups: 2,
        kernel: Size2::square(kernel),
        stride: Size2::square(stride),
        layout,
        ..ConvProblem::simple()
    }
}

/// The distance from output `at` to the nearest output that depends on input `pixel`, on one axis.
fn distance(at: usize, pixel: usize, kernel: usize, stride: usize, outputs: usize) -> usize {
    let first = (pixel + 1).saturating_sub(kernel).div_ceil(stride);
    let last = (pixel / stride).min(outputs - 1);
    if at < first { first - at } else { at.saturating_sub(last) }
}

/// How far `value` at `(y, x)` of the first channel affects outputs of its image and group, on the worse
/// axis. Checks that it affects no other image or group, and all outputs that depend on it.
fn spoilt(
    problem: &ConvProblem,
    plan: &ConvPlan,
    data: &mut Data,
    (y, x): (usize, usize),
    value: f32,
) -> usize {
    let (output, kernel, stride) = (plan.desc().output(), problem.kernel.h, problem.stride.h);
    let pixel = y * problem.input.w + x;
    let before = std::mem::replace(&mut data.input[pixel], value);
    let got = problem.run(plan, data, Threads::Seq).expect("a valid run");
    data.input[pixel] = before;
    let (mut most, plane) = (0, output.h * output.w);
    for (at, result) in got.iter().enumerate() {
        let rows = distance(at / output.w % output.h, y, kernel, stride, output.h);
        let far = rows.max(distance(at % output.w, x, kernel, stride, output.w));
        let depends = at / plane < output.c / 2 && far == 0;
        assert!(!depends || !result.is_finite(), "{value} is lost: {} of {problem:?}", plan.algorithm());
        if !result.is_finite() {
            let own = at / plane < output.c / 2;
            assert!(own, "{value} reaches another image or group: {} of {problem:?}", plan.algorithm());
            most = most.max(far);
        }
    }
    most
}

/// The reach of `algorithm`; `None` if it does not support the window. The axes are independent, so it
/// suffices that the pixel takes every position in a tile of `period` outputs on one axis.
fn reach(algorithm: Algorithm, window: (usize, usize), outputs: usize, period: usize) -> Option<usize> {
    let mut reach = None;
    let problems = [(Layout::Nchw, (1, 1)), (Layout::Nhwc, (3, 2)), (Layout::Nchw16c, (16, 16))];
    for problem in problems.map(|(layout, per_group)| problem(layout, per_group, window, outputs)) {
        // The reference is the same for all layouts, and slow.
        let slow = algorithm == Algorithm::Reference && problem.layout != Layout::Nchw;
        if slow || algorithm.supports(&problem.desc().expect("a valid problem")).is_err() {
            continue;
        }
        let mut data = problem.data();
        for isa in Isa::available() {
            let options = PlanOptions::default().force(algorithm).isa(isa);
            let plan = problem.plan(&data, &options).expect("a plan");
            let (middle, period) = (outputs / 3 * window.1, period * window.1);
            for step in 0..period.div_ceil(2) {
                let at = (middle + step, middle + period / 2 + step);
                let value = if (step / window.1).is_multiple_of(2) { f32::NAN } else { f32::INFINITY };
                reach = reach.max(Some(spoilt(&problem, &plan, &mut data, at, value)));
            }
        }
    }
    reach
}

#[test]
fn the_page_says_how_far_a_nan_reaches() {
    let name = |(kernel, stride): (usize, usize)| match stride {
        1 => format!(" {kernel}x{kernel} |"),
        _ => format!(" {kernel}x{kernel}, stride {stride} |"),
    };
    let mut table = format!("| algorithm |{}\n", WINDOWS.map(name).concat());
    table += &format!("|---|{}\n", "---|".repeat(WINDOWS.len()));
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| *algorithm != Algorithm::Fft) {
        let cell =
            |window| reach(algorithm, window, OUTPUTS, PERIOD).map_or(" |".into(), |far| format!(" {far} |"));
        table += &format!("| {algorithm} |{}\n", WINDOWS.map(cell).concat());
    }
    assert!(
        PAGE.contains(&table),
        "docs/numerics.md has another table than this, which was measured:\n{table}"
    );
}

/// Images of more than one tile, for the longest transform and a shorter one.
#[test]
fn fourier_transforms_spoil_no_more_than_a_tile() {
    let claim = format!("fewer than {LONGEST} outputs away");
    assert!(PAGE.contains(&claim), "docs/numerics.md does not say: {claim}");
    for window in [(3, 1), (13, 1), (33, 1)] {
        let far = reach(Algorithm::Fft, window, 260, 3).expect("it can do that");
        println!("{window:?}: {far}");
        assert!((1..LONGEST).contains(&far), "{window:?}: {far} outputs away");
    }
}

/// With few outputs per group, lanes are input channels, and a block has channels of two groups. An infinity in any
/// channel reaches all outputs of its group that depend on it, and no output of another group.
#[test]
fn few_outputs_keep_an_infinity_in_its_group() {
    let (groups, outs, side) = (3, 2, 5);
    for (layout, ins) in
        [Layout::Nhwc, Layout::Nchw16c].into_iter().flat_map(|l| [10, 21, 24, 39].map(|i| (l, i)))
    {
        let problem = ConvProblem {
            input: Shape4::new(1, groups * ins, side, side),
            out_channels: groups * outs,
            groups,
            kernel: Size2::square(side),
            pad: Pad2::all(2),
            layout,
            ..ConvProblem::simple()
        };
        let data = problem.data();
        for isa in common::isas_of_f32() {
            let options = PlanOptions::default().force(Algorithm::Direct).isa(isa);
            let plan = problem.plan(&data, &options).expect("a plan");
            assert!(plan.explain().kernel.starts_with("few_"), "{}", plan.explain().kernel);
            for channel in 0..groups * ins {
                let mut data = problem.data();
                // The pixel in the middle is in every window.
                data.input[(channel * side + side / 2) * side + side / 2] = f32::INFINITY;
                let got = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
                for (at, result) in got.iter().enumerate() {
                    let own = at / (side * side) / outs == channel / ins;
                    assert_eq!(
                        own,
                        !result.is_finite(),
                        "channel {channel}, output {at} of {problem:?} on {isa}"
                    );
                }
            }
        }
    }
}
