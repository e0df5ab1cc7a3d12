//! Functions of several tensors, with broadcasting.

use super::functions::limited;
use super::{Attr, Draw, DrawOp, Id, Kind, MOST, MOST_AXES, Value, Walk, broadcast, offset_in};
use arbitrary::Result;

pub const OPS: &[(&str, DrawOp)] = &[
    ("Add", |d| arithmetic(d, "Add", |a, b| a + b)),
    ("Sub", |d| arithmetic(d, "Sub", |a, b| a - b)),
    ("Mul", |d| arithmetic(d, "Mul", |a, b| a * b)),
    ("Div", divide),
    ("Pow", pow),
    ("Mod", modulo),
    ("PRelu", prelu),
    ("Min", |d| several(d, "Min", |all| all.iter().copied().fold(f64::INFINITY, f64::min))),
    ("Max", |d| several(d, "Max", |all| all.iter().copied().fold(f64::NEG_INFINITY, f64::max))),
    ("Sum", |d| several(d, "Sum", |all| all.iter().sum())),
    ("Mean", |d| several(d, "Mean", |all| all.iter().sum::<f64>() / all.len() as f64)),
    ("Equal", |d| compare(d, "Equal", |a, b| a == b)),
    ("Less", |d| compare(d, "Less", |a, b| a < b)),
    ("LessOrEqual", |d| compare(d, "LessOrEqual", |a, b| a <= b)),
    ("Greater", |d| compare(d, "Greater", |a, b| a > b)),
    ("GreaterOrEqual", |d| compare(d, "GreaterOrEqual", |a, b| a >= b)),
    ("And", |d| logic(d, "And", |a, b| a & b)),
    ("Or", |d| logic(d, "Or", |a, b| a | b)),
    ("Xor", |d| logic(d, "Xor", |a, b| a ^ b)),
    ("Where", choose),
];

/// A function of the elements of operands that are broadcast to each other.
pub fn zip(d: &Draw<'_, '_>, ids: &[Id], f: impl Fn(&[f64]) -> f64) -> Value {
    let operands: Vec<&Value> = ids.iter().map(|&id| d.value(id)).collect();
    let dims: Vec<&[usize]> = operands.iter().map(|value| value.dims.as_slice()).collect();
    let dims = broadcast(&dims).expect("operands that are drawn to fit");
    let element = |place: Vec<usize>| {
        let of = |value: &&Value| value.data[offset_in(&value.dims, &place)];
        f(&operands.iter().map(of).collect::<Vec<_>>())
    };
    let data = Walk::new(&dims).map(element).collect();
    Value::new(dims, data)
}

/// Extents that are broadcast together with `dims`: some of the last ones, with ones among them. `grows` are also more
/// axes, and larger extents where `dims` has ones.
pub fn partner(d: &mut Draw<'_, '_>, dims: &[usize], grows: bool) -> Result<Vec<usize>> {
    let first = d.below(dims.len() + 1)?;
    let mut own = Vec::new();
    for &dim in &dims[first..] {
        let is_wide = grows && dim == 1 && d.once_in(3)?;
        own.push(if is_wide {
            1 + d.below(4)?
        } else if d.once_in(3)? {
            1
        } else {
            dim
        });
    }
    if grows && first == 0 && dims.len() < MOST_AXES - 1 && d.once_in(4)? {
        own.insert(0, 1 + d.below(3)?);
    }
    let grown = broadcast(&[dims, &own]).map_or(usize::MAX, |dims| dims.iter().product());
    Ok(if grown > MOST { dims.to_vec() } else { own })
}

/// Another operand for one of extents `dims`: computed, or a constant.
fn other(d: &mut Draw<'_, '_>, dims: &[usize], needs_exact: bool) -> Result<Id> {
    if d.once_in(2)? {
        let fits = |value: &Value| {
            let both = broadcast(&[dims, &value.dims]);
            (value.exact || !needs_exact) && both.is_some_and(|dims| dims.iter().product::<usize>() <= MOST)
        };
        if let Some(id) = d.pick(fits)? {
            return Ok(id);
        }
    }
    let own = partner(d, dims, true)?;
    if needs_exact {
        let count = own.iter().product();
        let data = (0..count).map(|_| Ok(d.below(33)? as f64 / 4.0 - 4.0)).collect::<Result<_>>()?;
        return Ok(d.fixed(Value::new(own, data).exact()));
    }
    d.constant(&own, -3.0, 3.0)
}

fn swapped(d: &mut Draw<'_, '_>, a: Id, b: Id) -> Result<[Id; 2]> {
    Ok(if d.once_in(2)? { [b, a] } else { [a, b] })
}

