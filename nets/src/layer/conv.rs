//! Layers that multiply by trained weights: convolutions and fully connected layers.

use super::param::{Param, product};
use crate::error::LayerError;
use crate::shape::Shape;
use kernels::{Activation, ConvDesc, ConvError, EpilogueSpec, Layout, Pad2, Shape4, Size2, TransposedDesc};

/// The attributes of a convolution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv {
    /// Number of output feature maps.
    pub out_channels: usize,
    /// Extents of the kernel.
    pub kernel: Size2,
    /// Input elements between neighbouring outputs.
    pub stride: Size2,
    /// Zero padding around the input.
    pub pad: Pad2,
    /// Input elements between neighbouring taps.
    pub dilation: Size2,
    /// Number of channel groups.
    pub groups: usize,
    /// Whether there is a bias: one trained number per feature map.
    pub bias: bool,
}

/// A convolution in which each output map reads only some input maps, as in C3 of LeNet-5.
///
/// The filter contains only connected pairs of maps: `[connections, kh, kw]`, ordered by output map and then
/// by input map.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseConv {
    /// Kernel, stride and padding. `out_channels` is the length of the table, and `groups` is 1.
    pub conv: Conv,
    /// For each output map, the input maps that it reads, in ascending order.
    pub table: Vec<Vec<usize>>,
}

/// The attributes of a transposed convolution, also called deconvolution. Its weights are
/// `[in, out / groups, kh, kw]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvTranspose {
    /// Number of output feature maps.
    pub out_channels: usize,
    /// Extents of the kernel.
    pub kernel: Size2,
    /// Output elements between neighbouring inputs.
    pub stride: Size2,
    /// Elements removed from each side of the output.
    pub pad: Pad2,
    /// Rows added at the bottom and columns added at the right of the output.
    pub output_pad: Size2,
    /// Output elements between neighbouring taps.
    pub dilation: Size2,
    /// Number of channel groups.
    pub groups: usize,
    /// Whether there is a bias: one trained number per feature map.
    pub bias: bool,
}

/// The attributes of a fully connected layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linear {
    /// Number of output elements.
    pub out_features: usize,
    /// Whether there is a bias: one trained number per output element.
    pub bias: bool,
}

impl Conv {
    /// A convolution with a square kernel, stride 1, no padding, and a bias.
    pub const fn new(out_channels: usize, kernel: usize) -> Self {
        let (kernel, one) = (Size2::square(kernel), Size2::square(1));
        Self { out_channels, kernel, stride: one, pad: Pad2::VALID, dilation: one, groups: 1, bias: true }
    }

    /// Sets the same stride on both axes.
    pub const fn stride(self, stride: usize) -> Self {
        Self { stride: Size2::square(stride), ..self }
    }

    /// Sets the same padding on all sides.
    pub const fn pad(self, pad: usize) -> Self {
        Self { pad: Pad2::all(pad), ..self }
    }

    /// Sets the number of channel groups.
    pub const fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Removes the bias, for example before batch normalisation.
    pub const fn no_bias(self) -> Self {
        Self { bias: false, ..self }
    }

    /// Describes this layer for the kernels, on an input of shape `input`. The epilogue is the bias and `activation`.
    ///
    /// # Errors
    /// Those of [`kernels::ConvDescBuilder::build`].
    pub fn desc(&self, input: Shape4, layout: Layout, activation: Activation) -> Result<ConvDesc, ConvError> {
        let epilogue = EpilogueSpec { bias: self.bias, residual: false, activation };
        self.desc_with(input, (layout, layout), epilogue)
    }

    /// [`desc`](Self::desc) with separate input and output layouts and a complete epilogue.
    pub(crate) fn desc_with(
        &self,
        input: Shape4,
        (layout, output_layout): (Layout, Layout),
        epilogue: EpilogueSpec,
    ) -> Result<ConvDesc, ConvError> {
        ConvDesc::builder(input, self.out_channels, self.kernel)
            .stride(self.stride)
            .pad(self.pad)
            .dilation(self.dilation)
            .groups(self.groups)
            .layout(layout)
            .output_layout(output_layout)
            .epilogue(epilogue)
            .build()
    }

    pub(super) fn output(&self, input: Shape4) -> Result<Shape, LayerError> {
        Ok(self.desc(input, Layout::Nchw, Activation::None)?.output().into())
    }

