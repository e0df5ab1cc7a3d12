//! `nets search`, `check` and `ensemble`, as a user calls them.

mod corners;
mod program;

use corners::{TRAIN, corners, fails, nets, succeeds};
use program::success;

#[test]
fn a_search_sorts_and_continues() {
    let folder = corners();
    let search =
        "search mlp --data pictures --input 3x8x8 --epochs 2 --batch 9 --threads 1 --range lr=1e-5..1e-1";
    let random = format!("{search} --trials 3 --rounds 2 --table table.csv");
    let first = succeeds(folder.path(), &random);
    let accuracies: Vec<f64> = first
        .lines()
        .skip(1)
        .map(|row| row.trim_start().split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(accuracies.len() == 6 && accuracies.is_sorted_by(|a, b| a >= b), "{first}");
    // Without two of its rows, the table is completed to the same one.
    let path = folder.path().join("table.csv");
    let table = std::fs::read_to_string(&path).unwrap();
    let kept: Vec<&str> = table.lines().take(5).collect();
    std::fs::write(&path, kept.join("\n") + "\n").unwrap();
    assert_eq!(succeeds(folder.path(), &random), first);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), table);
    let message = fails(folder.path(), &format!("{search} --trials 3 --table pictures/a/00.png"));
    assert!(message.starts_with("error: "), "{message}");
    let other = format!("{} --trials 3 --table table.csv", search.replace("1e-5", "1e-4"));
    assert!(fails(folder.path(), &other).contains("expected the table of this search"));
    // More trials of the same search are welcome, and other recipes are not mixed with them.
    for (option, difference) in
        [("--seed 1", "seed=1"), ("--epochs 3", "epochs=3"), ("--l2 1e-3", "l2=0.001")]
    {
        let other = format!("{} {option} --trials 3 --table table.csv", search.replace("--epochs 2 ", ""));
        let message = fails(folder.path(), &other);
        assert!(message.contains(difference) && message.contains("got one of another search ("), "{message}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), table);
    let more = nets(folder.path(), &format!("{search} --trials 5 --rounds 2 --table table.csv"));
    assert!(more.status.success());
    let fresh = succeeds(folder.path(), &format!("{search} --trials 5 --rounds 2"));
    assert_eq!(String::from_utf8(more.stdout).unwrap(), fresh);
    // Values of another space are measured again.
    let first_row = table.lines().nth(1).unwrap();
    let cells: Vec<&str> = first_row.split(',').collect();
    std::fs::write(&path, table.replacen(cells[5], "0.5", 1)).unwrap();
    let output = nets(folder.path(), &random);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("table.csv: 1 trials of round 1 are dropped"), "{stderr}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), first);
    std::fs::write(&path, table.clone() + table.lines().nth(1).unwrap()).unwrap();
    assert!(fails(folder.path(), &random).contains("expected each trial once, got trial 1 of round 1 again"));
    std::fs::write(&path, table.replacen("0,0,", "0,x,", 1)).unwrap();
    assert!(fails(folder.path(), &random).contains("expected numbers of a trial"));
    let grid = succeeds(folder.path(), &format!("{search} --grid 2 --folds 2"));
    assert!(grid.lines().count() == 3 && grid.contains("1.000e-5"), "{grid}");
}

#[test]
fn a_check_finds_what_it_should() {
    let out = success(&["check", "lenet5", "--threads", "1"]);
    for part in [
        "2.303 (ln 10) if every class is as likely: as expected",
        "learned by heart in",
        "too low: the loss barely changes",
        "too high: ",
        "c1.weight",
        "sat.",
    ] {
        assert!(out.contains(part), "no `{part}` in:\n{out}");
    }
    let worst = out.split("largest error ").nth(1).unwrap().split(':').next().unwrap();
    assert!(worst.parse::<f64>().unwrap() < 1e-3, "{out}");
    // The network is checked as the recipe trains it.
    let frozen = success(&["check", "lenet5", "--threads", "1", "--freeze", "c*", "--drop-connect", "0.5"]);
    let gradients = frozen.split("largest error ").nth(1).unwrap();
    let gradients = gradients.split("Standard deviation").next().unwrap();
    assert!(gradients.contains("f6.weight") && !gradients.contains("c1.weight"), "{frozen}");
    let hinge = success(&["check", "lenet5", "--threads", "1", "--loss", "hinge", "--init", "zero"]);
    assert!(hinge.contains("First loss        9.000; 9.000 (1 x (10 - 1))"), "{hinge}");
}

#[test]
fn an_ensemble_averages_answers_and_weights() {
    let folder = corners();
    for seed in [1, 2] {
        succeeds(folder.path(), &format!("{TRAIN} --seed {seed} --out seed-{seed}.safetensors"));
    }
    let line = "ensemble mlp --data pictures --input 3x8x8 --weights seed-1.safetensors seed-2.safetensors";
    let out = succeeds(folder.path(), line);
    assert!(out.contains("mean of the probabilities") && out.contains("mean of the weights"), "{out}");
    succeeds(folder.path(), &format!("{TRAIN} --schedule cosine:2 --snapshots snapshots"));
    for epoch in [2, 4] {
        assert!(folder.path().join(format!("snapshots/epoch-{epoch}.safetensors")).exists());
    }
}
