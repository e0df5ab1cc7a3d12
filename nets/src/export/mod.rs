//! Networks for other tools.

pub mod onnx;
