//! From anybody's picture of a digit to the 28x28 pixels that LeNet-5 was trained on.
//!
//! The MNIST recipe (LeCun et al. 1998, section III.A): light ink on a black ground, the longer side of the ink
//! scaled to 20 pixels with its aspect kept, its centre of mass in the middle of 28x28.

use crate::decode;
use crate::digits::SIDE;
use crate::error::{NetError, PictureError};
use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Rgba, RgbaImage};
use std::path::Path;

/// Of each pixel the share of ink, from 0 to 1.
type Ink = ImageBuffer<Luma<f32>, Vec<f32>>;

/// The longer side of the ink.
const INK: u32 = 20;
/// How far apart ink and ground must be at least, of 255.
const CONTRAST: f64 = 24.0;
/// Below this share of full ink is paper with its shadows.
const PAPER: f32 = 0.15;

/// Reads a picture file as one digit, 28 rows of 28, 255 is ink.
///
/// # Errors
/// [`NetError::Io`], or [`NetError::Picture`] if it is no picture or shows nothing.
pub fn load(path: &Path) -> Result<Vec<u8>, NetError> {
    let bytes = std::fs::read(path);
    let bytes = bytes.map_err(|cause| NetError::Io { action: "read", path: path.to_owned(), cause })?;
    Ok(digit_from_bytes(&bytes, &path.display().to_string())?)
}

/// Reads the bytes of a picture file as one digit; `origin` names them in errors. What is 28x28 and light on dark
/// already, as in MNIST, is taken as it is.
///
/// # Errors
/// [`PictureError`].
pub fn digit_from_bytes(bytes: &[u8], origin: &str) -> Result<Vec<u8>, PictureError> {
    let picture = decode::picture(bytes).map_err(|error| PictureError::Decode {
        origin: origin.to_owned(),
        reason: decode::reason(&error),
    })?;
    let picture = to_gray(picture);
    let levels = Levels::of(&picture).ok_or_else(|| PictureError::Blank { origin: origin.to_owned() })?;
    if picture.dimensions() == (SIDE as u32, SIDE as u32) && levels.light_on_dark() {
        return Ok(picture.into_raw());
    }
    let ink = Ink::from_fn(picture.width(), picture.height(), |x, y| {
        Luma([levels.ink_share(picture.get_pixel(x, y).0[0])])
    });
    let digit = centred(&scaled(&cropped(&ink)));
    Ok(digit.pixels().map(|share| (share.0[0] * 255.0).round() as u8).collect())
}

/// Brightness; where the picture is transparent, that of white paper.
fn to_gray(picture: DynamicImage) -> GrayImage {
    if !picture.color().has_alpha() {
        return picture.into_luma8();
    }
    let mut paper = RgbaImage::from_pixel(picture.width(), picture.height(), Rgba([255; 4]));
    imageops::overlay(&mut paper, &picture.into_rgba8(), 0, 0);
    DynamicImage::from(paper).into_luma8()
}

/// The mean brightness of ink and of ground.
struct Levels {
    ink: f64,
    ground: f64,
}

impl Levels {
    /// Splits the pixels in two by Otsu's threshold; most of the border is ground.
    fn of(picture: &GrayImage) -> Option<Self> {
        let mut histogram = [0u64; 256];
        picture.pixels().for_each(|pixel| histogram[usize::from(pixel.0[0])] += 1);
        let (threshold, dark, light) = otsu(&histogram)?;
        if light - dark < CONTRAST {
            return None;
        }
        let (right, bottom) = (picture.width() - 1, picture.height() - 1);
        let on_border = |x: u32, y: u32| x == 0 || y == 0 || x == right || y == bottom;
        let border = picture.enumerate_pixels().filter(|&(x, y, _)| on_border(x, y));
        let (mut lighter, mut darker) = (0u64, 0u64);
        for (_, _, pixel) in border {
            *(if usize::from(pixel.0[0]) > threshold { &mut lighter } else { &mut darker }) += 1;
        }
        let light_ground = lighter > darker;
        Some(if light_ground { Self { ink: dark, ground: light } } else { Self { ink: light, ground: dark } })
    }

    fn light_on_dark(&self) -> bool {
        self.ink > self.ground
    }

    /// 0 for ground, 1 for ink.
    fn ink_share(&self, brightness: u8) -> f32 {
        let share = ((f64::from(brightness) - self.ground) / (self.ink - self.ground)) as f32;
        ((share - PAPER) / (1.0 - PAPER)).clamp(0.0, 1.0)
    }
}

/// The threshold that sets two classes of brightness furthest apart, and the means of what is up to it and above it
/// (N. Otsu, "A threshold selection method from gray-level histograms", 1979, eq. 18). `None` if there is one class.
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

/// The bounding box of the ink.
fn cropped(ink: &Ink) -> Ink {
    let inked = || ink.enumerate_pixels().filter(|(_, _, share)| share.0[0] > 0.5);
    let span = |at: fn(u32, u32) -> u32| {
        let places = || inked().map(move |(x, y, _)| at(x, y));
        (places().min().unwrap_or(0), places().max().unwrap_or(0))
    };
    let ((left, right), (top, bottom)) = (span(|x, _| x), span(|_, y| y));
    imageops::crop_imm(ink, left, top, right - left + 1, bottom - top + 1).to_image()
}

/// The longer side becomes 20 pixels; thin strokes, which pale when they shrink, get their full ink back.
fn scaled(ink: &Ink) -> Ink {
    let longer = ink.width().max(ink.height());
    let side = |side: u32| (f64::from(side) * f64::from(INK) / f64::from(longer)).round().max(1.0) as u32;
    let mut small = imageops::resize(ink, side(ink.width()), side(ink.height()), FilterType::Triangle);
    let fullest = small.pixels().map(|share| share.0[0]).fold(f32::MIN_POSITIVE, f32::max);
    small.pixels_mut().for_each(|share| share.0[0] /= fullest);
    small
}

/// The centre of mass in the middle of 28x28, as far as all the ink stays inside.
fn centred(ink: &Ink) -> Ink {
    let mass: f32 = ink.pixels().map(|share| share.0[0]).sum();
    let moment = |at: fn(u32, u32) -> u32| -> f32 {
        ink.enumerate_pixels().map(|(x, y, share)| (at(x, y) as f32 + 0.5) * share.0[0]).sum()
    };
    let start = |moment: f32, side: u32| {
        let start = (SIDE as f32 / 2.0 - moment / mass).round();
        start.clamp(0.0, (SIDE as u32 - side) as f32) as i64
    };
    let mut digit = Ink::new(SIDE as u32, SIDE as u32);
    let (left, top) = (start(moment(|x, _| x), ink.width()), start(moment(|_, y| y), ink.height()));
    imageops::replace(&mut digit, ink, left, top);
    digit
}
