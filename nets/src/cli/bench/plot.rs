//! `--plot`: the time of every layer, one picture for each measurement.

use super::measure::{Layer, Measured};
use plotters::coord::Shift;
use plotters::prelude::*;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

const WIDTH: u32 = 1200;
const HEIGHT: u32 = 480;
const PRODUCTS: RGBColor = RGBColor(31, 119, 180);
const OTHER: RGBColor = RGBColor(214, 96, 30);

/// The pictures as text.
pub(super) fn svg(name: &str, results: &[Measured]) -> anyhow::Result<String> {
    let mut text = String::new();
    draw(&mut text, name, results).map_err(|error| anyhow::anyhow!("plot: {error}"))?;
    Ok(text)
}

fn draw(text: &mut String, name: &str, results: &[Measured]) -> Drawn {
    let size = (WIDTH, HEIGHT * results.len().max(1) as u32);
    let root = SVGBackend::with_string(text, size).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, run) in root.split_evenly((results.len().max(1), 1)).iter().zip(results) {
        let title = format!(
            "{name}: batch {}, {} thread(s), {:.2} ms, {:.1} % of it outside of convolutions and products",
            run.batch,
            run.threads,
            run.median(),
            run.outside()
        );
        bars(area, &title, run)?;
    }
    root.present()?;
    Ok(())
}

fn bars(area: &Area<'_>, title: &str, run: &Measured) -> Drawn {
    let layers: Vec<&Layer> = run.layers.iter().filter(|layer| layer.step.layout.is_some()).collect();
    let largest = layers.iter().map(|layer| layer.ms).fold(f64::MIN_POSITIVE, f64::max);
    let end = layers.len().max(1);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(150)
        .y_label_area_size(90)
        .build_cartesian_2d(0.0..end as f64, 0.0..largest * 1.05)?;
    let name = |x: &f64| {
        let between = x.fract() > 0.01 || *x < 0.0;
        layers.get(*x as usize).filter(|_| !between).map_or(String::new(), |layer| layer.step.name.clone())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(end.min(60))
        .x_label_formatter(&name)
        .x_label_style(("sans-serif", 11).into_font().transform(FontTransform::Rotate90))
        .y_desc("milliseconds")
        .draw()?;
    for (products, colour, label) in
        [(true, PRODUCTS, "convolutions and products"), (false, OTHER, "other layers")]
    {
        let of_kind = layers.iter().enumerate().filter(|(_, layer)| (layer.step.macs > 0) == products);
        let bar = |(index, layer): (usize, &&Layer)| {
            let x = index as f64;
            Rectangle::new([(x + 0.1, 0.0), (x + 0.9, layer.ms)], colour.filled())
        };
        chart
            .draw_series(of_kind.map(bar))?
            .label(label)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.filled()));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    Ok(())
}
