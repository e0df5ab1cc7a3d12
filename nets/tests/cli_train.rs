//! `nets train`, as a user calls it.

mod corners;
mod program;

use corners::{TRAIN, corners, fails, nets, succeeds};
use program::fails_with;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_nets");

#[test]
fn a_training_leaves_weights_a_log_and_curves() {
    let folder = corners();
    let out = succeeds(folder.path(), &format!("{TRAIN} --log log.csv --plot curves.svg"));
    assert!(out.contains("Accuracy   100.00 % of 6 pictures"), "{out}");
    let log = std::fs::read_to_string(folder.path().join("log.csv")).unwrap();
    let rows: Vec<&str> = log.lines().collect();
    assert_eq!(rows.len(), 5, "{log}");
    let columns: Vec<&str> = rows[0].split(',').collect();
    assert_eq!(columns[..3], ["epoch", "step", "rate"]);
    assert!(columns.iter().any(|column| column.starts_with("ratio:")), "{columns:?}");
    assert!(columns.iter().any(|column| column.starts_with("dead:")), "{columns:?}");
    assert!(rows[4].starts_with("4,24,"), "{log}");
    let curves = std::fs::read_to_string(folder.path().join("curves.svg")).unwrap();
    let document = roxmltree::Document::parse(&curves).unwrap();
    let lines = document.descendants().filter(|node| node.has_tag_name("polyline"));
    assert!(lines.count() >= 5, "{curves}");
    assert!(folder.path().join("mlp.safetensors").exists() && !folder.path().join("mlp.checkpoint").exists());
}

#[test]
fn the_weights_are_used_with_their_statistics() {
    let folder = corners();
    let digit = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/samples/digit-7.png");
    // So little training is enough to read a plain digit, and without the statistics of the inputs it is not.
    succeeds(folder.path(), "train lenet5 --epochs 1 --threads 2");
    let run = format!("run lenet5 --weights lenet5.safetensors --image {} --format json", digit.display());
    let report: serde_json::Value = serde_json::from_str(&succeeds(folder.path(), &run)).unwrap();
    assert_eq!(report["class"], 7, "{report}");
}

fn start(folder: &Path, line: &str) -> Child {
    let mut command = Command::new(PROGRAM);
    command.current_dir(folder).args(line.split_whitespace());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no {}", path.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

const LONG: &str = "train lenet5 --epochs 3 --threads 1 --average 0.99 --seed 7";

/// The weights of a training that was killed `kills` times, each time a little later after its first checkpoint.
fn killed(folder: &Path, name: &str, kills: u32) -> PathBuf {
    let checkpoint = folder.join(format!("{name}.checkpoint"));
    let out = format!("--out {name}.safetensors --save-every 0.01");
    let mut line = format!("{LONG} {out}");
    for kill in 0..kills {
        let mut child = start(folder, &line);
        wait_for(&checkpoint);
        std::thread::sleep(Duration::from_millis(150 + 61 * u64::from(kill)));
        child.kill().unwrap();
        child.wait().unwrap();
        line = format!("train lenet5 --threads 1 --resume {out}");
    }
    succeeds(folder, &line);
    folder.join(format!("{name}.safetensors"))
}

#[test]
fn a_killed_training_resumes_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), &format!("{LONG} --out whole.safetensors"));
    let resumed = killed(folder.path(), "killed", 3);
    let whole = folder.path().join("whole.safetensors");
    assert!(std::fs::read(whole).unwrap() == std::fs::read(resumed).unwrap(), "the bits differ");
    // No temporary file of a killed process is taken for a checkpoint, and the checkpoint is gone.
    assert!(!folder.path().join("killed.checkpoint").exists());
}

#[test]
#[cfg(unix)]
fn an_interrupted_training_saves_and_says_how_to_continue() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.current_dir(folder.path()).args(format!("{LONG} --save-every 0.01").split_whitespace());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let checkpoint = folder.path().join("lenet5.checkpoint");
    wait_for(&checkpoint);
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("Continue with: nets train lenet5 --resume"), "{text}");
    assert!(checkpoint.exists());
    // One that begins anew leaves nothing of it: even if it is killed before its first checkpoint, it is the one to continue.
    let mut child = start(folder.path(), "train lenet5 --epochs 9 --restart --save-every 1e300 --seed 8");
    let old = std::fs::read(&checkpoint).unwrap();
    let begun = Instant::now();
    while std::fs::read(&checkpoint).unwrap() == old {
        assert!(begun.elapsed() < Duration::from_secs(60), "the old checkpoint is left");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // A new training does not overwrite it.
    let message = fails(folder.path(), "train lenet5 --epochs 1");
    assert!(message.contains("lenet5.checkpoint: expected --resume to continue this training"), "{message}");
    let message = fails(folder.path(), "train lenet5-1998 --resume lenet5.checkpoint");
    assert!(
        message.ends_with("expected a checkpoint of network `lenet5-1998`, got one of network `lenet5`"),
        "{message}"
    );
    std::fs::write(&checkpoint, b"no checkpoint").unwrap();
    let message = fails(folder.path(), "train lenet5 --resume");
    assert!(message.contains("expected a checkpoint of `nets train`, got another file"), "{message}");
}

