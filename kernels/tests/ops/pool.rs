//! Pooling of random shapes, against the definition.

use crate::cases::config;
use crate::{Noise, Tensor, UNIT, UNWRITTEN, indices, three_threads};
use kernels::{Isa, Layout, Ops, Pad2, PoolDesc, PoolKind, Shape4, Size2, Threads};
use proptest::prelude::*;

/// The elements of one window inside the input, and the divisor of an average, by PyTorch's definition.
fn window(desc: &PoolDesc, input: &Tensor, at: (usize, usize, usize, usize)) -> (Vec<f64>, f64) {
    let (n, c, oy, ox) = at;
    let (size, pad, shape) = (desc.window(), desc.pad(), desc.input());
    let (mut real, mut padded) = (Vec::new(), 0);
    for i in 0..size.h {
        for j in 0..size.w {
            let y = (oy * desc.stride().h + i * desc.dilation().h) as isize - pad.top as isize;
            let x = (ox * desc.stride().w + j * desc.dilation().w) as isize - pad.left as isize;
            let (bottom, right) = ((shape.h + pad.bottom) as isize, (shape.w + pad.right) as isize);
            padded += usize::from(y < bottom && x < right);
            if (0..shape.h as isize).contains(&y) && (0..shape.w as isize).contains(&x) {
                real.push(f64::from(input.get(n, c, y as usize, x as usize)));
            }
        }
    }
    let count =
        if desc.kind() == (PoolKind::Average { count_include_pad: true }) { padded } else { real.len() };
    (real, count as f64)
}

fn check(desc: &PoolDesc, input: &Tensor, output: &Tensor) {
    for at in indices(desc.output()) {
        let (real, divisor) = window(desc, input, at);
        let got = f64::from(output.get(at.0, at.1, at.2, at.3));
        assert!(!real.is_empty(), "{desc}: the window of {at:?} is all padding");
        if desc.kind() == PoolKind::Max {
            let nan = real.iter().any(|x| x.is_nan());
            let most = if nan { f64::NAN } else { real.iter().copied().fold(f64::NEG_INFINITY, f64::max) };
            assert!(got == most || (got.is_nan() && most.is_nan()), "{desc} at {at:?}: {most}, got {got}");
        } else {
            let sum: f64 = real.iter().sum();
            let magnitude: f64 = real.iter().map(|x| x.abs()).sum();
            // One rounding per addition, and four for the scale.
            let bound = (real.len() as f64 + 4.0) * UNIT * magnitude / divisor;
            let want = sum / divisor;
            assert!((got - want).abs() <= bound, "{desc} at {at:?}: {want}, got {got}, bound {bound:e}");
        }
    }
}

/// Runs `desc` on every instruction set with one thread and with three, and compares.
fn run_all(desc: &PoolDesc, input: &Tensor, gap: usize) {
    let pool = three_threads();
    for isa in Isa::available() {
        let ops = Ops::new(Some(isa)).unwrap();
        let mut results = [Threads::Seq, Threads::Pool(&pool)].map(|threads| {
            let mut output = Tensor::filled(desc.output(), desc.layout(), gap, UNWRITTEN);
            ops.pool(desc, input.view(), output.view_mut(), threads).unwrap();
            output
        });
        check(desc, input, &results[0]);
        results[0].assert_rest(UNWRITTEN, true);
        assert!(results[0].bits() == results[1].bits(), "{isa} {desc}: the bits depend on the threads");
        results[0].data.clear();
    }
}

fn input_of(desc: &PoolDesc, gap: usize, seed: u64) -> Tensor {
    let mut noise = Noise::new(seed);
    Tensor::from_fn(desc.input(), desc.layout(), gap, |_| noise.next())
}

prop_compose! {
    /// Sizes around all edges: vectors of 4, 8 and 16 lanes, blocks of 16 channels, and the wide kernel's 64
    /// channels.
    pub(crate) fn problems()(
        n in 1usize..3,
        c in prop::sample::select(vec![1usize, 2, 4, 15, 16, 17, 33, 63, 64, 65, 80]),
        size in (1usize..20, 1usize..40),
        window in prop_oneof![Just((3, 3)), Just((2, 2)), Just((7, 7)), (1usize..6, 1usize..6)],
        stride in prop_oneof![Just((1, 1)), Just((2, 2)), (1usize..4, 1usize..6)],
        dilation in prop_oneof![3 => Just((1, 1)), 1 => (1usize..3, 1usize..4)],
        pads in (0usize..4, 0usize..4, 0usize..4, 0usize..4),
        ceil in any::<bool>(),
        kind in prop::sample::select(vec![
            PoolKind::Max,
            PoolKind::Average { count_include_pad: true },
            PoolKind::Average { count_include_pad: false },
        ]),
        layout in prop::sample::select(Layout::ALL.to_vec()),
    ) -> Option<PoolDesc> {
        let dilation = (dilation.0.min(size.0), dilation.1.min(size.1));
        let extent = ((window.0 - 1) * dilation.0 + 1, (window.1 - 1) * dilation.1 + 1);
        let (top, bottom, left, right) = pads;
        let pad = Pad2 {
            top: top % extent.0, bottom: bottom % extent.0, left: left % extent.1, right: right % extent.1,
        };
        let desc = PoolDesc::builder(Shape4::new(n, c, size.0, size.1), Size2::new(window.0, window.1), kind)
            .stride(Size2::new(stride.0, stride.1))
            .dilation(Size2::new(dilation.0, dilation.1))
            .pad(pad).ceil_mode(ceil).layout(layout).build();
        match desc {
            Ok(desc) => Some(desc),
            Err(kernels::ConvError::EmptyOutput { .. }) => None,
            Err(other) => panic!("{other}"),
        }
    }
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn random_pools_agree(
        desc in problems().prop_filter_map("empty", |desc| desc),
        gaps in prop_oneof![Just((0, 0)), (0usize..20, 0usize..20)],
        seed in any::<u64>(),
    ) {
        run_all(&desc, &input_of(&desc, gaps.0, seed), gaps.1);
    }
}

