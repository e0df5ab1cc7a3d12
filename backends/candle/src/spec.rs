//! [`Spec`]: the parameters of a layer, and [`Problem`]: a layer with the extents of one call, checked.

use crate::plans::Desc;
use candle_core::conv::CudnnFwdAlgo;
use candle_core::{Error, Result, bail};
use kernels::{
    ConvDesc, ConvDescBuilder, ConvError, EpilogueSpec, Layout, Pad2, Shape4, Size2, TransposedDesc,
};

/// Number of spatial axes. A 1-D convolution runs as a 2-D one of height 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    One,
    Two,
}

/// The parameters of a convolution, in the form of candle's configurations: one number for both axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) rank: Rank,
    pub(crate) transposed: bool,
    pub(crate) padding: usize,
    /// Only of a transposed convolution.
    pub(crate) output_padding: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) groups: usize,
    /// Only of an ordinary convolution on a GPU, which candle computes.
    pub(crate) cudnn_fwd_algo: Option<CudnnFwdAlgo>,
}

/// The extents of one call. They fit together, and the output is not empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Problem {
    pub(crate) spec: Spec,
    pub(crate) input: Shape4,
    pub(crate) kernel: Size2,
    pub(crate) output: Shape4,
}

/// Passes the words of the library on.
pub(crate) fn failed(error: ConvError) -> Error {
    Error::wrap(error)
}

impl Spec {
    /// `value` along the spatial axes, and `neutral` along the height of a 1-D convolution.
    pub(crate) fn size(&self, value: usize, neutral: usize) -> Size2 {
        match self.rank {
            Rank::One => Size2::new(neutral, value),
            Rank::Two => Size2::square(value),
        }
    }

    /// The dimensions `[N, C, H, W]` or `[N, C, L]`.
    pub(crate) fn shape(&self, what: &str, dims: &[usize]) -> Result<Shape4> {
        match (self.rank, dims) {
            (Rank::One, &[n, c, l]) => Ok(Shape4::new(n, c, 1, l)),
            (Rank::Two, &[n, c, h, w]) => Ok(Shape4::new(n, c, h, w)),
            (Rank::One, _) => bail!("{what}: expected 3 dimensions, got {}: {dims:?}", dims.len()),
            (Rank::Two, _) => bail!("{what}: expected 4 dimensions, got {}: {dims:?}", dims.len()),
        }
    }

    /// The inverse of [`shape`](Self::shape).
    pub(crate) fn dims(&self, shape: Shape4) -> Vec<usize> {
        match self.rank {
            Rank::One => vec![shape.n, shape.c, shape.w],
            Rank::Two => vec![shape.n, shape.c, shape.h, shape.w],
        }
    }

    /// Starts the description of an ordinary convolution with these parameters.
    pub(crate) fn desc(&self, input: Shape4, out_channels: usize, kernel: Size2) -> ConvDescBuilder {
        let pad = self.size(self.padding, 0);
        ConvDesc::builder(input, out_channels, kernel)
            .stride(self.size(self.stride, 1))
            .pad(Pad2::symmetric(pad.h, pad.w))
            .dilation(self.size(self.dilation, 1))
            .groups(self.groups)
    }
}

impl Problem {
    /// Checks that an input and a weight of these dimensions fit together.
    pub(crate) fn new(spec: Spec, input: &[usize], weight: &[usize]) -> Result<Self> {
        let input = spec.shape("input", input)?;
        let weight = spec.shape("weight", weight)?;
        let kernel = weight.size();
        let (into, ours) = if spec.transposed {
            (weight.n, "the input channels of the kernel")
        } else {
            (weight.c.saturating_mul(spec.groups), "the input channels of the kernel, all groups together")
        };
        if input.c != into {
            bail!("input channels: expected {into}, {ours}, got {}", input.c);
        }
        // An empty batch is valid in candle, so it is checked as if it had one image.
        let image = Shape4 { n: input.n.max(1), ..input };
        let output = if spec.transposed {
            transposed_output(&spec, image, weight)?
        } else {
            spec.desc(image, weight.n, kernel).build().map_err(failed)?.output()
        };
        Ok(Self { spec, input, kernel, output: Shape4 { n: input.n, ..output } })
    }

