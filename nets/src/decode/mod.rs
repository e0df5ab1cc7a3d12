//! From the bytes of a picture file to its pixels, within limits.
//!
//! One decoder for each format rather than a library for all of them: that spares the colour management which none of
//! the recipes here asks for, and most of the time that a library for all formats takes to compile.

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

/// Pixels, or why there are none: what stands behind "expected a picture, got".
type Decoded = Result<Pixels, String>;

/// No picture takes more bytes than this; a photograph of 60 million pixels still fits.
const MOST_BYTES: usize = 256 << 20;

/// Decodes by content, whatever the file is called, and turns a photograph the right way up.
///
/// # Errors
/// What the bytes are instead of a picture.
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

/// What a decoder says, in one line.
fn reason(error: impl std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How many bytes the pixels take. To be asked before they are allocated: some decoders believe any header.
fn bytes_of(width: usize, height: usize, channels: usize) -> Result<usize, String> {
    let bytes = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(channels));
    let fits = |bytes: &usize| (1..=MOST_BYTES).contains(bytes);
    bytes.filter(fits).ok_or_else(|| format!("one that says it has {width}x{height} pixels"))
}
