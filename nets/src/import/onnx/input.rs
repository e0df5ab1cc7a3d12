//! The inputs of a model, and the extents that the caller or the model gives them.

use super::proto::{Dim, GraphDef, ValueInfo};
use super::source::ModelSource;
use super::tensor::type_name;
use super::value::{Kind, checked_len};
use super::{ImportOptions, InputExtents};
use crate::error::{OnnxError, Place};
use std::collections::{HashMap, HashSet};

/// A graph input that is not an initializer.
#[derive(Debug, Clone)]
pub(super) struct Input<'a> {
    pub(super) name: &'a str,
    pub(super) dims: Vec<usize>,
    pub(super) kind: Kind,
    /// Which axes are the batch.
    batched: Vec<bool>,
}

/// All inputs, in the order of the model.
#[derive(Debug, Clone)]
pub(super) struct Inputs<'a> {
    pub(super) list: Vec<Input<'a>>,
    /// The first extent of the first input.
    pub(super) batch: usize,
    /// The model's name for the batch size, if the batch is symbolic.
    pub(super) batch_name: Option<&'a str>,
    /// Whether the extents match every number in the model.
    pub(super) as_written: bool,
}

impl<'a> Inputs<'a> {
    pub(super) fn of(
        source: &ModelSource,
        graph: &'a GraphDef,
        options: &ImportOptions,
        data: &[InputExtents<'_>],
    ) -> Result<Self, OnnxError> {
        let stored: HashSet<&str> = graph.initializers.iter().map(|tensor| tensor.name.as_str()).collect();
        let infos: Vec<&ValueInfo> =
            graph.inputs.iter().filter(|input| !stored.contains(input.name.as_str())).collect();
        if infos.is_empty() {
            return Err(source.error(Place::Model, "expected at least one input, got none"));
        }
        check_names(source, &infos, data)?;
        let mut symbols: HashMap<&str, usize> = HashMap::new();
        let mut list = Vec::new();
        for (number, info) in infos.iter().enumerate() {
            let fault = |problem: String| source.error(Place::Value(info.name.clone()), problem);
            let written = info.dims.as_deref();
            let given = data.iter().find(|given| given.name == info.name || given.name.is_empty());
            let options = if infos.len() == 1 {
                *options
            } else {
                ImportOptions { input: None, axes: None, ..*options }
            };
            let wanted = Wanted { written, options, first: number == 0, symbols: &symbols };
            let dims = match given {
                Some(given) => wanted.checked(given.dims),
                None => wanted.extents(),
            };
            let dims = dims.map_err(&fault)?;
            if checked_len(&dims).is_none_or(|len| len == 0) {
                return Err(fault(format!("expected extents that can be addressed, got {dims:?}")));
            }
            for (dim, &extent) in written.unwrap_or_default().iter().zip(&dims) {
                if let Dim::Symbol(name) = dim
                    && !name.is_empty()
                    && *symbols.entry(name).or_insert(extent) != extent
                {
                    let known = symbols[name.as_str()];
                    return Err(fault(format!("expected {known} as extent `{name}`, got {extent}")));
                }
            }
            let kind = kind(info.dtype).map_err(&fault)?;
            list.push(Input { name: &info.name, batched: vec![false; dims.len()], dims, kind });
        }
        let first = infos[0].dims.as_deref().unwrap_or_default().first();
        let batch_name = match first {
            Some(Dim::Symbol(name)) if !name.is_empty() => Some(name.as_str()),
            _ => None,
        };
        for (input, info) in list.iter_mut().zip(&infos) {
            let written = info.dims.as_deref().unwrap_or_default();
            for (batched, dim) in input.batched.iter_mut().zip(written) {
                *batched = matches!(dim, Dim::Symbol(name) if Some(name.as_str()) == batch_name);
            }
        }
        if let (Some(batched), 1) = (list[0].batched.first_mut(), infos.len()) {
            *batched = true;
        }
        let batch = list[0].dims.first().copied().unwrap_or(1);
        let as_written = infos.iter().zip(&list).all(|(info, input)| input.agrees(info.dims.as_deref()));
        Ok(Self { list, batch, batch_name, as_written })
    }

    /// The same inputs with another batch size; `None` if no input depends on it.
    pub(super) fn with_batch(&self, batch: usize) -> Option<Self> {
        let mut other = self.clone();
        let mut any = false;
        for input in &mut other.list {
            for (dim, _) in input.dims.iter_mut().zip(&input.batched).filter(|(_, batched)| **batched) {
                (*dim, any) = (batch, true);
            }
        }
        other.batch = batch;
        other.as_written &= self.batch_name.is_some();
        any.then_some(other)
    }
}

impl Input<'_> {
    fn agrees(&self, written: Option<&[Dim]>) -> bool {
        let same = |(dim, &extent): (&Dim, &usize)| match dim {
            Dim::Known(known) => usize::try_from(*known).ok() == Some(extent),
            Dim::Symbol(_) => true,
        };
        written.unwrap_or_default().iter().zip(&self.dims).all(same)
    }
}

