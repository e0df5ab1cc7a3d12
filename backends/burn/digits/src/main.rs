//! Trains a small convolutional network on the handwritten digits of `nets/data` with burn-flex: loss, accuracy, and time per
//! step. The argument is the number of epochs.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::error::Error;
use std::time::Instant;

const SHEET: &[u8] = include_bytes!("../../../../nets/data/digits.png");
const LABELS: &str = include_str!("../../../../nets/data/digits-labels.txt");
/// Digits per row of the sheet, and pixels per side of a digit.
const COLUMNS: usize = 40;
const SIDE: usize = 28;
/// The first digits of the sheet are for training, the others for testing.
const TRAINING: usize = 800;
const BATCH: usize = 50;

/// Two 3x3 convolutions with max pooling, and two fully connected layers, as in burn's example for MNIST.
#[derive(Module, Debug)]
struct Network {
    convs: [Conv2d; 2],
    pool: MaxPool2d,
    linears: [Linear; 2],
}

impl Network {
    fn new(device: &Device) -> Self {
        let conv = |ins, outs| Conv2dConfig::new([ins, outs], [3, 3]).init(device);
        Self {
            convs: [conv(1, 64), conv(64, 64)],
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            linears: [
                LinearConfig::new(64 * 5 * 5, 128).init(device),
                LinearConfig::new(128, 10).init(device),
            ],
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.pool.forward(relu(self.convs[0].forward(images)));
        let x = self.pool.forward(relu(self.convs[1].forward(x)));
        self.linears[1].forward(relu(self.linears[0].forward(x.flatten(1, 3))))
    }
}

/// The digits and their labels.
struct Digits {
    pixels: Vec<f32>,
    labels: Vec<i32>,
}

impl Digits {
    fn read() -> Result<Self, Box<dyn Error>> {
        let mut reader = png::Decoder::new(std::io::Cursor::new(SHEET)).read_info()?;
        let mut sheet = vec![0; reader.output_buffer_size().ok_or("the sheet is too large")?];
        reader.next_frame(&mut sheet)?;
        let labels: Vec<i32> =
            LABELS.chars().filter_map(|digit| digit.to_digit(10)).map(|digit| digit as i32).collect();
        let row = COLUMNS * SIDE;
        let of_digit = |index: usize| {
            let first = index / COLUMNS * SIDE * row + index % COLUMNS * SIDE;
            (0..SIDE).flat_map(move |y| first + y * row..first + y * row + SIDE)
        };
        let places = (0..labels.len()).flat_map(of_digit);
        let pixels = places.map(|place| (f32::from(sheet[place]) / 255.0 - 0.1307) / 0.3081).collect();
        Ok(Self { pixels, labels })
    }

    fn batch(&self, first: usize, count: usize, device: &Device) -> (Tensor<4>, Tensor<1, Int>) {
        let pixels = self.pixels[first * SIDE * SIDE..][..count * SIDE * SIDE].to_vec();
        let labels = self.labels[first..first + count].to_vec();
        let images = Tensor::from_data(TensorData::new(pixels, [count, 1, SIDE, SIDE]), device);
        (images, Tensor::from_data(TensorData::new(labels, [count]), device))
    }

    /// The share of the digits not used for training that the network reads correctly.
    fn accuracy(&self, network: &Network, device: &Device) -> f64 {
        let rest = self.labels.len() - TRAINING;
        let (images, labels) = self.batch(TRAINING, rest, device);
        let answers = network.forward(images).argmax(1).flatten::<1>(0, 1);
        let right: i64 = answers.equal(labels).int().sum().into_scalar::<i64>();
        right as f64 / rest as f64
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let epochs: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let device = Device::flex().autodiff();
    device.seed(1);
    let digits = Digits::read()?;
    let mut network = Network::new(&device);
    let mut optimizer = AdamConfig::new().init();
    let loss_of = CrossEntropyLossConfig::new().init(&device);
    let mut times = Vec::new();
    for epoch in 1..=epochs {
        let mut sum = 0.0;
        for first in (0..TRAINING).step_by(BATCH) {
            let (images, labels) = digits.batch(first, BATCH, &device);
            let start = Instant::now();
            let loss = loss_of.forward(network.forward(images), labels);
            let grads = GradientsParams::from_grads(loss.backward(), &network);
            network = optimizer.step(0.001, network, grads);
            times.push(start.elapsed().as_secs_f64() * 1e3);
            sum += f64::from(loss.into_scalar::<f32>());
        }
        let (loss, accuracy) = (sum * BATCH as f64 / TRAINING as f64, digits.accuracy(&network, &device));
        println!("epoch {epoch}: loss {loss:.5}, accuracy {:.1} %", 100.0 * accuracy);
    }
    times.sort_by(f64::total_cmp);
    println!("step of {BATCH} digits: median {:.2} ms, least {:.2} ms", times[times.len() / 2], times[0]);
    Ok(())
}
