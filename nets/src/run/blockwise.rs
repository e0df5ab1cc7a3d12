//! Operators on tensors whose maps stay in blocks of 16 channels.
//!
//! If its channels are a multiple of 16, a map in blocks is a row-major tensor of five axes:
//!
//! ```text
//! [batch, channels, rows, columns]  ->  [batch, channels / 16, rows, columns, 16]
//! ```
//!
//! An operator that computes every channel in the same way, or moves whole blocks, is the same operator on that tensor. So
//! nothing is converted to NCHW and back.

use super::layout::BLOCK;
use crate::layer::{Blend, Operand, Param, Pick, TensorLayer, TensorOp};
use crate::shape::{Shape, TensorShape};

/// The operator on blocks with the shapes of its inputs, for a batch size; `None` if it cannot run on blocks.
pub(super) fn blockwise(
    layer: &TensorLayer,
    inputs: &[Shape],
    batch: usize,
) -> Option<(TensorLayer, Vec<Shape>)> {
    let map = |shape: &Shape| match shape {
        Shape::Map { .. } => blocks(&shape.full(batch)?),
        _ => None,
    };
    let dims: Vec<Vec<usize>> = inputs.iter().map(map).collect::<Option<_>>()?;
    let output = map(&layer.output)?;
    let is_zip = matches!(layer.op, TensorOp::Zip(_) | TensorOp::Where);
    let param = |param: &Param| {
        let dims = if is_zip { blocks_of_constant(&param.dims)? } else { return None };
        Some(Param { dims, ..param.clone() })
    };
    let params = layer.params.iter().map(param).collect::<Option<Vec<Param>>>()?;
    let shape = |dims: &[usize]| TensorShape::new(dims).map(Shape::Tensor);
    let layer = TensorLayer {
        op: operator(&layer.op)?,
        operands: layer.operands.clone(),
        params,
        output: shape(&output)?,
    };
    let reads = layer.operands.iter().any(|operand| matches!(operand, Operand::Input(_)));
    let inputs = dims.iter().map(|dims| shape(dims)).collect::<Option<Vec<Shape>>>()?;
    reads.then_some((layer, inputs))
}

/// The extents in blocks; `None` if a block would not be full.
fn blocks(dims: &[usize]) -> Option<Vec<usize>> {
    match *dims {
        [n, c, h, w] if c.is_multiple_of(BLOCK) => Some(vec![n, c / BLOCK, h, w, BLOCK]),
        _ => None,
    }
}

/// The extents of a constant that is broadcast to maps, in the order of its elements: one for each channel, or the same for all.
fn blocks_of_constant(dims: &[usize]) -> Option<Vec<usize>> {
    let mut all = [1; 4];
    all[4usize.checked_sub(dims.len())?..].copy_from_slice(dims);
    match all {
        [n, 1, h, w] => Some(vec![n, 1, h, w, 1]),
        [n, c, 1, 1] if c.is_multiple_of(BLOCK) => Some(vec![n, c / BLOCK, 1, 1, BLOCK]),
        _ => None,
    }
}

/// The operator with a fifth axis.
fn operator(op: &TensorOp) -> Option<TensorOp> {
    let is_image = |axis: usize| axis == 2 || axis == 3;
    Some(match op {
        TensorOp::Map(_) | TensorOp::Zip(_) | TensorOp::Where => op.clone(),
        TensorOp::Blend(Blend { axis, .. }) if *axis != 1 => op.clone(),
        // All channels of the operands are multiples of 16, so each begins a block.
        TensorOp::Concat { .. } => op.clone(),
        TensorOp::Softmax { first, end, .. } if (*first..*end).all(is_image) => op.clone(),
        TensorOp::CumSum { axis, .. } if is_image(*axis) => op.clone(),
        TensorOp::Permute(order) if order[1] == 1 => TensorOp::Permute([&order[..], &[4]].concat()),
        TensorOp::Reduce { kind, axes, keep: true } if !axes[1] => {
            TensorOp::Reduce { kind: *kind, axes: [&axes[..], &[false]].concat(), keep: true }
        }
        TensorOp::Pick { axes, fill } => {
            let mut axes = axes.clone();
            axes[1] = whole_blocks(&axes[1])?;
            axes.push(Pick::All);
            TensorOp::Pick { axes, fill: *fill }
        }
        _ => return None,
    })
}

/// The blocks that a selection of channels consists of; `None` if it takes parts of blocks.
fn whole_blocks(pick: &Pick) -> Option<Pick> {
    let Pick::Index(index) = pick else { return Some(Pick::All) };
    let block = |channels: &[Option<usize>]| -> Option<Option<usize>> {
        match channels[0] {
            None => channels.iter().all(Option::is_none).then_some(None),
            Some(first) => {
                let follows =
                    channels.iter().enumerate().all(|(lane, &channel)| channel == Some(first + lane));
                (follows && first.is_multiple_of(BLOCK)).then_some(Some(first / BLOCK))
            }
        }
    };
    let (blocks, []) = index.as_chunks::<BLOCK>() else { return None };
    let blocks = blocks.iter().map(|channels| block(channels)).collect::<Option<Vec<_>>>()?;
    Some(Pick::Index(blocks.into()))
}

#[cfg(test)]
mod tests {
    use super::super::tensor::TensorKernel;
    use super::*;
    use crate::layer::{Binary, Reduction, Role, SoftKind, Unary};
    use kernels::Threads;
    use std::sync::Arc;

    /// Row-major elements in blocks of channels.
    fn in_blocks(from: &[f32], [n, c, h, w]: [usize; 4]) -> Vec<f32> {
        let mut to = vec![f32::NAN; n * c * h * w];
        for (number, &value) in from.iter().enumerate() {
            let (pixel, channel, image) = (number % (h * w), number / (h * w) % c, number / (h * w * c));
            to[((image * c + channel / 16 * 16) * h * w) + pixel * 16 + channel % 16] = value;
        }
        to
    }

