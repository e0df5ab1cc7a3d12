//! Weights: seeds, round trips through safetensors, and every kind of file error.

use kernels::Threads;
use nets::{
    Init, Net, NetError, NetOptions, Param, SeededWeights, WeightSet, WeightSource, WeightsError,
    to_safetensors, zoo,
};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};
use std::borrow::Cow;

type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

fn lenet5() -> (nets::Graph, WeightSet) {
    let graph = zoo::lenet5().unwrap();
    let weights = WeightSet::seeded(&graph, Init::Xavier, 5).unwrap();
    (graph, weights)
}

fn tensors(weights: &WeightSet) -> Tensors {
    weights.iter().map(|(name, t)| (name.to_owned(), t.dims().to_vec(), t.data().to_vec())).collect()
}

fn bytes(tensors: &Tensors) -> Vec<u8> {
    let views: Vec<_> = tensors.iter().map(|(name, dims, data)| (&**name, &**dims, &**data)).collect();
    to_safetensors(&views)
}

fn read(bytes: &[u8]) -> WeightsError {
    match WeightSet::from_safetensors(&zoo::lenet5().unwrap(), bytes, "file") {
        Err(NetError::Weights(error)) => error,
        other => panic!("expected an error about weights, got {other:?}"),
    }
}

#[test]
fn seeds_decide() {
    let (graph, weights) = lenet5();
    assert_eq!(weights, WeightSet::seeded(&graph, Init::Xavier, 5).unwrap());
    assert_ne!(weights, WeightSet::seeded(&graph, Init::Xavier, 6).unwrap());
    assert_ne!(weights, WeightSet::seeded(&graph, Init::He, 5).unwrap());
    // Identical on every machine: PCG and three exact operations.
    let first = weights.get("c1.weight").unwrap().data()[..3].to_vec();
    assert_eq!(first, FIRST, "{first:?}");
}

const FIRST: [f32; 3] = [0.06532379, 0.17818508, -0.06648941];

#[test]
fn variances_are_those_of_the_papers() {
    let (graph, xavier) = lenet5();
    let he = WeightSet::seeded(&graph, Init::He, 5).unwrap();
    let variance = |weights: &WeightSet, name: &str| {
        let data = weights.get(name).unwrap().data();
        data.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / data.len() as f64
    };
    let close =
        |got: f64, expected: f64| assert!((got / expected - 1.0).abs() < 0.05, "{got} is not {expected}");
    close(variance(&he, "c5.weight"), 2.0 / 400.0);
    close(variance(&xavier, "c5.weight"), 2.0 / (400.0 + 120.0 * 25.0));
    close(variance(&xavier, "f6.weight"), 2.0 / (120.0 + 84.0));
    assert_eq!(variance(&he, "c5.bias"), 0.0);
}

#[test]
fn safetensors_there_and_back() {
    let (graph, weights) = lenet5();
    let file = weights.to_safetensors();
    assert_eq!(WeightSet::from_safetensors(&graph, &file, "memory").unwrap(), weights);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    weights.save(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), file);
    assert_eq!(WeightSet::load(&graph, &path).unwrap(), weights);
}

#[test]
fn missing_tensor() {
    let mut all = tensors(&lenet5().1);
    all.retain(|(name, ..)| name != "c3.bias");
    let error = read(&bytes(&all));
    assert_eq!(error.to_string(), "file: tensor `c3.bias`: expected shape [16], got no such tensor");
}

#[test]
fn unknown_tensor() {
    let mut all = tensors(&lenet5().1);
    all.push(("fc9.weight".to_owned(), vec![1], vec![0.0]));
    let expected =
        "file: tensor `fc9.weight`: expected only the tensors of network `lenet5`, got this one too";
    assert_eq!(read(&bytes(&all)).to_string(), expected);
}

#[test]
fn wrong_shape() {
    let mut all = tensors(&lenet5().1);
    // As many elements, but transposed.
    all.iter_mut().find(|(name, ..)| name == "f6.weight").unwrap().1 = vec![120, 84];
    let expected = "file: tensor `f6.weight`: expected shape [84, 120], got [120, 84]";
    assert_eq!(read(&bytes(&all)).to_string(), expected);
}

#[test]
fn wrong_dtype() {
    let all = tensors(&lenet5().1);
    let data: Vec<Vec<u8>> = all.iter().map(|(_, _, data)| vec![0; data.len() * 2]).collect();
    let views = all
        .iter()
        .zip(&data)
        .map(|((name, dims, _), data)| (name, TensorView::new(Dtype::F16, dims.clone(), data).unwrap()));
    let file = serialize(views, None).unwrap();
    let expected = "file: tensor `c1.weight`: expected element type F32, got F16";
    assert_eq!(read(&file).to_string(), expected);
}

