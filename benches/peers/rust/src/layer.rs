//! One layer as `shootout` describes it.

use anyhow::{Context, Result, ensure};
use std::fs;

/// Extents and data.
pub struct Layer {
    /// Images, channels, rows, columns.
    pub input_shape: [usize; 4],
    /// Output channels, input channels of a group, rows, columns.
    pub filter_shape: [usize; 4],
    pub stride: usize,
    pub pad: usize,
    pub dilation: usize,
    pub groups: usize,
    pub input: Vec<f32>,
    pub filter: Vec<f32>,
}

impl Layer {
    /// From `INPUT FILTER COLD n c h w o kh kw stride pad dilation groups`.
    pub fn parse(words: &[&str]) -> Result<Self> {
        let &[input, filter, ring, ref extents @ ..] = words else { anyhow::bail!("words are missing") };
        ensure!(ring == "0", "there is no ring for these engines");
        let extents = extents.iter().map(|word| word.parse()).collect::<Result<Vec<usize>, _>>()?;
        let &[n, c, h, w, o, kh, kw, stride, pad, dilation, groups] = &extents[..] else {
            anyhow::bail!("{} extents", extents.len())
        };
        let layer = Self {
            input_shape: [n, c, h, w],
            filter_shape: [o, c / groups, kh, kw],
            stride,
            pad,
            dilation,
            groups,
            input: read(input)?,
            filter: read(filter)?,
        };
        ensure!(layer.input.len() == n * c * h * w, "the input has {} elements", layer.input.len());
        Ok(layer)
    }
}

/// Raw `f32`.
pub fn read(file: &str) -> Result<Vec<f32>> {
    let bytes = fs::read(file).with_context(|| file.to_owned())?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect())
}
