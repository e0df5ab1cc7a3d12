//! Filters against their definition.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::*;
use convkernels_ndarray::*;
use ndarray::{Array2, Array3, Axis, s};
use proptest::prelude::*;

fn kernel(size: (usize, usize), is_separable: bool, seed: u64) -> Array2<f32> {
    if is_separable { separable(size, seed) } else { random(size, seed) }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn any_filter(
        size in (1usize..40, 1usize..40),
        kernel_size in prop_oneof![(1usize..8, 1usize..8), (1usize..50, 1usize..50)],
        (is_separable, seed) in (any::<bool>(), any::<u64>()),
        border in border(),
        (from, to, kernel_order) in (order(), order(), order()),
        anchor in prop::option::of((0usize..50, 0usize..50)),
        two_passes in any::<bool>(),
    ) {
        let image = random(from.base(size), seed);
        let image = from.view(&image, size);
        let kernel = kernel(kernel_order.base(kernel_size), is_separable, seed ^ 1);
        let kernel = kernel_order.view(&kernel, kernel_size);
        let anchor = anchor.map(|(y, x)| (y % kernel_size.0, x % kernel_size.1));
        let mut options = FilterOptions::default().border(border).separable(two_passes);
        options.anchor = anchor;
        let filter = Filter2d::new(kernel, &options).unwrap();

        let to = if to == Order::Broadcast { Order::Standard } else { to };
        let mut base = Array2::from_elem(to.base(size), f32::NAN);
        filter.run_into(image, to.view_mut(&mut base, size)).unwrap();
        let before = anchor.unwrap_or((kernel_size.0 / 2, kernel_size.1 / 2));
        let expected = correlated(image, kernel, before, size, border);
        assert_close(to.view(&base, size), &expected, "run_into");
        let written = base.iter().filter(|value| !value.is_nan()).count();
        prop_assert_eq!(written, size.0 * size.1, "nothing else is written");
        prop_assert_eq!(filter.run(image).unwrap(), to.view(&base, size), "the same bits from a new array");
    }

    #[test]
    fn any_channels(
        (size, channels) in ((1usize..30, 1usize..30), 1usize..6),
        kernel_size in (1usize..12, 1usize..12),
        (is_separable, seed) in (any::<bool>(), any::<u64>()),
        border in border(),
        (reversed, cropped) in (any::<bool>(), any::<bool>()),
    ) {
        let (h, w) = size;
        let kernel = kernel(kernel_size, is_separable, seed ^ 1);
        let filter = Filter2d::new(kernel.view(), &FilterOptions::default().border(border)).unwrap();
        let wide = random((h, (w + 1) * channels), seed).into_shape_with_order((h, w + 1, channels)).unwrap();
        let hwc = if cropped { wide.slice(s![.., 1.., ..]) } else { wide.slice(s![.., ..w, ..]) };
        let hwc = if reversed { hwc.slice_move(s![.., .., ..;-1]) } else { hwc };
        let packed = hwc.as_standard_layout().into_owned();

        let outputs = [
            filter.run_hwc(hwc).unwrap(),
            filter.run_hwc(packed.view()).unwrap(),
            filter.run_chw(hwc.permuted_axes([2, 0, 1])).unwrap().permuted_axes([1, 2, 0]),
        ];
        let mut base = Array3::from_elem((channels, h, w + 2), f32::NAN);
        let into = base.slice_mut(s![.., .., 1..=w]);
        filter.run_chw_into(packed.view().permuted_axes([2, 0, 1]), into).unwrap();
        let mut base_hwc = Array3::from_elem((h, w, channels + 1), f32::NAN);
        filter.run_hwc_into(hwc, base_hwc.slice_mut(s![.., .., 1..])).unwrap();
        for channel in 0..channels {
            let image = hwc.index_axis(Axis(2), channel);
            let before = (kernel_size.0 / 2, kernel_size.1 / 2);
            let expected = correlated(image, kernel.view(), before, size, border);
            for output in &outputs {
                assert_close(output.index_axis(Axis(2), channel), &expected, "a new array");
            }
            assert_close(base.slice(s![channel, .., 1..=w]), &expected, "run_chw_into");
            assert_close(base_hwc.slice(s![.., .., channel + 1]), &expected, "run_hwc_into");
        }
        prop_assert_eq!(base.iter().filter(|value| value.is_nan()).count(), 2 * h * channels);
    }
}

