//! [`Checkpoint`]: a training in a file, from which it continues to the same bits.
//!
//! The file is a safetensors file. Its tensors are `weights/NAME`, `optimizer/NAME/BUFFER`, `average/NAME`, `trained/NAME`
//! where weights are computed from other tensors, the statistics of the inputs, and the history of epochs as the bytes of a JSON text. Its metadata are the network, its input, the data, the recipe, and the progress, as JSON objects of texts.

use super::atomic::write_atomically;
use super::recipe::Recipe;
use super::report::EpochReport;
use super::values::{Values, get};
use crate::error::NetError;
use crate::graph::Graph;
use crate::optim::PlateauState;
use crate::shape::Shape;
use crate::weights::{
    InputStatistics, MEMORY_LIMIT, WeightSet, elements, parsed, read_tensor, read_within, serialized,
};
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The value of `format` in the metadata.
const FORMAT: &str = "nets checkpoint 3";
/// Tensors of a checkpoint for each tensor of the network, at most: more than L-BFGS with a history of 1000 keeps would not
/// fit in memory anyway.
const MOST_COPIES: u64 = 64;
const HEADER_ROOM: u64 = 16 << 20;
/// What the names of weights begin with.
const WEIGHTS: &str = "weights/";
/// The tensor of the history.
const HISTORY: &str = "history";

/// A training, between two steps.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The name of the network.
    pub network: String,
    /// The shape of one image.
    pub input: Shape,
    /// The data, as the program names them.
    pub data: String,
    /// Pictures to train on and to measure on.
    pub pictures: (usize, usize),
    /// The recipe.
    pub recipe: Recipe,
    /// How far it is.
    pub progress: Progress,
    /// Epochs that have ended.
    pub history: Vec<EpochReport>,
    /// The weights of the last step.
    pub weights: WeightSet,
    /// How the inputs are normalised.
    pub statistics: Option<InputStatistics>,
    /// What the optimiser remembers, and the averages of weights.
    pub(super) state: HashMap<String, Vec<f32>>,
}

/// How far a training is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Progress {
    /// Epochs that have ended.
    pub epoch: u64,
    /// Steps of this epoch.
    pub batch: u64,
    /// Steps of all epochs.
    pub step: u64,
    /// The sum of the losses of this epoch's steps.
    pub loss: f64,
    /// Right answers in this epoch.
    pub correct: u64,
    /// Seconds of all steps.
    pub seconds: f64,
    /// What a schedule of plateaus remembers.
    pub plateau: PlateauState,
    /// Steps in the average of the weights.
    pub averaged: u64,
}

impl Progress {
    fn to_values(self) -> Values {
        let values = [
            ("epoch", self.epoch.to_string()),
            ("batch", self.batch.to_string()),
            ("step", self.step.to_string()),
            ("loss", format!("{:?}", self.loss)),
            ("correct", self.correct.to_string()),
            ("seconds", format!("{:?}", self.seconds)),
            ("plateau-factor", format!("{:?}", self.plateau.factor)),
            ("plateau-best", format!("{:?}", self.plateau.best)),
            ("plateau-bad", self.plateau.bad.to_string()),
            ("averaged", self.averaged.to_string()),
        ];
        values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn from_values(values: &Values) -> Result<Self, String> {
        let finite = |name: &str| match get::<f64>(values, name)? {
            number if number.is_finite() => Ok(number),
            number => Err(format!("`{name}` as `{number}`")),
        };
        Ok(Self {
            epoch: get(values, "epoch")?,
            batch: get(values, "batch")?,
            step: get(values, "step")?,
            loss: finite("loss")?,
            correct: get(values, "correct")?,
            seconds: finite("seconds")?,
            plateau: PlateauState {
                factor: finite("plateau-factor")?,
                best: get(values, "plateau-best")?,
                bad: get(values, "plateau-bad")?,
            },
            averaged: get(values, "averaged")?,
        })
    }
}

impl Checkpoint {
    /// Writes the file atomically: a crash or a full disk leaves the old one.
    ///
    /// # Errors
    /// [`NetError::Io`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), NetError> {
        write_atomically(path, &self.to_bytes())
    }

