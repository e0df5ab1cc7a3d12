//! JPEG, as cameras write it.

use super::{Decoded, Pixels, bytes_of, exif, reason};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Decodes a JPEG file to gray or to three colours, and turns it upright.
pub(super) fn decode(bytes: &[u8]) -> Decoded {
    if !is_complete(bytes) {
        return Err("the file ends before the picture does".to_owned());
    }
    // The limit of all formats is on the bytes and not on a side.
    let options =
        DecoderOptions::default().set_strict_mode(false).set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(reason)?;
    let (width, height) = decoder.dimensions().ok_or("no dimensions")?;
    let (channels, colours) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (1, ColorSpace::Luma),
        _ => (3, ColorSpace::RGB),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(colours));
    let mut pixels = vec![0; bytes_of(width, height, channels)?];
    decoder.decode_into(&mut pixels).map_err(reason)?;
    let orientation = decoder.exif().map_or(1, |exif| exif::orientation(exif));
    Ok(Pixels::new(width, height, channels, pixels)?.upright(orientation))
}

/// Whether the file reaches its end-of-image marker. The decoder does not report missing parts and paints
/// them grey.
fn is_complete(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xD9;
    // Zeros are stuffing, 0xD0 to 0xD7 restart the coder, and 0xFF fills.
    let is_marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD7 | 0xFF);
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let Some(at) = rest.windows(2).position(is_marker) {
        let (marker, segment) = (rest[at + 1], &rest[at + 2..]);
        if marker == END_OF_IMAGE {
            return true;
        }
        let Some(&length) = segment.first_chunk() else { return false };
        rest = segment.get(usize::from(u16::from_be_bytes(length))..).unwrap_or_default();
    }
    false
}
