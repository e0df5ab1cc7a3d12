//! Tensors of some rows: every algorithm computes the same bits on rows of a larger tensor as on a packed copy of them.

#[path = "common/random.rs"]
mod random;

use kernels::{
    Activation, Algorithm, ConvDesc, ConvError, ConvIo, ConvPlan, EpilogueSpec, Layout, Ops, Pad2,
    PlanOptions, Shape4, Size2, TensorMut, TensorRef, Threads, Weights, Workspace,
};
use random::Rng;
use std::ops::Range;

fn noise(rng: &mut Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.unit()).collect()
}

/// A tensor of `shape` with two rows before and three after, filled with `values` in the rows between and `outside`
/// elsewhere.
fn embedded(shape: Shape4, layout: Layout, values: &[f32], outside: f32) -> (Vec<f32>, Shape4) {
    let large = Shape4 { h: shape.h + 5, ..shape };
    let mut data = vec![outside; large.len(layout).unwrap()];
    let packed = TensorRef::packed(values, shape, layout).unwrap();
    let mut whole = TensorMut::packed(&mut data, large, layout).unwrap();
    Ops::new(None).unwrap().copy(packed, whole.rows(rows_of(shape)).unwrap(), Threads::Seq).unwrap();
    (data, large)
}

fn rows_of(shape: Shape4) -> Range<usize> {
    2..2 + shape.h
}

/// Runs `desc` with packed tensors and with rows of larger ones.
fn check(desc: &ConvDesc, algorithm: Algorithm) {
    let mut rng = Rng(5);
    let filter = noise(&mut rng, desc.filter_len());
    let bias = noise(&mut rng, desc.output().c);
    let options = PlanOptions::default().force(algorithm);
    let Ok(plan) = ConvPlan::new(desc, Weights::with_bias(&filter, &bias), &options) else { return };
    let mut workspace = Workspace::for_req(plan.workspace_req()).unwrap();
    let (from, to) = (desc.layout(), desc.output_layout());
    let input = noise(&mut rng, desc.input().len(from).unwrap());
    let residual = noise(&mut rng, desc.output().len(to).unwrap());
    let mut expected = vec![f32::NAN; residual.len()];
    let io = ConvIo::new(
        TensorRef::packed(&input, desc.input(), from).unwrap(),
        TensorMut::packed(&mut expected, desc.output(), to).unwrap(),
    );
    let io = io.residual(TensorRef::packed(&residual, desc.output(), to).unwrap());
    plan.run(io, &mut workspace, Threads::Seq).unwrap();

    let (input, large) = embedded(desc.input(), from, &input, f32::NAN);
    let (residual, large_output) = embedded(desc.output(), to, &residual, f32::NAN);
    let mut output = vec![7.0; residual.len()];
    let mut whole = TensorMut::packed(&mut output, large_output, to).unwrap();
    let io = ConvIo::new(
        TensorRef::packed(&input, large, from).unwrap().rows(rows_of(desc.input())).unwrap(),
        whole.rows(rows_of(desc.output())).unwrap(),
    );
    let rows = TensorRef::packed(&residual, large_output, to).unwrap().rows(rows_of(desc.output())).unwrap();
    plan.run(io.residual(rows), &mut workspace, Threads::Seq).unwrap();
    let (expected, _) = embedded(desc.output(), to, &expected, 7.0);
    let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
    assert!(output.iter().zip(&expected).all(same), "{desc}: {algorithm}");
}

#[test]
fn every_algorithm_reads_and_writes_rows() {
    let epilogue = EpilogueSpec { bias: true, residual: true, activation: Activation::Relu };
    for (channels, groups, kernel, stride) in
        [(24, 1, 3, 1), (24, 1, 1, 1), (24, 24, 3, 1), (32, 8, 3, 2), (3, 1, 5, 1), (24, 1, 1, 2)]
    {
        for (layout, batch) in Layout::ALL.into_iter().flat_map(|layout| [(layout, 1), (layout, 2)]) {
            let input = Shape4::new(batch, channels, 9, 17);
            let desc = ConvDesc::builder(input, 2 * channels, Size2::square(kernel))
                .stride(Size2::square(stride))
                .pad(Pad2::all(kernel / 2))
                .groups(groups)
                .layout(layout)
                .epilogue(epilogue)
                .build()
                .unwrap();
            Algorithm::ALL.into_iter().for_each(|algorithm| check(&desc, algorithm));
        }
    }
}

#[test]
fn rows_that_do_not_exist_are_errors() {
    let (shape, data) = (Shape4::new(1, 2, 3, 4), [0.0; 24]);
    let tensor = TensorRef::packed(&data, shape, Layout::Nchw).unwrap();
    for rows in [1..1, 0..4, 4..5] {
        let error = tensor.rows(rows.clone()).unwrap_err();
        let expected = "at least one of the 3 rows".to_owned();
        assert_eq!(error, ConvError::InvalidField { field: "rows", expected, got: format!("{rows:?}") });
    }
    let rows = tensor.rows(1..3).unwrap();
    assert_eq!((rows.shape(), rows.offset(0, 1, 0, 0)), (Shape4::new(1, 2, 2, 4), 12));
}
