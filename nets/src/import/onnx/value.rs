//! The values of an ONNX graph: activations and constants.

use super::source::ModelSource;
use super::tensor::{Small, TensorDef, dtype};
use crate::error::OnnxError;
use crate::layer::TensorLayer;
use crate::run::evaluate;
use std::sync::{Arc, OnceLock};

/// Maximum elements of a constant that is read during the import: shapes, scales and limits, but never weights.
pub(super) const FOLD_LIMIT: usize = 1 << 16;

/// Maximum rank of a tensor.
pub(super) const MAX_RANK: usize = 16;

/// The kind of a tensor's elements. All are computed as `f32`; the kind says what functions mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    /// Integers, whose division truncates. They are exact up to 2^24.
    Whole,
    /// 0 or 1.
    Truth,
}

/// The value of one name.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Tap(Tap),
    Constant(Constant),
    Unknown(Unknown),
}

/// The output of an unknown operator. Nothing is known about its extents.
#[derive(Debug, Clone)]
pub(super) struct Unknown {
    /// The step that stands for it, if it depends on the input.
    pub(super) step: Option<usize>,
    /// The first unknown operator on the path: its node and its name.
    pub(super) origin: Arc<str>,
}

impl Kind {
    /// The kind of an element type.
    pub(super) fn of(dtype: i64) -> Self {
        match dtype {
            dtype::BOOL => Self::Truth,
            _ if dtype::is_float(dtype) => Self::Float,
            _ => Self::Whole,
        }
    }

    /// Whole numbers, or floats.
    pub(super) const fn whole(is: bool) -> Self {
        if is { Self::Whole } else { Self::Float }
    }
}

impl Unknown {
    /// The reason why its readers cannot be computed.
    pub(super) fn reason(&self) -> String {
        format!("the extents of what it reads are not known: {}", self.origin)
    }
}

impl Value {
    /// The step that computes it, if it depends on the input.
    pub(super) fn step(&self) -> Option<usize> {
        match self {
            Self::Tap(tap) => Some(tap.step),
            Self::Unknown(unknown) => unknown.step,
            Self::Constant(_) => None,
        }
    }

    /// The kind of its elements.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Tap(tap) => tap.kind,
            Self::Constant(constant) => constant.kind,
            Self::Unknown(_) => Kind::Float,
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

/// An activation: the output of a step, with its extents in ONNX, batch first.
#[derive(Debug, Clone)]
pub(super) struct Tap {
    /// The index of the step.
    pub(super) step: usize,
    pub(super) dims: Vec<usize>,
    pub(super) kind: Kind,
}

/// A tensor that does not depend on the input.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Constant {
    pub(super) dims: Vec<usize>,
    pub(super) kind: Kind,
    pub(super) data: Data,
}

/// The elements of a [`Constant`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    /// In the file.
    Stored(Arc<TensorDef>),
    /// In the file as a matrix with this many columns, to be read column by column.
    Transposed(Arc<TensorDef>, usize),
    /// All elements have this value.
    Fill(f64),
    /// In memory. Integers beyond 2^53 are rounded; only sentinels such as "to the end" are that large.
    Small(Arc<[f64]>),
    /// The result of an operator, computed when it is read.
    Computed(Arc<Computed>),
    /// The result of an operator that is not computed. It can be counted, but not run.
    Opaque(String),
}

/// An operator on constants.
#[derive(Debug)]
pub(super) struct Computed {
    /// Its operands are parameters, in the order of `operands`.
    pub(super) layer: TensorLayer,
    pub(super) operands: Vec<Constant>,
    /// Number of operators that are computed to read it, and the longest chain of them.
    cost: usize,
    depth: usize,
    /// The result, once it is known.
    small: OnceLock<Option<Arc<[f64]>>>,
}

/// By what is computed.
impl PartialEq for Computed {
    fn eq(&self, other: &Self) -> bool {
        self.layer == other.layer && self.operands == other.operands
    }
}

