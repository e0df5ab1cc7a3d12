//! Any picture of a digit as the 28x28 pixels that LeNet-5 was trained on.
//!
//! This follows the MNIST recipe (LeCun et al. 1998, section III.A): light ink on a black ground, the longer
//! side of the ink scaled to 20 pixels with its aspect kept, and its centre of mass in the middle of 28x28
//! pixels.

use crate::decode::{self, Pixels, Plane, resized};
use crate::digits::SIDE;
use crate::error::{NetError, PictureError};
use kernels::Size2;
use std::path::Path;

/// The longer side of the ink in pixels.
const INK: usize = 20;
/// Minimum difference between the mean levels of ink and ground, where levels are 0 to 255.
const CONTRAST: f64 = 24.0;
/// A pixel with less than this fraction of full ink counts as paper with shadows.
const PAPER: f32 = 0.15;

/// Reads a picture file as one digit: 28 rows of 28 bytes, where 255 is ink.
///
/// # Errors
/// - [`NetError::Io`] if the file cannot be read.
/// - [`NetError::Picture`] if it is not a picture, or shows nothing.
pub fn load(path: &Path) -> Result<Vec<u8>, NetError> {
    let bytes = std::fs::read(path);
    let bytes = bytes.map_err(|cause| NetError::Io { action: "read", path: path.to_owned(), cause })?;
    Ok(digit_from_bytes(&bytes, &path.display().to_string())?)
}

/// Reads the bytes of a picture file as one digit. Errors name the bytes by `origin`. A picture that is
/// already 28x28 and light on dark, as in MNIST, is not changed.
///
/// # Errors
/// [`PictureError`] if the bytes are not a picture, or the picture shows nothing.
pub fn digit_from_bytes(bytes: &[u8], origin: &str) -> Result<Vec<u8>, PictureError> {
    let picture = decode::picture(bytes)
        .map_err(|reason| PictureError::Decode { origin: origin.to_owned(), reason })?;
    let picture = Gray::of(&picture);
    let levels = Levels::of(&picture).ok_or_else(|| PictureError::Blank { origin: origin.to_owned() })?;
    if picture.size == Size2::square(SIDE) && levels.light_on_dark() {
        return Ok(picture.levels);
    }
    // The fraction of ink of each pixel, from 0 to 1.
    let ink = Plane::from_fn(picture.size, |x, y| levels.ink_share(picture.at(x, y)));
    let digit = centred(&scaled(&cropped(&ink)));
    Ok(digit.values.iter().map(|share| (share * 255.0).round() as u8).collect())
}

/// The brightness of each pixel. Transparent parts of a picture are over white paper.
struct Gray {
    size: Size2,
    levels: Vec<u8>,
}

impl Gray {
    fn of(picture: &Pixels) -> Self {
        let places = (0..picture.height).flat_map(|y| (0..picture.width).map(move |x| (x, y)));
        let levels = places.map(|(x, y)| picture.brightness(x, y)).collect();
        Self { size: Size2::new(picture.height, picture.width), levels }
    }

    fn at(&self, x: usize, y: usize) -> u8 {
        self.levels[y * self.size.w + x]
    }
}

/// The mean brightness of ink and of ground.
struct Levels {
    ink: f64,
    ground: f64,
}

impl Levels {
    /// Splits the pixels in two classes by Otsu's threshold. The class of most of the border is the ground.
    /// Returns `None` if the contrast is too low.
    fn of(picture: &Gray) -> Option<Self> {
        let mut histogram = [0u64; 256];
        picture.levels.iter().for_each(|&level| histogram[usize::from(level)] += 1);
        let (threshold, dark, light) = otsu(&histogram)?;
        if light - dark < CONTRAST {
            return None;
        }
        let Size2 { h, w } = picture.size;
        let on_border =
            |index: &usize| [0, w - 1].contains(&(index % w)) || [0, h - 1].contains(&(index / w));
        let border = (0..h * w).filter(on_border).map(|index| usize::from(picture.levels[index]));
        let (lighter, darker): (Vec<_>, Vec<_>) = border.partition(|&level| level > threshold);
        let light_ground = lighter.len() > darker.len();
        Some(if light_ground { Self { ink: dark, ground: light } } else { Self { ink: light, ground: dark } })
    }

