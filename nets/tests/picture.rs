//! Pictures: whatever the size, the polarity and the file format, the same digit comes out.

mod pictures;

use kernels::Threads;
use nets::digits::{Digits, SIDE, to_input, trained_weights};
use nets::picture::digit_from_bytes;
use nets::{Net, NetOptions, PictureError, zoo};
use pictures::{Format, Picture};

fn read(picture: &Picture) -> Vec<u8> {
    digit_from_bytes(&picture.png(), "picture").unwrap()
}

fn digit(index: usize) -> Picture {
    let pixels = Digits::held_out().unwrap().pixels(index).to_vec();
    Picture { width: SIDE, height: SIDE, channels: 1, bytes: pixels }
}

/// A bar of ink, 40 wide and 160 high, off the centre of a large sheet.
fn bar(ink: u8, ground: u8) -> Picture {
    Picture::from_fn(300, 400, |x, y| {
        let inked = (20..60).contains(&x) && (200..360).contains(&y);
        [if inked { ink } else { ground }]
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
    assert_eq!(read(&picture), picture.bytes);
}

#[test]
fn ink_is_scaled_to_20_pixels_and_centred() {
    for picture in [bar(10, 240), bar(240, 10), bar(90, 130), bar(130, 90)] {
        assert_eq!(span(&read(&picture)), ((12, 16), (4, 23)));
    }
}

#[test]
fn transparent_paper_is_white() {
    let opaque = bar(0, 255);
    let transparent =
        Picture::from_fn(opaque.width, opaque.height, |x, y| [0, 0, 0, 255 - opaque.at(x, y)[0]]);
    assert_eq!(read(&transparent), read(&opaque));
}

#[test]
fn every_format_is_recognised_by_its_content() {
    let picture = bar(10, 240);
    let png = read(&picture);
    for format in [Format::Bmp, Format::Gif, Format::Pnm, Format::WebP] {
        let bytes = picture.encode(format);
        assert_eq!(digit_from_bytes(&bytes, "picture").unwrap(), png, "{format:?}");
    }
    let photograph = photograph(&digit(17));
    let jpeg = digit_from_bytes(&photograph.encode(Format::Jpeg), "picture").unwrap();
    let furthest = jpeg.iter().zip(read(&photograph)).map(|(&jpeg, png)| jpeg.abs_diff(png)).max();
    assert!(furthest <= Some(12), "{furthest:?} of 255");
}

/// An EXIF block of one entry, as a camera puts it behind the first two bytes of a JPEG file.
fn held(orientation: u8, jpeg: &[u8]) -> Vec<u8> {
    let exif =
        [&b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[orientation, 0, 0, 0, 0, 0, 0]];
    let exif = exif.concat();
    let len = (exif.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &len[..], &exif[..], &jpeg[2..]].concat()
}

/// The camera was turned: so is the bar, from upright to level and back.
#[test]
fn photographs_are_turned_as_the_camera_was_held() {
    let bar = bar(10, 240);
    let lying = Picture::from_fn(400, 300, |x, y| [bar.at(y, x)[0]]).encode(Format::Jpeg);
    let upright = span(&read(&bar));
    assert_eq!(span(&digit_from_bytes(&held(1, &lying), "lying").unwrap()), ((4, 23), (12, 16)));
    for orientation in [6, 8] {
        let digit = digit_from_bytes(&held(orientation, &lying), "turned").unwrap();
        assert_eq!(span(&digit), upright, "{orientation}");
    }
}

/// As photographed: large, dark on shaded paper with darker edges, smaller and off centre.
fn photograph(digit: &Picture) -> Picture {
    let ink = digit.stretched(140, 140);
    Picture::from_fn(400, 300, |x, y| {
        let (dx, dy) = (x as f64 / 400.0 - 0.5, y as f64 / 300.0 - 0.5);
        let paper = 225.0 - 60.0 * (dx * dx + dy * dy);
        let inside = (200..340).contains(&x) && (90..230).contains(&y);
        let ink = if inside { f64::from(ink.at(x - 200, y - 90)[0]) / 255.0 } else { 0.0 };
        [(paper * (1.0 - ink) + 40.0 * ink) as u8]
    })
}

#[test]
fn digits_survive_being_photographed() {
    let graph = zoo::lenet5().unwrap();
    let mut net = Net::new(&graph, &trained_weights(&graph).unwrap(), &NetOptions::default()).unwrap();
    let labels = Digits::held_out().unwrap().labels().to_vec();
    let mut right = 0;
    for (index, label) in labels.iter().enumerate().take(200) {
        let input = to_input(&read(&photograph(&digit(index))));
        let logits = net.run(&input, Threads::Seq).unwrap();
        let best = (0..10).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        right += usize::from(best == usize::from(*label));
    }
    assert!(right >= 196, "{right} of 200");
}

#[test]
fn dark_on_light_28x28_is_inverted() {
    let read = read(&bar(255, 0).inverted().stretched(28, 28));
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
    for format in [Format::Png, Format::Bmp, Format::WebP, Format::Jpeg, Format::Pnm, Format::Gif] {
        let picture = bar(10, 240);
        let bytes = picture.encode(format);
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

/// A PNG, a GIF, a BMP, a WebP and a JPEG file of a few bytes that say they have a thousand million pixels or more.
#[test]
fn headers_are_not_believed() {
    let sides = |format: Format, places: &[(usize, &[u8])]| {
        let mut bytes = bar(10, 240).encode(format);
        for &(place, side) in places {
            bytes[place..][..side.len()].copy_from_slice(side);
        }
        bytes
    };
    let jpeg = bar(10, 240).encode(Format::Jpeg);
    let frame = jpeg.windows(2).position(|marker| marker == [0xFF, 0xC0]).unwrap() + 5;
    let files = [
        sides(Format::Bmp, &[(18, &[0, 0, 1, 0, 0, 0, 1, 0])]),
        sides(Format::Gif, &[(6, &[255; 4])]),
        sides(Format::Jpeg, &[(frame, &[255; 4])]),
        sides(Format::WebP, &[(21, &[255, 255, 255, 15])]),
    ];
    for bytes in files {
        let error = digit_from_bytes(&bytes, "file").unwrap_err().to_string();
        assert!(error.starts_with("file: expected a picture") && error.contains("pixels"), "{error}");
    }
}

#[test]
fn blank_paper_is_an_error() {
    for (width, height, level) in [(28, 28, 0), (28, 28, 255), (1, 1, 7), (300, 200, 128)] {
        let blank = Picture::even(width, height, [level]).png();
        assert!(matches!(digit_from_bytes(&blank, "file"), Err(PictureError::Blank { .. })));
    }
    let error = digit_from_bytes(&bar(120, 130).png(), "file").unwrap_err();
    assert_eq!(
        error.to_string(),
        "file: expected a digit that stands out from its background, got a picture of one shade"
    );
}

#[test]
fn the_thinnest_ink_is_still_a_digit() {
    let dot = Picture::from_fn(3000, 2000, |x, y| [if (x, y) == (2999, 0) { 0 } else { 255 }]);
    assert_eq!(read(&dot).iter().max(), Some(&255));
    let line = Picture::from_fn(2, 3000, |x, _| [if x == 0 { 0 } else { 255 }]);
    let _ = digit_from_bytes(&line.png(), "line");
}