    /// What the library computes for an input in `layout`.
    pub(crate) fn desc(&self, layout: Layout, epilogue: EpilogueSpec) -> Result<Desc> {
        let Self { spec, input, kernel, output } = *self;
        if !spec.transposed {
            let desc = spec.desc(input, output.c, kernel).layout(layout).epilogue(epilogue).build();
            return desc.map(Desc::Ordinary).map_err(failed);
        }
        let Spec { padding, output_padding, .. } = spec;
        // Rows that are added at the end, and rows that are cut there, cancel.
        let (before, after) = (spec.size(padding, 0), spec.size(padding.saturating_sub(output_padding), 0));
        let desc = TransposedDesc::builder(input, output.c, kernel)
            .stride(spec.size(spec.stride, 1))
            .pad(Pad2 { top: before.h, bottom: after.h, left: before.w, right: after.w })
            .output_pad(spec.size(output_padding.saturating_sub(padding), 0))
            .dilation(spec.size(spec.dilation, 1))
            .groups(spec.groups)
            .layout(layout)
            .epilogue(epilogue)
            .build();
        desc.map(Desc::Transposed).map_err(failed)
    }

    /// Rows of output padding that the library's transposed convolution does not take: it takes fewer than a stride
    /// or a dilation. No tap reaches them.
    pub(crate) fn excess(&self) -> usize {
        let Spec { transposed, padding, output_padding, stride, dilation, .. } = self.spec;
        if transposed { output_padding.saturating_sub(padding + stride.max(dilation) - 1) } else { 0 }
    }

    /// The ordinary convolution whose gradients are those of this layer. A transposed convolution is the gradient of
    /// an ordinary one from its output to its input. The input of the result has only those last rows and columns
    /// of this output that a tap reaches, where its extents would otherwise belong to more positions of the kernel.
    pub(crate) fn ordinary(&self) -> Result<ConvDesc> {
        let Self { spec, input, kernel, output } = *self;
        if !spec.transposed {
            return spec.desc(input, output.c, kernel).build().map_err(failed);
        }
        let [stride, dilation] = [spec.stride, spec.dilation].map(|value| spec.size(value, 1));
        let before = spec.size(spec.padding, 0);
        // `desc` has checked the extents, so nothing overflows, and some outputs are reached.
        let reached = |inputs: usize, taps: usize, stride: usize, dilation: usize, before: usize| {
            ((inputs - 1) * stride + (taps - 1) * dilation + 1).saturating_sub(before)
        };
        let h = reached(input.h, kernel.h, stride.h, dilation.h, before.h);
        let w = reached(input.w, kernel.w, stride.w, dilation.w, before.w);
        let extent = |reached: usize, outputs: usize, stride: usize| {
            if outputs >= reached + stride { reached } else { outputs }
        };
        let large = Shape4 { h: extent(h, output.h, stride.h), w: extent(w, output.w, stride.w), ..output };
        let pad = Pad2 {
            top: before.h,
            bottom: h.saturating_sub(output.h),
            left: before.w,
            right: w.saturating_sub(output.w),
        };
        spec.desc(large, input.c, kernel).pad(pad).build().map_err(failed)
    }

    /// The dimensions of the output.
    pub(crate) fn output_dims(&self) -> Vec<usize> {
        self.spec.dims(self.output)
    }
}

/// The output shape of a transposed convolution.
fn transposed_output(spec: &Spec, input: Shape4, weight: Shape4) -> Result<Shape4> {
    let Spec { stride, dilation, groups, .. } = *spec;
    let positive = [
        ("input channels", input.c),
        ("input height", input.h),
        ("input width", input.w),
        ("output channels", weight.c),
        ("kernel height", weight.h),
        ("kernel width", weight.w),
        ("stride", stride),
        ("dilation", dilation),
        ("groups", groups),
    ];
    if let Some((what, _)) = positive.iter().find(|(_, value)| *value == 0) {
        bail!("{what}: expected at least 1, got 0");
    }
    if !input.c.is_multiple_of(groups) {
        bail!("groups: expected a divisor of the {} input channels, got {groups}", input.c);
    }
    let too_large = || failed(ConvError::SizeOverflow { what: "output" });
    let extent = |length: usize, k: usize| {
        let steps = (length - 1).checked_mul(stride)?;
        let reach = (k - 1).checked_mul(dilation)?;
        steps.checked_add(reach)?.checked_add(spec.output_padding)?.checked_add(1)
    };
    let crop = |axis: &str, length: usize| match length.checked_sub(spec.padding.saturating_mul(2)) {
        Some(rest) if rest > 0 => Ok(rest),
        _ => bail!(
            "padding: expected less than half of the {axis}, {length} before it is cropped, got {}",
            spec.padding
        ),
    };
    let h = match spec.rank {
        Rank::One => 1,
        Rank::Two => crop("output height", extent(input.h, weight.h).ok_or_else(too_large)?)?,
    };
    let w = crop("output width", extent(input.w, weight.w).ok_or_else(too_large)?)?;
    let channels = weight.c.checked_mul(groups).ok_or_else(too_large)?;
    let output = Shape4::new(input.n, channels, h, w);
    output.len(kernels::Layout::Nchw).map_err(failed)?;
    Ok(output)
}
