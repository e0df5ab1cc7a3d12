//! The program through its command line: output, exit codes, and one line for every error.

mod program;

use program::{fails_with, json, success};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_nets");

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(file)
}

/// The best instruction set of this machine says it.
fn bf16_unit() -> Option<&'static str> {
    match kernels::Isa::detect() {
        kernels::Isa::Amx => Some("matrix tiles"),
        kernels::Isa::Avx512Bf16 => Some("dot products"),
        _ => None,
    }
}

#[test]
fn no_arguments_run_the_demo() {
    let text = success(&[]);
    for part in ["CPU", "kernels", "held-out digits", "images per second", "61,706", "416,520", "c1", "Next:"]
    {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    assert!(text.contains(&format!("bf16 unit  {}\n", bf16_unit().unwrap_or("none"))), "{text}");
    for level in kernels::Numerics::ALL {
        assert!(text.contains(&format!("\n  {level:8} 99.")), "no line of {level} in:\n{text}");
    }
}

#[test]
fn demo_json() {
    let report = json(&["demo", "--format", "json", "--threads", "2"]);
    let keys: Vec<&String> = report.as_object().unwrap().keys().collect();
    let mut expected = [
        "isa",
        "threads",
        "digits",
        "accuracy",
        "numerics",
        "accuracy_at",
        "bf16_unit",
        "images_per_second",
        "params",
        "macs",
        "layers",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!((&report["threads"], &report["digits"]), (&2.into(), &1000.into()));
    assert_eq!((&report["params"], &report["macs"]), (&61_706.into(), &416_520.into()));
    assert!(report["accuracy"].as_f64().unwrap() >= 0.98);
    assert_eq!(report["accuracy_at"].as_object().unwrap().len(), 5);
    for level in kernels::Numerics::ALL {
        let accuracy = &report["accuracy_at"][level.name()];
        assert!(accuracy.as_f64().is_some_and(|share| (0.98..=1.0).contains(&share)), "{level}: {accuracy}");
    }
    assert_eq!(report["numerics"], "default");
    assert_eq!(report["accuracy"], report["accuracy_at"]["default"]);
    assert_eq!(report["bf16_unit"].as_str(), bf16_unit());
    assert!(report["images_per_second"].as_f64().unwrap() > 0.0);
    let layers = report["layers"].as_array().unwrap();
    let sum = |field: &str| layers.iter().map(|layer| layer[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("params"), sum("macs")), (61_706, 416_520));
    assert_eq!(layers[0]["name"], "c1");
    assert_eq!(layers[0]["op"], "conv+tanh");
    assert_eq!(layers[0]["output"], serde_json::json!([6, 28, 28]));
    assert!(layers[0]["algorithm"].is_string() && layers[0]["kernel"].is_string());
    assert!(layers[0]["products"].is_string());
    let report = json(&["demo", "--format", "json", "--numerics", "bf16"]);
    assert_eq!(report["numerics"], "bf16");
    assert_eq!(report["accuracy"], report["accuracy_at"]["bf16"]);
}

#[test]
fn demo_on_every_isa_reads_the_same() {
    for (isa, batch) in kernels::Isa::available().zip(["1000", "7", "1"].iter().cycle()) {
        let report =
            json(&["demo", "--isa", isa.name(), "--batch", batch, "--threads", "1", "--format", "json"]);
        assert_eq!(report["isa"], isa.name());
        assert!(report["accuracy"].as_f64().unwrap() >= 0.98, "{isa} in batches of {batch}");
    }
}

#[test]
fn demo_writes_logits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logits.safetensors");
    // 7 does not divide 1,000, so the last batch is not full.
    success(&["demo", "--logits", path.to_str().unwrap(), "--batch", "7"]);
    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.names(), ["logits"]);
    let logits = file.tensor("logits").unwrap();
    assert_eq!((logits.dtype(), logits.shape()), (safetensors::Dtype::F32, &[1000, 10][..]));
}

