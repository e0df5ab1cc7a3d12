//! The backend node tests of the Python package `onnx`, which `nets/train/onnx_node_cases.py` writes to a folder.
//!
//! Every test with `f32` data passes or is refused by name. None is wrong, and none panics. The test reads the folder that
//! the environment variable ONNX_NODE_TESTS names, and says so if there is none.

use kernels::Threads;
use nets::import::onnx::{ImportOptions, InputExtents, load_bytes_for};
use nets::{CompiledNet, NetOptions};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const FLOAT: u64 = 1;

/// The share of tests that must pass, in per cent.
const LEAST_PASSED: usize = 90;

/// Operators whose tests count, those that stand in feed-forward and recurrent networks.
const COUNTED: &str = "\
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization Cast CastLike Ceil \
    Celu CenterCropPad Clip Col2Im Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DeformConv DepthToSpace Div Dropout Einsum Elu \
    Equal Erf Exp Expand Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool \
    GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Hardmax Identity \
    InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax \
    LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg Not OneHot Or \
    PRelu Pad Pow RNN Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin \
    RMSNormalization Range ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Selu Shape Shrink \
    Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh \
    ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor";

/// One field of a protocol buffers message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (&byte, rest) = bytes.split_first().expect("a byte of a number");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            2 => {
                let len = varint(&mut bytes) as usize;
                let (own, rest) = bytes.split_at(len);
                bytes = rest;
                Field::Bytes(own)
            }
            wire => {
                let len = if wire == 1 { 8 } else { 4 };
                let (own, rest) = bytes.split_at(len);
                bytes = rest;
                Field::Bytes(own)
            }
        };
        fields.push((key >> 3, value));
    }
    fields
}

/// The messages of a field.
fn messages(bytes: &[u8], number: u64) -> Vec<&[u8]> {
    let all = fields(bytes).into_iter().filter(|(field, _)| *field == number);
    all.filter_map(|(_, field)| if let Field::Bytes(bytes) = field { Some(bytes) } else { None }).collect()
}

fn text(bytes: &[u8], number: u64) -> String {
    messages(bytes, number).last().map_or(String::new(), |text| String::from_utf8_lossy(text).into_owned())
}

/// A `TensorProto`.
struct Tensor {
    dims: Vec<usize>,
    dtype: u64,
    values: Vec<f32>,
    bytes: Vec<u8>,
}

impl Tensor {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let (mut dims, mut dtype, mut values, mut raw) = (Vec::new(), 0, Vec::new(), None);
        for (number, field) in fields(&bytes) {
            match (number, field) {
                (1, Field::Number(dim)) => dims.push(dim as usize),
                (1, Field::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        dims.push(varint(&mut packed) as usize);
                    }
                }
                (2, Field::Number(number)) => dtype = number,
                (4, Field::Bytes(floats)) => values.extend(decode(FLOAT, floats)),
                (5 | 7, Field::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        values.push(varint(&mut packed) as i64 as f32);
                    }
                }
                (5 | 7, Field::Number(number)) => values.push(number as i64 as f32),
                (9, Field::Bytes(bytes)) => raw = Some(bytes),
                _ => {}
            }
        }
        if let Some(raw) = raw {
            values = decode(dtype, raw);
        }
        Self { dims, dtype, values, bytes }
    }
}

/// Numbers of a type as `f32`; none for types that no test here uses.
fn decode(dtype: u64, raw: &[u8]) -> Vec<f32> {
    match dtype {
        1 => raw.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
        2 | 9 => raw.iter().map(|&byte| f32::from(byte)).collect(),
        3 => raw.iter().map(|&byte| f32::from(byte as i8)).collect(),
        6 => raw.as_chunks().0.iter().map(|&bytes| i32::from_le_bytes(bytes) as f32).collect(),
        7 => raw.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes) as f32).collect(),
        _ => Vec::new(),
    }
}

/// A test: a model with its tensors.
struct Case {
    name: String,
    /// The operators of its nodes; the first gives it a row in the table.
    ops: Vec<String>,
    model: Vec<u8>,
    inputs: Vec<(String, Tensor)>,
    outputs: Vec<(String, Tensor)>,
}

