//! The byte format of packed forms. It is versioned, has checksums, and is bound to a machine and to the
//! weights.
//!
//! ```text
//! magic, library version, machine, extents, has bias, has slopes, checksum of the weights, number of forms, checksum
//! for each form: name, lengths of filter, bias and slopes, checksum, filter, bias and slopes, checksum
//! ```
//!
//! Lengths and numbers are little-endian 64-bit words. A string follows its length. The packed weights are in
//! the byte order of the machine. Each checksum is the XXH3 hash of everything before it.
//!
//! The reader uses a length only after the checksum that follows it was right, except that a string is
//! limited to 4096 bytes. It touches memory only as bytes arrive. Damaged bytes therefore cause an error and
//! not a large allocation.

use super::forms::{Forms, Stored};
use super::{Filter, REUSE_WITHIN};
use crate::choose::cpu_model;
use crate::describe::{ConvError, FilterShape, Size2, Weights};
use crate::memory::Buffer;
use bytemuck::{cast_slice, cast_slice_mut};
use std::fmt;
use std::io::{self, Read, Write};
use xxhash_rust::xxh3::Xxh3Default;

const MAGIC: &[u8; 29] = b"convkernels packed weights 1\n";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Maximum bytes of a string.
const MOST: u64 = 4096;

/// Why packed weights could not be written or read.
#[derive(Debug)]
#[non_exhaustive]
pub enum PackedError {
    /// The reader or the writer failed.
    Io(io::Error),
    /// The bytes do not begin with the magic of this format.
    NotPacked,
    /// Another version of this library wrote the bytes.
    Version {
        /// The version that is running.
        expected: String,
        /// The version that wrote the bytes.
        got: String,
    },
    /// The weights were packed on another machine.
    Machine {
        /// This machine.
        expected: String,
        /// The machine that wrote the bytes.
        got: String,
    },
    /// The packed filter has other extents, or differs in whether it has a bias or slopes.
    OtherFilter {
        /// The extents of the filter that the bytes are read into.
        expected: FilterShape,
        /// The extents in the bytes.
        got: FilterShape,
    },
    /// The packed filter has the same extents but other weights.
    OtherWeights,
    /// The bytes were changed or cut off.
    Damaged {
        /// The damaged part: `"header"`, `"form"` or `"weights"`.
        what: &'static str,
    },
    /// The system refused memory for the packed weights.
    Memory(ConvError),
}

impl fmt::Display for PackedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "packed weights: {error}"),
            Self::NotPacked => write!(f, "packed weights: expected bytes of this format, got others"),
            Self::Version { expected, got } => {
                write!(f, "packed weights: expected version {expected} of the library, got {got:?}")
            }
            Self::Machine { expected, got } => {
                write!(f, "packed weights: expected machine {expected:?}, got {got:?}")
            }
            Self::OtherFilter { expected, got } => {
                write!(
                    f,
                    "packed weights: expected extents {expected}, bias and slopes as the filter has them, got {got}"
                )
            }
            Self::OtherWeights => {
                write!(f, "packed weights: expected those of this filter, got those of other weights")
            }
            Self::Damaged { what } => {
                write!(
                    f,
                    "packed weights: expected the bytes that were written, got damaged ones in the {what}"
                )
            }
            Self::Memory(error) => write!(f, "packed weights: {error}"),
        }
    }
}

