//! `nets demo degradation`: deeper plain networks train worse, and residual networks do not (He et al. 2016, figure 4 and
//! figure 6).

use crate::cli::args::ThreadCount;
use crate::cli::rows::{Align, Rows};
use crate::cli::train::{RecipeArgs, Source, chart, parts, series, trainer};
use clap::Args;
use kernels::Threads;
use nets::data::Parts;
use nets::fit::{EpochReport, Event, Method, Recipe, Trainer, check_writable, write_atomically};
use nets::optim::{Penalty, Rule};
use nets::plot::{Chart, Line, page};
use std::io::Write as _;
use std::path::PathBuf;

const NETWORKS: [&str; 4] = ["plain20-cifar", "plain56-cifar", "resnet20-cifar", "resnet56-cifar"];

#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Example:\n  nets demo degradation --pictures 2000 --epochs 20 --plot degradation.svg"
)]
pub(crate) struct Degradation {
    /// digits (embedded), or a directory as for `nets train`
    #[arg(long, value_name = "digits|DIR", default_value = "digits")]
    data: String,
    /// Pictures to train on
    #[arg(long, value_name = "N", default_value_t = 640, value_parser = clap::value_parser!(u32).range(64..))]
    pictures: u32,
    /// Where the picture goes
    #[arg(long, value_name = "FILE.svg", default_value = "degradation.svg")]
    plot: PathBuf,
    #[command(flatten)]
    threads: ThreadCount,
    #[command(flatten)]
    recipe: RecipeArgs,
}

impl Degradation {
    pub(super) fn execute(&self) -> anyhow::Result<String> {
        // The paper's recipe for CIFAR-10 (section 4.2) with a lower rate, because there are far fewer steps.
        let base = Recipe {
            method: Method::Steps(Rule::momentum(0.9)),
            rate: 0.02,
            batch: 32,
            penalty: Penalty { l1: 0.0, l2: 1e-4 },
            epochs: 10,
            warm_up: 2.0,
            ..Recipe::default()
        };
        let recipe = self.recipe.recipe(base);
        let mut parts = parts(&self.data)?;
        parts.training = parts.training.part(0..parts.training.len().min(self.pictures as usize));
        check_writable(&self.plot)?;
        let mut histories = Vec::new();
        let mut known = None;
        for network in NETWORKS {
            let source = Source::of(network, &self.data, self.threads);
            let graph = source.graph(&parts)?;
            let setting = source.setting(&graph, &parts, false);
            // All four networks read the same pictures in the same shape.
            let normalisation = match &mut known {
                Some(normalisation) => normalisation,
                unknown => unknown.insert(setting.normalisation(&recipe)?),
            };
            let trainer = trainer(setting, &recipe, normalisation)?;
            let pool = source.pool()?;
            let threads = pool.threads();
            let history = pool.install(|| train(network, trainer, threads))?;
            histories.push((network, history));
            write_atomically(&self.plot, svg(&histories, &parts, &recipe).as_bytes())?;
        }
        let columns = [
            ("Network", Align::Left, 0),
            ("Training error", Align::Right, 0),
            ("Training loss", Align::Right, 0),
            ("Validation error", Align::Right, 0),
        ];
        let mut rows = Rows::new(&columns);
        for (network, history) in &histories {
            let percent = |accuracy: f64| format!("{:.2} %", 100.0 * (1.0 - accuracy));
            if let Some(last) = history.last() {
                rows.push(vec![
                    (*network).to_owned(),
                    percent(last.training_accuracy),
                    format!("{:.4}", last.training_loss),
                    percent(last.validation_accuracy),
                ]);
            }
        }
        Ok(format!("{}\nCurves  {}\n", rows.text(), self.plot.display()))
    }
}

fn train(network: &str, mut trainer: Trainer, threads: Threads<'_>) -> anyhow::Result<Vec<EpochReport>> {
    while let Some(event) = trainer.advance(threads)? {
        if let Event::Epoch(epoch) = event {
            let line = format!(
                "{:15} epoch {:>3}: training loss {:.4}, error {:.2} %; validation error {:.2} %; {:.0} images/s",
                network,
                epoch.epoch,
                epoch.training_loss,
                100.0 * (1.0 - epoch.training_accuracy),
                100.0 * (1.0 - epoch.validation_accuracy),
                epoch.images_per_second
            );
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
    Ok(trainer.history().to_vec())
}

fn svg(histories: &[(&str, Vec<EpochReport>)], parts: &Parts, recipe: &Recipe) -> String {
    let lines = |of: fn(&EpochReport) -> f64| -> Vec<Line> {
        let line = |(colour, (name, history)): (usize, &(&str, Vec<EpochReport>))| Line {
            is_dashed: name.starts_with("plain"),
            ..series(name, colour, history, of)
        };
        histories.iter().enumerate().map(line).collect()
    };
    let charts = [
        chart("Training loss", "", "mean loss per picture", lines(|epoch| epoch.training_loss)),
        chart(
            "Training error",
            "",
            "pictures answered wrong, in %",
            lines(|epoch| 100.0 * (1.0 - epoch.training_accuracy)),
        ),
        chart(
            "Validation error",
            "",
            "pictures answered wrong, in %",
            lines(|epoch| 100.0 * (1.0 - epoch.validation_accuracy)),
        ),
    ];
    let notes = [format!(
        "{} pictures of {}, {}, learning rate {:e}, {}, L2 {:e}, batches of {}. Plain networks are dashed.",
        parts.training.len(),
        parts.training.name(),
        recipe.method,
        recipe.rate,
        recipe.schedule,
        recipe.penalty.l2,
        recipe.batch
    )];
    let charts: Vec<Chart> = charts.into_iter().flatten().map(Chart::Plane).collect();
    page("Degradation: depth without and with shortcuts", &notes, &charts)
}
