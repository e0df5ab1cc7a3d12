//! `--plot`: loss, accuracy, learning rate and the size of steps over the epochs.

use nets::fit::{EpochReport, Recipe};
use nets::plot::{Axis, Chart, Line, PlaneChart, page};

/// Layers beyond which the size of steps is drawn for some only.
const MOST_LAYERS: usize = 7;

/// The picture as text.
pub(super) fn svg(title: &str, recipe: &Recipe, history: &[EpochReport]) -> String {
    let last = history.last();
    let mut notes = vec![format!(
        "{}, learning rate {:e}, {}, batches of {}, augmentation {}, initial weights {}, seed {}.",
        recipe.method,
        recipe.rate,
        recipe.schedule,
        recipe.batch,
        recipe.augment,
        recipe.init.name(),
        recipe.seed
    )];
    notes.extend(last.map(|last| {
        format!(
            "After epoch {}: training loss {:.4}, accuracy {:.2} %; validation loss {:.4}, accuracy {:.2} %.",
            last.epoch,
            last.training_loss,
            last.training_accuracy * 100.0,
            last.validation_loss,
            last.validation_accuracy * 100.0
        )
    }));
    let loss = [
        series("training", 0, history, |epoch| epoch.training_loss),
        series("validation", 1, history, |epoch| epoch.validation_loss),
    ];
    let error = [
        series("training", 0, history, |epoch| 100.0 * (1.0 - epoch.training_accuracy)),
        series("validation", 1, history, |epoch| 100.0 * (1.0 - epoch.validation_accuracy)),
    ];
    let training = "Figures of the training part are means over the steps of an epoch, with dropout and augmentation, while \
                    the weights change. So they can be worse than those of the validation part.";
    let charts = [
        chart("Loss", training, "mean loss per picture", loss.to_vec()),
        chart("Error", "", "pictures answered wrong, in %", error.to_vec()),
        chart(
            "Learning rate",
            "",
            "rate in the middle of the epoch",
            vec![series("learning rate", 0, history, |epoch| epoch.rate)],
        ),
        chart(
            "Size of steps",
            "The norm of the step in the middle of each epoch divided by the norm of the weights. Near 1e-3 is usual.",
            "update / weight",
            ratios(history),
        ),
    ];
    let drawn: Vec<Chart> = charts.into_iter().flatten().map(Chart::Plane).collect();
    page(title, &notes, &drawn)
}

/// A line of a figure over the epochs.
pub(crate) fn series(
    name: &str,
    colour: usize,
    history: &[EpochReport],
    of: impl Fn(&EpochReport) -> f64,
) -> Line {
    let points = history.iter().map(|epoch| (epoch.epoch as f64, of(epoch)));
    Line { name: name.to_owned(), points: points.collect(), colour: Some(colour), is_dashed: false }
}

/// The ratios of some layers, evenly chosen from the first to the last.
fn ratios(history: &[EpochReport]) -> Vec<Line> {
    let names: Vec<&String> =
        history.last().into_iter().flat_map(|epoch| &epoch.ratios).map(|(name, _)| name).collect();
    let count = names.len().min(MOST_LAYERS);
    let chosen = (0..count).map(|index| names[index * (names.len() - 1) / (count - 1).max(1)]);
    let line = |(colour, name): (usize, &String)| {
        let of = |epoch: &EpochReport| {
            epoch.ratios.iter().find(|(other, _)| other == name).map_or(0.0, |&(_, ratio)| ratio)
        };
        series(name, colour, history, of)
    };
    chosen.enumerate().map(line).collect()
}

/// A chart with a logarithmic axis upwards. `None` if there is nothing to draw. Numbers that have no logarithm are left out.
pub(crate) fn chart(title: &str, note: &str, y_title: &str, mut lines: Vec<Line>) -> Option<PlaneChart> {
    for line in &mut lines {
        line.points.retain(|&(_, y)| y > 0.0 && y.is_finite());
    }
    lines.retain(|line| !line.points.is_empty());
    let points = || lines.iter().flat_map(|line| &line.points).copied();
    let (low, high) = points().fold((f64::INFINITY, 0.0f64), |(low, high), (_, y)| (low.min(y), high.max(y)));
    let last = points().map(|(x, _)| x).fold(2.0, f64::max);
    (!lines.is_empty()).then(|| PlaneChart {
        title: title.to_owned(),
        notes: if note.is_empty() { Vec::new() } else { vec![note.to_owned()] },
        x: Axis { title: "epoch".to_owned(), range: (1.0, last), is_log: false },
        // Some room above and below, also around a flat line.
        y: Axis { title: y_title.to_owned(), range: (low / 1.3, high * 1.3), is_log: true },
        series: Vec::new(),
        points: Vec::new(),
        lines,
    })
}