impl std::error::Error for PackedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Memory(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for PackedError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ConvError> for PackedError {
    fn from(error: ConvError) -> Self {
        Self::Memory(error)
    }
}

/// Returns the checksum of the original weights.
fn checksum(weights: &Weights<'_>) -> u64 {
    let mut hash = Xxh3Default::new();
    for values in [Some(weights.filter), weights.bias, weights.slope].into_iter().flatten() {
        hash.update(cast_slice(values));
    }
    hash.digest()
}

/// Returns the checksum of the original weights of `filter`, if it has them or was read from bytes that
/// recorded it.
fn known_checksum(filter: &Filter<'_>) -> Option<u64> {
    filter.weights.as_ref().map(|weights| checksum(&weights.as_weights())).or(filter.checksum)
}

/// Writes `filter` and its packed forms.
pub(super) fn write(filter: &Filter<'_>, to: &mut impl Write) -> Result<(), PackedError> {
    write_as(VERSION, &cpu_model(), filter, to)
}

/// [`write`] under the name of a version and a machine.
fn write_as(
    version: &str,
    machine: &str,
    filter: &Filter<'_>,
    to: &mut impl Write,
) -> Result<(), PackedError> {
    let mut to = Checked { io: to, hash: Xxh3Default::new() };
    to.write(MAGIC)?;
    to.write_string(version)?;
    to.write_string(machine)?;
    let FilterShape { out_channels, in_channels, kernel, groups } = filter.shape;
    let flags = filter.per_channel.map(|has| usize::from(has.is_some()));
    for number in [out_channels, in_channels, kernel.h, kernel.w, groups, flags[0], flags[1]] {
        to.write_number(number as u64)?;
    }
    let known = known_checksum(filter);
    to.write_number(u64::from(known.is_some()))?;
    to.write_number(known.unwrap_or_default())?;
    filter.forms.with_all(|forms| {
        to.write_number(forms.len() as u64)?;
        to.write_checksum()?;
        forms.iter().try_for_each(|(name, buffers)| {
            to.write_string(name)?;
            buffers.iter().try_for_each(|buffer| to.write_number(buffer.len() as u64))?;
            to.write_checksum()?;
            buffers.iter().try_for_each(|buffer| to.write(cast_slice(buffer)))?;
            to.write_checksum()
        })
    })
}

/// Reads packed forms into `filter`, if they were packed from its weights.
pub(super) fn read_into(filter: &Filter<'_>, from: &mut impl Read) -> Result<(), PackedError> {
    let mut from = Checked { io: from, hash: Xxh3Default::new() };
    let header = from.read_header()?;
    let has = filter.per_channel.map(|len| len.is_some());
    if (header.shape, header.per_channel) != (filter.shape, has) {
        return Err(PackedError::OtherFilter { expected: filter.shape, got: header.shape });
    }
    let known = known_checksum(filter);
    if known.is_some() && known != header.checksum {
        return Err(PackedError::OtherWeights);
    }
    filter.forms.add_stored(from.read_forms(header.forms)?);
    Ok(())
}

/// Reads a filter without its original weights.
pub(super) fn read(from: &mut impl Read) -> Result<Filter<'static>, PackedError> {
    let mut from = Checked { io: from, hash: Xxh3Default::new() };
    let Header { shape, per_channel, checksum, forms } = from.read_header()?;
    let per_channel = per_channel.map(|has| has.then_some(shape.out_channels));
    let (forms_of, reuse_within) = (Forms::default(), REUSE_WITHIN);
    let filter = Filter { shape, per_channel, weights: None, checksum, forms: forms_of, reuse_within };
    filter.forms.add_stored(from.read_forms(forms)?);
    Ok(filter)
}

struct Header {
    shape: FilterShape,
    per_channel: [bool; 2],
    /// The checksum of the original weights, if the writer knew it.
    checksum: Option<u64>,
    forms: u64,
}

/// A reader or writer that hashes all bytes that pass through it.
struct Checked<'a, T> {
    io: &'a mut T,
    hash: Xxh3Default,
}

impl<T: Write> Checked<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PackedError> {
        self.hash.update(bytes);
        Ok(self.io.write_all(bytes)?)
    }

    fn write_number(&mut self, number: u64) -> Result<(), PackedError> {
        self.write(&number.to_le_bytes())
    }

    fn write_string(&mut self, text: &str) -> Result<(), PackedError> {
        self.write_number(text.len() as u64)?;
        self.write(text.as_bytes())
    }

    fn write_checksum(&mut self) -> Result<(), PackedError> {
        let sum = self.hash.digest();
        Ok(self.io.write_all(&sum.to_le_bytes())?)
    }
}

