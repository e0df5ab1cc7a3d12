//! `nets bench`, `nets explain` and `nets run` on photographs, tested through the command line.

mod pictures;
mod program;

use pictures::{Format, Picture};
use program::{fails_with, json, success};
use serde_json::Value;
use std::path::Path;

const SHORT: [&str; 5] = ["bench", "resnet20-cifar", "--seconds", "0.01", "--threads"];

fn bench<'a>(threads: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&SHORT[..], &[threads], more].concat()
}

#[test]
fn bench_json_has_every_layer() {
    let runs = json(&bench("1,2", &["--batch", "1,3", "--format", "json", "--numerics", "strict"]));
    let runs = runs.as_array().unwrap();
    let keys: Vec<(u64, u64)> =
        runs.iter().map(|run| (run["batch"].as_u64().unwrap(), run["threads"].as_u64().unwrap())).collect();
    assert_eq!(keys, [(1, 1), (1, 2), (3, 1), (3, 2)]);
    for run in runs {
        assert_eq!((&run["net"], &run["numerics"]), (&"resnet20-cifar".into(), &"strict".into()));
        let (least, median) = (run["ms_min"].as_f64().unwrap(), run["ms_median"].as_f64().unwrap());
        assert!(0.0 < least && least <= median, "{least} {median}");
        let layers = run["layers"].as_array().unwrap();
        let first = &layers[0];
        assert!(first["name"].is_string() && first["op"] == "conv+batch_norm+relu", "{first}");
        assert!(first["algorithm"].is_string() && first["bytes"].as_u64().unwrap() > 0);
        assert_eq!(first["products"], "f32");
        for key in ["ms", "gflops", "roof_percent"] {
            assert!(first[key].as_f64().unwrap() > 0.0, "{key}");
        }
        let pool = layers.iter().find(|layer| layer["op"] == "global_avg_pool").unwrap();
        assert!(pool["gflops"].is_null() && pool["algorithm"].is_null() && pool["products"].is_null());
    }
}

/// Products other than f32 stand beside the algorithm in text, and in a field of their own in JSON and CSV.
#[test]
fn bench_and_explain_name_products() {
    let level = ["--numerics", "bf16", "--per-layer"];
    let runs = json(&bench("1", &[&level[..], &["--format", "json"]].concat()));
    assert_eq!(runs[0]["numerics"], "bf16");
    let text = success(&bench("1", &level));
    let csv = success(&bench("1", &[&level[..], &["--format", "csv"]].concat()));
    let explain = ["explain", "resnet20-cifar", "--threads", "1", "--numerics", "bf16"];
    let explained = success(&explain);
    let rows = json(&[&explain[..], &["--json"]].concat());
    let mut rows = rows.as_array().unwrap().iter();
    let mut bf16_layers = 0;
    for layer in runs[0]["layers"].as_array().unwrap().iter().filter(|layer| !layer["algorithm"].is_null()) {
        let row = rows.next().unwrap();
        for key in ["name", "algorithm", "products"] {
            assert_eq!(layer[key], row[key]);
        }
        let [name, algorithm, products] =
            ["name", "algorithm", "products"].map(|key| layer[key].as_str().unwrap());
        let is_f32 = products == "f32";
        bf16_layers += usize::from(!is_f32);
        let method = if is_f32 { algorithm.to_owned() } else { format!("{algorithm}+{products}") };
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
        assert!(line.split_whitespace().any(|word| word == method), "no {method} in {line}");
        let line = csv.lines().find(|line| line.contains(&format!(",{name},"))).unwrap();
        assert!(
            line.contains(&format!(",{algorithm},")) && line.ends_with(&format!(",{products}")),
            "{line}"
        );
        assert!(explained.contains(&format!("chosen    {method} with ")), "no {method} in:\n{explained}");
    }
    let has_unit = kernels::Isa::detect().products().len() > 1;
    assert_eq!(bf16_layers > 0, has_unit);
}

