//! The trials of a search in a CSV file, from which a later call continues.

use crate::cli::text;
use anyhow::{Context, ensure};
use nets::fit::{Range, Trial, check_writable, write_atomically};
use std::cmp::Ordering;
use std::path::{Path, PathBuf};

/// A trial that has ended.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) round: u32,
    pub(super) index: u64,
    pub(super) trial: Trial,
    /// Mean and standard deviation over the folds.
    pub(super) accuracy: (f64, f64),
    /// `None` if the training diverged.
    pub(super) loss: Option<f64>,
}

impl Done {
    /// The order from good to bad: by accuracy, then by loss. Equal ones keep the order in which they are tried, so that a search
    /// that continues goes on as one without an interruption.
    fn rank(&self, other: &Self) -> Ordering {
        let loss = |done: &Self| done.loss.unwrap_or(f64::INFINITY);
        let accuracy = other.accuracy.0.total_cmp(&self.accuracy.0);
        let loss = accuracy.then_with(|| loss(self).total_cmp(&loss(other)));
        loss.then_with(|| (self.round, self.index).cmp(&(other.round, other.index)))
    }
}

/// All trials so far.
pub(super) struct Table {
    path: Option<PathBuf>,
    header: Vec<String>,
    /// What decides the results of all trials, besides their values: words `NAME=VALUE`.
    what: String,
    all: Vec<Done>,
}

/// Columns before the values of a trial. The last column says what was searched.
const FIXED: [&str; 5] = ["round", "trial", "accuracy", "deviation", "loss"];
const WHAT: &str = "search";

impl Table {
    /// Reads the trials of an earlier call, which must be of the same search.
    pub(super) fn open(path: Option<&Path>, ranges: &[Range], what: String) -> anyhow::Result<Self> {
        let own = ranges.iter().map(ToString::to_string);
        let header = FIXED.map(str::to_owned).into_iter().chain(own).chain([WHAT.to_owned()]).collect();
        let mut table = Self { path: path.map(Path::to_owned), header, what, all: Vec::new() };
        let Some(path) = path else { return Ok(table) };
        check_writable(path)?;
        if path.exists() {
            table.all = table.read(path)?;
        }
        Ok(table)
    }

    /// Keeps those trials of a round that have the values that they have in this search. Trials of a later round have others if
    /// another trial is the best one of the round before, because there are more of them now. Returns what was dropped.
    pub(super) fn keep(&mut self, round: u32, trials: &[Trial]) -> Option<String> {
        let before = self.all.len();
        self.all.retain(|done| {
            let wanted = usize::try_from(done.index).ok().and_then(|index| trials.get(index));
            done.round != round || wanted.is_none_or(|wanted| are_equal(wanted, &done.trial))
        });
        let dropped = before - self.all.len();
        let path = self.path.as_deref().unwrap_or(Path::new("the table")).display();
        (dropped > 0).then(|| {
            let round = round + 1;
            format!("{path}: {dropped} trials of round {round} are dropped, because this search has other values there")
        })
    }

    pub(super) fn has(&self, round: u32, index: u64) -> bool {
        self.all.iter().any(|done| (done.round, done.index) == (round, index))
    }

    /// Adds a trial, and writes the file.
    pub(super) fn push(&mut self, done: Done) -> anyhow::Result<()> {
        self.all.push(done);
        match &self.path {
            Some(path) => Ok(write_atomically(path, self.csv()?.as_bytes())?),
            None => Ok(()),
        }
    }

    /// The best trial of a round.
    pub(super) fn best(&self, round: u32) -> Option<&Done> {
        self.sorted().into_iter().find(|done| done.round == round)
    }

    /// All trials, the most accurate first.
    pub(super) fn sorted(&self) -> Vec<&Done> {
        let mut all: Vec<&Done> = self.all.iter().collect();
        all.sort_by(|a, b| a.rank(b));
        all
    }

    fn csv(&self) -> anyhow::Result<String> {
        let record = |done: &Done| {
            let figures = [done.accuracy.0, done.accuracy.1].map(|figure| figure.to_string());
            let loss = done.loss.map(|loss| loss.to_string()).unwrap_or_default();
            let values = done.trial.0.iter().map(|value| format!("{value:?}"));
            let place = [done.round.to_string(), done.index.to_string()];
            let numbers = place.into_iter().chain(figures).chain([loss]).chain(values);
            numbers.chain([self.what.clone()]).collect()
        };
        let records: Vec<Vec<String>> = self.all.iter().map(record).collect();
        text::csv([&self.header].into_iter().chain(&records))
    }

    fn read(&self, path: &Path) -> anyhow::Result<Vec<Done>> {
        let unreadable = || format!("cannot read {}", path.display());
        let mut reader = csv::Reader::from_path(path).with_context(unreadable)?;
        let got: Vec<_> = reader.headers().with_context(unreadable)?.iter().map(str::to_owned).collect();
        ensure!(
            self.header == got,
            "{}: expected the table of this search ({}), got {}",
            path.display(),
            self.header.join(","),
            got.join(",")
        );
        let mut all: Vec<Done> = Vec::new();
        for record in reader.records() {
            let record = record.with_context(unreadable)?;
            let what = record.iter().next_back().unwrap_or_default();
            let (expected, got) = differences(&self.what, what);
            ensure!(
                self.what == what,
                "{}: expected the table of this search ({expected}), got one of another search ({got})",
                path.display()
            );
            let done = self.done(&record).with_context(|| {
                let cells: Vec<&str> = record.iter().collect();
                format!("{}: expected numbers of a trial, got `{}`", path.display(), cells.join(","))
            })?;
            let is_new = all.iter().all(|other| (other.round, other.index) != (done.round, done.index));
            ensure!(
                is_new,
                "{}: expected each trial once, got trial {} of round {} again",
                path.display(),
                done.index + 1,
                done.round + 1
            );
            all.push(done);
        }
        Ok(all)
    }

    fn done(&self, record: &csv::StringRecord) -> Option<Done> {
        let number =
            |column: usize| record.get(column)?.parse().ok().filter(|number: &f64| number.is_finite());
        let values: Option<Vec<f64>> = (FIXED.len()..self.header.len() - 1).map(number).collect();
        let loss = match record.get(4)? {
            "" => None,
            _ => Some(number(4)?),
        };
        Some(Done {
            round: record.get(0)?.parse().ok().filter(|&round| round < u32::MAX)?,
            index: record.get(1)?.parse().ok().filter(|&index| index < u64::MAX)?,
            accuracy: (number(2).filter(|share| (0.0..=1.0).contains(share))?, number(3)?),
            loss,
            trial: Trial(values?),
        })
    }
}

/// Whether two trials have the same values. Logarithms and powers of another machine can differ in their last bits.
fn are_equal(a: &Trial, b: &Trial) -> bool {
    const ROUNDING: f64 = 1e-12;
    let mut values = a.0.iter().zip(&b.0);
    a.0.len() == b.0.len() && values.all(|(a, b)| (a - b).abs() <= ROUNDING * a.abs())
}

/// The words of each text that the other one does not have.
fn differences(a: &str, b: &str) -> (String, String) {
    let without = |from: &str, other: &str| {
        let other: Vec<&str> = other.split(' ').collect();
        from.split(' ').filter(|word| !other.contains(word)).collect::<Vec<_>>().join(" ")
    };
    (without(a, b), without(b, a))
}
