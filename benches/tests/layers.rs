//! The program `shootout` on layers that are not in the list: given, from a file, or random; and the comparison with
//! peers by kind of layer.

mod common;

use common::Program;
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

const SHOOTOUT: Program = Program("shootout");
/// The fewest rounds and candidates.
const QUICK: [&str; 6] = ["--rounds", "1", "--turn", "1", "--algorithm", "auto"];

/// The rows of a quick run.
fn rows(arguments: &[&str]) -> Vec<Value> {
    let text = SHOOTOUT.stdout(&[&QUICK[..], &["--format", "json"], arguments].concat());
    let rows: Value = serde_json::from_str(&text).unwrap();
    rows.as_array().unwrap().clone()
}

/// The layers of a quick run, in their order.
fn layers(arguments: &[&str]) -> Vec<String> {
    rows(arguments).iter().map(|row| row["layer"].as_str().unwrap().to_owned()).collect()
}

fn refusal(arguments: &[&str]) -> String {
    SHOOTOUT.refusal(arguments)
}

/// A folder with a file of this text.
fn file(text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.csv");
    fs::write(&path, text).unwrap();
    (folder, path.to_str().unwrap().to_owned())
}

#[test]
fn given_layers_replace_the_list_unless_a_filter_selects_from_it() {
    let given = [
        "--layer",
        "1x8x9x9 -> 16 3x3 s2 p1",
        "--layer",
        "2x6x7x5->6 3x1 g6 d2",
        "--layer",
        "1x8x9x9->16 3x3 p1 s2",
    ];
    let ids = ["layer.1x8x9x9-16-3x3-s2-p1-g1", "layer.2x6x7x5-6-3x1-s1-p0-g6-d2"];
    assert_eq!(layers(&given), ids);
    let both = layers(&[&given[..], &["--filter", "lenet5.c3"]].concat());
    assert_eq!(both, [&["lenet5.c3"], &ids[..]].concat());
    for row in rows(&[&given[..2], &["--layout", "nchw16c,nchw,nhwc"]].concat()) {
        assert_eq!(row["shape"], "1x8x9x9-16-3x3-s2-p1-g1");
        assert!(row["chosen"].is_string() && row["rel_l2_error"].as_f64().unwrap() < 2e-6, "{row}");
        // Twice 16 x 5 x 5 outputs of 8 x 3 x 3 products.
        let flops = row["gflops"].as_f64().unwrap() * row["ms_median"].as_f64().unwrap() * 1e6;
        assert!((flops - 57_600.0).abs() < 1.0, "{row}");
    }
    // In the layout nchw16c, groups of few channels read blocks; the output is checked as always.
    assert_eq!(rows(&["--layer", "1x3x9x9 -> 3 3x3 g3 p1"]).len(), 1);
}

#[test]
fn random_layers_replace_the_list_and_run_again_by_their_ids() {
    let drawn = layers(&["--random", "2", "--seed", "3"]);
    assert!(drawn.len() == 2 && drawn.iter().all(|id| id.starts_with("random.")), "{drawn:?}");
    assert_eq!(layers(&["--filter", &drawn[1]]), drawn[1..]);
    let both = layers(&["--filter", "lenet5.c1", "--random", "2", "--seed", "3"]);
    assert_eq!(both, [&["lenet5.c1".to_owned()], &drawn[..]].concat());
}

#[test]
fn a_file_has_layers_in_any_order_of_columns() {
    let (_folder, path) =
        file("groups, id,n,c,h,w,o,kh,kw,ratio\n4,mine,1,8,9,9,8,3,3,0.1\n1,,1,3,9,9,4,1,1,0.2\n");
    let timed = rows(&["--layers", &path]);
    let of_rows: Vec<_> = timed.iter().map(|row| (row["layer"].as_str(), row["shape"].as_str())).collect();
    let (mine, other) = ("1x8x9x9-8-3x3-s1-p0-g4", "1x3x9x9-4-1x1-s1-p0-g1");
    assert_eq!(of_rows, [(Some("mine"), Some(mine)), (Some(&*format!("layer.{other}")), Some(other))]);
    // The list itself is such a file.
    let listed = include_str!("../layers.csv");
    let (_folder, path) = file(&listed.lines().take(3).map(|line| format!("{line}\n")).collect::<String>());
    assert_eq!(layers(&["--layers", &path]), ["lenet5.c1", "lenet5.c3"]);
}