#[test]
fn bench_in_every_format() {
    let text = success(&bench("1", &["--per-layer"]));
    for part in
        ["resnet20-cifar on ", "median ms", "Outside", "conv+batch_norm+add+relu", "nchw16c", "% roof"]
    {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    assert!(!success(&bench("1", &[])).contains("conv+"));
    assert!(success(&bench("1", &["--layout", "nchw", "--per-layer"])).contains(" nchw "));
    let csv = success(&bench("1", &["--per-layer", "--format", "csv"]));
    let mut lines = csv.lines();
    let header = "net,batch,threads,isa,numerics,ms_min,ms_median,layer,op,algorithm,kernel,ms,gflops,roof_percent,bytes,products";
    assert_eq!(lines.next(), Some(header));
    assert!(lines.all(|line| line.split(',').count() == header.split(',').count()));
    assert_eq!(success(&bench("1", &["--format", "csv"])).lines().count(), 2);
}

#[test]
fn bench_traces() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json").to_str().unwrap().to_owned();
    success(&bench("1,2", &["--trace", &trace]));
    let trace: Value = serde_json::from_str(&std::fs::read_to_string(trace).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let timed: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
    assert!(timed.len() > 40 && timed.iter().all(|event| event["dur"].as_f64().unwrap() >= 0.0));
    assert_eq!(events.iter().filter(|event| event["ph"] == "M").count(), 2);
}

#[test]
fn bench_refuses() {
    fails_with(&["bench", "resnet5"], "did you mean `resnet50`?");
    fails_with(&["bench", "none.onnx"], "cannot read none.onnx");
    fails_with(&["bench", "lenet5", "--threads", "1,0"], "1..=1024");
    fails_with(&["bench", "lenet5", "--batch", "0"], "--batch");
    fails_with(
        &["bench", "lenet5", "--numerics", "exact"],
        "expected strict, default, fast, tf32 or bf16, got exact",
    );
    fails_with(&["bench", "lenet5", "--seconds", "0"], "expected seconds, above 0");
    fails_with(
        &["bench", "lenet5", "--seconds", "0.01", "--layout", "nhwc"],
        "layout: expected nchw or nchw16c",
    );
    fails_with(&["bench", "lenet5", "--seconds", "0.01", "--plot", "/none/x.svg"], "cannot write");
}

#[test]
fn bench_reads_onnx() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx");
    let file = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut file = file.filter(|path| path.ends_with("symbolic.onnx"));
    let file = file.next().unwrap();
    let runs =
        json(&["bench", file.to_str().unwrap(), "--seconds", "0.01", "--threads", "1", "--format", "json"]);
    assert!(runs[0]["ms_min"].as_f64().unwrap() > 0.0);
}

#[test]
fn explain_says_why() {
    let text = success(&["explain", "googlenet", "--threads", "1"]);
    for part in [
        "inception_3a/3x3\n",
        "chosen",
        "rejected",
        "predicted ms",
        "compute",
        "1x3x224x224 -> 64 7x7",
        "nchw -> nchw16c",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let rows = json(&["explain", "resnet20-cifar", "--json", "--batch", "4", "--isa", "portable"]);
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 20);
    for row in rows {
        assert_eq!(row["isa"], "portable");
        assert!(row["algorithm"].is_string() && row["reason"].is_string() && row["kernel"].is_string());
        assert!(!row["rejected"].as_array().unwrap().is_empty() && row["macs"].as_u64().unwrap() > 0);
        let candidates = row["candidates"].as_array().unwrap();
        let chosen: Vec<_> = candidates.iter().filter(|candidate| candidate["rejected"].is_null()).collect();
        assert_eq!(chosen.len(), 1);
        assert_eq!(chosen[0]["algorithm"], row["algorithm"]);
        assert_eq!(chosen[0]["packed_bytes"], row["packed_bytes"]);
        assert!(candidates.iter().all(|candidate| candidate["predicted_ms"].as_f64().unwrap() > 0.0));
        assert!(candidates.iter().all(|candidate| candidate["measured_ms"].is_null()));
    }
    fails_with(&["explain", "resnet5"], "did you mean `resnet50`?");
}