#[test]
#[cfg(unix)]
fn the_printed_command_continues_into_the_same_files() {
    let folder = corners();
    let training = TRAIN.replace("--epochs 4", "--epochs 300");
    succeeds(folder.path(), &format!("{training} --out whole.safetensors"));
    // The files of another training, which must stay.
    std::fs::write(folder.path().join("mlp.checkpoint"), b"another").unwrap();
    std::fs::create_dir(folder.path().join("results")).unwrap();
    let line = format!("{training} --out results/own.safetensors --log results/log.csv --save-every 0");
    let mut command = Command::new(PROGRAM);
    command.current_dir(folder.path()).args(line.split_whitespace());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&folder.path().join("results/own.checkpoint"));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let continuation = text.split("Continue with: nets ").nth(1).unwrap_or_else(|| panic!("{text}"));
    assert_eq!(continuation.trim_end(), "train mlp --resume results/own.checkpoint --log results/log.csv");
    succeeds(folder.path(), &format!("{continuation} --threads 1"));
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(read("results/own.safetensors") == read("whole.safetensors"), "the bits differ");
    assert_eq!(read("mlp.checkpoint"), b"another");
    assert!(!folder.path().join("mlp.safetensors").exists());
    assert!(!folder.path().join("results/own.checkpoint").exists());
    assert_eq!(String::from_utf8(read("results/log.csv")).unwrap().lines().count(), 301);
    // Nor does another name overwrite it.
    let message = fails(folder.path(), "train mlp --resume results/own.checkpoint --out mlp.safetensors");
    assert!(message.contains("mlp.checkpoint: expected --resume to continue this training"), "{message}");
    let message = fails(folder.path(), "train lenet5 --out a.checkpoint");
    assert!(
        message.starts_with("error: a.checkpoint: expected two files, one for the checkpoint"),
        "{message}"
    );
}

#[test]
fn results_that_cannot_be_written_are_reported_before_the_training() {
    let folder = corners();
    for option in ["log", "plot", "out"] {
        let output = nets(folder.path(), &format!("{TRAIN} --{option} missing/file"));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{option}: {stderr}");
        assert!(stderr.starts_with("error: cannot write missing/file"), "{option}: {stderr}");
    }
    let message = fails(folder.path(), &format!("{TRAIN} --snapshots pictures/a/00.png"));
    assert!(message.contains("cannot write to the directory pictures/a/00.png"), "{message}");
    let search = "search mlp --data pictures --input 3x8x8 --range lr=1e-5..1e-1 --table missing/table.csv";
    assert!(fails(folder.path(), search).contains("cannot write missing/table.csv"));
    assert!(
        fails(folder.path(), "demo degradation --plot missing/a.svg").contains("cannot write missing/a.svg")
    );
    assert!(!folder.path().join("mlp.safetensors").exists());
}

#[test]
fn a_damaged_picture_is_found_before_the_training() {
    let folder = corners();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("data")).unwrap();
    std::fs::rename(path("pictures"), path("data/train")).unwrap();
    for class in ["a", "b", "c"] {
        std::fs::create_dir_all(path("data/val").join(class)).unwrap();
        std::fs::copy(path("data/train/a/00.png"), path("data/val").join(class).join("00.png")).unwrap();
    }
    let line = TRAIN.replace("pictures", "data");
    for (part, options) in [("val", ""), ("train", " --normalise none")] {
        let picture = path("data").join(part).join("c/00.png");
        let whole = std::fs::read(&picture).unwrap();
        std::fs::write(&picture, &whole[..whole.len() / 2]).unwrap();
        let stderr = String::from_utf8(nets(folder.path(), &format!("{line}{options}")).stderr).unwrap();
        assert!(stderr.starts_with(&format!("error: data/{part}/c/00.png: expected a picture")), "{stderr}");
        std::fs::write(&picture, whole).unwrap();
    }
    succeeds(folder.path(), &line);
}