#[test]
fn a_bad_file_or_layer_is_one_line_that_names_the_fault() {
    let of_file = |text: &str| {
        let (_folder, path) = file(text);
        let message = refusal(&["--layers", &path]);
        assert!(message.contains("file.csv"), "{message}");
        message
    };
    let columns = "n,c,h,w,o,kh,kw";
    for (column, meant) in [
        ("strid", "stride"),
        ("stirde", "stride"),
        ("Stride", "stride"),
        ("padding", "pad"),
        ("group", "groups"),
        ("dilatoin", "dilation"),
        ("g", "groups"),
    ] {
        let message = of_file(&format!("{columns},{column}\n1,8,9,9,8,3,3,1\n"));
        assert!(
            message.contains(&format!("no column is called {column}, did you mean {meant}?")),
            "{message}"
        );
    }
    assert!(
        of_file("n,c,h,w,o,kh,kx\n")
            .contains("the column kw is missing: expected n, c, h, w, o, kh, kw, got n, c")
    );
    assert!(of_file("n,c,h,w,o,kh,kw,kh\n1,8,9,9,8,3,3,3\n").contains("column 8 has the name kh again"));
    assert!(of_file("").contains("the column n is missing"));
    assert!(of_file(&format!("{columns}\n")).contains("has no layers, only a header"));
    assert!(
        of_file(&format!("{columns}\n1,8,9,9,8,3,3\n1,8,9,x,8,3,3\n"))
            .contains("line 3: w: expected a number, got x")
    );
    assert!(of_file(&format!("{columns}\n1,8,9,9,8,3\n")).contains("found record with 6 fields"));
    let invalid = of_file(&format!("{columns}\n1,8,2,2,8,3,3\n"));
    assert!(invalid.contains("line 2: ") && invalid.contains("the dilated kernel is 3x3"), "{invalid}");
    let (_folder, path) = file(&format!("{columns},id\n1,8,9,9,8,3,3,a\n1,8,9,9,8,1,1,a\n"));
    assert!(refusal(&["--layers", &path]).contains("two different layers have the id a"));

    assert!(refusal(&["--layers", "none.csv"]).contains("cannot read none.csv"));
    assert!(refusal(&["--layer", "1x8x9x9 -> 8"]).contains("expected the kernel KHxKW"));
    assert!(
        refusal(&["--layer", "1x8x9x9 -> 8 3x3 g3"]).contains("expected a divisor of the 8 input channels")
    );
    assert!(refusal(&["--filter", "random.1x5x73"]).contains("random.1x5x73: expected the input NxCxHxW"));
    assert!(
        refusal(&["--filter", "randem.1x5x73x73-17-1x1-s1-p0-g1"]).contains("no layer or network is called")
    );
    assert!(refusal(&["--redraw", &path, "--layers", &path]).contains("cannot be used with"));
    assert!(refusal(&["--summary", &path]).contains("--summary needs --peers or --redraw"));
}

#[test]
fn a_run_is_redrawn_from_its_rows_alone() {
    let (folder, layers) = file("n,c,h,w,o,kh,kw,id\n1,8,9,9,8,3,3,mine\n");
    let out = folder.path().join("rows.csv").to_str().unwrap().to_owned();
    let plot = folder.path().join("plot.svg").to_str().unwrap().to_owned();
    let text = ["--layer", "1x3x9x9 -> 8 3x3", "--format", "csv", "--out", &out, "--plot", &plot];
    let first = SHOOTOUT.stdout(&[&QUICK[..], &["--layers", &layers], &text].concat());
    assert_eq!(fs::read_to_string(&out).unwrap(), first);
    let drawn = fs::read_to_string(&plot).unwrap();
    assert!(drawn.contains("mine") && drawn.contains("layer.1x3x9x9-8-3x3-s1-p0-g1"), "{drawn}");
    assert_eq!(SHOOTOUT.stdout(&["--redraw", &out, "--format", "csv"]), first);
    let mine = SHOOTOUT.stdout(&["--redraw", &out, "--format", "csv", "--filter", "mine"]);
    assert_eq!((mine.matches("mine,auto,").count(), mine.matches("layer.").count()), (1, 0), "{mine}");
    assert!(
        refusal(&["--redraw", &out, "--filter", "lenet5"]).contains("no layer or network is called lenet5")
    );
    fs::write(&out, first.replace("1x8x9x9-8-3x3-s1-p0-g1", "1x8x9x9-8")).unwrap();
    assert!(refusal(&["--redraw", &out]).contains("expected the kernel KHxKW"));
}

