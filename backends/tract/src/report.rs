//! What the transformation replaced, and what it left to tract.

use std::fmt;

/// A layer that now runs on the library's kernels.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replaced {
    /// The name of the last node of the layer in tract's model.
    pub node: String,
    /// What the layer is, with all that was fused into it.
    pub layer: String,
    /// Number of nodes of tract's model that it replaces.
    pub nodes: usize,
}

/// A convolution that stays with tract.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FellBack {
    /// The name of the node in tract's model.
    pub node: String,
    /// tract's name of the operator.
    pub operator: String,
    /// Why the library cannot take it.
    pub reason: String,
}

/// What [`accelerate_with_report`](crate::accelerate_with_report) did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The layers that were replaced, in the order of their evaluation.
    pub replaced: Vec<Replaced>,
    /// The convolutions and products that stay with tract, and layers between them that could not be made.
    pub fell_back: Vec<FellBack>,
    /// Number of copies between layouts that were inserted.
    pub reorders: usize,
}

impl fmt::Display for Report {
    /// Writes one line per layer, and one per node that fell back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "replaced {} layers, {} reorders", self.replaced.len(), self.reorders)?;
        for Replaced { node, layer, nodes } in &self.replaced {
            writeln!(f, "  {node}: {layer} ({nodes} nodes)")?;
        }
        writeln!(f, "left {} nodes to tract", self.fell_back.len())?;
        for FellBack { node, operator, reason } in &self.fell_back {
            writeln!(f, "  {node} ({operator}): {reason}")?;
        }
        Ok(())
    }
}