impl Case {
    fn read(folder: &Path) -> Self {
        let model = std::fs::read(folder.join("model.onnx")).unwrap();
        let graph = messages(&model, 7)[0];
        let stored: Vec<String> = messages(graph, 5).into_iter().map(|tensor| text(tensor, 8)).collect();
        let names = |field: u64| messages(graph, field).into_iter().map(|info| text(info, 1));
        let data = |kind: &str, names: Vec<String>| {
            let path = |number: usize| folder.join(format!("test_data_set_0/{kind}_{number}.pb"));
            let read = |(number, name)| (name, Tensor::read(&path(number)));
            names.into_iter().enumerate().map(read).collect()
        };
        let inputs = data("input", names(11).filter(|name| !stored.contains(name)).collect());
        let outputs = data("output", names(12).collect());
        let nodes = messages(graph, 1);
        let ops = nodes.iter().map(|node| text(node, 4)).collect();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        Self { name, ops, model, inputs, outputs }
    }

    /// Whether every operator is one whose tests count.
    fn is_counted(&self) -> bool {
        self.ops.iter().all(|op| COUNTED.split_whitespace().any(|counted| counted == op))
    }

    /// Whether all its numbers are `f32`, or integers and truth values beside them.
    fn is_f32(&self) -> bool {
        let tensors = || self.inputs.iter().chain(&self.outputs).map(|(_, tensor)| tensor);
        tensors().all(|tensor| [1, 6, 7, 9].contains(&tensor.dtype))
            && tensors().any(|tensor| tensor.dtype == FLOAT)
    }

    /// Whether it needs something that no network of a fixed graph has: training, or random numbers.
    fn is_random(&self) -> bool {
        ["training", "bernoulli", "random"].iter().any(|part| self.name.contains(part))
    }

    /// The model in which these inputs are constants.
    fn with_constants(&self, is_constant: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut graph = Vec::new();
        for (_, (name, tensor)) in self.inputs.iter().enumerate().filter(|&(index, _)| is_constant(index)) {
            let named = [&tensor.bytes[..], &message(8, name.as_bytes())].concat();
            graph.extend(message(5, &named));
        }
        // A second field of a message is merged with the first one.
        [&self.model[..], &message(7, &graph)].concat()
    }

    fn run(&self, is_constant: impl Fn(usize) -> bool) -> Result<(), String> {
        let model = self.with_constants(&is_constant);
        let inputs = self.inputs.iter().enumerate().filter(|&(index, _)| !is_constant(index));
        let inputs: Vec<&(String, Tensor)> = inputs.map(|(_, input)| input).collect();
        let data: Vec<InputExtents<'_>> =
            inputs.iter().map(|(name, tensor)| InputExtents { name, dims: &tensor.dims }).collect();
        let batch = data.first().and_then(|first| first.dims.first().copied()).unwrap_or(1).max(1);
        let options = ImportOptions::default().batch(batch);
        let imported =
            load_bytes_for(&model, &self.name, &options, &data).map_err(|error| error.to_string())?;
        let options = NetOptions::default().batch(batch).all_outputs(true).max_threads(1);
        let net = CompiledNet::new(&imported.graph, &imported.weights, &options)
            .map_err(|error| error.to_string())?;
        let mut memory = net.memory().map_err(|error| error.to_string())?;
        let lens = net.outputs().iter().map(|shape| shape.elements(batch).unwrap());
        let mut results: Vec<Vec<f32>> = lens.map(|len| vec![f32::NAN; len]).collect();
        let values: Vec<&[f32]> = inputs.iter().map(|(_, tensor)| tensor.values.as_slice()).collect();
        let mut outputs: Vec<&mut [f32]> = results.iter_mut().map(Vec::as_mut_slice).collect();
        net.run_all(&values, &mut outputs, &mut memory, Threads::Seq).map_err(|error| error.to_string())?;
        for ((name, dims), result) in imported.extents.outputs.iter().zip(&results) {
            let (_, expected) = self.outputs.iter().find(|(other, _)| other == name).unwrap();
            if dims.as_ref() != Some(&expected.dims) {
                return Err(format!("WRONG: expected extents {:?}, got {dims:?}", expected.dims));
            }
            // The tolerances of the package.
            let close =
                |a: f32, b: f32| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-6 + 1e-3 * b.abs();
            if let Some(place) = result.iter().zip(&expected.values).position(|(&a, &b)| !close(a, b)) {
                let (got, expected) = (result[place], expected.values[place]);
                return Err(format!("WRONG: expected {expected} as element {place}, got {got}"));
            }
        }
        Ok(())
    }

