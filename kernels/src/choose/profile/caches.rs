//! Cache sizes of the first core, as Linux reports them on every architecture.

use std::fs::read_to_string;

/// Bytes of the data or unified cache of a level, if the system reports it.
pub(crate) fn size(level: u32) -> Option<usize> {
    (0..10).find_map(|index| {
        let of_index = |file: &str| {
            read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{file}")).ok()
        };
        let is_level = of_index("level")?.trim().parse() == Ok(level);
        let is_data = of_index("type")?.trim() != "Instruction";
        if is_level && is_data { bytes(of_index("size")?.trim()) } else { None }
    })
}

/// Parses `48K`, `2M`, `1G` or a number of bytes.
fn bytes(text: &str) -> Option<usize> {
    let (number, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    number.parse::<usize>().ok()?.checked_shl(shift).filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_units() {
        assert_eq!((bytes("48K"), bytes("2M"), bytes("512")), (Some(48 << 10), Some(2 << 20), Some(512)));
        assert_eq!((bytes(""), bytes("K"), bytes("0K"), bytes("many")), (None, None, None, None));
    }
}
