//! `--plot`: parameters and MACs per layer, and the roofline with every layer on it.

use super::report::{CountReport, LayerRow};
use plotters::coord::Shift;
use plotters::prelude::*;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

const SIZE: (u32, u32) = (1200, 1500);
const PARAMS: RGBColor = RGBColor(31, 119, 180);
const MACS: RGBColor = RGBColor(214, 96, 30);
const OTHER: RGBColor = RGBColor(110, 110, 110);

/// What a machine can do at best.
pub(super) struct Roofs {
    /// 10^9 operations per second.
    pub(super) gflops: f64,
    /// 10^9 bytes per second.
    pub(super) gbs: f64,
}

impl Roofs {
    /// 10^9 operations per second that so many operations per byte allow.
    fn at(&self, intensity: f64) -> f64 {
        (intensity * self.gbs).min(self.gflops)
    }
}

/// The picture as text.
pub(super) fn svg(report: &CountReport, roofs: &Roofs) -> anyhow::Result<String> {
    let mut text = String::new();
    draw(&mut text, report, roofs).map_err(|error| anyhow::anyhow!("plot: {error}"))?;
    Ok(text)
}

fn draw(text: &mut String, report: &CountReport, roofs: &Roofs) -> Drawn {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (bars, roofline) = root.split_vertically(900);
    let (top, bottom) = bars.split_vertically(450);
    let counted: Vec<&LayerRow> = report.layers.iter().filter(|row| row.params > 0 || row.macs > 0).collect();
    histogram(&top, &format!("{}: parameters per layer", report.name), &counted, PARAMS, |row| row.params)?;
    histogram(&bottom, &format!("{}: MACs per layer", report.name), &counted, MACS, |row| row.macs)?;
    self::roofline(&roofline, report, roofs)?;
    root.present()?;
    Ok(())
}

fn histogram(
    area: &Area<'_>,
    title: &str,
    rows: &[&LayerRow],
    colour: RGBColor,
    value: fn(&LayerRow) -> u64,
) -> Drawn {
    let largest = rows.iter().map(|row| value(row)).max().unwrap_or(0).max(1) as f64;
    let end = rows.len().max(1);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(130)
        .y_label_area_size(90)
        .build_cartesian_2d(0.0..end as f64, 0.0..largest * 1.05)?;
    // A name under each bar, or under every n-th where there is no room.
    let names = end.min(60);
    let name = |x: &f64| {
        let centre = x.fract() > 0.01 || *x < 0.0;
        rows.get(*x as usize).filter(|_| !centre).map_or(String::new(), |row| row.name.clone())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(names)
        .x_label_formatter(&name)
        .x_label_style(("sans-serif", 11).into_font().transform(FontTransform::Rotate90))
        .y_label_formatter(&|y| si(*y))
        .draw()?;
    chart.draw_series(rows.iter().enumerate().map(|(index, row)| {
        let x = index as f64;
        Rectangle::new([(x + 0.1, 0.0), (x + 0.9, value(row) as f64)], colour.filled())
    }))?;
    Ok(())
}

fn roofline(area: &Area<'_>, report: &CountReport, roofs: &Roofs) -> Drawn {
    let points: Vec<(f64, bool)> = report
        .layers
        .iter()
        .filter_map(|row| Some((row.intensity.filter(|&intensity| intensity > 0.0)?, row.macs > 0)))
        .collect();
    let ridge = roofs.gflops / roofs.gbs;
    let (low, high) = points.iter().fold((ridge, ridge), |(low, high), &(x, _)| (low.min(x), high.max(x)));
    let (low, high) = (low / 2.0, high * 2.0);
    let title = format!(
        "{}: roofline of {} GFLOP/s and {} GB/s (ridge at {ridge:.1} operations per byte)",
        report.name, roofs.gflops, roofs.gbs
    );
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(50)
        .y_label_area_size(90)
        .build_cartesian_2d((low..high).log_scale(), (roofs.at(low) / 2.0..roofs.gflops * 2.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("operations per byte that must be moved")
        .y_desc("GFLOP/s at most")
        .x_label_formatter(&|x| si(*x))
        .y_label_formatter(&|y| si(*y))
        .draw()?;
    let roof = [low, ridge, high].map(|x| (x, roofs.at(x)));
    chart.draw_series(LineSeries::new(roof, BLACK.stroke_width(2)))?;
    for (with_macs, colour, label) in
        [(true, MACS, "convolutions and matrix products"), (false, OTHER, "other layers")]
    {
        let of_kind = points.iter().filter(|&&(_, macs)| macs == with_macs);
        chart
            .draw_series(of_kind.map(|&(x, _)| Circle::new((x, roofs.at(x)), 4, colour.mix(0.6).filled())))?
            .label(label)
            .legend(move |(x, y)| Circle::new((x + 10, y), 4, colour.filled()));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(OTHER).draw()?;
    Ok(())
}

/// `1.5M`.
fn si(number: f64) -> String {
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (unit, letter) = units.into_iter().find(|&(unit, _)| number.abs() >= unit).unwrap_or((1.0, ""));
    let digits = if number.abs() < 1.0 { 2 } else { 1 };
    let text = format!("{:.digits$}", number / unit);
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{letter}")
}
