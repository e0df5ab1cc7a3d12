//! Operators have the same bits for every number of threads.

use super::TensorKernel;
use crate::layer::{Binary, Blend, Operand, Reduction, SoftKind, TensorLayer, TensorOp, Unary};
use crate::shape::{Shape, TensorShape};
use kernels::{Executor, Threads};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that count the parts they compute.
struct Counting(usize, AtomicUsize);

impl Executor for Counting {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) {
        self.1.fetch_add(parts, Ordering::Relaxed);
        std::thread::scope(|scope| (0..parts).for_each(|number| drop(scope.spawn(move || part(number)))));
    }
}

/// Operators with the extents of their operands.
fn cases() -> Vec<(TensorOp, Vec<Vec<usize>>)> {
    let rows: Arc<[Vec<(usize, f32)>]> = (0..100).map(|row| vec![(row / 2, 0.25), (row / 3, 0.75)]).collect();
    let reduce = |kind, axes: [bool; 3]| TensorOp::Reduce { kind, axes: axes.to_vec(), keep: true };
    let normalize = |axes: [bool; 3]| TensorOp::Normalize { axes: axes.to_vec(), eps: 1e-5, center: true };
    let large = vec![7, 90, 101];
    vec![
        (TensorOp::Map(Unary::Gelu), vec![large.clone()]),
        (TensorOp::Zip(Binary::Mul), vec![vec![9, 190, 101]; 2]),
        (TensorOp::Zip(Binary::Sub), vec![vec![9, 500, 101], vec![101]]),
        (TensorOp::Zip(Binary::Add), vec![vec![500, 1, 40], vec![1, 30, 1]]),
        (TensorOp::Zip(Binary::Pow), vec![vec![500, 300], vec![]]),
        (TensorOp::MatMul, vec![vec![5, 1, 37, 60], vec![3, 60, 41]]),
        (TensorOp::MatMul, vec![vec![701, 300], vec![300, 1]]),
        (TensorOp::Softmax { kind: SoftKind::Soft, first: 2, end: 3 }, vec![large.clone()]),
        (TensorOp::Softmax { kind: SoftKind::Log, first: 1, end: 2 }, vec![large.clone()]),
        (reduce(Reduction::Mean, [false, false, true]), vec![large.clone()]),
        (reduce(Reduction::LogSumExp, [false, true, false]), vec![large.clone()]),
        (normalize([false, false, true]), vec![large.clone()]),
        (normalize([false, true, false]), vec![large.clone()]),
        (TensorOp::Blend(Blend { axis: 1, outputs: rows, fill: 0.0 }), vec![large]),
    ]
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    let mut shared = 0;
    for (op, operands) in cases() {
        let output = op.output(&operands).unwrap();
        let shape = |dims: &[usize]| Shape::Tensor(TensorShape::new(dims).unwrap());
        let inputs: Vec<Shape> = operands.iter().map(|dims| shape(dims)).collect();
        let list = (0..operands.len()).map(Operand::Input).collect();
        let layer = TensorLayer { op, operands: list, params: Vec::new(), output: shape(&output) };
        let kernel = TensorKernel::new(&layer, &inputs, 1, Vec::new()).unwrap();
        let x: Vec<Vec<f32>> = operands.iter().enumerate().map(|(seed, dims)| noise(seed, dims)).collect();
        let run = |threads: Threads<'_>| {
            let mut to = vec![f32::NAN; output.iter().product()];
            kernel.run(&|index| &x[index], &mut [], &mut to, threads).unwrap();
            to.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        };
        let one = run(Threads::Seq);
        for threads in [2, 3, 8] {
            let executor = Counting(threads, AtomicUsize::new(0));
            assert!(run(Threads::Executor(&executor)) == one, "{:?} with {threads} threads", layer.op);
            shared += usize::from(executor.1.into_inner() > 1);
        }
    }
    // All but the normalisation of an inner axis.
    assert_eq!(shared, 3 * (cases().len() - 1), "operators that several threads computed");
}

fn noise(seed: usize, dims: &[usize]) -> Vec<f32> {
    let len = dims.iter().product();
    (0..len).map(|i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 500.0 + 0.1).collect()
}
