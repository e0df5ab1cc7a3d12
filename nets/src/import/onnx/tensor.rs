//! `TensorProto`: the description of a tensor and the position of its elements, which are read only on demand.

use super::external::{self, External};
use super::source::ModelSource;
use super::wire::{Field, Span, Wire};
use crate::error::{OnnxError, Place};

/// The element types that are treated differently.
pub(super) mod dtype {
    pub(crate) const FLOAT: i64 = 1;
    pub(crate) const UINT8: i64 = 2;
    pub(crate) const INT8: i64 = 3;
    pub(crate) const UINT16: i64 = 4;
    pub(crate) const INT16: i64 = 5;
    pub(crate) const INT32: i64 = 6;
    pub(crate) const INT64: i64 = 7;
    pub(crate) const BOOL: i64 = 9;
    pub(crate) const FLOAT16: i64 = 10;
    pub(crate) const DOUBLE: i64 = 11;
    pub(crate) const BFLOAT16: i64 = 16;

    /// Whether the type is a floating-point type.
    pub(crate) const fn is_float(dtype: i64) -> bool {
        matches!(dtype, FLOAT | FLOAT16 | DOUBLE | BFLOAT16)
    }
}

/// Maximum number of elements of a tensor.
const MAX_ELEMENTS: u64 = 1 << 40;

/// A `TensorProto` without its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorDef {
    pub(super) name: String,
    pub(super) dims: Vec<i64>,
    /// The number of its element type.
    pub(super) dtype: i64,
    /// The whole message.
    message: Span,
    raw: Option<Span>,
    /// `location`, `offset` and `length` of a separate file, for [`external`].
    external: Option<External>,
}

impl TensorDef {
    /// Reads everything except the elements.
    pub(super) fn read(wire: &mut Wire<'_>, message: Span) -> Result<Self, OnnxError> {
        let (name, dims) = (String::new(), Vec::new());
        let mut tensor = Self { name, dims, dtype: 0, message, raw: None, external: None };
        let (mut entries, mut elsewhere) = (External::default(), false);
        let mut span = message;
        while let Some(field) = wire.next(&mut span)? {
            match field.number {
                1 => wire.ints(&field, &mut tensor.dims)?,
                2 => tensor.dtype = wire.int(&field)?,
                8 => tensor.name = wire.text(&field)?,
                9 => tensor.raw = Some(wire.span(&field)?),
                13 => external_entry(wire, wire.span(&field)?, &mut entries)?,
                14 => elsewhere = wire.int(&field)? == 1,
                _ => {}
            }
        }
        tensor.external = elsewhere.then_some(entries);
        Ok(tensor)
    }

