//! Pooling of signals and volumes, and its gradients, agree with the definition in every layout and with every number of
//! threads.

mod common;

use common::persist::config;
use common::spatial::volume::{placed, plain, shape, with_threads};
use common::spatial::{Axes, Extents, junk};
use common::{JUNK, Rng, pools};
use kernels::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

#[derive(Debug, Clone, Copy)]
struct Pooling {
    n: usize,
    c: usize,
    size: Axes,
    window: Axes,
    stride: Axes,
    dilation: Axes,
    before: Axes,
    after: Axes,
    ceil: bool,
    kind: PoolKind,
    layout: VolumeLayout,
    add: bool,
    seed: u64,
}

/// The elements of a window along one axis: those inside, and the number that counts with padding.
struct Reach {
    inside: Vec<usize>,
    counted: usize,
}

impl Pooling {
    fn extents(&self) -> Extents {
        Extents { n: self.n, c: self.c, size: self.size }
    }

    fn desc(&self) -> Result<Pool3dDesc, ConvError> {
        let size = |[d, h, w]: Axes| Size3::new(d, h, w);
        let ([front, top, left], [back, bottom, right]) = (self.before, self.after);
        Pool3dDesc::builder(shape(self.extents()), size(self.window), self.kind)
            .stride(size(self.stride))
            .dilation(size(self.dilation))
            .pad(Pad3 { front, back, top, bottom, left, right })
            .ceil_mode(self.ceil)
            .layout(self.layout)
            .build()
    }

    /// The windows of output `o` along an axis, by the documentation of PyTorch.
    fn reach(&self, axis: usize, o: usize) -> Reach {
        let (size, before) = (self.size[axis] as isize, self.before[axis] as isize);
        let start = (o * self.stride[axis]) as isize - before;
        let places = (0..self.window[axis]).map(|k| start + (k * self.dilation[axis]) as isize);
        let padded = size + self.after[axis] as isize;
        let counted = places.clone().filter(|place| *place < padded).count();
        let inside = places.filter(|place| (0..size).contains(place)).map(|place| place as usize);
        Reach { inside: inside.collect(), counted }
    }

    /// The elements of the window of output `at` in the order of slices, rows and columns, and the divisor of a mean.
    fn window(&self, at: Axes) -> (Vec<Axes>, f64) {
        let [z, y, x] = [0, 1, 2].map(|axis| self.reach(axis, at[axis]));
        let mut places = Vec::new();
        for &z in &z.inside {
            for &y in &y.inside {
                places.extend(x.inside.iter().map(|&x| [z, y, x]));
            }
        }
        let with_padding = z.counted * y.counted * x.counted;
        let count = match self.kind {
            PoolKind::Average { count_include_pad: true } => with_padding,
            _ => places.len(),
        };
        (places, count as f64)
    }

    /// Values with many equal ones, so that the first of them matters.
    fn values(&self, len: usize, seed: u64) -> Vec<f32> {
        let mut rng = Rng(seed);
        (0..len).map(|_| (rng.next() % 7) as f32 - 3.0 + (rng.next() % 2) as f32 * 0.25).collect()
    }