#[test]
fn samples_are_read() {
    for (file, class) in [("digit-2.png", 2), ("digit-5.png", 5), ("digit-7.png", 7), ("photo-3.png", 3)] {
        let path = data("samples").join(file);
        let path = path.to_str().unwrap();
        let report = json(&["run", "lenet5", "--image", path, "--format", "json"]);
        assert_eq!(report["class"], class, "{file}");
        let probabilities = report["probabilities"].as_array().unwrap();
        let sum: f64 = probabilities.iter().map(|p| p.as_f64().unwrap()).sum();
        assert!(probabilities.len() == 10 && (sum - 1.0).abs() < 1e-5, "{file}: {sum}");
        let bf16 = json(&["run", "lenet5", "--image", path, "--format", "json", "--numerics", "bf16"]);
        assert_eq!((&report["numerics"], &bf16["numerics"]), (&"default".into(), &"bf16".into()));
        assert_eq!(bf16["class"], class, "{file}");
        let text = success(&["run", "lenet5", "--image", path]);
        assert!(text.contains(&format!("It is a {class} (")), "{text}");
        assert!(text.contains("@@") && text.contains("####"), "{text}");
    }
}

#[test]
fn weights_can_be_given() {
    let (image, weights) = (data("samples/digit-7.png"), data("lenet5.safetensors"));
    let (image, weights) = (image.to_str().unwrap(), weights.to_str().unwrap());
    let embedded = json(&["run", "lenet5", "--image", image, "--format", "json"]);
    let given = json(&["run", "lenet5", "--image", image, "--weights", weights, "--format", "json"]);
    assert_eq!(embedded, given);
}

#[test]
fn bad_files_are_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("text.png"), "This is a text file.\n").unwrap();
    let picture = std::fs::read(data("samples/digit-7.png")).unwrap();
    std::fs::write(path("half.png"), &picture[..picture.len() / 2]).unwrap();
    fails_with(&["run", "lenet5", "--image", &path("text.png")], "text.png: expected a picture");
    fails_with(&["run", "lenet5", "--image", &path("half.png")], "half.png: expected a picture");
    fails_with(&["run", "lenet5", "--image", &path("none.png")], "cannot read");
    fails_with(&["run", "lenet5", "--image", folder.path().to_str().unwrap()], "cannot read");

    let image = data("samples/digit-7.png");
    let image = image.to_str().unwrap();
    let weights = std::fs::read(data("lenet5.safetensors")).unwrap();
    for len in [0, 4, 100, weights.len() / 2, weights.len() - 1] {
        std::fs::write(path("w.safetensors"), &weights[..len]).unwrap();
        fails_with(
            &["run", "lenet5", "--image", image, "--weights", &path("w.safetensors")],
            "w.safetensors: expected",
        );
    }
    let cut = format!("expected {} bytes (as its header says), got {}", weights.len(), weights.len() - 1);
    fails_with(&["run", "lenet5", "--image", image, "--weights", &path("w.safetensors")], &cut);
    fails_with(&["run", "lenet5", "--image", image, "--weights", &path("none")], "cannot read");
    fails_with(&["run", "lenet5", "--image", image, "--weights", image], "expected a safetensors file");
    fails_with(&["demo", "--logits", &path("none/logits")], "cannot write");
    fails_with(&["demo", "--logits", folder.path().to_str().unwrap()], "cannot write");
}

#[test]
fn bad_arguments_are_one_clear_line() {
    let image = data("samples/digit-7.png");
    let image = image.to_str().unwrap();
    fails_with(&["run", "lenet6", "--image", image], "got `lenet6`, did you mean `lenet5`?");
    fails_with(&["run", "lenet5"], "--image");
    fails_with(&["dmeo"], "dmeo");
    fails_with(&["demo", "--fast"], "--fast");
    fails_with(
        &["demo", "--isa", "sse9"],
        "expected portable, neon, avx2fma, avx512f, avx512bf16 or amx, got sse9",
    );
    for command in
        [&["demo"][..], &["run", "lenet5", "--image", image], &["bench", "lenet5"], &["explain", "lenet5"]]
    {
        fails_with(
            &[command, &["--numerics", "f16"]].concat(),
            "expected strict, default, fast, tf32 or bf16, got f16",
        );
    }
    fails_with(&["demo", "--threads", "0"], "1..=1024");
    fails_with(&["demo", "--threads", "99999999999"], "1..=1024");
    fails_with(&["demo", "--batch", "0"], "1..=1000");
    fails_with(&["demo", "--format", "xml"], "json");
    let missing = if cfg!(target_arch = "x86_64") { "neon" } else { "avx2fma" };
    fails_with(&["demo", "--isa", missing], "expected one that this machine supports");
}

