//! Pictures in linear light: arrays of height, width and three channels.

use image::RgbImage;
use ndarray::{Array3, s};
use std::error::Error;
use std::path::Path;

pub fn read(file: &Path) -> Result<Array3<f32>, Box<dyn Error>> {
    let picture = image::open(file)?.into_rgb8();
    let (w, h) = (picture.width() as usize, picture.height() as usize);
    let linear = picture.into_raw().into_iter().map(|value| (f32::from(value) / 255.0).powf(2.2)).collect();
    Ok(Array3::from_shape_vec((h, w, 3), linear)?)
}

/// Pixels above 1 become white.
pub fn write(picture: &Array3<f32>, file: &Path) -> Result<(), Box<dyn Error>> {
    let (h, w, _) = picture.dim();
    let bytes = picture.iter().map(|&value| (value.clamp(0.0, 1.0).powf(1.0 / 2.2) * 255.0).round() as u8);
    let picture = RgbImage::from_raw(u32::try_from(w)?, u32::try_from(h)?, bytes.collect());
    Ok(picture.ok_or("too few pixels")?.save(file)?)
}

/// A street at night: an evening sky, lit windows, and lamps that are much brighter than white.
pub fn lights_at_night(h: usize, w: usize) -> Array3<f32> {
    let mut picture = Array3::from_shape_fn((h, w, 3), |(y, _, channel)| {
        let height = 1.0 - y as f32 / h as f32;
        [0.02 + 0.25 * (1.0 - height).powi(4), 0.02 + 0.1 * (1.0 - height).powi(3), 0.06 + 0.08 * height]
            [channel]
    });
    let mut state = 42u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let mut x = 0;
    while x < w {
        let (width, top) = (90 + random(120), h / 4 + random(h / 2));
        let end = (x + width).min(w);
        picture.slice_mut(s![top.., x..end, ..]).fill(0.01);
        for (row, column) in (top + 14..h.saturating_sub(40))
            .step_by(34)
            .flat_map(|row| (x + 12..end.saturating_sub(14)).step_by(26).map(move |column| (row, column)))
        {
            if random(3) > 0 {
                let warmth = 0.3 + random(60) as f32 / 100.0;
                for (channel, light) in [0.9, 0.65, warmth * 0.6].into_iter().enumerate() {
                    let window = s![row..(row + 18).min(h), column..column + 12, channel];
                    picture.slice_mut(window).fill(light * warmth);
                }
            }
        }
        x = end + 4;
    }
    for _ in 0..90 {
        let colour = [[1.0, 0.75, 0.35], [1.0, 0.15, 0.1], [0.2, 0.9, 0.45], [0.5, 0.7, 1.0]][random(4)];
        let (y, x) = (h / 3 + random(h * 2 / 3 - 3), random(w - 3));
        for (channel, light) in colour.into_iter().enumerate() {
            picture.slice_mut(s![y..y + 3, x..x + 3, channel]).fill(200.0 * light);
        }
    }
    picture
}