/// Rows of three layouts against their peers: (layer, milliseconds of the library in nchw16c, nchw and nhwc, and of
/// onednn, ort and torch-channels-last).
fn stored(layers: &[(&str, [f64; 3], [f64; 3])]) -> String {
    let mut text =
        "layer,algorithm,isa,layout,threads,ms_min,ms_median,rel_l2_error,max_error,shape,chosen\n"
            .to_owned();
    for (shape, ours, peers) in layers {
        let mut row = |algorithm: &str, layout: &str, ms: f64, chosen: &str| {
            text += &format!(
                "random.{shape},{algorithm},avx2fma,{layout},1,{ms},{ms},1e-7,1e-7,{shape},{chosen}\n"
            );
        };
        for (layout, ms) in ["nchw16c", "nchw", "nhwc"].into_iter().zip(ours) {
            row("auto", layout, *ms, "direct");
        }
        for (peer, ms) in ["onednn", "ort", "torch-channels-last"].into_iter().zip(peers) {
            row(&format!("peer:{peer}"), "own", *ms, "");
        }
    }
    text
}

#[test]
fn every_layout_is_compared_with_its_peer_by_kind() {
    let (folder, path) = file(&stored(&[
        ("1x3x99x99-64-3x3-s1-p1-g1", [1.0, 1.0, 1.0], [2.0, 4.0, 0.5]),
        ("1x1x99x99-64-5x5-s1-p2-g1", [1.0, 1.0, 1.0], [0.5, 4.0, 0.8]),
        ("1x32x99x99-32-9x9-s2-p4-g32", [1.0, 1.0, 1.0], [0.25, 0.75, 3.0]),
    ]));
    let summary = folder.path().join("summary.csv").to_str().unwrap().to_owned();
    let text = SHOOTOUT.stdout(&["--redraw", &path, "--summary", &summary]);
    let table = fs::read_to_string(&summary).unwrap();
    let line = |kind: &str, layout: &str, against: &str| -> Vec<String> {
        let mut reader = csv::Reader::from_reader(table.as_bytes());
        let records = reader.records().map(Result::unwrap);
        let mut meant =
            records.filter(|record| (&record[0], &record[1], &record[2]) == (kind, layout, against));
        let found = meant.next().unwrap_or_else(|| panic!("no {kind}, {layout}, {against} in:\n{table}"));
        assert!(meant.next().is_none(), "{table}");
        // Layers, geometric mean, worst, its layer, and the counts.
        let kept = [5, 7, 8, 9, 11, 13].map(|index| found[index].to_owned());
        let mean: f64 = found[6].parse().unwrap();
        kept.into_iter().chain([format!("{mean:.3}")]).collect()
    };
    let three = "random.1x3x99x99-64-3x3-s1-p1-g1";
    let (one, large) = ("random.1x1x99x99-64-5x5-s1-p2-g1", "random.1x32x99x99-32-9x9-s2-p4-g32");
    assert_eq!(line("few inputs", "nchw16c", "onednn"), ["2", "0.5", one, "1", "1", "1", "1.000"]);
    assert_eq!(line("few inputs", "nchw", "ort"), ["2", "4.0", three, "0", "0", "2", "4.000"]);
    let torch = line("few inputs", "nhwc", "torch-channels-last");
    assert_eq!(torch[1..5], ["0.5", three, "1", "2"]);
    let depthwise = "depthwise, kernel over 7, strided";
    assert_eq!(line(depthwise, "nchw", "ort"), ["1", "0.75", large, "0", "1", "0", "0.750"]);
    assert_eq!(line(depthwise, "nchw", "best peer"), ["1", "0.25", large, "1", "1", "0", "0.250"]);
    assert_eq!(line("all", "nchw", "onednn")[..2], ["3", "0.25"]);

    // The same figures for readers: text and Markdown beside the rows, or on standard error beside JSON.
    assert!(["few inputs", depthwise].iter().all(|kind| text.contains(kind)), "{text}");
    let markdown = SHOOTOUT.stdout(&["--redraw", &path, "--format", "markdown"]);
    assert!(markdown.contains("| few inputs ") && markdown.contains("| worst layer"), "{markdown}");
    let json = SHOOTOUT.command(&["--redraw", &path, "--format", "json"]).assert().success();
    let output = json.get_output();
    assert!(serde_json::from_slice::<Value>(&output.stdout).unwrap().is_array());
    assert!(String::from_utf8_lossy(&output.stderr).contains("few inputs"));
}