#[test]
fn photographs_are_classified() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let picture = |name: &str, width, height, format| {
        let pixel = |x: usize, y: usize| [(x * 3) as u8, (y * 5) as u8, (x + y) as u8];
        std::fs::write(path(name), Picture::from_fn(width, height, pixel).encode(format)).unwrap();
    };
    picture("a.png", 90, 60, Format::Png);
    picture("b.jpg", 40, 200, Format::Jpeg);
    let labels: String = (0..10).map(|class| format!("kind {class}\n")).collect();
    std::fs::write(path("labels.txt"), labels).unwrap();
    let (a, b, labels) = (path("a.png"), path("b.jpg"), path("labels.txt"));
    let start =
        ["run", "resnet20-cifar", "--seed", "3", "--image", &a, &b, "--labels", &labels, "--top", "3"];
    let report = json(&[&start[..], &["--format", "json"]].concat());
    assert_eq!(report["preprocessing"]["crop"], serde_json::json!([32, 32]));
    assert_eq!(report["preprocessing"]["resize"], 37);
    let images = report["images"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    for image in images {
        let top = image["top"].as_array().unwrap();
        let likely: Vec<f64> = top.iter().map(|guess| guess["probability"].as_f64().unwrap()).collect();
        assert!(likely.len() == 3 && likely.is_sorted_by(|a, b| a >= b) && likely[0] <= 1.0, "{likely:?}");
        let class = top[0]["class"].as_u64().unwrap();
        assert_eq!(top[0]["label"], format!("kind {class}"));
    }
    let text = success(&start);
    for part in
        ["2 image(s)", "shorter side to 37, 32x32 from the middle", "0.485", "a.png", "b.jpg", "kind "]
    {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    assert_eq!(report["numerics"], "default");
    let bf16 = json(&[&start[..], &["--format", "json", "--numerics", "bf16"]].concat());
    assert_eq!(bf16["numerics"], "bf16");
    assert!(text.contains(" kernels, numerics default\n"), "{text}");
    // A single image leads to the same numbers.
    let alone = json(&["run", "resnet20-cifar", "--seed", "3", "--image", &b, "--format", "json"]);
    assert_eq!(alone["images"][0]["top"][0]["class"], images[1]["top"][0]["class"]);

    std::fs::write(path("few.txt"), "one\ntwo\n").unwrap();
    let run = |more: &[&str], part: &str| fails_with(&[&["run"], more].concat(), part);
    run(&["resnet20-cifar", "--image", &a], "expected --weights");
    run(&["resnet20-cifar", "--seed", "1", "--image", &path("none.png")], "cannot read");
    run(&["resnet20-cifar", "--seed", "1", "--image", &labels], "labels.txt: expected a picture");
    run(&["resnet20-cifar", "--seed", "1", "--image", &a, "--labels", &path("few.txt")], "expected 10 lines");
    run(&["resnet20-cifar", "--seed", "1", "--image", &a, "--resize", "8"], "resize: expected 32");
    run(&["resnet20-cifar", "--seed", "1", "--image", &a, "--std", "0,1,1"], "std: expected numbers above 0");
    run(&["resnet20-cifar", "--seed", "1", "--image", &a, "--mean", "0,1"], "expected three numbers R,G,B");
    run(&["inception", "--seed", "1", "--image", &a], "expected a network that reads 3 colours");
}

/// The preprocessing of pictures with known results.
#[test]
fn photographs_are_prepared_as_documented() {
    use nets::photo::{Recipe, from_bytes};
    let recipe = Recipe::imagenet(kernels::Size2::square(224));
    assert_eq!(recipe.resize, 256);
    let even = Picture::even(300, 500, [255, 0, 51]).png();
    let planes = from_bytes(&even, "even", &recipe).unwrap();
    assert_eq!(planes.len(), 3 * 224 * 224);
    for (plane, value) in planes.chunks(224 * 224).zip([1.0, 0.0, 0.2].iter().zip([
        (0.485, 0.229),
        (0.456, 0.224),
        (0.406, 0.225),
    ])) {
        let (value, (mean, std)) = value;
        assert!(plane.iter().all(|x| (x - (value - mean) / std).abs() < 1e-5));
    }
    // Without resizing, the crop is centred and rows stay rows.
    let recipe = Recipe { resize: 6, crop: kernels::Size2::new(4, 2), mean: [0.0; 3], std: [1.0; 3] };
    let ramp = Picture::from_fn(8, 6, |x, y| [(10 * x) as u8, (10 * y) as u8, 0]).png();
    let planes = from_bytes(&ramp, "ramp", &recipe).unwrap();
    let byte = |x: f32| (x * 255.0).round() as u32;
    let reds: Vec<u32> = planes[..8].iter().map(|&x| byte(x)).collect();
    let greens: Vec<u32> = planes[8..16].iter().map(|&x| byte(x)).collect();
    assert_eq!(reds, [30, 40, 30, 40, 30, 40, 30, 40]);
    assert_eq!(greens, [10, 10, 20, 20, 30, 30, 40, 40]);
    let long = Picture::even(1, 4000, [0; 3]).png();
    let error = from_bytes(&long, "long", &Recipe::imagenet(kernels::Size2::square(224))).unwrap_err();
    assert!(error.to_string().starts_with("long: expected a picture"), "{error}");
}

#[test]
fn export_writes_what_every_command_reads() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.onnx");
    let file = file.to_str().unwrap();
    assert!(success(&["export", "lenet5", file, "--batch", "3"]).starts_with("lenet5 for 3 image(s) in "));
    assert!(success(&["count", file]).contains("61,706"));
    let runs = json(&["bench", file, "--threads", "1", "--seconds", "0.01", "--format", "json"]);
    assert!(
        runs[0]["packed_bytes"].as_u64().unwrap() >= 4 * 61_706
            && runs[0]["compile_ms"].as_f64().unwrap() > 0.0
    );
    assert!(!cfg!(target_os = "linux") || runs[0]["peak_bytes"].as_u64().unwrap() > 1_000_000);
    fails_with(&["export", "resnet20-cifar", file], "operator of ONNX");
    fails_with(&["export", "lenet5", "no/such/folder.onnx"], "cannot write");
    fails_with(&["export", "lenet5", file, "--batch", "0"], "batch");
}
