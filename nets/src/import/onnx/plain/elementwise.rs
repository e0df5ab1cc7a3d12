//! Functions of each element, alone or with broadcasting.

use super::super::broadcast::second_operand;
use super::super::importer::Importer;
use super::super::node::{Call, Outcome, no_training, unsupported, wrong};
use super::super::tensor::{dtype, type_name};
use super::super::value::{Constant, Data, Kind, Value};
use super::{Results, operand_dims};
use crate::layer::{Binary, TensorOp, Unary};

/// The result of a node of this family; `None` for another node.
pub(super) fn import<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Option<Results>> {
    let op = call.def.op.as_str();
    let operands = || call.inputs.iter().flatten().cloned().collect::<Vec<Value>>();
    if let Some(function) = unary(call)? {
        return Ok(Some(vec![importer.emit(call, TensorOp::Map(function), &[call.value(0)?.clone()])?]));
    }
    Ok(Some(vec![match op {
        "Identity" => call.value(0)?.clone(),
        "Dropout" => {
            no_training(call)?;
            return dropout(call).map(Some);
        }
        "Cast" => cast(importer, call)?,
        "CastLike" => {
            let like = call.value(1)?.kind();
            convert(importer, call, like)?
        }
        "Clip" => clip(importer, call)?,
        "PRelu" => prelu(importer, call)?,
        "Where" => {
            let operands = [call.value(0)?.clone(), call.value(1)?.clone(), call.value(2)?.clone()];
            importer.emit(call, TensorOp::Where, &operands)?
        }
        "Sum" | "Max" | "Min" if call.inputs.len() == 1 => call.value(0)?.clone(),
        "Mean" => {
            let operands = operands();
            let count = operands.len();
            let sum = match count {
                1 => operands[0].clone(),
                _ => importer.emit(call, TensorOp::Zip(Binary::Add), &operands)?,
            };
            let mean = Unary::Linear { scale: 1.0 / count as f32, shift: 0.0 };
            importer.emit(call, TensorOp::Map(mean), &[sum])?
        }
        "Swish" => {
            let alpha = call.float("alpha", 1.0)?;
            importer.emit(call, TensorOp::Map(Unary::Swish { alpha }), &[call.value(0)?.clone()])?
        }
        _ => match binary(call)? {
            Some(function) => {
                let operands = aligned(call, operands())?;
                importer.emit(call, TensorOp::Zip(function), &operands)?
            }
            None => return Ok(None),
        },
    }]))
}

/// The input, and a mask that keeps every element.
fn dropout(call: &Call<'_>) -> Outcome<Results> {
    let dims = operand_dims(std::slice::from_ref(call.value(0)?))?.swap_remove(0);
    let kind = if call.opset < 10 { Kind::Float } else { Kind::Truth };
    let mask = Constant { dims, kind, data: Data::Fill(1.0) };
    Ok(vec![call.value(0)?.clone(), Value::Constant(mask)])
}

fn unary(call: &Call<'_>) -> Outcome<Option<Unary>> {
    Ok(Some(match call.def.op.as_str() {
        "Abs" => Unary::Abs,
        "Acos" => Unary::Acos,
        "Acosh" => Unary::Acosh,
        "Asin" => Unary::Asin,
        "Asinh" => Unary::Asinh,
        "Atan" => Unary::Atan,
        "Atanh" => Unary::Atanh,
        "Ceil" => Unary::Ceil,
        "Cos" => Unary::Cos,
        "Cosh" => Unary::Cosh,
        "Erf" => Unary::Erf,
        "Exp" => Unary::Exp,
        "Floor" => Unary::Floor,
        "IsNaN" => Unary::IsNan,
        "Log" => Unary::Log,
        "Mish" => Unary::Mish,
        "Neg" => Unary::Neg,
        "Not" => Unary::Not,
        "Reciprocal" => Unary::Reciprocal,
        "Relu" => Unary::Relu,
        "Round" => Unary::Round,
        "Sigmoid" => Unary::Sigmoid,
        "Sign" => Unary::Sign,
        "Sin" => Unary::Sin,
        "Sinh" => Unary::Sinh,
        "Softplus" => Unary::Softplus,
        "Softsign" => Unary::Softsign,
        "Sqrt" => Unary::Sqrt,
        "Tan" => Unary::Tan,
        "Tanh" => Unary::Tanh,
        "Celu" => Unary::Celu { alpha: call.float("alpha", 1.0)? },
        "Elu" => Unary::Elu { alpha: call.float("alpha", 1.0)? },
        "Gelu" => match call.text("approximate")? {
            None | Some("none") => Unary::Gelu,
            Some("tanh") => Unary::GeluTanh,
            Some(other) => return wrong(format!("expected none or tanh as `approximate`, got `{other}`")),
        },
        "HardSigmoid" => {
            Unary::HardSigmoid { alpha: call.float("alpha", 0.2)?, beta: call.float("beta", 0.5)? }
        }
        "HardSwish" => Unary::HardSwish,
        "IsInf" => Unary::IsInf {
            negative: call.int("detect_negative")?.unwrap_or(1) != 0,
            positive: call.int("detect_positive")?.unwrap_or(1) != 0,
        },
        "LeakyRelu" => Unary::LeakyRelu { alpha: call.float("alpha", 0.01)? },
        "Selu" => {
            Unary::Selu { alpha: call.float("alpha", 1.673_263_2)?, gamma: call.float("gamma", 1.050_701)? }
        }
        "Shrink" => Unary::Shrink { bias: call.float("bias", 0.0)?, lambd: call.float("lambd", 0.5)? },
        "ThresholdedRelu" => Unary::ThresholdedRelu { alpha: call.float("alpha", 1.0)? },
        _ => return Ok(None),
    }))
}

