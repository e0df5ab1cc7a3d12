//! Charts: every name and figure is there, nothing stands on anything else, and every file is XML.

#[path = "plot/svg.rs"]
mod picture;
mod program;

use kernels::Isa;
use nets::plot::{Axis, Bar, BarChart, Chart, Column, Line, PlaneChart, Point, Row, blocks, page, short};
use nets::zoo;
use picture::Picture;
use program::{fails_with, json, success};
use serde_json::Value;

/// What a command draws.
fn drawn(arguments: &[&str]) -> Picture {
    Picture::parse(&drawn_by("--plot", arguments))
}

/// The file that a command with this option writes.
fn drawn_by(option: &str, arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plot.svg");
    success(&[arguments, &[option, file.to_str().unwrap()]].concat());
    std::fs::read_to_string(file).unwrap()
}

fn number(layer: &Value, field: &str) -> f64 {
    layer[field].as_f64().unwrap()
}

#[test]
fn count_draws_every_layer() {
    for network in ["lenet5", "googlenet", "resnet152", "mlp"] {
        let report = json(&["count", network, "--format", "json"]);
        let layers = report["layers"].as_array().unwrap();
        let picture = drawn(&["count", network, "--roof-gflops", "150", "--roof-gbs", "20"]);
        picture.check();
        for text in
            ["parameters", "multiply-accumulates (MACs)", "operations per byte that must be moved", "GFLOP/s"]
        {
            assert!(picture.has(text), "{network}: {text}");
        }
        assert!(picture.has("multiply-adds, 150 GFLOP/s") && picture.has("memory, 20.0 GB/s"), "{network}");
        assert!(picture.has("Roofs: as given on the command line."), "{network}");

        let costly = |layer: &&Value| number(layer, "params") + number(layer, "macs") > 0.0;
        let costly: Vec<&Value> = layers.iter().filter(costly).collect();
        let rows = blocks(costly.iter().map(|layer| layer["name"].as_str().unwrap()));
        assert!((1..=60).contains(&rows.len()), "{network}: {} rows", rows.len());
        for row in rows {
            assert!(picture.has(&row.name), "{network}: {}", row.name);
            for field in ["params", "macs"] {
                let sum: f64 = row.layers.iter().map(|&layer| number(costly[layer], field)).sum();
                let figure = format!("{} ({:.1} %)", short(sum), 100.0 * sum / number(&report, field));
                assert!(picture.has(&figure), "{network}: {}, {field} {figure}", row.name);
            }
        }
        let points =
            layers.iter().filter(|layer| layer["intensity"].as_f64().is_some_and(|ratio| ratio > 0.0));
        for layer in points {
            let name = layer["name"].as_str().unwrap();
            assert!(picture.has_tip(&format!("{name}: ")), "{network}: no point for {name}");
        }
    }
}

#[test]
fn roofs_are_measured_unless_they_are_given() {
    let picture = drawn(&["count", "mlp"]);
    assert!(picture.has("Roofs: one thread of this machine, measured for this picture."));
    let roof = |picture: &Picture, name: &str| -> f64 {
        let text = picture.texts().find(|text| text.starts_with(name)).unwrap().to_owned();
        text[name.len()..].split(' ').next().unwrap().parse().unwrap()
    };
    assert!(roof(&picture, "multiply-adds, ") > 1.0 && roof(&picture, "memory, ") > 0.1);
    let has_bf16 = |picture: &Picture| picture.texts().any(|text| text.starts_with("bf16 products, "));
    let has_unit = Isa::detect().products().len() > 1;
    assert_eq!(has_bf16(&picture), has_unit);
    let bench = ["bench", "resnet20-cifar", "--seconds", "0.01", "--threads", "1", "--numerics"];
    for (level, expected) in [("strict", false), ("bf16", has_unit)] {
        let picture = drawn(&[&bench[..], &[level]].concat());
        picture.check();
        assert_eq!(has_bf16(&picture), expected, "{level}");
    }
    let picture = drawn(&["count", "mlp", "--roof-gflops", "150"]);
    assert!(picture.has("multiply-adds, 150 GFLOP/s") && !has_bf16(&picture));
    let picture = drawn(&["count", "mlp", "--roof-gbs", "7"]);
    assert!(
        picture.has("memory, 7.0 GB/s")
            && picture.texts().any(|text| text.starts_with("Roofs: memory as given"))
    );
}

