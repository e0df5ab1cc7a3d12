//! Operators on tensors of any rank: what the layers of convolutional networks do not cover.

mod attention;
mod axes;
mod elementwise;
mod gather;
mod normalize;
mod product;
mod quantized;
mod recurrent;
mod reduce;
mod resize;
mod sample;
mod window;

use super::draft::Recipe;
use super::importer::Importer;
use super::node::{Call, Outcome, unsupported, wrong};
use super::value::{Computed, Constant, Data, Kind, Tap, Value, checked_len};
use crate::layer::{Layer, OPERANDS, Operand, Param, TensorLayer, TensorOp, role};
use crate::shape::{Shape, TensorShape};
use std::sync::Arc;

/// The reason for an operator of another name.
pub(super) const NOT_KNOWN: &str = "it is not known";
/// Maximum number of operators that compute a constant.
const MOST_COMPUTED: usize = 4096;
/// Maximum depth of operators that compute a constant.
const DEEPEST: usize = 64;

/// The results of a node, one for each output that has a name.
pub(super) type Results = Vec<Value>;

/// Imports a node whose operands are activations or constants.
pub(super) fn import<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Results> {
    if !matches!(call.def.domain.as_str(), "" | "ai.onnx") {
        return unsupported(format!("an operator of `{}`", call.def.domain));
    }
    let op = call.def.op.as_str();
    if let Some(Value::Constant(constant)) = call.input(0)
        && constant.dims.contains(&0)
    {
        return unsupported(format!("an empty tensor of {:?}", constant.dims));
    }
    if let Some(results) = elementwise::import(importer, call)? {
        return Ok(results);
    }
    if let Some(results) = axes::import(importer, call)? {
        return Ok(results);
    }
    if let Some(result) = gather::import(importer, call)? {
        return Ok(vec![result]);
    }
    Ok(vec![match op {
        "Attention" => return attention::import(importer, call),
        "MatMul" => product::matmul(importer, call)?,
        "Gemm" => product::gemm(importer, call)?,
        "Einsum" => product::einsum(importer, call)?,
        "Softmax" | "LogSoftmax" | "Hardmax" => reduce::softmax(importer, call)?,
        "ArgMax" | "ArgMin" => reduce::arg_extreme(importer, call)?,
        "CumSum" => reduce::cum_sum(importer, call)?,
        "TopK" => return reduce::top_k(importer, call),
        _ if op.starts_with("Reduce") => reduce::reduce(importer, call)?,
        "LayerNormalization" => return normalize::layer(importer, call),
        "RMSNormalization" => normalize::rms(importer, call)?,
        "InstanceNormalization" => normalize::instance(importer, call)?,
        "GroupNormalization" => normalize::group(importer, call)?,
        "BatchNormalization" => normalize::batch(importer, call)?,
        "MeanVarianceNormalization" => normalize::mean_variance(importer, call)?,
        "LpNormalization" => normalize::lp(importer, call)?,
        "LRN" => normalize::lrn(importer, call)?,
        "Conv" => window::conv(importer, call)?,
        "ConvTranspose" => window::transposed(importer, call)?,
        "MaxPool" | "AveragePool" | "LpPool" => return window::pool(importer, call),
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => window::global(importer, call)?,
        "Resize" | "Upsample" => resize::resize(importer, call)?,
        "GridSample" => sample::grid(importer, call)?,
        "DeformConv" => sample::deform(importer, call)?,
        "Col2Im" => sample::overlap(importer, call)?,
        "LSTM" | "GRU" | "RNN" => return recurrent::import(importer, call),
        "DequantizeLinear" | "QuantizeLinear" | "QLinearConv" | "QLinearMatMul" => {
            quantized::import(importer, call)?
        }
        "If" | "Loop" | "Scan" => {
            return unsupported(format!("control flow ({op}), whose branches are not followed"));
        }
        _ => return unsupported(NOT_KNOWN),
    }])
}

