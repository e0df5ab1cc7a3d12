//! A file that is not an ONNX model is described by its apparent type, before any detail of its bytes.

mod program;

use nets::import::onnx::{ImportOptions, load, load_bytes};
use program::failure;

/// The error for a file with these bytes.
fn refusal(bytes: &[u8]) -> String {
    load_bytes(bytes, "it", &ImportOptions::default()).unwrap_err().to_string()
}

#[test]
fn every_kind_of_file_is_called_what_it_looks_like() {
    let mut tar = vec![b'a'; 257];
    tar.extend(b"ustar\x0000");
    let mut safetensors = 100u64.to_le_bytes().to_vec();
    safetensors.extend(br#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#);
    safetensors.resize(200, b' ');
    let cases: &[(&[u8], &str)] = &[
        (b"", "an empty file"),
        (b"127.0.0.1 localhost\n# comment\n", "text"),
        (b"\xef\xbb\xbf   \r\ntext with a mark", "text"),
        ("naïve text, cut in a character: é".as_bytes().split_last().unwrap().1, "text"),
        (b"{\"model\": [1, 2]}", "JSON"),
        (b"<?xml version=\"1.0\"?>\n<net name=\"x\">", "XML"),
        (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"),
        (b"PK\x03\x04\x14\x00\x00\x00\x08\x00", "a ZIP archive, such as PyTorch's"),
        (b"\x80\x02}q\x00(X\x06\x00\x00\x00weight", "a Python pickle"),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0", "an HDF5 file"),
        (b"\x93NUMPY\x01\x00v\x00{'descr'", "a NumPy array"),
        (b"\x1c\0\0\0TFL3\x14\0\x20\0", "a TensorFlow Lite model"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG picture"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG picture"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "a gzip archive"),
        (b"\x7fELF\x02\x01\x01\0", "a program or library"),
        (b"\x0a\x1f\x0a\x05input\x12\x0bPlaceholder", "another protocol buffer"),
        (b"\xde\xad\xbe\xef\x00\x01", "something else"),
        (&tar, "a tar archive"),
        (&safetensors, "a safetensors file"),
    ];
    for (bytes, kind) in cases {
        let (message, start) = (refusal(bytes), format!("it: model: expected an ONNX file, got {kind}"));
        assert!(message.starts_with(&start), "{kind}: {message}");
        assert!(message.ends_with(')') && message.lines().count() == 1, "the detail comes last: {message}");
    }
}

/// A damaged model that begins like a model is reported by the position of the byte.
#[test]
fn a_damaged_model_is_not_taken_for_something_else() {
    let message = refusal(&[0x08, 0x08, 0x12, 0x07, b'p']);
    assert_eq!(message, "it: byte 3: expected at most 1 bytes, got a field of 7");
    assert_eq!(refusal(&[0x08, 0x08]), "it: model: expected a graph, got none");
}

#[test]
fn the_program_says_so_too() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n".repeat(20)).unwrap();
    for command in ["count", "bench", "explain"] {
        let message = failure(&[command, hosts.to_str().unwrap()]);
        assert!(message.contains(": expected an ONNX file, got text (byte "), "{command}: {message}");
    }
    let message = failure(&["count", folder.path().to_str().unwrap()]);
    assert!(message.ends_with(": expected an ONNX file, got a directory"), "{message}");
    let message = failure(&["run", hosts.to_str().unwrap(), "--image", "x.png"]);
    assert!(message.contains(": expected an ONNX file, got text (byte "), "{message}");
}

/// Opening a pipe would block.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_waited_for() {
    let message = load("/dev/zero".as_ref(), &ImportOptions::default()).unwrap_err().to_string();
    assert_eq!(message, "/dev/zero: model: expected an ONNX file, got a device, pipe or socket");
}