#[test]
fn bench_draws_every_layer() {
    let short = ["--seconds", "0.01", "--threads", "1,2"];
    for network in ["lenet5", "resnet20-cifar", "googlenet"] {
        let picture = drawn(&[&["bench", network], &short[..]].concat());
        picture.check();
        for threads in [1, 2] {
            let title = format!("Roofline, batch 1, {threads} thread(s)");
            assert!(picture.texts().any(|text| text.starts_with(&title)), "{network}: {title}");
        }
        assert!(picture.has("milliseconds") && picture.has("convolutions and matrix products"), "{network}");
        let runs = json(&["bench", network, "--seconds", "0.01", "--threads", "1", "--format", "json"]);
        let layers = runs[0]["layers"].as_array().unwrap().iter().filter(|layer| layer["layout"].is_string());
        let layers: Vec<&Value> = layers.collect();
        for row in blocks(layers.iter().map(|layer| layer["name"].as_str().unwrap())) {
            assert!(picture.has(&row.name), "{network}: {}", row.name);
        }
        for layer in layers.iter().filter(|layer| layer["gflops"].is_number()) {
            let name = layer["name"].as_str().unwrap();
            assert!(picture.has_tip(&format!("{name}: ")), "{network}: no point for {name}");
        }
    }
}

#[test]
fn a_place_that_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fails_with(&["count", "mlp", "--plot", folder.path().to_str().unwrap()], "cannot write");
    let inside = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(inside("folder.svg")).unwrap();
    for (path, problem) in [
        (inside("graph.png"), "expected a file name that ends in .svg"),
        (inside("graph"), "expected a file name that ends in .svg"),
        (inside("folder.svg"), "expected a file, got a folder"),
        (inside("none/graph.svg"), "expected an existing folder, got"),
    ] {
        // Before the network is read, which does not exist.
        let message = format!("cannot write {path}: {problem}");
        fails_with(&["count", "no-such-network", "--graph", &path], &message);
    }
    fails_with(&["count", "--graph", &inside("graph.svg")], "NETWORK");
}

/// Every network of the zoo: no text leaves its box or stands on another, and a tooltip or a fold names every layer.
#[test]
fn graphs_of_all_networks_are_legible() {
    for entry in zoo::ALL {
        let picture = Picture::parse(&drawn_by("--graph", &["count", entry.name]));
        picture.check();
        picture.check_rects();
        let graph = entry.graph().unwrap();
        let folds: Vec<usize> =
            picture.texts().filter_map(|text| text.strip_prefix("× ")?.parse().ok()).collect();
        let named = |name: &str| picture.has_tip(&format!("{name}: "));
        let missing = graph.nodes().iter().filter(|node| !named(&node.name)).count();
        assert_eq!(missing == 0, folds.is_empty(), "{}: {missing} layers, {folds:?}", entry.name);
        let count = nets::count(&graph).unwrap();
        let heavy = count.layers.iter().max_by_key(|layer| layer.macs).unwrap();
        assert!(missing > 0 || named(&heavy.name), "{}", entry.name);
        assert!(picture.has("input") && picture.has("output"), "{}", entry.name);
        assert!(picture.texts().count() < 900, "{}: {} texts", entry.name, picture.texts().count());
    }
}

#[test]
fn graphs_of_files_are_legible() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/onnx");
    let mut files = 0;
    for name in
        ["residual", "gates", "scales", "pools", "norms", "grouped", "dilated", "constants", "symbolic"]
    {
        let file = format!("{folder}/{name}.onnx");
        let picture = Picture::parse(&drawn_by("--graph", &["count", &file]));
        picture.check();
        picture.check_rects();
        assert!(picture.has("output"), "{name}");
        files += 1;
    }
    assert_eq!(files, 9);
}

/// The blocks of ResNet-152 that repeat are drawn once, with their number.
#[test]
fn repeated_blocks_are_folded() {
    let picture = Picture::parse(&drawn_by("--graph", &["count", "resnet152"]));
    let folds: Vec<&str> = picture.texts().filter(|text| text.starts_with("× ")).collect();
    assert_eq!(folds, ["× 2", "× 7", "× 35", "× 2"]);
    for text in ["identity", "conv 7x7/2, 64", "64x112x112", "9.54k · 118M", "layer3.1 … 35", "39.1M params"]
    {
        assert!(picture.has(text), "{text}");
    }
    // Blocks of DenseNet differ in what they read: the first and the last number are drawn.
    let picture = Picture::parse(&drawn_by("--graph", &["count", "densenet121"]));
    for text in
        ["96…224x56x56", "64…192x56x56", "224x56x56", "8.58k…25.2k · 25.7M…77.1M", "denselayer1 … 5", "× 5"]
    {
        assert!(picture.has(text), "{text}");
    }
    let picture = Picture::parse(&drawn_by("--graph", &["count", "googlenet"]));
    assert!(!picture.texts().any(|text| text.starts_with("× ")));
    assert!(picture.has("inception_3a: 164k parameters, 128M MACs"));
}

