//! The program `shootout`: its output, and its errors for invalid arguments.

mod common;
#[path = "../../nets/tests/plot/svg.rs"]
mod picture;

use common::Program;
use kernels::{Isa, Products};
use picture::Picture;
use serde_json::Value;

const SHOOTOUT: Program = Program("shootout");

fn stdout(arguments: &[&str]) -> String {
    SHOOTOUT.stdout(arguments)
}

fn refusal(arguments: &[&str]) -> String {
    SHOOTOUT.refusal(arguments)
}

/// Whether the best instruction set of this machine has products of bf16 numbers.
fn has_bf16() -> bool {
    Isa::detect().products().contains(&Products::Bf16)
}

#[test]
fn the_balance_has_all_formats() {
    let balance = |format: &str| {
        stdout(&["--balance", "--filter", "resnet18,b8.lenet5.c3", "--isa", "portable", "--format", format])
    };
    let rows: Value = serde_json::from_str(&balance("json")).unwrap();
    let rows = rows.as_array().unwrap();
    for threads in [4, 8, 16, 32, 64, 128] {
        let groups =
            rows.iter().filter(|row| row["threads"] == threads).map(|row| row["group"].as_str().unwrap());
        let groups: Vec<&str> = groups.collect();
        assert!(
            ["56 wide", "28 wide", "14 wide", "7 wide", "batches", "resnet18"]
                .iter()
                .all(|g| groups.contains(g))
        );
    }
    for row in rows {
        let number = |field: &str| row[field].as_f64().unwrap();
        assert!(0.0 < number("worst") && number("worst") <= number("balance") + 1e-9, "{row}");
        assert!(number("balance_of_all") <= number("balance") + 1e-9 && number("balance") <= 1.0, "{row}");
        assert!(number("region_percent") <= number("region_percent_linear"), "{row}");
    }
    let (csv, text, markdown) = (balance("csv"), balance("text"), balance("markdown"));
    assert_eq!(csv.lines().count(), rows.len() + 1, "{csv}");
    assert!(
        csv.starts_with("isa,threads,group,layers,used,balance,balance_of_all,worst,worst_layer,"),
        "{csv}"
    );
    assert!(text.contains("a parallel region takes") && text.contains("worst layer"), "{text}");
    assert_eq!(
        markdown.lines().filter(|line| line.starts_with("| portable")).count(),
        rows.len(),
        "{markdown}"
    );
    for other in [["--threads", "2"], ["--plot", "x.svg"], ["--algorithm", "fft"]] {
        let error = refusal(&[&["--balance"], &other[..]].concat());
        assert!(error.contains("--balance") && error.contains(other[0]), "{error}");
    }
}

#[test]
fn json_is_one_array_of_flat_objects() {
    let arguments =
        ["--filter", "lenet5.c3", "--rounds", "1", "--format", "json", "--layout", "nchw16c,nchw,nhwc"];
    let rows: Value = serde_json::from_str(&stdout(&arguments)).unwrap();
    let rows = rows.as_array().unwrap();
    for layout in ["nchw16c", "nchw", "nhwc"] {
        let auto = |row: &&Value| row["layout"] == layout && row["algorithm"] == "auto";
        assert_eq!(rows.iter().filter(auto).count(), 1, "{layout}");
    }
    for row in rows {
        let fields: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [
            "algorithm",
            "bf16_roof_gflops",
            "chosen",
            "direction",
            "gflops",
            "isa",
            "layer",
            "layout",
            "max_error",
            "ms_median",
            "ms_min",
            "rel_l2_error",
            "roof_percent",
            "shape",
            "threads",
        ];
        assert_eq!(fields, expected);
        let number = |field: &str| row[field].as_f64().unwrap();
        assert!(0.0 < number("ms_min") && number("ms_min") <= number("ms_median"), "{row}");
        assert!(number("rel_l2_error") < 2e-6 && row["threads"] == 1, "{row}");
        assert_eq!(row["bf16_roof_gflops"].is_f64(), has_bf16(), "{row}");
        assert_eq!(row["chosen"].is_string(), row["algorithm"] == "auto", "{row}");
        assert_eq!(row["shape"], "1x6x14x14-16-5x5-s1-p0-g1");
    }
    assert!(!rows.iter().any(|row| row["algorithm"] == "reference"));
}

