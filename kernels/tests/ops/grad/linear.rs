//! Gradients of fully connected layers, against sums in `f64`.

use super::Params;
use crate::cases::config;
use crate::{Noise, UNIT, three_threads};
use kernels::{ConvError, Isa, LinearGradient, Threads, Workspace};
use proptest::prelude::*;

struct Problem {
    batch: usize,
    ins: usize,
    outs: usize,
    x: Vec<f32>,
    filter: Vec<f32>,
    g: Vec<f32>,
}

/// The sum of products `a * b`, and the bound of its error: a rounding per product and per addition of blocks.
fn sum(products: impl Iterator<Item = (f32, f32)>) -> (f64, f64) {
    let (mut sum, mut magnitude, mut count) = (0.0, 0.0, 0.0);
    for (a, b) in products {
        let product = f64::from(a) * f64::from(b);
        sum += product;
        magnitude += product.abs();
        count += 1.0;
    }
    (sum, (2.0 * count + 4.0) * UNIT * magnitude)
}

impl Problem {
    fn new(batch: usize, ins: usize, outs: usize) -> Self {
        let mut noise = Noise::new((batch * 31 + ins * 7 + outs) as u64);
        let (x, filter, g) = (noise.vec(batch * ins), noise.vec(outs * ins), noise.vec(batch * outs));
        Self { batch, ins, outs, x, filter, g }
    }

    fn dx(&self, i: usize) -> (f64, f64) {
        let (b, i) = (i / self.ins, i % self.ins);
        sum((0..self.outs).map(|o| (self.g[b * self.outs + o], self.filter[o * self.ins + i])))
    }

    fn dfilter(&self, i: usize) -> (f64, f64) {
        let (o, i) = (i / self.ins, i % self.ins);
        sum((0..self.batch).map(|b| (self.g[b * self.outs + o], self.x[b * self.ins + i])))
    }

    fn dbias(&self, o: usize) -> (f64, f64) {
        sum((0..self.batch).map(|b| (self.g[b * self.outs + o], 1.0)))
    }

    fn check(&self) {
        let pool = three_threads();
        let Self { batch, ins, outs, .. } = *self;
        for isa in Isa::available() {
            let layer = LinearGradient::new(batch, ins, outs, Some(isa)).unwrap();
            for adds in [false, true] {
                let [one, three] = [Threads::Seq, Threads::Pool(&pool)].map(|threads| {
                    let mut workspace = Workspace::for_req(layer.workspace_req(threads.count())).unwrap();
                    workspace.as_mut_slice().fill(f32::NAN);
                    let [mut dx, mut dfilter, mut dbias] =
                        [batch * ins, outs * ins, outs].map(|len| Params::new(len, adds).before);
                    let params = Params::new(0, adds);
                    let to = params.gradient(&mut dx);
                    layer.input(&self.filter, &self.g, to, &mut workspace, threads).unwrap();
                    workspace.as_mut_slice().fill(f32::NAN);
                    let (to, bias) = (params.gradient(&mut dfilter), Some(params.gradient(&mut dbias)));
                    layer.weights(&self.x, &self.g, to, bias, &mut workspace, threads).unwrap();
                    [dx, dfilter, dbias]
                });
                let context = format!("{isa} {batch} x {ins} -> {outs}, adds: {adds}");
                let bits = |of: &[Vec<f32>; 3]| of.concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert!(bits(&one) == bits(&three), "{context}: the bits depend on the threads");
                // An added gradient takes part in the sum, so each addition can round it.
                let k = [outs, batch, batch].map(|k| UNIT * (k as f64 + 2.0) * if adds { 1.0 } else { 0.0 });
                let wider = |(value, bound): (f64, f64), k: f64| (value, bound + k);
                Params::new(one[0].len(), adds).check(&one[0], |i| wider(self.dx(i), k[0]), &context);
                Params::new(one[1].len(), adds).check(&one[1], |i| wider(self.dfilter(i), k[1]), &context);
                Params::new(one[2].len(), adds).check(&one[2], |i| wider(self.dbias(i), k[2]), &context);
            }
        }
    }
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn random_layers_agree(batch in 1usize..40, ins in 1usize..150, outs in 1usize..150) {
        Problem::new(batch, ins, outs).check();
    }
}

