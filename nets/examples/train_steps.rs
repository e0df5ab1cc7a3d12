//! Trains a network for some steps from given weights and batches, and prints the loss of each step:
//!
//! ```text
//! train_steps NETWORK FOLDER --rate R [--momentum M] [--decay D] [--dropout P] [--recompute LAYERS] [--time] [--blocked | --planes]
//! ```
//!
//! FOLDER has `weights.safetensors`, `images.npy` (`steps x batch x C x H x W`), `labels.npy` (`steps x batch`), and for
//! each dropout layer `mask.LAYER.npy` (`steps x batch x ...`). With `--time`, each line also has the milliseconds of the
//! step, and the last line the peak memory. `nets/train/compare_training.py` writes the folder and compares the losses with
//! PyTorch's.

use kernels::{Layout, Threads};
use nets::train::{ParameterMut, TrainNet, TrainOptions};
use nets::{NetError, Shape, WeightSet, npy, zoo};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Stochastic gradient descent with momentum and decay of weights, as in PyTorch.
struct Descent {
    rate: f32,
    momentum: f32,
    decay: f32,
    velocities: Vec<Vec<f32>>,
}

impl Descent {
    fn update(&mut self, index: usize, parameter: ParameterMut<'_>) {
        if self.velocities.len() <= index {
            self.velocities.push(vec![0.0; if self.momentum == 0.0 { 0 } else { parameter.value.len() }]);
        }
        let Self { rate, momentum, decay, velocities } = self;
        let numbers = parameter.value.iter_mut().zip(parameter.gradient.iter());
        if *momentum == 0.0 {
            numbers.for_each(|(value, gradient)| *value -= *rate * (gradient + *decay * *value));
            return;
        }
        for ((value, gradient), velocity) in numbers.zip(&mut velocities[index]) {
            *velocity = *momentum * *velocity + (gradient + *decay * *value);
            *value -= *rate * *velocity;
        }
    }
}

/// The value of an option, or 0.
fn number(arguments: &[String], option: &str) -> f32 {
    let at = arguments.iter().position(|argument| argument == option);
    let value = at.and_then(|at| arguments.get(at + 1));
    value.map_or(0.0, |value| {
        value.parse().unwrap_or_else(|_| panic!("{option}: expected a number, got {value}"))
    })
}

fn main() -> Result<(), NetError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, folder, ..] = &arguments[..] else { panic!("expected a network and a folder") };
    let file = |name: &str| -> PathBuf { Path::new(folder).join(name) };
    let (dims, images) = npy::read(&file("images.npy"))?;
    let (_, labels) = npy::read(&file("labels.npy"))?;
    let [steps, batch, c, h, w] = dims[..] else { panic!("expected five extents, got {dims:?}") };
    let graph = zoo::find(name)?.graph_for(Shape::map(c, h, w))?;
    let weights = WeightSet::load(&graph, &file("weights.safetensors"))?;
    let options =
        TrainOptions::default().batch(batch).max_threads(1).dropout(number(&arguments, "--dropout"));
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    let options = match (has("--blocked"), has("--planes")) {
        (true, _) => options.layout(Layout::Nchw16c),
        (_, true) => options.layout(Layout::Nchw),
        _ => options,
    };
    let mut net = TrainNet::new(&graph, &weights, &options)?;
    drop(weights);
    let is_dropout = |node: &&nets::Node| node.layer == nets::Layer::Dropout && options.dropout > 0.0;
    let masks = graph
        .nodes()
        .iter()
        .filter(is_dropout)
        .map(|node| Ok((node.name.clone(), npy::read(&file(&format!("mask.{}.npy", node.name)))?.1)));
    let masks = masks.collect::<Result<Vec<_>, NetError>>()?;
    let [rate, momentum, decay] =
        ["--rate", "--momentum", "--decay"].map(|option| number(&arguments, option));
    let mut descent = Descent { rate, momentum, decay, velocities: Vec::new() };
    let times = has("--time");
    for step in 0..steps {
        for (layer, mask) in &masks {
            let len = mask.len() / steps;
            net.set_mask(layer, Some(&mask[step * len..][..len]))?;
        }
        let len = batch * c * h * w;
        let images = &images[step * len..][..len];
        let labels: Vec<u32> = labels[step * batch..][..batch].iter().map(|label| *label as u32).collect();
        let start = Instant::now();
        let loss = net.gradients(images, &labels, Threads::Seq)?;
        net.update(|index, parameter| descent.update(index, parameter), Threads::Seq)?;
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