#[test]
fn truncated_anywhere() {
    let file = lenet5().1.to_safetensors();
    for len in [file.len() - 1, file.len() / 2, 1000] {
        let got = len as u64;
        assert_eq!(
            read(&file[..len]),
            WeightsError::FileLen { origin: "file".into(), expected: file.len() as u64, got }
        );
    }
    for len in [0, 1, 7, 8, 9, 100] {
        assert!(matches!(read(&file[..len]), WeightsError::Format { .. }), "{len} bytes");
    }
    let mut longer = file.clone();
    longer.push(0);
    assert!(matches!(read(&longer), WeightsError::FileLen { .. }));
}

#[test]
fn malformed_headers_are_errors_and_allocate_nothing() {
    let file = |header: &str, len: u64| [&len.to_le_bytes(), header.as_bytes(), &[0; 64]].concat();
    let header = |shape: &str, end: &str| {
        format!(r#"{{"c1.weight":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    let absurd = [
        header("[1099511627776]", "4398046511104"),
        header("[18446744073709551615,18446744073709551615]", "64"),
        header("[16]", "18446744073709551615"),
        header("[16]", "32"),
        header("[-1]", "64"),
        "{".to_owned(),
        "[]".to_owned(),
        "\0\0\0".to_owned(),
    ];
    for header in &absurd {
        read(&file(header, header.len() as u64));
    }
    for len in [u64::MAX, u64::MAX - 7, 1 << 63, 1 << 40, 99_999_999] {
        read(&file("{}", len));
    }
    read(&file("{}", 2));
    read(b"this is a text file, not a safetensors file\n");
}

#[test]
fn files_that_cannot_be_read_or_written() {
    let (graph, weights) = lenet5();
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    assert!(WeightSet::load(&graph, &missing).unwrap_err().to_string().starts_with("cannot read "));
    assert!(WeightSet::load(&graph, folder.path()).unwrap_err().to_string().starts_with("cannot read "));
    let error = weights.save(&missing.join("w")).unwrap_err().to_string();
    assert!(error.starts_with("cannot write "), "{error}");
    let large = folder.path().join("large");
    std::fs::File::create(&large).unwrap().set_len(1 << 33).unwrap();
    let error = WeightSet::load(&graph, &large).unwrap_err();
    assert!(matches!(error, NetError::TooLarge { needed, .. } if needed == 1 << 33), "{error}");
}

/// A source without parts, with some tensors too short.
struct Plain<'a>(&'a WeightSet, usize);

impl WeightSource for Plain<'_> {
    fn network(&self) -> &str {
        self.0.network()
    }

    fn tensor(&self, name: &str, param: &Param) -> Result<Option<Cow<'_, [f32]>>, NetError> {
        let whole = self.0.tensor(name, param)?;
        Ok(whole.map(|numbers| numbers[..numbers.len() - self.1].to_vec().into()))
    }
}

#[test]
fn parts_of_a_tensor_are_the_tensor() {
    let graph = zoo::lenet5().unwrap();
    let seeded = SeededWeights::new(&graph, Init::Xavier, 7).unwrap();
    let set = WeightSet::from_source(&graph, &seeded).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lenet5.onnx");
    nets::export::onnx::save(&graph, &set, 1, &file).unwrap();
    let stored = nets::import::onnx::load(&file, &Default::default()).unwrap();
    for (graph, source) in
        [(&graph, &seeded as &dyn WeightSource), (&graph, &set), (&stored.graph, &stored.weights)]
    {
        for (name, param) in graph.params() {
            let whole = source.tensor(&name, &param).unwrap().unwrap();
            let mut numbers = vec![f32::NAN; whole.len()];
            for (part, first) in numbers.chunks_mut(7).zip((0..).step_by(7)) {
                assert!(source.part(&name, &param, first, part).unwrap(), "{name}");
            }
            assert_eq!(numbers, *whole, "{name}");
            assert!(!source.part("none.weight", &param, 0, &mut []).unwrap());
        }
    }
}

#[test]
fn a_source_of_whole_tensors_makes_the_same_network() {
    let (graph, weights) = lenet5();
    let run = |source: &dyn WeightSource| {
        let mut net = Net::new(&graph, source, &NetOptions::default())?;
        Ok::<_, NetError>(net.run(&[0.25; 1024], Threads::Seq)?.to_vec())
    };
    assert_eq!(run(&Plain(&weights, 0)).unwrap(), run(&weights).unwrap());
    let error = run(&Plain(&weights, 1)).unwrap_err().to_string();
    assert!(error.contains("expected 150") && error.contains("149"), "{error}");
}
