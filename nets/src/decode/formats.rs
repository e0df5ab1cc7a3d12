//! GIF, WebP and BMP, by their decoders.

use super::{Decoded, MOST_BYTES, Pixels, bytes_of, exif, reason};
use gif::{ColorOutput, DecodeOptions};
use image_webp::WebPDecoder;
use std::io::Cursor;
use zune_bmp::zune_core::bytestream::ZCursor;
use zune_bmp::zune_core::options::DecoderOptions;
use zune_bmp::{BmpDecoder, BmpDecoderErrors};

/// Decodes the first frame, at its position on the screen of the file.
pub(super) fn gif(bytes: &[u8]) -> Decoded {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    let mut decoder = options.read_info(bytes).map_err(reason)?;
    let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    let mut screen = vec![0; bytes_of(width, height, 4)?];
    let frame = decoder.next_frame_info().map_err(reason)?.ok_or("a file without a frame")?;
    let [left, top, columns, rows] = [frame.left, frame.top, frame.width, frame.height].map(usize::from);
    let mut pixels = vec![0; bytes_of(columns, rows, 4)?];
    decoder.read_into_buffer(&mut pixels).map_err(reason)?;
    // Pixels outside the screen are dropped.
    let inside = 4 * columns.min(width.saturating_sub(left));
    for (y, row) in (top..height).zip(pixels.chunks_exact(4 * columns)).filter(|_| inside > 0) {
        screen[4 * (y * width + left)..][..inside].copy_from_slice(&row[..inside]);
    }
    Pixels::new(width, height, 4, screen)
}

/// Decodes a picture or the first frame of an animation.
pub(super) fn webp(bytes: &[u8]) -> Decoded {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(reason)?;
    decoder.set_memory_limit(MOST_BYTES);
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    let mut pixels = vec![0; bytes_of(width, height, channels)?];
    decoder.read_image(&mut pixels).map_err(reason)?;
    let orientation = decoder.exif_metadata().map_err(reason)?.map_or(1, |exif| exif::orientation(&exif));
    Ok(Pixels::new(width, height, channels, pixels)?.upright(orientation))
}

pub(super) fn bmp(bytes: &[u8]) -> Decoded {
    // The limit of all formats is on the bytes and not on a side.
    let options = DecoderOptions::default().set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut decoder = BmpDecoder::new_with_options(ZCursor::new(bytes), options);
    let reason = |error: BmpDecoderErrors| reason(format!("{error:?}"));
    decoder.decode_headers().map_err(reason)?;
    let (width, height) = decoder.dimensions().ok_or("no dimensions")?;
    let channels = decoder.colorspace().ok_or("no colours")?.num_components();
    bytes_of(width, height, channels)?;
    if !bmp_is_complete(bytes) {
        return Err("the file ends before the picture does".to_owned());
    }
    Pixels::new(width, height, channels, decoder.decode().map_err(reason)?)
}

/// Whether a BMP file has all the bytes that its headers promise. The decoder does not report missing parts
/// and paints them black.
fn bmp_is_complete(bytes: &[u8]) -> bool {
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let short = |at: usize| Some(u32::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?)));
    let promised = || {
        let (start, header) = (word(10)?, word(14)?);
        let (width, height, bits, compression) = match header {
            12 => (short(18)?, short(20)?, short(24)?, 0),
            _ => (word(18)?, word(22)?.cast_signed().unsigned_abs(), short(28)?, word(30)?),
        };
        let stride = (u64::from(width) * u64::from(bits)).div_ceil(32) * 4;
        let size = match compression {
            // Run-length encoding with 8 and with 4 bits.
            1 | 2 => word(34)?.into(),
            _ => stride.checked_mul(height.into())?,
        };
        size.checked_add(start.into())
    };
    promised().is_some_and(|end| end <= bytes.len() as u64)
}
