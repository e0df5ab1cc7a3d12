//! Networks that others bring, as files.

pub mod onnx;
