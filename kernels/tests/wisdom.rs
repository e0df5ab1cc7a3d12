//! Measured choices and stored times. Nothing in a wisdom file, and nothing that happens to it, may break a plan.

mod common;

use common::{ConvProblem, Rng};
use kernels::*;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// A layer that several algorithms can do.
fn problem() -> ConvProblem {
    ConvProblem { input: Shape4::new(1, 32, 12, 12), out_channels: 32, ..ConvProblem::simple() }
}

fn options() -> PlanOptions {
    PlanOptions::default().max_threads(1).select(Select::Measured)
}

fn plan(problem: &ConvProblem, options: &PlanOptions, wisdom: &Wisdom) -> ConvPlan {
    let (desc, data) = (problem.desc().expect("valid"), problem.data());
    ConvPlan::with_wisdom(&desc, Weights::filter(&data.filter), options, wisdom).expect("it can be planned")
}

/// A `Wisdom` that knows one problem, and its text.
fn gained() -> (Wisdom, String) {
    let wisdom = Wisdom::new();
    plan(&problem(), &options(), &wisdom);
    assert_eq!(wisdom.len(), 1);
    let text = wisdom.to_string();
    (wisdom, text)
}

#[test]
fn the_fastest_is_chosen_and_remembered() {
    let wisdom = Wisdom::new();
    let first = plan(&problem(), &options(), &wisdom);
    let choice = &first.explain().choice;
    let timed: Vec<f64> = choice.candidates.iter().filter_map(|candidate| candidate.measured).collect();
    assert!((2..=4).contains(&timed.len()), "{}", first.explain());
    assert!(timed.is_sorted(), "{}", first.explain());
    assert_eq!(choice.candidate().and_then(|c| c.measured), Some(timed[0]));
    let slower = choice.rejected.iter().filter(|(_, why)| *why == Rejection::Measured).count();
    assert_eq!(slower, timed.len() - 1, "{}", first.explain());
    // The stored times lead to the same choice every time.
    for _ in 0..3 {
        assert_eq!(&plan(&problem(), &options(), &wisdom).explain().choice, choice);
    }
    let other = ConvProblem { out_channels: 48, ..problem() };
    plan(&other, &options(), &wisdom);
    plan(&problem(), &options().numerics(Numerics::Strict), &wisdom);
    plan(&problem(), &options().max_packed_bytes(1 << 30), &wisdom);
    assert_eq!(wisdom.len(), 4);
    let without = ConvPlan::new(
        &problem().desc().expect("valid"),
        Weights::filter(&problem().data().filter),
        &options(),
    );
    assert!(without.expect("valid").explain().choice.candidates[0].measured.is_some());
}

#[test]
fn limits_hold_when_measured() {
    let wisdom = Wisdom::new();
    for numerics in [Numerics::Strict, Numerics::Default] {
        let options = options().numerics(numerics).max_packed_bytes(60_000).forbid(Algorithm::Direct);
        let plan = plan(&problem(), &options, &wisdom);
        assert!(plan.packed_bytes() <= 60_000 && plan.algorithm() != Algorithm::Direct, "{}", plan.explain());
        assert!(plan.algorithm().numerics(plan.desc()) <= numerics);
    }
}

#[test]
fn text_leads_back_and_merges() {
    let (wisdom, text) = gained();
    let loaded = Wisdom::parse(text.as_bytes());
    assert!(loaded.ignored.is_empty(), "{:?}", loaded.ignored);
    assert_eq!(loaded.wisdom.to_string(), text);
    assert!(
        text.starts_with("kernels wisdom 3\n") && text.contains("\tin=1x32x12x12 out=32 kernel=3x3 "),
        "{text}"
    );
    let other = Wisdom::new();
    plan(&ConvProblem { out_channels: 48, ..problem() }, &options(), &other);
    other.merge(&wisdom);
    assert_eq!(other.len(), 2);
    other.merge(&loaded.wisdom);
    assert_eq!(other.len(), 2);
}

#[test]
fn the_oldest_give_way() {
    let wisdom = Wisdom::with_capacity(2);
    for out_channels in [16, 32, 48] {
        plan(&ConvProblem { out_channels, ..problem() }, &options(), &wisdom);
    }
    let text = wisdom.to_string();
    assert_eq!(wisdom.len(), 2);
    assert!(!text.contains("out=16 ") && text.contains("out=32 ") && text.contains("out=48 "), "{text}");
}