    fn check(&self, pools: &[common::Pool]) -> Result<(), String> {
        let Ok(desc) = self.desc() else { return Ok(()) };
        let extents = self.extents();
        let Shape5 { d, h, w, .. } = desc.output();
        let output = Extents { size: [d, h, w], ..extents };
        let (x, g) =
            (self.values(extents.elements(), self.seed), self.values(output.elements(), self.seed ^ 1));
        let (old, is_max) = (self.values(extents.elements(), self.seed ^ 2), self.kind == PoolKind::Max);
        let mut pooled = Vec::new();
        let mut gradient: Vec<f64> = old.iter().map(|&v| if self.add { f64::from(v) } else { 0.0 }).collect();
        for ((n, c, at), &g) in output.each().zip(&g) {
            let (window, count) = self.window(at);
            let indices: Vec<usize> = window.iter().map(|&place| extents.index(n, c, place)).collect();
            if is_max {
                let first = indices.iter().copied().reduce(|best, i| if x[i] > x[best] { i } else { best });
                let first = first.ok_or("a window of padding only")?;
                pooled.push(f64::from(x[first]));
                gradient[first] += f64::from(g);
            } else {
                pooled.push(indices.iter().map(|&i| f64::from(x[i])).sum::<f64>() / count);
                indices.iter().for_each(|&i| gradient[i] += f64::from(g) / count);
            }
        }
        let (of_x, of_g) = (placed(self.layout, extents, &x), placed(self.layout, output, &g));
        let ops = Ops::new(None).map_err(|error| error.to_string())?;
        let input = VolumeRef::packed(&of_x, desc.input(), self.layout).map_err(|error| error.to_string())?;
        let got = with_threads(pools, |threads| {
            let mut y = vec![JUNK; of_g.len()];
            let result = VolumeMut::packed(&mut y, desc.output(), self.layout)?;
            ops.pool3d(&desc, input, result, &mut junk(desc.workspace_req()), threads)?;
            Ok(y)
        })?;
        compare("output", &pooled, &plain(self.layout, output, &got, true)?, is_max)?;
        let of_old = placed(self.layout, extents, &old);
        let got = with_threads(pools, |threads| {
            let mut dx = if self.add { of_old.clone() } else { vec![JUNK; of_old.len()] };
            let result = VolumeMut::packed(&mut dx, desc.input(), self.layout)?;
            let result = if self.add { VolumeGradient::Add(result) } else { VolumeGradient::Write(result) };
            let gradient = VolumeRef::packed(&of_g, desc.output(), self.layout)?;
            let operands = (is_max.then_some(input), gradient);
            ops.pool3d_gradient(&desc, operands, result, &mut junk(desc.gradient_workspace_req()), threads)?;
            Ok(dx)
        })?;
        // Of a maximum, all numbers are multiples of a quarter, so that all sums are exact.
        compare("gradient", &gradient, &plain(self.layout, extents, &got, !self.add)?, is_max)
    }
}

/// Compares numbers whose magnitudes are at most four. A mean rounds each of its sums, and so does a gradient.
fn compare(what: &str, expected: &[f64], got: &[f32], exact: bool) -> Result<(), String> {
    assert_eq!(expected.len(), got.len());
    let most_products = 4.0 * 4.0 * 4.0;
    let tolerance = if exact { 0.0 } else { most_products * 4.0 * f64::from(f32::EPSILON) };
    for (at, (&expected, &got)) in expected.iter().zip(got).enumerate() {
        let error = (f64::from(got) - expected).abs();
        if error.is_nan() || error > tolerance * (1.0 + expected.abs()) {
            return Err(format!("{what}: element {at} is {got}, expected {expected}"));
        }
    }
    Ok(())
}

fn axes(of: std::ops::Range<usize>) -> impl Strategy<Value = Axes> {
    (of.clone(), of.clone(), of).prop_map(|(d, h, w)| [d, h, w])
}

fn problems() -> impl Strategy<Value = Pooling> {
    let kinds = [
        PoolKind::Max,
        PoolKind::Average { count_include_pad: true },
        PoolKind::Average { count_include_pad: false },
    ];
    let channels = prop_oneof![1..6usize, 15..20usize, Just(32usize)];
    let windows = (axes(1..5), axes(1..4), axes(1..3), axes(0..3), axes(0..3));
    let rest = (any::<bool>(), 0..3usize, 0..VolumeLayout::ALL.len(), any::<bool>(), any::<u64>());
    (1..3usize, channels, axes(1..9), windows, rest).prop_map(move |(n, c, size, windows, rest)| {
        let (window, stride, dilation, before, after) = windows;
        let (ceil, kind, layout, add, seed) = rest;
        let layout = VolumeLayout::ALL[layout];
        let kind = kinds[kind];
        Pooling { n, c, size, window, stride, dilation, before, after, ceil, kind, layout, add, seed }
    })
}

