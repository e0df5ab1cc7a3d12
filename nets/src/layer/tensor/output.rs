//! The output extents of operators on tensors.

use super::{ConvNd, Recurrent, TensorOp};
use crate::error::LayerError;
use crate::layer::conv::invalid;
use kernels::ConvError;

type Dims = Vec<usize>;

impl TensorOp {
    /// The extents of the output for operands of these extents. [`TensorOp::Reshape`] and [`TensorOp::Expand`] have the
    /// extents that their layer states, which are not known here.
    pub(crate) fn output(&self, operands: &[Dims]) -> Result<Dims, LayerError> {
        let Some(first) = operands.first() else { return Err(invalid("operands", "at least 1", 0)) };
        let second = || operands.get(1).ok_or_else(|| invalid("operands", "at least 2", operands.len()));
        let output = match self {
            Self::Map(_) | Self::Softmax { .. } | Self::CumSum { .. } | Self::Trilu { .. } => first.clone(),
            Self::Normalize { .. } | Self::Lrn(_) | Self::Reshape | Self::Expand => first.clone(),
            Self::ScatterElements { .. } | Self::ScatterNd { .. } => first.clone(),
            Self::Zip(_) | Self::Where => broadcast(operands)?,
            Self::MatMul => matmul(first, second()?)?,
            Self::Gemm { trans_a, trans_b, .. } => gemm(first, second()?, (*trans_a, *trans_b))?,
            Self::Einsum { inputs, output } => einsum(operands, inputs, output)?,
            Self::Reduce { axes, keep, .. } => without(first, |axis| axes[axis], *keep),
            Self::ArgExtreme { axis, keep, .. } => without(first, |other| other == *axis, *keep),
            Self::Permute(order) => order.iter().map(|&axis| first[axis]).collect(),
            Self::Pick { axes, .. } => {
                first.iter().zip(axes).map(|(&dim, pick)| pick.len(dim)).collect::<Result<_, _>>()?
            }
            Self::Blend(blend) => {
                let places = blend.outputs.iter().flatten().map(|&(place, _)| place);
                inside(first[blend.axis], places)?;
                with(first, blend.axis, blend.outputs.len())
            }
            Self::Concat { axis } => concat(operands, *axis)?,
            Self::Gather { axis } => [&first[..*axis], second()?, &first[axis + 1..]].concat(),
            Self::GatherElements { .. } => second()?.clone(),
            Self::GatherNd { batch_dims } => gather_nd(first, second()?, *batch_dims)?,
            Self::OneHot { axis, depth } => [&first[..*axis], &[*depth], &first[*axis..]].concat(),
            Self::TopK { axis, count, .. } => {
                inside(first[*axis], count.checked_sub(1))?;
                with(first, *axis, *count)
            }
            Self::Conv(conv) => conv_nd(conv, first, second()?)?,
            Self::ConvTranspose(conv) => transposed(conv, first, second()?)?,
            Self::Pool { windows, .. } => {
                let (outer, image) = first.split_at(first.len().min(2));
                [outer, &windows.outputs(image)?].concat()
            }
            Self::Recurrent(recurrent) => recurrent_output(recurrent, first, second()?)?,
            Self::GridSample(sample) => sample.output(first, second()?)?,
            Self::Deform(deform) => deform.output(operands)?,
            Self::Overlap(overlap) => overlap.output(first)?,
        };
        let len = output.iter().try_fold(1usize, |len, &dim| len.checked_mul(dim));
        match len.filter(|&len| len <= isize::MAX as usize / 4) {
            Some(_) => Ok(output),
            None => Err(ConvError::SizeOverflow { what: "output" }.into()),
        }
    }
}

impl super::Pick {
    /// The extent of the output.
    fn len(&self, extent: usize) -> Result<usize, LayerError> {
        match self {
            Self::All => Ok(extent),
            Self::Index(index) => inside(extent, index.iter().flatten().copied()).map(|()| index.len()),
        }
    }
}

/// Checks that all `places` are on an axis of `extent` elements.
fn inside(extent: usize, places: impl IntoIterator<Item = usize>) -> Result<(), LayerError> {
    match places.into_iter().find(|&place| place >= extent) {
        None => Ok(()),
        Some(place) => Err(invalid("input", format!("more than {place} elements on an axis"), extent)),
    }
}

/// The common extents to which tensors are broadcast: aligned at the last axis, and an extent of 1 is repeated.
pub(crate) fn broadcast<D: AsRef<[usize]> + std::fmt::Debug>(operands: &[D]) -> Result<Dims, LayerError> {
    let operand_dims = || operands.iter().map(AsRef::as_ref);
    let mut result = vec![1; operand_dims().map(<[usize]>::len).max().unwrap_or(0)];
    for dims in operand_dims() {
        for (to, &dim) in result.iter_mut().rev().zip(dims.iter().rev()) {
            match (*to, dim) {
                (a, b) if a == b || b == 1 => {}
                (1, b) => *to = b,
                _ => {
                    return Err(invalid(
                        "operands",
                        "extents that can be broadcast",
                        format!("{operands:?}"),
                    ));
                }
            }
        }
    }
    Ok(result)
}

fn with(dims: &[usize], axis: usize, extent: usize) -> Dims {
    let mut dims = dims.to_vec();
    dims[axis] = extent;
    dims
}

fn without(dims: &[usize], gone: impl Fn(usize) -> bool, keep: bool) -> Dims {
    let axes = dims.iter().enumerate().filter(|&(axis, _)| keep || !gone(axis));
    axes.map(|(axis, &dim)| if gone(axis) { 1 } else { dim }).collect()
}

