//! Guesses the type of a file that is not an ONNX model from its first bytes, for a helpful message.

use super::source::ModelSource;
use crate::error::OnnxError;

/// Bytes inspected at the start of the file.
const LOOK: usize = 512;

/// Known file types: the offset of the signature, the signature, and a description.
const BEGINNINGS: &[(usize, &[u8], &str)] = &[
    (0, b"PK\x03\x04", "a ZIP archive, such as PyTorch's .pt and .pth files or NumPy's .npz files"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as Keras models"),
    (0, b"\x93NUMPY", "a NumPy array (.npy)"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (4, b"ORTM", "a model in ONNX Runtime's own format (.ort)"),
    (0, b"GGUF", "a GGUF model"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (8, b"WEBP", "a WebP picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\xfd7zXZ\0", "an xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x7fELF", "a program or library (ELF)"),
    (0, b"MZ", "a program or library of Windows"),
    (0, b"version https://git-lfs.github.com/spec/", "a Git LFS pointer: the model itself was not fetched"),
];

/// A description of `source` if it does not look like an ONNX model.
pub(super) fn other_kind(source: &ModelSource) -> Result<Option<&'static str>, OnnxError> {
    let mut bytes = vec![0; source.len().min(LOOK as u64) as usize];
    source.read_at(0, &mut bytes)?;
    Ok(kind(&bytes, source.len()))
}

fn kind(bytes: &[u8], len: u64) -> Option<&'static str> {
    if bytes.is_empty() {
        return Some("an empty file");
    }
    let begins = |&&(skip, with, _): &&(usize, &[u8], &str)| {
        bytes.get(skip..).is_some_and(|bytes| bytes.starts_with(with))
    };
    if let Some(&(_, _, kind)) = BEGINNINGS.iter().find(begins) {
        return Some(kind);
    }
    if is_safetensors(bytes, len) {
        return Some("a safetensors file: weights without a network");
    }
    if let Some(text) = text(bytes) {
        return Some(text_kind(text));
    }
    match *bytes {
        [0x80, 2..=5, ..] => Some("a Python pickle, such as older PyTorch files"),
        // The field numbers with which a serialized model can begin: version, producer, domain, graph, operators.
        [0x08 | 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42 | 0x72, ..] => None,
        [0x0a, ..] => Some("another protocol buffer, such as a TensorFlow graph (.pb)"),
        _ => Some("something else"),
    }
}

/// A safetensors file begins with eight bytes, the length of the JSON header after them.
fn is_safetensors(bytes: &[u8], len: u64) -> bool {
    let header = bytes.first_chunk().map(|&header| u64::from_le_bytes(header));
    header.is_some_and(|header| header < len) && bytes.get(8) == Some(&b'{')
}

/// The bytes as text, if they are valid UTF-8 except for a character cut off at the end.
fn text(bytes: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let odd = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\x0c' | '\x1b');
    (!text.is_empty() && !text.contains(odd)).then_some(text)
}

fn text_kind(text: &str) -> &'static str {
    let start = text.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    match start.as_str() {
        html if html.starts_with("<!doctype html") || html.starts_with("<html") => {
            "an HTML page, perhaps from a failed download"
        }
        xml if xml.starts_with("<?xml") || xml.starts_with("<net") => "XML, such as an OpenVINO model",
        json if json.starts_with(['{', '[']) => "JSON",
        _ => "text",
    }
}
