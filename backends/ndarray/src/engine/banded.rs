//! Passes of a column or a row as products with a banded matrix.
//!
//! A pass of K taps over one channel offers little to a register tile: each output needs K loads. Seen as a
//! convolution with many channels, the same memory offers more, although part of the products is zero:
//!
//! ```text
//! column:  rows of the image are channels, 1x1:       output[r] = sum over s of band[r][s] * input[s]
//! row:     B adjacent pixels are B channels (NHWC),   output[b] = sum over t of band[t] * input[b + t]
//!          a kernel of few blocks:
//! ```
//!
//! The library's estimates decide whether this is faster.

use super::Kernel;
use crate::memory::{plan, plan_with, reserved};
use kernels::{ConvDesc, ConvError, ConvPlan, Layout, Numerics, Pad2, PlanOptions, Shape4, Size2, Weights};

/// Pixels of a block: multiples of a quarter of the longest vector.
const BLOCKS: [usize; 7] = [16, 20, 24, 32, 40, 48, 64];
/// Maximum elements of a band: a quarter of the second-level cache of most cores.
const MOST_ELEMENTS: usize = 64 << 10;
/// A banded pass must take at most this fraction of the other pass's estimated time.
const WORTH: f64 = 0.8;

/// Plans the convolution `desc` of one channel with `kernel`. The plan's input and output can have other
/// shapes than in `desc`, but they are the same memory.
pub(super) fn plan_pass(kernel: &Kernel, desc: &ConvDesc, threads: usize) -> Result<ConvPlan, ConvError> {
    let mut best = (WORTH * seconds(desc, &PlanOptions::default())?, None);
    for band in Band::all(desc) {
        let desc = band.desc(desc)?;
        let seconds = seconds(&desc, &options())?;
        if seconds < best.0 {
            best = (seconds, Some((band, desc)));
        }
    }
    match best.1 {
        None => plan(&kernel.filter, desc, threads),
        Some((band, banded)) => {
            let weights = band.weights(&kernel.weights, desc, &banded)?;
            plan_with(Weights::filter(&weights), &banded, &options(), threads)
        }
    }
}

/// The options of a banded pass. Transforms would spread errors, and infinities, to outputs that do not depend on them.
fn options() -> PlanOptions {
    PlanOptions::default().numerics(Numerics::Strict)
}

/// The estimated time on one thread.
fn seconds(desc: &ConvDesc, options: &PlanOptions) -> Result<f64, ConvError> {
    let choice = ConvPlan::choice(desc, options)?;
    Ok(choice.candidate().map_or(f64::INFINITY, |candidate| candidate.estimate.seconds))
}

/// Which adjacent elements are channels.
enum Band {
    Rows,
    Blocks {
        /// Pixels of a block.
        size: usize,
        /// Blocks that the outputs of a block read before it and after it.
        before: usize,
        after: usize,
    },
}

impl Band {
    /// The bands that can compute `desc`, a convolution of one packed channel with stride 1.
    fn all(desc: &ConvDesc) -> Vec<Self> {
        let (input, output, kernel, pad) = (desc.input(), desc.output(), desc.kernel(), desc.pad());
        let mut bands = Vec::new();
        if kernel.w == 1 && kernel.h > 1 && pad.is_zero() && input.h.saturating_mul(output.h) <= MOST_ELEMENTS
        {
            bands.push(Self::Rows);
        }
        if kernel.h == 1 && kernel.w > 1 && input.w == output.w {
            let after = desc.dilation().w * (kernel.w - 1) - pad.left;
            for size in BLOCKS.into_iter().filter(|size| input.w.is_multiple_of(*size)) {
                let (before, after) = (pad.left.div_ceil(size), after.div_ceil(size));
                if (before + 1 + after).saturating_mul(size * size) <= MOST_ELEMENTS {
                    bands.push(Self::Blocks { size, before, after });
                }
            }
        }
        bands
    }

    fn desc(&self, desc: &ConvDesc) -> Result<ConvDesc, ConvError> {
        let (Shape4 { h, w, .. }, output) = (desc.input(), desc.output());
        match *self {
            Self::Rows => ConvDesc::builder(Shape4::new(1, h, 1, w), output.h, Size2::square(1)).build(),
            Self::Blocks { size, before, after } => {
                let blocks = Shape4::new(1, size, h, w / size);
                ConvDesc::builder(blocks, size, Size2::new(1, before + 1 + after))
                    .pad(Pad2 { left: before, right: after, ..Pad2::VALID })
                    .layout(Layout::Nhwc)
                    .build()
            }
        }
    }

