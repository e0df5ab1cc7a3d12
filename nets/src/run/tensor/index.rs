//! Operators that move elements: permutations, selections, gathers and scatters.

use super::walk::{Walk, strides};
use crate::layer::{Pick, Scatter};
use kernels::ConvError;

/// A permutation of axes.
#[derive(Debug)]
pub(super) struct Permute {
    outer: Walk<2>,
    len: usize,
    step: usize,
}

impl Permute {
    pub(super) fn new(dims: &[usize], order: &[usize], output: &[usize]) -> Self {
        let from = strides(dims);
        let from: Vec<usize> = order.iter().map(|&axis| from[axis]).collect();
        let (outer, len, [_, step]) = Walk::new(output, [&strides(output), &from]).split_inner();
        Self { outer, len, step }
    }

    pub(super) fn run(&self, from: &[f32], to: &mut [f32]) {
        let Self { outer, len, step } = self;
        outer.each(|[start, at]| {
            let to = &mut to[start..start + len];
            match step {
                1 => to.copy_from_slice(&from[at..at + len]),
                step => to.iter_mut().enumerate().for_each(|(i, to)| *to = from[at + i * step]),
            }
        });
    }
}

/// A selection along every axis.
#[derive(Debug)]
pub(super) struct Selection {
    /// For each leading axis the offset of each of its elements, or `None` for the fill value.
    axes: Vec<Vec<Option<usize>>>,
    /// Elements of the axes behind, which are taken as they are.
    block: usize,
    fill: f32,
}

impl Selection {
    pub(super) fn new(dims: &[usize], picks: &[Pick], fill: f32) -> Self {
        let whole = picks.iter().rev().take_while(|pick| **pick == Pick::All).count();
        let leading = picks.len() - whole;
        let axes =
            picks[..leading].iter().zip(dims).zip(strides(dims)).map(|((pick, &dim), stride)| match pick {
                Pick::All => (0..dim).map(|place| Some(place * stride)).collect(),
                Pick::Index(index) => index.iter().map(|place| place.map(|place| place * stride)).collect(),
            });
        Self { axes: axes.collect(), block: dims[leading..].iter().product(), fill }
    }

    pub(super) fn run(&self, from: &[f32], to: &mut [f32]) {
        self.level(0, Some(0), from, to);
    }

    /// Writes the part of the output behind one index of the axes before `level`.
    fn level(&self, level: usize, offset: Option<usize>, from: &[f32], to: &mut [f32]) {
        let Some(offset) = offset else { return to.fill(self.fill) };
        let Some(places) = self.axes.get(level) else {
            return to.copy_from_slice(&from[offset..offset + self.block]);
        };
        if level + 1 == self.axes.len() && self.block == 1 {
            let take = |place: &Option<usize>| place.map_or(self.fill, |place| from[offset + place]);
            return to.iter_mut().zip(places).for_each(|(to, place)| *to = take(place));
        }
        let len = to.len() / places.len().max(1);
        for (place, to) in places.iter().zip(to.chunks_exact_mut(len.max(1))) {
            self.level(level + 1, place.map(|place| offset + place), from, to);
        }
    }
}

/// The extents before, along and behind an axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around {
    pub(super) outer: usize,
    pub(super) len: usize,
    pub(super) inner: usize,
}

impl Around {
    pub(super) fn new(dims: &[usize], axis: usize) -> Self {
        Self::span(dims, axis, axis + 1)
    }

    /// The axes from `first` to before `end` count as one.
    pub(super) fn span(dims: &[usize], first: usize, end: usize) -> Self {
        let product = |dims: &[usize]| dims.iter().product();
        Self { outer: product(&dims[..first]), len: product(&dims[first..end]), inner: product(&dims[end..]) }
    }
}

/// An index as a place on an axis; negative ones count from the end.
fn place(index: f32, extent: usize) -> Result<usize, ConvError> {
    let from_end = if index < 0.0 { index + extent as f32 } else { index };
    match from_end >= 0.0 && from_end < extent as f32 {
        true => Ok(from_end as usize),
        false => {
            let expected = format!("numbers from -{extent} to below {extent}");
            Err(ConvError::InvalidField { field: "indices", expected, got: index.to_string() })
        }
    }
}

/// Copies slices of an axis, one for each index.
pub(super) fn gather(around: Around, data: &[f32], indices: &[f32], to: &mut [f32]) -> Result<(), ConvError> {
    let Around { len, inner, .. } = around;
    let rows = data.chunks_exact((len * inner).max(1));
    for (data, to) in rows.zip(to.chunks_exact_mut((indices.len() * inner).max(1))) {
        for (&index, to) in indices.iter().zip(to.chunks_exact_mut(inner.max(1))) {
            let start = place(index, len)? * inner;
            to.copy_from_slice(&data[start..start + inner]);
        }
    }
    Ok(())
}

/// The offset in a tensor of each element of `indices`, whose places on `axis` they replace.
fn element_offsets(dims: &[usize], index_dims: &[usize], axis: usize) -> (Walk<2>, usize) {
    let data = strides(dims);
    let mut others = data.clone();
    others[axis] = 0;
    (Walk::new(index_dims, [&strides(index_dims), &others]), data[axis])
}

