//! Placeholders for nodes without a layer. Their parameters are counted, but not their operations. The
//! extents of their outputs are known only if the model or the operator determines them.

use super::draft::Recipe;
use super::extents;
use super::importer::Importer;
use super::node::{Call, Outcome};
use super::proto::Dim;
use super::value::{Constant, Data, Kind, Tap, Unknown, Value, checked_len};
use crate::layer::{Layer, Param, Role};
use crate::shape::Shape;
use std::sync::Arc;

/// Parameters, and the recipe of each.
type Trained = (Vec<Param>, Vec<(&'static str, Recipe)>);

impl<'a> Importer<'a> {
    /// Adds a placeholder for a node without a layer.
    pub(super) fn unknown(&mut self, call: &Call<'a>, why: &str) -> Outcome<()> {
        let op = &call.def.op;
        let (mut params, mut tensors) = trained(call);
        let besides = if params.is_empty() { "" } else { " but for its parameters" };
        self.warn(&format!("operator {op} is counted as zero{besides}: {why}"), call);
        let before = call.inputs.iter().flatten().find_map(|input| match input {
            Value::Unknown(unknown) => Some(unknown.origin.clone()),
            _ => None,
        });
        let steps: Vec<usize> = call.inputs.iter().flatten().filter_map(Value::step).collect();
        let names = call.def.outputs.iter().enumerate().filter(|(_, name)| !name.is_empty());
        for (index, output) in names {
            let dims = match self.written(output) {
                Some(dims) => Some(dims),
                None => extents::of(call, index)?,
            };
            let step = if steps.is_empty() {
                None
            } else {
                let known = dims.as_ref().and_then(|dims| Shape::of(dims, self.batch));
                let output = known.unwrap_or(Shape::Unknown);
                // The first output already has the parameters.
                let (params, tensors) = (std::mem::take(&mut params), std::mem::take(&mut tensors));
                let layer = Layer::Unknown {
                    op: op.clone(),
                    output,
                    params,
                    reason: format!("opset {}: {why}", call.opset),
                };
                Some(self.push(call, layer, steps.clone(), tensors)?)
            };
            let value = match (dims, step) {
                (Some(dims), Some(step)) => Value::Tap(Tap { step, dims, kind: Kind::Float }),
                (Some(dims), None) => {
                    let data = Data::Opaque(format!("the result of operator {op}"));
                    Value::Constant(Constant { dims, kind: Kind::Float, data })
                }
                (None, step) => {
                    let origin = || Arc::from(format!("they come from node `{}` ({op})", call.name));
                    Value::Unknown(Unknown { step, origin: before.clone().unwrap_or_else(origin) })
                }
            };
            self.values.insert(output, value);
        }
        Ok(())
    }

    /// The extents that the exporter recorded for a value. They are valid only for the recorded input shape.
    fn written(&self, value: &str) -> Option<Vec<usize>> {
        let dims = self.infos.get(value).filter(|_| self.as_written)?.dims.as_ref()?;
        let extent = |(axis, dim): (usize, &Dim)| match dim {
            Dim::Known(extent) => usize::try_from(*extent).ok().filter(|&extent| extent > 0),
            Dim::Symbol(name) => {
                let batch = axis == 0 && !name.is_empty() && Some(name.as_str()) == self.batch_name;
                batch.then_some(self.batch)
            }
        };
        let dims: Vec<usize> = dims.iter().enumerate().map(extent).collect::<Option<_>>()?;
        checked_len(&dims).map(|_| dims)
    }
}

/// The tensors of a node that are known to be parameters.
fn trained(call: &Call<'_>) -> Trained {
    const WEIGHT: Role = Role::Weight { fan_in: 1.0, fan_out: 1.0 };
    let roles: &[(usize, &'static str, Role)] = match call.def.op.as_str() {
        "Conv" | "ConvTranspose" | "Gemm" => &[(1, "weight", WEIGHT), (2, "bias", Role::Bias)],
        "MatMul" => &[(0, "weight", WEIGHT), (1, "weight", WEIGHT)],
        "PRelu" => &[(1, "weight", Role::Slope)],
        "InstanceNormalization" | "LayerNormalization" | "GroupNormalization" => {
            &[(1, "weight", Role::Scale), (2, "bias", Role::Shift)]
        }
        "BatchNormalization" => &[
            (1, "weight", Role::Scale),
            (2, "bias", Role::Shift),
            (3, "running_mean", Role::RunningMean),
            (4, "running_var", Role::RunningVar),
        ],
        _ => &[],
    };
    let constant = |index| match call.input(index) {
        Some(Value::Constant(constant)) if !constant.is_whole() => Some(constant),
        _ => None,
    };
    let found = roles.iter().filter_map(|&(index, name, role)| Some((name, role, constant(index)?)));
    let tensors = found.map(|(name, role, constant)| {
        (Param { name, dims: constant.dims.clone(), role }, (name, Recipe::from(constant)))
    });
    tensors.unzip()
}