    /// The band's filter in OIHW order: the kernel's weights, and zeros beside them.
    fn weights(&self, kernel: &[f32], desc: &ConvDesc, banded: &ConvDesc) -> Result<Vec<f32>, ConvError> {
        // The weight that multiplies the input `distance` elements after the first one of the window.
        let at = |distance: Option<usize>, dilation: usize| {
            let tap = distance.filter(|distance| distance.is_multiple_of(dilation))? / dilation;
            kernel.get(tap).copied()
        };
        let (outs, ins, taps) = (banded.output().c, banded.input().c, banded.kernel().w);
        let mut weights = reserved("band", banded.filter_len())?;
        for o in 0..outs {
            for i in 0..ins {
                for t in 0..taps {
                    let weight = match *self {
                        Self::Rows => at(i.checked_sub(o), 1),
                        Self::Blocks { size, before, .. } => {
                            let input = size * t + i + desc.pad().left;
                            at(input.checked_sub(size * before + o), desc.dilation().w)
                        }
                    };
                    weights.push(weight.unwrap_or(0.0));
                }
            }
        }
        Ok(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::run_plan;
    use kernels::Threads;

    /// The output of every band, and of no band, for a kernel of one row or one column.
    fn outputs(desc: &ConvDesc) -> Vec<Vec<f32>> {
        let (size, input) = (desc.kernel(), desc.input());
        let numbers =
            |count: usize| (0..count).map(|n| (n * 37 % 101) as f32 / 50.0 - 1.0).collect::<Vec<_>>();
        let kernel = Kernel::new((size.h, size.w), numbers(size.h * size.w)).unwrap();
        let image = numbers(input.h * input.w);
        let run = |plan: ConvPlan| {
            let mut output = vec![f32::NAN; desc.output().h * desc.output().w];
            run_plan(&plan, &image, &mut output, (&mut None, Threads::Seq)).unwrap();
            output
        };
        let banded = Band::all(desc).into_iter().map(|band| {
            let banded = band.desc(desc).unwrap();
            let weights = band.weights(&kernel.weights, desc, &banded).unwrap();
            run(plan_with(Weights::filter(&weights), &banded, &options(), 1).unwrap())
        });
        std::iter::once(run(plan(&kernel.filter, desc, 1).unwrap())).chain(banded).collect()
    }

    fn assert_same(desc: ConvDesc, bands: usize) {
        let outputs = outputs(&desc);
        assert_eq!(outputs.len(), 1 + bands, "{desc}");
        for output in &outputs {
            // Weights and pixels are at most 1, so a sum of K products is off by less than K * K * eps.
            let most = (desc.kernel().h * desc.kernel().w).pow(2) as f32 * f32::EPSILON;
            let same = output.iter().zip(&outputs[0]).all(|(a, b)| (a - b).abs() <= most);
            assert!(same, "{desc}: {output:?}, expected {:?}", outputs[0]);
        }
    }

    #[test]
    fn every_band_computes_the_pass() {
        for taps in [2, 3, 15, 16, 17, 40] {
            let column = ConvDesc::builder(Shape4::new(1, 1, taps + 7, 33), 1, Size2::new(taps, 1));
            assert_same(column.build().unwrap(), 1);
            for left in [0, 1, taps / 2, taps - 1] {
                let pad = |lanes: usize| Pad2 {
                    left: left * lanes,
                    right: (taps - 1 - left) * lanes,
                    ..Pad2::VALID
                };
                let row = ConvDesc::builder(Shape4::new(1, 1, 3, 480), 1, Size2::new(1, taps));
                assert_same(row.pad(pad(1)).build().unwrap(), 6);
                assert_same(row.pad(pad(3)).dilation(Size2::new(1, 3)).build().unwrap(), 6);
            }
        }
        let odd =
            ConvDesc::builder(Shape4::new(1, 1, 3, 479), 1, Size2::new(1, 5)).pad(Pad2::symmetric(0, 2));
        assert_same(odd.build().unwrap(), 0);
    }
}
