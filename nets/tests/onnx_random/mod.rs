//! Random ONNX graphs, drawn from arbitrary bytes, and their values in `f64`, computed by plain loops from the
//! definitions of the operators. The importer and the kernels must agree with them.
//!
//! The crate that includes this folder also has `nets/tests/model` as the module `model`.
#![allow(dead_code)] // each crate uses a part

pub mod binary;
pub mod borders;
pub mod check;
mod dump;
pub mod functions;
pub mod gather;
pub mod index;
pub mod normalize;
pub mod products;
pub mod recurrent;
pub mod reductions;
pub mod resize;
pub mod shapes;
pub mod windows;

pub use index::{Walk, broadcast, offset_in, strides};

use arbitrary::{Result, Unstructured};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

/// Maximum elements of a value.
pub const MOST: usize = 4000;
/// Values beyond this are compared, but no operator reads them: rounding errors would grow with them.
const TAME: f64 = 64.0;
/// Exact values are multiples of this.
const GRID: f64 = 1.0 / 4096.0;
/// Maximum axes of a tensor in `nets`.
pub const MOST_AXES: usize = 6;

/// What the elements of a value are in ONNX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `float`.
    Float,
    /// `int64`.
    Whole,
    /// `bool`, as 0 and 1.
    Truth,
}

/// A tensor, row-major.
#[derive(Clone, Debug)]
pub struct Value {
    pub dims: Vec<usize>,
    pub data: Vec<f64>,
    /// Whether `f32` arithmetic gives exactly these numbers. Only then can a function with jumps read them.
    pub exact: bool,
    pub kind: Kind,
}

impl Value {
    /// Floats with rounding errors.
    pub fn new(dims: Vec<usize>, data: Vec<f64>) -> Self {
        assert_eq!(dims.iter().product::<usize>(), data.len(), "{dims:?}");
        Self { dims, data, exact: false, kind: Kind::Float }
    }

    /// The same, of an operator that does not round on a coarse grid. [`Draw::node`] checks the operands and the grid.
    pub fn exact(self) -> Self {
        Self { exact: true, ..self }
    }

    pub fn kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether all elements fit.
    pub fn all(&self, fits: impl Fn(f64) -> bool) -> bool {
        self.data.iter().all(|&x| fits(x))
    }

    fn is_tame(&self) -> bool {
        self.all(|x| x.abs() <= TAME)
    }

    fn is_on_grid(&self) -> bool {
        self.all(|x| x.abs() <= 4.0 * TAME && (x / GRID).fract() == 0.0)
    }
}

/// The number of a value of the graph.
pub type Id = usize;

/// The value of an attribute.
#[derive(Clone, Debug)]
pub enum Attr {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Text(&'static str),
}

/// Draws one operator, or nothing if no value fits.
pub type DrawOp = fn(&mut Draw<'_, '_>) -> Result<()>;

/// The tables of operators.
pub const OPS: &[&[(&str, DrawOp)]] = &[
    functions::OPS,
    binary::OPS,
    shapes::OPS,
    borders::OPS,
    gather::OPS,
    reductions::OPS,
    normalize::OPS,
    products::OPS,
    recurrent::OPS,
    windows::OPS,
    resize::OPS,
];

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Input,
    Constant,
    /// Of constants alone.
    Folded,
    /// Of an input, among others.
    Computed,
}

/// A node of the graph.
#[derive(Clone, Debug)]
pub struct Node {
    pub op: &'static str,
    pub inputs: Vec<Option<Id>>,
    pub outputs: Vec<Id>,
    pub attrs: Vec<(&'static str, Attr)>,
}

/// A graph under construction.
pub struct Draw<'a, 'b> {
    pub u: &'a mut Unstructured<'b>,
    pub opset: i64,
    values: Vec<(Origin, Value)>,
    nodes: Vec<Node>,
}

impl<'a, 'b> Draw<'a, 'b> {
    /// A graph with one or two inputs.
    pub fn new(u: &'a mut Unstructured<'b>) -> Result<Self> {
        let opset = *u.choose(&[11, 13, 17, 18, 20, 21])?;
        let mut draw = Self { u, opset, values: Vec::new(), nodes: Vec::new() };
        for _ in 0..1 + draw.below(2)? {
            let dims = draw.dims()?;
            let data = draw.numbers(&dims, -4.0, 4.0, true)?;
            draw.values.push((Origin::Input, Value::new(dims, data).exact()));
        }
        Ok(draw)
    }

