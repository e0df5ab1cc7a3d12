//! From the bytes of a picture file to its pixels, within limits.

use image::error::DecodingError;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult, Limits};
use std::io::Cursor;

/// Decodes by content, whatever the file is called, and turns a photograph the right way up.
pub(crate) fn picture(bytes: &[u8]) -> ImageResult<DynamicImage> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    if reader.format() == Some(ImageFormat::Jpeg) && !jpeg_is_complete(bytes) {
        let (format, reason) = (ImageFormat::Jpeg.into(), "the file ends before the picture does");
        return Err(ImageError::Decoding(DecodingError::new(format, reason)));
    }
    let mut decoder = reader.into_decoder()?;
    // Some decoders believe any header; nothing is allocated before this.
    limits().reserve(decoder.total_bytes())?;
    decoder.set_limits(limits())?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// A photograph of 60 million pixels still fits.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(256 << 20);
    limits
}

/// Whether a JPEG goes on to its end-of-image marker; the decoder paints what is missing grey and says nothing.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
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

/// What the decoder says, in one line.
pub(crate) fn reason(error: &ImageError) -> String {
    match error {
        ImageError::Unsupported(_) => "something else".to_owned(),
        damage => damage.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    }
}
