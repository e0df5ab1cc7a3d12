//! Tensors in `.npy` files, the format of NumPy (NumPy Enhancement Proposal 1).
//!
//! This module has its own parser. The existing libraries depend on a parser of Python literals with a parser
//! generator, and through these on a C compiler. The header of these files needs neither.

use crate::error::NetError;
use std::fs;
use std::path::Path;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Element type: little-endian `f32`.
const DTYPE: &str = "'<f4'";
/// The data begins at a multiple of this many bytes.
const ALIGNMENT: usize = 64;

/// Reads a tensor of `f32`, or of integers or truth values, which become the nearest `f32`. Returns its extents,
/// outermost first, and its elements.
///
/// # Errors
/// - [`NetError::Io`] if the file cannot be read.
/// - [`NetError::Npy`] for another format, another element type, Fortran order or a truncated file.
pub fn read(path: &Path) -> Result<(Vec<usize>, Vec<f32>), NetError> {
    let bytes =
        fs::read(path).map_err(|cause| NetError::Io { action: "read", path: path.to_owned(), cause })?;
    parse(&bytes).map_err(|reason| NetError::Npy { origin: path.display().to_string(), reason })
}

fn parse(bytes: &[u8]) -> Result<(Vec<usize>, Vec<f32>), String> {
    let (header, data) = split(bytes).ok_or("something else, or a header without an end")?;
    let (dtype, dims) = described(header)?;
    let count = dims.iter().try_fold(1usize, |count, &extent| count.checked_mul(extent));
    // If the file cannot hold the extents, no element is read and nothing is allocated.
    let numbers = count.and_then(|count| elements(dtype, data, count));
    let numbers = numbers.ok_or_else(|| format!("extents beyond its {} bytes", bytes.len()))?;
    Ok((dims, numbers))
}

/// The first `count` elements of a type; `None` if there are fewer.
fn elements(dtype: &str, data: &[u8], count: usize) -> Option<Vec<f32>> {
    fn all<const N: usize>(data: &[u8], count: usize, decode: impl Fn([u8; N]) -> f32) -> Option<Vec<f32>> {
        Some(data.as_chunks().0.get(..count)?.iter().map(|&bytes| decode(bytes)).collect())
    }
    match dtype {
        "'<i8'" => all(data, count, |bytes| i64::from_le_bytes(bytes) as f32),
        "'<i4'" => all(data, count, |bytes| i32::from_le_bytes(bytes) as f32),
        "'|i1'" => all(data, count, |[byte]: [u8; 1]| f32::from(byte as i8)),
        "'|b1'" | "'|u1'" => all(data, count, |[byte]: [u8; 1]| f32::from(byte)),
        _ => all(data, count, f32::from_le_bytes),
    }
}

/// Returns the header as text, and the data after it. The length of the header has two bytes in version 1 and
/// four bytes in later versions.
fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&version, rest) = bytes.strip_prefix(MAGIC)?.split_first()?;
    let (_minor, rest) = rest.split_first()?;
    let (len, rest) = match version {
        1 => rest.split_first_chunk().map(|(&len, rest)| (usize::from(u16::from_le_bytes(len)), rest))?,
        _ => rest.split_first_chunk().map(|(&len, rest)| (u32::from_le_bytes(len) as usize, rest))?,
    };
    let (header, data) = rest.split_at_checked(len)?;
    Some((str::from_utf8(header).ok()?, data))
}

/// Parses the element type and the extents in a header. The header is a Python dictionary:
/// `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.
fn described(header: &str) -> Result<(&str, Vec<usize>), String> {
    let field = |name: &str, end: char| {
        let (_, rest) = header.split_once(name).ok_or_else(|| format!("a header without {name}"))?;
        let value = rest.trim_start().strip_prefix(':').map(str::trim_start);
        let value = value.and_then(|value| value.split_once(end));
        value.map(|(value, _)| value.trim_end()).ok_or_else(|| format!("a header without a value of {name}"))
    };
    let dtype = field("'descr'", ',')?;
    if ![DTYPE, "'<i8'", "'<i4'", "'|i1'", "'|u1'", "'|b1'"].contains(&dtype) {
        return Err(format!("elements of {dtype}"));
    }
    match field("'fortran_order'", ',')? {
        "False" => {}
        "True" => return Err("Fortran order".to_owned()),
        order => return Err(format!("a Fortran order that is {order}")),
    }
    let shape = field("'shape'", ')')?;
    let wrong = || format!("a shape of {shape})");
    let numbers = shape.strip_prefix('(').ok_or_else(wrong)?.split(',').map(str::trim);
    let numbers = numbers.filter(|number| !number.is_empty());
    Ok((dtype, numbers.map(|number| number.parse().map_err(|_| wrong())).collect::<Result<_, _>>()?))
}