    /// One to five small extents. Channels can fill blocks of 16.
    fn dims(&mut self) -> Result<Vec<usize>> {
        let rank = 1 + self.below(5)?;
        let mut dims = Vec::new();
        for axis in 0..rank {
            let extent = match (axis, self.below(4)?) {
                (1, 0) => *self.u.choose(&[16, 17, 32])?,
                _ => 1 + self.below(6)?,
            };
            dims.push(extent);
        }
        while dims.iter().product::<usize>() > MOST / 2 {
            let largest = (0..rank).max_by_key(|&axis| dims[axis]).unwrap_or(0);
            dims[largest] = dims[largest].div_ceil(2);
        }
        Ok(dims)
    }

    /// Elements from one seed, so that few bytes make large tensors. `coarse` are multiples of a quarter.
    fn numbers(&mut self, dims: &[usize], low: f64, high: f64, coarse: bool) -> Result<Vec<f64>> {
        let mut rng = Pcg64::new(self.u.arbitrary::<u32>()?.into(), 1);
        let mut number = || {
            let x = low + (high - low) * f64::from(rng.next_u32()) / f64::from(u32::MAX);
            match coarse {
                true => ((x * 4.0).round() / 4.0).clamp((low * 4.0).ceil() / 4.0, (high * 4.0).floor() / 4.0),
                false => f64::from(x as f32),
            }
        };
        Ok((0..dims.iter().product()).map(|_| number()).collect())
    }

    pub fn value(&self, id: Id) -> &Value {
        &self.values[id].1
    }

    /// A number from 0 to below `end`, all with the same probability.
    pub fn below(&mut self, end: usize) -> Result<usize> {
        self.u.int_in_range(0..=end.max(1) - 1)
    }

    /// Whether something happens that does so once in `times` graphs.
    pub fn once_in(&mut self, times: usize) -> Result<bool> {
        Ok(self.below(times)? == times - 1)
    }

