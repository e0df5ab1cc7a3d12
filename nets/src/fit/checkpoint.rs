//! [`Checkpoint`]: a training in a file, from which it continues to the same bits.
//!
//! The file is a safetensors file. Its tensors are `weights/NAME`, `optimizer/NAME/BUFFER`, `average/NAME`, and the statistics
//! of the inputs. Its metadata are the network, the data, the recipe, and the progress, as JSON objects of texts.

use super::atomic::write_atomically;
use super::recipe::Recipe;
use super::report::EpochReport;
use super::values::{Values, get};
use crate::data::Frame;
use crate::error::NetError;
use crate::graph::Graph;
use crate::optim::PlateauState;
use crate::weights::{InputStatistics, MEMORY_LIMIT, WeightSet};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The value of `format` in the metadata.
const FORMAT: &str = "nets checkpoint 1";
/// Tensors of a checkpoint for each tensor of the network, at most: more than L-BFGS with a history of 1000 keeps would not
/// fit in memory anyway.
const MOST_COPIES: u64 = 64;
const HEADER_ROOM: u64 = 16 << 20;

/// A training, between two steps.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The name of the network.
    pub network: String,
    /// The data, as the program names them.
    pub data: String,
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
        Ok(Self {
            epoch: get(values, "epoch")?,
            batch: get(values, "batch")?,
            step: get(values, "step")?,
            loss: get(values, "loss")?,
            correct: get(values, "correct")?,
            seconds: get(values, "seconds")?,
            plateau: PlateauState {
                factor: get(values, "plateau-factor")?,
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
            .map(|(name, tensor)| (format!("weights/{name}"), tensor.dims().to_vec(), tensor.data()));
        let state = self.state.iter().map(|(name, data)| (name.clone(), vec![data.len()], &data[..]));
        let statistics = self.statistics.iter().flat_map(|statistics| {
            [("input.mean", statistics.mean()), ("input.deviation", statistics.deviation())]
        });
        let statistics = statistics.map(|(name, data)| (name.to_owned(), vec![data.len()], data));
        let tensors: Vec<_> = weights.chain(state).chain(statistics).collect();
        let bytes: Vec<Vec<u8>> = tensors
            .iter()
            .map(|(_, _, data)| data.iter().flat_map(|number| number.to_le_bytes()).collect())
            .collect();
        let views = tensors.iter().zip(&bytes).map(|((name, dims, _), bytes)| {
            let view = TensorView::new(Dtype::F32, dims.clone(), bytes);
            (name.as_str(), view.expect("extents are those of the numbers"))
        });
        let json = |values: &Values| serde_json::to_string(values).expect("texts can be written");
        let metadata = HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("network".to_owned(), self.network.clone()),
            ("data".to_owned(), self.data.clone()),
            ("recipe".to_owned(), json(&self.recipe.to_values())),
            ("progress".to_owned(), json(&self.progress.to_values())),
            ("history".to_owned(), serde_json::to_string(&self.history).expect("reports can be written")),
        ]);
        safetensors::serialize(views, Some(metadata)).expect("headers of names and extents can be written")
    }

    /// The name of the data in a file.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn data_of(path: &Path) -> Result<String, NetError> {
        let bytes = read(path)?;
        let data = Header::of(&bytes).and_then(|header| header.text("data").cloned());
        data.map_err(|wrong| error(path, wrong))
    }

    /// Reads the file of a training of `graph`.
    ///
    /// # Errors
    /// - [`NetError::Io`] if it cannot be read.
    /// - [`NetError::Checkpoint`] if it is no checkpoint, damaged, or of another network.
    pub fn load(path: &Path, graph: &Graph) -> Result<Self, NetError> {
        Self::from_bytes(&read(path)?, graph).map_err(|wrong| error(path, wrong))
    }

    fn from_bytes(bytes: &[u8], graph: &Graph) -> Result<Self, Wrong> {
        let header = Header::of(bytes)?;
        let network = header.text("network")?.clone();
        if network != graph.name() {
            let expected = format!("a checkpoint of network `{}`", graph.name());
            return Err((expected, format!("one of network `{network}`")));
        }
        let recipe = header.recipe()?;
        let progress = Progress::from_values(&header.values("progress")?).map_err(no_checkpoint)?;
        let history = serde_json::from_str(header.text("history")?);
        let history = history.map_err(|error| no_checkpoint(format!("a damaged history ({error})")))?;
        let statistics = Frame::of(&network, graph.input()).ok().map(|frame| {
            InputStatistics::from_safetensors(bytes, frame.channels, frame.pixels(), "checkpoint")
        });
        let statistics = statistics.transpose().map_err(|error| no_checkpoint(error.to_string()))?.flatten();
        let (weights, state) = tensors(&header.file, graph)?;
        let data = header.text("data")?.clone();
        Ok(Self { network, data, recipe, progress, history, weights, statistics, state })
    }
}

