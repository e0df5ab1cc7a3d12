//! Formatting of numbers and tables for people.

use comfy_table::{CellAlignment, Table, presets};

/// Formats `61,706`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A table without a frame. `right` lists the right-aligned columns.
pub(super) fn table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    for &column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The lines of a table without trailing spaces.
pub(super) fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Formats records of as many fields each as CSV.
pub(super) fn csv<'a>(records: impl IntoIterator<Item = &'a Vec<String>>) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    records.into_iter().try_for_each(|record| writer.write_record(record))?;
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// Formats `1.5 MiB`.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let power = (number.ilog2() / 10).min(6);
    format!("{:.1} {}", number as f64 / (1u64 << (10 * power)) as f64, UNITS[power as usize - 1])
}