    /// A value of floats that depends on an input and fits. Later values are preferred.
    pub fn pick(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Option<Id>> {
        self.pick_kind(Kind::Float, wanted)
    }

    /// [`pick`](Self::pick) for another kind of elements.
    pub fn pick_kind(&mut self, kind: Kind, wanted: impl Fn(&Value) -> bool) -> Result<Option<Id>> {
        let fits = |(origin, value): &(Origin, Value)| {
            matches!(origin, Origin::Input | Origin::Computed)
                && value.kind == kind
                && value.is_tame()
                && wanted(value)
        };
        let ids: Vec<Id> = (0..self.values.len()).filter(|&id| fits(&self.values[id])).collect();
        Ok(match ids.last() {
            None => None,
            Some(&last) if !self.once_in(3)? => Some(last),
            Some(_) => Some(ids[self.below(ids.len())?]),
        })
    }

    /// A tensor of floats from `low` to `high`. Half of them are multiples of a quarter if the range has enough of these.
    pub fn constant(&mut self, dims: &[usize], low: f64, high: f64) -> Result<Id> {
        let coarse = high - low >= 1.0 && self.once_in(2)?;
        let data = self.numbers(dims, low, high, coarse)?;
        let value = Value { exact: coarse, ..Value::new(dims.to_vec(), data) };
        Ok(self.fixed(value))
    }

    /// A tensor of these numbers, which must be `f32` numbers.
    pub fn fixed(&mut self, value: Value) -> Id {
        assert!(value.all(|x| f64::from(x as f32) == x || x.is_nan()), "{value:?}");
        self.values.push((Origin::Constant, value));
        self.values.len() - 1
    }

    /// A vector of floats.
    pub fn floats(&mut self, values: &[f32]) -> Id {
        let data = values.iter().map(|&value| f64::from(value)).collect();
        self.fixed(Value::new(vec![values.len()], data).exact())
    }

    /// A vector of `int64`.
    pub fn ints(&mut self, values: &[i64]) -> Id {
        self.ints_of(&[values.len()], values)
    }

    /// A tensor of `int64`.
    pub fn ints_of(&mut self, dims: &[usize], values: &[i64]) -> Id {
        let data = values.iter().map(|&value| value as f64).collect();
        self.fixed(Value::new(dims.to_vec(), data).exact().kind(Kind::Whole))
    }

    /// Numbers that are an input since an opset, and an attribute before.
    pub fn list(
        &mut self,
        (name, since): (&'static str, i64),
        values: &[i64],
        (inputs, attrs): (&mut Vec<Option<Id>>, &mut Vec<(&'static str, Attr)>),
    ) {
        if self.opset >= since {
            inputs.push(Some(self.ints(values)));
        } else {
            attrs.push((name, Attr::Ints(values.to_vec())));
        }
    }

    /// Adds a node with one output.
    pub fn node(
        &mut self,
        op: &'static str,
        inputs: &[Option<Id>],
        attrs: &[(&'static str, Attr)],
        output: Value,
    ) -> Id {
        self.node_many(op, inputs, attrs, vec![output])[0]
    }

    /// Adds a node with several outputs.
    pub fn node_many(
        &mut self,
        op: &'static str,
        inputs: &[Option<Id>],
        attrs: &[(&'static str, Attr)],
        outputs: Vec<Value>,
    ) -> Vec<Id> {
        let exact = inputs.iter().flatten().all(|&id| self.value(id).exact);
        let from = |id: &Id| !matches!(self.values[*id].0, Origin::Constant | Origin::Folded);
        let origin = if inputs.iter().flatten().any(from) { Origin::Computed } else { Origin::Folded };
        let mut ids = Vec::new();
        for output in outputs {
            let exact = exact && output.exact && output.is_on_grid();
            self.values.push((origin, Value { exact, ..output }));
            ids.push(self.values.len() - 1);
        }
        let (inputs, attrs) = (inputs.to_vec(), attrs.to_vec());
        self.nodes.push(Node { op, inputs, outputs: ids.clone(), attrs });
        ids
    }

    /// An axis of `rank`, also as ONNX may write it: counted from the end.
    pub fn axis(&mut self, rank: usize) -> Result<(usize, i64)> {
        let axis = self.below(rank)?;
        let written = if self.once_in(2)? { axis as i64 } else { axis as i64 - rank as i64 };
        Ok((axis, written))
    }

    /// The values that no node reads.
    pub fn leaves(&self) -> Vec<Id> {
        let read = |id: Id| self.nodes.iter().any(|node| node.inputs.contains(&Some(id)));
        let computed = |id: Id| self.values[id].0 == Origin::Computed;
        (0..self.values.len()).filter(|&id| computed(id) && !read(id)).collect()
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}

/// Draws a graph of up to six operators. `only` fixes the first one, by its place in the tables.
pub fn graph<'a, 'b>(u: &'a mut Unstructured<'b>, only: Option<(usize, usize)>) -> Result<Draw<'a, 'b>> {
    let mut draw = Draw::new(u)?;
    let wanted = 1 + draw.below(6)?;
    if let Some((table, row)) = only {
        OPS[table][row].1(&mut draw)?;
    }
    for _ in 0..4 * wanted {
        if draw.nodes.len() >= wanted {
            break;
        }
        let table = OPS[draw.below(OPS.len())?];
        if !table.is_empty() {
            let (_, op) = table[draw.below(table.len())?];
            op(&mut draw)?;
        }
    }
    Ok(draw)
}
