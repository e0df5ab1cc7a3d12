//! This crate and candle in turns, in one process per number of threads: layers, ResNet-18, a training step.
//!
//! `cargo bench -p convkernels-candle [-- SECONDS [NAME]]`: SECONDS (0.5) limits each row of the tables, and only
//! rows whose name contains NAME run.

#[path = "../examples/models/mod.rs"]
mod models;

use candle_core::{DType, Device, Module, ModuleT, Result, Tensor};
use candle_nn::{Optimizer, SGD, VarBuilder, VarMap};
use models::{ours, theirs};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Set for the processes that measure. candle's number of threads is fixed per process.
const THREADS: &str = "RAYON_NUM_THREADS";
const CHILD: &str = "CONVKERNELS_CANDLE_BENCH_CHILD";
/// Largest difference, relative to the largest element, that counts as equal. Two sums of thousands of `f32`
/// products in different orders are closer than this.
const TOLERANCE: f64 = 1e-4;
const ROUNDS: usize = 5;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let seconds: f64 = arguments.first().map_or(Ok(0.5), |text| text.parse())?;
    if std::env::var(CHILD).is_ok() {
        return Ok(measure(Duration::from_secs_f64(seconds))?);
    }
    for threads in ["1", "2"] {
        let mut child = std::process::Command::new(std::env::current_exe()?);
        let status = child.args(&arguments).env(THREADS, threads).env(CHILD, "1").status()?;
        if !status.success() {
            return Err(format!("the bench with {threads} threads: {status}").into());
        }
    }
    Ok(())
}

/// Times of one row.
struct Row {
    name: String,
    ours: Vec<f64>,
    theirs: Vec<f64>,
    difference: f64,
}

impl Row {
    fn ratio(&self) -> f64 {
        median(&self.theirs) / median(&self.ours)
    }

