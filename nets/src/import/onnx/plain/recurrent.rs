//! `RNN`, `GRU` and `LSTM`.

use super::super::importer::Importer;
use super::super::node::{Call, Outcome, unsupported, wrong};
use super::axes::{number, permuted};
use super::{Results, dims_of, operand_dims, unread};
use crate::layer::{Cell, Recurrent, TensorOp, Unary};

pub(super) fn import<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Results> {
    let op = call.def.op.as_str();
    let cell = match op {
        "RNN" => Cell::Rnn,
        "GRU" => Cell::Gru { linear_before_reset: call.flag("linear_before_reset")? },
        _ => Cell::Lstm { input_forget: call.flag("input_forget")? },
    };
    let reversed = match call.text("direction")? {
        None | Some("forward") => vec![false],
        Some("reverse") => vec![true],
        Some("bidirectional") => vec![false, true],
        Some(other) => return wrong(format!("expected forward, reverse or bidirectional, got `{other}`")),
    };
    let directions = reversed.len();
    let (weights, recurrence) = (dims_of(call, 1)?, dims_of(call, 2)?);
    let hidden = recurrence.last().copied().unwrap_or(0);
    let stated = call.int("hidden_size")?.unwrap_or(hidden as i64);
    if weights.len() != 3
        || stated != hidden as i64
        || recurrence != [directions, cell.gates() * hidden, hidden]
    {
        return wrong(format!("expected weights for {stated} units, got {weights:?} and {recurrence:?}"));
    }
    // With layout 1 the batch is the first axis.
    let batch_first = call.flag("layout")?;
    let order = |order: [usize; 3]| if batch_first { order.to_vec() } else { vec![0, 1, 2] };
    let input = permuted(importer, call, call.value(0)?.clone(), order([1, 0, 2]))?;
    let dims = operand_dims(std::slice::from_ref(&input))?.swap_remove(0);
    let &[time, batch, _] = dims.as_slice() else {
        return wrong(format!("expected time, batch and features, got {dims:?}"));
    };
    if let Some(lengths) = call.numbers(4)?
        && lengths.iter().any(|&length| length != time as f64)
    {
        return unsupported("sequences of different lengths");
    }
    let gates = cell.gates();
    let mut operands = vec![input, call.value(1)?.clone(), call.value(2)?.clone()];
    let extents: [(usize, &[usize]); 4] = [
        (3, &[directions, 2 * gates * hidden]),
        (5, &[directions, batch, hidden]),
        (6, &[directions, batch, hidden]),
        (7, &[directions, 3 * hidden]),
    ];
    for (index, expected) in extents {
        let operand = match call.input(index).filter(|_| index < 6 || op == "LSTM") {
            None => number(0.0),
            Some(value) if index == 5 || index == 6 => {
                permuted(importer, call, value.clone(), order([1, 0, 2]))?
            }
            Some(value) => value.clone(),
        };
        let dims = operand_dims(std::slice::from_ref(&operand))?.swap_remove(0);
        if call.input(index).is_some() && !dims.is_empty() && dims != expected {
            return wrong(format!("expected {expected:?} as input {index}, got {dims:?}"));
        }
        operands.push(operand);
    }
    let functions = functions(call, cell, directions)?;
    let clip = call.has("clip").then(|| call.float("clip", 0.0)).transpose()?;
    if let Some(clip) = clip.filter(|clip| clip.is_nan() || *clip < 0.0) {
        return wrong(format!("expected a `clip` of at least 0, got {clip}"));
    }
    let layer = |part| {
        let (reversed, functions) = (reversed.clone(), functions.clone());
        TensorOp::Recurrent(Recurrent { cell, hidden, reversed, functions, clip, part })
    };
    let mut results = Vec::new();
    for part in 0..call.def.outputs.len().min(3) {
        if !importer.reads(call, part) {
            results.push(unread());
            continue;
        }
        let result = importer.emit(call, layer(part), &operands)?;
        let order = match (batch_first, part) {
            (false, _) => None,
            (true, 0) => Some(vec![2, 0, 1, 3]),
            (true, _) => Some(vec![1, 0, 2]),
        };
        results.push(match order {
            Some(order) => permuted(importer, call, result, order)?,
            None => result,
        });
    }
    Ok(results)
}

/// The functions of each direction, with their parameters.
fn functions(call: &Call<'_>, cell: Cell, directions: usize) -> Outcome<Vec<Vec<Unary>>> {
    let defaults: &[&str] = match cell {
        Cell::Rnn => &["Tanh"],
        Cell::Gru { .. } => &["Sigmoid", "Tanh"],
        Cell::Lstm { .. } => &["Sigmoid", "Tanh", "Tanh"],
    };
    let given = call.texts("activations")?;
    let names: Vec<&str> = match &given {
        Some(names) if names.len() == defaults.len() * directions => {
            names.iter().map(String::as_str).collect()
        }
        Some(names) => {
            return wrong(format!("expected {} activations, got {names:?}", defaults.len() * directions));
        }
        None => defaults.repeat(directions),
    };
    // Only functions that have a parameter take one from the lists.
    let (mut alphas, mut betas) =
        (call.floats("activation_alpha")?.iter(), call.floats("activation_beta")?.iter());
    let mut all = Vec::new();
    for name in names {
        let mut alpha = |default: f32| alphas.next().copied().unwrap_or(default);
        let mut beta = |default: f32| betas.next().copied().unwrap_or(default);
        all.push(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => Unary::Sigmoid,
            "tanh" => Unary::Tanh,
            "relu" => Unary::Relu,
            "softsign" => Unary::Softsign,
            "softplus" => Unary::Softplus,
            "elu" => Unary::Elu { alpha: alpha(1.0) },
            "leakyrelu" => Unary::LeakyRelu { alpha: alpha(0.01) },
            "thresholdedrelu" => Unary::ThresholdedRelu { alpha: alpha(1.0) },
            "hardsigmoid" => Unary::HardSigmoid { alpha: alpha(0.2), beta: beta(0.5) },
            "affine" => Unary::Linear { scale: alpha(1.0), shift: beta(0.0) },
            other => return unsupported(format!("an activation `{other}`")),
        });
    }
    Ok(all.chunks(defaults.len()).map(<[Unary]>::to_vec).collect())
}
