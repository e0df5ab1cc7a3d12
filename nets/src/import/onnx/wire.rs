//! The wire format of protocol buffers. A message is a sequence of fields, and a field has a number and a
//! value. A value that is a message, a text or a payload is a span of bytes that can be skipped. Nothing is
//! decoded before it is needed, so the weights of a model stay in its file.

use super::source::ModelSource;
use crate::error::{OnnxError, Place};

/// Bytes read at a time.
const WINDOW: usize = 1 << 16;
/// Bytes read behind what was skipped: a weight is followed by a name and extents, and then often by the next weight.
const PEEK: usize = 1 << 9;
/// Maximum bytes in memory for everything except the weights of a model. The largest known models need a
/// hundredth of it. It stops hostile files that would expand a few bytes to gigabytes.
const BUDGET: u64 = 256 << 20;
/// Maximum length of a name or text in bytes: the size of the window.
const TEXT_LIMIT: u64 = WINDOW as u64;

/// A range of a file, `start <= end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Span {
    pub(super) fn len(self) -> u64 {
        self.end - self.start
    }
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Span(Span),
}

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) value: Value,
    /// The position of its value.
    pub(super) at: u64,
}

/// Reads fields through a window.
#[derive(Debug)]
pub(super) struct Wire<'a> {
    source: &'a ModelSource,
    window: Vec<u8>,
    /// The position of the window in the source.
    start: u64,
    budget: u64,
}

impl<'a> Wire<'a> {
    pub(super) fn new(source: &'a ModelSource) -> Self {
        Self { source, window: Vec::new(), start: 0, budget: BUDGET }
    }

    /// A reader without a memory budget, for the elements of one tensor on demand.
    pub(super) fn unlimited(source: &'a ModelSource) -> Self {
        Self { budget: u64::MAX, ..Self::new(source) }
    }

    /// The whole source as one message.
    pub(super) fn all(&self) -> Span {
        Span { start: 0, end: self.source.len() }
    }

    /// Removes the first field from a message; `None` at its end.
    pub(super) fn next(&mut self, message: &mut Span) -> Result<Option<Field>, OnnxError> {
        if message.start == message.end {
            return Ok(None);
        }
        let begin = message.start;
        let tag = self.varint(message)?;
        let (number, at) = (tag >> 3, message.start);
        if number == 0 || number >> 29 != 0 {
            return Err(self.fault(begin, format!("expected the number of a field, got {number}")));
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint(message)?),
            1 => Value::Fixed64(u64::from_le_bytes(self.fixed(message)?)),
            2 => {
                let len = self.varint(message)?;
                let left = message.len();
                if len > left {
                    return Err(
                        self.fault(at, format!("expected at most {left} bytes, got a field of {len}"))
                    );
                }
                let span = Span { start: message.start, end: message.start + len };
                message.start = span.end;
                Value::Span(span)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.fixed(message)?)),
            other => return Err(self.fault(begin, format!("expected wire type 0, 1, 2 or 5, got {other}"))),
        };
        Ok(Some(Field { number, value, at }))
    }

    /// Removes a varint from the front of `span`.
    pub(super) fn varint(&mut self, span: &mut Span) -> Result<u64, OnnxError> {
        let begin = span.start;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.fixed(span)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.fault(begin, "expected a number of at most 64 bits, got a longer one"))
    }

    /// Removes `N` bytes from the front of `span`.
    pub(super) fn fixed<const N: usize>(&mut self, span: &mut Span) -> Result<[u8; N], OnnxError> {
        if span.len() < N as u64 {
            let problem = format!("expected {N} more bytes, got the end of the message after {}", span.len());
            return Err(self.fault(span.start, problem));
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.look(span.start, N)?);
        span.start += N as u64;
        Ok(bytes)
    }

    /// Reads a text. Invalid UTF-8 is replaced, because names are only compared.
    pub(super) fn text(&mut self, field: &Field) -> Result<String, OnnxError> {
        let span = self.span(field)?;
        if span.len() > TEXT_LIMIT {
            let problem = format!("expected a text of at most {TEXT_LIMIT} bytes, got {}", span.len());
            return Err(self.fault(span.start, problem));
        }
        self.charge(span.len() + size_of::<String>() as u64, span.start)?;
        let bytes = self.look(span.start, span.len() as usize)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// The bytes of a field of variable length.
    pub(super) fn span(&self, field: &Field) -> Result<Span, OnnxError> {
        match field.value {
            Value::Span(span) => Ok(span),
            _ => Err(self.fault(field.at, format!("expected bytes in field {}, got a number", field.number))),
        }
    }

    /// Reads a field of type `int64`, `int32` or an enumeration.
    pub(super) fn int(&self, field: &Field) -> Result<i64, OnnxError> {
        match field.value {
            Value::Varint(value) => Ok(value.cast_signed()),
            _ => Err(self.fault(field.at, format!("expected an integer in field {}", field.number))),
        }
    }

    /// Reads a field of type `float`.
    pub(super) fn float(&self, field: &Field) -> Result<f32, OnnxError> {
        match field.value {
            Value::Fixed32(bits) => Ok(f32::from_bits(bits)),
            _ => Err(self.fault(field.at, format!("expected a float in field {}", field.number))),
        }
    }

    /// Reads a repeated `int64`, as one element or packed.
    pub(super) fn ints(&mut self, field: &Field, values: &mut Vec<i64>) -> Result<(), OnnxError> {
        let Value::Span(mut span) = field.value else {
            self.charge(8, field.at)?;
            values.push(self.int(field)?);
            return Ok(());
        };
        while span.len() > 0 {
            self.charge(8, span.start)?;
            values.push(self.varint(&mut span)?.cast_signed());
        }
        Ok(())
    }

    /// Reads a repeated `float`, as one element or packed.
    pub(super) fn floats(&mut self, field: &Field, values: &mut Vec<f32>) -> Result<(), OnnxError> {
        let Value::Span(mut span) = field.value else {
            self.charge(4, field.at)?;
            values.push(self.float(field)?);
            return Ok(());
        };
        while span.len() > 0 {
            self.charge(4, span.start)?;
            values.push(f32::from_le_bytes(self.fixed(&mut span)?));
        }
        Ok(())
    }

    /// Accounts for memory before it is allocated.
    pub(super) fn charge(&mut self, bytes: u64, at: u64) -> Result<(), OnnxError> {
        // Vectors grow by doubling, so an element can need twice its size.
        self.budget = self.budget.checked_sub(2 * bytes).ok_or_else(|| {
            self.fault(at, format!("expected at most {} MiB apart from weights, got more", BUDGET >> 20))
        })?;
        Ok(())
    }

    pub(super) fn fault(&self, at: u64, problem: impl Into<String>) -> OnnxError {
        self.source.error(Place::Byte(at), problem)
    }

    /// Returns `len` bytes at an offset, through the window.
    fn look(&mut self, at: u64, len: usize) -> Result<&[u8], OnnxError> {
        let inside = at >= self.start && at + len as u64 <= self.start + self.window.len() as u64;
        if !inside {
            let follows = at >= self.start && at <= self.start + self.window.len() as u64;
            let wanted = if follows { WINDOW } else { PEEK.max(len) };
            let available = (self.source.len() - at).min(wanted as u64) as usize;
            self.window.resize(available, 0);
            self.start = at;
            self.source.read_at(at, &mut self.window)?;
        }
        let offset = (at - self.start) as usize;
        Ok(&self.window[offset..offset + len])
    }
}
