//! Data sets and their faults, the statistics of the training part, and the thread that prepares batches.

use kernels::Size2;
use nets::NetError;
use nets::data::{Augment, Dataset, Feed, Frame, Normalisation, Normalise, Parts, Span, open};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const GRAY: Frame = Frame { channels: 1, size: Size2::square(4) };

fn idx(magic: u32, extents: &[u32], data: &[u8]) -> Vec<u8> {
    let header = [magic].into_iter().chain(extents.iter().copied()).flat_map(u32::to_be_bytes);
    header.chain(data.iter().copied()).collect()
}

/// MNIST with `count` pictures of 2x3 pixels in both parts. Picture `i` has the bytes `10 i` to `10 i + 5` and label `i`.
fn mnist(count: u8) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let pictures: Vec<u8> =
        (0..count).flat_map(|picture| (0..6).map(move |pixel| 10 * picture + pixel)).collect();
    let labels: Vec<u8> = (0..count).collect();
    for part in ["train", "t10k"] {
        let images = idx(0x803, &[count.into(), 2, 3], &pictures);
        fs::write(folder.path().join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        let labels = idx(0x801, &[count.into()], &labels);
        fs::write(folder.path().join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    }
    folder
}

fn message(folder: &Path) -> String {
    let error = open(folder).map(|_| ()).unwrap_err().to_string();
    error.replace(&folder.display().to_string(), "DIR")
}

fn write_png(path: &Path, width: u32, height: u32, colour: png::ColorType, bytes: &[u8]) {
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), width, height);
    encoder.set_color(colour);
    encoder.write_header().unwrap().write_image_data(bytes).unwrap();
}

#[test]
fn the_digits_are_split_and_none_is_in_both_parts() {
    let Parts { training, validation } = Parts::digits().unwrap();
    assert_eq!((training.len(), validation.len(), training.classes().len()), (9000, 1000, 10));
    let frame = Frame { channels: 1, size: Size2::square(28) };
    let bytes = |data: &Dataset, index: usize| {
        let mut picture = vec![0.0; frame.len()];
        data.read(index, frame, &mut picture).unwrap();
        picture.iter().map(|&number| (number * 255.0).round() as u8).collect::<Vec<u8>>()
    };
    let all: std::collections::HashSet<Vec<u8>> = (0..9000).map(|index| bytes(&training, index)).collect();
    assert_eq!(all.len(), 9000, "no two are the same");
    assert!((0..1000).all(|index| !all.contains(&bytes(&validation, index))));
    // The held-out part has 100 of each class, and so do the last 1,000 to train on.
    for class in 0..10 {
        assert_eq!((0..1000).filter(|&index| validation.label(index) == class).count(), 100);
        assert_eq!((8000..9000).filter(|&index| training.label(index) == class).count(), 100);
    }
}

#[test]
fn idx_files_are_read_and_framed() {
    let folder = mnist(3);
    let parts = open(folder.path()).unwrap();
    assert_eq!((parts.training.len(), parts.validation.len()), (3, 3));
    assert_eq!(parts.training.label(2), 2);
    let mut picture = [9.0; 16];
    parts.training.read(2, GRAY, &mut picture).unwrap();
    // Rows of three in the middle of four, rows of zeros above and below.
    let bytes: Vec<f32> = picture.iter().map(|number| number * 255.0).collect();
    let expected = [0.0, 0.0, 0.0, 0.0, 20.0, 21.0, 22.0, 0.0, 23.0, 24.0, 25.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    assert!(bytes.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3), "{bytes:?}");
    // Gray becomes three equal channels.
    let frame = Frame { channels: 3, ..GRAY };
    let mut colours = [9.0; 48];
    parts.training.read(2, frame, &mut colours).unwrap();
    assert!(colours.chunks(16).all(|channel| channel == picture));
}

