//! `--plot`: how much of the roof each rival reaches on each layer, and the layers under the roofline.

use super::roofs::MeasuredRoof;
use super::row::LayerRow;
use crate::cli::once_each;
use plotters::coord::Shift;
use plotters::prelude::*;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

const WIDTH: u32 = 1200;
const ROOFLINE: u32 = 620;
/// Of one bar, and between the bars of two layers; a layer's name takes two of them.
const BAR: u32 = 7;
/// Left of the bars, for the names.
const NAMES: u32 = 190;
const GREY: RGBColor = RGBColor(110, 110, 110);

/// What is drawn as one colour.
struct Series<'a> {
    name: String,
    rows: Vec<&'a LayerRow>,
    colour: RGBColor,
}

/// The picture as text.
pub(super) fn svg(rows: &[LayerRow], roofs: &[MeasuredRoof]) -> anyhow::Result<String> {
    let mut text = String::new();
    draw(&mut text, rows, roofs).map_err(|error| anyhow::anyhow!("plot: {error}"))?;
    Ok(text)
}

fn draw(text: &mut String, rows: &[LayerRow], roofs: &[MeasuredRoof]) -> Drawn {
    let (layers, series) = (layers(rows), series(rows));
    let slots = layers.len() * (series.len() + 1).max(2);
    let height = slots as u32 * BAR + 100;
    let root = SVGBackend::with_string(text, (WIDTH, height + ROOFLINE)).into_drawing_area();
    root.fill(&WHITE)?;
    let (top, bottom) = root.split_vertically(height);
    bars(&top, &layers, &series)?;
    roofline(&bottom, &series, roofs)?;
    root.present()?;
    Ok(())
}

/// The layers' ids, once each.
fn layers(rows: &[LayerRow]) -> Vec<&str> {
    let mut ids: Vec<&str> = rows.iter().map(|row| row.layer.as_str()).collect();
    // Neighbours first: that leaves few to compare.
    ids.dedup();
    once_each(&ids)
}

/// Rows of the same rival; of what is the same for all of them, its name says nothing.
fn series(rows: &[LayerRow]) -> Vec<Series<'_>> {
    let timed = || rows.iter().filter(|row| row.gflops.is_some() && !row.is_wrong);
    let differs = |part: fn(&LayerRow) -> String| {
        let mut parts = timed().filter(|row| row.peer().is_none()).map(part);
        let first = parts.next();
        parts.any(|part| Some(&part) != first.as_ref())
    };
    let parts: [fn(&LayerRow) -> String; 3] =
        [|row| row.isa.to_owned(), |row| row.layout.to_owned(), |row| format!("{} threads", row.threads)];
    let said: Vec<_> = parts.into_iter().filter(|&part| differs(part)).collect();
    let name = |row: &LayerRow| {
        let parts = said.iter().map(|part| part(row));
        std::iter::once(row.algorithm.clone()).chain(parts).collect::<Vec<_>>().join(", ")
    };
    let mut all: Vec<Series<'_>> = Vec::new();
    for row in timed() {
        let name = name(row);
        match all.iter_mut().find(|series| series.name == name) {
            Some(series) => series.rows.push(row),
            None => {
                let colour = Palette99::pick(all.len()).to_rgba();
                let colour = RGBColor(colour.0, colour.1, colour.2);
                all.push(Series { name, rows: vec![row], colour });
            }
        }
    }
    all
}

fn bars(area: &Area<'_>, layers: &[&str], series: &[Series<'_>]) -> Drawn {
    let value = |row: &LayerRow| row.roof_percent.or(row.gflops).unwrap_or(0.0);
    let rows = || series.iter().flat_map(|series| &series.rows);
    let unit = if rows().any(|row| row.roof_percent.is_some()) { "% of the FMA roof" } else { "GFLOP/s" };
    let largest = rows().map(|row| value(row)).fold(1.0, f64::max);
    let end = layers.len().max(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(format!("Operations of the definition per second, {unit}"), ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(35)
        .y_label_area_size(NAMES)
        // The first layer on top.
        .build_cartesian_2d(0.0..largest * 1.05, end..0.0)?;
    chart.configure_mesh().disable_y_mesh().y_labels(0).x_desc(unit).draw()?;
    let width = 1.0 / (series.len() + 1).max(2) as f64;
    for (index, id) in layers.iter().enumerate() {
        let (left, middle) = chart.backend_coord(&(0.0, index as f64 + 0.5));
        area.draw(&Text::new((*id).to_owned(), (left - NAMES as i32, middle - 6), ("sans-serif", 12)))?;
    }
    for (index, series) in series.iter().enumerate() {
        let bar = |row: &&LayerRow| {
            let layer = layers.iter().position(|&id| id == row.layer)?;
            let top = layer as f64 + (index as f64 + 0.5) * width;
            Some(Rectangle::new([(0.0, top), (value(row), top + width)], series.colour.filled()))
        };
        let colour = series.colour;
        chart
            .draw_series(series.rows.iter().filter_map(bar))?
            .label(&series.name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled()));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(GREY).draw()?;
    Ok(())
}

/// The roof of each instruction set and number of threads, under which its rows are; where memory bounds, a slope for
/// each level.
fn roofline(area: &Area<'_>, series: &[Series<'_>], roofs: &[MeasuredRoof]) -> Drawn {
    let rows = || series.iter().flat_map(|series| &series.rows);
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, 0.0), |(low, high), value| (value.min(low), value.max(high)))
    };
    let (low, high) = range(&mut rows().map(|row| row.intensity));
    let peaks = roofs.iter().map(|roof| roof.gflops);
    let (slow, fast) = range(&mut rows().filter_map(|row| row.gflops).chain(peaks));
    if !(high > 0.0 && slow.is_finite()) {
        return Ok(());
    }
    let (low, high) = (low / 2.0, high * 2.0);
    let mut chart = ChartBuilder::on(area)
        .caption("Roofline: bytes are those that must be moved, read once", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(50)
        .y_label_area_size(60)
        .build_cartesian_2d((low..high).log_scale(), (slow / 2.0..fast * 2.0).log_scale())?;
    chart.configure_mesh().x_desc("operations per byte").y_desc("GFLOP/s").draw()?;
    for roof in roofs {
        for level in roof.bandwidths {
            let at = |x: f64| (x, (x * level.gbs).min(roof.gflops));
            let ridge = (roof.gflops / level.gbs).clamp(low, high);
            let visible = [low, ridge, high].map(at).map(|(x, y)| (x, y.max(slow / 2.0)));
            chart.draw_series(LineSeries::new(visible, BLACK.stroke_width(1)))?;
            let text = format!("{} {:.0} GB/s", level.level, level.gbs);
            let place = (low * 1.05, at(low).1.max(slow / 1.9));
            chart.draw_series([Text::new(text, place, ("sans-serif", 12))])?;
        }
        let text = format!("{}, {} thread(s): {:.0} GFLOP/s", roof.isa, roof.threads, roof.gflops);
        chart.draw_series([Text::new(text, (high / 8.0, roof.gflops * 1.15), ("sans-serif", 12))])?;
    }
    for series in series {
        let point = |row: &&LayerRow| {
            Some(Circle::new((row.intensity, row.gflops?), 3, series.colour.mix(0.7).filled()))
        };
        chart.draw_series(series.rows.iter().filter_map(point))?;
    }
    Ok(())
}
