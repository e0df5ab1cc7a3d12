//! Decodes the bytes of a picture file to pixels, within limits.
//!
//! There is one decoder per format. A library for all formats would include colour management, which no
//! recipe here needs, and would take much longer to compile.

#[cfg(feature = "pictures")]
mod exif;
#[cfg(feature = "pictures")]
mod formats;
#[cfg(feature = "pictures")]
mod jpeg;
mod pixels;
#[cfg(feature = "pictures")]
mod plane;
mod png;
#[cfg(feature = "pictures")]
mod pnm;

pub(crate) use pixels::Pixels;
#[cfg(feature = "pictures")]
pub(crate) use plane::{Plane, resized};
pub(crate) use png::decode as png;

/// Pixels, or the reason why there are none. The reason completes "expected a picture, got".
type Decoded = Result<Pixels, String>;

/// Maximum bytes of the pixels of a picture. A photograph of 60 million pixels fits.
const MOST_BYTES: usize = 256 << 20;

/// Decodes a picture file of any supported format, which it detects by content and not by name. Turns a
/// photograph upright.
///
/// # Errors
/// A description of the bytes, if they are not a picture.
#[cfg(feature = "pictures")]
pub(crate) fn picture(bytes: &[u8]) -> Decoded {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => png::decode(bytes),
        [0xFF, 0xD8, 0xFF, ..] => jpeg::decode(bytes),
        [b'G', b'I', b'F', b'8', ..] => formats::gif(bytes),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => formats::webp(bytes),
        [b'B', b'M', ..] => formats::bmp(bytes),
        [b'P', b'1'..=b'7', ..] => pnm::decode(bytes),
        _ => Err("something else".to_owned()),
    }
}

/// Returns the message of a decoder in one line.
fn reason(error: impl std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the bytes of the pixels, if they are within the limit. Check it before every allocation: some
/// decoders trust any header.
fn bytes_of(width: usize, height: usize, channels: usize) -> Result<usize, String> {
    let bytes = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(channels));
    let fits = |bytes: &usize| (1..=MOST_BYTES).contains(bytes);
    bytes.filter(fits).ok_or_else(|| format!("one that says it has {width}x{height} pixels"))
}
