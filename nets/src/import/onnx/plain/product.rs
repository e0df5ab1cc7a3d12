//! Matrix products of any rank, and sums of products.

use super::super::broadcast::second_operand;
use super::super::importer::Importer;
use super::super::node::{Call, Outcome, unsupported, wrong};
use super::super::value::Value;
use super::operand_dims;
use crate::layer::TensorOp;

pub(super) fn matmul<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    importer.emit(call, TensorOp::MatMul, &[call.value(0)?.clone(), call.value(1)?.clone()])
}

pub(super) fn gemm<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let (alpha, beta) = (call.float("alpha", 1.0)?, call.float("beta", 1.0)?);
    let op = TensorOp::Gemm { alpha, beta, trans_a: call.flag("transA")?, trans_b: call.flag("transB")? };
    let mut operands = vec![call.value(0)?.clone(), call.value(1)?.clone()];
    let dims = operand_dims(&operands)?;
    let output = op.output(&dims).or_else(|problem| wrong(problem.to_string()))?;
    if let Some(addend) = call.input(2).filter(|_| beta != 0.0) {
        let own = operand_dims(std::slice::from_ref(addend))?.swap_remove(0);
        let laid = second_operand(call, &output, &own)?;
        let skipped = output.len().checked_sub(laid.len());
        let fits = skipped.is_some_and(|skipped| {
            laid.iter().zip(&output[skipped..]).all(|(&dim, &to)| dim == 1 || dim == to)
        });
        if !fits {
            return wrong(format!(
                "opset {}: expected an addend that can be broadcast to {output:?}, got {own:?}",
                call.opset
            ));
        }
        operands.push(match addend {
            Value::Constant(constant) => Value::Constant(constant.reshaped(laid)),
            other if laid == own => other.clone(),
            _ => return unsupported(format!("opset {}: an addend that is an activation", call.opset)),
        });
    }
    importer.emit(call, op, &operands)
}

pub(super) fn einsum<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let operands: Vec<Value> = call.inputs.iter().flatten().cloned().collect();
    let dims = operand_dims(&operands)?;
    let Some(text) = call.text("equation")? else { return wrong("expected an equation, got none") };
    if operands.len() > 3 {
        return unsupported(format!("a product of {} tensors", operands.len()));
    }
    let (inputs, output) = equation(text, &dims)?;
    importer.emit(call, TensorOp::Einsum { inputs, output }, &operands)
}

/// The numbers of the axes of each operand and of the output. Letters are their codes; an ellipsis stands for as many
/// leading axes as an operand has besides its letters, counted from the last, and has numbers from 128 down.
fn equation(text: &str, dims: &[Vec<usize>]) -> Outcome<(Vec<Vec<u8>>, Vec<u8>)> {
    let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match bare.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (bare.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != dims.len() {
        return wrong(format!("expected {} terms in `{text}`, got {}", dims.len(), terms.len()));
    }
    let mut inputs = Vec::new();
    let mut widest = 0;
    for (term, dims) in terms.iter().zip(dims) {
        let letters = term.chars().filter(|&c| c != '.').count();
        let Some(more) = dims.len().checked_sub(letters).filter(|&more| more == 0 || term.contains("..."))
        else {
            return wrong(format!("expected the axes of {dims:?} as term, got `{term}`"));
        };
        widest = widest.max(more);
        inputs.push(numbers(term, more)?);
    }
    let output = match right {
        Some(right) => numbers(right, widest)?,
        None => {
            // Axes that occur once, in alphabetical order, behind those of the ellipsis.
            let all: Vec<u8> = inputs.concat();
            let mut once: Vec<u8> = all.iter().copied().filter(|axis| *axis < 128).collect();
            once.sort_unstable();
            once.retain(|axis| all.iter().filter(|other| *other == axis).count() == 1);
            [numbers("...", widest)?, once].concat()
        }
    };
    let unknown = output.iter().any(|axis| !inputs.iter().flatten().any(|other| other == axis));
    let mut sorted = output.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if unknown || sorted.len() != output.len() {
        return wrong(format!("expected an output with axes of the inputs in `{text}`"));
    }
    Ok((inputs, output))
}

fn numbers(term: &str, ellipsis: usize) -> Outcome<Vec<u8>> {
    let leading = (0..ellipsis).rev().map(|from_end| 128 + from_end as u8);
    let Some((before, after)) = term.split_once("...") else { return letters(term) };
    Ok([letters(before)?, leading.collect(), letters(after)?].concat())
}

fn letters(term: &str) -> Outcome<Vec<u8>> {
    match term.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        true => Ok(term.bytes().collect()),
        false => wrong(format!("expected letters, got `{term}`")),
    }
}
