//! [`Augment`]: random changes of a picture that do not change its class.

use super::dataset::Frame;
use super::random::Random;
use std::fmt;
use std::str::FromStr;

/// Random changes of a picture. Zero leaves a picture as it is.
///
/// Flip, crop, scale, rotation and shear are one affine map of places, and the picture is resampled once (bilinear). What
/// comes from outside of the picture is black.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Augment {
    /// Whether half of the pictures are mirrored, left to right.
    pub flip: bool,
    /// The most pixels by which a picture is shifted along each axis. This is a random crop of the picture with a border
    /// of so many pixels.
    pub crop: f32,
    /// The size changes by a factor from `1 - scale` to `1 + scale`.
    pub scale: f32,
    /// The most degrees of a rotation, in both directions.
    pub rotate: f32,
    /// The most that a column moves per row, in both directions.
    pub shear: f32,
    /// Brightness, contrast and saturation change by factors from `1 - jitter` to `1 + jitter`.
    pub jitter: f32,
    /// The side in pixels of a square that becomes the mean (DeVries and Taylor 2017). Its centre can be at any pixel, so
    /// a part of it can be outside.
    pub cut_out: u32,
}

const NAMES: &str = "a list of flip, crop=PIXELS, scale=SHARE, rotate=DEGREES, shear=SHARE, jitter=SHARE and \
     cut-out=PIXELS, or none";

impl Augment {
    /// Changes that keep handwritten digits legible: no flips.
    pub const DIGITS: Self =
        Self { flip: false, crop: 2.0, scale: 0.12, rotate: 12.0, shear: 0.15, jitter: 0.0, cut_out: 0 };

    /// Whether nothing changes.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Changes a picture of numbers from 0 to 1. `scratch` has as many numbers.
    pub fn apply(&self, picture: &mut [f32], scratch: &mut [f32], frame: Frame, random: &mut Random) {
        if let Some(map) = self.draw(random) {
            scratch.copy_from_slice(picture);
            let planes = picture.chunks_exact_mut(frame.pixels()).zip(scratch.chunks_exact(frame.pixels()));
            planes.for_each(|(to, from)| map.resample(from, to, frame));
        }
        if self.jitter > 0.0 {
            jitter(picture, frame, [(); 3].map(|()| 1.0 + random.within(self.jitter)));
        }
    }

    /// Cuts a square out of a normalised picture, in which 0 is the mean.
    pub fn cut_out(&self, picture: &mut [f32], frame: Frame, random: &mut Random) {
        if self.cut_out == 0 {
            return;
        }
        let side = self.cut_out as usize;
        let mut range = |len: usize| {
            let centre = random.below(len);
            centre.saturating_sub(side / 2)..(centre + side.div_ceil(2)).min(len)
        };
        let (rows, columns) = (range(frame.size.h), range(frame.size.w));
        for plane in picture.chunks_exact_mut(frame.pixels()) {
            let rows = plane.chunks_exact_mut(frame.size.w).take(rows.end).skip(rows.start);
            rows.for_each(|row| row[columns.clone()].fill(0.0));
        }
    }

    /// Draws a map; `None` if none is asked for.
    fn draw(&self, random: &mut Random) -> Option<Map> {
        let is_plain = [self.crop, self.scale, self.rotate, self.shear].iter().all(|&most| most == 0.0);
        if is_plain && !self.flip {
            return None;
        }
        let mirror = if self.flip && random.unit() < 0.5 { -1.0 } else { 1.0 };
        let shift = [(); 2].map(|()| {
            let shift = random.within(self.crop);
            // Without other changes, whole pixels keep the picture sharp.
            if self.scale == 0.0 && self.rotate == 0.0 && self.shear == 0.0 { shift.round() } else { shift }
        });
        let size = 1.0 / (1.0 + random.within(self.scale));
        let angle = random.within(self.rotate).to_radians();
        let shear = random.within(self.shear);
        let (sin, cos) = (libm::sinf(angle), libm::cosf(angle));
        // From the place in the result to the place in the source: rotation, then shear, mirror and size.
        let x = [mirror * size * (cos + shear * sin), mirror * size * (shear * cos - sin)];
        let y = [size * sin, size * cos];
        Some(Map { x, y, shift })
    }
}

