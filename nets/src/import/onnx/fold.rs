//! Constant folding: shape computations of exporters, and weights that are computed rather than stored.

use super::array::{Array, broadcast};
use super::broadcast::second_operand;
use super::dims::{new_dims, permutation, positive, slice_ranges};
use super::node::{Call, Outcome, no_training, unsupported, wrong};
use super::proto::AttributeValue;
use super::tensor::dtype;
use super::value::{Constant, Data, FOLD_LIMIT, Kind, Value};
use std::sync::Arc;

/// Maximum number of elements computed per import, which bounds the work for a hostile model.
const BUDGET: usize = 1 << 22;

/// Evaluates operators on constants, within limits.
#[derive(Debug)]
pub(super) struct Folder {
    budget: usize,
}

impl Default for Folder {
    fn default() -> Self {
        Self { budget: BUDGET }
    }
}

impl Folder {
    /// The result of a node that depends on no activation, or only on the extents of activations. Returns
    /// `None` for other nodes.
    pub(super) fn fold(&mut self, call: &Call<'_>) -> Outcome<Option<Constant>> {
        match call.def.op.as_str() {
            "Constant" => return literal(call).map(Some),
            "Shape" => return shape(call).map(Some),
            "Size" => return Ok(Some(size(call)?)),
            _ => {}
        }
        let flows = |input: &Option<Value>| matches!(input, Some(Value::Tap(_) | Value::Unknown(_)));
        if call.inputs.iter().any(flows) || call.inputs.is_empty() {
            return Ok(None);
        }
        if let Some(view) = view(call)? {
            return Ok(Some(view));
        }
        self.compute(call).map(Some)
    }

    fn compute(&mut self, call: &Call<'_>) -> Outcome<Constant> {
        let mut arrays = Vec::new();
        for index in 0..call.inputs.len() {
            match call.constant(index)? {
                None => arrays.push(None),
                Some(constant) => match self.array(call, constant)? {
                    Some(array) => arrays.push(Some(array)),
                    None => return opaque(call),
                },
            }
        }
        let result = small(call, &arrays)?;
        match result {
            Some(array) => {
                self.charge(array.values.len())?;
                Ok(array.into())
            }
            None => opaque(call),
        }
    }

    fn array(&mut self, call: &Call<'_>, constant: &Constant) -> Outcome<Option<Array>> {
        if constant.len() <= FOLD_LIMIT {
            self.charge(constant.len() + 16)?;
        }
        let values = constant.small(call.source)?;
        Ok(values.map(|values| Array { dims: constant.dims.clone(), whole: constant.is_whole(), values }))
    }

    fn charge(&mut self, elements: usize) -> Outcome<()> {
        match self.budget.checked_sub(elements) {
            Some(left) => self.budget = left,
            None => {
                return wrong(format!("expected at most {BUDGET} numbers in constants of shapes, got more"));
            }
        }
        Ok(())
    }
}

/// Evaluates `Constant`.
fn literal(call: &Call<'_>) -> Outcome<Constant> {
    let names = ["value", "value_float", "value_int", "value_floats", "value_ints"];
    match call.any(&names) {
        Some(AttributeValue::Tensor(tensor)) => {
            tensor.check(call.source)?;
            Ok(Constant::stored(Arc::new(tensor.clone())))
        }
        Some(&AttributeValue::Float(value)) => {
            Ok(Constant { dims: Vec::new(), kind: Kind::Float, data: Data::Fill(value.into()) })
        }
        Some(&AttributeValue::Int(value)) => {
            Ok(Constant { dims: Vec::new(), kind: Kind::Whole, data: Data::Fill(value as f64) })
        }
        Some(AttributeValue::Ints(values)) => Ok(Constant::list(values.iter().map(|&value| value as f64))),
        Some(AttributeValue::Floats(values)) => {
            let list = Constant::list(values.iter().map(|&value| value.into()));
            Ok(Constant { kind: Kind::Float, ..list })
        }
        Some(AttributeValue::Text(_) | AttributeValue::Texts(_) | AttributeValue::Other) => {
            unsupported("a constant of this type")
        }
        None => wrong(format!("expected one of the attributes {names:?}, got none")),
    }
}