#[test]
fn full_batches_count_all_pictures() {
    let folder = corners();
    let output = nets(folder.path(), &format!("{TRAIN} --optimizer lbfgs"));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && stderr.contains("; 4 epochs of 1 steps of 54 with lbfgs:10"),
        "{stderr}"
    );
}

#[test]
fn bad_requests_are_one_line() {
    let folder = corners();
    let pictures = folder.path().join("pictures").display().to_string();
    fails_with(&["train", "lenet6"], "did you mean `lenet5`");
    fails_with(&["train", "lenet5", "--optimizer", "adamm"], "expected sgd, momentum[:M]");
    fails_with(&["train", "lenet5", "--lr", "-1"], "expected a number above 0, got -1");
    fails_with(&["train", "lenet5", "--schedule", "step:0"], "expected a number of epochs");
    fails_with(&["train", "lenet5", "--augment", "blur=1"], "got `blur=1`");
    fails_with(&["train", "lenet5", "--init", "ones"], "expected one of he, xavier");
    fails_with(&["train", "lenet5", "--parametrization", "norm"], "expected plain, weight-norm or");
    fails_with(&["train", "lenet5", "--recompute", "all"], "expected nothing, cheap or blocks, got `all`");
    fails_with(&["train", "lenet5", "--resume", "--lr", "1"], "cannot be used with");
    fails_with(&["train", "lenet5", "--data", "missing"], "cannot read missing");
    fails_with(&["train", "lenet5", "--data", &pictures, "--batch", "900"], "batch: expected 1 to 54");
    fails_with(&["train", "lenet5", "--freeze", "conv1.*"], "of network `lenet5`, got `conv1.*`");
    fails_with(&["train", "lenet5", "--lr-scale", "fc.*=0.1"], "of network `lenet5`, got `fc.*`");
    fails_with(&["train", "lenet5", "--freeze", "*"], "is trained, got all of them");
    fails_with(
        &["train", "lenet5", "--schedule", "cosine:1e-20"],
        "expected a number of epochs of 0, or from 0.001",
    );
    fails_with(&["search", "lenet5", "--range", "depth=1..2"], "expected OPTION=LOW..HIGH");
    let grid = ["search", "lenet5", "--range", "lr=0.1..1", "l2=0.1..1", "l1=0.1..1", "--grid", "100"];
    fails_with(&grid, "--grid: expected at most 10000 combinations, got 1000000");
    std::fs::create_dir(folder.path().join("pictures/d")).unwrap();
    fails_with(&["train", "lenet5", "--data", &pictures], "of the class, got none");
}

#[test]
fn a_training_that_diverges_says_where() {
    let folder = corners();
    let message = fails(folder.path(), &format!("{TRAIN} --optimizer sgd --lr 1e30 --schedule constant"));
    assert!(
        message.contains("the training diverged") && message.contains("expected finite numbers, got"),
        "{message}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_reported_and_loses_nothing() {
    let folder = corners();
    // A limit on the size of files stands for a full disk: the file cannot grow any further.
    let line = format!("trap '' XFSZ; ulimit -f 8; exec {PROGRAM} {TRAIN} --save-every 0");
    let output = Command::new("bash").current_dir(folder.path()).args(["-c", &line]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.lines().last().unwrap().contains("cannot write mlp.checkpoint"), "{stderr}");
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["pictures"], "no half of a file is left");
}

#[test]
fn a_new_last_layer_and_frozen_others() {
    let folder = corners();
    succeeds(folder.path(), &format!("{TRAIN} --out first.safetensors"));
    std::fs::create_dir(folder.path().join("pictures/d")).unwrap();
    std::fs::copy(folder.path().join("pictures/a/00.png"), folder.path().join("pictures/d/00.png")).unwrap();
    std::fs::copy(folder.path().join("pictures/a/01.png"), folder.path().join("pictures/d/01.png")).unwrap();
    let line = format!("{TRAIN} --weights first.safetensors --freeze fc1.* --out second.safetensors");
    let output = nets(folder.path(), &line);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && stderr.contains("; new: "), "{stderr}");
    let message = fails(folder.path(), "train lenet5 --weights first.safetensors");
    assert!(message.contains("tensor `c1.weight`"), "{message}");
}
