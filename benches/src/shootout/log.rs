//! `--out`: writes the rows of each layer as soon as they are complete.

use super::row::LayerRow;
use anyhow::Context;
use std::fs::File;

/// A CSV file that is complete after each layer.
pub(super) struct Log(csv::Writer<File>);

impl Log {
    pub(super) fn new(file: File) -> Self {
        Self(csv::Writer::from_writer(file))
    }

    /// Writes and flushes the rows of one layer.
    pub(super) fn write(&mut self, rows: &[LayerRow]) -> anyhow::Result<()> {
        rows.iter().try_for_each(|row| self.0.serialize(row)).context("cannot write --out")?;
        self.0.flush().context("cannot write --out")
    }
}
