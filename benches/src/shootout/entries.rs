//! The library's own rows for one layer. Candidates with the same method share a plan.

use super::args::{Args, Candidate};
use super::row::LayerRow;
use crate::layer::{Layer, Layouts};
use crate::pin::Crew;
use crate::problem::Problem;
use kernels::{ConvError, Isa, Layout, Method};

/// The library's rows for one layer, with the layers that run behind them.
#[derive(Default)]
pub(super) struct Entries<'a> {
    pub(super) rows: Vec<LayerRow>,
    /// Parallel to `rows`.
    pub(super) layers: Vec<Layer<'a>>,
    /// The rows of the results. A method that a choice has selected is not timed again.
    order: Vec<NamedEntry>,
}

/// A row of the results: a timed row under the name of its candidate.
struct NamedEntry {
    row: usize,
    candidate: Candidate,
    /// Milliseconds spent on planning.
    plan_ms: f64,
}

impl<'a> Entries<'a> {
    /// Plans every candidate that can do `problem`.
    pub(super) fn plan(
        args: &Args,
        crew: &Crew,
        isas: &[Isa],
        problem: &'a Problem,
    ) -> anyhow::Result<Entries<'a>> {
        let mut entries = Self::default();
        let runs = isas.iter().flat_map(|&isa| args.layouts().into_iter().map(move |layout| (isa, layout)));
        for run in runs {
            let first = entries.rows.len();
            for candidate in args.candidates(run.0, problem.direction, &problem.desc) {
                // The choice is compared only with algorithms that it could have selected.
                if args.assert_choice.is_some() && !args.allows(candidate, &problem.desc) {
                    continue;
                }
                if let Candidate::Forced(method) = candidate
                    && let Some(row) = entries.same(first, &[method])
                {
                    entries.order.push(NamedEntry { row, candidate, plan_ms: 0.0 });
                    continue;
                }
                let layer = match layer(args, crew, candidate, run, problem) {
                    Ok(layer) => layer,
                    Err(ConvError::Unsupported { .. }) => continue,
                    Err(error) => return Err(anyhow::Error::new(error).context(problem.spec.id.clone())),
                };
                let plan_ms = layer.planning().as_secs_f64() * 1e3;
                let row = match entries.same(first, &layer.methods()) {
                    Some(row) => row,
                    None => {
                        entries.add(LayerRow::new(problem, candidate.to_string(), run.0, run.1.name()), layer)
                    }
                };
                entries.order.push(NamedEntry { row, candidate, plan_ms });
            }
        }
        Ok(entries)
    }

    /// The row with these methods, among those from `first` on.
    fn same(&self, first: usize, methods: &[Method]) -> Option<usize> {
        (first..self.rows.len()).find(|&row| self.layers[row].methods() == methods)
    }

    fn add(&mut self, row: LayerRow, layer: Layer<'a>) -> usize {
        self.rows.push(row);
        self.layers.push(layer);
        self.rows.len() - 1
    }

    /// The rows of the results, each under its own name.
    pub(super) fn named(&self) -> Vec<LayerRow> {
        let named = |&NamedEntry { row, candidate, plan_ms }: &NamedEntry| {
            let layer = &self.layers[row];
            // A forced method leaves phases to the choice that it cannot compute.
            let method = layer.method();
            let chosen = (candidate.is_choice() || method != candidate.to_string()).then_some(method);
            let note =
                chosen.as_ref().map_or(String::new(), |method| format!("{method}, {}", layer.kernel()));
            LayerRow { algorithm: candidate.to_string(), chosen, note, plan_ms, ..self.rows[row].clone() }
        };
        self.order.iter().map(named).collect()
    }
}

fn layer<'a>(
    args: &Args,
    crew: &Crew,
    candidate: Candidate,
    (isa, layout): (Isa, Layout),
    problem: &'a Problem,
) -> Result<Layer<'a>, ConvError> {
    let options = args.options(candidate, isa, crew.threads());
    let layouts = Layouts::of_direction(layout, &problem.spec, problem.direction);
    let memory = args.memory();
    let plan = || Layer::new(problem, layouts, &options, memory);
    match candidate {
        // Timing during planning uses the same threads as the run.
        Candidate::Measured => crew.enter(plan),
        _ => plan(),
    }
}