/// An affine map of offsets from the centre: `x[0] dx + x[1] dy + shift[0]`, and so on.
struct Map {
    x: [f32; 2],
    y: [f32; 2],
    shift: [f32; 2],
}

impl Map {
    fn resample(&self, from: &[f32], to: &mut [f32], frame: Frame) {
        let (h, w) = (frame.size.h, frame.size.w);
        let centre = [(w as f32 - 1.0) / 2.0, (h as f32 - 1.0) / 2.0];
        let at = |x: isize, y: isize| {
            let inside = x >= 0 && y >= 0 && (x as usize) < w && (y as usize) < h;
            if inside { from[y as usize * w + x as usize] } else { 0.0 }
        };
        for (row, line) in to.chunks_exact_mut(w).enumerate() {
            let dy = row as f32 - centre[1];
            for (column, number) in line.iter_mut().enumerate() {
                let dx = column as f32 - centre[0];
                let x = self.x[0] * dx + self.x[1] * dy + self.shift[0] + centre[0];
                let y = self.y[0] * dx + self.y[1] * dy + self.shift[1] + centre[1];
                let (left, top) = (x.floor(), y.floor());
                let (right, bottom) = (x - left, y - top);
                let (left, top) = (left as isize, top as isize);
                let upper = at(left, top) * (1.0 - right) + at(left + 1, top) * right;
                let lower = at(left, top + 1) * (1.0 - right) + at(left + 1, top + 1) * right;
                *number = upper * (1.0 - bottom) + lower * bottom;
            }
        }
    }
}

/// Brightness, then contrast around the mean gray, then saturation around the gray of each pixel.
fn jitter(picture: &mut [f32], frame: Frame, [brightness, contrast, saturation]: [f32; 3]) {
    picture.iter_mut().for_each(|number| *number *= brightness);
    let mean = picture.iter().sum::<f32>() / picture.len() as f32;
    picture.iter_mut().for_each(|number| *number = mean + contrast * (*number - mean));
    if frame.channels == 3 {
        let (red, rest) = picture.split_at_mut(frame.pixels());
        let (green, blue) = rest.split_at_mut(frame.pixels());
        for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
            // ITU-R BT.601, as the common libraries weigh colours.
            let gray = 0.299 * *red + 0.587 * *green + 0.114 * *blue;
            for colour in [red, green, blue] {
                *colour = gray + saturation * (*colour - gray);
            }
        }
    }
    picture.iter_mut().for_each(|number| *number = number.clamp(0.0, 1.0));
}

impl FromStr for Augment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut augment = Self::default();
        if text == "none" {
            return Ok(augment);
        }
        for part in text.split(',') {
            let wrong = || format!("expected {NAMES}, got `{part}`");
            let (name, number) = part.split_once('=').unwrap_or((part, ""));
            let number = |most: f32| {
                let number = number.parse().ok().filter(|number| (0.0..=most).contains(number));
                number.ok_or_else(|| format!("{name}: expected a number from 0 to {most}, got `{part}`"))
            };
            match name {
                "flip" if part == "flip" => augment.flip = true,
                "crop" => augment.crop = number(1e4)?,
                "scale" => augment.scale = number(0.9)?,
                "rotate" => augment.rotate = number(180.0)?,
                "shear" => augment.shear = number(2.0)?,
                "jitter" => augment.jitter = number(1.0)?,
                "cut-out" => augment.cut_out = number(1e4)? as u32,
                _ => return Err(wrong()),
            }
        }
        Ok(augment)
    }
}

