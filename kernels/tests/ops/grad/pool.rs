//! Gradients of pooling, against a scatter in `f64`.

use super::{check_difference, write_and_add};
use crate::cases::{config, error_of};
use crate::pool::{KINDS, problems};
use crate::{Noise, Tensor, UNIT, indices};
use kernels::{ConvError, Layout, Ops, Pad2, PoolDesc, PoolKind, Shape4, Size2, Threads};
use proptest::prelude::*;

/// The taps of a window inside the input, in row-major order, and the divisor of an average.
fn window(desc: &PoolDesc, oy: usize, ox: usize) -> (Vec<(usize, usize)>, f64) {
    let (size, pad, shape) = (desc.window(), desc.pad(), desc.input());
    let (mut real, mut padded) = (Vec::new(), 0);
    for i in 0..size.h {
        for j in 0..size.w {
            let y = (oy * desc.stride().h + i * desc.dilation().h) as isize - pad.top as isize;
            let x = (ox * desc.stride().w + j * desc.dilation().w) as isize - pad.left as isize;
            padded += usize::from(y < (shape.h + pad.bottom) as isize && x < (shape.w + pad.right) as isize);
            if (0..shape.h as isize).contains(&y) && (0..shape.w as isize).contains(&x) {
                real.push((y as usize, x as usize));
            }
        }
    }
    let counts_padding = desc.kind() == (PoolKind::Average { count_include_pad: true });
    let divisor = if counts_padding { padded } else { real.len() };
    (real, divisor as f64)
}

/// The sum of the parts that an input element gets, the sum of their magnitudes, and their number.
type Parts = Vec<(f64, f64, f64)>;

fn index(shape: Shape4, (n, c, y, x): (usize, usize, usize, usize)) -> usize {
    ((n * shape.c + c) * shape.h + y) * shape.w + x
}

fn scatter(desc: &PoolDesc, input: &Tensor, gradient: &Tensor) -> Parts {
    let shape = desc.input();
    let mut parts = vec![(0.0, 0.0, 0.0); shape.n * shape.c * shape.h * shape.w];
    let mut give = |at, part: f64| {
        let (sum, magnitude, count) = &mut parts[index(shape, at)];
        *sum += part;
        *magnitude += part.abs();
        *count += 1.0;
    };
    for (n, c, oy, ox) in indices(desc.output()) {
        let g = f64::from(gradient.get(n, c, oy, ox));
        let (taps, divisor) = window(desc, oy, ox);
        if desc.kind() != PoolKind::Max {
            taps.iter().for_each(|(y, x)| give((n, c, *y, *x), g / divisor));
            continue;
        }
        // The first of the largest elements. A NaN is the largest.
        let mut best = 0;
        for i in 1..taps.len() {
            let [x, most] = [taps[i], taps[best]].map(|(y, x)| input.get(n, c, y, x));
            if x > most || (x.is_nan() && !most.is_nan()) {
                best = i;
            }
        }
        give((n, c, taps[best].0, taps[best].1), g);
    }
    parts
}

fn run_all(desc: &PoolDesc, input: &Tensor, gap: usize) {
    let mut noise = Noise::new(31);
    let gradient = Tensor::from_fn(desc.output(), desc.layout(), gap, |_| noise.next());
    let value = (desc.kind() == PoolKind::Max).then_some(input.view());
    let found = write_and_add(desc.input(), desc.layout(), gap, |ops, dx, threads| {
        ops.pool_gradient(desc, value, gradient.view(), dx, threads)
    });
    let parts = scatter(desc, input, &gradient);
    for found in found {
        let want = |[n, c, y, x]: [usize; 4]| {
            let (sum, magnitude, count) = parts[index(desc.input(), (n, c, y, x))];
            // One rounding per part, also of the gradient that was there, and four for the scale.
            let before = found.before.as_ref().map_or(0.0, |before| f64::from(before.get(n, c, y, x)).abs());
            let scale = if desc.kind() == PoolKind::Max { 0.0 } else { 4.0 * magnitude };
            (sum, UNIT * (scale + count * (magnitude + before)))
        };
        found.check(want, &format!("{desc} {:?} dilation {}", desc.kind(), desc.dilation()));
    }
}

/// Few different values, so that most windows have several largest elements.
fn input_with_ties(desc: &PoolDesc, gap: usize, seed: u64) -> Tensor {
    let mut noise = Noise::new(seed);
    Tensor::from_fn(desc.input(), desc.layout(), gap, |_| (noise.bits() % 4) as f32)
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn random_pools_agree(
        desc in problems().prop_filter_map("empty", |desc| desc),
        gaps in prop_oneof![Just((0, 0)), (0usize..20, 0usize..20)],
        seed in any::<u64>(),
    ) {
        run_all(&desc, &input_with_ties(&desc, gaps.0, seed), gaps.1);
    }
}

/// Large enough to be split among threads, and rows of more than one strip.
#[test]
fn large_pools_agree() {
    let windows = [(3, 1, 1), (3, 2, 1), (2, 2, 0), (5, 3, 2), (6, 1, 0)];
    for layout in Layout::ALL {
        for kind in KINDS {
            for (window, stride, pad) in windows {
                let desc = PoolDesc::builder(Shape4::new(1, 18, 31, 150), Size2::square(window), kind)
                    .stride(Size2::square(stride))
                    .pad(Pad2::all(pad))
                    .ceil_mode(true)
                    .layout(layout)
                    .build()
                    .unwrap();
                run_all(&desc, &input_with_ties(&desc, 0, 1), 0);
            }
        }
    }
}