fn add(d: &mut Draw<'_, '_>, op: &'static str, ids: &[Id], output: Value) -> Id {
    let inputs: Vec<Option<Id>> = ids.iter().map(|&id| Some(id)).collect();
    d.node(op, &inputs, &[], output)
}

fn arithmetic(d: &mut Draw<'_, '_>, op: &'static str, f: fn(f64, f64) -> f64) -> Result<()> {
    let Some(a) = d.pick(|_| true)? else { return Ok(()) };
    let dims = d.value(a).dims.clone();
    let b = other(d, &dims, false)?;
    let ids = swapped(d, a, b)?;
    let output = zip(d, &ids, |x| f(x[0], x[1])).exact();
    add(d, op, &ids, output);
    Ok(())
}

/// By numbers that are not close to 0.
fn divide(d: &mut Draw<'_, '_>) -> Result<()> {
    if d.once_in(3)? {
        return divide_whole(d);
    }
    let Some(a) = d.pick(|_| true)? else { return Ok(()) };
    let dims = d.value(a).dims.clone();
    let b = other(d, &dims, false)?;
    let [a, b] = swapped(d, a, b)?;
    let b = if d.value(b).all(|x| x.abs() >= 0.25) { b } else { limited(d, b, (0.25, 64.0))? };
    let output = zip(d, &[a, b], |x| x[0] / x[1]);
    add(d, "Div", &[a, b], output);
    Ok(())
}

/// Integers that are not 0, as an operand for one of these extents.
fn divisors(d: &mut Draw<'_, '_>, dims: &[usize]) -> Result<Id> {
    let own = partner(d, dims, true)?;
    let count = own.iter().product();
    let data =
        (0..count).map(|_| Ok([-5, -3, -2, -1, 1, 2, 3, 7][d.below(8)?])).collect::<Result<Vec<i64>>>()?;
    Ok(d.ints_of(&own, &data))
}

/// A value of integers, converted if there is none.
fn whole(d: &mut Draw<'_, '_>) -> Result<Option<Id>> {
    if let Some(id) = d.pick_kind(Kind::Whole, |value| value.exact)? {
        return Ok(Some(id));
    }
    let Some(id) = d.pick(|value| value.exact)? else { return Ok(None) };
    let output = zip(d, &[id], |x| x[0].trunc()).exact().kind(Kind::Whole);
    Ok(Some(d.node("Cast", &[Some(id)], &[("to", Attr::Int(7))], output)))
}

/// A division of integers truncates.
fn divide_whole(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(a) = whole(d)? else { return Ok(()) };
    let dims = d.value(a).dims.clone();
    let b = divisors(d, &dims)?;
    let output = zip(d, &[a, b], |x| (x[0] / x[1]).trunc()).exact().kind(Kind::Whole);
    add(d, "Div", &[a, b], output);
    Ok(())
}

fn pow(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(a) = d.pick(|_| true)? else { return Ok(()) };
    let (a, b) = if d.once_in(2)? {
        // A negative base with a whole exponent.
        let exponent = *d.u.choose(&[2.0, 3.0, 1.0, 0.0])?;
        let base = limited(d, a, (-6.0, 6.0))?;
        (base, d.fixed(Value::new(Vec::new(), vec![exponent])))
    } else {
        let base = limited(d, a, (0.25, 6.0))?;
        let dims = d.value(base).dims.clone();
        let own = partner(d, &dims, true)?;
        (base, d.constant(&own, -2.0, 2.0)?)
    };
    let output = zip(d, &[a, b], |x| x[0].powf(x[1]));
    add(d, "Pow", &[a, b], output);
    Ok(())
}

/// With the sign of the divisor for integers, and with that of the dividend for floats, which must be exact.
fn modulo(d: &mut Draw<'_, '_>) -> Result<()> {
    let fmod = d.once_in(2)?;
    if d.once_in(2)? {
        let Some(a) = whole(d)? else { return Ok(()) };
        let dims = d.value(a).dims.clone();
        let b = divisors(d, &dims)?;
        let f = |x: &[f64]| if fmod { x[0] % x[1] } else { x[0] - x[1] * (x[0] / x[1]).floor() };
        let output = zip(d, &[a, b], f).exact().kind(Kind::Whole);
        d.node("Mod", &[Some(a), Some(b)], &[("fmod", Attr::Int(fmod.into()))], output);
        return Ok(());
    }
    let Some(a) = d.pick(|value| value.exact)? else { return Ok(()) };
    let dims = d.value(a).dims.clone();
    let own = partner(d, &dims, true)?;
    let count = own.iter().product();
    let data = (0..count).map(|_| Ok([0.75, 1.5, -1.25, 2.0][d.below(4)?])).collect::<Result<_>>()?;
    let b = d.fixed(Value::new(own, data).exact());
    let output = zip(d, &[a, b], |x| x[0] % x[1]).exact();
    d.node("Mod", &[Some(a), Some(b)], &[("fmod", Attr::Int(1))], output);
    Ok(())
}

