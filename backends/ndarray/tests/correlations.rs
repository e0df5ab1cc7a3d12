//! Correlations and convolutions against their definition, and against values of SciPy, NumPy and OpenCV.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::*;
use convkernels_ndarray::*;
use ndarray::{Array1, Array2, ArrayView2, array, s};
use proptest::prelude::*;

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Full), Just(Mode::Same), Just(Mode::Valid)]
}

/// The full correlation, cut to the outputs of the mode. Each axis has `(before, outputs)`.
fn definition(
    image: ArrayView2<'_, f32>,
    kernel: ArrayView2<'_, f32>,
    [y, x]: [(usize, usize); 2],
) -> Array2<(f64, f64)> {
    correlated(image, kernel, (y.0, x.0), (y.1, x.1), Border::Zero)
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn two_axes(
        size in (1usize..25, 1usize..25),
        kernel_size in (1usize..25, 1usize..25),
        mode in mode(),
        (flip, seed) in (any::<bool>(), any::<u64>()),
        (from, order) in (order(), order()),
    ) {
        let (image, kernel) = (random(from.base(size), seed), random(order.base(kernel_size), seed ^ 1));
        let (image, kernel) = (from.view(&image, size), order.view(&kernel, kernel_size));
        let got = if flip { convolve2d(image, kernel, mode) } else { correlate2d(image, kernel, mode) };
        let turned = kernel.slice(s![..;-1, ..;-1]);
        let applied = if flip { turned } else { kernel };
        let axis = |n: usize, k: usize| match mode {
            Mode::Full => (k - 1, n + k - 1),
            Mode::Same => (if flip { k / 2 } else { (k - 1) / 2 }, n),
            Mode::Valid => (0, (n + 1).saturating_sub(k)),
        };
        let fits = |a: (usize, usize), b: (usize, usize)| b.0 <= a.0 && b.1 <= a.1;
        if mode == Mode::Valid && !fits(size, kernel_size) {
            prop_assert_eq!(got.is_ok(), fits(kernel_size, size));
            return Ok(());
        }
        let [y, x] = [axis(size.0, kernel_size.0), axis(size.1, kernel_size.1)];
        assert_close(got.unwrap().view(), &definition(image, applied, [y, x]), "two axes");
    }

    #[test]
    fn one_axis(n in 1usize..60, k in 1usize..60, mode in mode(), flip in any::<bool>(), seed in any::<u64>()) {
        let (a, v) = (random((1, n), seed), random((1, k), seed ^ 1));
        let (a_row, v_row) = (a.row(0), v.row(0));
        let got = if flip { convolve1d(a_row, v_row, mode) } else { correlate1d(a_row, v_row, mode) };
        // The full result has every other as a part of it.
        let turned = v.slice(s![.., ..;-1]);
        let applied = if flip { turned } else { v.view() };
        let full = definition(a.view(), applied, [(0, 1), (k - 1, n + k - 1)]);
        let (least, most) = (n.min(k), n.max(k));
        let cut = match mode {
            Mode::Full => 0..n + k - 1,
            // NumPy centres the shorter sequence, and mirrors a correlation whose second one is longer.
            Mode::Same if flip || n < k => (least - 1) / 2..(least - 1) / 2 + most,
            Mode::Same => least - 1 - least / 2..least - 1 - least / 2 + most,
            Mode::Valid => least - 1..most,
        };
        let cut = if !flip && n < k && mode == Mode::Same {
            let end = n + k - 1 - (least - 1 - least / 2);
            end - most..end
        } else {
            cut
        };
        let got = got.unwrap().insert_axis(ndarray::Axis(0));
        assert_close(got.view(), &full.slice(s![.., cut]).to_owned(), "one axis");
    }
}

fn counted(shape: (usize, usize)) -> Array2<f32> {
    Array1::from_iter((1..=shape.0 * shape.1).map(|n| n as f32)).into_shape_with_order(shape).unwrap()
}

