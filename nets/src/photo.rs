//! Photographs as inputs of ImageNet networks: the shorter side is resized, the middle is cropped, and each
//! colour is normalised.

use crate::decode::{self, resized};
use crate::error::{NetError, PictureError};
use kernels::Size2;
use std::path::Path;

/// How a photograph becomes an input of a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// The shorter side after resizing, in pixels. Resizing is bilinear and averages over all source pixels
    /// when it shrinks.
    pub resize: usize,
    /// The size that is cropped from the middle, at most `resize` on each side.
    pub crop: Size2,
    /// The mean that is subtracted from each colour (red, green, blue), where colours are 0 to 1.
    pub mean: [f32; 3],
    /// The standard deviation by which each colour is then divided.
    pub std: [f32; 3],
}

impl Recipe {
    /// The recipe of torchvision's classifiers for inputs of `crop`. The shorter side is resized to 256/224
    /// of the longer side of `crop`. Mean and deviation are those of ImageNet.
    pub fn imagenet(crop: Size2) -> Self {
        let resize = (crop.h.max(crop.w) as f64 * 256.0 / 224.0).round() as usize;
        Self { resize, crop, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
    }

    fn check(&self) -> Result<(), NetError> {
        let option = |option, expected: String, got: String| NetError::Option { option, expected, got };
        let longer = self.crop.h.max(self.crop.w);
        if self.resize < longer || self.resize > MOST {
            let expected = format!("{longer} (the longer side of the input) to {MOST}");
            return Err(option("resize", expected, self.resize.to_string()));
        }
        match self.std.iter().all(|&std| std > 0.0 && std.is_finite()) {
            true => Ok(()),
            false => Err(option("std", "numbers above 0".to_owned(), format!("{:?}", self.std))),
        }
    }
}

/// Maximum number of pixels of a side after resizing.
const MOST: usize = 1 << 14;

/// Reads a picture file as `3 x crop.h x crop.w` numbers in NCHW order, red first.
///
/// # Errors
/// - [`NetError::Io`] if the file cannot be read.
/// - [`NetError::Picture`] if it is not a picture, or its sides differ too much.
/// - [`NetError::Option`] for an invalid recipe.
pub fn load(path: &Path, recipe: &Recipe) -> Result<Vec<f32>, NetError> {
    let bytes = std::fs::read(path);
    let bytes = bytes.map_err(|cause| NetError::Io { action: "read", path: path.to_owned(), cause })?;
    from_bytes(&bytes, &path.display().to_string(), recipe)
}

/// Like [`load`], from the bytes of a file. Errors name the bytes by `origin`.
///
/// # Errors
/// The errors of [`load`], except [`NetError::Io`].
pub fn from_bytes(bytes: &[u8], origin: &str, recipe: &Recipe) -> Result<Vec<f32>, NetError> {
    recipe.check()?;
    let damaged = |reason: String| PictureError::Decode { origin: origin.to_owned(), reason };
    let picture = decode::picture(bytes).map_err(damaged)?;
    let from = Size2::new(picture.height, picture.width);
    let scale = recipe.resize as f64 / from.h.min(from.w) as f64;
    let side = |side: usize| ((side as f64 * scale) as usize).max(recipe.resize);
    let to = Size2::new(side(from.h), side(from.w));
    if to.h.max(to.w) > MOST {
        return Err(damaged(format!("one that would be {}x{} pixels after resizing", to.w, to.h)).into());
    }
    let Size2 { h, w } = recipe.crop;
    let (left, top) = ((to.w - w).div_ceil(2), (to.h - h).div_ceil(2));
    let mut planes = Vec::with_capacity(3 * h * w);
    for colour in 0..3 {
        let (mean, std) = (recipe.mean[colour], recipe.std[colour]);
        let plane = resized(from, |x, y| f32::from(picture.rgb(x, y)[colour]), to);
        for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
            // Levels are rounded to whole numbers, because the training of the networks resized bytes.
            planes.push((plane.at(left + x, top + y).round() / 255.0 - mean) / std);
        }
    }
    Ok(planes)
}
