//! The program `netbench`: its output, and its errors for invalid arguments.

mod common;

use common::Program;
use kernels::{Isa, Products};
use serde_json::Value;

const NETBENCH: Program = Program("netbench");
const BRIEF: [&str; 4] = ["--seconds", "0.02", "--rounds", "2"];

/// Whether the best instruction set of this machine has products of bf16 numbers.
fn has_bf16() -> bool {
    Isa::detect().products().contains(&Products::Bf16)
}

fn quick(more: &[&str]) -> String {
    quick_of("lenet5", more)
}

fn quick_of(net: &str, more: &[&str]) -> String {
    NETBENCH.stdout(&[&["--nets", net], &BRIEF[..], more].concat())
}

#[test]
fn json_is_one_array_of_flat_objects() {
    let rows: Value =
        serde_json::from_str(&quick(&["--format", "json", "--batch", "1,3", "--threads", "1,2", "--layers"]))
            .unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 4);
    for row in rows {
        let number = |field: &str| row[field].as_f64().unwrap_or_else(|| panic!("{field}: {row}"));
        assert_eq!((row["net"].as_str(), row["engine"].as_str()), (Some("lenet5"), Some("ours")));
        assert!(0.0 < number("ms_min") && number("ms_min") <= number("ms_median"));
        assert!(number("compile_ms") > 0.0 && number("packed_mb") >= 0.24);
        assert!((0.0..100.0).contains(&number("outside_percent")) && number("pass_by_layers") > 0.0);
        if cfg!(target_os = "linux") {
            assert!(number("peak_mb") > number("packed_mb"));
        }
    }
}

#[test]
fn a_file_is_a_network_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.onnx");
    let graph = nets::zoo::lenet5().unwrap();
    let weights = nets::SeededWeights::new(&graph, nets::Init::He, 3).unwrap();
    nets::export::onnx::save(&graph, &weights, 1, &file).unwrap();
    let networks = format!("{},lenet5", file.display());
    let csv =
        NETBENCH.stdout(&["--nets", &networks, "--seconds", "0.02", "--rounds", "2", "--format", "csv"]);
    let names: Vec<&str> = csv.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(names, ["mine", "lenet5"], "{csv}");
}

#[test]
fn every_format_and_precision_has_its_row() {
    assert!(quick(&["--format", "csv"]).starts_with("net,batch,threads,engine,ms_min,ms_median,gflops,"));
    assert!(quick(&["--format", "markdown"]).contains("| lenet5"));
    let text = quick(&["--numerics", "bf16,strict,fast,tf32"]);
    let at = |engine: &str| text.find(engine).unwrap_or_else(|| panic!("{engine}: {text}"));
    assert!(at("ours-strict") < at("ours-fast") && at("ours-fast") < at("ours-tf32"));
    assert!(at("ours-tf32") < at("ours-bf16") && !text.contains("ANOTHER OUTPUT"), "{text}");
    // The note of a row of the library is its instruction set.
    let text = quick(&["--isa", "portable"]);
    assert!(text.lines().any(|line| line.contains("ours") && line.ends_with("portable")), "{text}");
    let text = quick(&["--threads", "1,2,4", "--numerics", "strict"]);
    assert!(text.contains("ours-strict") && text.contains("/ 2 threads"), "{text}");
}

#[test]
fn bad_arguments_are_one_line_and_exit_2() {
    let refusal = |arguments: &[&str]| NETBENCH.refusal(arguments);
    assert!(refusal(&["--nets", "lenet6"]).contains("did you mean `lenet5`?"));
    assert!(refusal(&["--nets", "none.onnx"]).contains("none.onnx"));
    assert!(refusal(&["--nets", "my net.onnx"]).contains("without blanks"));
    assert!(refusal(&["--threads", "0"]).contains("1..=1024"));
    assert!(refusal(&["--batch", "0"]).contains("batch"));
    assert!(refusal(&["--seconds", "-1"]).contains("-1"));
    assert!(refusal(&["--rounds", "0"]).contains("rounds"));
    assert!(refusal(&["--numerics", "exact"]).contains("exact"));
    assert!(refusal(&["--engines", "ort"]).contains("--peers"));
    assert!(refusal(&["--isa", "avx3"]).contains("expected one of portable"));
    assert!(refusal(&["--accuracy"]).contains("--peers"));
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().to_str().unwrap();
    assert!(refusal(&["--peers", empty]).contains("setup.sh"));
    assert!(refusal(&["--peers", empty, "--engines", "onednn"]).contains("expected one of ort"));
    assert!(refusal(&["--peers", empty, "--engines", "ncnn"]).contains("ncnn is not in"));
    assert!(refusal(&["--peers", empty, "--engines", "openvino-bf16"]).contains("openvino-bf16 is not in"));
    assert!(refusal(&["--peers", empty, "--accuracy"]).contains("torch-f64 is not in"));
}

#[test]
fn a_worker_answers_every_request_with_a_line() {
    let requests = "time 1\nnetwork none.onnx none 1\nnonsense\n";
    let output =
        NETBENCH.command(&["worker", "ours", "1", "portable"]).write_stdin(requests).assert().success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.lines().all(|line| line.starts_with("error ")), "{text}");
    NETBENCH.command(&["worker", "theirs", "1", "portable"]).assert().code(2);
}

/// The reference of distances is an output in `f32`, also if no such engine is timed. Some layers of this network are faster
/// with bf16 products, in contrast to those of LeNet-5.
#[test]
fn rounded_products_are_compared_with_f32() {
    let distance = |numerics: &str| {
        let options = ["--numerics", numerics, "--format", "json"];
        let rows: Value = serde_json::from_str(&quick_of("nin-cifar10", &options)).unwrap();
        let rows = rows.as_array().unwrap();
        assert!(rows.len() == 1 && rows[0]["ms_median"].is_f64(), "{rows:?}");
        assert_eq!(rows[0]["bf16_roof_gflops"].is_f64(), has_bf16(), "{rows:?}");
        rows[0]["rel_l2_distance"].as_f64().unwrap()
    };
    assert_eq!(distance("default"), 0.0);
    let of_bf16 = distance("bf16");
    assert!(if has_bf16() { (1e-5..4e-2).contains(&of_bf16) } else { of_bf16 < 1e-5 }, "{of_bf16}");
}

#[cfg(unix)]
#[test]
fn a_peer_that_is_wrong_or_dead_is_a_row_and_no_rival() {
    for is_dead in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        common::fake_peer(&folder.path().join("rust-worker"), 40, is_dead);
        let peers = ["--peers", folder.path().to_str().unwrap(), "--engines", "rten"];
        let arguments = [&["--nets", "lenet5"], &BRIEF[..], &peers[..]].concat();
        // The only other output differs, so no peer agrees with the library.
        let code = if is_dead { 0 } else { 1 };
        let output = NETBENCH.command(&arguments).assert().code(code);
        let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
        assert!(text.contains(if is_dead { "none: crashed" } else { "ANOTHER OUTPUT fake" }), "{text}");
        assert!(!text.contains("best by median"), "{text}");
    }
}
