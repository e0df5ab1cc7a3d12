//! Charts as SVG, for the programs of this workspace. Not a public interface: it changes without notice.
//!
//! Three kinds are enough for them: bars that lie, a row for each layer ([`BarChart`]), a plane of points and lines
//! ([`PlaneChart`]), and a network as boxes and arrows ([`Diagram`]). They are drawn here, element by element with the crate `svg`, because no charting crate
//! draws what makes them legible: names of any length beside lying bars, figures behind them, labels that give way to
//! each other, and tooltips. `plotters` writes labels over each other and has no tooltips; the crates around ECharts and
//! Plotly need a browser to lay a chart out.
//!
//! Widths of text are those of DejaVu Sans, the widest of the usual fonts, so nothing overlaps in another.

mod bars;
mod diagram;
mod labels;
mod plane;
mod rows;
mod scale;
mod sheet;

pub use bars::{Bar, BarChart, Column, Mark, Part, Row};
pub use diagram::{Diagram, Kind, LayerBox, Strip};
pub use plane::{Axis, Line, PlaneChart, Point};
pub use rows::{Block, blocks, blocks_note};
pub use scale::short;
use sheet::Sheet;
pub use sheet::text_width;

/// What stands on a page.
#[derive(Debug, Clone)]
pub enum Chart {
    /// Lying bars.
    Bars(BarChart),
    /// Points and lines.
    Plane(PlaneChart),
}

/// The charts below each other, under a title and notes, as the text of an SVG file.
pub fn page(title: &str, notes: &[String], charts: &[Chart]) -> String {
    let mut sheet = Sheet::new();
    sheet.title(title);
    sheet.notes(notes);
    for chart in charts {
        sheet.skip(22.0);
        match chart {
            Chart::Bars(chart) => chart.draw(&mut sheet),
            Chart::Plane(chart) => chart.draw(&mut sheet),
        }
    }
    sheet.finish(title)
}

/// What stands above a chart.
fn head(sheet: &mut Sheet, title: &str, notes: &[String]) {
    sheet.heading(title);
    sheet.notes(notes);
}