#[test]
fn count_json_has_the_published_figures() {
    for line in include_str!("published.csv").lines().skip(1) {
        let fields: Vec<&str> = line.splitn(6, ',').collect();
        let report = json(&["count", fields[0], "--format", "json"]);
        assert_eq!(report["name"], fields[0]);
        assert_eq!(
            (report["params"].to_string(), report["macs"].to_string()),
            (fields[3].into(), fields[4].into())
        );
        let layers = report["layers"].as_array().unwrap();
        let sum = |field: &str| layers.iter().map(|layer| layer[field].as_u64().unwrap()).sum::<u64>();
        assert_eq!(
            (sum("params").to_string(), sum("macs").to_string()),
            (fields[3].into(), fields[4].into())
        );
        assert_eq!(report["flops"].as_u64().unwrap(), 2 * report["macs"].as_u64().unwrap());
        for key in ["input", "batch", "peak_activation_bytes", "weight_bytes"] {
            assert!(!report[key].is_null(), "{key}");
        }
        for key in ["name", "op", "input", "output", "params", "macs", "flops"] {
            assert!(!layers[0][key].is_null(), "{key}");
        }
    }
}

#[test]
fn count_in_every_format() {
    let text = success(&["count", "googlenet"]);
    for part in ["6,998,552", "1,582,671,872", "inception_3a/5x5", "32x28x28", "at the same time"] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "colour though there is no terminal");
    let csv = success(&["count", "vgg16", "--format", "csv", "--convention", "thop"]);
    assert!(csv.starts_with("name,op,input,output,params,weights,"));
    assert!(
        csv.contains(
            "features.0,conv,3x224x224,64x224x224,1792,1728,64,0,0,0,86704128,173408256,0,86704128,"
        )
    );
    let markdown = success(&["count", "vgg16", "--format", "markdown", "--batch", "2"]);
    assert!(markdown.starts_with("| Layer | Op |") && markdown.contains("| 30,940,528,640 |"), "{markdown}");
    let report =
        json(&["count", "resnet50", "--input", "3x256x256", "--convention", "flop", "--format", "json"]);
    assert_eq!(report["input"], serde_json::json!([3, 256, 256]));
    assert_eq!(report["cost"].as_u64().unwrap(), 2 * report["macs"].as_u64().unwrap());
}

#[test]
fn count_without_a_name_reconciles() {
    let text = success(&["count"]);
    let parts = [
        "googlenet",
        "6,998,552",
        "13,378,280",
        "4M",
        "misquotation",
        "60M",
        "138M",
        "11.3e9",
        "agrees",
        "docs/counting.md",
    ];
    for part in parts {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let list = json(&["count", "--format", "json"]);
    let names: Vec<&str> =
        list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names, nets::zoo::ALL.iter().map(|entry| entry.name).collect::<Vec<_>>());
    assert!(success(&["count", "--format", "csv"]).starts_with("Network,Params,MACs,Cited,"));
    assert!(success(&["count", "--format", "markdown"]).starts_with("| Network | Params | MACs |"));
}

