//! The files of this crate refer to each other in one direction. The check itself finds every reference and
//! nothing else.

#[path = "../../kernels/tests/common/layers/mod.rs"]
mod layers;

use layers::{check, floors};
use std::path::Path;

#[test]
fn references_run_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/architecture.md");
    let report = check(&src, &floors(&page, "nets"));
    println!("{report}");
    assert!(report.arrows.len() > 200, "{report}");
    assert!(report.faults.is_empty(), "{report}");
}

/// The references between the files of a crate as `from -> to`, and the violations.
fn crate_of(files: &[(&str, &str)], order: &[&str]) -> (Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let report = check(folder.path(), order);
    (report.arrows.iter().map(|(from, to)| format!("{from} -> {to}")).collect(), report.faults)
}

/// The references of a file with this text, in a crate with the modules `low`, `high` and a child of `high`.
fn arrows_of(text: &str) -> Vec<String> {
    let files = [
        ("lib.rs", "mod high; mod it; mod low; pub use low::Low;"),
        ("low.rs", "pub struct Low;"),
        ("high/mod.rs", "pub mod child; pub use child::Child;"),
        ("high/child.rs", "pub struct Child;"),
        ("it.rs", text),
    ];
    let (arrows, _) = crate_of(&files, &["low", "high", "it"]);
    let own = arrows.iter().filter_map(|arrow| arrow.strip_prefix("it.rs -> "));
    own.map(str::to_owned).collect()
}

#[test]
fn every_way_to_refer_to_a_file_is_seen() {
    let both: &[&str] = &["high/child.rs", "low.rs"];
    let cases: &[(&str, &[&str])] = &[
        ("use crate::low::Low;", &["low.rs"]),
        ("use crate::{low, high::{self, child::Child}};", &["high/child.rs", "high/mod.rs", "low.rs"]),
        ("use crate::{low::{Low}, high::child};", both),
        ("pub(crate) use super::low::*;", &["low.rs"]),
        ("fn f() { let _ = crate::low::Low; }", &["low.rs"]),
        ("type T = Vec<super::high::child::Child>;", &["high/child.rs"]),
        ("use crate::high::Child; pub(in crate::high) struct A;", &["high/mod.rs"]),
        ("use crate::high as h; type T = h::child::Child;", &["high/child.rs", "high/mod.rs"]),
        ("mod inner { use super::super::low::Low; }", &["low.rs"]),
        ("mod inner { fn f() { super::g(); } } fn g() {}", &[]),
        ("macro_rules! m { () => { $crate::low::Low } }", &["low.rs"]),
        ("fn f() -> bool { matches!(1, crate::high::child::X) }", &["high/child.rs"]),
        ("#[cfg(test)] mod tests { use crate::low; }", &["low.rs"]),
        ("use crate::Low;", &["lib.rs"]),
        (
            "//! [`crate::low`]\n/// [`crate::high::Child`]\n// crate::low::Low\nfn f() -> &'static str { \"crate::low\" }",
            &[],
        ),
        ("use std::low::Low; use ::low::Low; use other::{high::child, low};", &[]),
        ("fn f(low: A) { low.high(); low::<u8>(); ::low::f(); }", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(arrows_of(text), *expected, "{text}");
    }
}

#[test]
fn an_upward_reference_is_a_fault() {
    let files =
        |low| [("lib.rs", "mod high; mod low;"), ("low.rs", low), ("high.rs", "use crate::low::Low;")];
    let (arrows, faults) = crate_of(&files("pub struct Low;"), &["low", "high"]);
    assert_eq!((arrows.as_slice(), faults.as_slice()), (&["high.rs -> low.rs".to_owned()][..], &[][..]));
    let (_, faults) = crate_of(&files("\npub struct Low(crate::high::High);"), &["low", "high"]);
    let expected = [
        "low.rs:2 refers to high.rs (`crate::high::High`): `low` must not refer to `high`, which is not below it",
        "a circle of 2 files (high.rs -> low.rs -> high.rs): high.rs, low.rs",
    ];
    assert_eq!(faults, expected);
    let (_, faults) = crate_of(&files("pub struct Low(crate::high::High);"), &["low high"]);
    assert_eq!(faults.len(), 3, "neither of one floor may refer to the other: {faults:?}");
    let (_, faults) = crate_of(&files("use crate::T;"), &["low", "high"]);
    assert_eq!(faults, ["low.rs:1 refers to lib.rs (`crate::T`): the root of a crate is above all floors"]);
}

#[test]
fn every_file_and_every_floor_is_accounted_for() {
    let files = [("lib.rs", "mod low; mod gone;"), ("low.rs", ""), ("lost.rs", ""), ("sub/odd.rs", "")];
    let (_, faults) = crate_of(&files, &["high"]);
    let expected = [
        "module `gone`: expected gone.rs, got no file",
        "lost.rs: expected a module of the crate, got a file that no `mod` names",
        "sub/odd.rs: expected a module of the crate, got a file that no `mod` names",
        "floor `high`: expected a folder or file below src, got none",
        "low.rs: expected a floor in the order, got none",
    ];
    assert_eq!(faults, expected);
}

#[test]
fn a_module_and_its_children_may_be_a_circle_but_not_the_children_alone() {
    let family = |b, c| {
        let files = [
            ("lib.rs", "mod a; mod x;"),
            ("x.rs", "use crate::a::A;"),
            ("a/mod.rs", "mod b; mod c; pub use b::B; use c::C; pub struct A;"),
            ("a/b.rs", b),
            ("a/c.rs", c),
        ];
        crate_of(&files, &["a", "x"]).1
    };
    assert_eq!(family("use super::A; pub struct B;", "use crate::a::A; pub struct C;"), [""; 0]);
    let siblings = family("use super::{A, c::C};", "use super::b::B;");
    assert_eq!(siblings, ["a circle of 2 files (a/b.rs -> a/c.rs -> a/b.rs): a/b.rs, a/c.rs"]);
    let through_another = family("use crate::x::X;", "");
    let circle = "a circle of 3 files (a/mod.rs -> a/b.rs -> x.rs -> a/mod.rs): a/mod.rs, a/b.rs, x.rs";
    assert_eq!(through_another.last().map(String::as_str), Some(circle));
}

#[test]
fn a_program_may_refer_to_its_library() {
    let name = env!("CARGO_PKG_NAME");
    let main = format!("mod cli; fn main() {{ {name}::low::f(); cli::g(); }}");
    let cli = format!("use {name}::Low; use super::x;");
    let files = [("lib.rs", "pub mod low;"), ("low.rs", ""), ("main.rs", &main), ("cli.rs", &cli)];
    let (arrows, faults) = crate_of(&files, &["low", "cli"]);
    assert_eq!(arrows, ["cli.rs -> lib.rs", "cli.rs -> main.rs", "main.rs -> cli.rs", "main.rs -> low.rs"]);
    assert_eq!(faults, ["cli.rs:1 refers to main.rs (`super::x`): the root of a crate is above all floors"]);
}
