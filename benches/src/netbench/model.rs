//! What every engine gets: an ONNX file and an input.

use crate::values;
use nets::export::onnx;
use nets::zoo::Entry;
use nets::{Init, SeededWeights, count};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// One network for one number of images, as files that are deleted with it.
pub(super) struct Model {
    pub(super) name: &'static str,
    pub(super) batch: usize,
    /// Twice the multiply-accumulates of a pass.
    pub(super) flops: f64,
    /// Of the input, batch first.
    extents: Vec<usize>,
    folder: TempDir,
}

impl Model {
    /// The network with seeded weights and an input of noise.
    pub(super) fn new(entry: &'static Entry, batch: usize) -> anyhow::Result<Self> {
        let graph = entry.graph()?;
        let folder = TempDir::with_prefix("netbench")?;
        let flops = 2.0 * count(&graph)?.macs as f64 * batch as f64;
        let extents: Vec<usize> = [batch].into_iter().chain(graph.input().dims()).collect();
        let model = Self { name: entry.name, batch, flops, extents, folder };
        onnx::save(&graph, &SeededWeights::new(&graph, Init::He, 1)?, batch, &model.file("net.onnx"))?;
        write(&model.file("input"), &values(model.extents.iter().product(), 2))?;
        Ok(model)
    }

    /// A file beside it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a worker is asked to prepare.
    pub(super) fn request(&self) -> String {
        let extents: Vec<String> = self.extents.iter().map(usize::to_string).collect();
        let (model, input) = (self.file("net.onnx"), self.file("input"));
        format!("network {} {} {}", model.display(), input.display(), extents.join(" "))
    }
}

/// Raw `f32`.
pub(super) fn write(file: &Path, values: &[f32]) -> std::io::Result<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(file, bytes)
}

/// Relative L2 distance; not a number if the lengths differ.
pub(super) fn distance<T: Copy + Into<f64>>(values: &[f32], from: &[T]) -> f64 {
    if values.len() != from.len() {
        return f64::NAN;
    }
    let pairs = values.iter().map(|&value| f64::from(value)).zip(from.iter().map(|&from| from.into()));
    let sums = pairs.fold((0.0, 0.0), |(apart, size), (value, from)| {
        (apart + (value - from).powi(2), size + from.powi(2))
    });
    (sums.0 / sums.1).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance(&[3.0, 4.0], &[3.0, 4.0f32]), 0.0);
        assert_eq!(distance(&[3.0, 9.0], &[3.0, 4.0f64]), 1.0);
        assert!(distance(&[3.0], &[3.0, 4.0f32]).is_nan() && distance(&[f32::NAN], &[1.0f32]).is_nan());
    }
}
