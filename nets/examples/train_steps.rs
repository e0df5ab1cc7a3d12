//! Trains a network for some steps from given weights and batches, and prints the loss of each step:
//!
//! ```text
//! train_steps NETWORK FOLDER [--optimizer RULE] --rate R [--schedule SCHEDULE] [--warm-up EPOCHS] [--l1 S] [--l2 S]
//!     [--dropout P] [--loss LOSS] [--parametrization KIND] [--recompute LAYERS] [--time] [--threads N]
//!     [--layout nchw|nchw16c]
//! ```
//!
//! FOLDER has `weights.safetensors`, `images.npy` (`steps x batch x C x H x W`), `labels.npy` (`steps x batch`), and for
//! each layer of dropout or fractional max-pooling `mask.LAYER.npy` (`steps x batch x ...`). Ten steps are an epoch of the
//! schedule. The penalties apply to filters and matrices. With `--time`, each line also has the milliseconds of the step, and the
//! last line the peak memory. `nets/train/compare_training.py` writes the folder and compares the losses with PyTorch's.

use kernels::Threads;
use nets::optim::{LearningRate, Optimizer, Penalty, Rule, Schedule};
use nets::train::{Parametrization, TrainNet, TrainOptions};
use nets::{Layer, NetError, Role, Shape, WeightSet, npy, zoo};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

/// Steps per epoch of a schedule.
const PER_EPOCH: u64 = 10;

/// The options behind the network and the folder.
struct Arguments(Vec<String>);

impl Arguments {
    /// The value of an option, or `absent`.
    fn get<T: FromStr>(&self, option: &str, absent: T) -> T {
        let at = self.0.iter().position(|argument| argument == option);
        let value = at.and_then(|at| self.0.get(at + 1));
        value.map_or(absent, |value| value.parse().unwrap_or_else(|_| panic!("{option}: unusable: {value}")))
    }

    fn has(&self, option: &str) -> bool {
        self.0.iter().any(|argument| argument == option)
    }

    fn options(&self, batch: usize) -> TrainOptions {
        let options = TrainOptions::default()
            .batch(batch)
            .max_threads(self.get("--threads", 1))
            .dropout(self.get("--dropout", 0.0))
            .loss(self.get("--loss", nets::train::Loss::CrossEntropy))
            .parametrization(self.get("--parametrization", Parametrization::Plain))
            .recompute(self.get("--recompute", nets::train::Recompute::Nothing));
        match self.get("--layout", String::new()).as_str() {
            "" => options,
            "nchw" => options.layout(kernels::Layout::Nchw),
            "nchw16c" => options.layout(kernels::Layout::Nchw16c),
            other => panic!("--layout: expected nchw or nchw16c, got {other}"),
        }
    }
}

fn main() -> Result<(), NetError> {
    let arguments = Arguments(std::env::args().skip(1).collect());
    let [name, folder, ..] = &arguments.0[..] else { panic!("expected a network and a folder") };
    let file = |name: &str| -> PathBuf { Path::new(folder).join(name) };
    let (dims, images) = npy::read(&file("images.npy"))?;
    let (_, labels) = npy::read(&file("labels.npy"))?;
    let [steps, batch, c, h, w] = dims[..] else { panic!("expected five extents, got {dims:?}") };
    let graph = zoo::find(name)?.graph_for(Shape::map(c, h, w))?;
    let weights = WeightSet::load(&graph, &file("weights.safetensors"))?;
    let options = arguments.options(batch);
    let mut net = TrainNet::new(&graph, &weights, &options)?;
    drop(weights);
    let is_random = |node: &&nets::Node| match node.layer {
        Layer::Dropout => options.dropout > 0.0,
        Layer::FractionalPool(_) => true,
        _ => false,
    };
    let masks = graph
        .nodes()
        .iter()
        .filter(is_random)
        .map(|node| Ok((node.name.clone(), npy::read(&file(&format!("mask.{}.npy", node.name)))?.1)));
    let masks = masks.collect::<Result<Vec<_>, NetError>>()?;
    let penalty = Penalty { l1: arguments.get("--l1", 0.0), l2: arguments.get("--l2", 0.0) };
    let parameters = net.parameters().map(|parameter| (parameter.name.to_owned(), parameter.value.len()));
    let mut optimizer = Optimizer::new(arguments.get("--optimizer", Rule::Sgd), penalty, parameters);
    let schedule = arguments.get("--schedule", Schedule::Constant);
    let rate = LearningRate::new(arguments.get("--rate", 0.0), schedule, steps as f64 / PER_EPOCH as f64);
    let rate = rate.warm_up(arguments.get("--warm-up", 0.0));
    let times = arguments.has("--time");
    let pool = match arguments.get("--threads", 1) {
        1 => None,
        threads => Some(rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")),
    };
    let threads = pool.as_ref().map_or(Threads::Seq, Threads::Pool);
    for step in 0..steps {
        for (layer, mask) in &masks {
            let len = mask.len() / steps;
            net.set_mask(layer, Some(&mask[step * len..][..len]))?;
        }
        let len = batch * c * h * w;
        let images = &images[step * len..][..len];
        let labels: Vec<u32> = labels[step * batch..][..batch].iter().map(|label| *label as u32).collect();
        let start = Instant::now();
        let loss = net.gradients(images, &labels, threads)?;
        optimizer.begin();
        let rate = rate.at(step as u64, PER_EPOCH);
        net.update(
            |index, parameter| {
                let is_weight = matches!(parameter.role, Role::Weight { .. });
                optimizer.step(index, rate, parameter.value, parameter.gradient, is_weight);
            },
            threads,
        )?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        match times {
            true => println!("{:.9} {milliseconds:.3}", loss.value),
            false => println!("{:.9}", loss.value),
        }
    }
    if times {
        println!("peak {} arena {}", nets::peak_bytes("self").unwrap_or(0), net.memory_bytes());
    }
    Ok(())
}
