//! The ONNX file and the input that every engine gets.

use crate::peers::write;
use crate::values;
use anyhow::ensure;
use nets::export::onnx;
use nets::import::onnx::{ImportOptions, load};
use nets::zoo::{self, Entry};
use nets::{Init, SeededWeights, count};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A network to time.
#[derive(Debug, Clone)]
pub(super) enum Network {
    /// A network of the zoo with seeded weights.
    Zoo(&'static Entry),
    /// A file of the caller. All engines read it unchanged.
    File(PathBuf),
}

impl Network {
    /// Finds a network by its name in the zoo, or as a file `*.onnx`.
    ///
    /// # Errors
    /// A name that is not in the zoo, or a path with blanks, which the protocol of the workers cannot express.
    pub(super) fn find(name: &str) -> anyhow::Result<Self> {
        if Path::new(name).extension().is_none_or(|extension| extension != "onnx") {
            return Ok(Self::Zoo(zoo::find(name)?));
        }
        // Engines run in another working directory.
        let file = std::path::absolute(name)?;
        let blank = file.to_string_lossy().contains(char::is_whitespace);
        ensure!(!blank, "expected a path without blanks, got {}", file.display());
        Ok(Self::File(file))
    }

    /// The name in the results.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Zoo(entry) => entry.name.to_owned(),
            Self::File(file) => file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }
}

/// The files of one network with one batch size. Temporary files are deleted on drop.
pub(super) struct Model {
    pub(super) name: String,
    pub(super) batch: usize,
    /// Twice the multiply-accumulates of one pass.
    pub(super) flops: f64,
    /// Extents of the input, batch first.
    extents: Vec<usize>,
    onnx: PathBuf,
    folder: TempDir,
}

impl Model {
    /// Writes the network, if it is of the zoo, and an input of noise.
    pub(super) fn new(network: &Network, batch: usize) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("netbench")?;
        let (graph, onnx) = match network {
            Network::Zoo(entry) => {
                let (graph, onnx) = (entry.graph()?, folder.path().join("net.onnx"));
                onnx::save(&graph, &SeededWeights::new(&graph, Init::He, 1)?, batch, &onnx)?;
                (graph, onnx)
            }
            Network::File(file) => (load(file, &ImportOptions::default())?.graph, file.clone()),
        };
        let flops = 2.0 * count(&graph)?.macs as f64 * batch as f64;
        let extents: Vec<usize> = [batch].into_iter().chain(graph.input().dims()).collect();
        let model = Self { name: network.name(), batch, flops, extents, onnx, folder };
        write(&model.file("input"), &values(model.extents.iter().product(), 2))?;
        Ok(model)
    }

    /// The path of a temporary file called `name`.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The request that makes a worker prepare the network.
    pub(super) fn request(&self) -> String {
        let extents: Vec<String> = self.extents.iter().map(usize::to_string).collect();
        let input = self.file("input");
        format!("network {} {} {}", self.onnx.display(), input.display(), extents.join(" "))
    }
}

/// Relative L2 distance; NaN if the lengths differ.
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