/// Images of several stripes, kernels of every path, every border: also on threads, with the same bits.
#[test]
fn large_images_on_any_threads() {
    // Passes over a row of 416 pixels can run as products of blocks, passes over 411 cannot.
    for (size, order) in
        [((230, 411), Order::Standard), ((200, 416), Order::Standard), ((200, 416), Order::EverySecond)]
    {
        let base = random(order.base(size), 5);
        let image = order.view(&base, size);
        for (kernel, border) in [
            (random((3, 3), 1), Border::Reflect101),
            (random((5, 4), 1), Border::Zero),
            (separable((17, 9), 1), Border::Reflect),
            (separable((9, 31), 1), Border::Constant(0.5)),
            (separable((64, 64), 1), Border::Zero),
            (random((27, 27), 1), Border::Wrap),
            (random((27, 27), 1), Border::Zero),
            (random((1, 33), 1), Border::Replicate),
            (random((33, 1), 1), Border::Wrap),
        ] {
            let options = FilterOptions::default().border(border);
            let alone = Filter2d::new(kernel.view(), &options).unwrap().run(image).unwrap();
            let before = (kernel.nrows() / 2, kernel.ncols() / 2);
            let what = format!("{:?} {border:?} {order:?}", kernel.dim());
            assert_close(alone.view(), &correlated(image, kernel.view(), before, size, border), &what);
            let filter = Filter2d::new(kernel.view(), &options.threads(Threads::Rayon)).unwrap();
            for threads in [1, 2, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let output = pool.install(|| filter.run(image)).unwrap();
                assert_eq!(output, alone, "{what} on {threads} threads");
            }
        }
    }
}

#[test]
fn channels_on_any_threads() {
    let image = random((120, 200 * 3), 7).into_shape_with_order((120, 200, 3)).unwrap();
    for kernel in [random((3, 3), 1), separable((11, 11), 1), random((25, 25), 1)] {
        let options = FilterOptions::default().border(Border::Reflect101);
        let alone = Filter2d::new(kernel.view(), &options).unwrap();
        let threads = Filter2d::new(kernel.view(), &options.threads(Threads::Rayon)).unwrap();
        let chw = image.view().permuted_axes([2, 0, 1]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let (hwc3, chw3) = pool.install(|| (threads.run_hwc(image.view()), threads.run_chw(chw)));
        assert_eq!(hwc3.unwrap(), alone.run_hwc(image.view()).unwrap());
        assert_eq!(chw3.unwrap(), alone.run_chw(chw).unwrap());
        let by_channel = alone.run(image.index_axis(Axis(2), 1)).unwrap();
        assert_close(
            alone.run_hwc(image.view()).unwrap().index_axis(Axis(2), 1),
            &by_channel.mapv(|v| (f64::from(v), 1e-5 * kernel.len() as f64)),
            "one channel alone",
        );
    }
}

/// A kernel that needs transforms of more than 256 numbers: every seventh row and every fifth column of the output
/// against what the library promises, an L2 error of 2e-6 and no output off by more than 5e-6 of the largest.
#[test]
fn a_kernel_of_201_rows_and_columns() {
    let (image, kernel) = (random((300, 280), 1), random((201, 201), 2));
    for border in [Border::Reflect, Border::Zero] {
        let got = filter2d(image.view(), kernel.view(), border).unwrap();
        let expected = correlation(image.view(), kernel.view(), (100, 100), border);
        let (mut squares, mut errors, mut largest, mut worst) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
        for (at, got) in got.indexed_iter().filter(|((y, x), _)| y % 7 == 0 && x % 5 == 0) {
            let value = expected(at).0;
            let error = (f64::from(*got) - value).abs();
            (squares, errors) = (squares + value * value, errors + error * error);
            (largest, worst) = (largest.max(value.abs()), worst.max(error));
        }
        assert!(errors.sqrt() <= 2e-6 * squares.sqrt(), "{border:?}: L2 error {}", (errors / squares).sqrt());
        assert!(worst <= 5e-6 * largest, "{border:?}: {worst} beside {largest}");
    }
}

/// Threads that share a filter do not disturb each other.
#[test]
fn calls_at_the_same_time() {
    let filter = Filter2d::new(separable((9, 9), 3).view(), &FilterOptions::default()).unwrap();
    let images: Vec<_> = (0..8).map(|seed| random((60 + seed, 90), seed as u64)).collect();
    let alone: Vec<_> = images.iter().map(|image| filter.run(image.view()).unwrap()).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (image, alone) in images.iter().zip(&alone) {
                    assert_eq!(filter.run(image.view()).unwrap(), alone);
                }
            });
        }
    });
}