fn prelu(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(a) = d.pick(|_| true)? else { return Ok(()) };
    let dims = d.value(a).dims.clone();
    let own = partner(d, &dims, false)?;
    let slope = d.constant(&own, -1.0, 1.0)?;
    let output = zip(d, &[a, slope], |x| if x[0] < 0.0 { x[0] * x[1] } else { x[0] }).exact();
    add(d, "PRelu", &[a, slope], output);
    Ok(())
}

fn several(d: &mut Draw<'_, '_>, op: &'static str, f: fn(&[f64]) -> f64) -> Result<()> {
    let Some(first) = d.pick(|_| true)? else { return Ok(()) };
    let mut ids = vec![first];
    let mut dims = d.value(first).dims.clone();
    for _ in 0..d.below(4)? {
        let next = other(d, &dims, false)?;
        dims = broadcast(&[&dims, &d.value(next).dims]).unwrap_or(dims);
        let place = d.below(ids.len() + 1)?;
        ids.insert(place, next);
    }
    let output = zip(d, &ids, f);
    let output = if op == "Mean" { output } else { output.exact() };
    add(d, op, &ids, output);
    Ok(())
}

fn compare(d: &mut Draw<'_, '_>, op: &'static str, f: fn(f64, f64) -> bool) -> Result<()> {
    let Some(a) = d.pick(|value| value.exact)? else { return Ok(()) };
    let dims = d.value(a).dims.clone();
    let b = other(d, &dims, true)?;
    let ids = swapped(d, a, b)?;
    let output = zip(d, &ids, |x| f64::from(u8::from(f(x[0], x[1])))).exact().kind(Kind::Truth);
    add(d, op, &ids, output);
    Ok(())
}

/// Truth values: computed, or whether elements are positive.
pub fn truth(d: &mut Draw<'_, '_>) -> Result<Option<Id>> {
    if let Some(id) = d.pick_kind(Kind::Truth, |value| value.exact)? {
        return Ok(Some(id));
    }
    let Some(id) = d.pick(|value| value.exact)? else { return Ok(None) };
    let zero = d.fixed(Value::new(Vec::new(), vec![0.0]).exact());
    let output = zip(d, &[id], |x| f64::from(u8::from(x[0] > 0.0))).exact().kind(Kind::Truth);
    Ok(Some(add(d, "Greater", &[id, zero], output)))
}

fn truths(d: &mut Draw<'_, '_>, dims: &[usize]) -> Result<Id> {
    let own = partner(d, dims, true)?;
    let count = own.iter().product();
    let data = (0..count).map(|_| Ok(d.below(2)? as f64)).collect::<Result<_>>()?;
    Ok(d.fixed(Value::new(own, data).exact().kind(Kind::Truth)))
}

fn logic(d: &mut Draw<'_, '_>, op: &'static str, f: fn(bool, bool) -> bool) -> Result<()> {
    let Some(a) = truth(d)? else { return Ok(()) };
    let dims = d.value(a).dims.clone();
    let b = truths(d, &dims)?;
    let ids = swapped(d, a, b)?;
    let output = zip(d, &ids, |x| f64::from(u8::from(f(x[0] != 0.0, x[1] != 0.0))));
    add(d, op, &ids, output.exact().kind(Kind::Truth));
    Ok(())
}

fn choose(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(x) = d.pick(|_| true)? else { return Ok(()) };
    let mut dims = d.value(x).dims.clone();
    let y = other(d, &dims, false)?;
    dims = broadcast(&[&dims, &d.value(y).dims]).unwrap_or(dims);
    let fits = |value: &Value| {
        let all = broadcast(&[&dims, &value.dims]);
        value.exact && all.is_some_and(|all| all.iter().product::<usize>() <= MOST)
    };
    let condition = match d.pick_kind(Kind::Truth, fits)? {
        Some(id) => id,
        None => truths(d, &dims)?,
    };
    let [x, y] = swapped(d, x, y)?;
    let output = zip(d, &[condition, x, y], |x| if x[0] != 0.0 { x[1] } else { x[2] }).exact();
    add(d, "Where", &[condition, x, y], output);
    Ok(())
}