#[test]
fn packed_idx_files_are_read() {
    use std::io::Write;
    let folder = mnist(3);
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let file = fs::File::create(format!("{}.gz", path.display())).unwrap();
        let mut packer = flate2::write::GzEncoder::new(file, flate2::Compression::default());
        packer.write_all(&bytes).unwrap();
        packer.finish().unwrap();
        fs::remove_file(path).unwrap();
    }
    assert_eq!(open(folder.path()).unwrap().training.label(1), 1);
}

#[test]
fn damaged_idx_files_are_reported() {
    let cases: [(&str, Vec<u8>, &str); 8] = [
        (
            "train-images-idx3-ubyte",
            idx(0x801, &[3, 2, 3], &[0; 18]),
            "DIR/train-images-idx3-ubyte: expected the magic number 0x00000803, got 0x00000801",
        ),
        ("train-images-idx3-ubyte", vec![0, 0], "expected an IDX header, got a file that ends before it"),
        (
            "train-images-idx3-ubyte",
            idx(0x803, &[3, 2], &[]),
            "expected the extents of an IDX header, got a file that ends before it",
        ),
        ("train-images-idx3-ubyte", idx(0x803, &[3, 2, 3], &[0; 17]), "expected 18 bytes of data, got 17"),
        ("train-images-idx3-ubyte", idx(0x803, &[3, 2, 3], &[0; 19]), "expected 18 bytes of data, got more"),
        (
            "train-images-idx3-ubyte",
            idx(0x803, &[u32::MAX; 3], &[0; 17]),
            "DIR/train-images-idx3-ubyte: expected extents of a set of pictures, got [4294967295, 4294967295, 4294967295]",
        ),
        (
            "t10k-labels-idx1-ubyte",
            idx(0x801, &[3], &[1, 10, 2]),
            "DIR/t10k-labels-idx1-ubyte: expected labels from 0 to 9, got 10 for picture 1",
        ),
        (
            "train-labels-idx1-ubyte",
            idx(0x801, &[2], &[1, 2]),
            "DIR/train-labels-idx1-ubyte: expected 3 labels, one for each picture, got 2",
        ),
    ];
    for (name, bytes, expected) in cases {
        let folder = mnist(3);
        fs::write(folder.path().join(name), bytes).unwrap();
        let message = message(folder.path());
        assert!(message.ends_with(expected), "{message}");
    }
    // Extents that fit 64 bits but no memory: nothing is allocated.
    let folder = mnist(3);
    fs::write(folder.path().join("train-images-idx3-ubyte"), idx(0x803, &[1 << 20, 1 << 10, 1 << 10], &[]))
        .unwrap();
    assert!(matches!(open(folder.path()), Err(NetError::TooLarge { .. })));
    let folder = mnist(3);
    fs::remove_file(folder.path().join("t10k-labels-idx1-ubyte")).unwrap();
    assert!(message(folder.path()).starts_with("cannot read DIR/t10k-labels-idx1-ubyte"));
}

/// Records of CIFAR-10 with these labels. All bytes of picture `i` are `i`.
fn records(labels: &[u8]) -> Vec<u8> {
    let record =
        |(index, &label): (usize, &u8)| std::iter::once(label).chain(std::iter::repeat_n(index as u8, 3072));
    labels.iter().enumerate().flat_map(record).collect()
}