/// What was expected, and what is there.
type Wrong = (String, String);

fn no_checkpoint(got: String) -> Wrong {
    ("a checkpoint of `nets train`".to_owned(), got)
}

fn error(path: &Path, (expected, got): Wrong) -> NetError {
    NetError::Checkpoint { origin: path.display().to_string(), expected, got }
}

fn read(path: &Path) -> Result<Vec<u8>, NetError> {
    let error = |cause| NetError::Io { action: "read", path: path.to_owned(), cause };
    let limit = MEMORY_LIMIT.saturating_mul(MOST_COPIES) + HEADER_ROOM;
    let mut bytes = Vec::new();
    File::open(path).map_err(error)?.take(limit).read_to_end(&mut bytes).map_err(error)?;
    Ok(bytes)
}

/// The header of a file, whose format has been checked.
struct Header<'a> {
    file: SafeTensors<'a>,
    metadata: HashMap<String, String>,
}

impl<'a> Header<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, Wrong> {
        let other = |error| no_checkpoint(format!("another file, or a part of one ({error})"));
        let file = SafeTensors::deserialize(bytes).map_err(other)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(other)?;
        let header = Self { file, metadata: header.metadata().clone().unwrap_or_default() };
        match header.text("format")? {
            format if format == FORMAT => Ok(header),
            format => Err(no_checkpoint(format!("the format `{format}`"))),
        }
    }

    fn text(&self, name: &str) -> Result<&String, Wrong> {
        self.metadata.get(name).ok_or_else(|| no_checkpoint(format!("a file without `{name}`")))
    }

    fn values(&self, name: &str) -> Result<Values, Wrong> {
        let values = serde_json::from_str(self.text(name)?);
        values.map_err(|error| no_checkpoint(format!("a `{name}` that is no object of texts ({error})")))
    }

    fn recipe(&self) -> Result<Recipe, Wrong> {
        Recipe::from_values(&self.values("recipe")?).map_err(no_checkpoint)
    }
}

/// The weights, and all other tensors.
fn tensors(file: &SafeTensors<'_>, graph: &Graph) -> Result<(WeightSet, HashMap<String, Vec<f32>>), Wrong> {
    let numbers = |view: &TensorView<'_>| -> Vec<f32> {
        view.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    };
    let mut missing = None;
    let weights = WeightSet::from_params(graph, |name, param| {
        let view = file.tensor(&format!("weights/{name}")).ok();
        let view = view.filter(|view| view.shape() == param.dims && view.dtype() == Dtype::F32);
        if view.is_none() {
            missing.get_or_insert_with(|| (name.to_owned(), param.dims.clone()));
        }
        Ok(view.as_ref().map_or_else(Vec::new, &numbers))
    });
    let weights = weights.map_err(|error| ("a network that fits in memory".to_owned(), error.to_string()))?;
    if let Some((name, dims)) = missing {
        let expected = format!("a checkpoint with a tensor `weights/{name}` of extents {dims:?}");
        return Err((expected, "one without".to_owned()));
    }
    let others =
        file.iter().filter(|(name, view)| !name.starts_with("weights/") && view.dtype() == Dtype::F32);
    Ok((weights, others.map(|(name, view)| (name.to_owned(), numbers(&view))).collect()))
}
