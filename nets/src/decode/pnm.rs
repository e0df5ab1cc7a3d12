//! The portable pixmaps of Netpbm, `P1` to `P7`: a header in words, then numbers in words or in bytes.

use super::{Decoded, Pixels, bytes_of};

/// Decodes a PBM, PGM, PPM or PAM file.
pub(super) fn decode(bytes: &[u8]) -> Decoded {
    let mut words = Words { rest: bytes };
    let kind = words.next()?;
    if kind == "P7" {
        return pam(words);
    }
    let (width, height) = (words.number()?, words.number()?);
    let channels = if matches!(kind, "P3" | "P6") { 3 } else { 1 };
    let count = bytes_of(width, height, channels)?;
    let most = if matches!(kind, "P1" | "P4") { 1 } else { words.number()? };
    let samples = match kind {
        "P1" => words.bits(count)?,
        "P2" | "P3" => words.levels(count, most)?,
        "P4" => bitmap(words.data()?, width, count)?,
        _ => binary(words.data()?, count, most)?,
    };
    Pixels::new(width, height, channels, samples)
}

/// Decodes a `P7` file after its first word. Its header names its numbers.
fn pam(mut words: Words<'_>) -> Decoded {
    let [mut width, mut height, mut depth, mut most] = [0; 4];
    loop {
        match words.next()? {
            "WIDTH" => width = words.number()?,
            "HEIGHT" => height = words.number()?,
            "DEPTH" => depth = words.number()?,
            "MAXVAL" => most = words.number()?,
            "TUPLTYPE" => drop(words.next()?),
            "ENDHDR" => break,
            word => return Err(format!("a PAM header that says {word}")),
        }
    }
    if depth > 4 {
        return Err(format!("a PAM file of {depth} channels"));
    }
    let samples = binary(words.data()?, bytes_of(width, height, depth)?, most)?;
    Pixels::new(width, height, depth, samples)
}

/// The unread rest of the file.
struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    /// The next word after blanks and comments.
    fn next(&mut self) -> Result<&'a str, String> {
        self.skip();
        let end = self.rest.iter().position(u8::is_ascii_whitespace).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match std::str::from_utf8(word) {
            Ok(word) if !word.is_empty() => Ok(word),
            Ok(_) => Err("the file ends before the picture does".to_owned()),
            Err(_) => Err("a header that is no text".to_owned()),
        }
    }

    fn skip(&mut self) {
        self.rest = self.rest.trim_ascii_start();
        while let [b'#', ..] = self.rest {
            let end = self.rest.iter().position(|&byte| byte == b'\n').unwrap_or(self.rest.len());
            self.rest = self.rest[end..].trim_ascii_start();
        }
    }

    fn number(&mut self) -> Result<usize, String> {
        let word = self.next()?;
        word.parse().map_err(|_| format!("{word} where a number should be"))
    }

    /// The data after the single blank that ends the header.
    fn data(&self) -> Result<&'a [u8], String> {
        self.rest.get(1..).ok_or_else(|| "the file ends before the picture does".to_owned())
    }

    fn levels(&mut self, count: usize, most: usize) -> Result<Vec<u8>, String> {
        (0..count).map(|_| self.number().and_then(|level| scaled(level, most))).collect()
    }

    /// Digits that need no blanks between them, where 1 is black.
    fn bits(&mut self, count: usize) -> Result<Vec<u8>, String> {
        let mut bit = || {
            self.skip();
            let (&digit, rest) = self.rest.split_first().ok_or("the file ends before the picture does")?;
            self.rest = rest;
            match digit {
                b'0' => Ok(255),
                b'1' => Ok(0),
                other => Err(format!("byte {other} where a 0 or 1 should be")),
            }
        };
        (0..count).map(|_| bit()).collect()
    }
}

/// Decodes bits, highest first, with each row in whole bytes. 1 is black.
fn bitmap(data: &[u8], width: usize, count: usize) -> Result<Vec<u8>, String> {
    let rows = data.chunks_exact(width.div_ceil(8));
    let row = |row: &[u8]| -> Vec<u8> {
        (0..width).map(|x| if row[x / 8] >> (7 - x % 8) & 1 == 1 { 0 } else { 255 }).collect()
    };
    let pixels: Vec<u8> = rows.take(count / width).flat_map(row).collect();
    Ok(pixels)
}

/// Decodes bytes, or pairs of bytes with the high byte first if levels exceed 255.
fn binary(data: &[u8], count: usize, most: usize) -> Result<Vec<u8>, String> {
    match most {
        255 => Ok(data[..count.min(data.len())].to_vec()),
        ..256 => data.iter().take(count).map(|&level| scaled(level.into(), most)).collect(),
        _ => {
            let levels = data.as_chunks().0.iter().take(count);
            levels.map(|&pair| scaled(u16::from_be_bytes(pair).into(), most)).collect()
        }
    }
}

/// Scales a level of 0 to `most` to 0 to 255.
fn scaled(level: usize, most: usize) -> Result<u8, String> {
    match (1..=65_535).contains(&most) && level <= most {
        true => Ok(((level * 255 + most / 2) / most) as u8),
        false => Err(format!("level {level} of {most}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(bytes: &[u8]) -> Vec<u8> {
        decode(bytes).unwrap().gray().unwrap()
    }

    #[test]
    fn every_kind_is_read() {
        let expected = [0, 255, 0, 255, 255, 0];
        assert_eq!(gray(b"P1\n# a comment\n3 2\n101\n0 0 1"), expected);
        assert_eq!(gray(b"P4 3 2 \xA0\x20"), expected);
        assert_eq!(gray(b"P2 3 2 15 0 15 0 15 15 0\n"), expected);
        assert_eq!(gray(b"P5 3 2 255\n\x00\xFF\x00\xFF\xFF\x00"), expected);
        assert_eq!(gray(b"P5 2 1 65535\n\x80\x80\x00\xFF"), [128, 1]);
        assert_eq!(
            gray(b"P7\nWIDTH 1\nHEIGHT 2\nDEPTH 1\nMAXVAL 3\nTUPLTYPE GRAYSCALE\nENDHDR\n\x01\x03"),
            [85, 255]
        );
        for colours in [&b"P3 1 1 255 1 2 3"[..], b"P6 1 1 255 \x01\x02\x03"] {
            assert_eq!(decode(colours).unwrap().rgb(0, 0), [1, 2, 3]);
        }
    }

    #[test]
    fn whatever_is_wrong_is_an_error() {
        let wrong: [&[u8]; 12] = [
            b"P1",
            b"P1 3 2 10100",
            b"P1 1 1 2",
            b"P2 1 1 15 16",
            b"P2 1 1 0 0",
            b"P2 1 1 many 0",
            b"P4 9 1 \xFF",
            b"P5 3 2 255\n\x00\xFF",
            b"P5 0 2 255 ",
            b"P5 1 1 65536 \0\0",
            b"P6 1 1 255",
            b"P7 WIDTH 1 DEPTH 9 ENDHDR ",
        ];
        wrong.iter().for_each(|bytes| assert!(decode(bytes).is_err(), "{}", bytes.escape_ascii()));
    }
}