/// More than one block of K, more rows than one pass packs, and work for three threads.
#[test]
fn large_layers_agree() {
    for (batch, ins, outs) in [(1, 700, 1100), (2, 300, 530), (600, 70, 90), (70, 333, 1030)] {
        Problem::new(batch, ins, outs).check();
    }
}

/// `<g, W v> = <dx, v>`: the gradient is the slope of the layer, which is linear, along any direction.
#[test]
fn the_gradients_are_the_slopes_of_the_layer() {
    let problem = Problem::new(5, 37, 19);
    let layer = LinearGradient::new(5, 37, 19, None).unwrap();
    let mut workspace = Workspace::for_req(layer.workspace_req(1)).unwrap();
    let (mut dx, mut dfilter) = (vec![f32::NAN; 5 * 37], vec![f32::NAN; 19 * 37]);
    layer.input(&problem.filter, &problem.g, &mut dx[..], &mut workspace, Threads::Seq).unwrap();
    layer.weights(&problem.x, &problem.g, &mut dfilter[..], None, &mut workspace, Threads::Seq).unwrap();
    let mut noise = Noise::new(51);
    let (v, u) = (noise.vec(5 * 37), noise.vec(19 * 37));
    let loss = |x: &[f32], filter: &[f32]| {
        let each = (0..5 * 19).map(|i| {
            let (b, o) = (i / 19, i % 19);
            let y = sum((0..37).map(|i| (x[b * 37 + i], filter[o * 37 + i])));
            (y.0 * f64::from(problem.g[i]), y.1 * f64::from(problem.g[i].abs()))
        });
        each.fold((0.0, 0.0), |(s, b), (value, bound)| (s + value, b + bound))
    };
    for ((slope, bound), gradient, direction) in
        [(loss(&v, &problem.filter), &dx, &v), (loss(&problem.x, &u), &dfilter, &u)]
    {
        let (product, _) = sum(gradient.iter().copied().zip(direction.iter().copied()));
        assert!((product - slope).abs() <= bound, "slope {slope}, gradient {product}");
        assert!(slope.abs() > 100.0 * bound);
    }
}

#[test]
fn wrong_arguments_are_errors() {
    for (sizes, field) in [([0, 1, 1], "batch"), ([1, 0, 1], "in_features"), ([1, 1, 0], "out_features")] {
        match LinearGradient::new(sizes[0], sizes[1], sizes[2], None).unwrap_err() {
            ConvError::InvalidField { field: got, .. } => assert_eq!(got, field),
            other => panic!("{other}"),
        }
    }
    let huge = LinearGradient::new(1, usize::MAX / 8, 64, None).unwrap_err();
    assert!(matches!(huge, ConvError::SizeOverflow { .. }), "{huge}");
    let layer = LinearGradient::new(2, 3, 5, None).unwrap();
    let data = [0.0; 64];
    let req = layer.workspace_req(1).len();
    let input = |filter: usize, g: usize, dx: usize, scratch: usize| {
        let (mut dx, mut scratch) = (vec![-1.0; dx], vec![0.0; scratch]);
        let error = layer.input(&data[..filter], &data[..g], &mut dx[..], &mut scratch, Threads::Seq);
        assert!(dx.iter().all(|x| *x == -1.0));
        error.unwrap_err()
    };
    let len = |what, expected, got| ConvError::BufferLen { what, expected, got };
    assert_eq!(input(14, 10, 6, req), len("filter", 15, 14));
    assert_eq!(input(15, 11, 6, req), len("gradient of the output", 10, 11));
    assert_eq!(input(15, 10, 7, req), len("gradient of the input", 6, 7));
    assert!(matches!(input(15, 10, 6, 0), ConvError::WorkspaceTooSmall { got: 0, .. }));
    let weights = |x: usize, dfilter: usize, dbias: usize| {
        let (mut dfilter, mut dbias, mut scratch) = (vec![-1.0; dfilter], vec![-1.0; dbias], vec![0.0; req]);
        let bias = Some(kernels::SliceGradient::Write(&mut dbias));
        let error =
            layer.weights(&data[..x], &data[..10], &mut dfilter[..], bias, &mut scratch, Threads::Seq);
        assert!(dfilter.iter().chain(&dbias).all(|x| *x == -1.0));
        error.unwrap_err()
    };
    assert_eq!(weights(5, 15, 5), len("input", 6, 5));
    assert_eq!(weights(6, 16, 5), len("gradient of the filter", 15, 16));
    assert_eq!(weights(6, 15, 6), len("gradient of the bias", 5, 6));
}
