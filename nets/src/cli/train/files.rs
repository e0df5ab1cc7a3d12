//! The files of a training: weights, checkpoints and snapshots.

use super::Train;
use anyhow::{Context, ensure};
use nets::fit::{Trainer, check_writable, write_atomically};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Endings of the files.
const WEIGHTS: &str = "safetensors";
const CHECKPOINT: &str = "checkpoint";

/// Where a training writes, and what it continues.
pub(super) struct Files {
    pub(super) out: PathBuf,
    pub(super) checkpoint: PathBuf,
    pub(super) resume: Option<PathBuf>,
}

impl Files {
    /// The weights and the checkpoint are beside each other, with the same name. A resumed training writes where the checkpoint
    /// was read from, unless it is told otherwise.
    pub(super) fn new(train: &Train) -> anyhow::Result<Self> {
        let given = train.resume.clone().flatten();
        let out = match (&train.out, &given) {
            (Some(out), _) => out.clone(),
            (None, Some(checkpoint)) => checkpoint.with_extension(WEIGHTS),
            (None, None) => format!("{}.{WEIGHTS}", train.source.network).into(),
        };
        let checkpoint = match (&train.out, &given) {
            (None, Some(checkpoint)) => checkpoint.clone(),
            _ => out.with_extension(CHECKPOINT),
        };
        ensure!(
            out != checkpoint,
            "{}: expected two files, one for the checkpoint (--resume) and one for the weights (--out), got the same for both",
            out.display()
        );
        let resume = train.resume.as_ref().map(|_| given.unwrap_or_else(|| checkpoint.clone()));
        ensure!(
            train.restart
                || resume.as_ref().is_some_and(|path| is_same(path, &checkpoint))
                || !checkpoint.exists(),
            "{}: expected --resume to continue this training, --restart to begin anew, or another --out, got none of them",
            checkpoint.display()
        );
        Ok(Self { out, checkpoint, resume })
    }

    /// Finds out now whether all results can be written.
    pub(super) fn check(&self, train: &Train) -> anyhow::Result<()> {
        let files = [&self.out, &self.checkpoint].into_iter().chain(&train.log).chain(&train.plot);
        files.map(PathBuf::as_path).try_for_each(check_writable)?;
        if let Some(folder) = &train.snapshots {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot write to the directory {}", folder.display()))?;
            check_writable(&folder.join("epoch-1").with_extension(WEIGHTS))?;
        }
        Ok(())
    }

    /// The command that continues a training that was interrupted.
    pub(super) fn continuation(&self, train: &Train) -> String {
        let mut command =
            format!("nets train {} --resume {}", train.source.network, quoted(&self.checkpoint));
        let out = Some(&self.out).filter(|out| **out != self.checkpoint.with_extension(WEIGHTS));
        let files = [
            ("out", out),
            ("snapshots", train.snapshots.as_ref()),
            ("plot", train.plot.as_ref()),
            ("log", train.log.as_ref()),
        ];
        for (option, path) in files {
            let option = path.map(|path| format!(" --{option} {}", quoted(path)));
            command.extend(option);
        }
        command
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

/// Whether two paths lead to the same file, or are the same if there is none yet.
fn is_same(a: &Path, b: &Path) -> bool {
    let [real_a, real_b] = [a, b].map(|path| path.canonicalize().ok());
    a == b || (real_a.is_some() && real_a == real_b)
}

/// Writes the weights with the statistics of the inputs.
fn save_weights(path: &Path, trainer: &Trainer) -> anyhow::Result<()> {
    let bytes = trainer.weights()?.to_safetensors_with(trainer.statistics());
    Ok(write_atomically(path, &bytes)?)
}

/// Writes the weights at the end of a period.
pub(super) fn snapshot(folder: &Path, trainer: &Trainer, epoch: u64) -> anyhow::Result<()> {
    save_weights(&folder.join(format!("epoch-{epoch}.{WEIGHTS}")), trainer)
}

/// A path as a word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |letter: char| letter.is_alphanumeric() || "/._-+=,:@%".contains(letter);
    match text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
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
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        Self { wait, last: Instant::now() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_has_many_paths() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a"), b"").unwrap();
        std::fs::create_dir(path("b")).unwrap();
        assert!(is_same(&path("a"), &path("b/../a")) && is_same(&path("none"), &path("none")));
        assert!(!is_same(&path("a"), &path("b")) && !is_same(&path("none"), &path("other")));
    }

    #[test]
    fn paths_are_words_of_a_shell() {
        assert_eq!(quoted(Path::new("a/b-1.checkpoint")), "a/b-1.checkpoint");
        assert_eq!(quoted(Path::new("it's here")), r"'it'\''s here'");
    }
}