/// Evaluates `Shape`. Newer opsets can take a range of axes.
fn shape(call: &Call<'_>) -> Outcome<Constant> {
    let dims = dims_of(call)?;
    let rank = dims.len() as i64;
    let place =
        |value: i64| (if value < 0 { value.saturating_add(rank) } else { value }).clamp(0, rank) as usize;
    let (start, end) = (place(call.int("start")?.unwrap_or(0)), place(call.int("end")?.unwrap_or(rank)));
    Ok(Constant::list(dims[start..end.max(start)].iter().map(|&dim| dim as f64)))
}

fn size(call: &Call<'_>) -> Outcome<Constant> {
    let len: f64 = dims_of(call)?.iter().map(|&dim| dim as f64).product();
    Ok(Constant { dims: Vec::new(), kind: Kind::Whole, data: Data::Fill(len) })
}

fn dims_of<'a>(call: &'a Call<'_>) -> Outcome<&'a [usize]> {
    call.value(0)?.dims().map_or_else(|| unsupported("extents that are not known"), Ok)
}

/// Evaluates operators that keep the order of the elements. The elements need not be read, so weights stay in
/// their file.
fn view(call: &Call<'_>) -> Outcome<Option<Constant>> {
    Ok(match call.def.op.as_str() {
        "Identity" => Some(call.weight(0)?.copied()),
        "Dropout" => {
            no_training(call)?;
            Some(call.weight(0)?.clone())
        }
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
            let constant = call.weight(0)?;
            Some(constant.reshaped(new_dims(call, &constant.dims)?))
        }
        "Cast" => {
            let (constant, to) = (call.weight(0)?, call.int("to")?.unwrap_or(1));
            let is_same = match to {
                dtype::BOOL => constant.kind == Kind::Truth,
                _ => constant.is_whole() != dtype::is_float(to),
            };
            is_same.then(|| constant.clone())
        }
        "ConstantOfShape" => Some(filled(call)?),
        "Transpose" => transposed(call, call.weight(0)?)?,
        _ => None,
    })
}

/// Evaluates `ConstantOfShape`.
fn filled(call: &Call<'_>) -> Outcome<Constant> {
    let Some(shape) = call.numbers(0)? else { return wrong("expected a shape as input, got none") };
    let dims = positive(&shape)?;
    let (value, whole) = match call.any(&["value"]) {
        None => (0.0, false),
        Some(AttributeValue::Tensor(tensor)) => {
            tensor.check(call.source)?;
            let constant = Constant::stored(Arc::new(tensor.clone()));
            match constant.small(call.source)?.as_deref() {
                Some(&[value]) => (value, constant.is_whole()),
                Some(values) => {
                    return wrong(format!("expected one number as `value`, got {}", values.len()));
                }
                None => return unsupported("a `value` of this type"),
            }
        }
        Some(_) => return wrong("expected a tensor as attribute `value`, got something else"),
    };
    Ok(Constant { dims, kind: Kind::whole(whole), data: Data::Fill(value) })
}

/// Transposes a constant. A matrix in the file is transposed only when it is read.
fn transposed(call: &Call<'_>, constant: &Constant) -> Outcome<Option<Constant>> {
    let order = permutation(call, constant.dims.len())?;
    let dims: Vec<usize> = order.iter().map(|&axis| constant.dims[axis]).collect();
    if order.is_sorted() {
        return Ok(Some(constant.clone()));
    }
    Ok(match (&constant.data, dims.len()) {
        (Data::Fill(_), _) => Some(constant.reshaped(dims)),
        (Data::Stored(_) | Data::Transposed(..), 2) => Some(constant.turned()),
        _ => None,
    })
}

