//! `nets conv`: the plan, the cost and the time of one convolution.

mod program;

use kernels::Algorithm;
use program::{fails_with, failure, json, success};

#[test]
fn conv_explains() {
    let text = success(&["conv", "--input", "1x64x56x56", "--out", "128", "--kernel", "3", "--pad", "1"]);
    for part in ["chosen", "rejected", "output    1x128x56x56", "231,211,008 MACs"] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let same =
        ["conv", "--input", "1x8x15x15", "--out", "8", "--kernel", "3x5", "--stride", "2", "--pad", "same"];
    assert!(success(&same).contains("output    1x8x8x8"));
    for layout in ["nchw", "nhwc", "nchw16c"] {
        let input = ["conv", "--input", "2x32x7x7", "--out", "32", "--kernel", "1", "--layout", layout];
        assert!(success(&input).contains(layout));
    }
    let forced = ["conv", "--input", "1x8x15x15", "--out", "8", "--kernel", "3", "--force", "direct+bf16x3"];
    assert!(success(&forced).contains("chosen    direct+bf16x3 with "));
}

#[test]
fn conv_refuses_what_cannot_be() {
    let conv = |input: &str, out: &str, kernel: &str, more: &[&str], part: &str| {
        let start = ["conv", "--input", input, "--out", out, "--kernel", kernel];
        fails_with(&[&start[..], more].concat(), part);
    };
    conv("1x3x8x8", "4", "3", &["--stride", "0"], "stride.h: expected at least 1, got 0");
    conv("1x3x8x8", "4", "9", &[], "the dilated kernel is 9x9, the padded input is only 8x8");
    conv("1x3x8x8", "4", "3", &["--dilation", "4"], "the dilated kernel is 9x9");
    conv(
        "1x3x8x8",
        "4",
        "3",
        &["--groups", "2"],
        "groups: expected a divisor of the 3 input channels, got 2",
    );
    conv("1x3x8x8", "0", "3", &[], "out_channels: expected at least 1, got 0");
    conv("0x3x8x8", "4", "3", &[], "input.n: expected at least 1, got 0");
    conv("1x3x8", "4", "3", &[], "expected four numbers NxCxHxW");
    conv("1x3x8x-8", "4", "3", &[], "expected four numbers NxCxHxW");
    conv("1x3x8x99999999999999999999", "4", "3", &[], "expected four numbers NxCxHxW");
    conv("1x3x8x8", "4", "axb", &[], "expected HxW");
    conv("1x3x8x8", "4", "3", &["--pad", "1,2"], "expected P, PHxPW");
    conv("1x3x8x8", "4", "3", &["--layout", "chwn"], "expected nchw, nhwc or nchw16c, got chwn");
    conv("1x3x8x8", "4", "3", &["--force", "magic"], "algorithm: expected reference, im2col_gemm");
    conv("1x3x8x8", "4", "3", &["--force", "direct+f16"], "products: expected f32, bf16x6, bf16x3 or bf16");
    conv("1x3x8x8", "4", "3", &["--force", "fft+bf16"], "expected an algorithm that has these products");
    conv("1x3x8x8", "4", "3", &["--numerics", "exact"], "expected strict, default, fast, tf32 or bf16");
    conv("1x3x8x8", "4", "3", &["--force", "pointwise"], "algorithm pointwise cannot do this convolution");
}