#[test]
fn any_pooling_of_volumes() {
    let pools = pools();
    let config = ProptestConfig { max_shrink_iters: 300, source_file: Some(file!()), ..config(600) };
    let computed = std::cell::Cell::new(0);
    let outcome = TestRunner::new(config).run(&problems(), |problem| {
        computed.set(computed.get() + usize::from(problem.desc().is_ok()));
        problem.check(&pools).map_err(TestCaseError::fail)
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert!(computed.get() > 50, "only {} problems were valid", computed.get());
}

#[test]
fn global_pooling_is_one_window() {
    for layout in VolumeLayout::ALL {
        let problem = Pooling {
            n: 2,
            c: 20,
            size: [4, 5, 6],
            window: [4, 5, 6],
            stride: [1; 3],
            dilation: [1; 3],
            before: [0; 3],
            after: [0; 3],
            ceil: false,
            kind: PoolKind::Max,
            layout,
            add: false,
            seed: 9,
        };
        let global = Pool3dDesc::global(shape(problem.extents()), PoolKind::Max, layout).unwrap();
        assert_eq!(problem.desc(), Ok(global));
        problem.check(&[]).unwrap();
    }
}

/// A signal is a volume of one slice of one row.
#[test]
fn signals_are_pooled_like_volumes() {
    let desc = Pool1dDesc::builder(Shape3::new(2, 5, 23), 4, PoolKind::Average { count_include_pad: true })
        .stride(3)
        .pad(Pad1 { before: 2, after: 1 })
        .ceil_mode(true)
        .build()
        .unwrap();
    let of_volumes =
        Pool3dDesc::builder(Shape5::new(2, 5, 1, 1, 23), Size3::new(1, 1, 4), desc.as_2d().kind())
            .stride(Size3::new(1, 1, 3))
            .pad(Pad3 { left: 2, right: 1, ..Pad3::VALID })
            .ceil_mode(true)
            .build()
            .unwrap();
    let Shape3 { n, c, w } = desc.output();
    assert_eq!(of_volumes.output(), Shape5::new(n, c, 1, 1, w));
    let x: Vec<f32> = (0..230).map(|i| (i * 37 % 101) as f32).collect();
    let (mut one, mut three) = (vec![JUNK; n * c * w], vec![JUNK; n * c * w]);
    let ops = Ops::new(None).unwrap();
    let input = TensorRef::packed(&x, desc.input().into(), desc.layout()).unwrap();
    let output = TensorMut::packed(&mut one, desc.output().into(), desc.layout()).unwrap();
    ops.pool(desc.as_2d(), input, output, Threads::Seq).unwrap();
    let input = VolumeRef::packed(&x, of_volumes.input(), of_volumes.layout()).unwrap();
    let output = VolumeMut::packed(&mut three, of_volumes.output(), of_volumes.layout()).unwrap();
    ops.pool3d(&of_volumes, input, output, &mut junk(of_volumes.workspace_req()), Threads::Seq).unwrap();
    assert_eq!(one, three);
    assert_eq!(one[0], (x[0] + x[1]) / 4.0);
}

#[test]
fn bad_pooling_is_refused() {
    let builder = Pool3dDesc::builder(Shape5::new(1, 2, 3, 8, 8), Size3::cube(4), PoolKind::Max);
    let flat = ConvError::EmptyDepth { padded_input: 3, dilated_kernel: 4 };
    assert_eq!(builder.build(), Err(flat));
    let builder = Pool3dDesc::builder(Shape5::new(1, 2, 8, 8, 8), Size3::cube(2), PoolKind::Max);
    let message = builder.pad(Pad3 { front: 2, ..Pad3::VALID }).build().unwrap_err().to_string();
    assert!(message.contains("pad.front"), "{message}");
    assert!(matches!(
        builder.stride(Size3::new(0, 1, 1)).build(),
        Err(ConvError::InvalidField { field: "stride.d", .. })
    ));
    let desc = builder.build().unwrap();
    let (x, mut y) = (vec![0.0; 1024], vec![7.0; 686]);
    let ops = Ops::new(None).unwrap();
    let input = VolumeRef::packed(&x, desc.input(), desc.layout()).unwrap();
    let mut scratch = junk(desc.workspace_req());
    let output = VolumeMut::packed(&mut y, desc.output(), desc.layout()).unwrap();
    let (expected, got) = (scratch.len(), scratch.len() - 1);
    let short = ops.pool3d(&desc, input, output, &mut scratch.as_mut_slice()[1..], Threads::Seq);
    assert_eq!(short, Err(ConvError::WorkspaceTooSmall { expected, got }));
    let wrong = VolumeMut::packed(&mut y, Shape5::new(2, 1, 7, 7, 7), desc.layout()).unwrap();
    let wrong = ops.pool3d(&desc, input, wrong, &mut scratch, Threads::Seq);
    assert!(matches!(wrong, Err(ConvError::VolumeMismatch { what: "output", .. })));
    let gradient = VolumeRef::packed(&y, desc.output(), desc.layout()).unwrap();
    let mut dx = vec![7.0; 1024];
    let result = VolumeMut::packed(&mut dx, desc.input(), desc.layout()).unwrap();
    let missing = ops.pool3d_gradient(&desc, (None, gradient), result, &mut scratch, Threads::Seq);
    let what = "input of the pooling layer";
    assert_eq!(missing, Err(ConvError::EpilogueMismatch { what, planned: true }));
    assert!(y.iter().chain(&dx).all(|value| *value == 7.0));
}
