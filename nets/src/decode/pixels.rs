//! Decoded pixels.

/// Rows of pixels, with one byte per channel.
pub(crate) struct Pixels {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// 1 to 4 channels: gray, gray and opacity, three colours, or three colours and opacity.
    channels: usize,
    bytes: Vec<u8>,
}

impl Pixels {
    /// Makes a picture from its bytes. Fails if their number does not fit the size.
    pub(super) fn new(width: usize, height: usize, channels: usize, bytes: Vec<u8>) -> Result<Self, String> {
        match super::bytes_of(width, height, channels)? == bytes.len() && channels <= 4 {
            true => Ok(Self { width, height, channels, bytes }),
            false => Err("the file ends before the picture does".to_owned()),
        }
    }

    /// The bytes of a gray picture, one per pixel; `None` for other pictures.
    pub(crate) fn gray(self) -> Option<Vec<u8>> {
        (self.channels == 1).then_some(self.bytes)
    }
}

#[cfg(feature = "pictures")]
impl Pixels {
    fn at(&self, x: usize, y: usize) -> &[u8] {
        &self.bytes[(y * self.width + x) * self.channels..][..self.channels]
    }

    /// Red, green and blue of a pixel, without regard to its opacity.
    pub(crate) fn rgb(&self, x: usize, y: usize) -> [u8; 3] {
        match *self.at(x, y) {
            [gray] | [gray, _] => [gray; 3],
            [red, green, blue] | [red, green, blue, _] => [red, green, blue],
            _ => unreachable!("a picture has one to four channels"),
        }
    }

    /// The brightness of a pixel (ITU-R BT.709), over white paper where the picture is transparent.
    pub(crate) fn brightness(&self, x: usize, y: usize) -> u8 {
        let opacity = match *self.at(x, y) {
            [_, opacity] | [_, _, _, opacity] => u32::from(opacity),
            _ => 255,
        };
        let over_white = |byte: u8| (u32::from(byte) * opacity + 255 * (255 - opacity) + 127) / 255;
        let [red, green, blue] = self.rgb(x, y).map(over_white);
        ((2126 * red + 7152 * green + 722 * blue) / 10_000) as u8
    }

    /// Turns a picture upright that was stored in one of the eight orientations of EXIF.
    pub(super) fn upright(self, orientation: u8) -> Self {
        if orientation == 1 {
            return self;
        }
        let (is_turned, mirrors_x, mirrors_y) =
            (orientation >= 5, matches!(orientation, 2 | 3 | 7 | 8), matches!(orientation, 3 | 4 | 6 | 7));
        let (width, height) = if is_turned { (self.height, self.width) } else { (self.width, self.height) };
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let (x, y) = if is_turned { (y, x) } else { (x, y) };
            let x = if mirrors_x { self.width - 1 - x } else { x };
            let y = if mirrors_y { self.height - 1 - y } else { y };
            bytes.extend_from_slice(self.at(x, y));
        }
        Self { width, height, channels: self.channels, bytes }
    }
}

#[cfg(all(test, feature = "pictures"))]
mod tests {
    use super::*;

    /// The orientations as EXIF draws them (Exif 2.32, section 4.6.4): the stored bytes of an upright
    /// `ab / cd / ef`.
    #[test]
    fn every_orientation_comes_upright() {
        let stored: [(&str, usize); 8] = [
            ("abcdef", 2),
            ("badcfe", 2),
            ("fedcba", 2),
            ("efcdab", 2),
            ("acebdf", 3),
            ("bdface", 3),
            ("fdbeca", 3),
            ("ecafdb", 3),
        ];
        for (orientation, (bytes, width)) in (1..).zip(stored) {
            let pixels = Pixels::new(width, 6 / width, 1, bytes.into()).unwrap().upright(orientation);
            assert_eq!((pixels.width, pixels.height), (2, 3), "{orientation}");
            assert_eq!(String::from_utf8(pixels.bytes).unwrap(), "abcdef", "{orientation}");
        }
    }

    #[test]
    fn white_paper_shows_through() {
        let pixels = Pixels::new(4, 1, 2, vec![0, 255, 0, 0, 0, 128, 255, 7]).unwrap();
        assert_eq!([0, 1, 2, 3].map(|x| pixels.brightness(x, 0)), [0, 255, 127, 255]);
        assert_eq!(Pixels::new(1, 1, 3, vec![255, 0, 0]).unwrap().brightness(0, 0), 54);
    }
}