#[test]
fn cifar_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("cifar-10-batches-bin");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("data_batch_1.bin"), records(&[3, 9])).unwrap();
    fs::write(inner.join("data_batch_2.bin"), records(&[0])).unwrap();
    fs::write(inner.join("test_batch.bin"), records(&[7])).unwrap();
    let Parts { training, validation } = open(folder.path()).unwrap();
    assert_eq!((training.len(), validation.len()), (3, 1));
    assert_eq!(training.classes()[training.label(1) as usize], "truck");
    let frame = Frame { channels: 3, size: Size2::square(32) };
    let mut picture = vec![9.0; frame.len()];
    training.read(1, frame, &mut picture).unwrap();
    assert!(picture.iter().all(|&number| (number * 255.0 - 1.0).abs() < 1e-4));

    let gray = training.check("lenet5", 10, Frame { channels: 1, size: Size2::square(32) }).unwrap_err();
    assert!(
        gray.to_string()
            .ends_with("expected gray pictures, as the network reads them, got pictures in colour")
    );
    let few = training.check("resnet", 1000, frame).unwrap_err();
    assert!(few.to_string().ends_with("expected 1000 classes, as many as outputs, got 10"), "{few}");

    fs::write(inner.join("test_batch.bin"), records(&[7, 12])).unwrap();
    assert!(message(&inner).ends_with("test_batch.bin: expected labels from 0 to 9, got 12 for picture 1"));
    fs::write(inner.join("test_batch.bin"), &records(&[7])[..3000]).unwrap();
    assert!(message(&inner).ends_with("test_batch.bin: expected records of 3073 bytes, got 3000 bytes"));
}

#[test]
fn folders_are_classes() {
    let folder = tempfile::tempdir().unwrap();
    for (class, byte) in [("dark", 10u8), ("light", 250)] {
        fs::create_dir(folder.path().join(class)).unwrap();
        for index in 0..10 {
            let path = folder.path().join(class).join(format!("{index}.png"));
            write_png(&path, 8, 4, png::ColorType::Rgb, &[byte; 96]);
        }
    }
    let Parts { training, validation } = open(folder.path()).unwrap();
    assert_eq!(training.classes(), ["dark", "light"]);
    assert_eq!((training.len(), validation.len()), (18, 2));
    // A tenth of each class is held out.
    assert_ne!(validation.label(0), validation.label(1));
    for index in 0..18 {
        let mut picture = [0.0; 16];
        training.read(index, GRAY, &mut picture).unwrap();
        let expected = if training.label(index) == 0 { 10.0 } else { 250.0 };
        assert!(picture.iter().all(|number| (number * 255.0 - expected).abs() < 1.01), "{picture:?}");
    }

    // Hidden folders and files belong to other programs.
    fs::create_dir(folder.path().join(".thumbnails")).unwrap();
    fs::write(folder.path().join("dark").join("._0.png"), b"no picture").unwrap();
    assert_eq!(open(folder.path()).unwrap().training.len(), 18);

    fs::create_dir(folder.path().join("empty")).unwrap();
    let empty = message(folder.path());
    assert!(
        empty.starts_with("DIR/empty: expected pictures (png, ") && empty.ends_with("of the class, got none"),
        "{empty}"
    );
    fs::write(folder.path().join("empty").join("broken.png"), b"no picture").unwrap();
    let parts = open(folder.path()).unwrap();
    let broken = (0..parts.training.len()).map(|index| parts.training.read(index, GRAY, &mut [0.0; 16]));
    let validated =
        (0..parts.validation.len()).map(|index| parts.validation.read(index, GRAY, &mut [0.0; 16]));
    let errors: Vec<String> =
        broken.chain(validated).filter_map(|read| Some(read.err()?.to_string())).collect();
    assert!(errors.len() == 1 && errors[0].contains("broken.png: expected a picture"), "{errors:?}");
}

#[test]
fn the_first_pictures_of_folders_are_of_all_classes() {
    let folder = tempfile::tempdir().unwrap();
    // More of one class than of the others, as in most collections.
    let counts = [("a", 6usize), ("b", 60), ("c", 14)];
    for part in ["train", "val"] {
        for (class, count) in counts {
            let path = folder.path().join(part).join(class);
            fs::create_dir_all(&path).unwrap();
            (0..count).for_each(|index| fs::write(path.join(format!("{index:02}.png")), b"").unwrap());
        }
    }
    let Parts { training, validation } = open(folder.path()).unwrap();
    // The rest of folders of which a part is held out has the same order.
    let rest = open(&folder.path().join("val")).unwrap().training;
    // Each class is rounded, and which pictures are held out is random.
    for (data, tolerance) in [(training, 2.0), (validation, 2.0), (rest, 4.0)] {
        for first in 1..=data.len() {
            for (label, (class, count)) in (0..).zip(counts) {
                let got = (0..first).filter(|&index| data.label(index) == label).count() as f64;
                let share = (first * count) as f64 / 80.0;
                assert!((got - share).abs() < tolerance, "{class}: {got} of the first {first}, not {share}");
            }
        }
    }
}

