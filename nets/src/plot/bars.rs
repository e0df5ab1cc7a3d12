//! Lying bars, a row for each layer.

use super::head;
use super::scale::{Scale, short};
use super::sheet::{
    Anchor, FAINT, GRID, INK, MARGIN, SMALL, Sheet, TEXT, WIDTH, colour, shortened, text_width, tip,
};

/// Columns of bars beside names.
#[derive(Debug, Clone, Default)]
pub struct BarChart {
    /// What is drawn.
    pub title: String,
    /// Sentences under the title.
    pub notes: Vec<String>,
    /// What the colours mean; if it is one only, nothing has to be said.
    pub series: Vec<String>,
    /// From the left.
    pub columns: Vec<Column>,
    /// From the top.
    pub rows: Vec<Row>,
}

/// What the bars below each other have in common.
#[derive(Debug, Clone, Default)]
pub struct Column {
    /// The quantity and its unit.
    pub title: String,
    /// Where a line is drawn through all rows.
    pub mark: Option<Mark>,
}

/// A number to compare with.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Where.
    pub at: f64,
    /// What it is.
    pub name: String,
}

/// A name, and for each column its bars below each other.
#[derive(Debug, Clone)]
pub struct Row {
    /// Left of the bars.
    pub name: String,
    /// For each column.
    pub cells: Vec<Vec<Bar>>,
}

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// One behind the other.
    pub parts: Vec<Part>,
    /// What is written behind the bar: its length as a number.
    pub figure: String,
    /// What else is to be known of it, under the pointer.
    pub note: String,
}

/// A part of a bar.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Which of the series.
    pub series: usize,
    /// How long it is.
    pub value: f64,
}

impl Bar {
    /// Of one part, with its length as the figure.
    pub fn plain(series: usize, value: f64) -> Self {
        Self { parts: vec![Part { series, value }], figure: short(value), note: String::new() }
    }

    fn end(&self) -> f64 {
        self.parts.iter().map(|part| part.value).sum()
    }
}

const BAR: f64 = 12.0;
/// Between two rows.
const GAP: f64 = 5.0;
const LONGEST_NAME: f64 = 270.0;
/// Rows from which on the scale is repeated at the bottom.
const LONG: usize = 20;

impl BarChart {
    pub(super) fn draw(&self, sheet: &mut Sheet) {
        head(sheet, &self.title, &self.notes);
        if self.series.len() > 1 {
            let swatch =
                |sheet: &mut Sheet, series, x, y| sheet.bar((x, y - 6.0), (16.0, BAR), colour(series), "");
            sheet.legend(self.series.iter().map(String::as_str), swatch);
        }
        let names =
            self.rows.iter().map(|row| text_width(&row.name, TEXT)).fold(0.0, f64::max).min(LONGEST_NAME);
        let scales = self.scales(MARGIN + names + 8.0);
        sheet.skip(18.0);
        for (column, scale) in self.columns.iter().zip(&scales) {
            sheet.text((scale.from, sheet.y), Anchor::Start, TEXT, INK, &column.title);
        }
        sheet.skip(16.0);
        ticks(sheet, &scales);
        sheet.skip(6.0);
        let top = sheet.y;
        let bottom = top + self.rows.iter().map(height).sum::<f64>() + GAP;
        for (column, scale) in self.columns.iter().zip(&scales) {
            for tick in scale.ticks(70.0) {
                sheet.rule((scale.place(tick), top), (scale.place(tick), bottom), GRID, false);
            }
            if let Some(mark) = &column.mark {
                sheet.rule((scale.place(mark.at), top), (scale.place(mark.at), bottom), INK, true);
            }
        }
        sheet.skip(GAP);
        for row in &self.rows {
            row.draw(sheet, MARGIN + names, &scales);
        }
        if self.rows.len() >= LONG {
            sheet.skip(14.0);
            ticks(sheet, &scales);
        }
        self.marks(sheet, &scales);
    }

    /// What the dashed lines are, under them.
    fn marks(&self, sheet: &mut Sheet, scales: &[Scale]) {
        let marks = || {
            self.columns.iter().zip(scales).filter_map(|(column, scale)| Some((column.mark.as_ref()?, scale)))
        };
        if marks().next().is_none() {
            return;
        }
        sheet.skip(16.0);
        for (mark, scale) in marks() {
            // Not beyond the right edge.
            let x = scale.place(mark.at).min(WIDTH - MARGIN - text_width(&mark.name, SMALL) / 2.0);
            sheet.text((x, sheet.y), Anchor::Middle, SMALL, INK, &mark.name);
        }
    }

    /// One scale for each column, all from 0, with room for figures at the right.
    fn scales(&self, left: f64) -> Vec<Scale> {
        let step = (WIDTH - MARGIN - left) / self.columns.len().max(1) as f64;
        let scale = |(index, column): (usize, &Column)| {
            let bars = || self.rows.iter().filter_map(|row| row.cells.get(index)).flatten();
            let figures = bars().map(|bar| text_width(&bar.figure, SMALL)).fold(0.0, f64::max);
            let longest =
                bars().map(Bar::end).chain(column.mark.as_ref().map(|mark| mark.at)).fold(0.0, f64::max);
            let high = if longest > 0.0 { longest } else { 1.0 };
            let from = left + index as f64 * step;
            Scale { low: 0.0, high, from, to: from + step - figures - 20.0, is_log: false }
        };
        self.columns.iter().enumerate().map(scale).collect()
    }
}

fn ticks(sheet: &mut Sheet, scales: &[Scale]) {
    for (scale, tick) in
        scales.iter().flat_map(|scale| scale.ticks(70.0).into_iter().map(move |tick| (scale, tick)))
    {
        sheet.text((scale.place(tick), sheet.y), Anchor::Middle, SMALL, FAINT, &short(tick));
    }
}

fn height(row: &Row) -> f64 {
    let bars = row.cells.iter().map(Vec::len).max().unwrap_or(0).max(1);
    bars as f64 * (BAR + 1.0) + GAP
}

impl Row {
    fn draw(&self, sheet: &mut Sheet, names_end: f64, scales: &[Scale]) {
        let middle = sheet.y + (height(self) - GAP) / 2.0;
        let name = shortened(&self.name, TEXT, LONGEST_NAME);
        sheet.text((names_end, middle + 0.36 * TEXT), Anchor::End, TEXT, INK, &name);
        for (cell, scale) in self.cells.iter().zip(scales) {
            for (index, bar) in cell.iter().enumerate() {
                let y = sheet.y + index as f64 * (BAR + 1.0);
                let tip = tip(&[&self.name, &bar.figure, &bar.note]);
                let mut start = 0.0;
                for part in bar.parts.iter().filter(|part| part.value > 0.0) {
                    let (left, right) = (scale.place(start), scale.place(start + part.value));
                    sheet.bar((left, y), (right - left, BAR), colour(part.series), &tip);
                    start += part.value;
                }
                sheet.text(
                    (scale.place(start) + 4.0, y + 0.82 * BAR),
                    Anchor::Start,
                    SMALL,
                    INK,
                    &bar.figure,
                );
            }
        }
        sheet.skip(height(self));
    }
}
