//! The files of a training: weights, checkpoints and snapshots.

use super::Train;
use anyhow::ensure;
use nets::fit::{Trainer, write_atomically};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where a training writes, and what it continues.
pub(super) struct Files {
    pub(super) out: PathBuf,
    pub(super) checkpoint: PathBuf,
    pub(super) resume: Option<PathBuf>,
}

impl Files {
    pub(super) fn new(train: &Train) -> anyhow::Result<Self> {
        let out = train.out.clone().unwrap_or_else(|| format!("{}.safetensors", train.source.network).into());
        let own = out.with_extension("checkpoint");
        let resume = train.resume.clone().map(|path| path.unwrap_or_else(|| own.clone()));
        ensure!(
            resume.is_some() || train.restart || !own.exists(),
            "{}: expected --resume to continue this training, --restart to begin anew, or another --out, got none of them",
            own.display()
        );
        Ok(Self { out, checkpoint: own, resume })
    }

    /// Writes the weights of a complete training, which needs its checkpoint no longer.
    pub(super) fn finish(&self, trainer: &Trainer) -> anyhow::Result<()> {
        save_weights(&self.out, trainer)?;
        match std::fs::remove_file(&self.checkpoint) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Writes the weights with the statistics of the inputs.
fn save_weights(path: &Path, trainer: &Trainer) -> anyhow::Result<()> {
    let bytes = trainer.weights()?.to_safetensors_with(trainer.statistics());
    Ok(write_atomically(path, &bytes)?)
}

/// Writes the weights at the end of a period.
pub(super) fn snapshot(folder: &Path, trainer: &Trainer, epoch: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    save_weights(&folder.join(format!("epoch-{epoch}.safetensors")), trainer)
}

/// When the next checkpoint is due.
pub(super) struct Saving {
    wait: Duration,
    last: Instant,
}

impl Saving {
    /// The time of a checkpoint is at most one part of so many.
    const PARTS: u32 = 20;

    pub(super) fn new(seconds: f64) -> Self {
        Self { wait: Duration::from_secs_f64(seconds), last: Instant::now() }
    }

    pub(super) fn save_if_due(&mut self, trainer: &Trainer, path: &Path) -> anyhow::Result<()> {
        let start = Instant::now();
        if start - self.last < self.wait {
            return Ok(());
        }
        trainer.checkpoint().save(path)?;
        self.last = Instant::now();
        self.wait = self.wait.max((self.last - start) * Self::PARTS);
        Ok(())
    }
}