#[test]
fn count_mistakes_are_one_clear_line() {
    fails_with(&["count", "resnet51"], "did you mean `resnet50`?");
    fails_with(&["count", "missing.onnx"], "cannot read missing.onnx");
    fails_with(&["count", "vgg16", "--input", "3x224"], "expected three numbers CxHxW");
    fails_with(&["count", "vgg16", "--input", "3x0x224"], "expected three numbers CxHxW");
    fails_with(&["count", "vgg16", "--input", "3x8x8"], "layer `features.23`: the output is empty");
    fails_with(&["count", "vgg16", "--input", "3x99999999999x99999999999"], "layer `input`");
    fails_with(&["count", "vgg16", "--batch", "0"], "--batch");
    fails_with(&["count", "vgg16", "--convention", "mad"], "expected one of mac, flop, ops, fvcore");
    fails_with(&["count", "vgg16", "--roof-gbs=-1"], "--roof-gbs");
    fails_with(&["count", "--input", "3x224x224"], "--input: expected a network");
}

#[test]
fn run_reads_and_writes_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let numbers: Vec<f32> = (0..2 * 3072).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
    nets::npy::write(path("x.npy").as_ref(), &[2, 3, 32, 32], &numbers).unwrap();
    let run = |network: &str, output: &str, more: &[&str]| {
        let (input, output) = (path("x.npy"), path(output));
        success(&[&["run", network, "--input", &input, "--output", &output][..], more].concat());
        nets::npy::read(output.as_ref()).unwrap()
    };
    let first = run("resnet20-cifar", "y.npy", &[]);
    assert_eq!((first.0.as_slice(), first.1.len()), (&[2, 10][..], 20));
    assert_eq!(run("resnet20-cifar", "z.npy", &["--seed", "0"]), first);
    assert_ne!(run("resnet20-cifar", "z.npy", &["--seed", "1"]), first);

    let graph = nets::zoo::find("resnet20-cifar").unwrap().graph().unwrap();
    let weights = nets::WeightSet::seeded(&graph, nets::Init::He, 1).unwrap();
    weights.save(path("w.safetensors").as_ref()).unwrap();
    let seeded = run("resnet20-cifar", "z.npy", &["--seed", "1"]);
    assert_eq!(run("resnet20-cifar", "z.npy", &["--weights", &path("w.safetensors")]), seeded);

    let fails =
        |network: &str, input: &str, part: &str| fails_with(&["run", network, "--input", input], part);
    fails("resnet20-cifar", &path("none.npy"), "cannot read");
    nets::npy::write(path("small.npy").as_ref(), &[1, 1, 20, 20], &[0.0; 400]).unwrap();
    fails("lenet5", &path("small.npy"), "layer `c5`");
    fails("resnet2-cifar", &path("x.npy"), "did you mean `resnet20-cifar`?");
    fails("none.onnx", &path("x.npy"), "cannot read none.onnx");
    let whole = std::fs::read(path("x.npy")).unwrap();
    for len in [0, 5, 20, whole.len() / 2, whole.len() - 1] {
        std::fs::write(path("cut.npy"), &whole[..len]).unwrap();
        fails("resnet20-cifar", &path("cut.npy"), "cut.npy: expected an .npy file");
    }
    fails_with(&["run", "vgg16", "--image", "x.png"], "vgg16: expected --weights");
    fails_with(&["run", "lenet5", "--image", "x.png", "--input", "x.npy"], "cannot be used with");
}

#[test]
fn help_and_version() {
    for arguments in
        [&["--help"][..], &["demo", "--help"], &["count", "--help"], &["run", "--help"], &["conv", "--help"]]
    {
        assert!(success(arguments).contains("Example"), "{arguments:?}");
    }
    for command in ["demo", "run", "bench", "explain", "conv"] {
        let help = success(&[command, "--help"]);
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for names in ["strict, default, fast, tf32 or bf16", "neon, avx2fma, avx512f, avx512bf16 or amx"] {
            assert!(help.contains(names), "{command} does not say `{names}`:\n{help}");
        }
    }
    assert!(success(&["--version"]).starts_with("nets "));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = Command::new(PROGRAM).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(child.wait().unwrap().success() && stderr.is_empty(), "{stderr}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_clear_line() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(PROGRAM).arg("--help").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("error: cannot write to standard output"));
}
