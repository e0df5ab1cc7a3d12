//! What a name in an ONNX graph stands for: activations that flow, or numbers that are known.

use super::source::ModelSource;
use super::tensor::{Small, TensorDef, dtype};
use crate::error::OnnxError;
use std::sync::Arc;

/// Elements of a constant up to which it is read and computed with: shapes, scales, limits, never weights.
pub(super) const FOLD_LIMIT: usize = 1 << 16;

/// Extents that a tensor may have.
pub(super) const MAX_RANK: usize = 16;

/// One name.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Tap(Tap),
    Constant(Constant),
    Unknown(Unknown),
}

/// What comes out of an operator that is not known: nothing is known of its extents.
#[derive(Debug, Clone)]
pub(super) struct Unknown {
    /// The step that stands in for it, if it depends on the input.
    pub(super) step: Option<usize>,
    /// The first such operator: its node, and its name.
    pub(super) origin: Arc<str>,
}

impl Unknown {
    /// Why what reads it cannot be computed.
    pub(super) fn reason(&self) -> String {
        format!("the extents of what it reads are not known: {}", self.origin)
    }
}

impl Value {
    /// The step that it comes from, if it depends on the input.
    pub(super) fn step(&self) -> Option<usize> {
        match self {
            Self::Tap(tap) => Some(tap.step),
            Self::Unknown(unknown) => unknown.step,
            Self::Constant(_) => None,
        }
    }

    /// Its extents, if they are known.
    pub(super) fn dims(&self) -> Option<&[usize]> {
        match self {
            Self::Tap(Tap { dims, .. }) | Self::Constant(Constant { dims, .. }) => Some(dims),
            Self::Unknown(_) => None,
        }
    }
}

/// Activations: what a step of the draft gives, under the extents that ONNX sees, the batch first.
#[derive(Debug, Clone)]
pub(super) struct Tap {
    /// The number of the step.
    pub(super) step: usize,
    pub(super) dims: Vec<usize>,
}

/// Numbers that do not depend on the input.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Constant {
    pub(super) dims: Vec<usize>,
    /// Whether they are integers, whose quotients are too.
    pub(super) whole: bool,
    pub(super) data: Data,
}

/// Where the numbers of a [`Constant`] are.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    /// In the file.
    Stored(Arc<TensorDef>),
    /// In the file, a matrix of so many columns, to be read column by column.
    Transposed(Arc<TensorDef>, usize),
    /// All the same.
    Fill(f64),
    /// Here. Integers beyond 2^53 are rounded; only sentinels like "to the end" are that large.
    Small(Arc<[f64]>),
    /// The result of an operator that is not computed here: counted, but it cannot run.
    Opaque(String),
}

impl Constant {
    /// A list of integers, as shapes are.
    pub(super) fn list(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Arc<[f64]> = values.into_iter().collect();
        Self { dims: vec![values.len()], whole: true, data: Data::Small(values) }
    }

    /// A tensor of the file, whose extents were checked.
    pub(super) fn stored(tensor: Arc<TensorDef>) -> Self {
        let dims = tensor.dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect();
        let whole = !dtype::is_float(tensor.dtype);
        Self { dims, whole, data: Data::Stored(tensor) }
    }

    /// The same numbers in other extents.
    pub(super) fn reshaped(&self, dims: Vec<usize>) -> Self {
        Self { dims, whole: self.whole, data: self.data.clone() }
    }

    /// The same numbers as a tensor of its own. PyTorch stores tensors once that are equal by chance, as those of
    /// untrained layers are, and has an `Identity` for each of the others: they are parameters of their own.
    pub(super) fn copied(&self) -> Self {
        let own = |tensor: &Arc<TensorDef>| Arc::new(TensorDef::clone(tensor));
        let data = match &self.data {
            Data::Stored(tensor) => Data::Stored(own(tensor)),
            Data::Transposed(tensor, columns) => Data::Transposed(own(tensor), *columns),
            other => other.clone(),
        };
        Self { dims: self.dims.clone(), whole: self.whole, data }
    }

    /// A matrix the other way round.
    pub(super) fn turned(&self) -> Self {
        let &[rows, columns] = self.dims.as_slice() else { return self.clone() };
        let data = match &self.data {
            Data::Stored(tensor) => Data::Transposed(tensor.clone(), columns),
            Data::Transposed(tensor, of) if *of == rows => Data::Stored(tensor.clone()),
            Data::Transposed(..) => {
                Data::Opaque("a matrix that was transposed and reshaped (Transpose)".to_owned())
            }
            Data::Small(values) => Data::Small(
                (0..columns)
                    .flat_map(|x| (0..rows).map(move |y| (x, y)))
                    .map(|(x, y)| values[y * columns + x])
                    .collect(),
            ),
            other => other.clone(),
        };
        Self { dims: vec![columns, rows], whole: self.whole, data }
    }

    /// Elements.
    pub(super) fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// The numbers, if they are few and known.
    pub(super) fn small(&self, source: &ModelSource) -> Result<Option<Arc<[f64]>>, OnnxError> {
        let len = self.len();
        if len > FOLD_LIMIT {
            return Ok(None);
        }
        Ok(match &self.data {
            Data::Small(values) => Some(values.clone()),
            Data::Fill(value) => Some(vec![*value; len].into()),
            Data::Stored(tensor) => tensor.small(source, FOLD_LIMIT as u64)?.map(|values| match values {
                Small::Ints(values) => values.into_iter().map(|value| value as f64).collect(),
                Small::Floats(values) => values.into(),
            }),
            Data::Transposed(..) | Data::Opaque(_) => None,
        })
    }

    /// The tensor of the file behind it.
    pub(super) fn tensor(&self) -> Option<&Arc<TensorDef>> {
        match &self.data {
            Data::Stored(tensor) | Data::Transposed(tensor, _) => Some(tensor),
            _ => None,
        }
    }
}

/// Elements, if there are at most [`MAX_RANK`] extents and their product can be addressed.
pub(super) fn checked_len(dims: &[usize]) -> Option<usize> {
    if dims.len() > MAX_RANK {
        return None;
    }
    // With an extent of zero the others could still overflow in another order.
    let len = dims.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim.max(1)))?;
    (len <= isize::MAX as usize / 4).then_some(if dims.contains(&0) { 0 } else { len })
}
