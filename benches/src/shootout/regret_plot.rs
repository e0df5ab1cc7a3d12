//! `--assert-choice --plot`: on how many of the layers a choice takes at most so many times as long as the fastest.

use super::regret::Judgement;
use plotters::prelude::*;

type Drawn = Result<(), Box<dyn std::error::Error>>;

const SIZE: (u32, u32) = (1000, 640);
/// Ratios that are drawn at least and at most; the worst of them are in the table.
const RATIOS: (f64, f64) = (1.2, 2.0);

/// One way to choose in one run.
struct Curve {
    name: String,
    is_measured: bool,
    colour: RGBColor,
    /// The ratios, ascending.
    ratios: Vec<f64>,
}

/// The picture as text.
pub(super) fn svg(judgements: &[Judgement<'_>]) -> anyhow::Result<String> {
    let mut text = String::new();
    draw(&mut text, &lines(judgements)).map_err(|error| anyhow::anyhow!("plot: {error}"))?;
    Ok(text)
}

fn lines(judgements: &[Judgement<'_>]) -> Vec<Curve> {
    let of = |judgement: &Judgement<'_>| -> Vec<Curve> {
        let runs = judgement.runs().into_iter().enumerate();
        runs.map(|(index, ((threads, isa, layout), regrets))| {
            let (RGBAColor(red, green, blue, _), name) =
                (Palette99::pick(index).to_rgba(), judgement.choice.name());
            Curve {
                name: format!("{name}, {isa}, {layout}, {threads} thread(s)"),
                is_measured: judgement.choice == super::Candidate::Measured,
                colour: RGBColor(red, green, blue),
                ratios: regrets.iter().rev().map(|regret| regret.ratio).collect(),
            }
        })
        .collect()
    };
    judgements.iter().flat_map(of).collect()
}

impl Curve {
    /// The share of layers, in per cent, up to each ratio: steps, from those on which the choice is the fastest.
    fn steps(&self, most: f64) -> Vec<(f64, f64)> {
        let share = |layers: usize| 100.0 * layers as f64 / self.ratios.len() as f64;
        let fastest = self.ratios.iter().filter(|&&ratio| ratio <= 1.0).count();
        let mut points = vec![(1.0, share(fastest))];
        let others = self.ratios.iter().enumerate().skip(fastest);
        for (index, &ratio) in others.take_while(|(_, ratio)| **ratio <= most) {
            points.extend([(ratio, share(index)), (ratio, share(index + 1))]);
        }
        let last = points[points.len() - 1].1;
        points.push((most, last));
        points
    }
}

fn draw(text: &mut String, lines: &[Curve]) -> Drawn {
    let worst = lines.iter().flat_map(|line| &line.ratios).copied().fold(RATIOS.0, f64::max);
    let most = worst.min(RATIOS.1);
    let least = lines.iter().map(|line| line.steps(most)[0].1).fold(90.0, f64::min);
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "Layers on which the choice takes at most so many times as long as the fastest",
            ("sans-serif", 20),
        )
        .margin(12)
        .x_label_area_size(45)
        .y_label_area_size(60)
        .build_cartesian_2d(1.0..most, (least / 10.0).floor() * 10.0..100.0)?;
    let mesh = &mut chart.configure_mesh();
    mesh.x_desc("time of the choice by that of the fastest algorithm")
        .y_desc("% of layers")
        .max_light_lines(0)
        .draw()?;
    for line in lines {
        // Auto thin, measured thick, of the same run in the same colour.
        let style = line.colour.stroke_width(if line.is_measured { 3 } else { 1 });
        chart
            .draw_series(LineSeries::new(line.steps(most), style))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.4))
        .draw()?;
    drop(chart);
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_rise_in_steps_to_the_last_that_is_drawn() {
        let ratios = vec![1.0, 1.0, 1.5, 7.0];
        let line = Curve { name: String::new(), is_measured: false, colour: BLACK, ratios };
        let expected = [(1.0, 50.0), (1.5, 50.0), (1.5, 75.0), (2.0, 75.0)];
        assert_eq!(line.steps(2.0), expected);
    }
}
