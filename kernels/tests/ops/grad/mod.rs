//! The gradients of the layers, compared with naive loops in `f64` and with finite differences of the layers.

mod activation;
mod batch_norm;
mod linear;
mod loss;
mod lrn;
mod norm;
mod pool;
mod upsample;

use crate::cases::on_every_isa;
use crate::{Noise, Tensor, UNIT, UNWRITTEN, indices};
use kernels::{ConvError, Gradient, Layout, Ops, Shape4, SliceGradient, Threads};

/// Gradients of one run: what a tensor had before, if the gradient was added, and what it has after.
pub(crate) struct Found {
    before: Option<Tensor>,
    after: Tensor,
}

impl Found {
    /// Compares with `(value, bound of its error)` for each element. An added gradient has one more rounding.
    pub(crate) fn check(&self, want: impl Fn([usize; 4]) -> (f64, f64), context: &str) {
        for (n, c, y, x) in indices(self.after.shape) {
            let (value, bound) = want([n, c, y, x]);
            let before = self.before.as_ref().map(|before| f64::from(before.get(n, c, y, x)));
            let got = f64::from(self.after.get(n, c, y, x));
            check_one(got, before, (value, bound), || format!("{context} at {n} {c} {y} {x}"));
        }
    }
}

/// Compares one number. `bound` does not include the addition to what was there `before`.
pub(crate) fn check_one(
    got: f64,
    before: Option<f64>,
    (value, bound): (f64, f64),
    context: impl Fn() -> String,
) {
    let want = value + before.unwrap_or(0.0);
    if want.is_nan() {
        assert!(got.is_nan(), "{}: {want:e}, got {got:e}", context());
        return;
    }
    let bound = bound + if before.is_some() { UNIT * (want.abs() + bound) } else { 0.0 };
    assert!((got - want).abs() <= bound, "{}: {want:e}, got {got:e}, bound {bound:e}", context());
}

/// Runs on every instruction set, and both writes the gradient and adds it to another.
pub(crate) fn write_and_add(
    shape: Shape4,
    layout: Layout,
    gap: usize,
    run: impl Fn(Ops, Gradient<'_>, Threads<'_>) -> Result<(), ConvError>,
) -> Vec<Found> {
    let empty = Tensor::filled(shape, layout, gap, UNWRITTEN);
    let written = on_every_isa(&empty, true, |ops, tensor, threads| run(ops, tensor.into(), threads));
    let mut noise = Noise::new(99);
    let before = Tensor::from_fn(shape, layout, gap, |_| noise.next());
    let added = on_every_isa(&before, false, |ops, tensor, threads| run(ops, Gradient::Add(tensor), threads));
    let written = written.into_iter().map(|after| Found { before: None, after });
    written.chain(added.into_iter().map(|after| Found { before: Some(before.clone()), after })).collect()
}

/// Parameters of a layer with what their gradient had before: unwritten, or noise to add to.
pub(crate) struct Params {
    pub(crate) before: Vec<f32>,
    adds: bool,
}

impl Params {
    pub(crate) fn new(len: usize, adds: bool) -> Self {
        let before = if adds { Noise::new(98).vec(len) } else { vec![UNWRITTEN; len] };
        Self { before, adds }
    }

    pub(crate) fn gradient<'a>(&self, after: &'a mut [f32]) -> SliceGradient<'a> {
        if self.adds { SliceGradient::Add(after) } else { SliceGradient::Write(after) }
    }

    pub(crate) fn check(&self, after: &[f32], want: impl Fn(usize) -> (f64, f64), context: &str) {
        for (i, got) in after.iter().enumerate() {
            let before = self.adds.then(|| f64::from(self.before[i]));
            check_one(f64::from(*got), before, want(i), || format!("{context}, parameter {i}"));
        }
    }
}

/// Checks `gradient` against the difference of `loss` along a random direction, in `f64`.
///
/// The error of a central difference is `h^2 / 6` of the third derivative, which is far below `h` of the gradient's
/// magnitude in every layer here; and `f64` adds `2^-53 / h` of the loss.
pub(crate) fn check_difference(
    at: &Tensor,
    gradient: &Tensor,
    loss: impl Fn(&dyn Fn([usize; 4]) -> f64) -> f64,
) {
    const STEP: f64 = 1.0 / 4096.0;
    let mut noise = Noise::new(97);
    let direction = Tensor::from_fn(at.shape, Layout::Nchw, 0, |_| noise.next());
    let of = |tensor: &Tensor, [n, c, y, x]: [usize; 4]| f64::from(tensor.get(n, c, y, x));
    let moved = |step: f64| loss(&|i| of(at, i) + step * of(&direction, i));
    let (above, below) = (moved(STEP), moved(-STEP));
    let slope = (above - below) / (2.0 * STEP);
    let (mut product, mut magnitude) = (0.0, 0.0);
    for (n, c, y, x) in indices(at.shape) {
        let term = of(gradient, [n, c, y, x]) * of(&direction, [n, c, y, x]);
        product += term;
        magnitude += term.abs();
    }
    let bound = STEP * magnitude + (above.abs() + below.abs()) * f64::EPSILON / STEP;
    assert!((slope - product).abs() <= bound, "slope {slope:e}, gradient {product:e}, bound {bound:e}");
    assert!(magnitude > 0.0, "the gradient is zero");
}
