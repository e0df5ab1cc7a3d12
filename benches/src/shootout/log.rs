//! `--out`: the rows of each layer as soon as there are any.

use super::row::LayerRow;
use anyhow::Context;
use std::fs::File;

/// A file of comma-separated values that is whole after each layer.
pub(super) struct Log(csv::Writer<File>);

impl Log {
    pub(super) fn new(file: File) -> Self {
        Self(csv::Writer::from_writer(file))
    }

    /// The rows of one layer.
    pub(super) fn write(&mut self, rows: &[LayerRow]) -> anyhow::Result<()> {
        rows.iter().try_for_each(|row| self.0.serialize(row)).context("cannot write --out")?;
        self.0.flush().context("cannot write --out")
    }
}