pub(crate) const KINDS: [PoolKind; 3] = [
    PoolKind::Max,
    PoolKind::Average { count_include_pad: true },
    PoolKind::Average { count_include_pad: false },
];

/// Large enough to be split among threads: more than 100,000 element operations per thread.
#[test]
fn bits_do_not_depend_on_threads() {
    let windows = [(3, 1, 1), (3, 2, 1), (2, 2, 0), (5, 3, 2)];
    for layout in Layout::ALL {
        for kind in KINDS {
            for (window, stride, pad) in windows {
                let desc = PoolDesc::builder(Shape4::new(1, 50, 61, 67), Size2::square(window), kind)
                    .stride(Size2::square(stride))
                    .pad(Pad2::all(pad))
                    .ceil_mode(true)
                    .layout(layout)
                    .build()
                    .unwrap();
                run_all(&desc, &input_of(&desc, 0, 1), 0);
            }
        }
    }
}

#[test]
fn global_pools_agree() {
    for layout in Layout::ALL {
        for kind in KINDS {
            for shape in
                [(1, 1000, 7, 7), (2, 130, 13, 17), (3, 5, 112, 112), (1, 64, 1, 1), (1, 200, 64, 64)]
            {
                let shape = Shape4::new(shape.0, shape.1, shape.2, shape.3);
                let desc = PoolDesc::global(shape, kind, layout).unwrap();
                assert_eq!(desc.output(), Shape4::new(shape.n, shape.c, 1, 1));
                run_all(&desc, &input_of(&desc, 0, 2), 0);
                run_all(&desc, &input_of(&desc, 5, 3), 7);
            }
        }
    }
}

/// The mean of a million elements of equal sign. Summed one after another, its error would be about 1e-3.
#[test]
fn global_average_of_large_maps_is_accurate() {
    let mut noise = Noise::new(7);
    for layout in Layout::ALL {
        let shape = Shape4::new(1, 3, 1024, 1024);
        let input = Tensor::from_fn(shape, layout, 0, |_| noise.next() + 2.0);
        let desc = PoolDesc::global(shape, PoolKind::Average { count_include_pad: false }, layout).unwrap();
        for isa in Isa::available() {
            let mut output = Tensor::filled(desc.output(), layout, 0, UNWRITTEN);
            Ops::new(Some(isa)).unwrap().pool(&desc, input.view(), output.view_mut(), Threads::Seq).unwrap();
            for c in 0..3 {
                let sum: f64 = (0..1 << 20).map(|p| f64::from(input.get(0, c, p >> 10, p & 1023))).sum();
                let want = sum / f64::from(1 << 20);
                let error = (f64::from(output.get(0, c, 0, 0)) - want).abs() / want;
                // About 1000 blocks of about 1000 elements: the error of a random walk is 45 roundings.
                assert!(error < 45.0 * UNIT, "{isa} {layout}: {error:e}");
            }
        }
    }
}

/// Windows wider than the strip buffer of the NCHW kernel, and strips that end inside a row.
#[test]
fn wide_rows_agree() {
    let wide = |window: Size2, stride, dilation, width| {
        PoolDesc::builder(Shape4::new(1, 2, 3, width), window, PoolKind::Max)
            .stride(Size2::new(1, stride))
            .dilation(Size2::new(1, dilation))
            .build()
            .unwrap()
    };
    let descs = [
        wide(Size2::new(2, 3), 1, 1, 2500),
        wide(Size2::new(2, 3), 2, 1, 5001),
        wide(Size2::new(3, 3), 2, 120, 4000),
        wide(Size2::new(2, 256), 3, 1, 1500),
        wide(Size2::new(2, 257), 3, 1, 1500),
        wide(Size2::new(2, 3), 7, 600, 2400),
    ];
    for desc in descs {
        for kind in KINDS {
            let desc = PoolDesc::builder(desc.input(), desc.window(), kind)
                .stride(desc.stride())
                .dilation(desc.dilation())
                .pad(Pad2 { top: 1, bottom: 0, left: 1, right: 1 })
                .build()
                .unwrap();
            run_all(&desc, &input_of(&desc, 0, 4), 0);
        }
    }
}

/// For every position of the NaN in a window, and for all values after it.
#[test]
fn max_propagates_nan_and_infinities() {
    for layout in Layout::ALL {
        for (window, stride) in [(3, 1), (3, 2), (2, 2), (4, 3), (9, 1)] {
            let shape = Shape4::new(1, 19, 9, 37.max(window));
            let mut noise = Noise::new(5);
            let input = Tensor::from_fn(shape, layout, 0, |_| match noise.bits() % 40 {
                0 => f32::NAN,
                1 => f32::INFINITY,
                2..20 => f32::NEG_INFINITY,
                _ => noise.next(),
            });
            let desc = PoolDesc::builder(shape, Size2::square(window), PoolKind::Max)
                .stride(Size2::square(stride))
                .layout(layout)
                .build()
                .unwrap();
            run_all(&desc, &input, 0);
            let global = PoolDesc::global(shape, PoolKind::Max, layout).unwrap();
            run_all(&global, &input, 0);
        }
    }
}
