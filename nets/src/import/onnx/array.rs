//! Small constant arrays, for the shape computations of exporters.

use super::node::{Outcome, axis, unsupported, wrong};
use super::value::{Constant, Data, FOLD_LIMIT, Kind, checked_len};
use std::sync::Arc;

/// Numbers with their extents.
#[derive(Debug, Clone)]
pub(super) struct Array {
    pub(super) dims: Vec<usize>,
    pub(super) whole: bool,
    pub(super) values: Arc<[f64]>,
}

impl From<Array> for Constant {
    fn from(array: Array) -> Self {
        Self { dims: array.dims, kind: Kind::whole(array.whole), data: Data::Small(array.values) }
    }
}

impl Array {
    /// Builds an array of extents `dims`, with each element computed from its index.
    fn build(dims: Vec<usize>, whole: bool, mut value: impl FnMut(&[usize]) -> f64) -> Outcome<Self> {
        let Some(len) = checked_len(&dims).filter(|&len| len <= FOLD_LIMIT) else {
            return unsupported(format!("a constant of {dims:?}, too large to compute"));
        };
        let mut index = vec![0; dims.len()];
        let mut values = Vec::with_capacity(len);
        for _ in 0..len {
            values.push(value(&index));
            for (place, &extent) in index.iter_mut().zip(&dims).rev() {
                *place += 1;
                if *place < extent {
                    break;
                }
                *place = 0;
            }
        }
        Ok(Self { dims, whole, values: values.into() })
    }

    /// The element at `index`. Missing leading axes and extents of 1 are broadcast.
    fn at(&self, index: &[usize]) -> f64 {
        let skipped = index.len() - self.dims.len();
        let places = self.dims.iter().zip(&index[skipped..]);
        self.values[places.fold(0, |offset, (&dim, &i)| offset * dim + if dim == 1 { 0 } else { i })]
    }

    /// Applies a function to every element.
    pub(super) fn map(&self, whole: bool, function: impl Fn(f64) -> f64) -> Self {
        let values = self.values.iter().map(|&value| function(value)).collect();
        Self { dims: self.dims.clone(), whole, values }
    }

    /// Applies a function to every tuple of elements, broadcast to common extents.
    pub(super) fn zip(arrays: &[&Self], whole: bool, function: impl Fn(&[f64]) -> f64) -> Outcome<Self> {
        let dims = broadcast(&arrays.iter().map(|array| array.dims.as_slice()).collect::<Vec<_>>())?;
        let mut operands = vec![0.0; arrays.len()];
        Self::build(dims, whole, |index| {
            for (operand, array) in operands.iter_mut().zip(arrays) {
                *operand = array.at(index);
            }
            function(&operands)
        })
    }

    pub(super) fn expand(&self, dims: &[usize]) -> Outcome<Self> {
        let dims = broadcast(&[&self.dims, dims])?;
        Self::build(dims, self.whole, |index| self.at(index))
    }

    pub(super) fn transpose(&self, order: &[usize]) -> Outcome<Self> {
        let dims = order.iter().map(|&axis| self.dims[axis]).collect();
        let mut source = vec![0; order.len()];
        Self::build(dims, self.whole, |index| {
            for (&axis, &i) in order.iter().zip(index) {
                source[axis] = i;
            }
            self.at(&source)
        })
    }

    pub(super) fn gather(&self, indices: &Self, along: i64) -> Outcome<Self> {
        let along = axis(along, self.dims.len())?;
        let extent = self.dims[along];
        let place = |value: &f64| match if *value < 0.0 { value + extent as f64 } else { *value } {
            place if place >= 0.0 && place < extent as f64 => Some(place as usize),
            _ => None,
        };
        let Some(places) = indices.values.iter().map(place).collect::<Option<Vec<_>>>() else {
            return wrong(format!("expected indices below {extent}, got {:?}", first(&indices.values)));
        };
        let dims = [&self.dims[..along], &indices.dims, &self.dims[along + 1..]].concat();
        let rank = indices.dims.len();
        Self::build(dims, self.whole, |index| {
            let (before, rest) = index.split_at(along);
            let (middle, after) = rest.split_at(rank);
            let flat = middle.iter().zip(&indices.dims).fold(0, |offset, (&i, &dim)| offset * dim + i);
            self.at(&[before, &[places[flat]], after].concat())
        })
    }

    /// A slice: for each axis a start, a step and a count.
    pub(super) fn slice(&self, ranges: &[(i64, i64, usize)]) -> Outcome<Self> {
        let dims = ranges.iter().map(|&(_, _, count)| count).collect();
        let mut source = vec![0; ranges.len()];
        Self::build(dims, self.whole, |index| {
            for ((place, &i), &(start, step, _)) in source.iter_mut().zip(index).zip(ranges) {
                *place = (start + i as i64 * step) as usize;
            }
            self.at(&source)
        })
    }

    pub(super) fn concat(arrays: &[&Self], along: i64) -> Outcome<Self> {
        let Some(first) = arrays.first() else { return wrong("expected at least one input, got none") };
        let along = axis(along, first.dims.len())?;
        let same = |array: &&Self| {
            let dims = array.dims.iter().zip(&first.dims).enumerate();
            array.dims.len() == first.dims.len() && dims.into_iter().all(|(i, (a, b))| i == along || a == b)
        };
        if !arrays.iter().all(same) {
            return wrong("expected inputs of the same extents but for the axis of concatenation");
        }
        let mut dims = first.dims.clone();
        dims[along] = arrays.iter().map(|array| array.dims[along]).sum();
        let Some(len) = checked_len(&dims).filter(|&len| len <= FOLD_LIMIT) else {
            return unsupported(format!("a constant of {dims:?}, too large to compute"));
        };
        // With an extent of 0 there are no rows, however many the other extents say.
        let outer = if len == 0 { 0 } else { dims[..along].iter().product() };
        let mut values = Vec::new();
        for row in 0..outer {
            for array in arrays {
                let inner: usize = array.dims[along..].iter().product();
                values.extend_from_slice(&array.values[row * inner..(row + 1) * inner]);
            }
        }
        Ok(Self { dims, whole: first.whole, values: values.into() })
    }
}

/// The common extents to which these shapes broadcast.
pub(super) fn broadcast(shapes: &[&[usize]]) -> Outcome<Vec<usize>> {
    let Ok(result) = crate::layer::broadcast(shapes) else {
        return wrong(format!("expected extents that can be broadcast, got {shapes:?}"));
    };
    match checked_len(&result) {
        Some(_) => Ok(result),
        None => wrong(format!("expected extents that can be addressed, got {result:?}")),
    }
}

/// The first few elements of a list, for a message.
fn first(values: &[f64]) -> &[f64] {
    &values[..values.len().min(8)]
}