impl<T: Read> Checked<'_, T> {
    fn read(&mut self, what: &'static str, to: &mut [u8]) -> Result<(), PackedError> {
        self.read_unsummed(what, to)?;
        self.hash.update(to);
        Ok(())
    }

    fn read_unsummed(&mut self, what: &'static str, to: &mut [u8]) -> Result<(), PackedError> {
        self.io.read_exact(to).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => PackedError::Damaged { what },
            _ => PackedError::Io(error),
        })
    }

    fn read_number(&mut self, what: &'static str) -> Result<u64, PackedError> {
        let mut bytes = [0; 8];
        self.read(what, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn read_size(&mut self, what: &'static str) -> Result<usize, PackedError> {
        usize::try_from(self.read_number(what)?).map_err(|_| PackedError::Damaged { what })
    }

    fn read_string(&mut self, what: &'static str) -> Result<String, PackedError> {
        let len = self.read_number(what)?;
        if len > MOST {
            return Err(PackedError::Damaged { what });
        }
        let mut bytes = vec![0; len as usize];
        self.read(what, &mut bytes)?;
        String::from_utf8(bytes).map_err(|_| PackedError::Damaged { what })
    }

    fn check(&mut self, what: &'static str) -> Result<(), PackedError> {
        let (sum, mut bytes) = (self.hash.digest(), [0; 8]);
        self.read_unsummed(what, &mut bytes)?;
        if sum == u64::from_le_bytes(bytes) { Ok(()) } else { Err(PackedError::Damaged { what }) }
    }

    fn read_header(&mut self) -> Result<Header, PackedError> {
        let what = "header";
        let mut magic = [0; MAGIC.len()];
        match self.read(what, &mut magic) {
            Ok(()) if magic == *MAGIC => (),
            Err(PackedError::Io(error)) => return Err(error.into()),
            _ => return Err(PackedError::NotPacked),
        }
        let (version, machine) = (self.read_string(what)?, self.read_string(what)?);
        let mut numbers = [0; 7];
        for number in &mut numbers {
            *number = self.read_size(what)?;
        }
        let (is_known, checksum) = (self.read_number(what)? == 1, self.read_number(what)?);
        let forms = self.read_number(what)?;
        self.check(what)?;
        let expected = VERSION.to_owned();
        if version != expected {
            return Err(PackedError::Version { expected, got: version });
        }
        let expected = cpu_model();
        if machine != expected {
            return Err(PackedError::Machine { expected, got: machine });
        }
        let [out_channels, in_channels, h, w, groups, bias, slope] = numbers;
        let shape = FilterShape { out_channels, in_channels, kernel: Size2::new(h, w), groups };
        let checksum = is_known.then_some(checksum);
        Ok(Header { shape, per_channel: [bias == 1, slope == 1], checksum, forms })
    }

    fn read_forms(&mut self, count: u64) -> Result<Vec<Stored>, PackedError> {
        let mut forms = Vec::new();
        for _ in 0..count {
            let name = self.read_string("form")?;
            let mut lens = [0; 3];
            for len in &mut lens {
                *len = self.read_size("form")?;
            }
            self.check("form")?;
            let [filter, bias, slope] = lens;
            let buffers = [self.read_buffer(filter)?, self.read_buffer(bias)?, self.read_buffer(slope)?];
            self.check("weights")?;
            forms.push(Stored { name, buffers });
        }
        Ok(forms)
    }

    fn read_buffer(&mut self, len: usize) -> Result<Buffer, PackedError> {
        Buffer::from_parts("packed weights", len, |part| self.read("weights", cast_slice_mut(part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(version: &str, machine: &str) -> String {
        let numbers = [0.5; 16];
        let shape = FilterShape::new(4, 4, Size2::square(1));
        let filter = Filter::new(shape, Weights::filter(&numbers)).unwrap();
        let mut bytes = Vec::new();
        write_as(version, machine, &filter, &mut bytes).unwrap();
        filter.read_packed(&mut &bytes[..]).err().map_or(String::new(), |error| error.to_string())
    }

    #[test]
    fn bytes_of_another_version_or_machine_are_refused() {
        let here = cpu_model();
        assert_eq!(refused(VERSION, &here), "");
        let version = refused("0.0.1", &here);
        assert!(
            version.ends_with(&format!("expected version {VERSION} of the library, got \"0.0.1\"")),
            "{version}"
        );
        let machine = refused(VERSION, "x86_64 Another CPU");
        assert!(
            machine.ends_with(&format!("expected machine {here:?}, got \"x86_64 Another CPU\"")),
            "{machine}"
        );
    }
}
