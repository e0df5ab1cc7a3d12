//! Picture files to be read: drawn here, and written by other encoders than the library has.
#![allow(dead_code)] // each test uses a part

use gif::{Encoder as GifEncoder, Frame};
use image_webp::{ColorType as WebPColor, WebPEncoder};
use jpeg_encoder::{ColorType as JpegColor, Encoder as JpegEncoder};
use png::{BitDepth, ColorType as PngColor, Encoder as PngEncoder};
use std::borrow::Cow;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Bmp,
    Gif,
    Jpeg,
    Png,
    Pnm,
    WebP,
}

/// Rows of pixels, a byte for each channel: one is gray, three are colours, four are colours and opacity.
#[derive(Debug, Clone)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    pub bytes: Vec<u8>,
}

impl Picture {
    pub fn from_fn<const N: usize>(
        width: usize,
        height: usize,
        pixel: impl Fn(usize, usize) -> [u8; N],
    ) -> Self {
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let bytes = places.flat_map(|(x, y)| pixel(x, y)).collect();
        Self { width, height, channels: N, bytes }
    }

    pub fn even<const N: usize>(width: usize, height: usize, pixel: [u8; N]) -> Self {
        Self::from_fn(width, height, |_, _| pixel)
    }

    pub fn at(&self, x: usize, y: usize) -> &[u8] {
        &self.bytes[(y * self.width + x) * self.channels..][..self.channels]
    }

    pub fn inverted(mut self) -> Self {
        self.bytes.iter_mut().for_each(|byte| *byte = 255 - *byte);
        self
    }

    /// In other extents, bilinear between the centres of pixels.
    pub fn stretched(&self, width: usize, height: usize) -> Self {
        let place = |to: usize, of: usize, from: usize| {
            let place = ((to as f64 + 0.5) * from as f64 / of as f64 - 0.5).clamp(0.0, from as f64 - 1.0);
            let low = (place as usize).min(from.saturating_sub(2));
            (low, (low + 1).min(from - 1), place - low as f64)
        };
        Self::from_fn(width, height, |x, y| {
            let ((left, right, u), (top, bottom, v)) =
                (place(x, width, self.width), place(y, height, self.height));
            let row =
                |y: usize| f64::from(self.at(left, y)[0]) * (1.0 - u) + f64::from(self.at(right, y)[0]) * u;
            [(row(top) * (1.0 - v) + row(bottom) * v).round() as u8]
        })
    }

    /// A gray picture as one of three colours.
    fn coloured(&self) -> Self {
        Self::from_fn(self.width, self.height, |x, y| [self.at(x, y)[0]; 3])
    }

    pub fn png(&self) -> Vec<u8> {
        self.encode(Format::Png)
    }

    pub fn encode(&self, format: Format) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (width, height) = (self.width as u32, self.height as u32);
        let (w, h) = (width as u16, height as u16);
        match (format, self.channels) {
            (Format::Png, channels) => {
                let mut encoder = PngEncoder::new(&mut bytes, width, height);
                encoder.set_color([PngColor::Grayscale, PngColor::Rgb, PngColor::Rgba][channels / 2]);
                encoder.set_depth(BitDepth::Eight);
                encoder.write_header().unwrap().write_image_data(&self.bytes).unwrap();
            }
            (Format::Jpeg, channels) => {
                let colours = if channels == 1 { JpegColor::Luma } else { JpegColor::Rgb };
                JpegEncoder::new(&mut bytes, 80).encode(&self.bytes, w, h, colours).unwrap();
            }
            (Format::Gif, 1) => {
                let palette: Vec<u8> = (0..=255).flat_map(|level| [level; 3]).collect();
                let buffer = Cow::Borrowed(&self.bytes[..]);
                let frame = Frame { width: w, height: h, buffer, ..Frame::default() };
                GifEncoder::new(&mut bytes, w, h, &palette).unwrap().write_frame(&frame).unwrap();
            }
            (Format::WebP | Format::Bmp, 1) => return self.coloured().encode(format),
            (Format::WebP, 3) => {
                let encoder = WebPEncoder::new(&mut bytes);
                encoder.encode(&self.bytes, width, height, WebPColor::Rgb8).unwrap();
            }
            (Format::Pnm, 1) => bytes = [format!("P5 {w} {h} 255\n").as_bytes(), &self.bytes].concat(),
            (Format::Pnm, 3) => bytes = [format!("P6 {w} {h} 255\n").as_bytes(), &self.bytes].concat(),
            (Format::Bmp, 3) => bytes = self.bmp(),
            (format, channels) => panic!("no encoder for {format:?} of {channels} channels"),
        }
        bytes
    }

    /// BITMAPINFOHEADER, 24 bits: rows from the bottom up, blue first, each a multiple of four bytes.
    fn bmp(&self) -> Vec<u8> {
        const HEADERS: u32 = 14 + 40;
        let stride = (3 * self.width).next_multiple_of(4);
        let len = HEADERS + (stride * self.height) as u32;
        let mut bytes = b"BM".to_vec();
        let words =
            [len, 0, HEADERS, 40, self.width as u32, self.height as u32, 1 | 24 << 16, 0, 0, 0, 0, 0, 0];
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        for row in self.bytes.chunks_exact(3 * self.width).rev() {
            let (start, pixels) = (bytes.len(), row.chunks_exact(3));
            bytes.extend(pixels.flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]));
            bytes.resize(start + stride, 0);
        }
        bytes
    }
}