#[test]
fn recognises_separable_kernels_unless_told_not_to() {
    let blur = separable((9, 9), 3);
    let recognised = |kernel: &Array2<f32>, options: FilterOptions| {
        Filter2d::new(kernel.view(), &options).unwrap().is_separable()
    };
    assert!(recognised(&blur, FilterOptions::default()));
    assert!(!recognised(&blur, FilterOptions::default().separable(false)));
    assert!(!recognised(&random((9, 9), 3), FilterOptions::default()));
    assert!(!recognised(&separable((1, 90), 3), FilterOptions::default()), "one pass is enough");
}

#[test]
fn bad_arguments() {
    let image = random((4, 5), 1);
    let kernel = random((3, 3), 2);
    let said = |error: Error| error.to_string();
    let filter = Filter2d::new(kernel.view(), &FilterOptions::default()).unwrap();

    let error = filter2d(image.view(), Array2::zeros((0, 3)).view(), Border::Zero).unwrap_err();
    assert_eq!(said(error), "kernel: expected at least one element on every axis, got shape [0, 3]");
    let error = filter.run(Array2::zeros((4, 0)).view()).unwrap_err();
    assert_eq!(said(error), "image: expected at least one element on every axis, got shape [4, 0]");
    let error = filter.run_hwc(Array3::zeros((4, 5, 0)).view()).unwrap_err();
    assert_eq!(said(error), "image: expected at least one element on every axis, got shape [4, 5, 0]");
    let error = filter.run_chw(Array3::zeros((0, 4, 5)).view()).unwrap_err();
    assert_eq!(said(error), "image: expected at least one element on every axis, got shape [0, 4, 5]");
    let error = filter.run_into(image.view(), Array2::zeros((4, 4)).view_mut()).unwrap_err();
    assert_eq!(said(error), "output: expected shape [4, 5], got [4, 4]");
    let error = Filter2d::new(kernel.view(), &FilterOptions::default().anchor(1, 3)).unwrap_err();
    assert_eq!(said(error), "anchor: expected a row and a column inside of the 3x3 kernel, got (1, 3)");
    let valid = Filter2d::new(random((3, 6), 1).view(), &FilterOptions::default().mode(Mode::Valid)).unwrap();
    let error = valid.run(image.view()).unwrap_err();
    assert_eq!(said(error), "kernel: expected one that fits into the 4x5 image, got 3x6");

    // One number in memory, but more pixels than the address space has bytes.
    let one = Array2::from_elem((1, 1), 1.0f32);
    let endless = one.broadcast((1 << 31, 1 << 31)).unwrap();
    assert!(matches!(filter.run(endless).unwrap_err(), Error::Conv(_)));
    assert!(matches!(filter2d(image.view(), endless, Border::Zero).unwrap_err(), Error::Conv(_)));
}
