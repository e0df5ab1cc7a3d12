//! One model source, compiled against `candle_nn` and against this crate: both outputs and both times.
//!
//! `cargo run --release -p convkernels-candle --example one_line`

mod models;

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use models::{ours, theirs};
use std::time::Instant;

fn main() -> Result<()> {
    let vb = weights()?;
    let image = Tensor::randn(0f32, 1.0, (1, 3, 224, 224), &Device::Cpu)?;
    let resnet = vb.pp("resnet");
    compare(
        "ResNet-18",
        &ours::resnet::ResNet18::new(&resnet)?,
        &theirs::resnet::ResNet18::new(&resnet)?,
        &image,
    )?;
    let yolo = vb.pp("yolo");
    compare("YOLO blocks", &ours::yolo::Yolo::new(&yolo)?, &theirs::yolo::Yolo::new(&yolo)?, &image)
}

/// Random weights as a file would provide them: tensors that are not variables, so that nothing needs a gradient.
fn weights() -> Result<VarBuilder<'static>> {
    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    ours::resnet::ResNet18::new(&vb.pp("resnet"))?;
    ours::yolo::Yolo::new(&vb.pp("yolo"))?;
    let data = variables.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let tensors = data.iter().map(|(name, var)| Ok((name.clone(), var.as_tensor().copy()?.detach())));
    Ok(VarBuilder::from_tensors(tensors.collect::<Result<_>>()?, DType::F32, &Device::Cpu))
}

/// Runs both networks in turns, and prints the shortest times.
fn compare(name: &str, ours: &dyn Module, theirs: &dyn Module, image: &Tensor) -> Result<()> {
    let (mut best, mut difference) = ([f64::INFINITY; 2], 0.0);
    for _ in 0..5 {
        let (with, with_time) = timed(ours, image)?;
        let (without, without_time) = timed(theirs, image)?;
        best = [best[0].min(with_time), best[1].min(without_time)];
        difference = relative(&with, &without)?;
    }
    let [with, without] = best;
    println!(
        "{name}: candle_nn {without:.1} ms, convkernels {with:.1} ms, {:.1} times as fast, relative difference {difference:.1e}",
        without / with
    );
    if difference > 1e-4 {
        candle_core::bail!("{name}: expected a relative difference of at most 1e-4, got {difference:e}");
    }
    Ok(())
}

fn timed(network: &dyn Module, image: &Tensor) -> Result<(Tensor, f64)> {
    let start = Instant::now();
    let output = network.forward(image)?;
    Ok((output, start.elapsed().as_secs_f64() * 1e3))
}

/// The norm of the difference, relative to the norm of the output.
fn relative(with: &Tensor, without: &Tensor) -> Result<f32> {
    let norm = |tensor: &Tensor| tensor.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>();
    Ok(norm(&(with.detach() - without.detach())?)? / norm(&without.detach())?)
}
