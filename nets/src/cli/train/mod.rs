//! `nets train`: trains a network of the zoo on labelled pictures.

mod curves;
mod files;
mod log;
mod progress;
mod recipe;
mod source;

pub(super) use self::curves::{chart, series};
use self::files::Files;
use self::progress::Progress;
pub(super) use self::recipe::{RecipeArgs, usual};
use self::source::weights;
pub(super) use self::source::{Source, parts, trainer};
use crate::cli::{args, text};
use anyhow::{Context, bail};
use clap::Args;
use kernels::Threads;
use nets::NetError;
use nets::fit::{CheckpointFile, Event, Setting, Trainer, write_atomically};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const EXAMPLES: &str = "Examples:
  nets train lenet5
  nets train lenet5 --optimizer momentum:0.9 --lr 0.05 --schedule step:5,0.3 --plot curves.svg --log log.csv
  nets train resnet20-cifar --data cifar-10-batches-bin --augment flip,crop=4 --optimizer momentum --l2 1e-4
  nets train resnet18 --data pictures --weights resnet18.safetensors --lr-scale '*=0.1' 'fc.*=1'
  nets train resnet18 --data pictures --weights resnet18.safetensors --freeze 'layer*' 'conv1.*' 'bn1.*'
  nets train lenet5 --resume

A training that ended early (Ctrl-C, a crash, `kill -9`) continues with --resume, to the same bits.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Train {
    #[command(flatten)]
    source: Source,
    /// Weights to start from; a last layer with another number of outputs gets initial weights
    #[arg(long, value_name = "FILE.safetensors")]
    weights: Option<PathBuf>,
    /// With --weights, give the last layer initial weights in any case
    #[arg(long, requires = "weights")]
    new_last: bool,
    /// Where the weights go [default: NETWORK.safetensors]
    #[arg(long, value_name = "FILE.safetensors")]
    out: Option<PathBuf>,
    /// Continue from a checkpoint, by its recipe, and write beside it unless --out is given [default file: that of --out,
    /// with the ending .checkpoint]
    #[arg(
        long,
        value_name = "FILE.checkpoint",
        conflicts_with_all = ["RecipeArgs", "weights", "restart"]
    )]
    resume: Option<Option<PathBuf>>,
    /// Begin anew although there is a checkpoint
    #[arg(long)]
    restart: bool,
    /// Seconds between checkpoints, at least; a large network also waits so long that saving takes at most 5 % of the time
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = recipe::not_negative)]
    save_every: f64,
    /// Directory for the weights at the end of each period of a cosine with restarts
    #[arg(long, value_name = "DIR")]
    snapshots: Option<PathBuf>,
    /// Draw loss, accuracy, learning rate and the size of steps
    #[arg(long, value_name = "CURVES.svg")]
    plot: Option<PathBuf>,
    /// Write a row for each epoch
    #[arg(long, value_name = "LOG.csv")]
    log: Option<PathBuf>,
    #[command(flatten)]
    recipe: RecipeArgs,
}

impl Train {
    pub(super) fn execute(&self) -> anyhow::Result<String> {
        let files = Files::new(self)?;
        files.check(self)?;
        let pool = self.source.pool()?;
        let (mut trainer, about) = match &files.resume {
            Some(path) => self.resume(path)?,
            None => self.start()?,
        };
        let stop = stop_on_interrupt()?;
        let mut progress = Progress::new(&trainer, &about);
        let threads = pool.threads();
        let ended = pool.install(|| self.run(&mut trainer, &files, &mut progress, &stop, threads));
        progress.finish();
        let is_done = ended?;
        self.report(&trainer, &files, is_done)
    }

    fn start(&self) -> anyhow::Result<(Trainer, String)> {
        let data = self.source.data_name();
        let recipe = self.recipe.recipe(usual(&self.source.network, data));
        let parts = parts(data)?;
        let graph = self.source.graph(&parts)?;
        let (weights, about) = weights(&graph, self.weights.as_ref(), self.new_last, &recipe)?;
        let setting = self.source.setting(&graph, &parts, true);
        Ok((Trainer::new(setting, &*weights, &recipe)?, about))
    }