impl<'a> Importer<'a> {
    /// Adds an operator on tensors. If all operands are constants, so is the result, which is computed when it is read.
    pub(super) fn emit(&mut self, call: &Call<'a>, op: TensorOp, operands: &[Value]) -> Outcome<Value> {
        let dims = operand_dims(operands)?;
        match op.output(&dims) {
            Ok(output) => self.emit_as(call, op, operands, output),
            Err(problem) => wrong(format!("opset {}: {problem}", call.opset)),
        }
    }

    /// Adds an operator with these output extents.
    pub(super) fn emit_as(
        &mut self,
        call: &Call<'a>,
        op: TensorOp,
        operands: &[Value],
        dims: Vec<usize>,
    ) -> Outcome<Value> {
        let too_many = |dims: &[usize]| dims.len() > TensorShape::MAX_RANK;
        let operand_dims = operand_dims(operands)?;
        if too_many(&dims) || operand_dims.iter().any(|dims| too_many(dims)) {
            return unsupported(format!("more than {} axes", TensorShape::MAX_RANK));
        }
        if checked_len(&dims).is_none() {
            return wrong(format!("expected extents that can be addressed, got {dims:?}"));
        }
        if dims.contains(&0) || operand_dims.iter().any(|dims| dims.contains(&0)) {
            return unsupported(format!("an empty tensor of {dims:?}"));
        }
        let kind = op.kind(operands);
        if operands.iter().all(|operand| matches!(operand, Value::Constant(_))) {
            return self.computed(op, operands, (dims, kind));
        }
        let (mut steps, mut params, mut tensors) = (Vec::new(), Vec::new(), Vec::new());
        let mut list = Vec::new();
        for (index, operand) in operands.iter().enumerate() {
            list.push(match operand {
                Value::Tap(tap) => {
                    steps.push(self.exact(tap)?.step);
                    Operand::Input(steps.len() - 1)
                }
                Value::Constant(constant) => match scalar(call, &op, constant)? {
                    Some(number) => Operand::Number(number),
                    None => {
                        let Some(&name) = OPERANDS.get(params.len()) else {
                            return unsupported(format!("more than {} constant operands", OPERANDS.len()));
                        };
                        let role = if constant.kind == Kind::Float {
                            role(&op, index, &constant.dims)
                        } else {
                            crate::layer::Role::Fixed
                        };
                        params.push(Param { name, dims: constant.dims.clone(), role });
                        tensors.push((name, Recipe::from(constant)));
                        Operand::Param(params.len() - 1)
                    }
                },
                Value::Unknown(unknown) => return unsupported(unknown.reason()),
            });
        }
        let Some(output) = Shape::of(&dims, self.batch) else { return unsupported("too many axes") };
        let layer = Layer::Tensor(Box::new(TensorLayer { op, operands: list, params, output }));
        let step = self.push(call, layer, steps, tensors)?;
        Ok(Value::Tap(Tap { step, dims, kind }))
    }

    /// A constant that is the result of an operator on constants.
    fn computed(
        &mut self,
        op: TensorOp,
        operands: &[Value],
        (dims, kind): (Vec<usize>, Kind),
    ) -> Outcome<Value> {
        let (mut constants, mut params, mut list) = (Vec::new(), Vec::new(), Vec::new());
        for operand in operands {
            let Value::Constant(constant) = operand else { return unsupported("an activation") };
            let Some(&name) = OPERANDS.get(params.len()) else {
                return unsupported(format!("more than {} constant operands", OPERANDS.len()));
            };
            list.push(Operand::Param(params.len()));
            params.push(Param { name, dims: constant.dims.clone(), role: crate::layer::Role::Fixed });
            constants.push(constant.clone());
        }
        let Some(shape) = TensorShape::new(&dims) else { return unsupported("too many axes") };
        // An operand that is read twice is computed twice, so the operators are counted with repetitions.
        let cost = constants.iter().fold(1usize, |sum, constant| sum.saturating_add(constant.cost()));
        if cost > MOST_COMPUTED {
            return unsupported(format!("a constant that {cost} operators compute"));
        }
        let depth = 1 + constants.iter().map(Constant::depth).max().unwrap_or(0);
        if depth > DEEPEST {
            return unsupported(format!("a result of more than {DEEPEST} operators on constants"));
        }
        let layer = TensorLayer { op, operands: list, params, output: Shape::Tensor(shape) };
        let data = Data::Computed(Arc::new(Computed::new(layer, constants, (cost, depth))));
        Ok(Value::Constant(Constant { dims, kind, data }))
    }