    fn index(places: impl IntoIterator<Item = Option<usize>>) -> Pick {
        Pick::Index(places.into_iter().collect())
    }

    /// Operators, the extents of their constants, and how many maps of 48 channels they read.
    fn cases() -> Vec<(TensorOp, Vec<Vec<usize>>, usize)> {
        let rows: Arc<[Vec<(usize, f32)>]> =
            (0..7).map(|row| vec![(row / 2, 0.25), (row / 3, 0.75)]).collect();
        let blend = |axis| TensorOp::Blend(Blend { axis, outputs: rows.clone(), fill: 0.0 });
        let picks =
            |channels, rows| TensorOp::Pick { axes: vec![Pick::All, channels, rows, Pick::All], fill: 2.0 };
        let channels = || (16..48).chain(0..16).map(Some);
        let padded = || index([None, Some(3), Some(0), None]);
        vec![
            (TensorOp::Map(Unary::Tanh), vec![], 1),
            (blend(2), vec![], 1),
            (blend(3), vec![], 1),
            (picks(index(channels()), padded()), vec![], 1),
            (picks(Pick::All, padded()), vec![], 1),
            (picks(index((16..32).map(Some).chain([None; 16])), Pick::All), vec![], 1),
            (TensorOp::Zip(Binary::Sub), vec![], 2),
            (TensorOp::Zip(Binary::Div), vec![vec![48, 1, 1]], 1),
            (TensorOp::Zip(Binary::Mul), vec![vec![4, 1]], 1),
            (TensorOp::Zip(Binary::Max), vec![vec![2, 1, 1, 1]], 1),
            (TensorOp::Concat { axis: 1 }, vec![], 2),
            (TensorOp::Concat { axis: 2 }, vec![], 2),
            (TensorOp::Softmax { kind: SoftKind::Soft, first: 2, end: 4 }, vec![], 1),
            (TensorOp::Permute(vec![0, 1, 3, 2]), vec![], 1),
            (
                TensorOp::Reduce { kind: Reduction::Max, axes: vec![false, false, true, false], keep: true },
                vec![],
                1,
            ),
        ]
    }

    #[test]
    fn operators_on_blocks_compute_what_they_compute_in_row_major_order() {
        let dims = [2, 48, 4, 5];
        let noise = |seed: usize, len: usize| -> Vec<f32> {
            (0..len).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 500.0 + 0.1).collect()
        };
        for (op, constants, maps) in cases() {
            let operands: Vec<Operand> =
                (0..maps).map(Operand::Input).chain((0..constants.len()).map(Operand::Param)).collect();
            let all: Vec<Vec<usize>> =
                std::iter::repeat_n(dims.to_vec(), maps).chain(constants.clone()).collect();
            let output: [usize; 4] = op.output(&all).unwrap().try_into().unwrap();
            let params = constants.iter().map(|dims| Param {
                name: "operand0",
                dims: dims.clone(),
                role: Role::Fixed,
            });
            let shape = |[_, c, h, w]: [usize; 4]| Shape::map(c, h, w);
            let layer = TensorLayer { op, operands, params: params.collect(), output: shape(output) };
            let inputs = vec![shape(dims); maps];
            let (blocked, blocked_inputs) = blockwise(&layer, &inputs, 2).expect("an operator on blocks");
            let data: Vec<Vec<f32>> = constants.iter().map(|dims| noise(9, dims.iter().product())).collect();
            let x: Vec<Vec<f32>> = (0..maps).map(|map| noise(map, dims.iter().product())).collect();
            let run = |layer: &TensorLayer, (inputs, batch): (&[Shape], usize), x: &[Vec<f32>]| {
                let kernel = TensorKernel::new(layer, inputs, batch, data.clone()).unwrap();
                let mut to = vec![f32::NAN; output.iter().product()];
                kernel.run(&|index| &x[index], &mut [], &mut to, Threads::Seq).unwrap();
                to
            };
            let plain = run(&layer, (&inputs, 2), &x);
            let x: Vec<Vec<f32>> = x.iter().map(|x| in_blocks(x, dims)).collect();
            let got = run(&blocked, (&blocked_inputs, 1), &x);
            assert_eq!(got, in_blocks(&plain, output), "{:?}", layer.op);
        }
    }

    #[test]
    fn operators_that_mix_channels_of_a_block_are_not_on_blocks() {
        let shape = Shape::map(48, 4, 5);
        let layer = |op: TensorOp, output| TensorLayer {
            op,
            operands: vec![Operand::Input(0)],
            params: Vec::new(),
            output,
        };
        let select = |channels: Vec<Option<usize>>| {
            let output = Shape::map(channels.len(), 4, 5);
            layer(
                TensorOp::Pick { axes: vec![Pick::All, index(channels), Pick::All, Pick::All], fill: 0.0 },
                output,
            )
        };
        for other in [
            layer(TensorOp::Softmax { kind: SoftKind::Soft, first: 1, end: 2 }, shape),
            layer(TensorOp::Permute(vec![0, 2, 1, 3]), Shape::map(4, 48, 5)),
            select((8..24).map(Some).collect()),
            select((0..16).rev().map(Some).collect()),
            select((0..24).map(Some).collect()),
        ] {
            assert!(blockwise(&other, &[shape], 1).is_none(), "{other:?}");
        }
        assert!(blockwise(&layer(TensorOp::Map(Unary::Exp), shape), &[Shape::map(20, 4, 5)], 1).is_none());
    }
}
