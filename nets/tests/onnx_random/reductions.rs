//! Reductions, softmax and orders along axes.

use super::functions::limited;
use super::{Attr, Draw, DrawOp, Id, Kind, Value, Walk, offset_in, strides};
use arbitrary::Result;

pub const OPS: &[(&str, DrawOp)] = &[
    ("ReduceSum", |d| reduce(d, "ReduceSum", true, |all| all.iter().sum())),
    ("ReduceMean", |d| reduce(d, "ReduceMean", false, mean)),
    ("ReduceMax", |d| reduce(d, "ReduceMax", true, max)),
    ("ReduceMin", |d| reduce(d, "ReduceMin", true, |all| all.iter().copied().fold(f64::INFINITY, f64::min))),
    ("ReduceProd", product),
    ("ReduceL1", |d| reduce(d, "ReduceL1", true, |all| all.iter().map(|x| x.abs()).sum())),
    ("ReduceL2", |d| reduce(d, "ReduceL2", false, |all| squares(all).sqrt())),
    ("ReduceLogSum", log_sum),
    ("ReduceLogSumExp", |d| reduce(d, "ReduceLogSumExp", false, log_sum_exp)),
    ("ReduceSumSquare", |d| reduce(d, "ReduceSumSquare", true, squares)),
    ("ArgMax", |d| arg_extreme(d, "ArgMax", 1.0)),
    ("ArgMin", |d| arg_extreme(d, "ArgMin", -1.0)),
    ("Softmax", |d| softmax(d, "Softmax")),
    ("LogSoftmax", |d| softmax(d, "LogSoftmax")),
    ("Hardmax", |d| softmax(d, "Hardmax")),
    ("CumSum", cum_sum),
    ("TopK", top_k),
];

pub fn mean(all: &[f64]) -> f64 {
    all.iter().sum::<f64>() / all.len() as f64
}

fn max(all: &[f64]) -> f64 {
    all.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

pub fn squares(all: &[f64]) -> f64 {
    all.iter().map(|x| x * x).sum()
}

fn log_sum_exp(all: &[f64]) -> f64 {
    let most = max(all);
    most + all.iter().map(|x| (x - most).exp()).sum::<f64>().ln()
}

/// The elements along some axes, for each place of the others, in row-major order of these.
pub fn groups(value: &Value, axes: &[bool]) -> Vec<Vec<f64>> {
    let kept: Vec<usize> = kept(&value.dims, axes);
    let mut groups = vec![Vec::new(); kept.iter().product()];
    for (place, &x) in Walk::new(&value.dims).zip(&value.data) {
        groups[offset_in(&kept, &place)].push(x);
    }
    groups
}

/// The extents with ones at some axes.
pub fn kept(dims: &[usize], axes: &[bool]) -> Vec<usize> {
    dims.iter().zip(axes).map(|(&dim, &gone)| if gone { 1 } else { dim }).collect()
}

/// The inverse of [`groups`].
pub fn joined(dims: &[usize], axes: &[bool], groups: &[Vec<f64>]) -> Value {
    let kept = kept(dims, axes);
    let mut next = vec![0; groups.len()];
    let data = Walk::new(dims).map(|place| {
        let group = offset_in(&kept, &place);
        next[group] += 1;
        groups[group][next[group] - 1]
    });
    Value::new(dims.to_vec(), data.collect())
}

fn reduce(d: &mut Draw<'_, '_>, op: &'static str, is_exact: bool, f: fn(&[f64]) -> f64) -> Result<()> {
    // The root of a sum that is close to 0 would amplify rounding errors.
    let fits = |value: &Value| op != "ReduceL2" || value.exact;
    match d.pick(fits)? {
        Some(id) => reduced(d, op, (id, is_exact), f),
        None => Ok(()),
    }
}

fn product(d: &mut Draw<'_, '_>) -> Result<()> {
    // An error of one factor is multiplied by all other factors, which can be 1.5 each.
    let fits = |value: &Value| value.len() <= if value.exact { 200 } else { 8 };
    let Some(id) = d.pick(fits)? else { return Ok(()) };
    let id = limited(d, id, (-1.5, 1.5))?;
    reduced(d, "ReduceProd", (id, false), |all| all.iter().product())
}

fn log_sum(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|_| true)? else { return Ok(()) };
    let id = limited(d, id, (0.25, 64.0))?;
    reduced(d, "ReduceLogSum", (id, false), |all| all.iter().sum::<f64>().ln())
}