    /// The same elements with other extents.
    pub(super) fn reshaped(&mut self, call: &Call<'a>, value: &Value, dims: Vec<usize>) -> Outcome<Value> {
        match value {
            Value::Constant(constant) => Ok(Value::Constant(constant.reshaped(dims))),
            Value::Tap(tap) => {
                let same = Shape::of(&dims, self.batch) == Some(self.draft.steps[tap.step].output);
                match same {
                    true => Ok(Value::Tap(Tap { dims, ..tap.clone() })),
                    false => self.emit_as(call, TensorOp::Reshape, std::slice::from_ref(value), dims),
                }
            }
            Value::Unknown(unknown) => unsupported(unknown.reason()),
        }
    }
}

/// The value of an output that nobody reads, so that it is not computed.
fn unread() -> Value {
    let data = Data::Opaque("an output that nobody reads".to_owned());
    Value::Constant(Constant { dims: Vec::new(), kind: Kind::Float, data })
}

/// The extents of each operand.
pub(super) fn operand_dims(operands: &[Value]) -> Outcome<Vec<Vec<usize>>> {
    let dims = |operand: &Value| match operand {
        Value::Tap(Tap { dims, .. }) | Value::Constant(Constant { dims, .. }) => Ok(dims.clone()),
        Value::Unknown(unknown) => unsupported(unknown.reason()),
    };
    operands.iter().map(dims).collect()
}

/// The extents of a required operand.
fn dims_of(call: &Call<'_>, index: usize) -> Outcome<Vec<usize>> {
    Ok(operand_dims(std::slice::from_ref(call.value(index)?))?.swap_remove(0))
}

/// A constant scalar as an operand of functions that broadcast. Operators that look at extents keep their tensors.
fn scalar(call: &Call<'_>, op: &TensorOp, constant: &Constant) -> Outcome<Option<f32>> {
    if let (Data::Fill(value), []) = (&constant.data, constant.dims.as_slice()) {
        return Ok(Some(*value as f32));
    }
    if constant.len() != 1 || !matches!(op, TensorOp::Zip(_) | TensorOp::Where) {
        return Ok(None);
    }
    Ok(constant.small(call.source)?.map(|values| values[0] as f32))
}

impl TensorOp {
    /// The kind of the elements that an operator computes from these operands.
    fn kind(&self, operands: &[Value]) -> Kind {
        use crate::layer::{Binary, PoolOp, Unary};
        let of = |index: usize| operands.get(index).map_or(Kind::Float, Value::kind);
        match self {
            Self::Map(Unary::Not | Unary::IsNan | Unary::IsInf { .. } | Unary::Truth) => Kind::Truth,
            Self::Map(Unary::Trunc) | Self::ArgExtreme { .. } | Self::TopK { indices: true, .. } => {
                Kind::Whole
            }
            Self::Pool { kind: PoolOp::MaxPlace { .. }, .. } => Kind::Whole,
            Self::Zip(
                Binary::Equal
                | Binary::Less
                | Binary::LessOrEqual
                | Binary::Greater
                | Binary::GreaterOrEqual
                | Binary::And
                | Binary::Or
                | Binary::Xor,
            ) => Kind::Truth,
            Self::Where | Self::OneHot { .. } => of(1),
            _ => of(0),
        }
    }
}