    pub(super) fn params(&self, in_channels: usize) -> Vec<Param> {
        let (Size2 { h, w }, outputs) = (self.kernel, self.out_channels);
        let (inputs, taps) = (in_channels / self.groups, h as f64 * w as f64);
        let fan_out = outputs as f64 / self.groups as f64 * taps;
        let weight = Param::weight(vec![outputs, inputs, h, w], inputs as f64 * taps, fan_out);
        with_bias(weight, self.bias, outputs)
    }

    pub(super) fn macs(&self, in_channels: usize, output: Shape) -> Option<u64> {
        let per_output = product(&[in_channels / self.groups, self.kernel.h, self.kernel.w])?;
        product(&output.dims())?.checked_mul(per_output)
    }
}

impl SparseConv {
    /// Number of connected pairs of maps.
    pub fn connections(&self) -> usize {
        self.table.iter().map(Vec::len).sum()
    }

    /// The filter of the equivalent dense convolution, with zeros for pairs that are not connected.
    pub(crate) fn dense(&self, sparse: &[f32], in_channels: usize) -> Vec<f32> {
        let taps = self.conv.kernel.h * self.conv.kernel.w;
        let mut dense = vec![0.0; self.table.len() * in_channels * taps];
        self.scatter(sparse, in_channels, &mut dense);
        dense
    }

    /// Writes the kernels of connected pairs to their places in a dense filter.
    pub(crate) fn scatter(&self, sparse: &[f32], in_channels: usize, dense: &mut [f32]) {
        let taps = self.conv.kernel.h * self.conv.kernel.w;
        for (pair, kernel) in self.pairs(in_channels).zip(sparse.chunks_exact(taps)) {
            dense[pair * taps..][..taps].copy_from_slice(kernel);
        }
    }

    /// Reads the kernels of connected pairs from a dense filter.
    pub(crate) fn gather(&self, dense: &[f32], in_channels: usize, sparse: &mut [f32]) {
        let taps = self.conv.kernel.h * self.conv.kernel.w;
        for (pair, kernel) in self.pairs(in_channels).zip(sparse.chunks_exact_mut(taps)) {
            kernel.copy_from_slice(&dense[pair * taps..][..taps]);
        }
    }

    /// The numbers of the connected pairs among all pairs of maps.
    fn pairs(&self, in_channels: usize) -> impl Iterator<Item = usize> {
        self.table.iter().enumerate().flat_map(move |(o, row)| row.iter().map(move |&i| o * in_channels + i))
    }

    pub(super) fn output(&self, input: Shape4) -> Result<Shape, LayerError> {
        let maps = self.table.len();
        if maps != self.conv.out_channels || self.conv.groups != 1 {
            return Err(invalid("table", format!("{} rows and 1 group", self.conv.out_channels), maps));
        }
        for row in &self.table {
            if row.is_empty()
                || row.windows(2).any(|pair| pair[0] >= pair[1])
                || row[row.len() - 1] >= input.c
            {
                let expected = format!("ascending numbers of the {} input maps", input.c);
                return Err(invalid("table", expected, format!("{row:?}")));
            }
        }
        self.conv.output(input)
    }

    pub(super) fn params(&self) -> Vec<Param> {
        let (Size2 { h, w }, outputs) = (self.conv.kernel, self.conv.out_channels);
        let fan_in = self.connections() as f64 / outputs as f64 * h as f64 * w as f64;
        let weight = Param::weight(vec![self.connections(), h, w], fan_in, fan_in);
        with_bias(weight, self.conv.bias, outputs)
    }

    pub(super) fn macs(&self, output: Shape) -> Option<u64> {
        let Size2 { h, w } = output.batched(1).size();
        product(&[self.connections(), self.conv.kernel.h, self.conv.kernel.w, h, w])
    }
}

impl ConvTranspose {
    /// A transposed convolution with a square kernel, no padding, and a bias.
    pub const fn new(out_channels: usize, kernel: usize, stride: usize) -> Self {
        Self {
            out_channels,
            kernel: Size2::square(kernel),
            stride: Size2::square(stride),
            pad: Pad2::VALID,
            output_pad: Size2::square(0),
            dilation: Size2::square(1),
            groups: 1,
            bias: true,
        }
    }