/// The pictures of the documentation are what the command in `docs/counting.md` draws.
#[test]
fn committed_graphs_are_drawn_by_the_command() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/plots");
    for name in ["lenet5", "googlenet", "resnet152"] {
        let committed = std::fs::read_to_string(folder.join(format!("graph-{name}.svg"))).unwrap();
        let drawn = drawn_by("--graph", &["count", name]);
        assert!(committed == drawn, "docs/plots/graph-{name}.svg: run `nets count {name} --graph` again");
    }
}

fn bars(rows: Vec<Row>) -> Chart {
    let columns = vec![Column { title: "unit".to_owned(), mark: None }];
    Chart::Bars(BarChart { columns, rows, ..BarChart::default() })
}

#[test]
fn names_are_escaped() {
    let name = "a<b> & \"c\" 'd'";
    let chart = bars(vec![Row { name: name.to_owned(), cells: vec![vec![Bar::plain(0, 1.0)]] }]);
    let axis = || Axis { title: name.to_owned(), range: (0.0, 2.0), is_log: false };
    let plane = PlaneChart {
        title: name.to_owned(),
        notes: vec![name.to_owned()],
        x: axis(),
        y: axis(),
        series: vec![name.to_owned(), name.to_owned()],
        points: vec![Point { name: name.to_owned(), note: name.to_owned(), series: 0, at: (1.0, 1.0) }],
        lines: vec![Line {
            name: name.to_owned(),
            points: vec![(0.0, 0.0), (2.0, 1.0)],
            colour: Some(1),
            is_dashed: true,
        }],
    };
    let text = page(name, &[name.to_owned()], &[chart, Chart::Plane(plane)]);
    let picture = Picture::parse(&text);
    picture.check();
    assert_eq!(picture.texts().filter(|text| *text == name).count(), 11);
    assert!(picture.has_tip(&format!("{name}: {name}")));
}

#[test]
fn charts_of_nothing_and_of_zeros_are_drawn() {
    let empty = |range| Axis { title: "x".to_owned(), range, is_log: false };
    let plane = PlaneChart {
        title: "nothing".to_owned(),
        notes: Vec::new(),
        x: empty((0.0, 1.0)),
        y: empty((0.0, 1.0)),
        series: Vec::new(),
        points: Vec::new(),
        lines: Vec::new(),
    };
    let zero = Row { name: "zero".to_owned(), cells: vec![vec![Bar::plain(0, 0.0)]] };
    let text = page("nothing", &[], &[bars(Vec::new()), bars(vec![zero]), Chart::Plane(plane)]);
    let picture = Picture::parse(&text);
    picture.check();
    assert!(!text.contains("NaN") && !text.contains("inf\"") && picture.has("zero"));
}

/// Fifty points in a heap: each has a tooltip, and labels do not touch each other.
#[test]
fn crowded_points_share_the_room() {
    let point = |index: u32| {
        let (x, y) = (f64::from(index % 10), f64::from(index / 10));
        Point {
            name: format!("layer{index}.conv"),
            note: String::new(),
            series: 0,
            at: (10.0 + x / 4.0, 10.0 + y / 4.0),
        }
    };
    let axis = || Axis { title: "x".to_owned(), range: (1.0, 100.0), is_log: true };
    let plane = PlaneChart {
        title: "heap".to_owned(),
        notes: Vec::new(),
        x: axis(),
        y: axis(),
        series: Vec::new(),
        points: (0..50).map(point).collect(),
        lines: vec![Line {
            name: "roof".to_owned(),
            points: vec![(1.0, 9.0), (100.0, 9.0)],
            colour: None,
            is_dashed: false,
        }],
    };
    let picture = Picture::parse(&page("heap", &[], &[Chart::Plane(plane)]));
    picture.check();
    assert!((0..50).all(|index| picture.has_tip(&format!("layer{index}.conv"))) && picture.has("roof"));
    let labels = picture.texts().filter(|text| text.starts_with("layer")).count();
    assert!((5..=20).contains(&labels), "{labels} labels");
}