    fn to_bytes(&self) -> Vec<u8> {
        let weights = self
            .weights
            .iter()
            .map(|(name, tensor)| (format!("{WEIGHTS}{name}"), tensor.dims().to_vec(), tensor.data()));
        let state = self.state.iter().map(|(name, data)| (name.clone(), vec![data.len()], &data[..]));
        let statistics = self.statistics.iter().flat_map(InputStatistics::tensors);
        let statistics = statistics.map(|(name, data)| (name.to_owned(), vec![data.len()], data));
        let tensors: Vec<_> = weights.chain(state).chain(statistics).collect();
        let tensors: Vec<_> =
            tensors.iter().map(|(name, dims, data)| (name.as_str(), &dims[..], *data)).collect();
        let json = |values: &Values| serde_json::to_string(values).expect("texts can be written");
        let metadata = HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("network".to_owned(), self.network.clone()),
            ("input".to_owned(), self.input.to_string()),
            ("data".to_owned(), self.data.clone()),
            ("pictures".to_owned(), format!("{} {}", self.pictures.0, self.pictures.1)),
            ("recipe".to_owned(), json(&self.recipe.to_values())),
            ("progress".to_owned(), json(&self.progress.to_values())),
        ]);
        let history = serde_json::to_string(&self.history).expect("reports can be written");
        serialized(&tensors, &[(HISTORY, &history)], Some(metadata))
    }

    /// Reads the file of a training of `graph`.
    ///
    /// # Errors
    /// Those of [`CheckpointFile::open`] and [`CheckpointFile::read`].
    pub fn load(path: &Path, graph: &Graph) -> Result<Self, NetError> {
        CheckpointFile::open(path)?.read(graph)
    }
}

/// The file of a checkpoint in memory, for callers who do not know yet what it is of.
#[derive(Debug)]
pub struct CheckpointFile {
    path: PathBuf,
    bytes: Vec<u8>,
    metadata: HashMap<String, String>,
}

/// What was expected, and what is there.
type Wrong = (String, String);

fn no_checkpoint(got: impl Into<String>) -> Wrong {
    ("a checkpoint of `nets train`".to_owned(), got.into())
}

impl CheckpointFile {
    /// Reads a file and checks its format.
    ///
    /// # Errors
    /// - [`NetError::Io`] if it cannot be read, and [`NetError::TooLarge`] if it is larger than any checkpoint.
    /// - [`NetError::Checkpoint`] if it is no checkpoint, or damaged.
    pub fn open(path: &Path) -> Result<Self, NetError> {
        let limit = MEMORY_LIMIT.saturating_mul(MOST_COPIES) + HEADER_ROOM;
        let bytes = read_within(path, limit, "a checkpoint")?;
        let mut file = Self { path: path.to_owned(), bytes, metadata: HashMap::new() };
        let metadata = SafeTensors::read_metadata(&file.bytes).map_err(|error| {
            file.error(no_checkpoint(format!("another file, or a part of one ({error})")))
        })?;
        file.metadata = metadata.1.metadata().clone().unwrap_or_default();
        match file.text("format").map_err(|wrong| file.error(wrong))? {
            FORMAT => Ok(file),
            format => Err(file.error(no_checkpoint(format!("the format `{format}`")))),
        }
    }

    /// The name of the network.
    ///
    /// # Errors
    /// [`NetError::Checkpoint`] if it is missing.
    pub fn network(&self) -> Result<&str, NetError> {
        self.text("network").map_err(|wrong| self.error(wrong))
    }

    /// The shape of one image, as [`Shape`] is displayed.
    ///
    /// # Errors
    /// [`NetError::Checkpoint`] if it is missing.
    pub fn input(&self) -> Result<&str, NetError> {
        self.text("input").map_err(|wrong| self.error(wrong))
    }

    /// The name of the data.
    ///
    /// # Errors
    /// [`NetError::Checkpoint`] if it is missing.
    pub fn data(&self) -> Result<&str, NetError> {
        self.text("data").map_err(|wrong| self.error(wrong))
    }