impl Computed {
    pub(super) fn new(layer: TensorLayer, operands: Vec<Constant>, (cost, depth): (usize, usize)) -> Self {
        Self { layer, operands, cost, depth, small: OnceLock::new() }
    }

    /// The result, if the operands are few and known. It is computed in `f32`, and once.
    fn small(&self, source: &ModelSource) -> Result<Option<Arc<[f64]>>, OnnxError> {
        if let Some(known) = self.small.get() {
            return Ok(known.clone());
        }
        let computed = self.compute(source)?;
        Ok(self.small.get_or_init(|| computed).clone())
    }

    fn compute(&self, source: &ModelSource) -> Result<Option<Arc<[f64]>>, OnnxError> {
        let mut operands = Vec::new();
        for operand in &self.operands {
            match operand.small(source)? {
                Some(values) => operands.push(values.iter().map(|&value| value as f32).collect()),
                None => return Ok(None),
            }
        }
        let values = evaluate(&self.layer, operands).ok();
        Ok(values.map(|values| values.into_iter().map(f64::from).collect()))
    }
}

impl Constant {
    /// Number of operators that are computed to read it.
    pub(super) fn cost(&self) -> usize {
        match &self.data {
            Data::Computed(computed) => computed.cost,
            _ => 0,
        }
    }

    /// The longest chain of operators that compute it.
    pub(super) fn depth(&self) -> usize {
        match &self.data {
            Data::Computed(computed) => computed.depth,
            _ => 0,
        }
    }

    /// Whether the elements are integers or truth values.
    pub(super) fn is_whole(&self) -> bool {
        self.kind != Kind::Float
    }

    /// A vector of integers, such as a shape.
    pub(super) fn list(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Arc<[f64]> = values.into_iter().collect();
        Self { dims: vec![values.len()], kind: Kind::Whole, data: Data::Small(values) }
    }

    /// A tensor of the file with checked extents.
    pub(super) fn stored(tensor: Arc<TensorDef>) -> Self {
        let dims = tensor.dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect();
        let kind = Kind::of(tensor.dtype);
        Self { dims, kind, data: Data::Stored(tensor) }
    }

    /// The same elements with other extents.
    pub(super) fn reshaped(&self, dims: Vec<usize>) -> Self {
        Self { dims, kind: self.kind, data: self.data.clone() }
    }

    /// The same elements as a separate tensor. PyTorch stores tensors of equal value once, such as those of
    /// untrained layers, and adds an `Identity` for each of the others. These are separate parameters.
    pub(super) fn copied(&self) -> Self {
        let own = |tensor: &Arc<TensorDef>| Arc::new(TensorDef::clone(tensor));
        let data = match &self.data {
            Data::Stored(tensor) => Data::Stored(own(tensor)),
            Data::Transposed(tensor, columns) => Data::Transposed(own(tensor), *columns),
            other => other.clone(),
        };
        Self { dims: self.dims.clone(), kind: self.kind, data }
    }

    /// The transposed matrix.
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
        Self { dims: vec![columns, rows], kind: self.kind, data }
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// The elements, if they are few and known.
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
            Data::Computed(computed) => computed.small(source)?,
            Data::Transposed(..) | Data::Opaque(_) => None,
        })
    }

    /// The tensor of the file that holds the elements.
    pub(super) fn tensor(&self) -> Option<&Arc<TensorDef>> {
        match &self.data {
            Data::Stored(tensor) | Data::Transposed(tensor, _) => Some(tensor),
            _ => None,
        }
    }
}

/// Number of elements; `None` if there are more than [`MAX_RANK`] extents or the product overflows.
pub(super) fn checked_len(dims: &[usize]) -> Option<usize> {
    if dims.len() > MAX_RANK {
        return None;
    }
    // With a zero extent, the product of the others could still overflow in another order.
    let len = dims.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim.max(1)))?;
    (len <= isize::MAX as usize / 4).then_some(if dims.contains(&0) { 0 } else { len })
}