#[test]
fn what_cannot_be_trusted_is_ignored_with_a_reason() {
    let (_, text) = gained();
    let line = text.lines().nth(1).expect("an entry");
    let fields: Vec<&str> = line.split('\t').collect();
    let with = |index: usize, field: &str| {
        let mut fields = fields.clone();
        fields[index] = field;
        format!("kernels wisdom 3\n{}\n", fields.join("\t"))
    };
    for (broken, reason) in [
        (String::new(), "line 1"),
        (text.replace("wisdom 3", "wisdom 1"), "expected \"kernels wisdom 3\", got \"kernels wisdom 1\""),
        (text.replace('\t', " "), "fields between tabs"),
        (with(0, "0.0.1"), "version"),
        (with(1, "Another CPU"), "another CPU"),
        (with(2, ""), "key"),
        (with(2, "1x32x12x12 to 32 kernel 3x3"), "key"),
        (with(2, &fields[2].replace("out=32", "out=0")), "key"),
        (with(2, &fields[2].replace("out=32", "out=+32")), "key"),
        (with(3, ""), "expected a time"),
        (with(3, "warp=12"), "no algorithm"),
        (with(3, "direct=0"), "nanoseconds"),
        (with(3, "direct=-5"), "nanoseconds"),
        (with(3, "direct=NaN"), "nanoseconds"),
        (with(3, "direct=99999999999999999999999"), "nanoseconds"),
        (with(3, "direct=5,direct=6"), "several"),
        (text.trim_end().to_owned(), "no end"),
    ] {
        let loaded = Wisdom::parse(broken.as_bytes());
        assert!(loaded.wisdom.is_empty(), "{broken}");
        assert!(loaded.ignored.iter().any(|why| why.contains(reason)), "{reason}: {:?}", loaded.ignored);
        plan(&problem(), &options(), &loaded.wisdom);
    }
    // The number of reported reasons is limited.
    let many = format!("kernels wisdom 3\n{}", "?\n".repeat(10_000));
    assert!(Wisdom::parse(many.as_bytes()).ignored.len() < 50);
}

#[test]
fn times_of_what_must_not_be_chosen_are_taken_anew() {
    let (_, text) = gained();
    let times = text.trim_end().rsplit('\t').next().expect("times");
    // The first algorithm cannot do the problem; the second can, but is not accurate enough.
    for wrong in ["pointwise=1", "winograd_6x6=1", "pointwise=1,direct=2"] {
        let loaded = Wisdom::parse(text.replace(times, wrong).as_bytes());
        assert_eq!((loaded.wisdom.len(), loaded.ignored.len()), (1, 0));
        let plan = plan(&problem(), &options(), &loaded.wisdom);
        assert!(plan.algorithm().supports(plan.desc()).is_ok());
        assert!(plan.algorithm().numerics(plan.desc()) <= Numerics::Default);
        assert!(!loaded.wisdom.to_string().contains(wrong));
    }
}

#[test]
fn any_bytes_are_survived() {
    let (_, text) = gained();
    let bytes = text.as_bytes();
    for end in 0..bytes.len() {
        let loaded = Wisdom::parse(&bytes[..end]);
        // The first line alone is a valid, empty `Wisdom`.
        let is_whole = end == "kernels wisdom 3\n".len();
        assert!(loaded.wisdom.is_empty() && loaded.ignored.is_empty() == is_whole, "cut off at {end}");
    }
    let mut random = Rng(12345);
    let mut next = || (random.next() >> 33) as usize;
    for _ in 0..2000 {
        let mut broken = bytes.to_vec();
        for _ in 0..1 + next() % 4 {
            let at = next() % broken.len();
            broken[at] = next() as u8;
        }
        // Whatever was kept must survive another round trip.
        let left = Wisdom::parse(&broken).wisdom;
        let again = Wisdom::parse(left.to_string().as_bytes());
        assert!(again.ignored.is_empty() && again.wisdom.len() == left.len());
    }
    let noise: Vec<u8> = (0..100_000).map(|_| next() as u8).collect();
    assert!(Wisdom::parse(&noise).wisdom.is_empty());
}

#[test]
fn files_are_whole_whoever_writes() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("wisdom");
    assert!(Wisdom::load(&path).ignored[0].contains("wisdom"));
    let (wisdom, text) = gained();
    wisdom.save(&path).expect("it can be written");
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..50).for_each(|_| wisdom.save(&path).expect("it can be written")));
        }
        for _ in 0..100 {
            let loaded = Wisdom::load(&path);
            assert!(loaded.ignored.is_empty() && loaded.wisdom.to_string() == text, "{:?}", loaded.ignored);
        }
    });
    assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 1, "something was left behind");
}