/// Reduces over some axes, or over all if none is given.
fn reduced(
    d: &mut Draw<'_, '_>,
    op: &'static str,
    (id, is_exact): (Id, bool),
    f: fn(&[f64]) -> f64,
) -> Result<()> {
    let value = d.value(id).clone();
    let rank = value.rank();
    let (mut axes, mut written) = (vec![false; rank], Vec::new());
    for (axis, gone) in axes.iter_mut().enumerate() {
        if d.once_in(2)? {
            *gone = true;
            written.push(if d.once_in(2)? { axis as i64 } else { axis as i64 - rank as i64 });
        }
    }
    let (mut inputs, mut attrs) = (vec![Some(id)], Vec::new());
    let keep = d.once_in(2)?;
    if !keep || d.once_in(2)? {
        attrs.push(("keepdims", Attr::Int(keep.into())));
    }
    let since = if op == "ReduceSum" { 13 } else { 18 };
    let mut nothing = false;
    match (written.is_empty(), d.opset >= since) {
        (true, true) => {
            nothing = d.once_in(2)?;
            attrs.push(("noop_with_empty_axes", Attr::Int(nothing.into())));
        }
        (true, false) => (),
        (false, _) => d.list(("axes", since), &written, (&mut inputs, &mut attrs)),
    }
    if written.is_empty() {
        axes.fill(true);
    }
    // Opset 18 to 20 leave open what the functions of single elements do without axes; the importer returns its operand.
    let output = if nothing {
        value
    } else {
        let dims = match keep {
            true => kept(&value.dims, &axes),
            false => value.dims.iter().zip(&axes).filter(|(_, gone)| !**gone).map(|(&dim, _)| dim).collect(),
        };
        let output = Value::new(dims, groups(&value, &axes).iter().map(|all| f(all)).collect());
        Value { exact: is_exact, ..output }
    };
    d.node(op, &inputs, &attrs, output);
    Ok(())
}

/// Which of `rank` axes is this one.
pub fn only(rank: usize, axis: usize) -> Vec<bool> {
    (0..rank).map(|other| other == axis).collect()
}

fn arg_extreme(d: &mut Draw<'_, '_>, op: &'static str, sign: f64) -> Result<()> {
    let Some(id) = d.pick(|value| value.exact && value.rank() > 0)? else { return Ok(()) };
    let value = d.value(id).clone();
    let (axis, written) = d.axis(value.rank())?;
    let (keep, last) = (d.once_in(2)?, d.once_in(2)?);
    let attrs = [
        ("axis", Attr::Int(written)),
        ("keepdims", Attr::Int(keep.into())),
        ("select_last_index", Attr::Int(last.into())),
    ];
    let place = |all: &Vec<f64>| {
        let most = max(&all.iter().map(|x| x * sign).collect::<Vec<_>>());
        let mut equal = (0..all.len()).filter(|&at| all[at] * sign == most);
        (if last { equal.next_back() } else { equal.next() }).unwrap_or(0) as f64
    };
    let axes = only(value.rank(), axis);
    let data = groups(&value, &axes).iter().map(place).collect();
    let mut dims = kept(&value.dims, &axes);
    if !keep {
        dims.remove(axis);
    }
    d.node(op, &[Some(id)], &attrs, Value::new(dims, data).exact().kind(Kind::Whole));
    Ok(())
}

