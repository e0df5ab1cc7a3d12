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

/// The elements of a tensor at the places of an index tensor, whose values replace the places on one axis.
#[derive(Debug)]
pub(super) struct Elements {
    walk: Walk<2>,
    stride: usize,
    extent: usize,
}

impl Elements {
    pub(super) fn new(dims: &[usize], index_dims: &[usize], axis: usize) -> Self {
        let data = strides(dims);
        let mut others = data.clone();
        others[axis] = 0;
        let walk = Walk::new(index_dims, [&strides(index_dims), &others]);
        Self { walk, stride: data[axis], extent: dims[axis] }
    }

    /// Calls `visit` with the place of each index and the place in the tensor that it leads to.
    fn each(&self, indices: &[f32], mut visit: impl FnMut(usize, usize)) -> Result<(), ConvError> {
        let mut result = Ok(());
        self.walk.each(|[at, base]| match place(indices[at], self.extent) {
            Ok(place) => visit(at, base + place * self.stride),
            Err(error) => result = Err(error),
        });
        result
    }

    pub(super) fn gather(&self, data: &[f32], indices: &[f32], to: &mut [f32]) -> Result<(), ConvError> {
        self.each(indices, |at, place| to[at] = data[place])
    }

    pub(super) fn scatter(
        &self,
        how: Scatter,
        (data, indices, updates): (&[f32], &[f32], &[f32]),
        to: &mut [f32],
    ) -> Result<(), ConvError> {
        to.copy_from_slice(data);
        self.each(indices, |at, place| how.put(&mut to[place], updates[at]))
    }
}

impl Scatter {
    fn put(self, to: &mut f32, update: f32) {
        *to = match self {
            Self::Replace => update,
            Self::With(function) => function.at(*to, update),
        };
    }
}

/// Slices of a tensor, one for each tuple of indices.
#[derive(Debug)]
pub(super) struct Tuples {
    /// The extent and the stride of each axis that a tuple has an index for.
    axes: Vec<(usize, usize)>,
    /// Elements of a slice, and of the part of the tensor for one index of the batch axes.
    inner: usize,
    image: usize,
    /// Tuples for one index of the batch axes.
    per_image: usize,
}

impl Tuples {
    /// The first `batch` axes of tensor and indices belong together.
    pub(super) fn new(dims: &[usize], index_dims: &[usize], batch: usize) -> Self {
        let tuples = index_dims.len() - 1;
        let end = batch + index_dims[tuples];
        Self {
            axes: dims[batch..end].iter().copied().zip(strides(dims)[batch..end].iter().copied()).collect(),
            inner: dims[end..].iter().product(),
            image: dims[batch..].iter().product(),
            per_image: index_dims[batch..tuples].iter().product::<usize>().max(1),
        }
    }

    /// Where the slice of a tuple begins.
    fn start(&self, indices: &[f32], number: usize) -> Result<usize, ConvError> {
        let depth = self.axes.len();
        let tuple = &indices[number * depth..(number + 1) * depth];
        let base = number / self.per_image * self.image;
        let mut axes = tuple.iter().zip(&self.axes);
        axes.try_fold(base, |sum, (&index, &(extent, stride))| Ok(sum + place(index, extent)? * stride))
    }

    pub(super) fn gather(&self, data: &[f32], indices: &[f32], to: &mut [f32]) -> Result<(), ConvError> {
        for (number, to) in to.chunks_exact_mut(self.inner.max(1)).enumerate() {
            let start = self.start(indices, number)?;
            to.copy_from_slice(&data[start..start + self.inner]);
        }
        Ok(())
    }

    pub(super) fn scatter(
        &self,
        how: Scatter,
        (data, indices, updates): (&[f32], &[f32], &[f32]),
        to: &mut [f32],
    ) -> Result<(), ConvError> {
        to.copy_from_slice(data);
        for (number, updates) in updates.chunks_exact(self.inner.max(1)).enumerate() {
            let start = self.start(indices, number)?;
            let slice = &mut to[start..start + self.inner];
            slice.iter_mut().zip(updates).for_each(|(to, &update)| how.put(to, update));
        }
        Ok(())
    }
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
