//! The modules of a crate, and the paths in each of them.

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A source file.
pub struct File {
    /// Its path below `src`.
    pub name: String,
    /// Its module, as names separated by `/`; `None` for the root of a crate.
    pub module: Option<String>,
    /// The file of the module that declares it.
    pub parent: Option<usize>,
    /// The file of the root of its crate.
    pub root: usize,
}

/// A module, inline or in a file.
struct Module {
    file: usize,
    parent: Option<usize>,
    root: usize,
    children: BTreeMap<String, usize>,
    /// Paths in the code, with their lines.
    paths: Vec<(Vec<String>, usize)>,
    /// Names imported by `use`, with the path of each.
    names: Vec<(String, Vec<String>)>,
}

/// All modules of the crates in one folder.
#[derive(Default)]
pub struct Tree {
    pub files: Vec<File>,
    modules: Vec<Module>,
    library: Option<usize>,
    pub faults: Vec<String>,
}

impl Tree {
    /// Reads a crate from its root file.
    pub fn root(&mut self, src: &Path, path: &Path) {
        let module = self.modules.len();
        self.read(src, path, path.parent().expect("in a folder"), None);
        if path == src.join("lib.rs") {
            self.library = Some(module);
        }
    }

    /// Reads the file of a module. `of` is the name of the module and the module that declares it, or `None`
    /// for a root. The files of its children are in `folder`.
    fn read(&mut self, src: &Path, path: &Path, folder: &Path, of: Option<(&str, usize)>) {
        let name = below(src, path);
        let text = std::fs::read_to_string(path).expect("a file that can be read");
        let tokens = match text.parse::<TokenStream>() {
            Ok(tokens) => tokens,
            Err(error) => return self.faults.push(format!("{name}: expected Rust, got {error}")),
        };
        let parent = of.map(|(_, parent)| self.modules[parent].file);
        let above =
            |file: usize| self.files[file].module.as_ref().map_or(String::new(), |path| format!("{path}/"));
        let module = of.map(|(own, _)| format!("{}{own}", parent.map_or(String::new(), above)));
        let file = self.files.len();
        let root = parent.map_or(file, |parent| self.files[parent].root);
        self.files.push(File { name, module, parent, root });
        let module = self.module(file, of);
        self.scan(tokens, module, (src, folder));
    }

    fn module(&mut self, file: usize, of: Option<(&str, usize)>) -> usize {
        let id = self.modules.len();
        let root = of.map_or(id, |(_, parent)| self.modules[parent].root);
        let (children, paths, names) = (BTreeMap::new(), Vec::new(), Vec::new());
        self.modules.push(Module { file, parent: of.map(|(_, id)| id), root, children, paths, names });
        if let Some((name, parent)) = of {
            self.modules[parent].children.insert(name.to_owned(), id);
        }
        id
    }

