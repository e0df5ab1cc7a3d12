//! The progress bar of a training, or a line per epoch if nobody watches a terminal.

use crate::cli::text;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nets::fit::{EpochReport, StepReport, Trainer};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// The share of the newest step in the figures of the bar.
const NEWEST: f64 = 0.05;
/// How often the bar is drawn.
const REDRAW: Duration = Duration::from_millis(100);

pub(super) struct Progress {
    bar: ProgressBar,
    is_watched: bool,
    epochs: u64,
    pictures_per_step: f64,
    loss: Option<f64>,
    accuracy: f64,
    speed: Option<f64>,
    last_step: Instant,
    last_draw: Instant,
}

impl Progress {
    /// A bar for all steps. `about` says what is trained from.
    pub(super) fn new(trainer: &Trainer, about: &str) -> Self {
        let is_watched = std::io::stderr().is_terminal();
        let steps = trainer.steps_per_epoch() * trainer.recipe().epochs;
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
        let template = "{prefix} [{bar:24}] {pos}/{len} {msg}, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("a fixed text").progress_chars("=> "));
        bar.set_position(trainer.progress().step);
        bar.reset_eta();
        let now = Instant::now();
        let progress = Self {
            bar,
            is_watched,
            epochs: trainer.recipe().epochs,
            pictures_per_step: trainer.pictures_per_step() as f64,
            loss: None,
            accuracy: 0.0,
            speed: None,
            last_step: now,
            last_draw: now,
        };
        let recipe = trainer.recipe();
        progress.line(&format!(
            "{}: {} pictures to train on, {} to measure on; {} epochs of {} steps of {} with {}, learning rate {:e}, {}",
            trainer.data(),
            text::thousands(trainer.training_len() as u64),
            text::thousands(trainer.validation_len() as u64),
            recipe.epochs,
            text::thousands(trainer.steps_per_epoch()),
            text::thousands(trainer.pictures_per_step() as u64),
            recipe.method,
            recipe.rate,
            recipe.schedule,
        ));
        progress.line(about);
        progress
    }

    pub(super) fn step(&mut self, step: &StepReport) {
        let smooth = |old: f64, new: f64| old + NEWEST * (new - old);
        let elapsed = self.last_step.elapsed().as_secs_f64().max(1e-9);
        self.last_step = Instant::now();
        self.accuracy =
            if self.loss.is_none() { step.accuracy } else { smooth(self.accuracy, step.accuracy) };
        self.loss = Some(self.loss.map_or(step.loss, |loss| smooth(loss, step.loss)));
        let speed = self.pictures_per_step / elapsed;
        self.speed = Some(self.speed.map_or(speed, |old| smooth(old, speed)));
        self.bar.inc(1);
        if self.is_watched && self.last_draw.elapsed() >= REDRAW {
            self.last_draw = Instant::now();
            self.bar.set_prefix(format!("epoch {}/{}", step.epoch + 1, self.epochs));
            self.bar.set_message(format!(
                "loss {:.4}, accuracy {:.1} %, {} images/s",
                self.loss.unwrap_or_default(),
                self.accuracy * 100.0,
                text::thousands(self.speed.unwrap_or_default() as u64)
            ));
        }
    }

    pub(super) fn epoch(&mut self, epoch: &EpochReport) {
        self.last_step = Instant::now();
        self.line(&format!(
            "epoch {:>3}: loss {:.4}, accuracy {:.2} %; validation loss {:.4}, accuracy {:.2} %; {} images/s",
            epoch.epoch,
            epoch.training_loss,
            epoch.training_accuracy * 100.0,
            epoch.validation_loss,
            epoch.validation_accuracy * 100.0,
            text::thousands(epoch.images_per_second as u64)
        ));
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Writes a line above the bar.
    fn line(&self, text: &str) {
        match self.is_watched {
            true => self.bar.println(text),
            // If standard error is closed, there is nowhere to report to.
            false => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }
}
