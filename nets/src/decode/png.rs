//! PNG, the only format that the embedded digits need.

use super::{Decoded, MOST_BYTES, Pixels, bytes_of, reason};
use png::{Decoder, Limits, Transformations};
use std::io::Cursor;

/// Decodes a PNG file, or the first frame of an animation. Palettes become colours, and 16 bits per channel
/// become 8.
pub(crate) fn decode(bytes: &[u8]) -> Decoded {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: MOST_BYTES });
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(reason)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    let channels = reader.output_color_type().0.samples();
    let mut pixels = vec![0; bytes_of(width, height, channels)?];
    reader.next_frame(&mut pixels).map_err(reason)?;
    let pixels = Pixels::new(width, height, channels, pixels)?;
    #[cfg(feature = "pictures")]
    let pixels = match &reader.info().exif_metadata {
        Some(exif) => pixels.upright(super::exif::orientation(exif)),
        None => pixels,
    };
    Ok(pixels)
}
