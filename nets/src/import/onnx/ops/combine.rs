//! Operators with several inputs, some of which can be constants.

use super::super::broadcast::per_channel;
use super::super::draft::Recipe;
use super::super::importer::Importer;
use super::super::node::{Call, Outcome, axis, unsupported, wrong};
use super::super::value::{Constant, Data, Kind, Tap, Value};
use crate::layer::{Conv, Layer, Linear};

pub(super) fn concat(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let first = importer.image(call, 0)?;
    let along = axis(call.int("axis")?.unwrap_or(1), first.dims.len())?;
    if along != 1 {
        return unsupported(format!("a concatenation along axis {along}"));
    }
    let images = images(importer, call)?;
    let first = &images[0].dims;
    if let Some(other) = images.iter().find(|image| image.dims[2..] != first[2..]) {
        return wrong(format!(
            "expected inputs that differ on axis 1 alone, got {first:?} and {:?}",
            other.dims
        ));
    }
    importer.layer(call, Layer::Concat, &images, &[])
}

/// All inputs, which must be activations of equal rank.
fn images<'c>(importer: &Importer<'_>, call: &'c Call<'_>) -> Outcome<Vec<&'c Tap>> {
    let rank = importer.image(call, 0)?.dims.len();
    let image = |index| {
        let tap = importer.image(call, index)?;
        if tap.dims.len() == rank { Ok(tap) } else { unsupported("inputs of different ranks") }
    };
    (0..call.inputs.len()).map(image).collect()
}

/// Sums and products of activations with each other or with constants per channel.
pub(super) fn arithmetic(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let op = call.def.op.as_str();
    match (op, call.inputs.as_slice()) {
        // Up to opset 6 only the second operand can be broadcast.
        ("Add" | "Mul", [Some(Value::Constant(constant)), Some(Value::Tap(tap))])
            if call.opset < 7 && constant.dims != tap.dims =>
        {
            unsupported(format!("opset {}: a constant of {:?} as first operand", call.opset, constant.dims))
        }
        ("Add" | "Sum" | "Mul", [Some(Value::Constant(constant)), Some(Value::Tap(tap))])
        | ("Add" | "Sum" | "Mul" | "Sub" | "Div", [Some(Value::Tap(tap)), Some(Value::Constant(constant))]) => {
            with_constant(importer, call, tap, constant)
        }
        ("Mul", [Some(Value::Tap(a)), Some(Value::Tap(b))]) => product(importer, call, a, b),
        ("Sum", [Some(Value::Tap(tap))]) => Ok(tap.clone()),
        ("Add" | "Sum", _) => {
            let images = images(importer, call)?;
            if images.iter().any(|image| image.dims != images[0].dims) {
                return unsupported("a sum of different extents");
            }
            importer.layer(call, Layer::Add, &images, &[])
        }
        _ => unsupported("operands of this kind"),
    }
}

fn product(importer: &mut Importer<'_>, call: &Call<'_>, a: &Tap, b: &Tap) -> Outcome<Tap> {
    importer.image(call, 0)?;
    importer.image(call, 1)?;
    if a.dims.len() != b.dims.len() {
        return unsupported("inputs of different ranks");
    }
    let elements = |tap: &Tap| tap.dims.iter().product::<usize>();
    let (large, small) = if elements(a) >= elements(b) { (a, b) } else { (b, a) };
    let one_pixel = small.dims[1] == large.dims[1] && small.dims[2..].iter().all(|&dim| dim == 1);
    if large.dims != small.dims && !one_pixel {
        return unsupported(format!("a product of {:?} and {:?}", a.dims, b.dims));
    }
    importer.layer(call, Layer::Mul, &[large, small], &[])
}

fn with_constant(
    importer: &mut Importer<'_>,
    call: &Call<'_>,
    tap: &Tap,
    constant: &Constant,
) -> Outcome<Tap> {
    importer.batch_first(tap)?;
    let constant = per_channel(call, &tap.dims, constant)?;
    let (scale, recipe) = match call.def.op.as_str() {
        "Mul" => (true, Recipe::from(&constant)),
        "Div" => (true, Recipe::from(&inverse(call, &constant)?)),
        "Sub" => (false, Recipe { constant, factor: -1.0 }),
        _ => (false, Recipe::from(&constant)),
    };
    if !scale && let Some(merged) = absorb(importer, call, tap, &recipe) {
        return Ok(merged);
    }
    let layer = Layer::Scale { scale, shift: !scale };
    let tensor = if scale { "weight" } else { "bias" };
    importer.layer_of(call, layer, &[tap], vec![(tensor, recipe)])
}

fn inverse(call: &Call<'_>, constant: &Constant) -> Outcome<Constant> {
    match constant.small(call.source)? {
        Some(values) => {
            let data = Data::Small(values.iter().map(|&value| 1.0 / value).collect());
            Ok(Constant { dims: constant.dims.clone(), kind: Kind::Float, data })
        }
        None => unsupported("a large constant as divisor"),
    }
}

/// Turns a shift after a layer without a bias into the bias of that layer.
fn absorb(importer: &mut Importer<'_>, call: &Call<'_>, tap: &Tap, recipe: &Recipe) -> Option<Tap> {
    let value = importer.only_read_by(call, tap)?;
    let step = &mut importer.draft.steps[tap.step];
    if step.value != value || recipe.constant.dims != [step.output.channels()] {
        return None;
    }
    match &mut step.layer {
        Layer::Conv(Conv { bias: bias @ false, .. })
        | Layer::Linear(Linear { bias: bias @ false, .. })
        | Layer::Scale { shift: bias @ false, .. } => *bias = true,
        _ => return None,
    }
    step.tensors.push(("bias", recipe.clone()));
    step.value = call.def.outputs.first()?.clone();
    Some(tap.clone())
}