fn matmul(a: &[usize], b: &[usize]) -> Result<Dims, LayerError> {
    let wrong =
        || invalid("operands", "as many columns in the first as rows in the second", format!("{a:?}, {b:?}"));
    if a.is_empty() || b.is_empty() {
        return Err(wrong());
    }
    // A vector is a row on the left and a column on the right.
    let left = if a.len() == 1 { [&[1], a].concat() } else { a.to_vec() };
    let right = if b.len() == 1 { [b, &[1]].concat() } else { b.to_vec() };
    let (outer_a, matrix_a) = left.split_at(left.len() - 2);
    let (outer_b, matrix_b) = right.split_at(right.len() - 2);
    if matrix_a[1] != matrix_b[0] {
        return Err(wrong());
    }
    let mut output = broadcast(&[outer_a.to_vec(), outer_b.to_vec()])?;
    output.extend((a.len() > 1).then_some(matrix_a[0]));
    output.extend((b.len() > 1).then_some(matrix_b[1]));
    Ok(output)
}

fn gemm(a: &[usize], b: &[usize], (trans_a, trans_b): (bool, bool)) -> Result<Dims, LayerError> {
    let (&[mut m, mut k], &[mut l, mut n]) = (a, b) else {
        return Err(invalid("operands", "two matrices", format!("{a:?}, {b:?}")));
    };
    if trans_a {
        (m, k) = (k, m);
    }
    if trans_b {
        (l, n) = (n, l);
    }
    match k == l {
        true => Ok(vec![m, n]),
        false => Err(invalid("operands", format!("{k} rows in the second matrix"), l)),
    }
}

fn einsum(operands: &[Dims], inputs: &[Vec<u8>], output: &[u8]) -> Result<Dims, LayerError> {
    let extents = axes_of(operands, inputs)?;
    Ok(output.iter().map(|&axis| extents[usize::from(axis)]).collect())
}

/// The extent of each numbered axis of a sum of products.
pub(crate) fn axes_of(operands: &[Dims], inputs: &[Vec<u8>]) -> Result<Dims, LayerError> {
    let mut extents = vec![1; 256];
    for (dims, axes) in operands.iter().zip(inputs) {
        for (&dim, &axis) in dims.iter().zip(axes) {
            let extent = &mut extents[usize::from(axis)];
            if *extent == 1 {
                *extent = dim;
            } else if dim != *extent && dim != 1 {
                return Err(invalid("operands", format!("an extent of {extent}"), dim));
            }
        }
    }
    Ok(extents)
}

fn concat(operands: &[Dims], axis: usize) -> Result<Dims, LayerError> {
    let mut all = operands[0].clone();
    for dims in &operands[1..] {
        if dims.len() != all.len() || with(dims, axis, 0) != with(&all, axis, 0) {
            let expected = format!("inputs that differ on axis {axis} alone");
            return Err(invalid("operands", expected, format!("{operands:?}")));
        }
        all[axis] = all[axis].checked_add(dims[axis]).ok_or(ConvError::SizeOverflow { what: "output" })?;
    }
    Ok(all)
}

fn gather_nd(data: &[usize], indices: &[usize], batch: usize) -> Result<Dims, LayerError> {
    let depth = indices.last().copied().unwrap_or(0);
    let fits = indices.len() > batch && depth + batch <= data.len() && data[..batch] == indices[..batch];
    if !fits {
        return Err(invalid(
            "indices",
            format!("a last extent of at most {}", data.len()),
            format!("{indices:?}"),
        ));
    }
    Ok([&indices[..indices.len() - 1], &data[batch + depth..]].concat())
}

fn conv_nd(conv: &ConvNd, input: &[usize], filter: &[usize]) -> Result<Dims, LayerError> {
    let channels = filter.get(1).and_then(|per_group| per_group.checked_mul(conv.groups));
    if input.len() < 3 || filter.len() != input.len() || channels != Some(input[1]) {
        let expected = format!("filters for {:?} in {} groups", input, conv.groups);
        return Err(invalid("weights", expected, format!("{filter:?}")));
    }
    if filter[2..] != conv.windows.kernel[..] || !filter[0].is_multiple_of(conv.groups) {
        let expected = format!("a kernel of {:?} in {} groups", conv.windows.kernel, conv.groups);
        return Err(invalid("weights", expected, format!("{filter:?}")));
    }
    Ok([&[input[0], filter[0]], &conv.windows.outputs(&input[2..])?[..]].concat())
}

fn transposed(conv: &ConvNd, input: &[usize], filter: &[usize]) -> Result<Dims, LayerError> {
    if input.len() < 3
        || filter.len() != input.len()
        || filter[0] != input[1]
        || conv.output.len() + 2 != input.len()
    {
        let expected = format!("filters for {:?} in {} groups", input, conv.groups);
        return Err(invalid("weights", expected, format!("{filter:?}")));
    }
    let channels = filter[1].checked_mul(conv.groups).ok_or(ConvError::SizeOverflow { what: "channels" })?;
    if !filter[0].is_multiple_of(conv.groups) {
        return Err(invalid("groups", format!("a divisor of the {} channels", filter[0]), conv.groups));
    }
    Ok([&[input[0], channels], &conv.output[..]].concat())
}

fn recurrent_output(layer: &Recurrent, input: &[usize], weights: &[usize]) -> Result<Dims, LayerError> {
    let (directions, rows) = (layer.reversed.len(), layer.cell.gates() * layer.hidden);
    let &[time, batch, width] = input else {
        return Err(invalid("input", "time, batch and features", format!("{input:?}")));
    };
    if *weights != [directions, rows, width] {
        return Err(invalid("weights", format!("{:?}", [directions, rows, width]), format!("{weights:?}")));
    }
    Ok(match layer.part {
        0 => vec![time, directions, batch, layer.hidden],
        _ => vec![directions, batch, layer.hidden],
    })
}