/// Up to opset 12 over all axes from one on together.
fn softmax(d: &mut Draw<'_, '_>, op: &'static str) -> Result<()> {
    let fits = |value: &Value| value.rank() > 0 && (op != "Hardmax" || value.exact);
    let Some(id) = d.pick(fits)? else { return Ok(()) };
    let value = d.value(id).clone();
    let (mut axis, written) = d.axis(value.rank())?;
    let mut attrs = vec![("axis", Attr::Int(written))];
    if d.once_in(4)? {
        (axis, attrs) = (if d.opset < 13 { 1 } else { value.rank() - 1 }, Vec::new());
    }
    if axis >= value.rank() {
        return Ok(());
    }
    let f = |all: &Vec<f64>| -> Vec<f64> {
        let (most, sum) = (max(all), log_sum_exp(all));
        let first = all.iter().position(|&x| x == most);
        let one = |(at, x): (usize, &f64)| match op {
            "Softmax" => (x - sum).exp(),
            "LogSoftmax" => x - sum,
            _ => f64::from(u8::from(Some(at) == first)),
        };
        all.iter().enumerate().map(one).collect()
    };
    let axes: Vec<bool> =
        (0..value.rank()).map(|other| other == axis || d.opset < 13 && other > axis).collect();
    let results: Vec<Vec<f64>> = groups(&value, &axes).iter().map(f).collect();
    let output = joined(&value.dims, &axes, &results);
    d.node(op, &[Some(id)], &attrs, Value { exact: op == "Hardmax", ..output });
    Ok(())
}

fn cum_sum(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() > 0)? else { return Ok(()) };
    let value = d.value(id).clone();
    let (axis, written) = d.axis(value.rank())?;
    let (exclusive, reverse) = (d.once_in(2)?, d.once_in(2)?);
    let attrs = [("exclusive", Attr::Int(exclusive.into())), ("reverse", Attr::Int(reverse.into()))];
    let step = strides(&value.dims)[axis];
    let sum = |(place, &own): (Vec<usize>, &f64)| -> f64 {
        let start = offset_in(&value.dims, &place) - place[axis] * step;
        let range = if reverse { place[axis] + 1..value.dims[axis] } else { 0..place[axis] };
        let others: f64 = range.map(|at| value.data[start + at * step]).sum();
        if exclusive { others } else { others + own }
    };
    let data = Walk::new(&value.dims).zip(&value.data).map(sum).collect();
    let along = d.ints_of(&[], &[written]);
    d.node("CumSum", &[Some(id), Some(along)], &attrs, Value::new(value.dims.clone(), data).exact());
    Ok(())
}

/// The order of two numbers; both zeros are equal.
fn ordered(a: f64, b: f64) -> std::cmp::Ordering {
    a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal)
}

fn top_k(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.exact && value.rank() > 0)? else { return Ok(()) };
    let value = d.value(id).clone();
    let (axis, written) = d.axis(value.rank())?;
    let count = 1 + d.below(value.dims[axis])?;
    let largest = d.once_in(2)?;
    let attrs = [("axis", Attr::Int(written)), ("largest", Attr::Int(largest.into()))];
    let axes = only(value.rank(), axis);
    let (mut values, mut places) = (Vec::new(), Vec::new());
    for all in groups(&value, &axes) {
        let mut order: Vec<usize> = (0..all.len()).collect();
        // Equal elements stay in their order.
        order.sort_by(|&a, &b| if largest { ordered(all[b], all[a]) } else { ordered(all[a], all[b]) });
        order.truncate(count);
        values.push(order.iter().map(|&at| all[at]).collect());
        places.push(order.iter().map(|&at| at as f64).collect());
    }
    let mut dims = value.dims.clone();
    dims[axis] = count;
    let outputs =
        vec![joined(&dims, &axes, &values).exact(), joined(&dims, &axes, &places).exact().kind(Kind::Whole)];
    let number = d.ints(&[count as i64]);
    d.node_many("TopK", &[Some(id), Some(number)], &attrs, outputs);
    Ok(())
}
