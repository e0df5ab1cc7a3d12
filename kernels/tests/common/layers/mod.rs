//! Checks that the files of a crate refer to each other in one direction: floor by floor, and without circles.
//!
//! A reference is a `use` declaration or a path in the code (`crate::a::b()`, `super::x`, `child::y`).
//! Comments, doc comments and strings are not references. A path counts as a reference to the file of the
//! deepest module that it names. Items that `describe/mod.rs` re-exports therefore refer to
//! `describe/mod.rs`.

mod tree;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::Path;
use tree::{File, Tree, below, rust_files};

/// The result of [`check`].
pub struct Report {
    /// All references between files, as pairs of paths below `src`.
    pub arrows: BTreeSet<(String, String)>,
    /// The violations, one sentence each.
    pub faults: Vec<String>,
    floors: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for floor in self.floors.iter().rev() {
            writeln!(f, "{floor}")?;
        }
        writeln!(f, "{} references between files, {} faults", self.arrows.len(), self.faults.len())?;
        self.faults.iter().try_for_each(|fault| writeln!(f, "fault: {fault}"))
    }
}

/// The floors of a crate in docs/architecture.md, lowest first. Each line of the list has the units of a
/// floor, two spaces, and a description.
pub fn floors(page: &Path, krate: &str) -> Vec<String> {
    let page = std::fs::read_to_string(page).expect("the repository has its documentation");
    let begin = format!("<!-- floors of {krate}, the lowest last -->\n```text\n");
    let list = page.split(&begin).nth(1).expect("the page has the floors").split("```").next();
    let units = list.unwrap_or_default().lines().filter_map(|line| line.split("  ").next());
    units.rev().map(str::to_owned).collect()
}

/// Reads the crate in `src` (from `lib.rs`, `main.rs` and `bin/*.rs`) and compares its references with `order`.
///
/// `order` lists the floors from the lowest to the highest. A floor is one unit, or several separated by spaces; a unit
/// is a folder or a file below `src` without `.rs` (`describe`, `error`, `cli/args`), and a file belongs to the longest
/// unit that contains it. A file may refer to its own unit and to lower floors. The root of a crate stands above all
/// floors, but a program may refer to the root of its library. A circle of files is allowed only between a module and its
/// own children.
pub fn check(src: &Path, order: &[impl AsRef<str>]) -> Report {
    let mut tree = Tree::default();
    for root in
        ["lib.rs", "main.rs"].into_iter().map(|name| src.join(name)).chain(rust_files(&src.join("bin")))
    {
        if root.is_file() {
            tree.root(src, &root);
        }
    }
    let mut faults = std::mem::take(&mut tree.faults);
    let read: BTreeSet<&String> = tree.files.iter().map(|file| &file.name).collect();
    let unread =
        rust_files(src).into_iter().map(|path| below(src, &path)).filter(|name| !read.contains(name));
    faults.extend(
        unread.map(|name| format!("{name}: expected a module of the crate, got a file that no `mod` names")),
    );

    let arrows = tree.arrows();
    let order: Vec<&str> = order.iter().map(AsRef::as_ref).collect();
    let floors = Floors::new(&order);
    faults.extend(floors.unused(&tree.files));
    for (&(from, to), (line, path)) in &arrows {
        if let Some(why) = floors.objection(&tree.files[from], &tree.files[to]) {
            let (from, to) = (&tree.files[from].name, &tree.files[to].name);
            faults.push(format!("{from}:{line} refers to {to} (`{path}`): {why}"));
        }
    }
    let every: BTreeSet<usize> = (0..tree.files.len()).collect();
    let pairs: BTreeSet<(usize, usize)> = arrows.keys().copied().collect();
    faults.extend(circles(&tree.files, &every, &pairs));
    let name = |i: usize| tree.files[i].name.clone();
    let floors = floors.describe(&tree.files, &pairs);
    Report { arrows: pairs.iter().map(|&(from, to)| (name(from), name(to))).collect(), faults, floors }
}

/// The units of each floor, lowest floor first.
struct Floors<'a>(Vec<Vec<&'a str>>);

