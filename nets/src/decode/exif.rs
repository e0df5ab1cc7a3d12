//! The orientation of a photograph.

/// The tag of the orientation (Exif 2.32, section 4.6.4).
const ORIENTATION: u16 = 0x0112;

/// Returns the orientation in an EXIF block, 1 to 8. A block without one counts as 1, upright.
pub(super) fn orientation(exif: &[u8]) -> u8 {
    find(exif).filter(|orientation| (1..=8).contains(orientation)).map_or(1, |orientation| orientation as u8)
}

/// Finds the orientation in a TIFF file. The file begins with its byte order, the number 42, and the offset
/// of the first directory. Directory entries have 12 bytes each.
fn find(exif: &[u8]) -> Option<u16> {
    let is_big = match exif.get(..4)? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = exif.get(at..)?.first_chunk()?;
        Some(if is_big { u16::from_be_bytes(*bytes) } else { u16::from_le_bytes(*bytes) })
    };
    let directory = exif[4..].first_chunk()?;
    let directory = if is_big { u32::from_be_bytes(*directory) } else { u32::from_le_bytes(*directory) };
    let directory = usize::try_from(directory).ok()?;
    let mut entries =
        (0..usize::from(short(directory)?)).map(|entry| directory.saturating_add(2 + 12 * entry));
    // Tag, type and count take eight bytes. A short value follows them directly.
    short(entries.find(|&entry| short(entry) == Some(ORIENTATION))?.saturating_add(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_byte_orders_are_read() {
        let mut big = b"MM\0*\0\0\0\x08\0\x02\x01\x0F\0\x02\0\0\0\x01\0\0\0\0".to_vec();
        big.extend(b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0");
        assert_eq!(orientation(&big), 6);
        let little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x08\0\0\0";
        assert_eq!(orientation(little), 8);
    }

    #[test]
    fn what_says_nothing_is_upright() {
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0";
        let far = b"MM\0*\xFF\xFF\xFF\xFF\0\x01";
        let all = (0..big.len()).map(|len| &big[..len]).chain([&big[..], far, b"JFIF"]);
        all.for_each(|exif| assert_eq!(orientation(exif), 1, "{exif:?}"));
    }
}
