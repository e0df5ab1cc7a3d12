//! `nets conv`: explains how one convolution would be computed. It runs nothing and limits allocations.

use super::args::{self, Kernels};
use super::text::thousands;
use clap::Args;
use kernels::{ConvDesc, ConvPlan, Layout, Method, Pad2, PlanOptions, Shape4, Size2, Weights};
use nets::{MEMORY_LIMIT, NetError};
use std::fmt::Write as _;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  nets conv --input 1x32x112x112 --out 64 --kernel 3 --stride 2 --pad same --groups 32"
)]
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
        check_memory(&desc)?;
        let mut options = PlanOptions::default().numerics(self.kernels.numerics);
        options.isa = self.kernels.isa;
        if let Some(method) = self.force {
            options = options.force(method);
        }
        // The choice does not depend on the values of the weights.
        let plan = ConvPlan::new(&desc, Weights::filter(&vec![0.0; desc.filter_len()]), &options)?;
        let cost = desc.cost();
        let mut out = plan.explain().to_string();
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
        Ok(out)
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

/// Checks input, output and packed filter against the limit, although only the filter is allocated.
fn check_memory(desc: &ConvDesc) -> Result<(), NetError> {
    let tensor = |shape: Shape4| shape.len(desc.layout()).map(|len| len as u64);
    // Upper bounds: packing pads output channels by at most 128 per group, and taps to a multiple of 16.
    let taps = desc.filter_len() / desc.output().c;
    let channels = desc.output().c as u64 + 128 * desc.groups() as u64;
    let filter = channels.saturating_mul(taps as u64 + 15);
    for (what, len) in
        [("input", tensor(desc.input())?), ("output", tensor(desc.output())?), ("filter", filter)]
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
