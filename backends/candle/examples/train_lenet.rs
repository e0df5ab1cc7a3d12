//! Trains LeNet-5 on the handwritten digits of `nets/data`, with `candle_nn` and with this crate, from the same
//! initial weights: loss, accuracy and time per step.
//!
//! `cargo run --release -p convkernels-candle --example train_lenet [-- EPOCHS]`

mod models;

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap};
use models::{ours, theirs};
use std::time::{Duration, Instant};

const SHEET: &[u8] = include_bytes!("../../../nets/data/digits.png");
const LABELS: &str = include_str!("../../../nets/data/digits-labels.txt");
/// Digits per row of the sheet, and pixels per side of a digit.
const COLUMNS: usize = 40;
const SIDE: usize = 28;
/// The first digits of the sheet are for training, the others for testing.
const TRAINING: usize = 800;
const BATCH: usize = 50;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let epochs = std::env::args().nth(1).map_or(Ok(5), |text| text.parse())?;
    let (images, labels) = digits()?;
    let [initial, with, without] = [(); 3].map(|()| VarMap::new());
    ours::lenet::LeNet::new(&builder(&initial))?;
    let with_network = ours::lenet::LeNet::new(&builder(&with))?;
    let without_network = theirs::lenet::LeNet::new(&builder(&without))?;
    copy(&initial, &with)?;
    copy(&initial, &without)?;
    let mut runs =
        [Run::new("candle_nn", &without_network, &without)?, Run::new("convkernels", &with_network, &with)?];
    for epoch in 1..=epochs {
        for run in &mut runs {
            run.epoch(epoch, &images, &labels)?;
        }
    }
    let [without, with] = runs.map(|run| run.time / run.steps);
    println!(
        "per step: candle_nn {without:.2?}, convkernels {with:.2?}, {:.2} times as fast",
        without.as_secs_f64() / with.as_secs_f64()
    );
    Ok(())
}

fn builder(map: &VarMap) -> VarBuilder<'static> {
    VarBuilder::from_varmap(map, DType::F32, &Device::Cpu)
}

/// Sets every variable of `to` to the variable of the same name of `from`.
fn copy(from: &VarMap, to: &VarMap) -> Result<()> {
    let from = from.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let to = to.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    to.iter().try_for_each(|(name, var)| var.set(&from[name]))
}

/// One network in training.
struct Run<'a> {
    name: &'static str,
    network: &'a dyn Module,
    optimizer: AdamW,
    time: Duration,
    steps: u32,
}

impl<'a> Run<'a> {
    fn new(name: &'static str, network: &'a dyn Module, variables: &VarMap) -> Result<Self> {
        let parameters = ParamsAdamW { lr: 0.003, ..Default::default() };
        let optimizer = AdamW::new(variables.all_vars(), parameters)?;
        Ok(Self { name, network, optimizer, time: Duration::ZERO, steps: 0 })
    }

    fn epoch(&mut self, epoch: usize, images: &Tensor, labels: &Tensor) -> Result<()> {
        let mut sum = 0.0;
        for first in (0..TRAINING).step_by(BATCH) {
            let (images, labels) = (images.narrow(0, first, BATCH)?, labels.narrow(0, first, BATCH)?);
            let start = Instant::now();
            let loss = candle_nn::loss::cross_entropy(&self.network.forward(&images)?, &labels)?;
            self.optimizer.backward_step(&loss)?;
            self.time += start.elapsed();
            self.steps += 1;
            sum += loss.to_scalar::<f32>()?;
        }
        let loss = sum * BATCH as f32 / TRAINING as f32;
        let accuracy = self.accuracy(images, labels)?;
        println!("epoch {epoch}, {:>11}: loss {loss:.5}, accuracy {:.1} %", self.name, 100.0 * accuracy);
        Ok(())
    }

    /// The share of the digits not used for training that the network reads correctly.
    fn accuracy(&self, images: &Tensor, labels: &Tensor) -> Result<f32> {
        let rest = labels.dim(0)? - TRAINING;
        let answers = self.network.forward(&images.narrow(0, TRAINING, rest)?)?.argmax(1)?;
        let right = answers.eq(&labels.narrow(0, TRAINING, rest)?)?.to_dtype(DType::F32)?;
        right.mean_all()?.to_scalar()
    }
}

/// The digits as `[1000, 1, 32, 32]`, with a border of two zeros, and their labels.
fn digits() -> std::result::Result<(Tensor, Tensor), Box<dyn std::error::Error>> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(SHEET)).read_info()?;
    let mut pixels = vec![0; reader.output_buffer_size().ok_or("the sheet is too large")?];
    let info = reader.next_frame(&mut pixels)?;
    let labels: Vec<u32> = LABELS.chars().filter_map(|digit| digit.to_digit(10)).collect();
    let rows = labels.len() / COLUMNS;
    if (info.width as usize, info.height as usize) != (COLUMNS * SIDE, rows * SIDE) {
        return Err(
            format!("a sheet of {}x{} pixels for {} labels", info.width, info.height, labels.len()).into()
        );
    }
    let pixels = pixels[..rows * SIDE * COLUMNS * SIDE].iter().map(|&byte| f32::from(byte) / 255.0);
    let images = Tensor::from_iter(pixels, &Device::Cpu)?;
    let images = images.reshape((rows, SIDE, COLUMNS, SIDE))?.transpose(1, 2)?.contiguous()?;
    let images = images.reshape((rows * COLUMNS, 1, SIDE, SIDE))?;
    let images = images.pad_with_zeros(2, 2, 2)?.pad_with_zeros(3, 2, 2)?.contiguous()?;
    Ok((images, Tensor::new(labels, &Device::Cpu)?))
}