#[test]
fn global_pools_agree() {
    for layout in Layout::ALL {
        for kind in KINDS {
            for shape in [(1, 300, 7, 7), (2, 130, 4, 5), (3, 5, 60, 61), (1, 64, 1, 1)] {
                let shape = Shape4::new(shape.0, shape.1, shape.2, shape.3);
                let desc = PoolDesc::global(shape, kind, layout).unwrap();
                run_all(&desc, &input_with_ties(&desc, 0, 2), 0);
                run_all(&desc, &input_with_ties(&desc, 5, 3), 7);
            }
        }
    }
}

/// Windows of NaN and infinities, also windows of nothing but negative infinity.
#[test]
fn nan_is_the_largest_number() {
    for layout in Layout::ALL {
        for (window, stride, pad) in [(3, 1, 1), (3, 2, 1), (2, 2, 0), (4, 3, 2), (9, 1, 0)] {
            let shape = Shape4::new(1, 19, 9, 37);
            let mut noise = Noise::new(5);
            let input = Tensor::from_fn(shape, layout, 0, |_| match noise.bits() % 40 {
                0 => f32::NAN,
                1 => f32::INFINITY,
                2..36 => f32::NEG_INFINITY,
                _ => noise.next(),
            });
            let desc = PoolDesc::builder(shape, Size2::square(window), PoolKind::Max)
                .stride(Size2::square(stride))
                .pad(Pad2::all(pad))
                .layout(layout)
                .build()
                .unwrap();
            run_all(&desc, &input, 0);
            run_all(&PoolDesc::global(shape, PoolKind::Max, layout).unwrap(), &input, 0);
        }
    }
}

#[test]
fn gradients_are_the_differences_of_the_layer() {
    for layout in Layout::ALL {
        for kind in KINDS {
            let desc = PoolDesc::builder(Shape4::new(1, 3, 9, 11), Size2::square(3), kind)
                .stride(Size2::square(2))
                .pad(Pad2::all(1))
                .layout(layout)
                .build()
                .unwrap();
            // All elements differ by more than two steps.
            let mut noise = Noise::new(32);
            let mut values: Vec<(u64, f32)> = (0..300).map(|i| (noise.bits(), 0.01 * i as f32)).collect();
            values.sort_by_key(|(key, _)| *key);
            let mut values = values.into_iter();
            let input = Tensor::from_fn(desc.input(), layout, 0, |_| values.next().expect("300 values").1);
            let gradient = Tensor::from_fn(desc.output(), layout, 0, |_| noise.next());
            let value = (kind == PoolKind::Max).then_some(input.view());
            let mut dx = Tensor::filled(desc.input(), layout, 0, f32::NAN);
            let ops = Ops::new(None).unwrap();
            ops.pool_gradient(&desc, value, gradient.view(), dx.view_mut(), Threads::Seq).unwrap();
            check_difference(&input, &dx, |at| {
                indices(desc.output())
                    .map(|(n, c, oy, ox)| {
                        let (taps, divisor) = window(&desc, oy, ox);
                        let values = taps.iter().map(|(y, x)| at([n, c, *y, *x]));
                        let pooled = match kind {
                            PoolKind::Max => values.fold(f64::NEG_INFINITY, f64::max),
                            _ => values.sum::<f64>() / divisor,
                        };
                        pooled * f64::from(gradient.get(n, c, oy, ox))
                    })
                    .sum()
            });
        }
    }
}

#[test]
fn wrong_tensors_are_errors() {
    let shape = [1, 3, 8, 8];
    let desc = |kind| {
        let input = Shape4::new(1, 3, 8, 8);
        PoolDesc::builder(input, Size2::square(2), kind).stride(Size2::square(2)).build().unwrap()
    };
    let (max, average) = (desc(PoolKind::Max), desc(PoolKind::Average { count_include_pad: false }));
    let of = |shape: Shape4| Tensor::filled(shape, Layout::Nchw, 0, 0.0);
    let (input, gradient) = (of(max.input()), of(max.output()));
    let error = |desc: &PoolDesc, input: Option<&Tensor>, gradient: &Tensor| {
        error_of(shape, Layout::Nchw, |ops, dx| {
            ops.pool_gradient(desc, input.map(Tensor::view), gradient.view(), dx, Threads::Seq)
        })
    };
    for (desc, input, planned) in [(&max, None, true), (&average, Some(&input), false)] {
        let expected = ConvError::EpilogueMismatch { what: "input of the pooling layer", planned };
        assert_eq!(error(desc, input, &gradient), expected);
    }
    for (input, gradient, expected) in
        [(&gradient, &gradient, "input"), (&input, &input, "gradient of the output")]
    {
        match error(&max, Some(input), gradient) {
            ConvError::ShapeMismatch { what, .. } => assert_eq!(what, expected),
            other => panic!("{other}"),
        }
    }
    let small = error_of([1, 3, 4, 4], Layout::Nchw, |ops, dx| {
        ops.pool_gradient(&max, Some(input.view()), gradient.view(), dx, Threads::Seq)
    });
    assert!(matches!(small, ConvError::ShapeMismatch { what: "gradient of the input", .. }), "{small}");
}
