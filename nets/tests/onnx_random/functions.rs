//! Functions of each element.

use super::{Attr, Draw, DrawOp, Id, Kind, Value};
use arbitrary::Result;

pub const OPS: &[(&str, DrawOp)] = &[
    ("Abs", |d| exact(d, "Abs", f64::abs)),
    ("Neg", |d| exact(d, "Neg", |x| -x)),
    ("Relu", |d| exact(d, "Relu", |x| x.max(0.0))),
    ("Identity", |d| exact(d, "Identity", |x| x)),
    ("Dropout", |d| exact(d, "Dropout", |x| x)),
    ("Ceil", |d| jump(d, "Ceil", &[], f64::ceil)),
    ("Floor", |d| jump(d, "Floor", &[], f64::floor)),
    ("Round", |d| jump(d, "Round", &[], f64::round_ties_even)),
    ("Sign", |d| jump(d, "Sign", &[], |x| if x == 0.0 { 0.0 } else { x.signum() })),
    ("Acos", |d| within(d, "Acos", (-0.9, 0.9), f64::acos)),
    ("Acosh", |d| within(d, "Acosh", (1.25, 64.0), f64::acosh)),
    ("Asin", |d| within(d, "Asin", (-0.9, 0.9), f64::asin)),
    ("Asinh", |d| smooth(d, "Asinh", &[], f64::asinh)),
    ("Atan", |d| smooth(d, "Atan", &[], f64::atan)),
    ("Atanh", |d| within(d, "Atanh", (-0.9, 0.9), f64::atanh)),
    ("Cos", |d| smooth(d, "Cos", &[], f64::cos)),
    ("Cosh", |d| within(d, "Cosh", (-4.0, 4.0), f64::cosh)),
    ("Erf", |d| smooth(d, "Erf", &[], libm::erf)),
    ("Exp", |d| within(d, "Exp", (-64.0, 4.0), f64::exp)),
    ("Log", |d| within(d, "Log", (0.25, 64.0), f64::ln)),
    ("Mish", |d| smooth(d, "Mish", &[], |x| x * softplus(x).tanh())),
    ("Reciprocal", |d| within(d, "Reciprocal", (0.25, 64.0), f64::recip)),
    ("Sigmoid", |d| smooth(d, "Sigmoid", &[], sigmoid)),
    ("Sin", |d| smooth(d, "Sin", &[], f64::sin)),
    ("Sinh", |d| within(d, "Sinh", (-4.0, 4.0), f64::sinh)),
    ("Softplus", |d| smooth(d, "Softplus", &[], softplus)),
    ("Softsign", |d| smooth(d, "Softsign", &[], |x| x / (1.0 + x.abs()))),
    ("Sqrt", |d| within(d, "Sqrt", (0.0625, 64.0), f64::sqrt)),
    ("Tan", |d| within(d, "Tan", (-1.2, 1.2), f64::tan)),
    ("Tanh", |d| smooth(d, "Tanh", &[], f64::tanh)),
    ("HardSwish", |d| smooth(d, "HardSwish", &[], |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0))),
    ("Celu", celu),
    ("Elu", elu),
    ("Gelu", gelu),
    ("HardSigmoid", hard_sigmoid),
    ("LeakyRelu", leaky),
    ("Selu", selu),
    ("Shrink", shrink),
    ("ThresholdedRelu", thresholded),
    ("IsInf", is_inf),
    ("IsNaN", is_nan),
    ("Clip", clip),
    ("Cast", cast),
    ("Not", not),
    ("QuantizeLinear", quantized),
    ("DequantizeLinear", quantized),
];

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn map(d: &Draw<'_, '_>, id: Id, f: impl Fn(f64) -> f64) -> Value {
    let value = d.value(id);
    Value::new(value.dims.clone(), value.data.iter().map(|&x| f(x)).collect())
}

/// A function without rounding and jumps.
fn exact(d: &mut Draw<'_, '_>, op: &'static str, f: fn(f64) -> f64) -> Result<()> {
    if let Some(id) = d.pick(|_| true)? {
        let output = map(d, id, f).exact();
        d.node(op, &[Some(id)], &[], output);
    }
    Ok(())
}