impl<'a> Floors<'a> {
    fn new(order: &[&'a str]) -> Self {
        Self(order.iter().map(|floor| floor.split_whitespace().collect()).collect())
    }

    /// The floor and the unit of a file; `None` for a root, or for a file that no unit contains.
    fn of(&self, file: &File) -> Option<(usize, &'a str)> {
        let module = file.module.as_ref()?;
        let contains = |unit: &str| {
            module.strip_prefix(unit).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let units =
            self.0.iter().enumerate().flat_map(|(floor, units)| units.iter().map(move |&unit| (floor, unit)));
        units.filter(|(_, unit)| contains(unit)).max_by_key(|(_, unit)| unit.len())
    }

    /// Reports units without files, and files without a unit.
    fn unused(&self, files: &[File]) -> Vec<String> {
        let used: BTreeSet<&str> = files.iter().filter_map(|file| Some(self.of(file)?.1)).collect();
        let units = self.0.iter().flatten().filter(|unit| !used.contains(*unit));
        let units =
            units.map(|unit| format!("floor `{unit}`: expected a folder or file below src, got none"));
        let homeless = files.iter().filter(|file| file.module.is_some() && self.of(file).is_none());
        units
            .chain(homeless.map(|file| format!("{}: expected a floor in the order, got none", file.name)))
            .collect()
    }

    fn objection(&self, from: &File, to: &File) -> Option<String> {
        if to.module.is_none() {
            // A program uses its library.
            let inside = from.root == to.root;
            return inside.then(|| "the root of a crate is above all floors".to_owned());
        }
        let ((high, own), (low, other)) = (self.of(from)?, self.of(to)?);
        (own != other && low >= high)
            .then(|| format!("`{own}` must not refer to `{other}`, which is not below it"))
    }

    /// One line per floor: its units, their files, and the units that they refer to.
    fn describe(&self, files: &[File], arrows: &BTreeSet<(usize, usize)>) -> Vec<String> {
        let unit = |file: usize| self.of(&files[file]).map(|(_, unit)| unit);
        let line = |(floor, name): (usize, &str)| {
            let count = (0..files.len()).filter(|&file| unit(file) == Some(name)).count();
            let inside = arrows.iter().filter(|(from, _)| unit(*from) == Some(name));
            let below: BTreeSet<&str> =
                inside.filter_map(|(_, to)| unit(*to)).filter(|to| *to != name).collect();
            let below = below.into_iter().collect::<Vec<_>>().join(", ");
            format!("floor {:2}  {name:<16} {count:3} files -> {below}", floor + 1)
        };
        let units =
            self.0.iter().enumerate().flat_map(|(floor, units)| units.iter().map(move |&unit| (floor, unit)));
        units.map(line).collect()
    }
}

/// The circles among `files`, except those of a module with its own children.
fn circles(all: &[File], files: &BTreeSet<usize>, arrows: &BTreeSet<(usize, usize)>) -> Vec<String> {
    let inside = |&&(from, to): &&(usize, usize)| files.contains(&from) && files.contains(&to);
    let arrows: BTreeSet<(usize, usize)> = arrows.iter().filter(inside).copied().collect();
    let reach: BTreeMap<usize, BTreeSet<usize>> =
        files.iter().map(|&from| (from, reached(from, &arrows))).collect();
    let mut left = files.clone();
    let mut found = Vec::new();
    while let Some(first) = left.pop_first() {
        let circle: BTreeSet<usize> =
            reach[&first].iter().copied().filter(|other| reach[other].contains(&first)).collect();
        left.retain(|file| !circle.contains(file));
        if circle.len() < 2 {
            continue;
        }
        match circle.iter().find(|&&head| is_family(all, head, &circle, &arrows)) {
            Some(head) => found.extend(circles(
                all,
                &circle.iter().copied().filter(|file| file != head).collect(),
                &arrows,
            )),
            None => {
                let names = |files: &mut dyn Iterator<Item = usize>| {
                    files.map(|file| all[file].name.as_str()).collect::<Vec<_>>()
                };
                let (every, shortest) = (names(&mut circle.iter().copied()), shortest(all, &circle, &arrows));
                let shortest = names(&mut shortest.into_iter()).join(" -> ");
                found.push(format!("a circle of {} files ({shortest}): {}", every.len(), every.join(", ")));
            }
        }
    }
    found
}

/// Whether `circle` consists of the module `head` and its descendants, of which only its children refer back to it.
fn is_family(all: &[File], head: usize, circle: &BTreeSet<usize>, arrows: &BTreeSet<(usize, usize)>) -> bool {
    let descends =
        |file: usize| std::iter::successors(Some(file), |&file| all[file].parent).any(|above| above == head);
    let back = arrows.iter().filter(|(from, to)| *to == head && circle.contains(from));
    circle.iter().all(|&file| descends(file))
        && back.into_iter().all(|&(from, _)| all[from].parent == Some(head))
}

/// The shortest cycle among the files of a circle; its first file is repeated at the end. It avoids
/// references from children to their module if possible.
fn shortest(all: &[File], circle: &BTreeSet<usize>, arrows: &BTreeSet<(usize, usize)>) -> Vec<usize> {
    let strict = arrows.iter().filter(|&&(from, to)| all[from].parent != Some(to)).copied().collect();
    let strict = round(circle, &strict);
    if strict.is_empty() { round(circle, arrows) } else { strict }
}

fn round(circle: &BTreeSet<usize>, arrows: &BTreeSet<(usize, usize)>) -> Vec<usize> {
    let from = |start: usize| {
        let mut ways = VecDeque::from([vec![start]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            let last = *way.last()?;
            if last == start && way.len() > 1 {
                return Some(way);
            }
            let next = arrows.range((last, 0)..=(last, usize::MAX)).map(|&(_, to)| to);
            let next = next.filter(|to| circle.contains(to) && seen.insert(*to));
            ways.extend(next.map(|to| way.iter().copied().chain([to]).collect()));
        }
        None
    };
    circle.iter().filter_map(|&start| from(start)).min_by_key(Vec::len).unwrap_or_default()
}

/// All files reachable from `from`.
fn reached(from: usize, arrows: &BTreeSet<(usize, usize)>) -> BTreeSet<usize> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        let targets = arrows.range((file, 0)..=(file, usize::MAX)).map(|&(_, to)| to);
        next.extend(targets.filter(|&to| reached.insert(to)));
    }
    reached
}
