//! Models of `onnx/make.py`: counts and outputs match ONNX Runtime, errors are named, and damaged bytes never
//! make the import panic.

use kernels::Threads;
use nets::import::onnx::{ImportOptions, Imported, load, load_bytes};
use nets::{Layer, Net, NetError, NetOptions, Shape};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Maximum difference from ONNX Runtime's output, as a fraction of its largest element.
const TOLERANCE: f32 = 1e-5;

#[derive(serde::Deserialize)]
struct Entry {
    params: u64,
    macs: u64,
    warnings: usize,
    /// Batch size of the recorded forward pass; `None` if there is none.
    batch: Option<usize>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx")
}

fn index() -> BTreeMap<String, Entry> {
    serde_json::from_slice(&std::fs::read(folder().join("index.json")).unwrap()).unwrap()
}

fn model(name: &str) -> Result<Imported, NetError> {
    load(&folder().join(format!("{name}.onnx")), &ImportOptions::default())
}

fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

#[test]
fn every_model_has_the_counts_of_its_script() {
    for (name, entry) in index() {
        let model = model(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let count = model.count(1).unwrap();
        assert_eq!((count.params, count.macs), (entry.params, entry.macs), "{name}");
        assert_eq!(model.warnings.len(), entry.warnings, "{name}: {:?}", model.warnings);
        let sum: u64 = count.layers.iter().map(|layer| layer.params).sum();
        assert_eq!(sum, count.params, "{name}");
        assert_eq!(model.graph.name(), name);
    }
}

#[test]
fn every_model_runs_like_onnx_runtime() {
    let mut ran = 0;
    for (name, entry) in index() {
        let Some(batch) = entry.batch else { continue };
        let worst = forward(&name, batch).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(worst <= TOLERANCE, "{name}: {worst:e} of the largest output");
        println!("{name}: {worst:.1e} of the largest output");
        ran += 1;
    }
    assert!(ran > 20);
}

/// The largest difference, as a fraction of the largest output.
fn forward(name: &str, batch: usize) -> Result<f32, NetError> {
    let model = model(name)?;
    let weights = model.weights.read(&model.graph)?;
    let mut net = Net::new(&model.graph, &weights, &NetOptions::default().batch(batch))?;
    let recorded = floats(&folder().join(format!("{name}.f32")));
    let (input, expected) = recorded.split_at(batch * model.graph.input().len()?);
    let got = net.run(input, Threads::Seq)?;
    assert_eq!(got.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let worst = got.iter().zip(expected).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
    Ok(worst / largest)
}

#[test]
fn bytes_in_memory_are_the_same_model() {
    let bytes = std::fs::read(folder().join("symbolic.onnx")).unwrap();
    let memory = load_bytes(&bytes, "symbolic", &ImportOptions::default()).unwrap();
    let file = model("symbolic").unwrap();
    assert_eq!(memory.graph, file.graph);
    assert_eq!(memory.weights.read(&memory.graph).unwrap(), file.weights.read(&file.graph).unwrap());
    // Its external data is not available, so it can be counted but not run.
    let bytes = std::fs::read(folder().join("external.onnx")).unwrap();
    let memory = load_bytes(&bytes, "external", &ImportOptions::default()).unwrap();
    assert_eq!(memory.count(1).unwrap().params, 432);
    assert!(memory.weights.read(&memory.graph).is_err());
}

#[test]
fn a_model_is_counted_without_the_file_of_its_weights() {
    let missing = model("missing_data").unwrap();
    let count = missing.count(1).unwrap();
    assert_eq!((count.params, count.macs), (4 * 27 + 4, 16 * 4 * 27));
    let error = missing.weights.read(&missing.graph).unwrap_err().to_string();
    assert!(error.contains("nothing.bin"), "{error}");
}

#[test]
fn another_batch_or_input_can_be_asked_for() {
    let path = folder().join("symbolic.onnx");
    let counts = |options: &ImportOptions| load(&path, options).unwrap().count(1).unwrap();
    let usual = counts(&ImportOptions::default());
    assert_eq!(counts(&ImportOptions::default().batch(5)), usual);
    let larger = counts(&ImportOptions::default().input(Shape::map(3, 16, 12)));
    assert_eq!((larger.params, larger.macs), (usual.params, 7 * 5 * 108 + 20));
    let error = load(&path, &ImportOptions::default().batch(0)).unwrap_err().to_string();
    assert_eq!(error, "batch: expected at least 1, got 0");
}

#[test]
fn unknown_operators_are_zero_and_named_or_strictly_errors() {
    let unknown = model("unknown").unwrap();
    assert_eq!(
        unknown.warnings,
        ["node `bernoulli_2` and 1 more: operator Bernoulli is counted as zero: it is not known",]
    );
    let random = unknown.graph.nodes().iter().find(|node| node.name == "bernoulli_2").unwrap();
    let (op, reason) = ("Bernoulli".to_owned(), "opset 17: it is not known".to_owned());
    assert_eq!(random.layer, Layer::Unknown { op, output: Shape::map(4, 5, 5), params: Vec::new(), reason });
    assert_eq!(unknown.graph.output(), Shape::map(4, 5, 5));
    let path = folder().join("unknown.onnx");
    let error = load(&path, &ImportOptions::default().strict(true)).unwrap_err().to_string();
    let expected = ": node `bernoulli_2` (Bernoulli): expected an operator with a layer (strict), got one without: it is not known";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn a_tensor_of_several_layers_is_counted_once() {
    let shared = model("shared").unwrap();
    assert_eq!(
        shared.warnings,
        [
            "tensor `conv_1.bias` is shared with 1 other layer(s) and counted once",
            "tensor `conv_1.weight` is shared with 1 other layer(s) and counted once",
        ]
    );
    let layers = shared.count(1).unwrap().layers;
    let params: Vec<u64> = layers.iter().map(|layer| layer.params).collect();
    assert_eq!(params, [0, 148, 0, 144]);
    assert!(layers.iter().skip(1).all(|layer| layer.macs == 25 * 144));
}

/// Half precision is a part of `f32`: every number has at most 11 significant bits.
#[test]
fn halves_are_read_as_they_are() {
    let half = model("half").unwrap();
    assert_eq!(half.count(1).unwrap().params, 24);
    let weights = half.weights.read(&half.graph).unwrap();
    let weight = weights.get("conv_2.weight").unwrap().data();
    assert!(
        weight.iter().all(|weight| weight.to_bits().trailing_zeros() >= 13 && weight.abs() <= 1.0),
        "{weight:?}"
    );
    assert!(weight.iter().any(|weight| *weight < -0.5));
}

/// The error for a model of `broken/`, without the file name.
fn refusal(name: &str) -> String {
    let path = folder().join("broken").join(format!("{name}.onnx"));
    match load(&path, &ImportOptions::default()) {
        Ok(_) => panic!("{name} was imported"),
        Err(error) => error.to_string().replace(&folder().join("broken").display().to_string(), "."),
    }
}

#[test]
fn every_mistake_is_named() {
    let table = include_str!("onnx/broken.txt");
    let mut names = Vec::new();
    for line in table.lines() {
        let (name, expected) = line.split_once(": ").unwrap();
        assert_eq!(refusal(name), expected, "{name}");
        names.push(format!("{name}.onnx"));
    }
    let files = std::fs::read_dir(folder().join("broken")).unwrap();
    let mut files: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    names.sort();
    assert_eq!(files, names, "broken.txt has a line for every broken model");
}

#[test]
fn files_that_are_no_models_are_refused() {
    let refused = |bytes: &[u8]| load_bytes(bytes, "it", &ImportOptions::default()).unwrap_err().to_string();
    assert_eq!(refused(&[0x3a, 0x7f, 0]), "it: byte 1: expected at most 1 bytes, got a field of 127");
    assert_eq!(refused(&[0x08, 0x08, 0x3b]), "it: byte 2: expected wire type 0, 1, 2 or 5, got 3");
    assert_eq!(
        refused(&[0x08, 0xff]),
        "it: byte 2: expected 1 more bytes, got the end of the message after 0"
    );
    let endless = [&[0x08][..], &[0xff; 10]].concat();
    assert_eq!(refused(&endless), "it: byte 1: expected a number of at most 64 bits, got a longer one");
    let missing = load("no/such.onnx".as_ref(), &ImportOptions::default()).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read no/such.onnx: "), "{missing}");
}

/// A small file of empty nodes must not exhaust memory.
#[test]
fn memory_is_limited_before_it_is_taken() {
    let nodes = [0x0a, 0x00].repeat(4 << 20);
    let mut bytes = vec![0x3a];
    let mut len = nodes.len();
    while len >= 0x80 {
        bytes.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    bytes.push(len as u8);
    bytes.extend(nodes);
    let error = load_bytes(&bytes, "it", &ImportOptions::default()).unwrap_err().to_string();
    assert!(error.ends_with("expected at most 256 MiB apart from weights, got more"), "{error}");
}

/// Whether the bytes can be imported. Nothing may panic, and every imported model can be counted.
fn survive(bytes: &[u8]) -> bool {
    let Ok(model) = load_bytes(bytes, "it", &ImportOptions::default()) else { return false };
    let _ = model.count(1);
    let small = model.count(1).is_ok_and(|count| count.params + count.untrained < 1 << 16);
    if small {
        let _ = model.weights.read(&model.graph);
    }
    true
}

#[test]
fn every_beginning_of_a_model_is_refused_or_imported() {
    for name in ["symbolic", "view_13", "constants", "residual"] {
        let bytes = std::fs::read(folder().join(format!("{name}.onnx"))).unwrap();
        let imported = (0..=bytes.len()).filter(|&len| survive(&bytes[..len])).count();
        assert!(imported >= 1 && imported < bytes.len() / 2, "{name}: {imported}");
    }
}

#[test]
fn flipped_bits_never_panic() {
    let mut state = 1u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for name in index().keys() {
        let bytes = std::fs::read(folder().join(format!("{name}.onnx"))).unwrap();
        for _ in 0..150 {
            let mut damaged = bytes.clone();
            for _ in 0..=random(3) {
                let at = random(damaged.len());
                damaged[at] ^= 1 << random(8);
            }
            survive(&damaged);
        }
    }
}