/// `scipy.signal.correlate2d` and `convolve2d`, SciPy 1.17.
#[test]
fn values_of_scipy() {
    let (image, even) = (counted((3, 4)), counted((2, 2)));
    let check = |got: Result<Array2<f32>, Error>, expected: Array2<f32>| assert_eq!(got.unwrap(), expected);
    check(
        correlate2d(image.view(), even.view(), Mode::Same),
        array![[44., 54., 64., 28.], [84., 94., 104., 44.], [29., 32., 35., 12.]],
    );
    check(
        convolve2d(image.view(), even.view(), Mode::Same),
        array![[1., 4., 7., 10.], [8., 26., 36., 46.], [24., 66., 76., 86.]],
    );
    check(correlate2d(image.view(), even.view(), Mode::Valid), array![[44., 54., 64.], [84., 94., 104.]]);
    check(convolve2d(image.view(), even.view(), Mode::Valid), array![[26., 36., 46.], [66., 76., 86.]]);
    check(
        correlate2d(image.view(), even.view(), Mode::Full),
        array![
            [4., 11., 18., 25., 12.],
            [22., 44., 54., 64., 28.],
            [46., 84., 94., 104., 44.],
            [18., 29., 32., 35., 12.]
        ],
    );
    // Taller than the image, so that neither fits into the other.
    let tall = array![[1., 0.], [2., -1.], [0.5, 3.], [1., 1.]];
    check(
        correlate2d(image.view(), tall.view(), Mode::Same),
        array![[39.5, 46., 52.5, 24.], [39.5, 45., 50.5, 26.], [13., 15., 17., 32.]],
    );
    let error = correlate2d(image.view(), tall.view(), Mode::Valid).unwrap_err();
    assert_eq!(error, Error::KernelTooLarge { image: (3, 4), kernel: (4, 2) });
}

/// `numpy.correlate` and `numpy.convolve`, NumPy 2.4.
#[test]
fn values_of_numpy() {
    let a = array![1., 2., 3., 4., 5.];
    let check = |got: Result<Array1<f32>, Error>, expected: Array1<f32>| assert_eq!(got.unwrap(), expected);
    let (even, long) = (array![1., 2., 3., 4.], array![1., 2., 3., 4., 5., 6., 7.]);
    check(correlate1d(a.view(), even.view(), Mode::Same), array![11., 20., 30., 40., 26.]);
    check(convolve1d(a.view(), even.view(), Mode::Same), array![4., 10., 20., 30., 34.]);
    check(correlate1d(a.view(), even.view(), Mode::Valid), array![30., 40.]);
    check(convolve1d(a.view(), even.view(), Mode::Full), array![1., 4., 10., 20., 30., 34., 31., 20.]);
    check(correlate1d(a.view(), long.view(), Mode::Same), array![38., 60., 85., 70., 55., 40., 26.]);
    check(convolve1d(a.view(), long.view(), Mode::Same), array![10., 20., 35., 50., 65., 72., 70.]);
    check(correlate1d(a.view(), long.view(), Mode::Valid), array![85., 70., 55.]);
}

/// `cv2.filter2D` of OpenCV 5.0, and `scipy.ndimage.correlate` for the borders that it does not have.
#[test]
fn values_of_opencv() {
    let image = counted((3, 4));
    let kernel = array![[1., 2., 3.], [0., 1., -1.], [2., 0., 1.]];
    let check = |border, expected: Array2<f32>| {
        assert_eq!(filter2d(image.view(), kernel.view(), border).unwrap(), expected, "{border:?}");
    };
    check(Border::Zero, array![[5., 16., 19., 18.], [17., 42., 51., 41.], [27., 37., 43., 35.]]);
    check(Border::Reflect, array![[24., 30., 39., 45.], [36., 42., 51., 57.], [60., 66., 75., 81.]]);
    check(Border::Replicate, array![[24., 30., 39., 45.], [36., 42., 51., 57.], [60., 66., 75., 81.]]);
    check(Border::Reflect101, array![[51., 54., 63., 66.], [39., 42., 51., 54.], [51., 54., 63., 66.]]);
    check(Border::Wrap, array![[81., 78., 87., 84.], [45., 42., 51., 48.], [45., 42., 51., 48.]]);
    check(Border::Constant(10.), array![[85., 76., 79., 78.], [47., 42., 51., 71.], [67., 67., 73., 85.]]);

    let even = filter2d(image.view(), counted((2, 2)).view(), Border::Replicate).unwrap();
    assert_eq!(even, array![[10., 16., 26., 36.], [38., 44., 54., 64.], [78., 84., 94., 104.]]);
    let options = FilterOptions::default().border(Border::Replicate).anchor(2, 0);
    let anchored = Filter2d::new(kernel.view(), &options).unwrap().run(image.view()).unwrap();
    assert_eq!(anchored, array![[18., 27., 33., 36.], [30., 39., 45., 48.], [42., 51., 57., 60.]]);

    // A kernel larger than the image reads it several times.
    let check = |border, expected: Array2<f32>| {
        let got = filter2d(counted((2, 3)).view(), counted((7, 7)).view(), border).unwrap();
        assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 0.01), "{border:?}: {got}");
    };
    check(Border::Reflect101, array![[4725., 4522., 4375.], [4200., 3997., 3850.]]);
    check(Border::Reflect, array![[4452., 4298., 4102.], [3927., 3773., 3577.]]);
    check(Border::Replicate, array![[4634., 4991., 5334.], [5159., 5516., 5859.]]);
    check(Border::Wrap, array![[4382., 4536., 4732.], [3857., 4011., 4207.]]);
    check(Border::Constant(10.), array![[11135., 11174., 11213.], [11408., 11447., 11486.]]);
}
