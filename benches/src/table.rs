//! Results as text and Markdown tables, as JSON and as CSV.

use crate::cli::Format;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

pub(crate) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

/// A table without a frame, or with the frame of Markdown. `right` lists the right-aligned columns.
pub(crate) fn table(header: &[&str], right: &[usize], format: Format) -> Table {
    let mut table = Table::new();
    table.load_style(if format == Format::Markdown { presets::ASCII_MARKDOWN } else { presets::NOTHING });
    table.set_header(header.iter().copied());
    for &column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The lines of a table without trailing spaces.
pub(crate) fn written(table: &Table, format: Format) -> String {
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    let lines = lines.map(|line| if format == Format::Text { line } else { line.trim_start().to_owned() });
    lines.map(|line| line + "\n").collect()
}

/// Formats a result: only the rows as JSON or CSV, or the whole `page` as text or Markdown.
pub(crate) fn report<T: Serialize>(
    rows: &[T],
    format: Format,
    page: impl FnOnce() -> String,
) -> anyhow::Result<String> {
    Ok(match format {
        Format::Json => serde_json::to_string_pretty(rows)? + "\n",
        Format::Csv => csv(rows)?,
        Format::Text | Format::Markdown => page(),
    })
}

/// The rows as comma-separated values, with a header.
pub(crate) fn csv<T: Serialize>(rows: &[T]) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}