    fn resume(&self, path: &Path) -> anyhow::Result<(Trainer, String)> {
        let file = CheckpointFile::open(path)?;
        // The data decide the number of outputs, and the checkpoint names the data and the shape of their pictures.
        let data = match &self.source.data {
            Some(data) => data,
            None => file.data()?,
        };
        let input = match file.network()? == self.source.network {
            true => args::image(file.input()?).ok(),
            false => None,
        };
        let parts = parts(data)?;
        let graph = self.source.graph_for(&parts, input)?;
        let checkpoint = file.read(&graph)?;
        let about = format!("continues {} at step {}", path.display(), checkpoint.progress.step);
        let setting = Setting { data, ..self.source.setting(&graph, &parts, true) };
        let trainer = Trainer::resume(setting, checkpoint);
        Ok((trainer.with_context(|| format!("cannot continue {}", path.display()))?, about))
    }

    /// Trains until the last epoch, or until it is interrupted. Returns whether the training is complete.
    fn run(
        &self,
        trainer: &mut Trainer,
        files: &Files,
        progress: &mut Progress,
        stop: &AtomicBool,
        threads: Threads<'_>,
    ) -> anyhow::Result<bool> {
        let mut saving = files::Saving::new(self.save_every);
        if self.restart {
            // From now on, nothing continues the old training.
            trainer.checkpoint().save(&files.checkpoint)?;
        }
        loop {
            if stop.load(Ordering::Relaxed) {
                trainer.checkpoint().save(&files.checkpoint)?;
                return Ok(false);
            }
            match trainer.advance(threads).map_err(|error| explained(error, files))? {
                None => break,
                Some(Event::Step(step)) => progress.step(&step),
                Some(Event::Epoch(epoch)) => {
                    progress.epoch(&epoch);
                    if let Some(path) = &self.log {
                        write_atomically(path, log::csv(trainer.history())?.as_bytes())?;
                    }
                    if let Some(folder) = self.snapshots.as_ref().filter(|_| epoch.ends_period) {
                        files::snapshot(folder, trainer, epoch.epoch)?;
                    }
                }
            }
            saving.save_if_due(trainer, &files.checkpoint)?;
        }
        files.finish(trainer)?;
        Ok(true)
    }

    fn report(&self, trainer: &Trainer, files: &Files, is_done: bool) -> anyhow::Result<String> {
        let mut out = log::table(trainer.history()).text();
        if let Some(path) = &self.plot {
            let title = format!("{}: training on {}", self.source.network, trainer.data());
            write_atomically(path, curves::svg(&title, trainer.recipe(), trainer.history()).as_bytes())?;
        }
        // Writing to a string cannot fail.
        if !is_done {
            let _ = writeln!(
                out,
                "\nStopped after step {}, saved in {}. Continue with: {}",
                text::thousands(trainer.progress().step),
                files.checkpoint.display(),
                files.continuation(self)
            );
            return Ok(out);
        }
        let Some(last) = trainer.history().last() else { bail!("no epoch has ended") };
        let _ = writeln!(
            out,
            "\nAccuracy   {:.2} % of {} pictures that were not trained on\nTime       {:.1} s in steps, {} images per \
             second in the last epoch\nWeights    {}",
            last.validation_accuracy * 100.0,
            text::thousands(trainer.validation_len() as u64),
            last.seconds,
            text::thousands(last.images_per_second as u64),
            files.out.display()
        );
        if let Some(path) = &self.plot {
            let _ = writeln!(out, "Curves     {}", path.display());
        }
        if let Some(path) = &self.log {
            let _ = writeln!(out, "Log        {}", path.display());
        }
        Ok(out)
    }
}

/// Adds what is left after numbers that are not finite.
fn explained(error: NetError, files: &Files) -> anyhow::Error {
    let saved = files.checkpoint.exists();
    let is_broken = matches!(error, NetError::NotFinite { .. });
    let error = anyhow::Error::from(error);
    match is_broken {
        true if saved => error.context(format!(
            "the training diverged; a lower --lr, --warm-up or another --init can help; {} has the last good state",
            files.checkpoint.display()
        )),
        true => error.context("the training diverged; a lower --lr, --warm-up or another --init can help"),
        false => error,
    }
}

/// A flag that Ctrl-C sets. A second Ctrl-C ends the program.
fn stop_on_interrupt() -> anyhow::Result<Arc<AtomicBool>> {
    const INTERRUPTED: i32 = 130;
    let stop = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stop);
    let handler = move || {
        if set.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED);
        }
    };
    ctrlc::set_handler(handler).context("cannot handle Ctrl-C")?;
    Ok(stop)
}
