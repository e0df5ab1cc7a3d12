//! Pictures lead to the same digit for every size, polarity and file format.

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgba, RgbaImage};
use kernels::Threads;
use nets::digits::{Digits, SIDE, to_input, trained_weights};
use nets::picture::digit_from_bytes;
use nets::{Net, NetOptions, PictureError, zoo};
use std::io::Cursor;

fn encode(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn read(picture: impl Into<DynamicImage>) -> Vec<u8> {
    digit_from_bytes(&encode(picture, ImageFormat::Png), "picture").unwrap()
}

fn digit(index: usize) -> GrayImage {
    let pixels = Digits::held_out().unwrap().pixels(index).to_vec();
    GrayImage::from_raw(SIDE as u32, SIDE as u32, pixels).unwrap()
}

fn inverted(mut picture: GrayImage) -> GrayImage {
    image::imageops::invert(&mut picture);
    picture
}

/// A bar of ink, 40 wide and 160 high, off the centre of a large sheet.
fn bar(ink: u8, ground: u8) -> GrayImage {
    GrayImage::from_fn(300, 400, |x, y| {
        let inked = (20..60).contains(&x) && (200..360).contains(&y);
        Luma([if inked { ink } else { ground }])
    })
}

fn span(pixels: &[u8]) -> ((usize, usize), (usize, usize)) {
    let inked =
        || pixels.iter().enumerate().filter(|(_, byte)| **byte > 127).map(|(i, _)| (i % SIDE, i / SIDE));
    let (x, y) = (|| inked().map(|(x, _)| x), || inked().map(|(_, y)| y));
    ((x().min().unwrap(), x().max().unwrap()), (y().min().unwrap(), y().max().unwrap()))
}

#[test]
fn what_looks_like_mnist_is_taken_as_it_is() {
    let picture = digit(17);
    assert_eq!(read(picture.clone()), picture.into_raw());
}

#[test]
fn ink_is_scaled_to_20_pixels_and_centred() {
    for picture in [bar(10, 240), bar(240, 10), bar(90, 130), bar(130, 90)] {
        assert_eq!(span(&read(picture)), ((12, 16), (4, 23)));
    }
}

#[test]
fn transparent_paper_is_white() {
    let opaque = bar(0, 255);
    let transparent = RgbaImage::from_fn(opaque.width(), opaque.height(), |x, y| {
        Rgba([0, 0, 0, 255 - opaque.get_pixel(x, y).0[0]])
    });
    assert_eq!(read(transparent), read(opaque));
}

#[test]
fn every_format_is_recognised_by_its_content() {
    let picture = bar(10, 240);
    let png = read(picture.clone());
    for format in [ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::Pnm, ImageFormat::WebP] {
        let colour = DynamicImage::from(DynamicImage::from(picture.clone()).into_rgb8());
        let bytes = encode(colour, format);
        assert_eq!(digit_from_bytes(&bytes, "picture").unwrap(), png, "{format:?}");
    }
    let jpeg = digit_from_bytes(&encode(picture, ImageFormat::Jpeg), "picture").unwrap();
    assert_eq!(span(&jpeg), span(&png));
}

/// Simulates a photograph: large, dark on shaded paper with darker edges, with a smaller digit off the centre.
fn photograph(digit: &GrayImage) -> GrayImage {
    let ink = image::imageops::resize(digit, 140, 140, image::imageops::FilterType::CatmullRom);
    GrayImage::from_fn(400, 300, |x, y| {
        let (dx, dy) = (f64::from(x) / 400.0 - 0.5, f64::from(y) / 300.0 - 0.5);
        let paper = 225.0 - 60.0 * (dx * dx + dy * dy);
        let inside = (200..340).contains(&x) && (90..230).contains(&y);
        let ink = if inside { f64::from(ink.get_pixel(x - 200, y - 90).0[0]) / 255.0 } else { 0.0 };
        Luma([(paper * (1.0 - ink) + 40.0 * ink) as u8])
    })
}

#[test]
fn digits_survive_being_photographed() {
    let graph = zoo::lenet5().unwrap();
    let mut net = Net::new(&graph, &trained_weights(&graph).unwrap(), &NetOptions::default()).unwrap();
    let labels = Digits::held_out().unwrap().labels().to_vec();
    let mut right = 0;
    for (index, label) in labels.iter().enumerate().take(200) {
        let input = to_input(&read(photograph(&digit(index))));
        let logits = net.run(&input, Threads::Seq).unwrap();
        let best = (0..10).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        right += usize::from(best == usize::from(*label));
    }
    assert!(right >= 196, "{right} of 200");
}

#[test]
fn dark_on_light_28x28_is_inverted() {
    let picture = inverted(bar(255, 0));
    let small = image::imageops::resize(&picture, 28, 28, image::imageops::FilterType::Triangle);
    let read = read(small);
    assert!(read.iter().filter(|byte| **byte > 127).count() < SIDE * SIDE / 2);
}

#[test]
fn what_is_no_picture_is_an_error() {
    let decode = |bytes: &[u8]| match digit_from_bytes(bytes, "file.png") {
        Err(error @ PictureError::Decode { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    for bytes in [&b""[..], b"a", b"This is a text file.\n", &[0; 4096]] {
        assert!(decode(bytes).starts_with("file.png: expected a picture"));
    }
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Jpeg]
    {
        let bytes = encode(DynamicImage::from(bar(10, 240)).into_rgb8(), format);
        for len in [4, 20, bytes.len() / 2, bytes.len() - 20] {
            let message = decode(&bytes[..len]);
            assert!(!message.contains('\n'), "{message}");
        }
    }
}

#[test]
fn absurd_extents_are_errors_and_allocate_nothing() {
    let pnm = b"P5 4294967295 4294967295 255\n0";
    assert!(matches!(digit_from_bytes(pnm, "file"), Err(PictureError::Decode { .. })));
    let pnm = b"P5 1000000 1000000 255\n0";
    assert!(matches!(digit_from_bytes(pnm, "file"), Err(PictureError::Decode { .. })));
}

#[test]
fn blank_paper_is_an_error() {
    for (width, height, level) in [(28, 28, 0), (28, 28, 255), (1, 1, 7), (300, 200, 128)] {
        let blank = encode(GrayImage::from_pixel(width, height, Luma([level])), ImageFormat::Png);
        assert!(matches!(digit_from_bytes(&blank, "file"), Err(PictureError::Blank { .. })));
    }
    let faint = encode(bar(120, 130), ImageFormat::Png);
    let error = digit_from_bytes(&faint, "file").unwrap_err();
    assert_eq!(
        error.to_string(),
        "file: expected a digit that stands out from its background, got a picture of one shade"
    );
}

#[test]
fn the_thinnest_ink_is_still_a_digit() {
    let dot = GrayImage::from_fn(3000, 2000, |x, y| Luma([if (x, y) == (2999, 0) { 0 } else { 255 }]));
    assert_eq!(read(dot).iter().max(), Some(&255));
    let line = GrayImage::from_fn(2, 3000, |x, _| Luma([if x == 0 { 0 } else { 255 }]));
    let _ = digit_from_bytes(&encode(line, ImageFormat::Png), "line");
}