#[test]
fn every_format_has_every_row() {
    let rows = |format: &str| stdout(&["--filter", "lenet5.c1", "--rounds", "1", "--format", format]);
    assert!(
        rows("csv").starts_with("layer,algorithm,isa,layout,threads,ms_min,ms_median,gflops,roof_percent,")
    );
    assert!(rows("csv").contains("\nlenet5.c1,auto,"));
    assert!(rows("markdown").contains("| lenet5.c1 | auto"));
    assert!(rows("text").contains("lenet5.c1  auto"));
}

#[test]
fn cold_and_threads_and_a_named_algorithm() {
    let arguments = ["--filter", "lenet5.c3", "--rounds", "1", "--format", "csv", "--cold", "--cold-mb", "1"];
    let text = stdout(&[&arguments[..], &["--threads", "1,2", "--algorithm", "im2col_gemm"]].concat());
    assert_eq!(text.matches("lenet5.c3,im2col_gemm,").count(), 2, "{text}");
    assert!(text.contains(",nchw16c,2,"), "{text}");
}

/// Tiles of 6x6 outputs promise the accuracy of `Numerics::Fast`, and are timed by default. Their rows are
/// checked against that promise under every numerics.
#[test]
fn every_row_is_held_to_the_promise_of_its_own_algorithm() {
    let arguments = ["--filter", "resnet18.s1.3x3", "--rounds", "1", "--turn", "1"];
    let text = stdout(&[&arguments[..], &["--algorithm", "winograd_4x4,winograd_6x6"]].concat());
    assert!(text.contains("winograd_6x6") && !text.contains("WRONG"), "{text}");
    // The error clearly exceeds the default promise, so the row passed by its own promise.
    let json = stdout(&[&arguments[..], &["--algorithm", "winograd_6x6", "--format", "json"]].concat());
    let rows: Value = serde_json::from_str(&json).unwrap();
    let error = rows[0]["rel_l2_error"].as_f64().unwrap();
    assert!(error > 2.6e-6 && rows[0]["ms_median"].is_f64(), "{json}");
}

/// Products of bf16 numbers are timed if they are fast and allowed, or if they are named.
#[test]
fn bf16_products_are_candidates_where_they_are_allowed_and_fast() {
    let named = |more: &[&str]| -> Vec<String> {
        let arguments = ["--filter", "lenet5.c3", "--rounds", "1", "--turn", "1", "--format", "json"];
        let rows: Value = serde_json::from_str(&stdout(&[&arguments[..], more].concat())).unwrap();
        let rows = rows.as_array().unwrap();
        assert!(rows.iter().all(|row| row["ms_median"].is_f64()), "{rows:?}");
        rows.iter().map(|row| row["algorithm"].as_str().unwrap().to_owned()).collect()
    };
    let has = |names: &[String], name: &str| names.iter().any(|other| other == name);
    let (strict, loose) = (named(&["--numerics", "strict"]), named(&["--numerics", "bf16"]));
    assert!(strict.iter().all(|name| !name.contains('+')), "{strict:?}");
    assert!(strict.iter().all(|name| has(&loose, name)), "{strict:?}, {loose:?}");
    assert_eq!(has(&loose, "direct+bf16"), has_bf16(), "{loose:?}");
    let both = named(&["--algorithm", "direct+bf16x3,direct", "--isa", "portable"]);
    assert_eq!(both, ["direct+bf16x3", "direct"]);
}

#[test]
fn roofs_alone() {
    let text = stdout(&["--roofs"]);
    assert!(text.contains("cores") && text.contains("DRAM"), "{text}");
    assert_eq!(text.contains("; bf16 roof "), has_bf16(), "{text}");
}

#[test]
fn a_plot_has_every_layer_and_its_roofs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plot.svg");
    stdout(&["--filter", "lenet5", "--rounds", "1", "--plot", file.to_str().unwrap()]);
    let picture = Picture::parse(&std::fs::read_to_string(file).unwrap());
    picture.check();
    for layer in ["lenet5.c1", "lenet5.c3"] {
        assert!(picture.has(layer) && picture.has_tip(&format!("{layer}: ")), "{layer}");
    }
    for start in ["multiply-adds, ", "DRAM, ", "the roof, ", "Roofline: "] {
        assert!(picture.texts().any(|text| text.starts_with(start)), "{start}");
    }
}

