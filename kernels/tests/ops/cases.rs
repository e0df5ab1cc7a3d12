//! Random tensors, and one run on every instruction set with one thread and with three.

pub(crate) use crate::persist::config;
use crate::{Noise, Tensor, three_threads};
use kernels::{ConvError, Isa, Layout, Ops, Shape4, TensorMut, Threads};
use proptest::prelude::*;
use std::sync::LazyLock;

static POOL: LazyLock<rayon::ThreadPool> = LazyLock::new(three_threads);

/// A shape, its place in memory, and the seed of its data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) shape: Shape4,
    pub(crate) layout: Layout,
    /// Gaps of the input and of the output.
    pub(crate) gaps: [usize; 2],
    pub(crate) seed: u64,
}

impl Case {
    pub(crate) fn packed(shape: [usize; 4], layout: Layout) -> Self {
        let [n, c, h, w] = shape;
        Self { shape: Shape4::new(n, c, h, w), layout, gaps: [0, 0], seed: 1 }
    }

    pub(crate) fn input(&self, scale: f32, shift: f32) -> Tensor {
        let mut noise = Noise::new(self.seed);
        Tensor::from_fn(self.shape, self.layout, self.gaps[0], |_| scale * noise.next() + shift)
    }
}

prop_compose! {
    /// Sizes around all edges: vectors of 4, 8 and 16 lanes, blocks of 16 channels, and single pixels.
    pub(crate) fn cases()(
        n in 1usize..4,
        c in prop::sample::select(vec![1usize, 2, 3, 4, 5, 8, 12, 15, 16, 17, 24, 31, 32, 33, 48, 64, 70]),
        (h, w) in prop_oneof![Just((1usize, 1usize)), (1usize..9, 1usize..25)],
        layout in prop::sample::select(Layout::ALL.to_vec()),
        gaps in prop_oneof![Just([0, 0]), [0usize..20, 0usize..20]],
        seed in any::<u64>(),
    ) -> Case {
        Case { shape: Shape4::new(n, c, h, w), layout, gaps, seed }
    }
}

/// Large enough to be split among three threads, along images, pixels and channels.
pub(crate) fn large_cases() -> impl Iterator<Item = Case> {
    let shapes = [[1, 40, 61, 67], [9, 50, 19, 21], [2, 1040, 9, 9], [300, 600, 1, 1]];
    shapes.into_iter().flat_map(|shape| Layout::ALL.map(|layout| Case::packed(shape, layout)))
}

/// Applies `run` to copies of `before` on every instruction set, and returns the results. Checks that the
/// bits do not depend on the threads, and that nothing outside the tensor is written. Padding lanes must be
/// zero if `fresh`, else unchanged.
pub(crate) fn on_every_isa(
    before: &Tensor,
    fresh: bool,
    run: impl Fn(Ops, TensorMut<'_>, Threads<'_>) -> Result<(), ConvError>,
) -> Vec<Tensor> {
    let of = |isa| {
        let ops = Ops::new(Some(isa)).unwrap();
        let [one, three] = [Threads::Seq, Threads::Pool(&POOL)].map(|threads| {
            let mut tensor = before.clone();
            run(ops, tensor.view_mut(), threads).unwrap();
            tensor
        });
        assert!(one.bits() == three.bits(), "{isa}: the bits depend on the threads");
        one.assert_rest(f32::NAN, fresh);
        one
    };
    Isa::available().map(of).collect()
}

/// The error of a run on a small tensor. Checks that the tensor is unchanged.
pub(crate) fn error_of(
    shape: [usize; 4],
    layout: Layout,
    run: impl Fn(Ops, TensorMut<'_>) -> Result<(), ConvError>,
) -> ConvError {
    let mut tensor = Tensor::filled(Case::packed(shape, layout).shape, layout, 0, -1.0);
    let error = run(Ops::new(None).unwrap(), tensor.view_mut()).unwrap_err();
    assert!(tensor.data.iter().all(|x| *x == -1.0), "the tensor was touched");
    error
}

/// The name of the invalid field.
pub(crate) fn field_of(error: ConvError) -> &'static str {
    match error {
        ConvError::InvalidField { field, .. } => field,
        other => panic!("{other}"),
    }
}