/// Evaluates an operator on small arrays; `None` if it is not supported here.
fn small(call: &Call<'_>, arrays: &[Option<Array>]) -> Outcome<Option<Array>> {
    let given: Vec<&Array> = arrays.iter().flatten().collect();
    let Some(&first) = given.first() else { return Ok(None) };
    let op = call.def.op.as_str();
    Ok(Some(match (op, given.as_slice()) {
        ("Concat", _) => Array::concat(&given, call.int("axis")?.unwrap_or(1))?,
        ("Gather", [data, indices]) => data.gather(indices, call.int("axis")?.unwrap_or(0))?,
        ("Slice", _) => first.slice(&slice_ranges(call, &first.dims)?)?,
        ("Transpose", _) => first.transpose(&permutation(call, first.dims.len())?)?,
        ("Expand", [data, shape]) => data.expand(&positive(&shape.values)?)?,
        ("Cast", _) => match call.int("to")? {
            Some(to) if dtype::is_float(to) => first.map(false, |x| x),
            Some(9) => first.map(true, |x| f64::from(x != 0.0)),
            _ => first.map(true, f64::trunc),
        },
        ("Where", &[_, yes, _]) => Array::zip(&given, yes.whole, |x| if x[0] != 0.0 { x[1] } else { x[2] })?,
        ("ReduceProd", [data, ..]) if data.dims.len() <= 1 && !call.flag("noop_with_empty_axes")? => {
            let values = [data.values.iter().product()];
            let keep = call.int("keepdims")?.unwrap_or(1) != 0;
            Array {
                dims: vec![1; if keep { data.dims.len() } else { 0 }],
                whole: data.whole,
                values: values.into(),
            }
        }
        ("Range", [start, limit, step]) => range(&start.values, &limit.values, &step.values, start.whole)?,
        (_, [one]) => match unary(op) {
            Some(function) => one.map(one.whole, function),
            None => return Ok(None),
        },
        (_, [a, b]) => match binary(call, a.whole)? {
            Some(function) => {
                let b = Array { dims: second_operand(call, &a.dims, &b.dims)?, ..(*b).clone() };
                Array::zip(&[a, &b], a.whole && b.whole, |x| function(x[0], x[1]))?
            }
            None => return Ok(None),
        },
        _ => return Ok(None),
    }))
}

fn unary(op: &str) -> Option<fn(f64) -> f64> {
    Some(match op {
        "Neg" => |x| -x,
        "Abs" => f64::abs,
        "Floor" => f64::floor,
        "Ceil" => f64::ceil,
        "Sqrt" => f64::sqrt,
        "Not" => |x| f64::from(x == 0.0),
        _ => return None,
    })
}

/// A function of two numbers.
type Function = fn(f64, f64) -> f64;

fn binary(call: &Call<'_>, whole: bool) -> Outcome<Option<Function>> {
    Ok(Some(match call.def.op.as_str() {
        "Add" => |a, b| a + b,
        "Sub" => |a, b| a - b,
        "Mul" => |a, b| a * b,
        "Div" if whole => |a, b| (a / b).trunc(),
        "Div" => |a, b| a / b,
        "Mod" if call.flag("fmod")? => |a, b| a % b,
        "Mod" => |a, b| a - (a / b).floor() * b,
        "Pow" => f64::powf,
        "Min" => f64::min,
        "Max" => f64::max,
        "Equal" => |a, b| f64::from(a == b),
        "Less" => |a, b| f64::from(a < b),
        "Greater" => |a, b| f64::from(a > b),
        _ => return Ok(None),
    }))
}

fn range(start: &[f64], limit: &[f64], step: &[f64], whole: bool) -> Outcome<Array> {
    let (&[start], &[limit], &[step]) = (start, limit, step) else {
        return wrong("expected three numbers as inputs, got lists");
    };
    let count = ((limit - start) / step).ceil();
    if !(0.0..=FOLD_LIMIT as f64).contains(&count) {
        return unsupported(format!("a range of {count} numbers"));
    }
    let values: Arc<[f64]> = (0..count as usize).map(|i| start + i as f64 * step).collect();
    Ok(Array { dims: vec![values.len()], whole, values })
}

/// The result of an operator on constants that are too large to compute with. Only its extents are known.
fn opaque(call: &Call<'_>) -> Outcome<Constant> {
    let mut shapes = Vec::new();
    for index in 0..call.inputs.len() {
        shapes.extend(call.constant(index)?.map(|constant| constant.dims.as_slice()));
    }
    let op = call.def.op.as_str();
    let elementwise =
        ["Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Neg", "Exp", "Cast", "Clip", "DequantizeLinear"];
    let data = Data::Opaque(format!("the result of operator {op} on constants"));
    match op {
        "Transpose" => {
            let order = permutation(call, shapes[0].len())?;
            Ok(Constant {
                dims: order.iter().map(|&axis| shapes[0][axis]).collect(),
                kind: Kind::Float,
                data,
            })
        }
        "DequantizeLinear" => Ok(Constant { dims: shapes[0].to_vec(), kind: Kind::Float, data }),
        _ if elementwise.contains(&op) => Ok(Constant { dims: broadcast(&shapes)?, kind: Kind::Float, data }),
        _ => unsupported("a constant that has to be computed"),
    }
}