/// A function with jumps, so that the operand must be exact.
fn jump(
    d: &mut Draw<'_, '_>,
    op: &'static str,
    attrs: &[(&'static str, Attr)],
    f: impl Fn(f64) -> f64,
) -> Result<()> {
    if let Some(id) = d.pick(|value| value.exact)? {
        let output = map(d, id, f).exact();
        d.node(op, &[Some(id)], attrs, output);
    }
    Ok(())
}

/// A function that is continuous everywhere.
fn smooth(
    d: &mut Draw<'_, '_>,
    op: &'static str,
    attrs: &[(&'static str, Attr)],
    f: impl Fn(f64) -> f64,
) -> Result<()> {
    if let Some(id) = d.pick(|_| true)? {
        let output = map(d, id, f);
        d.node(op, &[Some(id)], attrs, output);
    }
    Ok(())
}

/// A function of numbers of a range.
fn within(d: &mut Draw<'_, '_>, op: &'static str, range: (f64, f64), f: fn(f64) -> f64) -> Result<()> {
    if let Some(id) = d.pick(|_| true)? {
        let id = limited(d, id, range)?;
        let output = map(d, id, f);
        d.node(op, &[Some(id)], &[], output);
    }
    Ok(())
}

/// The value, or that value clipped to a range.
pub fn limited(d: &mut Draw<'_, '_>, id: Id, (low, high): (f64, f64)) -> Result<Id> {
    if d.value(id).all(|x| (low..=high).contains(&x)) {
        return Ok(id);
    }
    let mut limit = |x: f64| d.fixed(Value::new(Vec::new(), vec![f64::from(x as f32)]).exact());
    let (min, max) = (limit(low), limit(high));
    let (low, high) = (d.value(min).data[0], d.value(max).data[0]);
    let output = map(d, id, |x| x.clamp(low, high)).exact();
    Ok(d.node("Clip", &[Some(id), Some(min), Some(max)], &[], output))
}

/// The attribute, absent in half of the cases, in which `default` counts.
fn number(
    d: &mut Draw<'_, '_>,
    attrs: &mut Vec<(&'static str, Attr)>,
    name: &'static str,
    (default, choices): (f32, &[f32]),
) -> Result<f64> {
    if d.once_in(2)? {
        return Ok(f64::from(default));
    }
    let value = *d.u.choose(choices)?;
    attrs.push((name, Attr::Float(value)));
    Ok(f64::from(value))
}

fn celu(d: &mut Draw<'_, '_>) -> Result<()> {
    let mut attrs = Vec::new();
    let alpha = number(d, &mut attrs, "alpha", (1.0, &[0.5, 1.5, 3.0]))?;
    smooth(d, "Celu", &attrs, |x| x.max(0.0) + (alpha * (x / alpha).exp_m1()).min(0.0))
}

fn elu(d: &mut Draw<'_, '_>) -> Result<()> {
    let mut attrs = Vec::new();
    let alpha = number(d, &mut attrs, "alpha", (1.0, &[0.5, 1.5, 0.0]))?;
    smooth(d, "Elu", &attrs, |x| if x < 0.0 { alpha * x.exp_m1() } else { x })
}

fn gelu(d: &mut Draw<'_, '_>) -> Result<()> {
    match d.below(3)? {
        0 => {
            let factor = (2.0 / std::f64::consts::PI).sqrt();
            let f = |x: f64| 0.5 * x * (1.0 + (factor * (x + 0.044_715 * x.powi(3))).tanh());
            smooth(d, "Gelu", &[("approximate", Attr::Text("tanh"))], f)
        }
        other => {
            let attrs = [("approximate", Attr::Text("none"))];
            let f = |x: f64| 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt()));
            smooth(d, "Gelu", &attrs[..other - 1], f)
        }
    }
}

fn hard_sigmoid(d: &mut Draw<'_, '_>) -> Result<()> {
    let mut attrs = Vec::new();
    let alpha = number(d, &mut attrs, "alpha", (0.2, &[0.5, 0.125]))?;
    let beta = number(d, &mut attrs, "beta", (0.5, &[0.25, 0.75]))?;
    smooth(d, "HardSigmoid", &attrs, |x| (alpha * x + beta).clamp(0.0, 1.0))
}

fn leaky(d: &mut Draw<'_, '_>) -> Result<()> {
    let mut attrs = Vec::new();
    let alpha = number(d, &mut attrs, "alpha", (0.01, &[0.5, -0.25, 2.0]))?;
    smooth(d, "LeakyRelu", &attrs, |x| if x < 0.0 { alpha * x } else { x })
}

fn selu(d: &mut Draw<'_, '_>) -> Result<()> {
    let mut attrs = Vec::new();
    let alpha = number(d, &mut attrs, "alpha", (1.673_263_2, &[0.5, 1.5]))?;
    let gamma = number(d, &mut attrs, "gamma", (1.050_701, &[0.5, 1.5]))?;
    smooth(d, "Selu", &attrs, |x| gamma * if x > 0.0 { x } else { alpha * x.exp_m1() })
}

fn shrink(d: &mut Draw<'_, '_>) -> Result<()> {
    let mut attrs = Vec::new();
    let bias = number(d, &mut attrs, "bias", (0.0, &[0.5, -0.25]))?;
    let limit = number(d, &mut attrs, "lambd", (0.5, &[0.25, 1.0]))?;
    let f = |x: f64| {
        if x < -limit {
            x + bias
        } else if x > limit {
            x - bias
        } else {
            0.0
        }
    };
    jump(d, "Shrink", &attrs, f)
}

fn thresholded(d: &mut Draw<'_, '_>) -> Result<()> {
    let mut attrs = Vec::new();
    let alpha = number(d, &mut attrs, "alpha", (1.0, &[0.5, -0.25]))?;
    jump(d, "ThresholdedRelu", &attrs, |x| if x > alpha { x } else { 0.0 })
}

/// A value divided by numbers some of which are 0, so that some quotients are infinite or not numbers.
fn quotients(d: &mut Draw<'_, '_>) -> Result<Option<Id>> {
    let Some(id) = d.pick(|value| value.exact)? else { return Ok(None) };
    let dims = d.value(id).dims.clone();
    let len = dims.iter().product();
    let choices = (0..len).map(|_| Ok([0.0, 0.5, 1.0, -2.0][d.below(4)?])).collect::<Result<Vec<f64>>>()?;
    let data = d.value(id).data.iter().zip(&choices).map(|(&x, &by)| x / by).collect();
    let by = d.fixed(Value::new(dims.clone(), choices).exact());
    Ok(Some(d.node("Div", &[Some(id), Some(by)], &[], Value::new(dims, data))))
}

fn is_inf(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = quotients(d)? else { return Ok(()) };
    let (negative, positive) = (d.below(2)?, d.below(2)?);
    let attrs =
        [("detect_negative", Attr::Int(negative as i64)), ("detect_positive", Attr::Int(positive as i64))];
    let f = |x: f64| {
        let found = (x == f64::INFINITY && positive == 1) || (x == f64::NEG_INFINITY && negative == 1);
        f64::from(u8::from(found))
    };
    let output = map(d, id, f).kind(Kind::Truth);
    d.node("IsInf", &[Some(id)], &attrs, output);
    Ok(())
}

fn is_nan(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = quotients(d)? else { return Ok(()) };
    let output = map(d, id, |x| f64::from(u8::from(x.is_nan()))).kind(Kind::Truth);
    d.node("IsNaN", &[Some(id)], &[], output);
    Ok(())
}

fn clip(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|_| true)? else { return Ok(()) };
    let mut limit = |low: f64, high: f64| -> Result<Option<Id>> {
        if d.once_in(3)? { Ok(None) } else { d.constant(&[], low, high).map(Some) }
    };
    // The limits can cross: every element then becomes the upper one.
    let (min, max) = (limit(-3.0, 1.0)?, limit(0.0, 3.0)?);
    let of = |limit: Option<Id>, none: f64| limit.map_or(none, |id| d.value(id).data[0]);
    let (low, high) = (of(min, f64::NEG_INFINITY), of(max, f64::INFINITY));
    let output = map(d, id, |x| x.max(low).min(high)).exact();
    d.node("Clip", &[Some(id), min, max], &[], output);
    Ok(())
}

fn cast(d: &mut Draw<'_, '_>) -> Result<()> {
    let from = *d.u.choose(&[Kind::Float, Kind::Whole, Kind::Truth])?;
    let to = *d.u.choose(&[Kind::Float, Kind::Whole, Kind::Truth])?;
    let id = d.pick_kind(from, |value| value.exact || (from, to) == (Kind::Float, Kind::Float))?;
    let Some(id) = id else { return Ok(()) };
    let output = map(d, id, |x| match to {
        Kind::Float => x,
        Kind::Whole => x.trunc(),
        Kind::Truth => f64::from(u8::from(x != 0.0)),
    });
    d.node("Cast", &[Some(id)], &[("to", Attr::Int(super::dump::dtype(to)))], output.exact().kind(to));
    Ok(())
}

fn not(d: &mut Draw<'_, '_>) -> Result<()> {
    if let Some(id) = super::binary::truth(d)? {
        let output = map(d, id, |x| 1.0 - x).exact().kind(Kind::Truth);
        d.node("Not", &[Some(id)], &[], output);
    }
    Ok(())
}

/// To whole numbers from 0 to 255 and back. The scale is a power of two, so that the rounding is that of exact numbers.
fn quantized(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.exact)? else { return Ok(()) };
    let scale = *d.u.choose(&[0.5, 1.0, 0.0625])?;
    let by = d.fixed(Value::new(Vec::new(), vec![scale]).exact());
    let whole = map(d, id, |x| (x / scale).round_ties_even().clamp(0.0, 255.0)).exact();
    // Other operators do not read numbers of 8 bits: the value is read here.
    let whole = d.node("QuantizeLinear", &[Some(id), Some(by)], &[], whole.kind(Kind::Whole));
    let output = map(d, whole, |x| x * scale).exact();
    d.node("DequantizeLinear", &[Some(whole), Some(by)], &[], output);
    Ok(())
}
