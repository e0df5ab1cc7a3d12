//! The program `shootout` in the directions of training: gradients and transposed convolutions.

mod common;

use common::Program;
use serde_json::Value;
use std::fs;

const SHOOTOUT: Program = Program("shootout");
/// The fewest rounds, on a strided layer in groups and on a depthwise one.
const QUICK: [&str; 8] = [
    "--rounds",
    "1",
    "--turn",
    "1",
    "--layer",
    "2x8x9x7 -> 12 3x3 s2 p1 g2",
    "--layer",
    "1x16x6x6 -> 16 3x3 p1 g16",
];

/// The rows of a run.
fn rows(arguments: &[&str]) -> Vec<Value> {
    let rows: Value =
        serde_json::from_str(&SHOOTOUT.stdout(&[arguments, &["--format", "json"]].concat())).unwrap();
    rows.as_array().unwrap().clone()
}

#[test]
fn every_direction_has_the_choice_and_its_rivals_in_every_layout() {
    let directions = "forward,data,weights,transposed";
    let rows = rows(&[&QUICK[..], &["--direction", directions, "--layout", "nchw16c,nchw,nhwc"]].concat());
    for row in &rows {
        // Checked before and after it was timed.
        assert!(row["ms_median"].is_f64() && row["rel_l2_error"].as_f64().unwrap() < 2.1e-6, "{row}");
        // All directions have the products of the convolution.
        let macs =
            if row["shape"] == "2x8x9x7-12-3x3-s2-p1-g2" { 2 * 12 * 5 * 4 * 4 * 9 } else { 16 * 36 * 9 };
        let flops = row["gflops"].as_f64().unwrap() * row["ms_median"].as_f64().unwrap() * 1e6;
        assert!((flops - 2.0 * f64::from(macs)).abs() < 1.0, "{row}");
    }
    for direction in directions.split(',') {
        for layout in ["nchw16c", "nchw", "nhwc"] {
            let count = |algorithm: &str| {
                let is_meant = |row: &&Value| {
                    row["direction"] == direction && row["layout"] == layout && row["algorithm"] == algorithm
                };
                rows.iter().filter(is_meant).count()
            };
            assert_eq!((count("auto"), count("direct")), (2, 2), "{direction}, {layout}");
            assert!(count("depthwise") > 0, "{direction}, {layout}");
        }
    }
    let chosen = |direction: &str| {
        let is_meant = |row: &&Value| row["direction"] == direction && row["algorithm"] == "auto";
        rows.iter().filter(is_meant).map(|row| row["chosen"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(chosen("weights").iter().all(|method| !method.contains('/')));
    assert_eq!(chosen("data").len(), 6);
}

#[test]
fn a_forced_method_leaves_phases_that_it_cannot_compute_to_the_choice() {
    let layer =
        ["--layer", "1x32x12x12 -> 32 3x3 s2 p1", "--rounds", "1", "--turn", "1", "--direction", "data"];
    let rows = rows(&[&layer[..], &["--algorithm", "pointwise,direct"]].concat());
    let [pointwise, direct] = &rows[..] else { panic!("{rows:?}") };
    let methods: Vec<&str> = pointwise["chosen"].as_str().unwrap().split('/').collect();
    assert_eq!((methods.len(), methods.contains(&"pointwise")), (4, true), "{methods:?}");
    assert!(direct["chosen"].is_null(), "{direct}");
}

#[test]
fn rings_and_threads_serve_every_direction() {
    let more = ["--direction", "data,weights,transposed", "--threads", "1,2", "--cold", "--cold-mb", "1"];
    let rows = rows(&[&QUICK[..], &more, &["--algorithm", "auto"]].concat());
    assert_eq!(rows.len(), 2 * 3 * 2);
    assert!(rows.iter().all(|row| row["ms_median"].is_f64()), "{rows:?}");
}

#[test]
fn choices_are_judged_by_direction() {
    let more =
        ["--direction", "data,weights", "--assert-choice", "100000", "--random", "1", "--threads", "1,2"];
    let text = SHOOTOUT.stdout(&[&QUICK[..], &more].concat());
    let lines = |start: &str| text.lines().filter(|line| line.trim_start().starts_with(start)).count();
    // The gradient of weights has no choice by timing.
    for threads in [1, 2] {
        assert_eq!(lines(&format!("data, {threads} thread(s)")), 2, "{text}");
        assert_eq!(lines(&format!("weights, {threads} thread(s)")), 1, "{text}");
    }
    let mut failed =
        SHOOTOUT.command(&[&QUICK[..], &["--direction", "weights", "--assert-choice=-1"]].concat());
    failed.assert().code(1);
}

#[test]
fn lists_and_batches_select_layers() {
    let quick = ["--rounds", "1", "--turn", "1", "--algorithm", "auto"];
    let run = |arguments: &[&str]| {
        let rows = rows(&[&quick[..], arguments].concat());
        let name =
            |row: &Value| format!("{} {}", row["layer"].as_str().unwrap(), row["shape"].as_str().unwrap());
        rows.iter().map(name).collect::<Vec<_>>()
    };
    let up = ["--list", "training", "--filter", "dcgan.g5", "--direction", "transposed"];
    assert_eq!(run(&up), ["dcgan.g5 8x3x64x64-64-4x4-s2-p1-g1"]);
    assert_eq!(run(&[&up[..], &["--batch", "1"]].concat()), ["b1.dcgan.g5 1x3x64x64-64-4x4-s2-p1-g1"]);
    let trained = ["--list", "training", "--filter", "b8.resnet50.s4.1x1in", "--direction", "weights"];
    assert_eq!(run(&trained)[0], "b8.resnet50.s4.1x1in 8x2048x7x7-512-1x1-s1-p0-g1");
    let row = ["--list", "sequences", "--filter", "wav2vec2.c6", "--direction", "data"];
    assert_eq!(run(&row), ["wav2vec2.c6 1x512x1x99-512-1x2-s2-p0-g1"]);
    let given = ["--layer", "1x3x9x9 -> 4 1x1", "--batch", "2"];
    assert_eq!(run(&given), ["layer.2x3x9x9-4-1x1-s1-p0-g1 2x3x9x9-4-1x1-s1-p0-g1"]);
    assert!(
        SHOOTOUT.refusal(&["--list", "training", "--filter", "lenet5.c1"]).contains("no layer or network")
    );
}

#[test]
fn what_a_direction_lacks_is_refused() {
    let refusal = |arguments: &[&str]| SHOOTOUT.refusal(&[&QUICK[..], arguments].concat());
    assert!(refusal(&["--direction", "backward"]).contains("forward, data, weights, transposed"));
    let measured = ["--direction", "data,weights", "--measured"];
    assert!(
        refusal(&measured).contains("measured: expected a direction with a choice by timing, got weights")
    );
    let cold = ["--direction", "data", "--algorithm", "measured", "--cold"];
    assert!(refusal(&cold).contains("got data with --cold"));
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().to_str().unwrap();
    fs::create_dir_all(folder.path().join("venv/lib/python3/site-packages/onnxruntime")).unwrap();
    fs::write(folder.path().join("worker.py"), "").unwrap();
    let ort = ["--direction", "data", "--peers", empty, "--engines", "ort"];
    assert!(
        refusal(&ort)
            .contains("ort computes no gradients, expected one of onednn, torch, torch-channels-last")
    );
    for option in [["--balance", "--direction"], ["--redraw=x.csv", "--direction"]] {
        assert!(SHOOTOUT.refusal(&[&option[..], &["data"]].concat()).contains("cannot be used with"));
    }
}

#[cfg(unix)]
#[test]
fn peers_get_the_request_of_the_direction() {
    let folder = tempfile::tempdir().unwrap();
    // As many zeros as the gradient of the filter of the first layer, and of a bias, have bytes.
    common::fake_peer(&folder.path().join("onednn-worker"), 4 * (12 * 4 * 9 + 12), false);
    let peers = ["--peers", folder.path().to_str().unwrap(), "--algorithm", "auto"];
    for direction in ["data", "weights", "transposed"] {
        let text = SHOOTOUT.stdout(&[&QUICK[..6], &peers, &["--direction", direction]].concat());
        assert!(text.contains(&format!("WRONG fake {direction}")), "{text}");
    }
    // A gradient of zeros has a relative error of 1; an output of another length has no error.
    let errors = rows(&[&QUICK[..6], &peers, &["--direction", "data,weights"]].concat());
    let of_peer =
        errors.iter().filter(|row| row["algorithm"] == "peer:onednn").map(|row| row["rel_l2_error"].as_f64());
    assert_eq!(of_peer.collect::<Vec<_>>(), [None, Some(1.0)], "{errors:?}");
}

/// Rows of two directions of one layer, whose peers must not be mixed.
const STORED: &str =
    "layer,algorithm,isa,layout,threads,ms_min,ms_median,rel_l2_error,max_error,shape,chosen,direction,gflops
lenet5.c1,auto,avx2fma,nchw,1,1,1,1e-7,1e-7,,direct,data,10
lenet5.c1,peer:torch,avx2fma,own,1,2,2,1e-7,1e-7,,,data,10
lenet5.c1,peer:torch-channels-last,avx2fma,own,1,3,3,1e-7,1e-7,,,data,10
lenet5.c1,auto,avx2fma,nchw,1,1,1,1e-7,1e-7,,direct,weights,10
lenet5.c1,peer:torch,avx2fma,own,1,0.5,0.5,1e-7,1e-7,,,weights,10
lenet5.c1,peer:torch-channels-last,avx2fma,own,1,0.25,0.25,1e-7,1e-7,,,weights,10
lenet5.c1,auto,avx2fma,nchw,1,1,1,1e-7,1e-7,,direct,,10
lenet5.c1,peer:ort,avx2fma,own,1,8,8,1e-7,1e-7,,,forward,10
";

#[test]
fn directions_are_compared_apart_and_redrawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (stored, summary, plot) = (path("rows.csv"), path("summary.csv"), path("plot.svg"));
    fs::write(&stored, STORED).unwrap();
    let text = SHOOTOUT.stdout(&["--redraw", &stored, "--summary", &summary, "--plot", &plot]);
    assert!(text.contains("better torch"), "{text}");
    let mut reader = csv::Reader::from_path(&summary).unwrap();
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|column| column == name).unwrap();
    let columns = ["kind", "direction", "against", "geometric_mean"].map(column);
    let lines: Vec<[String; 4]> =
        reader.records().map(|line| columns.map(|at| line.as_ref().unwrap()[at].to_owned())).collect();
    let has = |line: [&str; 4]| assert!(lines.iter().any(|other| *other == line), "{line:?} in {lines:?}");
    has(["all", "data", "better torch", "2.0"]);
    has(["all", "data", "torch-channels-last", "3.0000000000000004"]);
    has(["all", "weights", "better torch", "0.25"]);
    has(["few inputs", "weights", "torch", "0.5"]);
    has(["few inputs", "weights", "better torch", "0.25"]);
    has(["few inputs", "forward", "ort", "7.999999999999998"]);
    assert!(fs::read_to_string(&plot).unwrap().contains("weights, avx2fma, nchw, 1 thread(s)"));
    let out = path("out.csv");
    let first = SHOOTOUT
        .stdout(&[&QUICK[..], &["--direction", "weights", "--format", "csv", "--out", &out]].concat());
    assert_eq!(SHOOTOUT.stdout(&["--redraw", &out, "--format", "csv"]), first);
}

#[test]
fn volumes_have_the_three_directions_in_every_layout() {
    let arguments = ["--list", "volumes", "--filter", "c3d.conv5b", "--rounds", "1", "--turn", "1"];
    let directions = ["--direction", "forward,data,weights", "--layout", "nchw16c,nchw,nhwc"];
    let rows = rows(&[&arguments[..], &directions].concat());
    assert_eq!(rows.len(), 9);
    // By the definition, padding included.
    let macs = 512.0 * 512.0 * 27.0 * 2.0 * 7.0 * 7.0;
    for row in &rows {
        assert!(row["ms_median"].is_f64() && row["rel_l2_error"].as_f64().unwrap() < 2e-6, "{row}");
        assert!(row["chosen"].is_string(), "{row}");
        let flops = row["gflops"].as_f64().unwrap() * row["ms_median"].as_f64().unwrap() * 1e6;
        assert!((flops / (2.0 * macs) - 1.0).abs() < 1e-9, "{row}");
    }
    let refusals = [("--filter", "c3d.conv7", "did you mean c3d.conv"), ("--random", "3", "no --random")];
    for (option, value, reason) in refusals {
        let error = SHOOTOUT.refusal(&["--list", "volumes", option, value]);
        assert!(error.contains(reason), "{error}");
    }
}