/// Writes a tensor of extents `dims`, outermost first.
///
/// # Errors
/// - [`NetError::Io`] if the file cannot be written.
/// - [`NetError::Npy`] if there are too many extents for the header.
pub fn write(path: &Path, dims: &[usize], numbers: &[f32]) -> Result<(), NetError> {
    let mut shape = dims.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    if dims.len() == 1 {
        shape.push(',');
    }
    let mut header = format!("{{'descr': {DTYPE}, 'fortran_order': False, 'shape': ({shape}), }}");
    // The last byte of the padding is a newline.
    let before = MAGIC.len() + 4;
    let end = (before + header.len() + 1).next_multiple_of(ALIGNMENT);
    header += &" ".repeat(end - before - header.len() - 1);
    header.push('\n');
    let len = u16::try_from(header.len()).map_err(|_| NetError::Npy {
        origin: path.display().to_string(),
        reason: format!("{} extents", dims.len()),
    })?;
    let mut bytes = Vec::with_capacity(end + 4 * numbers.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    crate::weights::write(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let len = header.len() as u32;
        let len = &len.to_le_bytes()[..if version == 1 { 2 } else { 4 }];
        [MAGIC, &[version, 0], len, header.as_bytes(), data].concat()
    }

    #[test]
    fn headers_of_every_version_and_number_of_extents_are_read() {
        let data: Vec<u8> = [1.0f32, 2.5].iter().flat_map(|number| number.to_le_bytes()).collect();
        for (shape, dims) in [("2,", &[2][..]), ("1, 2", &[1, 2]), ("2,1,1,", &[2, 1, 1])] {
            for version in [1, 2, 3] {
                let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}   \n");
                assert_eq!(parse(&file(version, &header, &data)).unwrap(), (dims.to_vec(), vec![1.0, 2.5]));
            }
        }
        let scalar = "{'shape': (), 'fortran_order':False,'descr':'<f4',}";
        assert_eq!(parse(&file(1, scalar, &data)).unwrap(), (vec![], vec![1.0]));
    }

    #[test]
    fn integers_and_truth_values_become_floats() {
        let of = |descr: &str, data: &[u8]| {
            let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (2,), }}");
            parse(&file(1, &header, data)).unwrap().1
        };
        let wide: Vec<u8> = [7i64, -1].iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(of("'<i8'", &wide), [7.0, -1.0]);
        assert_eq!((of("'|b1'", &[1, 0]), of("'|i1'", &[255, 3])), (vec![1.0, 0.0], vec![-1.0, 3.0]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let of = |descr: &str, order: &str, shape: &str| {
            let header = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}");
            parse(&file(1, &header, &[0; 8])).unwrap_err()
        };
        assert_eq!(of("'<f8'", "False", "(1,)"), "elements of '<f8'");
        assert_eq!(of("'>f4'", "False", "(1,)"), "elements of '>f4'");
        assert_eq!(of("'<f4'", "True", "(1,)"), "Fortran order");
        assert_eq!(of("'<f4'", "False", "(-1,)"), "a shape of (-1,)");
        assert!(of("'<f4'", "False", "(3,)").starts_with("extents beyond its"));
        assert!(of("'<f4'", "False", "(4611686018427387904, 8)").starts_with("extents beyond its"));
        let whole = file(2, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", &[0; 8]);
        (0..whole.len()).for_each(|len| assert!(parse(&whole[..len]).is_err(), "{len}"));
        assert!(parse(b"PK\x03\x04").is_err() && parse(&file(1, "{}", &[])).is_err());
    }

    /// Compares with the bytes that `numpy.save` writes for `float32` zeros of shapes (2, 1) and (2,).
    #[test]
    fn files_are_those_of_numpy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.npy");
        for (dims, shape) in [(&[2, 1][..], "(2, 1)"), (&[2], "(2,)")] {
            write(&file, dims, &[0.0; 2]).unwrap();
            let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
            let expected = [MAGIC, b"\x01\0\x76\0", format!("{header:<117}\n").as_bytes(), &[0; 8]].concat();
            assert_eq!(fs::read(&file).unwrap(), expected, "{shape}");
        }
    }
}
