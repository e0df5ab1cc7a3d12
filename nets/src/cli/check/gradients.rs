//! Gradients against differences of losses.

use super::Checks;
use crate::cli::rows::{Align, Rows};
use nets::SeededWeights;
use nets::data::Batch;
use nets::train::TrainNet;

/// The change of the loss that the shorter step along a gradient should cause, relative to the loss. Smaller ones are lost in
/// rounding.
const CHANGE: f64 = 5e-4;

/// For each parameter, the length of its gradient, and the slope of the loss along it. The slope is extrapolated from central
/// differences over two lengths, so that only its fifth derivative counts (Richardson 1911).
pub(super) fn report(checks: &Checks<'_>, batch: &Batch) -> anyhow::Result<String> {
    let Checks { setting, recipe, threads, .. } = checks;
    let threads = *threads;
    let weights = SeededWeights::new(setting.graph, recipe.init, recipe.seed)?;
    let mut net = TrainNet::new(setting.graph, &weights, &checks.options(batch.labels.len()))?;
    let loss = net.gradients(&batch.images, &batch.labels, threads)?.value;
    let gradients: Vec<(String, Vec<f32>)> =
        net.parameters().map(|parameter| (parameter.name.to_owned(), parameter.gradient.to_vec())).collect();
    let columns = [
        ("Parameter", Align::Left, 0),
        ("Gradient", Align::Right, 0),
        ("Difference", Align::Right, 0),
        ("Relative error", Align::Right, 0),
    ];
    let mut rows = Rows::new(&columns);
    let mut worst = 0.0f64;
    for (index, (name, gradient)) in gradients.iter().enumerate() {
        let length = gradient.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt();
        if length == 0.0 {
            rows.push(vec![name.clone(), "0".to_owned(), "-".to_owned(), "-".to_owned()]);
            continue;
        }
        let step = CHANGE * loss.abs().max(1.0) / length;
        let mut at = |step: f64| -> anyhow::Result<f64> {
            let mut kept = Vec::new();
            let factor = step / length;
            net.update(
                |other, parameter| {
                    if other == index {
                        kept.extend_from_slice(parameter.value);
                        for (value, &slope) in parameter.value.iter_mut().zip(gradient) {
                            *value = (f64::from(*value) + factor * f64::from(slope)) as f32;
                        }
                    }
                },
                threads,
            )?;
            // The same random masks as for the gradient.
            net.set_step(0);
            let loss = net.gradients(&batch.images, &batch.labels, threads)?.value;
            let restore = |other: usize, value: &mut [f32]| {
                if other == index {
                    value.copy_from_slice(&kept);
                }
            };
            net.update(|other, parameter| restore(other, parameter.value), threads)?;
            Ok(loss)
        };
        let mut difference = |step: f64| Ok::<_, anyhow::Error>((at(step)? - at(-step)?) / (2.0 * step));
        let slope = (4.0 * difference(step)? - difference(2.0 * step)?) / 3.0;
        let error = (slope - length).abs() / length.max(slope.abs());
        worst = worst.max(error);
        rows.push(vec![
            name.clone(),
            format!("{length:.5e}"),
            format!("{slope:.5e}"),
            format!("{error:.1e}"),
        ]);
    }
    let count = batch.labels.len();
    Ok(format!("\nGradients on {count} pictures, largest error {worst:.1e}:\n{}", rows.text()))
}
