//! Matrix products and sums of products.

use super::{Attr, Draw, DrawOp, Id, MOST, MOST_AXES, Value, Walk, broadcast, offset_in};
use arbitrary::Result;

pub const OPS: &[(&str, DrawOp)] = &[("MatMul", matmul), ("Gemm", gemm), ("Einsum", einsum)];

/// Products of one operator. The loops compute them one by one.
const MOST_PRODUCTS: usize = 60_000;

/// A value that is small enough for a product, and the other operand.
fn columns(d: &mut Draw<'_, '_>) -> Result<usize> {
    Ok(match d.below(4)? {
        0 => *d.u.choose(&[16, 17, 32])?,
        _ => 1 + d.below(6)?,
    })
}

/// The extents of a product of matrices, broadcast over the leading axes; `None` if they do not fit. A vector on the left is
/// a row, one on the right a column.
fn product_dims(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let (rows, inner) = match a {
        [] => return None,
        [inner] => (None, *inner),
        [.., rows, inner] => (Some(*rows), *inner),
    };
    let (depth, columns) = match b {
        [] => return None,
        [depth] => (*depth, None),
        [.., depth, columns] => (*depth, Some(*columns)),
    };
    let outer = |dims: &[usize]| dims[..dims.len().saturating_sub(2)].to_vec();
    let mut dims = broadcast(&[&outer(a), &outer(b)])?;
    dims.extend(rows);
    dims.extend(columns);
    let products = dims.iter().product::<usize>() * inner;
    let fits = inner == depth && dims.len() <= MOST_AXES && products <= MOST_PRODUCTS;
    (fits && dims.iter().product::<usize>() <= MOST).then_some(dims)
}

fn matrix_product(a: &Value, b: &Value) -> Option<Value> {
    let dims = product_dims(&a.dims, &b.dims)?;
    let inner = *a.dims.last()?;
    let (has_rows, has_columns) = (a.rank() > 1, b.rank() > 1);
    let element = |place: Vec<usize>| {
        let outer = &place[..place.len() - usize::from(has_rows) - usize::from(has_columns)];
        let row = place.get(outer.len()).copied().unwrap_or(0);
        let column = place.last().copied().unwrap_or(0);
        let product = |k: usize| {
            let left = if has_rows { [outer, &[row, k]].concat() } else { vec![k] };
            let right = if has_columns { [outer, &[k, column]].concat() } else { vec![k] };
            let of = |value: &Value, place: &[usize]| value.data[offset_in(&value.dims, place)];
            of(a, &left) * of(b, &right)
        };
        (0..inner).map(product).sum()
    };
    let data = Walk::new(&dims).map(element).collect();
    Some(Value::new(dims, data).exact())
}

/// Another operand of a product: a constant of some rank, on the right or on the left.
fn matmul(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() > 0)? else { return Ok(()) };
    let dims = d.value(id).dims.clone();
    if d.once_in(3)? {
        // Two computed operands.
        let other = d.pick(|value| product_dims(&dims, &value.dims).is_some())?;
        if let Some(other) = other {
            return multiply(d, id, other);
        }
    }
    let on_left = d.once_in(3)?;
    let inner = if on_left && dims.len() > 1 { dims[dims.len() - 2] } else { dims[dims.len() - 1] };
    let mut own = match (d.once_in(4)?, on_left) {
        (true, _) => vec![inner],
        (false, true) => vec![columns(d)?, inner],
        (false, false) => vec![inner, columns(d)?],
    };
    if own.len() == 2 && d.once_in(2)? {
        let outer = dims[..dims.len().saturating_sub(2)].to_vec();
        let outer = super::binary::partner(d, &outer, true)?;
        own = [outer, own].concat();
    }
    let fits = if on_left { product_dims(&own, &dims) } else { product_dims(&dims, &own) };
    if fits.is_none() {
        return Ok(());
    }
    let other = d.constant(&own, -1.0, 1.0)?;
    if on_left { multiply(d, other, id) } else { multiply(d, id, other) }
}

fn multiply(d: &mut Draw<'_, '_>, a: Id, b: Id) -> Result<()> {
    if let Some(output) = matrix_product(d.value(a), d.value(b)) {
        d.node("MatMul", &[Some(a), Some(b)], &[], output);
    }
    Ok(())
}

/// The matrix with rows and columns exchanged.
fn transposed(value: &Value) -> Value {
    let dims = vec![value.dims[1], value.dims[0]];
    super::shapes::moved(value, dims, 0.0, |place| Some(vec![place[1], place[0]]))
}

