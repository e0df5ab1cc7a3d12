//! Random graphs of operators agree with plain loops in `f64`.

#[path = "onnx_random/mod.rs"]
mod graphs;
#[macro_use]
mod model;

use arbitrary::Unstructured;
use graphs::OPS;
use graphs::check::{Outcome, check, check_with};
use kernels::Threads;
use model::Attribute;
use nets::import::onnx::{ImportOptions, load_bytes};
use nets::{Net, NetOptions};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;
use std::collections::BTreeSet;

/// Operators of the table in docs/nets/onnx.md that no graph has, and why.
const WITHOUT: &[(&str, &str)] = &[
    ("Col2Im", "onnx_sampling.rs compares it with loops"),
    ("DeformConv", "onnx_sampling.rs compares it with loops"),
    ("GridSample", "onnx_sampling.rs compares it with loops"),
    ("QLinearConv", "its operands are tensors of 8 bits, which the graphs do not have"),
    ("QLinearMatMul", "its operands are tensors of 8 bits, which the graphs do not have"),
    ("Upsample", "it is Resize of opsets up to 9, older than those of the graphs"),
];

/// Bytes for one graph. Every fourth graph has as few as those of the fuzzer, which can end before the graph does.
fn bytes(seed: u64) -> Vec<u8> {
    let mut rng = Pcg64::new(seed.into(), 7);
    let words = if seed.is_multiple_of(4) { rng.next_u32() as usize % 75 } else { 1200 };
    (0..words).flat_map(|_| rng.next_u32().to_le_bytes()).collect()
}

/// The number of random cases: that of proptest, if it is set.
fn cases(usual: u64) -> u64 {
    let set = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse::<u64>().ok());
    set.map_or(usual, |cases| (usual * cases / 256).max(100))
}

#[test]
fn random_graphs_agree_with_loops() {
    let (mut agreed, mut failed, cases) = (0, Vec::new(), cases(20_000));
    for seed in 0..cases {
        match check(&mut Unstructured::new(&bytes(seed))) {
            Ok(Outcome::Agrees) => agreed += 1,
            Ok(_) => (),
            Err(problem) => failed.push(format!("seed {seed}: {problem}")),
        }
    }
    println!("{agreed} of {cases} graphs agree");
    assert!(
        failed.is_empty(),
        "{} of {cases} graphs fail:\n{}",
        failed.len(),
        failed[..failed.len().min(30)].join("\n")
    );
    assert!(agreed * 10 > cases * 8, "only {agreed} of {cases} graphs were compared");
}

/// Every operator of the tables stands in graphs that are compared.
#[test]
fn every_operator_is_drawn() {
    let mut failed = Vec::new();
    for (table, rows) in OPS.iter().enumerate() {
        for (row, (op, _)) in rows.iter().enumerate() {
            let mut agreed = 0;
            for seed in 0..cases(60).max(40) {
                let seed = seed + 1_000_000 * (1 + 1000 * table as u64 + row as u64);
                match check_with(&mut Unstructured::new(&bytes(seed)), Some((table, row))) {
                    Ok((Outcome::Agrees, ops)) => agreed += usize::from(ops.contains(op)),
                    Ok(_) => (),
                    Err(problem) => failed.push(format!("{op}, seed {seed}: {problem}")),
                }
            }
            if agreed == 0 {
                failed.push(format!("{op}: no graph with it agrees"));
            }
        }
    }
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed[..failed.len().min(30)].join("\n"));
}

#[test]
fn the_tables_have_all_operators_that_run() {
    let page = include_str!("../../docs/nets/onnx.md");
    let (_, table) = page.split_once("<!-- operators -->").expect("the table of operators");
    let rows = table.lines().filter(|line| line.starts_with("| `") && line.ends_with("| run |"));
    let run: BTreeSet<&str> = rows.flat_map(|row| row.split('`').skip(1).step_by(2)).collect();
    assert!(run.len() > 100, "{} operators", run.len());
    let drawn: BTreeSet<&str> = OPS.iter().flat_map(|rows| rows.iter().map(|(op, _)| *op)).collect();
    let without: BTreeSet<&str> = WITHOUT.iter().map(|(op, _)| *op).collect();
    let both: Vec<_> = drawn.intersection(&without).collect();
    assert!(both.is_empty(), "drawn and listed as not drawn: {both:?}");
    let all: BTreeSet<&str> = drawn.union(&without).copied().collect();
    let missing: Vec<_> = run.difference(&all).collect();
    assert!(missing.is_empty(), "operators that run and are in no table: {missing:?}");
}

/// The output `y` of a model for an input of ones.
fn run(model: model::Model, len: usize) -> Vec<f32> {
    let options = ImportOptions::default().strict(true);
    let model = load_bytes(&model.done(), "it", &options).unwrap();
    let mut net = Net::new(&model.graph, &model.weights, &NetOptions::default()).unwrap();
    net.run(&vec![1.0; len], Threads::Seq).unwrap().to_vec()
}

/// A remainder of extents, which are computed during the import, has the sign of the dividend with `fmod`.
#[test]
fn remainders_of_extents_follow_fmod() {
    for (fmod, expected) in [(1, 2.0), (0, -1.0)] {
        let model = model::Model::new(17, extents![1, 5]).ints("d", &[3, -3]);
        let model = model.node("Shape", &["x"], &["s"]);
        let model = model.node_with("Mod", &["s", "d"], &["m"], &[("fmod", Attribute::Int(fmod))]);
        let model = model.node_with("Cast", &["m"], &["f"], &[("to", Attribute::Int(1))]);
        let got = run(model.node("ReduceMax", &["x"], &["r"]).node("Mul", &["r", "f"], &["y"]), 5);
        assert_eq!(got, [1.0, expected], "fmod {fmod}");
    }
}

/// An extent as a truth value is 1, not the extent.
#[test]
fn extents_become_truth_values() {
    let model = model::Model::new(17, extents![1, 5]).node("Shape", &["x"], &["s"]);
    let model = model.node_with("Cast", &["s"], &["t"], &[("to", Attribute::Int(9))]);
    let model = model.node_with("Cast", &["t"], &["f"], &[("to", Attribute::Int(1))]);
    let got = run(model.node("ReduceMax", &["x"], &["r"]).node("Mul", &["r", "f"], &["y"]), 5);
    assert_eq!(got, [1.0, 1.0]);
}

/// A product of extents over no axes, with an attribute that says so, leaves them as they are.
#[test]
fn a_product_of_extents_over_no_axes() {
    let model = model::Model::new(18, extents![1, 5]).node("Shape", &["x"], &["s"]);
    let attributes = [("noop_with_empty_axes", Attribute::Int(1)), ("keepdims", Attribute::Int(0))];
    let model = model.node_with("ReduceProd", &["s"], &["p"], &attributes);
    let model = model.node_with("Cast", &["p"], &["f"], &[("to", Attribute::Int(1))]);
    let got = run(model.node("ReduceMax", &["x"], &["r"]).node("Mul", &["r", "f"], &["y"]), 5);
    assert_eq!(got, [1.0, 5.0]);
}

/// A window whose dilation is larger than the image has taps on both sides of it.
#[test]
fn a_dilated_window_reaches_over_a_small_image() {
    let attributes = [
        ("kernel_shape", Attribute::Ints(&[3])),
        ("dilations", Attribute::Ints(&[2])),
        ("pads", Attribute::Ints(&[2, 2])),
    ];
    let model = model::Model::new(17, extents![1, 4, 1]);
    assert_eq!(run(model.node_with("MaxPool", &["x"], &["y"], &attributes), 4), [1.0; 4]);
}
