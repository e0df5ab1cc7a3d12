//! The table of operators in docs/nets/onnx.md says what happens to one small model of each operator.

use nets::import::onnx::{ImportOptions, load};
use nets::{CompiledNet, NetOptions, Shape};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/operators")
}

/// What happens to the model of an operator.
fn status(path: &Path) -> &'static str {
    let model = match load(path, &ImportOptions::default()) {
        Ok(model) => model,
        Err(_) => return "refused",
    };
    let batch = model.graph.batch().unwrap_or(1);
    let runs = CompiledNet::new(&model.graph, &model.weights, &NetOptions::default().batch(batch)).is_ok();
    let known = model.graph.output() != Shape::Unknown;
    let strict = load(path, &ImportOptions::default().strict(true)).is_ok();
    assert_eq!(runs, strict, "{}: what does not run is an error with --strict", path.display());
    if runs {
        "run"
    } else if known {
        "extents"
    } else {
        "unknown"
    }
}

/// The rows of the table: operator and status.
fn table() -> BTreeMap<String, String> {
    let page = include_str!("../../docs/nets/onnx.md");
    let (_, table) = page.split_once("<!-- operators -->").expect("the table of operators");
    let rows =
        table.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let operators = cells[0].split(' ').map(|op| op.trim_matches('`').to_owned());
        operators.map(|op| (op, cells[1].to_owned())).collect::<Vec<_>>()
    };
    rows.flat_map(row).collect()
}

#[test]
fn the_table_of_operators_says_what_happens() {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let op = path.file_stem().unwrap().to_str().unwrap().to_owned();
        found.insert(op, status(&path).to_owned());
    }
    assert!(found.len() > 120, "{} operators", found.len());
    let mut rows = BTreeMap::<&str, Vec<String>>::new();
    for (op, status) in &found {
        rows.entry(status).or_default().push(format!("`{op}`"));
    }
    let rows = rows.iter().map(|(status, ops)| format!("| {} | {status} |", ops.join(" ")));
    assert_eq!(table(), found, "the table should be\n{}", rows.collect::<Vec<_>>().join("\n"));
}