const STORED: &str =
    "layer,algorithm,isa,layout,threads,ms_min,ms_median,gflops,roof_percent,rel_l2_error,max_error
lenet5.c1,auto,avx2fma,nchw16c,1,0.01,0.02,12.5,25,1e-7,1e-7
lenet5.c1,direct,avx2fma,nchw16c,1,0.01,0.02,12.5,25,1e-7,1e-7
lenet5.c1,peer:onednn,avx2fma,own,1,0.01,0.04,6.25,12.5,1e-7,1e-7
lenet5.c1,peer:mnn,avx2fma,own,1,0.01,0.001,250,500,1e-2,1e-2
lenet5.c1,peer:torch-bf16,avx2fma,own,1,0.01,0.05,5,10,2e-3,2e-3
lenet5.c3,auto,avx2fma,nchw16c,1,0.03,0.04,20,40,1e-7,1e-7
lenet5.c3,fft,avx2fma,nchw16c,1,0.05,0.06,13.3,26.7,1e-7,1e-7
lenet5.c3,peer:onednn,avx2fma,own,1,0.01,0.02,40,80,1e-7,1e-7
lenet5.c3,peer:ort,avx2fma,own,1,,,,,NaN,NaN
unknown,auto,avx2fma,nchw16c,1,0.03,0.04,30,60,1e-7,1e-7
";

#[test]
fn rows_of_an_earlier_run_are_drawn_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (csv, plot) = (path("rows.csv"), path("plot.svg"));
    std::fs::write(&csv, STORED).unwrap();
    let table = stdout(&["--redraw", &csv, "--plot", &plot]);
    assert!(table.contains("lenet5.c1") && table.contains("geometric mean"), "{table}");
    let picture = Picture::parse(&std::fs::read_to_string(&plot).unwrap());
    picture.check();
    // The choice by the name of what it was, the best peer that is right, and the layer that only the library has.
    for text in
        ["25 direct", "12.5 onednn", "40 auto", "80 onednn", "60 auto", "unknown", "the roof, 50 GFLOP/s"]
    {
        assert!(picture.has(text), "{text}");
    }
    let note = "On 1 of 2 layers the library is at least as fast as the fastest peer.";
    assert!(picture.texts().any(|text| text.starts_with(note)));
    assert!(picture.texts().any(|text| text.ends_with("no slope is drawn.")));

    // Without peers, the fastest algorithm that is not the choice itself.
    let own: String =
        STORED.lines().filter(|line| !line.contains("peer:")).map(|line| format!("{line}\n")).collect();
    std::fs::write(&csv, own).unwrap();
    stdout(&["--redraw", &csv, "--plot", &plot]);
    let picture = Picture::parse(&std::fs::read_to_string(&plot).unwrap());
    assert_eq!(picture.texts().filter(|text| text.ends_with(" direct")).count(), 1);
    assert!(picture.has("26.7 fft") && picture.has("its fastest other algorithm"));

    stdout(&["--redraw", &csv, "--plot", &plot, "--filter", "lenet5.c3"]);
    assert!(!Picture::parse(&std::fs::read_to_string(&plot).unwrap()).has("lenet5.c1"));
    std::fs::write(&csv, STORED.replace("avx2fma", "sse")).unwrap();
    assert!(refusal(&["--redraw", &csv]).contains("sse"));
    assert!(refusal(&["--redraw", &path("none.csv")]).contains("cannot read"));
    assert!(refusal(&["--redraw", &csv, "--out", &plot]).contains("cannot be used with"));
}