    fn print(&self) {
        let Self { name, ours, theirs, difference } = self;
        let [ours_min, theirs_min] =
            [ours, theirs].map(|times| times.iter().copied().fold(f64::INFINITY, f64::min));
        let flag = if *difference <= TOLERANCE { "" } else { "  OUTPUTS DIFFER" };
        println!(
            "| {name} | {:.3} ({theirs_min:.3}) | {:.3} ({ours_min:.3}) | {:.2} | {difference:.1e} |{flag}",
            median(theirs),
            median(ours),
            self.ratio()
        );
    }
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Runs both in turns, for at least [`ROUNDS`] rounds and about `limit`.
fn row(
    name: String,
    limit: Duration,
    mut ours: impl FnMut() -> Result<Tensor>,
    mut theirs: impl FnMut() -> Result<Tensor>,
) -> Result<Option<Row>> {
    let wanted = std::env::args().skip_while(|argument| argument.parse::<f64>().is_err()).nth(1);
    if wanted.is_some_and(|wanted| !name.contains(&wanted)) {
        return Ok(None);
    }
    let difference = difference(&ours()?, &theirs()?)?;
    let mut row = Row { name, ours: Vec::new(), theirs: Vec::new(), difference };
    let start = Instant::now();
    while row.ours.len() < ROUNDS || (start.elapsed() < limit && row.ours.len() < 1000) {
        row.theirs.push(milliseconds(&mut theirs)?);
        row.ours.push(milliseconds(&mut ours)?);
    }
    row.print();
    Ok(Some(row))
}

fn milliseconds(run: &mut impl FnMut() -> Result<Tensor>) -> Result<f64> {
    let start = Instant::now();
    let output = run()?;
    let time = start.elapsed().as_secs_f64() * 1e3;
    drop(output);
    Ok(time)
}

fn difference(ours: &Tensor, theirs: &Tensor) -> Result<f64> {
    let most = |tensor: Tensor| tensor.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
    Ok(f64::from(most((ours - theirs)?)?) / f64::from(most(theirs.clone())?.max(f32::MIN_POSITIVE)))
}

fn heading(title: &str) {
    println!(
        "\n{title}\n\n| | candle ms (minimum) | convkernels ms (minimum) | ratio | difference |\n|---|---:|---:|---:|---:|"
    );
}

fn mean(title: &str, rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    let logs: f64 = rows.iter().map(|row| row.ratio().ln()).sum();
    let least = rows.iter().map(Row::ratio).fold(f64::INFINITY, f64::min);
    println!(
        "\n{title}: geometric mean of the ratios {:.2}, least {least:.2}",
        (logs / rows.len() as f64).exp()
    );
}

fn measure(limit: Duration) -> Result<()> {
    println!("\n# {} thread(s), medians", std::env::var(THREADS).unwrap_or_default());
    heading("Layers of ResNet-50, batch 1");
    let resnet = layers(&RESNET, limit)?;
    heading("Layers of MobileNet, batch 1");
    let mobilenet = layers(&mobilenet(), limit)?;
    mean("Layers of ResNet-50", &resnet);
    mean("Layers of MobileNet", &mobilenet);
    mean("All layers", &resnet.into_iter().chain(mobilenet).collect::<Vec<_>>());
    heading("One layer, with weights that are packed once, checked in each call, packed in each call");
    weights(limit)?;
    heading("Batch norm in evaluation mode");
    norms(limit)?;
    heading("Training of one layer");
    training_layers(limit)?;
    heading("Networks, and one training step of LeNet-5");
    networks(limit)
}

/// Input channels, size, output channels, kernel, stride, groups.
type Layer = (usize, usize, usize, usize, usize, usize);

const RESNET: [Layer; 23] = [
    (3, 224, 64, 7, 2, 1),
    (64, 56, 64, 1, 1, 1),
    (64, 56, 64, 3, 1, 1),
    (64, 56, 256, 1, 1, 1),
    (256, 56, 64, 1, 1, 1),
    (256, 56, 128, 1, 1, 1),
    (128, 56, 128, 3, 2, 1),
    (256, 56, 512, 1, 2, 1),
    (128, 28, 512, 1, 1, 1),
    (512, 28, 128, 1, 1, 1),
    (128, 28, 128, 3, 1, 1),
    (512, 28, 256, 1, 1, 1),
    (256, 28, 256, 3, 2, 1),
    (512, 28, 1024, 1, 2, 1),
    (256, 14, 1024, 1, 1, 1),
    (1024, 14, 256, 1, 1, 1),
    (256, 14, 256, 3, 1, 1),
    (1024, 14, 512, 1, 1, 1),
    (512, 14, 512, 3, 2, 1),
    (1024, 14, 2048, 1, 2, 1),
    (512, 7, 2048, 1, 1, 1),
    (2048, 7, 512, 1, 1, 1),
    (512, 7, 512, 3, 1, 1),
];

/// The distinct layers of MobileNet (Howard et al. 2017): a stem, then pairs of depthwise and pointwise layers.
fn mobilenet() -> Vec<Layer> {
    let pairs = [
        (32, 112, 64, 1),
        (64, 112, 128, 2),
        (128, 56, 128, 1),
        (128, 56, 256, 2),
        (256, 28, 256, 1),
        (256, 28, 512, 2),
        (512, 14, 512, 1),
        (512, 14, 1024, 2),
        (1024, 7, 1024, 1),
    ];
    let pair =
        |(ins, size, outs, stride)| [(ins, size, ins, 3, stride, ins), (ins, size / stride, outs, 1, 1, 1)];
    [(3, 224, 32, 3, 2, 1)].into_iter().chain(pairs.into_iter().flat_map(pair)).collect()
}

fn layers(layers: &[Layer], limit: Duration) -> Result<Vec<Row>> {
    let run = |&(ins, size, outs, kernel, stride, groups): &Layer| {
        let name = match groups {
            1 => format!("{ins}x{size}x{size} -> {outs}, {kernel}x{kernel} / {stride}"),
            _ => format!("{ins}x{size}x{size} depthwise, {kernel}x{kernel} / {stride}"),
        };
        let config = candle_nn::Conv2dConfig { padding: kernel / 2, stride, groups, ..Default::default() };
        let input = Tensor::randn(0f32, 1.0, (1, ins, size, size), &Device::Cpu)?;
        let weight = Tensor::randn(0f32, 0.1, (outs, ins / groups, kernel, kernel), &Device::Cpu)?;
        let bias = Tensor::randn(0f32, 0.1, outs, &Device::Cpu)?;
        let weights = HashMap::from([("weight".to_owned(), weight), ("bias".to_owned(), bias)]);
        let vb = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
        let ours = convkernels_candle::conv2d(ins, outs, kernel, config, vb.clone())?;
        let theirs = candle_nn::conv2d(ins, outs, kernel, config, vb)?;
        row(name, limit, || ours.forward(&input), || theirs.forward(&input))
    };
    layers.iter().filter_map(|layer| run(layer).transpose()).collect()
}

/// The same layer with constant weights, with weights that could change, and without a layer that keeps them.
fn weights(limit: Duration) -> Result<()> {
    let config = candle_nn::Conv2dConfig { padding: 1, ..Default::default() };
    for (channels, size) in [(512, 7), (128, 28)] {
        let input = Tensor::randn(0f32, 1.0, (1, channels, size, size), &Device::Cpu)?;
        let weight = Tensor::randn(0f32, 0.1, (channels, channels, 3, 3), &Device::Cpu)?;
        let theirs = candle_nn::Conv2d::new(weight.clone(), None, config);
        let checked = convkernels_candle::Conv2d::new(weight.clone(), None, config);
        let once = checked.clone().frozen();
        let none = convkernels_candle::Fused::None;
        let each = || convkernels_candle::functional::conv2d(&input, &weight, None, config, none);
        let name = |how: &str| format!("{channels}x{size}x{size}, 3x3, {how}");
        row(name("packed once"), limit, || once.forward(&input), || theirs.forward(&input))?;
        row(name("checked"), limit, || checked.forward(&input), || theirs.forward(&input))?;
        row(name("packed in each call"), limit, each, || theirs.forward(&input))?;
    }
    Ok(())
}

/// Matrices, one pixel per image, small planes and large ones.
fn norms(limit: Duration) -> Result<()> {
    let shapes: [&[usize]; 7] = [
        &[256, 512],
        &[16384, 16],
        &[1, 1024, 1, 1],
        &[64, 1024, 1, 1],
        &[1, 1024, 3, 3],
        &[64, 512, 3, 3],
        &[1, 64, 56, 56],
    ];
    for dims in shapes {
        let input = Tensor::randn(0f32, 1.0, dims, &Device::Cpu)?;
        let [mean, weight, bias] = [(); 3].map(|()| Tensor::randn(0f32, 1.0, dims[1], &Device::Cpu));
        let var = Tensor::rand(0.5f32, 1.0, dims[1], &Device::Cpu)?;
        let theirs = candle_nn::BatchNorm::new(dims[1], mean?, var, weight?, bias?, 1e-5)?;
        let ours = convkernels_candle::BatchNorm::from(theirs.clone());
        let forward = || ours.forward_t(&input, false);
        row(format!("batch norm of {dims:?}"), limit, forward, || theirs.forward_t(&input, false))?;
    }
    Ok(())
}

/// Weights as a file would provide them: tensors that are not variables. `make` asks for all of them.
fn constants<T>(make: impl FnOnce(&VarBuilder<'_>) -> Result<T>) -> Result<VarBuilder<'static>> {
    let variables = VarMap::new();
    make(&VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
    let data = variables.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let tensors = data.iter().map(|(name, var)| Ok((name.clone(), var.as_tensor().copy()?.detach())));
    Ok(VarBuilder::from_tensors(tensors.collect::<Result<_>>()?, DType::F32, &Device::Cpu))
}

fn networks(limit: Duration) -> Result<()> {
    let vb = constants(ours::resnet::ResNet18::new)?;
    let (ours, theirs) = (ours::resnet::ResNet18::new(&vb)?, theirs::resnet::ResNet18::new(&vb)?);
    let image = Tensor::randn(0f32, 1.0, (1, 3, 224, 224), &Device::Cpu)?;
    row("ResNet-18, 224x224".to_owned(), limit * 4, || ours.forward(&image), || theirs.forward(&image))?;

    let vb = constants(ours::yolo::Yolo::new)?;
    let (ours, theirs) = (ours::yolo::Yolo::new(&vb)?, theirs::yolo::Yolo::new(&vb)?);
    let image = Tensor::randn(0f32, 1.0, (1, 3, 320, 320), &Device::Cpu)?;
    row("YOLO blocks, 320x320".to_owned(), limit * 4, || ours.forward(&image), || theirs.forward(&image))?;
    training(limit * 4)
}

/// Forward and backward of one layer. The rows compare the gradients of the weights.
fn training_layers(limit: Duration) -> Result<()> {
    for (channels, size, transposed) in [(64, 56, false), (128, 28, false), (64, 28, true)] {
        let input = candle_core::Var::randn(0f32, 1.0, (8, channels, size, size), &Device::Cpu)?;
        let kernel = if transposed { 4 } else { 3 };
        let weight = candle_core::Var::randn(0f32, 0.1, (channels, channels, kernel, kernel), &Device::Cpu)?;
        let bias = candle_core::Var::randn(0f32, 0.1, channels, &Device::Cpu)?;
        let step = |layer: &dyn Module| {
            let grads = layer.forward(&input)?.sum_all()?.backward()?;
            grads.get(&weight).map_or_else(|| weight.zeros_like(), |grad| Ok(grad.clone()))
        };
        let tensors = || (weight.as_tensor().clone(), Some(bias.as_tensor().clone()));
        let ((w, b), (u, c)) = (tensors(), tensors());
        let name = format!("{channels}x{size}x{size}, {kernel}x{kernel}, batch 8, forward and backward");
        if transposed {
            let config = candle_nn::ConvTranspose2dConfig { padding: 1, stride: 2, ..Default::default() };
            let ours = convkernels_candle::ConvTranspose2d::new(w, b, config);
            let theirs = candle_nn::ConvTranspose2d::new(u, c, config);
            row(name + ", transposed / 2", limit, || step(&ours), || step(&theirs))?;
        } else {
            let config = candle_nn::Conv2dConfig { padding: 1, ..Default::default() };
            let ours = convkernels_candle::Conv2d::new(w, b, config);
            let theirs = candle_nn::Conv2d::new(u, c, config);
            row(name, limit, || step(&ours), || step(&theirs))?;
        }
    }
    Ok(())
}

/// Steps of two networks that begin with equal weights. The rows compare their losses.
fn training(limit: Duration) -> Result<()> {
    let images = Tensor::rand(0f32, 1.0, (64, 1, 32, 32), &Device::Cpu)?;
    let labels = Tensor::from_iter((0..64u32).map(|index| index % 10), &Device::Cpu)?;
    let constants = constants(ours::lenet::LeNet::new)?;
    let [(mine, ours), (their, theirs)] = [variables(&constants)?, variables(&constants)?];
    let ours_net = ours::lenet::LeNet::new(&ours)?;
    let theirs_net = theirs::lenet::LeNet::new(&theirs)?;
    let mut optimizers = [SGD::new(mine.all_vars(), 0.01)?, SGD::new(their.all_vars(), 0.01)?];
    let step = |net: &dyn Module, optimizer: &mut SGD| {
        let loss = candle_nn::loss::cross_entropy(&net.forward(&images)?, &labels)?;
        optimizer.backward_step(&loss)?;
        loss.detach().reshape(1)
    };
    let [first, second] = &mut optimizers;
    row(
        "LeNet-5 training step, batch 64".to_owned(),
        limit,
        || step(&ours_net, first),
        || step(&theirs_net, second),
    )?;
    Ok(())
}

/// Variables with the values of `constants`.
fn variables(constants: &VarBuilder<'static>) -> Result<(VarMap, VarBuilder<'static>)> {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    ours::lenet::LeNet::new(&vb)?;
    let mut data = map.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (name, var) in data.iter_mut() {
        var.set(&constants.get(var.dims(), name)?)?;
    }
    drop(data);
    Ok((map, vb))
}
