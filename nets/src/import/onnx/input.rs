//! The input of a model: one tensor with the batch as its first axis.

use super::ImportOptions;
use super::proto::{Dim, GraphDef, ValueInfo};
use super::source::ModelSource;
use super::value::checked_len;
use crate::error::{OnnxError, Place};
use std::collections::HashSet;

/// The only graph input that is not an initializer.
#[derive(Debug, Clone)]
pub(super) struct Input<'a> {
    pub(super) name: &'a str,
    /// Its extents, batch first.
    pub(super) dims: Vec<usize>,
    /// The model's name for the batch size, if the batch is symbolic.
    pub(super) batch_name: Option<&'a str>,
    /// Whether the extents match every number in the model.
    pub(super) as_written: bool,
}

impl<'a> Input<'a> {
    pub(super) fn of(
        source: &ModelSource,
        graph: &'a GraphDef,
        options: &ImportOptions,
    ) -> Result<Self, OnnxError> {
        let stored: HashSet<&str> = graph.initializers.iter().map(|tensor| tensor.name.as_str()).collect();
        let inputs: Vec<&ValueInfo> =
            graph.inputs.iter().filter(|input| !stored.contains(input.name.as_str())).collect();
        let &[info] = inputs.as_slice() else {
            let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).take(8).collect();
            let problem = format!("expected one input, got {} ({})", inputs.len(), names.join(", "));
            return Err(source.error(Place::Model, problem));
        };
        let fault = |problem: String| source.error(Place::Value(info.name.clone()), problem);
        let written = info.dims.as_deref().unwrap_or_default();
        let dims = extents(written, options).map_err(&fault)?;
        if dims.len() < 2 || checked_len(&dims).is_none_or(|len| len == 0) {
            return Err(fault(format!("expected a batch and extents that can be addressed, got {dims:?}")));
        }
        let batch_name = match written.first() {
            Some(Dim::Symbol(name)) if !name.is_empty() => Some(name.as_str()),
            _ => None,
        };
        let input = Self { name: &info.name, dims, batch_name, as_written: false };
        let as_written = input.agrees(written);
        Ok(Self { as_written, ..input })
    }

    fn agrees(&self, written: &[Dim]) -> bool {
        let same = |(dim, &extent): (&Dim, &usize)| match dim {
            Dim::Known(known) => usize::try_from(*known).ok() == Some(extent),
            Dim::Symbol(_) => true,
        };
        written.iter().zip(&self.dims).all(same)
    }

    /// The same input with another batch size.
    pub(super) fn with_batch(&self, batch: usize) -> Self {
        let mut other = self.clone();
        other.dims[0] = batch;
        other.as_written &= self.batch_name.is_some();
        other
    }
}

/// The extents of the input, batch first, or the reason why there are none.
fn extents(written: &[Dim], options: &ImportOptions) -> Result<Vec<usize>, String> {
    let axes = options.axes.or((!written.is_empty()).then_some(written.len()));
    if let Some(axes) = options.axes.filter(|&axes| !written.is_empty() && axes != written.len()) {
        return Err(format!(
            "expected data of {} axes for the model's input {}, got {axes}",
            written.len(),
            said(written)
        ));
    }
    let Some(shape) = options.input else {
        if written.is_empty() {
            return Err("expected extents, got none: give them with --input".to_owned());
        }
        return written.iter().enumerate().map(|(axis, dim)| extent(dim, axis == 0, options)).collect();
    };
    let batch = written.first().map_or(Ok(options.batch), |first| extent(first, true, options))?;
    let dims = [&[batch], shape.dims().as_slice()].concat();
    match (axes, dims.as_slice()) {
        // An image of one row becomes a row.
        (Some(3), &[n, c, 1, w]) => Ok(vec![n, c, w]),
        (Some(axes), dims) if axes != dims.len() => {
            Err(format!("expected an input of {axes} axes with the batch, got {dims:?}"))
        }
        _ => Ok(dims),
    }
}

/// Formats extents as in the model: `[N, 3, 224, 224]`.
fn said(written: &[Dim]) -> String {
    let dims = written.iter().map(|dim| match dim {
        Dim::Known(extent) => extent.to_string(),
        Dim::Symbol(name) if name.is_empty() => "?".to_owned(),
        Dim::Symbol(name) => name.clone(),
    });
    format!("[{}]", dims.collect::<Vec<_>>().join(", "))
}

/// One extent of the input, or the reason why it is invalid.
fn extent(dim: &Dim, batch: bool, options: &ImportOptions) -> Result<usize, String> {
    match dim {
        Dim::Known(extent) => match usize::try_from(*extent) {
            Ok(extent @ 1..) => Ok(extent),
            _ => Err(format!("expected extents of at least 1, got {extent}")),
        },
        Dim::Symbol(_) if batch => Ok(options.batch),
        Dim::Symbol(name) => {
            let name = if name.is_empty() { "?" } else { name };
            Err(format!("expected a number as extent, got `{name}`: give the shape with --input"))
        }
    }
}