#[test]
fn choices_are_judged_drawn_and_written_layer_by_layer() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (plot, out) = (file("plot.svg"), file("rows.csv"));
    let quick = ["--filter", "lenet5.c3", "--random", "1", "--rounds", "1", "--turn", "1"];
    let judged = |loss: &str, code: i32| {
        let loss = format!("--assert-choice={loss}");
        let more = [loss.as_str(), "--threads", "1,2", "--plot", &plot, "--out", &out];
        let output = SHOOTOUT.command(&[&quick[..], &more].concat()).assert().code(code);
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    };
    let text = judged("100000", 0);
    for choice in ["auto", "measured"] {
        assert!(
            text.contains(&format!("Time of {choice}'s choice relative to the fastest algorithm")),
            "{text}"
        );
    }
    assert_eq!(text.matches("within 2 % on").count(), 6, "{text}");
    assert!(text.contains("planned and packed in"), "{text}");
    let svg = std::fs::read_to_string(&plot).unwrap();
    let picture = Picture::parse(&svg);
    picture.check();
    for name in ["auto", "measured"] {
        let is_curve = |text: &str| text.starts_with(&format!("{name}, ")) && text.ends_with("2 thread(s)");
        assert!(picture.texts().any(is_curve), "{name}");
    }
    let rows = std::fs::read_to_string(&out).unwrap();
    assert!(rows.starts_with("layer,algorithm,isa,layout,threads,"), "{rows}");
    assert_eq!((rows.matches(",auto,").count(), rows.matches(",measured,").count()), (4, 4), "{rows}");
    // The loss is never negative, so a limit of -1 % must fail.
    judged("-1", 1);
    let with = stdout(&[&quick[..], &["--measured", "--format", "csv"]].concat());
    assert_eq!(with.matches(",measured,").count(), 2, "{with}");
    assert!(!stdout(&[&quick[..], &["--format", "csv"]].concat()).contains(",measured,"));
}

#[test]
fn bad_arguments_are_one_line_and_exit_2() {
    assert!(refusal(&["--filter", "vgg.conv3_3"]).contains("did you mean vgg.conv3_"));
    assert!(refusal(&["--algorithm", "im2col"]).contains("did you mean im2col_gemm?"));
    assert!(refusal(&["--algorithm", "fft+bf16"]).contains("expected one of auto, measured, "));
    assert!(refusal(&["--isa", "avx512"]).contains("did you mean avx512f?"));
    assert!(refusal(&["--layout", "nchw16"]).contains("did you mean nchw16c?"));
    assert!(refusal(&["--threads", "0"]).contains("1..=1024"));
    assert!(refusal(&["--rounds", "many"]).contains("many"));
    assert!(refusal(&["--format", "xml"]).contains("xml"));
    assert!(refusal(&["--engines", "onednn"]).contains("--peers"));
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().to_str().unwrap();
    assert!(refusal(&["--peers", empty]).contains("setup.sh"));
    assert!(refusal(&["--peers", empty, "--engines", "ort"]).contains("ort is not in"));
    let of_bf16 = ["--peers", empty, "--engines", "torch-bf16"];
    assert!(refusal(&of_bf16).contains("torch-bf16 does not have the precision of --numerics default"));
    assert!(refusal(&[&of_bf16[..], &["--numerics", "bf16"]].concat()).contains("torch-bf16 is not in"));
    let no_folder = format!("{empty}/none/plot.svg");
    for option in ["--plot", "--out"] {
        assert!(
            refusal(&["--filter", "lenet5.c1", "--rounds", "1", option, &no_folder]).contains("plot.svg")
        );
    }
}

#[cfg(unix)]
#[test]
fn a_peer_that_is_wrong_or_dead_is_a_row_and_no_rival() {
    for is_dead in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        common::fake_peer(&folder.path().join("onednn-worker"), 6400, is_dead);
        let peers = ["--peers", folder.path().to_str().unwrap()];
        let arguments =
            [&["--filter", "lenet5.c3", "--rounds", "1", "--algorithm", "auto"], &peers[..]].concat();
        let json = stdout(&[&arguments[..], &["--format", "json"]].concat());
        let rows: Value = serde_json::from_str(&json).unwrap();
        let row = rows.as_array().unwrap().iter().find(|row| row["algorithm"] == "peer:onednn").unwrap();
        assert_eq!(row["rel_l2_error"].as_f64().is_some(), !is_dead, "{row}");
        assert_eq!(row["ms_median"].as_f64().is_some(), !is_dead, "{row}");
        let text = stdout(&arguments);
        assert!(text.contains(if is_dead { "none: crashed" } else { "WRONG fake" }), "{text}");
        assert!(!text.contains("geometric mean"), "{text}");
    }
}