    /// Describes this layer for the kernels, on an input of shape `input`. The epilogue is the bias.
    ///
    /// # Errors
    /// Those of [`kernels::TransposedDescBuilder::build`].
    pub fn desc(&self, input: Shape4, layout: Layout) -> Result<TransposedDesc, ConvError> {
        TransposedDesc::builder(input, self.out_channels, self.kernel)
            .stride(self.stride)
            .pad(self.pad)
            .output_pad(self.output_pad)
            .dilation(self.dilation)
            .groups(self.groups)
            .layout(layout)
            .epilogue(EpilogueSpec { bias: self.bias, residual: false, activation: Activation::None })
            .build()
    }

    pub(super) fn output(&self, input: Shape4) -> Result<Shape, LayerError> {
        if self.groups == 0
            || !input.c.is_multiple_of(self.groups)
            || !self.out_channels.is_multiple_of(self.groups)
        {
            let expected = format!("a divisor of {} and {} channels", input.c, self.out_channels);
            return Err(invalid("groups", expected, self.groups));
        }
        let (k, s, d, p) = (self.kernel, self.stride, self.dilation, self.pad);
        let h = transposed("height", [input.h, k.h, s.h, d.h], p.top, p.bottom, self.output_pad.h)?;
        let w = transposed("width", [input.w, k.w, s.w, d.w], p.left, p.right, self.output_pad.w)?;
        let output = Shape::map(self.out_channels, h, w);
        output.len()?;
        if output.is_empty() {
            return Err(invalid("out_channels", "at least 1", self.out_channels));
        }
        Ok(output)
    }

    pub(super) fn params(&self, in_channels: usize) -> Vec<Param> {
        let (Size2 { h, w }, outputs) = (self.kernel, self.out_channels / self.groups);
        let taps = h as f64 * w as f64;
        let fan_in = in_channels as f64 / self.groups as f64 * taps;
        let weight = Param::weight(vec![in_channels, outputs, h, w], fan_in, outputs as f64 * taps);
        with_bias(weight, self.bias, self.out_channels)
    }

    /// Every input element is multiplied by every tap of every output map of its group, even if the product
    /// is cut off.
    pub(super) fn macs(&self, input: Shape) -> Option<u64> {
        let per_input = product(&[self.out_channels / self.groups, self.kernel.h, self.kernel.w])?;
        product(&input.dims())?.checked_mul(per_input)
    }
}

/// The output extent: `(in - 1) * stride + dilation * (k - 1) + 1 + output_pad - before - after`.
fn transposed(
    axis: &'static str,
    [input, kernel, stride, dilation]: [usize; 4],
    before: usize,
    after: usize,
    output_pad: usize,
) -> Result<usize, LayerError> {
    if [kernel, stride, dilation].contains(&0) {
        return Err(invalid("kernel, stride and dilation", "at least 1", 0));
    }
    let reach =
        dilation.checked_mul(kernel - 1).and_then(|reach| reach.checked_add(output_pad)?.checked_add(1));
    let full = input.saturating_sub(1).checked_mul(stride).zip(reach).and_then(|(a, b)| a.checked_add(b));
    let full = full.ok_or(ConvError::SizeOverflow { what: "output" })?;
    let cut = before.saturating_add(after);
    match full.checked_sub(cut) {
        Some(extent) if extent > 0 => Ok(extent),
        _ => Err(invalid(axis, format!("padding below the {full} elements of the output"), cut)),
    }
}

impl Linear {
    /// A fully connected layer with a bias.
    pub const fn new(out_features: usize) -> Self {
        Self { out_features, bias: true }
    }

    /// Removes the bias.
    pub const fn no_bias(self) -> Self {
        Self { bias: false, ..self }
    }

    pub(super) fn output(&self) -> Result<Shape, LayerError> {
        let output = Shape::vector(self.out_features);
        output.len()?;
        if output.is_empty() {
            return Err(invalid("out_features", "at least 1", 0));
        }
        Ok(output)
    }

    pub(super) fn params(&self, inputs: usize) -> Vec<Param> {
        let outputs = self.out_features;
        let weight = Param::weight(vec![outputs, inputs], inputs as f64, outputs as f64);
        with_bias(weight, self.bias, outputs)
    }
}

fn with_bias(weight: Param, bias: bool, len: usize) -> Vec<Param> {
    [Some(weight), bias.then(|| Param::bias(len))].into_iter().flatten().collect()
}

pub(super) fn invalid(field: &'static str, expected: impl Into<String>, got: impl ToString) -> LayerError {
    ConvError::InvalidField { field, expected: expected.into(), got: got.to_string() }.into()
}