    /// Reads the training of `graph`.
    ///
    /// # Errors
    /// - [`NetError::Checkpoint`] if the file is damaged, or if it is of another network or of inputs of another shape.
    /// - [`NetError::Weights`] if a tensor does not fit the network.
    pub fn read(&self, graph: &Graph) -> Result<Checkpoint, NetError> {
        let origin = self.path.display().to_string();
        let error = |wrong| self.error(wrong);
        self.check(graph).map_err(error)?;
        let file = parsed(&self.bytes, &origin)?;
        let weights = WeightSet::from_params(graph, |name, param| {
            Ok(read_tensor(&file, &origin, &format!("{WEIGHTS}{name}"), param)?)
        })?;
        let is_state = |name: &str| !name.starts_with(WEIGHTS);
        let state = file.iter().filter(|(name, view)| is_state(name) && view.dtype() == Dtype::F32);
        let channels = graph.input().channels();
        let pixels = graph.input().len()? / channels.max(1);
        Ok(Checkpoint {
            network: graph.name().to_owned(),
            input: graph.input(),
            data: self.data()?.to_owned(),
            pictures: self.pictures().map_err(error)?,
            recipe: self.recipe().map_err(error)?,
            progress: self.progress().map_err(error)?,
            history: history(&file).map_err(error)?,
            weights,
            statistics: InputStatistics::of_file(&file, channels, pixels, &origin)?,
            state: state.map(|(name, view)| (name.to_owned(), elements(&view))).collect(),
        })
    }

    /// Checks that the file is of `graph`.
    fn check(&self, graph: &Graph) -> Result<(), Wrong> {
        let (network, input) = (self.text("network")?, self.text("input")?);
        if network != graph.name() {
            let expected = format!("a checkpoint of network `{}`", graph.name());
            return Err((expected, format!("one of network `{network}`")));
        }
        if input != graph.input().to_string() {
            let expected = format!("a checkpoint for inputs of {}", graph.input());
            return Err((expected, format!("one for inputs of {input}")));
        }
        Ok(())
    }

    fn error(&self, (expected, got): Wrong) -> NetError {
        NetError::Checkpoint { origin: self.path.display().to_string(), expected, got }
    }

    fn text(&self, name: &str) -> Result<&str, Wrong> {
        let text = self.metadata.get(name).map(String::as_str);
        text.ok_or_else(|| no_checkpoint(format!("a file without `{name}`")))
    }

    fn values(&self, name: &str) -> Result<Values, Wrong> {
        let values = serde_json::from_str(self.text(name)?);
        values.map_err(|error| no_checkpoint(format!("a `{name}` that is no object of texts ({error})")))
    }

    fn recipe(&self) -> Result<Recipe, Wrong> {
        Recipe::from_values(&self.values("recipe")?).map_err(no_checkpoint)
    }

    fn progress(&self) -> Result<Progress, Wrong> {
        Progress::from_values(&self.values("progress")?).map_err(no_checkpoint)
    }

    fn pictures(&self) -> Result<(usize, usize), Wrong> {
        let text = self.text("pictures")?;
        let numbers =
            text.split_once(' ').map(|(training, validation)| (training.parse(), validation.parse()));
        match numbers {
            Some((Ok(training), Ok(validation))) => Ok((training, validation)),
            _ => Err(no_checkpoint(format!("`pictures` as `{text}`"))),
        }
    }
}

fn history(file: &SafeTensors<'_>) -> Result<Vec<EpochReport>, Wrong> {
    let text = file.tensor(HISTORY).map_err(|_| no_checkpoint("a file without a history"))?;
    serde_json::from_slice(text.data()).map_err(|error| {
        let reason = error.to_string();
        // JSON has no infinity and no NaN. They are written as `null`.
        let what = match reason.starts_with("invalid type: null") {
            true => "a history with a number that is infinite or NaN",
            false => "a damaged history",
        };
        no_checkpoint(format!("{what} ({reason})"))
    })
}
