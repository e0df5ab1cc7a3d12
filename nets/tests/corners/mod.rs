//! Small pictures to train on, and the program in their folder.
#![allow(dead_code)] // each test uses a part

use assert_cmd::cargo::cargo_bin_cmd;
use std::path::Path;
use std::process::Output;
use tempfile::TempDir;

/// Three classes of 8x8 pictures, in which another corner is bright.
pub fn corners() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (class, corner) in [("a", 0), ("b", 7), ("c", 56)] {
        let path = folder.path().join("pictures").join(class);
        std::fs::create_dir_all(&path).unwrap();
        for index in 0..20u8 {
            let mut pixels = [index; 64];
            pixels[corner] = 255 - index;
            let file = std::fs::File::create(path.join(format!("{index:02}.png"))).unwrap();
            let mut encoder = png::Encoder::new(file, 8, 8);
            encoder.set_color(png::ColorType::Grayscale);
            encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        }
    }
    folder
}

/// Runs in a folder, with the words of a command line.
pub fn nets(folder: &Path, line: &str) -> Output {
    cargo_bin_cmd!("nets").current_dir(folder).args(line.split_whitespace()).output().unwrap()
}

pub fn succeeds(folder: &Path, line: &str) -> String {
    let output = nets(folder, line);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The last line of a failure.
pub fn fails(folder: &Path, line: &str) -> String {
    let output = nets(folder, line);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}: {stderr}");
    stderr.lines().last().unwrap().to_owned()
}

pub const TRAIN: &str = "train mlp --data pictures --input 3x8x8 --epochs 4 --batch 9 --threads 1";
