//! The source has the structure that docs/architecture.md and docs/unsafe.md state.

#[path = "common/layers/mod.rs"]
mod layers;

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

fn kernels() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The page of this name in docs/.
fn page(name: &str) -> String {
    read_to_string(kernels().join("../docs").join(name)).expect("the repository has its documentation")
}

#[test]
fn references_run_down_the_floors_of_the_page_and_in_no_circle() {
    let floors = layers::floors(&kernels().join("../docs/architecture.md"), "kernels");
    let report = layers::check(&kernels().join("src"), &floors);
    println!("{report}");
    assert!(report.arrows.len() > 200, "only {} references were found", report.arrows.len());
    assert!(report.faults.is_empty(), "{report}");
}

/// The files below `src` with the word `unsafe` in their code, and how often. Comments and strings do not count.
fn unsafe_files() -> BTreeMap<String, usize> {
    let src = kernels().join("src");
    let (mut folders, mut found) = (vec![src.clone()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = read_to_string(&path).expect("a file");
                let count = count_unsafe(text.parse().expect("Rust"));
                if count > 0 {
                    let name = path.strip_prefix(&src).expect("it lies below src");
                    found.insert(name.to_str().expect("UTF-8").replace('\\', "/"), count);
                }
            }
        }
    }
    found
}

fn count_unsafe(tokens: TokenStream) -> usize {
    let each = |token| match token {
        TokenTree::Ident(word) => usize::from(word == "unsafe"),
        TokenTree::Group(group) => count_unsafe(group.stream()),
        _ => 0,
    };
    tokens.into_iter().map(each).sum()
}

/// The files in the first column of the table: `folder/a.rs`, or `b.rs` in the same folder as the previous
/// file. `*` stands for every file.
fn listed(found: &BTreeMap<String, usize>) -> BTreeSet<String> {
    let page = page("unsafe.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    let mut listed = BTreeSet::new();
    for row in rows {
        let mut folder = String::new();
        for name in row.split('`').filter(|part| part.ends_with(".rs")) {
            let path = if name.contains('/') || folder.is_empty() {
                name.to_owned()
            } else {
                format!("{folder}/{name}")
            };
            folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned());
            match path.strip_suffix("*.rs") {
                Some(of) => listed.extend(found.keys().filter(|file| file.starts_with(of)).cloned()),
                None => _ = listed.insert(path),
            }
        }
    }
    listed
}

#[test]
fn unsafe_code_is_where_the_page_says() {
    let found = unsafe_files();
    let listed = listed(&found);
    let files: BTreeSet<String> = found.keys().cloned().collect();
    let missing: Vec<_> = files.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&files).collect();
    println!("{} files have unsafe code, {} times in all", found.len(), found.values().sum::<usize>());
    assert!(missing.is_empty(), "docs/unsafe.md lacks files that have unsafe code: {missing:?}");
    assert!(stale.is_empty(), "docs/unsafe.md lists files that have no unsafe code: {stale:?}");
}

/// The compiler denies unsafe code except in modules that allow it, so the list above is the list of these modules.
#[test]
fn the_crate_denies_unsafe_code() {
    let lib = read_to_string(kernels().join("src/lib.rs")).expect("a file");
    assert!(lib.lines().any(|line| line == "#![deny(unsafe_code)]"), "lib.rs does not deny unsafe code");
    for allowed in ["algo", "choose", "describe", "ops", "ops_grad", "plan", "work"] {
        let inside = unsafe_files().into_keys().find(|file| file.starts_with(&format!("{allowed}/")));
        assert_eq!(inside, None, "{allowed} has no unsafe code at all");
    }
}