    /// Number of elements by the extents.
    pub(super) fn elements(&self) -> Option<u64> {
        let product = self.dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(u64::try_from(dim).ok()?))?;
        (product <= MAX_ELEMENTS).then_some(product)
    }

    /// Checks the extents, and the number of bytes if that is possible without decoding.
    pub(super) fn check(&self, source: &ModelSource) -> Result<(), OnnxError> {
        let Some(elements) = self.elements() else {
            let problem = format!("expected extents from 0 and at most 2^40 elements, got {:?}", self.dims);
            return Err(self.fault(source, problem));
        };
        let Some((needed, bits)) = bits(self.dtype).map(|bits| ((elements * bits).div_ceil(8), bits)) else {
            return Ok(());
        };
        let got = match (&self.external, self.raw) {
            (Some(entries), _) => match external::locate(&self.name, entries, source, needed) {
                // A model can be counted without the file. Reading the elements fails.
                Err(OnnxError::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => None,
                located => located?.map(|place| place.length),
            },
            (None, raw) => raw.map(Span::len),
        };
        match got {
            Some(got) if got != needed => {
                let shape = &self.dims;
                let problem = format!("expected {needed} bytes ({shape:?} of {bits} bits each), got {got}");
                Err(self.fault(source, problem))
            }
            _ => Ok(()),
        }
    }

    /// The elements of an `f32` tensor.
    pub(super) fn f32s(&self, source: &ModelSource) -> Result<Vec<f32>, OnnxError> {
        if self.dtype != dtype::FLOAT {
            let problem = format!("expected element type FLOAT to run, got {}", type_name(self.dtype));
            return Err(self.fault(source, problem));
        }
        let values = match self.payload(source, f32::from_le_bytes)? {
            Some(values) => values,
            None => self.typed(source, 4, |wire, field, values| wire.floats(field, values))?,
        };
        self.counted(source, values)
    }

    /// The elements as `f32`, converted from any type of numbers of up to 64 bits. Halves are exact, the others rounded.
    pub(super) fn numbers(&self, source: &ModelSource) -> Result<Vec<f32>, OnnxError> {
        match self.dtype {
            dtype::FLOAT => self.f32s(source),
            dtype::FLOAT16 => self.halves(source, half),
            dtype::BFLOAT16 => self.halves(source, |bits| f32::from_bits(u32::from(bits) << 16)),
            _ => match self.small(source, u64::MAX)? {
                Some(Small::Ints(values)) => Ok(values.into_iter().map(|value| value as f32).collect()),
                Some(Small::Floats(values)) => Ok(values.into_iter().map(|value| value as f32).collect()),
                None => self.f32s(source),
            },
        }
    }

    fn halves(&self, source: &ModelSource, decode: fn(u16) -> f32) -> Result<Vec<f32>, OnnxError> {
        let values = match self.payload(source, |bytes| decode(u16::from_le_bytes(bytes)))? {
            Some(values) => values,
            None => {
                let bits = self.typed(source, 5, |wire, field, values| wire.ints(field, values))?;
                bits.into_iter().map(|bits: i64| decode(bits as u16)).collect()
            }
        };
        self.counted(source, values)
    }

    /// Reads the elements from index `first` on. Returns `false` unless they are `f32` stored as bytes.
    pub(super) fn f32s_from(
        &self,
        source: &ModelSource,
        first: usize,
        numbers: &mut [f32],
    ) -> Result<bool, OnnxError> {
        const SIZE: u64 = size_of::<f32>() as u64;
        self.check(source)?;
        let (first, count) = (first as u64, numbers.len() as u64);
        let Some(elements) = self.elements() else { return Ok(false) };
        if self.dtype != dtype::FLOAT || first.checked_add(count).is_none_or(|end| end > elements) {
            return Ok(false);
        }
        let (skip, length, mut at) = (first * SIZE, count * SIZE, 0);
        let mut decode = |bytes: &[u8], _: u64| {
            let values = bytes.as_chunks().0;
            let to = &mut numbers[at..at + values.len()];
            to.iter_mut().zip(values).for_each(|(to, &bytes)| *to = f32::from_le_bytes(bytes));
            at += values.len();
        };
        if let Some(entries) = &self.external {
            let Some(place) = external::locate(&self.name, entries, source, elements * SIZE)? else {
                return Ok(false);
            };
            external::read(&place.part(skip, length), &mut decode)?;
        } else {
            let Some(raw) = self.raw else { return Ok(false) };
            source.windows(raw.start + skip, length, &mut decode)?;
        }
        Ok(true)
    }

    /// The elements of a small tensor of integers or floats, such as shapes, scales and limits.
    pub(super) fn small(&self, source: &ModelSource, limit: u64) -> Result<Option<Small>, OnnxError> {
        if self.elements().is_none_or(|elements| elements > limit) {
            return Ok(None);
        }
        Ok(match self.dtype {
            dtype::FLOAT => Some(Small::Floats(self.f32s(source)?.into_iter().map(f64::from).collect())),
            dtype::DOUBLE => {
                let stored = self.payload(source, f64::from_le_bytes)?;
                stored.map(|values| self.counted(source, values)).transpose()?.map(Small::Floats)
            }
            dtype::INT64 => Some(Small::Ints(self.ints(source, 7, 8)?)),
            dtype::INT32 => Some(Small::Ints(self.ints(source, 5, 4)?)),
            dtype::BOOL | dtype::UINT8 => Some(Small::Ints(self.ints(source, 5, 1)?)),
            dtype::INT8 => Some(Small::Ints(
                self.ints(source, 5, 1)?.into_iter().map(|value| i64::from(value as i8)).collect(),
            )),
            dtype::UINT16 => Some(Small::Ints(self.ints(source, 5, 2)?)),
            dtype::INT16 => Some(Small::Ints(
                self.ints(source, 5, 2)?.into_iter().map(|value| i64::from(value as i16)).collect(),
            )),
            _ => None,
        })
    }

    fn ints(&self, source: &ModelSource, field: u64, size: usize) -> Result<Vec<i64>, OnnxError> {
        let stored = match size {
            1 => self.payload(source, |[byte]: [u8; 1]| i64::from(byte))?,
            2 => self.payload(source, |bytes| i64::from(u16::from_le_bytes(bytes)))?,
            4 => self.payload(source, |bytes| i64::from(i32::from_le_bytes(bytes)))?,
            _ => self.payload(source, i64::from_le_bytes)?,
        };
        let values = match stored {
            Some(values) => values,
            None => self.typed(source, field, |wire, field, values| wire.ints(field, values))?,
        };
        self.counted(source, values)
    }

    /// The elements of a tensor stored as bytes, in this or another file. They are decoded window by window,
    /// because all bytes of a large tensor would double the memory.
    fn payload<T, const N: usize>(
        &self,
        source: &ModelSource,
        decode: impl Fn([u8; N]) -> T,
    ) -> Result<Option<Vec<T>>, OnnxError> {
        self.check(source)?;
        let Some(elements) = self.elements() else { return Ok(None) };
        let needed = bits(self.dtype).map_or(0, |bits| (elements * bits).div_ceil(8));
        let mut values = Vec::new();
        let mut decoded = |bytes: &[u8], left: u64| {
            // `check` has bounded this by the length of the file.
            values.reserve_exact((bytes.len() + left as usize) / N);
            values.extend(bytes.as_chunks().0.iter().map(|&bytes| decode(bytes)));
        };
        if let Some(entries) = &self.external {
            let Some(place) = external::locate(&self.name, entries, source, needed)? else { return Ok(None) };
            external::read(&place, &mut decoded)?;
        } else {
            let Some(raw) = self.raw else { return Ok(None) };
            source.windows(raw.start, raw.len(), &mut decoded)?;
        }
        Ok(Some(values))
    }

    /// The elements of a typed field, which can be in several pieces.
    fn typed<T>(
        &self,
        source: &ModelSource,
        number: u64,
        read: impl Fn(&mut Wire<'_>, &Field, &mut Vec<T>) -> Result<(), OnnxError>,
    ) -> Result<Vec<T>, OnnxError> {
        let (mut wire, mut span, mut values) = (Wire::unlimited(source), self.message, Vec::new());
        while let Some(field) = wire.next(&mut span)? {
            if field.number == number {
                read(&mut wire, &field, &mut values)?;
            }
        }
        Ok(values)
    }

    fn counted<T>(&self, source: &ModelSource, values: Vec<T>) -> Result<Vec<T>, OnnxError> {
        match self.elements() {
            Some(elements) if elements == values.len() as u64 => Ok(values),
            _ => {
                let (dims, got) = (&self.dims, values.len());
                Err(self.fault(source, format!("expected the elements of {dims:?}, got {got}")))
            }
        }
    }

    /// An error in this tensor.
    pub(super) fn fault(&self, source: &ModelSource, problem: impl Into<String>) -> OnnxError {
        source.error(Place::Tensor(self.name.clone()), problem)
    }
}

/// The number that these bits are in half precision (IEEE 754 binary16).
fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(bits >> 15) << 31, (bits >> 10) & 31, u32::from(bits & 1023));
    match exponent {
        0 => {
            let size = fraction as f32 / (1u32 << 24) as f32;
            if sign == 0 { size } else { -size }
        }
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        exponent => f32::from_bits(sign | (u32::from(exponent) + 112) << 23 | fraction << 13),
    }
}