fn binary(call: &Call<'_>) -> Outcome<Option<Binary>> {
    let whole = call.inputs.iter().flatten().all(|input| input.kind() != Kind::Float);
    Ok(Some(match call.def.op.as_str() {
        "Add" | "Sum" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" if whole => Binary::DivWhole,
        "Div" => Binary::Div,
        "Pow" => Binary::Pow,
        "Min" => Binary::Min,
        "Max" => Binary::Max,
        "Mod" if call.flag("fmod")? => Binary::Fmod,
        "Mod" => Binary::Mod,
        "Equal" => Binary::Equal,
        "Less" => Binary::Less,
        "LessOrEqual" => Binary::LessOrEqual,
        "Greater" => Binary::Greater,
        "GreaterOrEqual" => Binary::GreaterOrEqual,
        "And" => Binary::And,
        "Or" => Binary::Or,
        "Xor" => Binary::Xor,
        _ => return Ok(None),
    }))
}

/// The operands with the extents that the opset broadcasts them with. Up to opset 6 attributes say where the second
/// operand lies in the first.
fn aligned(call: &Call<'_>, mut operands: Vec<Value>) -> Outcome<Vec<Value>> {
    if call.opset >= 7 || operands.len() != 2 {
        return Ok(operands);
    }
    let dims = operand_dims(&operands)?;
    let laid = second_operand(call, &dims[0], &dims[1])?;
    if laid == dims[1] {
        return Ok(operands);
    }
    match &operands[1] {
        Value::Constant(constant) => operands[1] = Value::Constant(constant.reshaped(laid)),
        _ => return unsupported(format!("opset {}: a second operand that is an activation", call.opset)),
    }
    Ok(operands)
}

fn cast<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let to = call.int("to")?.unwrap_or(dtype::FLOAT);
    match to {
        dtype::FLOAT | dtype::DOUBLE => convert(importer, call, Kind::Float),
        dtype::INT32 | dtype::INT64 => convert(importer, call, Kind::Whole),
        dtype::BOOL => convert(importer, call, Kind::Truth),
        _ => unsupported(format!("a conversion to {}", type_name(to))),
    }
}

/// Converts to another kind of elements.
fn convert<'a>(importer: &mut Importer<'a>, call: &Call<'a>, to: Kind) -> Outcome<Value> {
    let value = call.value(0)?.clone();
    let function = match (value.kind(), to) {
        (from, to) if from == to => return Ok(value),
        (_, Kind::Truth) => Unary::Truth,
        (Kind::Float, Kind::Whole) => Unary::Trunc,
        // Numbers stay what they are.
        (_, to) => {
            return Ok(match value {
                Value::Tap(tap) => Value::Tap(super::Tap { kind: to, ..tap }),
                Value::Constant(constant) => Value::Constant(Constant { kind: to, ..constant }),
                unknown @ Value::Unknown(_) => unknown,
            });
        }
    };
    importer.emit(call, TensorOp::Map(function), &[value])
}

/// Limits are attributes up to opset 10, and inputs since. They can be activations.
fn clip<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let mut value = call.value(0)?.clone();
    let limits = [("min", 1, Binary::Max, f32::MIN), ("max", 2, Binary::Min, f32::MAX)];
    for (name, index, function, none) in limits {
        let attribute = call.opset < 11 || call.has(name);
        let limit = match call.input(index).filter(|_| !attribute) {
            Some(limit) => limit.clone(),
            // Without a limit the elements stay, but infinity becomes the largest number.
            None if value.kind() != Kind::Float => continue,
            None => {
                let number = if attribute { call.float(name, none)? } else { none };
                let data = Data::Fill(number.into());
                Value::Constant(Constant { dims: Vec::new(), kind: Kind::Float, data })
            }
        };
        value = importer.emit(call, TensorOp::Zip(function), &[value, limit])?;
    }
    Ok(value)
}

/// Slopes are broadcast to the input. Up to opset 6 they have one number for each channel, whatever their extents.
fn prelu<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let (value, slope) = (call.value(0)?.clone(), call.value(1)?.clone());
    let dims = operand_dims(&[value.clone(), slope.clone()])?;
    let len: usize = dims[1].iter().product();
    let slope = match &slope {
        _ if call.opset >= 7 || len == 1 => slope,
        Value::Constant(constant) if dims[0].get(1) == Some(&len) => {
            let laid = [vec![len], vec![1; dims[0].len() - 2]].concat();
            Value::Constant(constant.reshaped(laid))
        }
        _ => {
            return wrong(format!(
                "opset {}: expected one slope for each channel of {:?}, got {:?}",
                call.opset, dims[0], dims[1]
            ));
        }
    };
    let slope_dims = operand_dims(std::slice::from_ref(&slope))?.swap_remove(0);
    // The slope is broadcast to the input, but never the input to the slope.
    let skipped = dims[0].len().checked_sub(slope_dims.len());
    let fits = skipped.is_some_and(|skipped| {
        slope_dims.iter().zip(&dims[0][skipped..]).all(|(&slope, &dim)| slope == 1 || slope == dim)
    });
    match fits {
        true => importer.emit(call, TensorOp::Zip(Binary::PRelu), &[value, slope]),
        false => wrong(format!(
            "opset {}: expected a slope that can be broadcast to {:?}, got {:?}",
            call.opset, dims[0], dims[1]
        )),
    }
}
