//! `nets conv`: explains how one convolution would be computed, and times it on request. It limits allocations.

mod time;

use super::args::{self, Kernels, Pool};
use super::explain::ConvRow;
use super::text::thousands;
use super::timing::noise;
use clap::Args;
use kernels::{ConvDesc, ConvPlan, Layout, Method, Pad2, PlanOptions, Shape4, Size2, Weights};
use nets::{MEMORY_LIMIT, NetError};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;
use time::Timed;

const EXAMPLES: &str = "Examples:
  nets conv --input 1x32x112x112 --out 64 --kernel 3 --stride 2 --pad same --groups 32
  nets conv --input 1x64x56x56 --out 128 --kernel 3 --pad 1 --layout nchw16c --time --threads 2
  nets conv --input 1x64x56x56 --out 128 --kernel 3 --pad 1 --time --json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Conv {
    /// Shape of the input
    #[arg(long, value_name = "NxCxHxW", value_parser = args::shape4)]
    input: Shape4,
    /// Number of output channels
    #[arg(long, value_name = "O")]
    out: usize,
    /// Height and width of the kernel
    #[arg(long, value_name = "KHxKW", value_parser = args::size2)]
    kernel: Size2,
    /// Input elements between neighbouring outputs
    #[arg(long, value_name = "HxW", default_value = "1", value_parser = args::size2)]
    stride: Size2,
    /// Zero padding: P, PHxPW, top,left,bottom,right, or same
    #[arg(long, default_value = "0", value_parser = pad)]
    pad: Pad,
    /// Input elements between neighbouring kernel taps
    #[arg(long, value_name = "HxW", default_value = "1", value_parser = args::size2)]
    dilation: Size2,
    /// Number of channel groups
    #[arg(long, value_name = "G", default_value_t = 1)]
    groups: usize,
    /// Memory layout: nchw, nhwc or nchw16c
    #[arg(long, default_value = "nchw")]
    layout: Layout,
    #[command(flatten)]
    kernels: Kernels,
    /// Use this algorithm, also with products as in direct+bf16x3, or report why it cannot be used
    #[arg(long, value_name = "METHOD")]
    force: Option<Method>,
    /// Number of threads to plan for, and to run with --time
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// Also run the convolution on noise, and print its time, GFLOP/s and percent of the roof
    #[arg(long)]
    time: bool,
    /// How long --time goes on, at least five rounds
    #[arg(long, value_name = "S", default_value = "1", value_parser = args::seconds, requires = "time")]
    seconds: Duration,
    /// Print a JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The JSON object.
#[derive(Serialize)]
struct ConvObject<'a> {
    #[serde(flatten)]
    plan: ConvRow<'a>,
    output: String,
    parameters: usize,
    flops: u64,
    min_bytes: u64,
    /// FLOPs per byte.
    intensity: f64,
    /// `null` without `--time`.
    time: Option<Timed>,
}

#[derive(Debug, Clone, Copy)]
enum Pad {
    Same,
    Sides(Pad2),
}

fn pad(text: &str) -> Result<Pad, String> {
    if text == "same" {
        return Ok(Pad::Same);
    }
    if let Ok(Size2 { h, w }) = args::size2(text) {
        return Ok(Pad::Sides(Pad2::symmetric(h, w)));
    }
    match args::numbers(text, ',')[..] {
        [Some(top), Some(left), Some(bottom), Some(right)] => {
            Ok(Pad::Sides(Pad2 { top, bottom, left, right }))
        }
        _ => Err(format!("expected P, PHxPW, top,left,bottom,right or same, got {text}")),
    }
}

impl Conv {
    pub(super) fn execute(&self) -> anyhow::Result<String> {
        let desc = self.desc()?;
        check_memory(&desc, self.time)?;
        let mut options =
            PlanOptions::default().numerics(self.kernels.numerics).max_threads(self.threads.into());
        options.isa = self.kernels.instructions.isa;
        if let Some(method) = self.force {
            options = options.force(method);
        }
        // The choice does not depend on the values of the weights, but the power that a run takes does.
        let filter: Vec<f32> = noise(desc.filter_len()).collect();
        let plan = ConvPlan::new(&desc, Weights::filter(&filter), &options)?;
        let timed = match self.time {
            true => Some(Timed::new(&plan, &Pool::new(self.threads.into())?, self.seconds)?),
            false => None,
        };
        if self.json { json(&plan, timed) } else { Ok(text(&plan, timed.as_ref())) }
    }

    fn desc(&self) -> anyhow::Result<ConvDesc> {
        let pad = match self.pad {
            Pad::Sides(pad) => pad,
            Pad::Same => Pad2::same_upper(self.input.size(), self.kernel, self.stride, self.dilation),
        };
        let builder = ConvDesc::builder(self.input, self.out, self.kernel).stride(self.stride).pad(pad);
        Ok(builder.dilation(self.dilation).groups(self.groups).layout(self.layout).build()?)
    }
}

fn text(plan: &ConvPlan, timed: Option<&Timed>) -> String {
    let (desc, cost) = (plan.desc(), plan.desc().cost());
    let mut out = plan.explain().to_string();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "  output    {}", desc.output());
    let _ = writeln!(
        out,
        "  cost      {} parameters, {} MACs, {} FLOPs, at least {} bytes: {:.1} FLOPs per byte",
        thousands(desc.filter_len() as u64),
        thousands(cost.macs),
        thousands(cost.flops),
        thousands(cost.min_bytes),
        cost.intensity()
    );
    out + &timed.map_or(String::new(), Timed::text)
}

fn json(plan: &ConvPlan, time: Option<Timed>) -> anyhow::Result<String> {
    let (desc, cost) = (plan.desc(), plan.desc().cost());
    let object = ConvObject {
        plan: ConvRow::new(None, plan.explain()),
        output: desc.output().to_string(),
        parameters: desc.filter_len(),
        flops: cost.flops,
        min_bytes: cost.min_bytes,
        intensity: cost.intensity(),
        time,
    };
    Ok(serde_json::to_string(&object)? + "\n")
}

/// Checks input, output and packed filter against the limit, each alone. Only the filter is allocated, unless the
/// convolution runs: then the sum must not exceed the limit, either.
fn check_memory(desc: &ConvDesc, runs: bool) -> Result<(), NetError> {
    let tensor = |shape: Shape4| shape.len(desc.layout()).map(|len| len as u64);
    // Upper bounds: packing pads output channels by at most 128 per group, and taps to a multiple of 16.
    let taps = desc.filter_len() / desc.output().c;
    let channels = desc.output().c as u64 + 128 * desc.groups() as u64;
    let filter = channels.saturating_mul(taps as u64 + 15);
    let (input, output) = (tensor(desc.input())?, tensor(desc.output())?);
    let all = if runs { input.saturating_add(output).saturating_add(filter) } else { 0 };
    for (what, len) in
        [("input", input), ("output", output), ("filter", filter), ("input, output and filter", all)]
    {
        let needed = len.saturating_mul(size_of::<f32>() as u64);
        if needed > MEMORY_LIMIT {
            return Err(NetError::TooLarge {
                what: format!("{what} of {desc}"),
                limit: MEMORY_LIMIT,
                needed,
            });
        }
    }
    Ok(())
}
