//! The epochs of a training as a table and as CSV.

use crate::cli::rows::{Align, Rows};
use crate::cli::text;
use nets::fit::EpochReport;

/// The table on standard output.
pub(super) fn table(history: &[EpochReport]) -> Rows {
    let columns = [
        ("Epoch", Align::Right, 0),
        ("Rate", Align::Right, 2),
        ("Loss", Align::Right, 0),
        ("Accuracy", Align::Right, 1),
        ("Val. loss", Align::Right, 1),
        ("Val. accuracy", Align::Right, 0),
        ("Images/s", Align::Right, 3),
        ("Update/weight", Align::Right, 3),
        ("Dead", Align::Right, 4),
        ("Saturated", Align::Right, 4),
    ];
    let mut rows = Rows::new(&columns);
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    for epoch in history {
        let largest = |of: fn(&nets::fit::LayerFigures) -> Option<f32>| {
            let shares = epoch.layers.iter().filter_map(of);
            shares.reduce(f32::max).map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0))
        };
        rows.push(vec![
            epoch.epoch.to_string(),
            format!("{:.2e}", epoch.rate),
            format!("{:.4}", epoch.training_loss),
            percent(epoch.training_accuracy),
            format!("{:.4}", epoch.validation_loss),
            percent(epoch.validation_accuracy),
            text::thousands(epoch.images_per_second as u64),
            median(epoch).map_or("-".to_owned(), |ratio| format!("{ratio:.1e}")),
            largest(|layer| layer.dead),
            largest(|layer| layer.saturated),
        ]);
    }
    rows
}

/// The middle of the layers' ratios of update to weight.
fn median(epoch: &EpochReport) -> Option<f64> {
    let mut ratios: Vec<f64> = epoch.ratios.iter().map(|&(_, ratio)| ratio).collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied()
}

/// The log: fixed columns, and then the ratio of each parameter and the shares of each layer.
pub(super) fn csv(history: &[EpochReport]) -> anyhow::Result<String> {
    let fixed = [
        "epoch",
        "step",
        "rate",
        "training_loss",
        "training_accuracy",
        "validation_loss",
        "validation_accuracy",
        "images_per_second",
        "seconds",
    ];
    let own = history
        .iter()
        .max_by_key(|epoch| epoch.ratios.len() + epoch.layers.len())
        .map(own)
        .unwrap_or_default();
    let names = own.iter().map(|(name, _)| name.clone());
    let mut records = vec![fixed.map(str::to_owned).into_iter().chain(names).collect()];
    for epoch in history {
        let numbers = [
            epoch.rate,
            epoch.training_loss,
            epoch.training_accuracy,
            epoch.validation_loss,
            epoch.validation_accuracy,
            epoch.images_per_second,
            epoch.seconds,
        ];
        let counts = [epoch.epoch, epoch.step].into_iter().map(|count| count.to_string());
        let cells = counts.chain(numbers.into_iter().map(|number| number.to_string()));
        let values: std::collections::HashMap<String, String> = self::own(epoch).into_iter().collect();
        let others = own.iter().map(|(name, _)| values.get(name).cloned().unwrap_or_default());
        records.push(cells.chain(others).collect());
    }
    text::csv(&records)
}

/// The columns of the network's own parameters and layers.
fn own(epoch: &EpochReport) -> Vec<(String, String)> {
    let ratios = epoch.ratios.iter().map(|(name, ratio)| (format!("ratio:{name}"), ratio.to_string()));
    let layers = epoch.layers.iter().flat_map(|layer| {
        let share =
            |what: &str, share: Option<f32>| Some((format!("{what}:{}", layer.name), share?.to_string()));
        let numbers = [("mean", layer.mean), ("deviation", layer.deviation)];
        let numbers =
            numbers.map(|(what, number)| Some((format!("{what}:{}", layer.name), number.to_string())));
        [share("dead", layer.dead), share("saturated", layer.saturated)].into_iter().chain(numbers).flatten()
    });
    ratios.chain(layers).collect()
}