fn check_names(
    source: &ModelSource,
    infos: &[&ValueInfo],
    data: &[InputExtents<'_>],
) -> Result<(), OnnxError> {
    let names: Vec<&str> = infos.iter().map(|info| info.name.as_str()).collect();
    for given in data {
        let known = names.contains(&given.name) || given.name.is_empty() && names.len() == 1;
        if !known {
            let got = if given.name.is_empty() { "data without a name" } else { given.name };
            let problem = format!("expected data for the inputs {}, got {got}", names.join(", "));
            return Err(source.error(Place::Model, problem));
        }
    }
    Ok(())
}

/// The kind of elements of an input. All data is given as `f32`.
fn kind(dtype: i64) -> Result<Kind, String> {
    match dtype {
        // Texts and complex numbers.
        8 | 14 | 15 => Err(format!("expected numbers, got elements of type {}", type_name(dtype))),
        0 => Ok(Kind::Float),
        _ => Ok(Kind::of(dtype)),
    }
}

/// What is said about the extents of an input.
struct Wanted<'a> {
    written: Option<&'a [Dim]>,
    options: ImportOptions,
    /// Whether its first axis is the batch.
    first: bool,
    /// The extents of names that are known.
    symbols: &'a HashMap<&'a str, usize>,
}

impl Wanted<'_> {
    /// The extents of data, which replace those of the model. The number of axes must be the model's.
    fn checked(&self, dims: &[usize]) -> Result<Vec<usize>, String> {
        let Some(written) = self.written else { return Ok(dims.to_vec()) };
        if dims.len() != written.len() {
            return Err(axes_differ(written, dims.len()));
        }
        Ok(dims.to_vec())
    }

    /// The extents of the options and the model, batch first, or the reason why there are none.
    fn extents(&self) -> Result<Vec<usize>, String> {
        let (options, written) = (&self.options, self.written.unwrap_or_default());
        let axes = options.axes.or((!written.is_empty()).then_some(written.len()));
        if let Some(axes) = options.axes.filter(|&axes| !written.is_empty() && axes != written.len()) {
            return Err(axes_differ(written, axes));
        }
        let Some(shape) = options.input else {
            if self.written.is_none() {
                return Err("expected extents, got none: give them with --input".to_owned());
            }
            return written.iter().enumerate().map(|(axis, dim)| self.extent(dim, axis == 0)).collect();
        };
        let batch = written.first().map_or(Ok(options.batch), |first| self.extent(first, true))?;
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

    /// One extent, or the reason why it is invalid. Some exporters write -1 for an extent that has no number.
    fn extent(&self, dim: &Dim, first_axis: bool) -> Result<usize, String> {
        match dim {
            Dim::Known(extent @ 1..) => {
                usize::try_from(*extent).map_err(|_| format!("expected extents below 2^63, got {extent}"))
            }
            Dim::Known(extent) if *extent != -1 => {
                Err(format!("expected extents of at least 1, got {extent}"))
            }
            Dim::Symbol(name) if self.symbols.contains_key(name.as_str()) => Ok(self.symbols[name.as_str()]),
            Dim::Symbol(_) | Dim::Known(_) if first_axis && self.first => Ok(self.options.batch),
            Dim::Symbol(name) => {
                let name = if name.is_empty() { "?" } else { name };
                Err(format!("expected a number as extent, got `{name}`: give the shape with --input"))
            }
            Dim::Known(extent) => {
                Err(format!("expected a number as extent, got {extent}: give the shape with --input"))
            }
        }
    }
}

fn axes_differ(written: &[Dim], axes: usize) -> String {
    let model = written.len();
    format!("expected data of {model} axes for the model's input {}, got {axes}", said(written))
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