/// The text that [`FromStr`] reads back to the same bits.
impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("none");
        }
        let numbers = [
            ("crop", self.crop),
            ("scale", self.scale),
            ("rotate", self.rotate),
            ("shear", self.shear),
            ("jitter", self.jitter),
            ("cut-out", self.cut_out as f32),
        ];
        let numbers = numbers.into_iter().filter(|&(_, number)| number > 0.0);
        let numbers = numbers.map(|(name, number)| format!("{name}={number:?}"));
        let flip = self.flip.then(|| "flip".to_owned());
        f.write_str(&flip.into_iter().chain(numbers).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Purpose;
    use super::*;
    use kernels::Size2;

    const FRAME: Frame = Frame { channels: 1, size: Size2::new(3, 4) };

    fn picture() -> Vec<f32> {
        (1..=12).map(|number| number as f32 / 16.0).collect()
    }

    fn changed(augment: Augment, seed: u64) -> Vec<f32> {
        let (mut picture, mut scratch) = (picture(), vec![0.0; 12]);
        augment.apply(&mut picture, &mut scratch, FRAME, &mut Random::new(seed, Purpose::Augment, 0, 0));
        picture
    }

    #[test]
    fn half_of_the_pictures_are_flipped() {
        let mirrored: Vec<f32> = picture().chunks(4).flat_map(|row| row.iter().rev().copied()).collect();
        let flip = Augment { flip: true, ..Augment::default() };
        let flips = (0..1000).filter(|&seed| {
            let changed = changed(flip, seed);
            assert!(changed == mirrored || changed == picture(), "{changed:?}");
            changed == mirrored
        });
        assert!((430..570).contains(&flips.count()));
    }

    #[test]
    fn crops_shift_by_whole_pixels() {
        let crop = Augment { crop: 1.0, ..Augment::default() };
        let mut shifts = std::collections::HashSet::new();
        for seed in 0..200 {
            let changed = changed(crop, seed);
            let shifted = |dx: isize, dy: isize| -> Vec<f32> {
                let at = |x: isize, y: isize| match (0..4).contains(&x) && (0..3).contains(&y) {
                    true => picture()[(4 * y + x) as usize],
                    false => 0.0,
                };
                (0..3).flat_map(|y| (0..4).map(move |x| (x, y))).map(|(x, y)| at(x + dx, y + dy)).collect()
            };
            let all = (-1..=1).flat_map(|dx| (-1..=1).map(move |dy| (dx, dy)));
            let found = all.into_iter().find(|&(dx, dy)| shifted(dx, dy) == changed);
            shifts.insert(found.unwrap_or_else(|| panic!("{changed:?} is no shift")));
        }
        assert_eq!(shifts.len(), 9);
    }

    #[test]
    fn a_rotation_by_a_quarter_turns_the_axes() {
        let map = Map { x: [0.0, -1.0], y: [1.0, 0.0], shift: [0.0, 0.0] };
        let frame = Frame { channels: 1, size: Size2::square(2) };
        let mut to = [0.0; 4];
        map.resample(&[1.0, 2.0, 3.0, 4.0], &mut to, frame);
        assert_eq!(to, [2.0, 4.0, 1.0, 3.0]);
    }

    #[test]
    fn jitter_stays_within_the_range_and_keeps_gray_gray() {
        let frame = Frame { channels: 3, size: Size2::new(1, 2) };
        let mut picture = [0.5, 1.0, 0.5, 1.0, 0.5, 1.0];
        jitter(&mut picture, frame, [1.2, 1.5, 0.3]);
        // Brighter, 0.6 and 1.2; around their mean 0.9, 0.45 and 1.35; gray has no saturation.
        for (&got, expected) in picture.iter().zip([0.45f32, 1.0].iter().cycle()) {
            assert!((got - expected).abs() < 1e-6, "{picture:?}");
        }
    }

    #[test]
    fn cut_out_zeroes_a_square() {
        let frame = Frame { channels: 2, size: Size2::square(8) };
        let cut = Augment { cut_out: 3, ..Augment::default() };
        let mut sizes = std::collections::HashSet::new();
        for seed in 0..300 {
            let mut picture = [1.0; 128];
            cut.cut_out(&mut picture, frame, &mut Random::new(seed, Purpose::Augment, 0, 0));
            let zeros = |plane: &[f32]| plane.iter().filter(|&&number| number == 0.0).count();
            assert_eq!(zeros(&picture[..64]), zeros(&picture[64..]));
            sizes.insert(zeros(&picture[..64]));
        }
        assert_eq!(sizes, [4, 6, 9].into());
    }

    #[test]
    fn texts_are_read_back() {
        for text in
            ["none", "flip", "flip,crop=4.0", "scale=0.1,rotate=15.0,shear=0.2,jitter=0.4,cut-out=8.0"]
        {
            assert_eq!(text.parse::<Augment>().unwrap().to_string(), text);
        }
        for text in ["", "flip=1", "crop", "crop=-1", "scale=2", "blur=1"] {
            assert!(text.parse::<Augment>().unwrap_err().contains("expected"), "{text}");
        }
    }
}