    /// Integers are constants. If that is refused, so is every input but the first.
    fn outcome(&self) -> Result<(), String> {
        let is_whole = |index: usize| self.inputs[index].1.dtype != FLOAT;
        let all_whole = (0..self.inputs.len()).all(is_whole);
        let first = self.run(|index| is_whole(index) && !(all_whole && index == 0));
        match first {
            Err(error) if !error.starts_with("WRONG") => self
                .run(|index| index > 0)
                .map_err(|second| if second.starts_with("WRONG") { second } else { error }),
            done => done,
        }
    }
}

fn message(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for mut value in [number << 3 | 2, bytes.len() as u64] {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }
    out.extend(bytes);
    out
}

#[derive(Default)]
struct Tally {
    passed: usize,
    refused: usize,
    wrong: usize,
    panicked: usize,
}

fn cases(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.join("model.onnx").exists());
    paths.sort();
    paths
}

fn run_all(folder: &Path, counted: impl Fn(&Case) -> bool) -> (Tally, String) {
    let (mut total, mut by_op, mut log) = (Tally::default(), BTreeMap::<String, Tally>::new(), String::new());
    for path in cases(folder) {
        let case = Case::read(&path);
        if !case.is_f32() || case.is_random() || !counted(&case) {
            continue;
        }
        let outcome = std::panic::catch_unwind(|| case.outcome());
        let own = by_op.entry(case.ops.first().cloned().unwrap_or_default()).or_default();
        for tally in [&mut total, own] {
            match &outcome {
                Ok(Ok(())) => tally.passed += 1,
                Ok(Err(error)) if error.starts_with("WRONG") => tally.wrong += 1,
                Ok(Err(_)) => tally.refused += 1,
                Err(_) => tally.panicked += 1,
            }
        }
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => writeln!(log, "{}: {error}", case.name).unwrap(),
            Err(_) => writeln!(log, "{}: PANIC", case.name).unwrap(),
        }
    }
    for (op, Tally { passed, refused, wrong, panicked }) in &by_op {
        writeln!(
            log,
            "{op:<28} passed {passed:>3} refused {refused:>3} wrong {wrong:>3} panicked {panicked:>3}"
        )
        .unwrap();
    }
    let Tally { passed, refused, wrong, panicked } = &total;
    writeln!(log, "passed {passed} refused {refused} wrong {wrong} panicked {panicked}").unwrap();
    (total, log)
}

fn folder(kind: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("ONNX_NODE_TESTS") else {
        eprintln!("skipped: ONNX_NODE_TESTS names no folder (see nets/train/onnx_node_cases.py)");
        return None;
    };
    Some(Path::new(&folder).join(kind))
}

#[test]
fn node_tests_pass_or_are_refused() {
    let Some(folder) = folder("node") else { return };
    let (total, log) = run_all(&folder, Case::is_counted);
    println!("{log}");
    let all = total.passed + total.refused + total.wrong + total.panicked;
    assert!(all > 700, "only {all} tests in {}", folder.display());
    assert_eq!((total.wrong, total.panicked), (0, 0), "{log}");
    assert!(total.passed * 100 >= all * LEAST_PASSED, "{log}");
}

/// Operators that are not counted pass, or are refused: none is wrong.
#[test]
fn tests_of_other_operators_are_never_wrong() {
    let Some(folder) = folder("node") else { return };
    let (total, log) = run_all(&folder, |case| !case.is_counted());
    println!("{log}");
    assert_eq!((total.wrong, total.panicked), (0, 0), "{log}");
}

#[test]
fn converted_tests_pass() {
    let mut all = 0;
    for kind in ["pytorch-converted", "pytorch-operator"] {
        let Some(folder) = folder(kind) else { return };
        let (total, log) = run_all(&folder, |_| true);
        println!("{kind}\n{log}");
        assert_eq!((total.wrong, total.panicked), (0, 0), "{log}");
        all += total.passed;
    }
    assert!(all > 40, "only {all} passed");
}