#[test]
fn folders_with_parts_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    for (part, classes) in [("train", ["a", "b"]), ("val", ["a", "b"])] {
        for class in classes {
            let path = folder.path().join(part).join(class);
            fs::create_dir_all(&path).unwrap();
            write_png(&path.join("1.PNG"), 4, 4, png::ColorType::Grayscale, &[7; 16]);
        }
    }
    let parts = open(folder.path()).unwrap();
    assert_eq!((parts.training.len(), parts.validation.len()), (2, 2));
    fs::rename(folder.path().join("val/b"), folder.path().join("val/c")).unwrap();
    assert_eq!(message(folder.path()), "DIR/val: expected the classes of the training part (a, b), got a, c");
    // Without folders in it, `train` is a class like others.
    let vehicles = tempfile::tempdir().unwrap();
    for class in ["train", "car"] {
        fs::create_dir(vehicles.path().join(class)).unwrap();
        write_png(&vehicles.path().join(class).join("1.png"), 4, 4, png::ColorType::Grayscale, &[7; 16]);
    }
    assert_eq!(open(vehicles.path()).unwrap().training.classes(), ["car", "train"]);
    let empty = tempfile::tempdir().unwrap();
    assert!(
        message(empty.path())
            .starts_with("DIR: expected MNIST in IDX form, CIFAR-10 in binary form, or a folder")
    );
    assert!(message(&empty.path().join("missing")).starts_with("cannot read DIR"));
}

#[test]
fn folds_share_every_class() {
    let data = Dataset::digits(true).unwrap();
    let folds = data.folds(3, 7);
    assert_eq!(folds.iter().map(Dataset::len).sum::<usize>(), 1000);
    for fold in &folds {
        assert!((333..=334).contains(&fold.len()));
        for class in 0..10 {
            let members = (0..fold.len()).filter(|&index| fold.label(index) == class).count();
            assert!((32..=35).contains(&members), "{class}: {members}");
        }
    }
    let joined = Dataset::joined(&folds[1..]);
    assert_eq!(joined.len() + folds[0].len(), 1000);
}

#[test]
fn statistics_are_those_of_the_training_part() {
    let folder = mnist(3);
    let training = open(folder.path()).unwrap().training;
    let frame = Frame { channels: 1, size: Size2::new(2, 3) };
    let numbers: Vec<f64> =
        (0..3).flat_map(|picture| (0..6).map(move |pixel| f64::from(10 * picture + pixel) / 255.0)).collect();
    let mean = numbers.iter().sum::<f64>() / 18.0;
    let deviation = (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 18.0).sqrt();
    let normalised = |kind| {
        let normalisation = Normalisation::of(&training, frame, kind).unwrap();
        let mut all = vec![0.0; 18];
        for (index, picture) in all.chunks_exact_mut(6).enumerate() {
            training.read(index, frame, picture).unwrap();
            normalisation.apply(picture);
        }
        (normalisation, all)
    };
    let (channel, all) = normalised(Normalise::Channel);
    let statistics = channel.statistics().unwrap();
    assert!((f64::from(statistics.mean()[0]) - mean).abs() < 1e-6);
    assert!((f64::from(statistics.deviation()[0]) - deviation).abs() < 1e-6);
    assert!(all.iter().sum::<f32>().abs() < 1e-5);
    assert!((all.iter().map(|x| x * x).sum::<f32>() / 18.0 - 1.0).abs() < 1e-5);
    // With the mean picture, each pixel has mean zero over the pictures.
    let (image, all) = normalised(Normalise::Image);
    assert_eq!(image.statistics().unwrap().mean().len(), 6);
    for pixel in 0..6 {
        assert!(all.iter().skip(pixel).step_by(6).sum::<f32>().abs() < 1e-5);
    }
    assert!((all.iter().map(|x| x * x).sum::<f32>() / 18.0 - 1.0).abs() < 1e-5);
    let (none, all) = normalised(Normalise::None);
    assert!(none.statistics().is_none() && (all[17] - 25.0 / 255.0).abs() < 1e-6);
}