pub(super) fn gather_elements(
    (dims, index_dims): (&[usize], &[usize]),
    axis: usize,
    (data, indices): (&[f32], &[f32]),
    to: &mut [f32],
) -> Result<(), ConvError> {
    let (walk, stride) = element_offsets(dims, index_dims, axis);
    let mut result = Ok(());
    walk.each(|[at, base]| match place(indices[at], dims[axis]) {
        Ok(place) => to[at] = data[base + place * stride],
        Err(error) => result = Err(error),
    });
    result
}

pub(super) fn scatter_elements(
    (dims, index_dims): (&[usize], &[usize]),
    (axis, how): (usize, Scatter),
    (data, indices, updates): (&[f32], &[f32], &[f32]),
    to: &mut [f32],
) -> Result<(), ConvError> {
    to.copy_from_slice(data);
    let (walk, stride) = element_offsets(dims, index_dims, axis);
    let mut result = Ok(());
    walk.each(|[at, base]| match place(indices[at], dims[axis]) {
        Ok(place) => how.put(&mut to[base + place * stride], updates[at]),
        Err(error) => result = Err(error),
    });
    result
}

impl Scatter {
    fn put(self, to: &mut f32, update: f32) {
        *to = match self {
            Self::Replace => update,
            Self::With(function) => function.at(*to, update),
        };
    }
}

/// The offset that a tuple of indices leads to, among the axes of these extents and strides.
fn tuple_offset(tuple: &[f32], dims: &[usize], strides: &[usize]) -> Result<usize, ConvError> {
    tuple
        .iter()
        .zip(dims)
        .zip(strides)
        .try_fold(0, |sum, ((&index, &dim), &stride)| Ok(sum + place(index, dim)? * stride))
}

pub(super) fn gather_nd(
    (dims, index_dims): (&[usize], &[usize]),
    batch: usize,
    (data, indices): (&[f32], &[f32]),
    to: &mut [f32],
) -> Result<(), ConvError> {
    let depth = index_dims[index_dims.len() - 1];
    let strides = strides(dims);
    let (axes, steps) = (&dims[batch..batch + depth], &strides[batch..batch + depth]);
    let inner: usize = dims[batch + depth..].iter().product();
    let images: usize = dims[..batch].iter().product();
    let per_image = (index_dims[batch..index_dims.len() - 1].iter().product::<usize>()).max(1);
    let image: usize = dims[batch..].iter().product();
    for (number, to) in to.chunks_exact_mut(inner.max(1)).enumerate() {
        let base = (number / per_image).min(images) * image;
        let tuple = &indices[number * depth..(number + 1) * depth];
        let start = base + tuple_offset(tuple, axes, steps)?;
        to.copy_from_slice(&data[start..start + inner]);
    }
    Ok(())
}

pub(super) fn scatter_nd(
    (dims, index_dims): (&[usize], &[usize]),
    how: Scatter,
    (data, indices, updates): (&[f32], &[f32], &[f32]),
    to: &mut [f32],
) -> Result<(), ConvError> {
    to.copy_from_slice(data);
    let depth = index_dims[index_dims.len() - 1];
    let strides = strides(dims);
    let inner: usize = dims[depth..].iter().product();
    for (number, updates) in updates.chunks_exact(inner.max(1)).enumerate() {
        let tuple = &indices[number * depth..(number + 1) * depth];
        let start = tuple_offset(tuple, &dims[..depth], &strides[..depth])?;
        to[start..start + inner].iter_mut().zip(updates).for_each(|(to, &update)| how.put(to, update));
    }
    Ok(())
}

/// `on` where the axis has the index, else `off`. Indices outside of the axis have no `on`.
pub(super) fn one_hot(around: Around, indices: &[f32], [off, on]: [f32; 2], to: &mut [f32]) {
    let Around { len, inner, .. } = around;
    to.fill(off);
    for (number, &index) in indices.iter().enumerate() {
        if let Ok(place) = place(index, len) {
            to[(number / inner * len + place) * inner + number % inner] = on;
        }
    }
}

/// Joins tensors along an axis.
pub(super) fn concat<'a>(arounds: &[Around], get: &dyn Fn(usize) -> &'a [f32], to: &mut [f32]) {
    let row: usize = arounds.iter().map(|around| around.len * around.inner).sum();
    let mut start = 0;
    for (operand, around) in arounds.iter().enumerate() {
        let part = around.len * around.inner;
        for (from, to) in get(operand).chunks_exact(part.max(1)).zip(to.chunks_exact_mut(row.max(1))) {
            to[start..start + part].copy_from_slice(from);
        }
        start += part;
    }
}

/// Keeps one triangle of each matrix.
pub(super) fn triangle(
    (rows, columns): (usize, usize),
    (upper, diagonal): (bool, i64),
    from: &[f32],
    to: &mut [f32],
) {
    for (number, (to, &from)) in to.iter_mut().zip(from).enumerate() {
        let (row, column) = ((number / columns % rows.max(1)) as i64, (number % columns) as i64);
        let keep = if upper { column - row >= diagonal } else { column - row <= diagonal };
        *to = if keep { from } else { 0.0 };
    }
}
