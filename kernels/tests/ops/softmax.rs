//! Softmax, against the definition in `f64`.

use crate::cases::config;
use crate::{Noise, Tensor, UNIT, indices, three_threads};
use kernels::{Isa, Layout, Ops, Shape4, Threads};
use proptest::prelude::*;

fn run_all(input: &Tensor) -> Vec<Tensor> {
    let pool = three_threads();
    let mut results = Vec::new();
    for isa in Isa::available() {
        let ops = Ops::new(Some(isa)).unwrap();
        let [one, three] = [Threads::Seq, Threads::Pool(&pool)].map(|threads| {
            let mut tensor = input.clone();
            ops.softmax(tensor.view_mut(), threads).unwrap();
            tensor
        });
        assert!(one.bits() == three.bits(), "{isa}: the bits depend on the threads");
        one.assert_rest(f32::NAN, true);
        results.push(one);
    }
    results
}

/// `exp` is within 4 roundings (tests/ops/activation.rs), and its argument is rounded by `|x - max|` units.
/// The sum adds at most one rounding per term of a lane, the scale two.
fn check(input: &Tensor, output: &Tensor) {
    let Shape4 { n, c, h, w } = input.shape;
    for (n, _, y, x) in indices(Shape4::new(n, 1, h, w)) {
        let values: Vec<f64> = (0..c).map(|c| f64::from(input.get(n, c, y, x))).collect();
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = values.iter().map(|x| (x - max).exp()).sum();
        let mut total = 0.0;
        for (c, value) in values.iter().enumerate() {
            let want = (value - max).exp() / sum;
            let got = f64::from(output.get(n, c, y, x));
            let far = values.iter().map(|x| (x - max).abs()).filter(|d| *d < 100.0).fold(0.0, f64::max);
            let bound = UNIT * (12.0 + 2.0 * far + values.len() as f64 / 16.0 + 16.0) * want + 1.2e-38;
            assert!((got - want).abs() <= bound, "{:?} {c}: {want:e}, got {got:e}", input.shape);
            total += got;
        }
        assert!((total - 1.0).abs() <= UNIT * (8.0 + c as f64), "sums to {total}");
    }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn random_softmaxes_agree(
        n in 1usize..4,
        c in prop::sample::select(vec![1usize, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100, 300]),
        (h, w) in prop_oneof![Just((1usize, 1usize)), (1usize..12, 1usize..40)],
        layout in prop::sample::select(Layout::ALL.to_vec()),
        gap in prop_oneof![Just(0usize), 1usize..20],
        spread in prop::sample::select(vec![0.0f32, 1.0, 30.0, 1e4]),
        seed in any::<u64>(),
    ) {
        let mut noise = Noise::new(seed);
        let input = Tensor::from_fn(Shape4::new(n, c, h, w), layout, gap, |_| spread * noise.next());
        for output in run_all(&input) {
            check(&input, &output);
        }
    }
}

/// Large enough to be split among threads.
#[test]
fn bits_do_not_depend_on_threads() {
    for layout in Layout::ALL {
        for shape in [Shape4::new(1, 37, 41, 43), Shape4::new(50, 1000, 1, 1)] {
            let mut noise = Noise::new(3);
            let input = Tensor::from_fn(shape, layout, 0, |_| 8.0 * noise.next());
            for output in run_all(&input) {
                check(&input, &output);
            }
        }
    }
}

#[test]
fn extremes_are_stable() {
    for layout in Layout::ALL {
        let channels = [1e4, -1e4, 1e4, f32::NEG_INFINITY, f32::MIN];
        let input = Tensor::from_fn(Shape4::new(1, 5, 1, 3), layout, 0, |[_, c, _, _]| channels[c]);
        for output in run_all(&input) {
            for (c, want) in [0.5, 0.0, 0.5, 0.0, 0.0].into_iter().enumerate() {
                assert_eq!(output.get(0, c, 0, 1), want, "{layout}");
            }
        }
    }
}

/// One pixel is NaN; its neighbours must be unaffected.
#[test]
fn nan_stays_in_its_pixel() {
    for layout in Layout::ALL {
        for bad in [f32::NAN, f32::INFINITY] {
            let input = Tensor::from_fn(Shape4::new(1, 20, 1, 20), layout, 0, |[_, c, _, x]| {
                if (c, x) == (11, 6) { bad } else { 0.0 }
            });
            for output in run_all(&input) {
                for (_, c, _, x) in indices(input.shape) {
                    let got = output.get(0, c, 0, x);
                    if x != 6 {
                        assert!((got - 0.05).abs() < 1e-8, "{layout} {got}");
                    } else if bad.is_nan() || c == 11 {
                        assert!(got.is_nan(), "{layout} {got}");
                    }
                }
            }
        }
    }
}