/// Terabytes must be rejected before anything of that size is allocated.
#[test]
fn conv_refuses_what_is_absurd() {
    const HUGE: &str = "1099511627776";
    let image = |side: &str| format!("1x1x1x{side}");
    let most = usize::MAX.to_string();
    for side in [HUGE, &most] {
        failure(&["conv", "--input", &image(side), "--out", "1", "--kernel", "1"]);
        failure(&["conv", "--input", "1x3x8x8", "--out", side, "--kernel", "3"]);
        failure(&["conv", "--input", "1x3x8x8", "--out", "4", "--kernel", side]);
        failure(&["conv", "--input", "1x3x8x8", "--out", "4", "--kernel", "3", "--pad", side]);
        failure(&["conv", "--input", "1x3x8x8", "--out", "4", "--kernel", "3", "--dilation", side]);
        failure(&["conv", "--input", "1x3x8x8", "--out", "4", "--kernel", "3", "--groups", side]);
        failure(&["conv", "--input", &format!("{side}x3x8x8"), "--out", "4", "--kernel", "3"]);
        failure(&["conv", "--input", &format!("1x{side}x8x8"), "--out", "4", "--kernel", "3"]);
    }
    fails_with(&["conv", "--input", &image(HUGE), "--out", "1", "--kernel", "1"], "at most 4.0 GiB");
    // A large stride makes the problem small.
    success(&["conv", "--input", "1x3x8x8", "--out", "4", "--kernel", "3", "--stride", HUGE]);
}

#[test]
fn conv_times_the_choice_and_a_forced_method() {
    let conv = ["conv", "--input", "1x16x28x28", "--out", "32", "--kernel", "3", "--pad", "1"];
    let timed = ["--time", "--seconds", "0.05"];
    for layout in ["nchw", "nhwc", "nchw16c"] {
        let text = success(&[&conv[..], &timed, &["--layout", layout]].concat());
        for part in [
            "chosen",
            "output    1x32x28x28",
            "\n  time  ",
            " 1 thread(s)",
            " GFLOP/s, ",
            " % of the roof of ",
        ] {
            assert!(text.contains(part), "no `{part}` in:\n{text}");
        }
    }
    let report = json(&[&conv[..], &timed, &["--json", "--threads", "2", "--force", "direct"]].concat());
    assert_eq!((&report["algorithm"], &report["products"]), (&"direct".into(), &"f32".into()));
    assert_eq!((&report["macs"], &report["output"]), (&3_612_672.into(), &"1x32x28x28".into()));
    assert!(report.get("name").is_none(), "{report}");
    let number = |field: &str| report["time"][field].as_f64().unwrap();
    assert!(0.0 < number("ms_min") && number("ms_min") <= number("ms_median"), "{report}");
    let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-2;
    assert!(near(number("gflops") * number("ms_median") * 1e6, 2.0 * 3_612_672.0), "{report}");
    assert!(near(100.0 * number("gflops") / number("roof_gflops"), number("roof_percent")), "{report}");
    assert!(number("threads") == 2.0 && number("rounds") >= 5.0, "{report}");
}

#[test]
fn conv_json_without_time_has_the_plan_alone() {
    let report = json(&["conv", "--input", "1x8x9x9", "--out", "8", "--kernel", "3", "--json"]);
    assert!(report["time"].is_null() && report["flops"] == 2 * 8 * 8 * 9 * 49, "{report}");
    let count = |field: &str| report[field].as_array().unwrap().len();
    assert!(count("candidates") > 1, "{report}");
    assert!(count("candidates") + count("rejected") > Algorithm::ALL.len(), "{report}");
}

#[test]
fn conv_times_nothing_that_does_not_fit() {
    let conv = |more: &[&str], part: &str| {
        fails_with(&[&["conv", "--out", "2", "--kernel", "3"], more].concat(), part);
    };
    // Each tensor alone is below the limit.
    let large = ["--input", "1x1x20000x20000"];
    conv(&[&large[..], &["--time"]].concat(), "input, output and filter of 1x1x20000x20000 -> 2 3x3 nchw");
    success(&[&["conv", "--out", "2", "--kernel", "3"], &large[..]].concat());
    let small = ["--input", "1x1x9x9", "--time"];
    conv(&[&small[..], &["--seconds", "0"]].concat(), "expected seconds, above 0 and at most 3600, got 0");
    conv(&[&small[..], &["--threads", "0"]].concat(), "1..=1024");
    conv(&["--input", "1x1x9x9", "--seconds", "1"], "--time");
}
