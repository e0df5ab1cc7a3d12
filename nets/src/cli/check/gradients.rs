//! Gradients against differences of losses.

use crate::cli::rows::{Align, Rows};
use kernels::Threads;
use nets::data::Batch;
use nets::fit::Recipe;
use nets::train::{TrainNet, TrainOptions};
use nets::{Graph, SeededWeights};

/// The change of the loss that a step along a gradient should cause, relative to the loss. Larger ones are less linear, and
/// smaller ones are lost in rounding.
const CHANGE: f64 = 2e-3;

/// For each parameter, the length of its gradient, and the slope of the loss along it by a central difference.
pub(super) fn report(
    graph: &Graph,
    batch: &Batch,
    options: &TrainOptions,
    recipe: &Recipe,
    threads: Threads<'_>,
) -> anyhow::Result<String> {
    let weights = SeededWeights::new(graph, recipe.init, recipe.seed)?;
    let mut net = TrainNet::new(graph, &weights, options)?;
    let loss = net.gradients(&batch.images, &batch.labels, threads)?.value;
    let mut gradients: Vec<(String, Vec<f32>)> = Vec::new();
    net.update(
        |_, parameter| gradients.push((parameter.name.to_owned(), parameter.gradient.to_vec())),
        threads,
    )?;
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
        let mut at = |sign: f64| -> anyhow::Result<f64> {
            let mut kept = Vec::new();
            let factor = sign * step / length;
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
        let slope = (at(1.0)? - at(-1.0)?) / (2.0 * step);
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