/// The elements of a small tensor.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Small {
    Ints(Vec<i64>),
    Floats(Vec<f64>),
}

/// `StringStringEntryProto`.
fn external_entry(wire: &mut Wire<'_>, mut span: Span, external: &mut External) -> Result<(), OnnxError> {
    let (mut key, mut value) = (String::new(), String::new());
    while let Some(field) = wire.next(&mut span)? {
        match field.number {
            1 => key = wire.text(&field)?,
            2 => value = wire.text(&field)?,
            _ => {}
        }
    }
    match key.as_str() {
        "location" => external.location = value,
        "offset" => external.offset = Some(value),
        "length" => external.length = Some(value),
        _ => {}
    }
    Ok(())
}

/// Bits per element; `None` for texts and unknown types.
fn bits(dtype: i64) -> Option<u64> {
    Some(match dtype {
        21..=23 => 4,
        2 | 3 | 9 | 17..=20 | 24 => 8,
        4 | 5 | 10 | 16 => 16,
        1 | 6 | 12 => 32,
        7 | 11 | 13 | 14 => 64,
        15 => 128,
        _ => return None,
    })
}

/// `TensorProto.DataType`.
pub(super) fn type_name(dtype: i64) -> String {
    const NAMES: [&str; 17] = [
        "UNDEFINED",
        "FLOAT",
        "UINT8",
        "INT8",
        "UINT16",
        "INT16",
        "INT32",
        "INT64",
        "STRING",
        "BOOL",
        "FLOAT16",
        "DOUBLE",
        "UINT32",
        "UINT64",
        "COMPLEX64",
        "COMPLEX128",
        "BFLOAT16",
    ];
    let name = usize::try_from(dtype).ok().and_then(|index| NAMES.get(index));
    name.map_or_else(|| format!("type {dtype}"), |name| (*name).to_owned())
}
