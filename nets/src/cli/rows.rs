//! Tables in several formats.

use crate::cli::text;
use std::io::IsTerminal;
use terminal_size::{Width, terminal_size};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A table of text cells. The last row can be a row of totals.
pub(super) struct Rows {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    has_total: bool,
}

struct Column {
    name: String,
    align: Align,
    /// On a narrow terminal, columns with higher ranks are dropped first; rank 0 always stays.
    rank: u8,
}

impl Rows {
    pub(super) fn new(columns: &[(&str, Align, u8)]) -> Self {
        let column = |&(name, align, rank): &(&str, _, _)| Column { name: name.to_owned(), align, rank };
        Self { columns: columns.iter().map(column).collect(), rows: Vec::new(), has_total: false }
    }

    pub(super) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    pub(super) fn total(&mut self, row: Vec<String>) {
        self.rows.push(row);
        self.has_total = true;
    }

    /// Formats for a terminal: as many columns as fit. Header and totals are bold only on a terminal.
    pub(super) fn text(&self) -> String {
        let terminal = std::io::stdout().is_terminal();
        let width = terminal_size().filter(|_| terminal).map(|(Width(width), _)| usize::from(width));
        let table = self.text_within(width.unwrap_or(usize::MAX));
        if !terminal || std::env::var_os("NO_COLOR").is_some() {
            return table;
        }
        let lines: Vec<&str> = table.lines().collect();
        let bold = |index: usize| index == 0 || (self.has_total && index + 1 == lines.len());
        let paint = |(index, line): (usize, &&str)| match bold(index) {
            true => format!("\x1b[1m{line}\x1b[0m\n"),
            false => format!("{line}\n"),
        };
        lines.iter().enumerate().map(paint).collect()
    }

    fn text_within(&self, width: usize) -> String {
        let mut rank = self.columns.iter().map(|column| column.rank).max().unwrap_or(0);
        loop {
            let table = self.columns_up_to(rank);
            let widest = table.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            if widest <= width {
                return table;
            }
            if rank == 0 {
                // Truncate instead of wrapping, because wrapped lines would break the table.
                return table
                    .lines()
                    .map(|line| line.chars().take(width).collect::<String>() + "\n")
                    .collect();
            }
            rank -= 1;
        }
    }

    fn columns_up_to(&self, rank: u8) -> String {
        let kept: Vec<usize> = (0..self.columns.len()).filter(|&i| self.columns[i].rank <= rank).collect();
        let header: Vec<&str> = kept.iter().map(|&i| self.columns[i].name.as_str()).collect();
        let right = |&place: &usize| self.columns[kept[place]].align == Align::Right;
        let right: Vec<usize> = (0..kept.len()).filter(right).collect();
        let mut table = text::table(&header, &right);
        for row in &self.rows {
            table.add_row(kept.iter().map(|&i| row[i].as_str()));
        }
        text::lines(&table)
    }

    /// Formats as CSV without the totals.
    pub(super) fn csv(&self) -> anyhow::Result<String> {
        let header = self.columns.iter().map(|column| column.name.clone()).collect();
        let rows = &self.rows[..self.rows.len() - usize::from(self.has_total)];
        text::csv([header].iter().chain(rows))
    }

    pub(super) fn markdown(&self) -> String {
        let escaped = |field: &str| field.replace('|', "\\|").replace('\n', " ");
        let line = |fields: Vec<String>| format!("| {} |\n", fields.join(" | "));
        let rule = |column: &Column| if column.align == Align::Right { "---:" } else { "---" }.to_owned();
        let header = line(self.columns.iter().map(|column| escaped(&column.name)).collect());
        let rules = line(self.columns.iter().map(rule).collect());
        let rows = self.rows.iter().map(|row| line(row.iter().map(|field| escaped(field)).collect()));
        header + &rules + &rows.collect::<String>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let mut rows =
            Rows::new(&[("A", Align::Left, 0), ("Long name", Align::Right, 1), ("C", Align::Right, 2)]);
        rows.push(["x,y", "1", "2"].map(str::to_owned).to_vec());
        rows.total(["total", "1", "2"].map(str::to_owned).to_vec());
        rows
    }

    #[test]
    fn columns_go_one_by_one_as_the_terminal_narrows() {
        let widths =
            |width| rows().text_within(width).lines().map(|line| line.chars().count()).max().unwrap();
        let header = |width| rows().text_within(width).lines().next().unwrap().to_owned();
        assert!(header(100).contains('C') && header(100).contains("Long name"));
        assert!(!header(widths(100) - 1).contains('C'));
        assert!(!header(10).contains("Long"));
        for width in 1..40 {
            assert!(widths(width) <= width);
        }
    }

    #[test]
    fn csv_quotes_and_leaves_the_total_out() {
        assert_eq!(rows().csv().unwrap(), "A,Long name,C\n\"x,y\",1,2\n");
        assert!(rows().markdown().starts_with("| A | Long name | C |\n| --- | ---: | ---: |\n| x,y |"));
    }
}
