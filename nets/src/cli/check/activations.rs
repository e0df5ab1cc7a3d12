//! Statistics of activations under each initialisation.

use super::Checks;
use crate::cli::rows::{Align, Rows};
use nets::data::Batch;
use nets::train::TrainNet;
use nets::{Init, SeededWeights};

/// A table with a row for each layer and a column for each distribution: the standard deviation of the activations, and the
/// share of dead channels or saturated outputs.
pub(super) fn report(checks: &Checks<'_>, batch: &Batch) -> anyhow::Result<String> {
    let (graph, options) = (checks.setting.graph, checks.options(batch.labels.len()));
    let mut layers: Vec<String> = Vec::new();
    let mut columns: Vec<Vec<String>> = Vec::new();
    for (_, init) in Init::ALL {
        let weights = SeededWeights::new(graph, init, 1)?;
        let mut net = TrainNet::new(graph, &weights, &options)?;
        net.gradients(&batch.images, &batch.labels, checks.threads)?;
        let cell = |layer: nets::train::ActivationFigures<'_>| {
            let percent = |share: f32, what: &str| format!(" {:.0} % {what}", share * 100.0);
            let dead = layer.dead.map_or(String::new(), |share| percent(share, "dead"));
            let saturated = layer.saturated.map_or(String::new(), |share| percent(share, "sat."));
            format!("{:.2e}{dead}{saturated}", layer.deviation)
        };
        layers = net.activations().map(|layer| layer.name.to_owned()).collect();
        columns.push(net.activations().map(cell).collect());
    }
    let names = Init::ALL.map(|(name, _)| (name, Align::Right, 1));
    let header: Vec<_> = [("Layer", Align::Left, 0)].into_iter().chain(names).collect();
    let mut rows = Rows::new(&header);
    for (index, layer) in layers.into_iter().enumerate() {
        let cells = columns.iter().map(|column| column[index].clone());
        rows.push([layer].into_iter().chain(cells).collect());
    }
    Ok(format!("\nStandard deviation of the activations under each initialisation:\n{}", rows.text()))
}