/// `alpha * A * B + beta * C`, where each matrix can be stored transposed.
fn gemm(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() == 2)? else { return Ok(()) };
    let value = d.value(id).clone();
    let (trans_a, trans_b) = (d.once_in(2)?, d.once_in(2)?);
    let on_left = d.once_in(4)?;
    let width = columns(d)?;
    // The extent that is summed over, and the other operand as it is stored.
    let (inner, own) = match on_left {
        true => (value.dims[usize::from(trans_b)], trans_a),
        false => (value.dims[usize::from(!trans_a)], !trans_b),
    };
    let own = if own { [inner, width] } else { [width, inner] };
    if value.len() * width > MOST_PRODUCTS {
        return Ok(());
    }
    let other = d.constant(&own, -1.0, 1.0)?;
    let (a, b) = if on_left { (other, id) } else { (id, other) };
    let stored = |id: Id, turned: bool| if turned { transposed(d.value(id)) } else { d.value(id).clone() };
    let Some(product) = matrix_product(&stored(a, trans_a), &stored(b, trans_b)) else { return Ok(()) };
    let (mut attrs, mut alpha, mut beta) = (Vec::new(), 1.0f32, 1.0f32);
    for (name, is_turned) in [("transA", trans_a), ("transB", trans_b)] {
        if is_turned || d.once_in(2)? {
            attrs.push((name, Attr::Int(is_turned.into())));
        }
    }
    for (name, factor) in [("alpha", &mut alpha), ("beta", &mut beta)] {
        if d.once_in(2)? {
            *factor = *d.u.choose(&[0.5, -1.25, 0.0, 2.0])?;
            attrs.push((name, Attr::Float(*factor)));
        }
    }
    let addend = match d.below(3)? {
        0 => None,
        _ => {
            let own = super::binary::partner(d, &product.dims, false)?;
            Some(d.constant(&own, -2.0, 2.0)?)
        }
    };
    let element = |(place, &x): (Vec<usize>, &f64)| {
        let of = |id: Id| d.value(id).data[offset_in(&d.value(id).dims, &place)];
        f64::from(alpha) * x + f64::from(beta) * addend.map_or(0.0, of)
    };
    let data = Walk::new(&product.dims).zip(&product.data).map(element).collect();
    d.node("Gemm", &[Some(a), Some(b), addend], &attrs, Value::new(product.dims.clone(), data));
    Ok(())
}

/// Equations for values of two to four axes: the letters of the operands and of the result.
const EQUATIONS: &[(&str, &[&str], &str)] = &[
    ("ij,jk->ik", &["ij", "jk"], "ik"),
    ("ij,kj->ki", &["ij", "kj"], "ki"),
    ("ij->ji", &["ij"], "ji"),
    ("ij->", &["ij"], ""),
    ("ij", &["ij"], "ij"),
    ("ba", &["ba"], "ab"),
    ("ij,ij->i", &["ij", "ij"], "i"),
    ("ijk,ikl->ijl", &["ijk", "ikl"], "ijl"),
    ("ijk, lk -> lij", &["ijk", "lk"], "lij"),
    ("ijk->j", &["ijk"], "j"),
    ("bhqd,bhkd->bhqk", &["bhqd", "bhkd"], "bhqk"),
    ("abcd,ce,df->abef", &["abcd", "ce", "df"], "abef"),
    ("i,j->ij", &["i", "j"], "ij"),
];

fn einsum(d: &mut Draw<'_, '_>) -> Result<()> {
    let (text, terms, result) = *d.u.choose(EQUATIONS)?;
    let Some(id) = d.pick(|value| value.rank() == terms[0].len())? else { return Ok(()) };
    let mut extents = std::collections::BTreeMap::new();
    for (letter, &dim) in terms[0].chars().zip(&d.value(id).dims.clone()) {
        extents.insert(letter, dim);
    }
    let mut ids = vec![id];
    for term in &terms[1..] {
        let mut own = Vec::new();
        for letter in term.chars() {
            let known = extents.get(&letter).copied();
            own.push(match known {
                Some(dim) => dim,
                None => 1 + d.below(4)?,
            });
            extents.insert(letter, own[own.len() - 1]);
        }
        if own.iter().product::<usize>() > MOST {
            return Ok(());
        }
        ids.push(d.constant(&own, -1.0, 1.0)?);
    }
    if extents.values().product::<usize>() > MOST_PRODUCTS {
        return Ok(());
    }
    let letters: Vec<char> = extents.keys().copied().collect();
    let all: Vec<usize> = extents.values().copied().collect();
    let at = |term: &str, place: &[usize]| -> Vec<usize> {
        term.chars().map(|c| place[letters.iter().position(|&letter| letter == c).unwrap_or(0)]).collect()
    };
    let dims: Vec<usize> = result.chars().map(|letter| extents[&letter]).collect();
    if dims.iter().product::<usize>() > MOST {
        return Ok(());
    }
    let mut data = vec![0.0; dims.iter().product()];
    for place in Walk::new(&all) {
        let of =
            |(term, &id): (&&str, &Id)| d.value(id).data[offset_in(&d.value(id).dims, &at(term, &place))];
        data[offset_in(&dims, &at(result, &place))] += terms.iter().zip(&ids).map(of).product::<f64>();
    }
    let inputs: Vec<Option<Id>> = ids.iter().map(|&id| Some(id)).collect();
    d.node("Einsum", &inputs, &[("equation", Attr::Text(text))], Value::new(dims, data));
    Ok(())
}