#[test]
fn a_directory_that_cannot_be_written_costs_nothing_else() {
    let (wisdom, text) = gained();
    assert!(wisdom.save("/proc/wisdom").is_err());
    assert!(wisdom.save("/no/such/directory/wisdom").is_err());
    // The path is a directory.
    let folder = tempfile::tempdir().expect("a directory");
    assert!(wisdom.save(folder.path()).is_err());
    assert_eq!(wisdom.to_string(), text);
}

/// The work of the child processes in the tests below. It saves repeatedly, or once if told what to expect.
#[test]
fn child() {
    let Some(path) = std::env::var_os("WISDOM_CHILD") else { return };
    let (wisdom, _) = gained();
    // Enough entries that saving takes a while.
    for out_channels in 1..=40 {
        plan(&ConvProblem { out_channels, input: Shape4::new(1, 4, 6, 6), ..problem() }, &options(), &wisdom);
    }
    loop {
        let saved = wisdom.save(&path);
        match std::env::var("WISDOM_ONCE").as_deref() {
            Ok("fails") => return assert!(saved.is_err(), "there was room"),
            Ok(_) => return saved.expect("it can be written"),
            Err(_) => {}
        }
    }
}

fn command(path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "child"]).env("WISDOM_CHILD", path).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Whether this program can start itself as another process. Under an emulator it cannot; natively it can.
fn starts_itself() -> bool {
    let started = command(Path::new("")).args(["--list"]).status();
    assert!(started.is_ok() || cfg!(not(target_arch = "x86_64")), "{started:?}");
    started.is_ok()
}

/// Whether a shell can start this program. Under an emulator the shell is a native program and cannot.
#[cfg(unix)]
fn starts_from_a_shell() -> bool {
    let exe = std::env::current_exe().expect("this program");
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" --list"]).arg(exe).stdout(Stdio::null()).stderr(Stdio::null());
    let starts = shell.status().expect("there is a shell").success();
    assert!(starts || cfg!(not(target_arch = "x86_64")), "a shell cannot start this program");
    starts
}

#[test]
fn processes_that_are_killed_while_they_write_leave_a_whole_file() {
    if !starts_itself() {
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("wisdom");
    let (wisdom, _) = gained();
    wisdom.save(&path).expect("it can be written");
    for round in 0..4 {
        let mut children =
            [command(&path), command(&path)].map(|mut child| child.spawn().expect("it starts"));
        thread::sleep(Duration::from_millis(400 + 37 * round));
        for child in &mut children {
            child.kill().expect("it runs");
            child.wait().expect("it ran");
        }
        let loaded = Wisdom::load(&path);
        assert!(loaded.ignored.is_empty() && !loaded.wisdom.is_empty(), "{:?}", loaded.ignored);
    }
}

/// A new file gets the mode that the umask allows; an existing file keeps its mode.
#[cfg(unix)]
#[test]
fn a_file_has_the_mode_that_the_umask_leaves_or_the_one_that_it_had() {
    use std::os::unix::fs::PermissionsExt;
    if !starts_from_a_shell() {
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("wisdom");
    let exe = std::env::current_exe().expect("this program");
    let saved_under = |umask: &str| {
        let status = Command::new("sh")
            .args(["-c", &format!("umask {umask}; exec \"$0\" --exact child")])
            .arg(&exe)
            .env("WISDOM_CHILD", &path)
            .env("WISDOM_ONCE", "saves")
            .stdout(Stdio::null())
            .status()
            .expect("there is a shell");
        assert!(status.success(), "{status}");
        fs::metadata(&path).expect("it is there").permissions().mode() & 0o777
    };
    for (umask, mode) in [("022", 0o644), ("002", 0o664), ("077", 0o600)] {
        let _ = fs::remove_file(&path);
        assert_eq!(format!("{:o}", saved_under(umask)), format!("{mode:o}"), "umask {umask}");
    }
    for mode in [0o640, 0o444] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is this process's");
        assert_eq!(format!("{:o}", saved_under("022")), format!("{mode:o}"), "it was there");
    }
}

/// A full disk, simulated by a limit on file size. An emulator of another architecture does not pass the limit on.
#[cfg(all(unix, target_arch = "x86_64"))]
#[test]
fn a_full_disk_leaves_the_old_file() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("wisdom");
    let (wisdom, text) = gained();
    wisdom.save(&path).expect("it can be written");
    let exe = std::env::current_exe().expect("this program");
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" --exact child"])
        .arg(exe)
        .env("WISDOM_CHILD", &path)
        .env("WISDOM_ONCE", "fails")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("there is a shell");
    assert!(status.success(), "the child could write all of it, or crashed");
    assert_eq!(fs::read_to_string(&path).expect("it is there"), text);
    assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 1, "something was left behind");
}