fn feed(seed: Option<u64>) -> Feed {
    let frame = Frame { channels: 1, size: Size2::square(32) };
    Feed {
        data: Dataset::digits(true).unwrap(),
        frame,
        normalisation: Normalisation::none(frame),
        augment: Augment { cut_out: 5, flip: true, ..Augment::DIGITS },
        batch: 96,
        seed,
    }
}

/// All batches of a span, as labels and bits.
fn all(feed: &Feed, span: Span, pause: std::time::Duration) -> Vec<(Vec<u32>, Vec<u32>)> {
    let mut batches = feed.start(span).unwrap();
    let mut all = Vec::new();
    while let Some(batch) = batches.next_batch().unwrap() {
        std::thread::sleep(pause);
        all.push((batch.labels.clone(), batch.images.iter().map(|number| number.to_bits()).collect()));
        batches.reuse(batch);
    }
    all
}

#[test]
fn batches_do_not_depend_on_timing_or_on_where_they_begin() {
    let feed = feed(Some(5));
    let none = std::time::Duration::ZERO;
    let span = |epoch, batch| Span { epoch, batch, end: 2 };
    let whole = all(&feed, span(0, 0), none);
    assert_eq!(whole.len(), 20, "ten whole batches of 96 in each of two epochs");
    assert_eq!(whole, all(&feed, span(0, 0), std::time::Duration::from_millis(3)));
    assert_eq!(whole[7..], all(&feed, span(0, 7), none));
    assert_eq!(whole[13..], all(&feed, span(1, 3), none));
    assert_ne!(whole[0], whole[10], "each epoch has another order");
    assert_ne!(whole[0], all(&Feed { seed: Some(6), ..feed }, span(0, 0), none)[0]);
}

#[test]
fn the_order_of_the_data_ends_with_a_small_batch() {
    let feed = Feed { augment: Augment::default(), ..feed(None) };
    let whole = all(&feed, Span { epoch: 0, batch: 0, end: 1 }, std::time::Duration::ZERO);
    assert_eq!(whole.iter().map(|(labels, _)| labels.len()).collect::<Vec<_>>()[9..], [96, 40]);
    let labels: Vec<u32> = whole.into_iter().flat_map(|(labels, _)| labels).collect();
    assert_eq!(labels, (0..1000).map(|index| feed.data.label(index)).collect::<Vec<_>>());
}

#[test]
fn a_thread_that_panics_is_no_end_of_the_data() {
    // Digits do not fit into four pixels. A trainer checks it.
    let feed = Feed { frame: GRAY, ..feed(None) };
    let mut batches = feed.start(Span { epoch: 0, batch: 0, end: 1 }).unwrap();
    let next = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| batches.next_batch()));
    assert!(next.is_err());
}

#[test]
fn a_reader_that_leaves_ends_the_thread() {
    let feed = feed(Some(1));
    let mut batches = feed.start(Span { epoch: 0, batch: 0, end: 1_000_000 }).unwrap();
    assert_eq!(batches.next_batch().unwrap().unwrap().labels.len(), 96);
    // Waits for the thread, which would run for hours.
    drop(batches);
}