    /// Collects the references in `tokens`, which belong to `module`.
    fn scan(&mut self, tokens: TokenStream, module: usize, place: (&Path, &Path)) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            let rest = &tokens[at..];
            at += match rest {
                [TokenTree::Ident(word), TokenTree::Group(group), ..]
                    if word == "pub" && is_visibility(group) =>
                {
                    2
                }
                [TokenTree::Ident(word), TokenTree::Ident(name), after, ..] if word == "mod" => {
                    self.declaration(&name.to_string(), after, module, place)
                }
                [TokenTree::Ident(word), next, ..] if word == "use" && !is_punct(next, '<') => {
                    let end = rest.iter().position(|token| is_punct(token, ';')).unwrap_or(rest.len());
                    self.import(&rest[1..end], &[], module);
                    end
                }
                [TokenTree::Ident(word), ..] if !(at > 0 && is_punct(&tokens[at - 1], '.')) => {
                    let (path, length) = path(rest);
                    let global = at > 1 && is_colons(&tokens[at - 2..]);
                    if path.len() > 1 && !global {
                        self.modules[module].paths.push((path, word.span().start().line));
                    }
                    length
                }
                [TokenTree::Group(group), ..] => {
                    self.scan(group.stream(), module, place);
                    1
                }
                _ => 1,
            };
        }
    }

    /// Handles `mod name;` or `mod name { ... }`, and returns the number of tokens.
    fn declaration(
        &mut self,
        name: &str,
        after: &TokenTree,
        module: usize,
        (src, folder): (&Path, &Path),
    ) -> usize {
        let inner = folder.join(name);
        match after {
            TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => {
                let own = self.module(self.modules[module].file, Some((name, module)));
                self.scan(body.stream(), own, (src, &inner));
            }
            after if is_punct(after, ';') => {
                let files = [folder.join(format!("{name}.rs")), inner.join("mod.rs")];
                match files.iter().find(|path| path.is_file()) {
                    Some(path) => self.read(src, path, &inner, Some((name, module))),
                    None => self
                        .faults
                        .push(format!("module `{name}`: expected {}, got no file", below(src, &files[0]))),
                }
            }
            _ => return 1,
        }
        3
    }

    /// Handles one tree of a `use` declaration after the segments `above`.
    fn import(&mut self, tokens: &[TokenTree], above: &[String], module: usize) {
        let Some(first) = tokens.iter().find(|token| !is_punct(token, ':')) else { return };
        if above.is_empty() && is_colons(tokens) {
            return; // `use ::name` is another crate.
        }
        let line = first.span().start().line;
        let (own, length) = path(tokens);
        let mut whole = [above, &own].concat();
        if let Some(TokenTree::Group(group)) =
            tokens[length..].iter().find(|t| matches!(t, TokenTree::Group(_)))
        {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            return inner.split(|t| is_punct(t, ',')).for_each(|tree| self.import(tree, &whole, module));
        }
        if whole.len() > 1 && whole.last().is_some_and(|last| last == "self") {
            whole.pop();
        }
        let renamed = tokens[length..].iter().rev().find_map(|token| match token {
            TokenTree::Ident(name) if name != "as" => Some(name.to_string()),
            _ => None,
        });
        if let Some(name) = renamed.or_else(|| whole.last().cloned()) {
            self.modules[module].names.push((name, whole.clone()));
        }
        self.modules[module].paths.push((whole, line));
    }

    /// The module that `path` names in `module`; `None` for another crate, a type or a local name.
    fn resolve(&self, module: usize, path: &[String], depth: usize) -> Option<usize> {
        let here = &self.modules[module];
        let (first, mut rest) = path.split_first()?;
        let mut found = match first.as_str() {
            "crate" => here.root,
            "self" => module,
            "super" => here.parent?,
            name if here.children.contains_key(name) => here.children[name],
            name => {
                let used = here.names.iter().find(|(own, path)| own == name && path.as_slice() != [name]);
                match used {
                    Some((_, behind)) if depth < 8 => {
                        let target = self.resolve(module, behind, depth + 1)?;
                        // The import must be the module itself and not an item in it.
                        let whole = self.leads_to_module(module, behind, depth + 1);
                        whole.then_some(target)?
                    }
                    _ if name == crate_name() => self.library.filter(|&library| library != here.root)?,
                    _ => return None,
                }
            }
        };
        while let Some((name, after)) = rest.split_first() {
            let next = match name.as_str() {
                "super" => self.modules[found].parent,
                "self" => Some(found),
                name => self.modules[found].children.get(name).copied(),
            };
            let Some(next) = next else { break };
            (found, rest) = (next, after);
        }
        Some(found)
    }

    /// Whether the last segment of `path` is a module too.
    fn leads_to_module(&self, module: usize, path: &[String], depth: usize) -> bool {
        let before = path.len() - 1;
        match path[before].as_str() {
            "crate" | "self" | "super" => true,
            _ if before == 0 => true,
            name => self
                .resolve(module, &path[..before], depth)
                .is_some_and(|parent| self.modules[parent].children.contains_key(name)),
        }
    }

    /// All references between files, with the line and the path of the first one.
    pub fn arrows(&self) -> BTreeMap<(usize, usize), (usize, String)> {
        let mut arrows = BTreeMap::new();
        for (id, module) in self.modules.iter().enumerate() {
            for (path, line) in &module.paths {
                let target = self.resolve(id, path, 0).map(|target| self.modules[target].file);
                if let Some(target) = target.filter(|&target| target != module.file) {
                    arrows.entry((module.file, target)).or_insert_with(|| (*line, path.join("::")));
                }
            }
        }
        arrows
    }
}

/// The segments of the path at the start of `tokens`, and its number of tokens.
fn path(tokens: &[TokenTree]) -> (Vec<String>, usize) {
    let (mut segments, mut at) = (Vec::new(), 0);
    while let Some(TokenTree::Ident(name)) = tokens.get(at) {
        segments.push(name.to_string());
        at += 1;
        if !is_colons(&tokens[at..]) {
            break;
        }
        at += 2;
    }
    (segments, at)
}

/// Recognises `(crate)`, `(super)` and `(in crate::a)` after `pub`.
fn is_visibility(group: &Group) -> bool {
    let words: Vec<String> = group.stream().into_iter().map(|token| token.to_string()).collect();
    let first = words.first().map_or("", String::as_str);
    first == "in" || (words.len() == 1 && ["crate", "super", "self"].contains(&first))
}

fn is_punct(token: &TokenTree, which: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == which)
}

/// Whether `tokens` start with `::`.
fn is_colons(tokens: &[TokenTree]) -> bool {
    let joint = matches!(tokens.first(), Some(TokenTree::Punct(punct)) if punct.spacing() == Spacing::Joint);
    joint && tokens.iter().take(2).filter(|token| is_punct(token, ':')).count() == 2
}

fn crate_name() -> String {
    env!("CARGO_PKG_NAME").replace('-', "_")
}

/// `path` below `src`, with slashes.
pub fn below(src: &Path, path: &Path) -> String {
    let parts = path.strip_prefix(src).expect("below src").components();
    parts.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// Every `.rs` file in `folder` and below, sorted.
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