    fn light_on_dark(&self) -> bool {
        self.ink > self.ground
    }

    /// The fraction of ink: 0 for ground, 1 for ink.
    fn ink_share(&self, brightness: u8) -> f32 {
        let share = ((f64::from(brightness) - self.ground) / (self.ink - self.ground)) as f32;
        ((share - PAPER) / (1.0 - PAPER)).clamp(0.0, 1.0)
    }
}

/// Returns the threshold that separates two classes of brightness best, and the mean brightness of both
/// classes: up to the threshold, and above it (N. Otsu, "A threshold selection method from gray-level
/// histograms", 1979, eq. 18). Returns `None` if there is only one class.
fn otsu(histogram: &[u64; 256]) -> Option<(usize, f64, f64)> {
    let weighted = |(level, &count): (usize, &u64)| level as f64 * count as f64;
    let (all, sum) =
        (histogram.iter().sum::<u64>() as f64, histogram.iter().enumerate().map(weighted).sum::<f64>());
    let (mut below, mut below_sum) = (0.0, 0.0);
    let mut best = None;
    let mut widest = 0.0;
    for (level, &count) in histogram.iter().enumerate() {
        below += count as f64;
        below_sum += weighted((level, &count));
        let above = all - below;
        if below == 0.0 || above == 0.0 {
            continue;
        }
        let (dark, light) = (below_sum / below, (sum - below_sum) / above);
        let between = below * above * (light - dark) * (light - dark);
        if between > widest {
            widest = between;
            best = Some((level, dark, light));
        }
    }
    best
}

/// Crops the picture to the bounding box of the ink.
fn cropped(ink: &Plane) -> Plane {
    let Size2 { h, w } = ink.size;
    let (mut left, mut right, mut top, mut bottom) = (w, 0, h, 0);
    for (x, y) in (0..h).flat_map(|y| (0..w).map(move |x| (x, y))).filter(|&(x, y)| ink.at(x, y) > 0.5) {
        (left, right) = (left.min(x), right.max(x));
        (top, bottom) = (top.min(y), bottom.max(y));
    }
    // Without any ink, this is one pixel of ground.
    let (left, top) = (left.min(right), top.min(bottom));
    Plane::from_fn(Size2::new(bottom - top + 1, right - left + 1), |x, y| ink.at(left + x, top + y))
}

/// Scales the longer side to 20 pixels. Thin strokes pale when they shrink, so the darkest pixel gets full
/// ink again.
fn scaled(ink: &Plane) -> Plane {
    let longer = ink.size.h.max(ink.size.w) as f64;
    let side = |side: usize| (side as f64 * INK as f64 / longer).round().max(1.0) as usize;
    let to = Size2::new(side(ink.size.h), side(ink.size.w));
    let mut small = resized(ink.size, |x, y| ink.at(x, y), to);
    let fullest = small.values.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    small.values.iter_mut().for_each(|share| *share /= fullest);
    small
}

/// Moves the centre of mass to the middle of 28x28 pixels, as far as all ink stays inside.
fn centred(ink: &Plane) -> Plane {
    let Size2 { h, w } = ink.size;
    let mass: f32 = ink.values.iter().sum();
    let moment = |at: fn(usize, usize) -> usize| -> f32 {
        let places = ink.values.iter().enumerate();
        places.map(|(index, share)| (at(index % w, index / w) as f32 + 0.5) * share).sum()
    };
    let start = |moment: f32, side: usize| {
        let start = (SIDE as f32 / 2.0 - moment / mass).round();
        start.clamp(0.0, (SIDE - side) as f32) as usize
    };
    let (left, top) = (start(moment(|x, _| x), w), start(moment(|_, y| y), h));
    let within = |x: usize, y: usize| (left..left + w).contains(&x) && (top..top + h).contains(&y);
    let share = |x: usize, y: usize| if within(x, y) { ink.at(x - left, y - top) } else { 0.0 };
    Plane::from_fn(Size2::square(SIDE), share)
}
