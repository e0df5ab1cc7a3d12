//! Layers that are described instead of listed: by a text, by the id of such a layer, or in a CSV file.
//!
//! A text has the form `NxCxHxW -> O KHxKW`, followed by any of `s` (stride), `p` (padding), `g` (groups) and `d`
//! (dilation) with a number. An id is a prefix and the same parts separated by `-`, as in
//! `random.1x5x73x73-17-1x1-s1-p0-g1`.

use crate::layers::{self, LayerSpec, List};
use anyhow::Context;
use csv::{ReaderBuilder, StringRecord, Trim};
use std::path::Path;

/// The prefix of ids of layers from a text or a file.
const GIVEN: &str = "layer";
/// The prefixes of all ids that describe a layer.
const PREFIXES: [&str; 2] = [GIVEN, crate::random::PREFIX];
/// Maximum elements of input, output and filter together, with channels padded to whole blocks.
const MOST_ELEMENTS: usize = 1 << 28;
/// Maximum multiply-accumulates. A call then takes some seconds.
const MOST_MACS: u64 = 1 << 40;

/// The letters of the optional parts, with the places of their extents in [`LayerSpec::extents`].
const OPTIONS: [(char, usize); 4] = [('s', 7), ('p', 8), ('d', 9), ('g', 10)];
/// The extents that have a default: stride, padding, dilation and groups.
const DEFAULTS: [usize; 4] = [1, 0, 1, 1];

/// Parses a text such as `1x64x56x56 -> 128 3x3 s1 p1 g1 d1`.
///
/// # Errors
/// A text of another form, or a convolution that is invalid or too large.
pub fn by_text(text: &str) -> Result<LayerSpec, String> {
    let (input, rest) = text.split_once("->").ok_or_else(|| {
        format!("expected NxCxHxW -> O KHxKW, as in 1x64x56x56 -> 128 3x3 s1 p1, got {text}")
    })?;
    checked(LayerSpec::unlisted(GIVEN, extents(input.trim(), rest.split_whitespace())?))
}

/// Parses the part of an id after its prefix, such as `1x64x56x56-128-3x3-s1-p1-g1`. The layer gets the id `id`.
///
/// # Errors
/// As [`by_text`].
pub fn by_shape(id: &str, shape: &str) -> Result<LayerSpec, String> {
    let mut parts = shape.split('-');
    let extents = extents(parts.next().unwrap_or_default(), parts)?;
    checked(LayerSpec { id: id.to_owned(), ..LayerSpec::unlisted(GIVEN, extents) })
}

/// The layer that an id describes, or `None` if ids of this form describe nothing, such as those of the list.
pub fn by_id(id: &str) -> Option<Result<LayerSpec, String>> {
    let (prefix, shape) = id.split_once('.')?;
    PREFIXES.contains(&prefix).then(|| by_shape(id, shape).map_err(|error| format!("{id}: {error}")))
}

/// The layer of a row of results: the one in the list, or the one that its shape or its id describes. `None` if
/// the row does not say.
pub(crate) fn of_row(id: &str, shape: Option<&str>) -> Option<Result<LayerSpec, String>> {
    let listed = layers::listed(id);
    match (listed, shape) {
        (Some(listed), None) => Some(Ok(listed.clone())),
        (Some(listed), Some(shape)) if listed.shape() == shape => Some(Ok(listed.clone())),
        (_, Some(shape)) => Some(by_shape(id, shape)),
        (None, None) => by_id(id),
    }
}

/// The layers that `names` select: those of [`layers::select`] in `list`, then those that a name describes as its id.
///
/// # Errors
/// A name that selects nothing, or an invalid description.
pub fn select(list: List, names: &[String]) -> Result<Vec<LayerSpec>, String> {
    let (mut described, mut listed) = (Vec::new(), Vec::new());
    for name in names {
        match by_id(name) {
            Some(layer) => described.push(layer?),
            None => listed.push(name.clone()),
        }
    }
    let mut layers = Vec::new();
    if described.is_empty() || !listed.is_empty() {
        layers.extend(layers::select_from(list.layers(), &listed)?.into_iter().cloned());
    }
    layers.append(&mut described);
    Ok(layers)
}

/// The layers without repetitions.
///
/// # Errors
/// Two different layers with the same id, whose rows could not be told apart.
pub(crate) fn distinct(layers: Vec<LayerSpec>) -> Result<Vec<LayerSpec>, String> {
    let mut kept: Vec<LayerSpec> = Vec::new();
    for layer in layers {
        match kept.iter().find(|other| other.id == layer.id) {
            None => kept.push(layer),
            Some(other) if other.extents() == layer.extents() => {}
            Some(other) => {
                let (first, second) = (other.shape(), layer.shape());
                return Err(format!("two different layers have the id {}: {first} and {second}", layer.id));
            }
        }
    }
    Ok(kept)
}

/// The layers of a CSV file with a header. It needs the columns n, c, h, w, o, kh and kw. The columns stride, pad,
/// dilation, groups and id are optional. Other columns are ignored, unless their name resembles one that is missing.
///
/// # Errors
/// A file that cannot be read, a missing or misspelt column, or an invalid layer.
pub(crate) fn in_file(file: &Path) -> anyhow::Result<Vec<LayerSpec>> {
    let name = file.display();
    let reader = ReaderBuilder::new().trim(Trim::All).from_path(file);
    let mut reader = reader.with_context(|| format!("cannot read {name}"))?;
    let columns = Columns::new(reader.headers().with_context(|| name.to_string())?);
    let columns = columns.map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
    let mut layers = Vec::new();
    for record in reader.records() {
        let record = record.with_context(|| name.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let layer =
            columns.layer(&record).map_err(|error| anyhow::anyhow!("{name}, line {line}: {error}"))?;
        layers.push(layer);
    }
    anyhow::ensure!(!layers.is_empty(), "{name} has no layers, only a header");
    Ok(layers)
}

/// The places of the columns of a file.
struct Columns {
    /// In the order of [`LayerSpec::extents`].
    extents: [Option<usize>; 11],
    id: Option<usize>,
}

impl Columns {
    /// The names of the columns, in the order of [`LayerSpec::extents`].
    const NAMES: [&str; 11] = ["n", "c", "h", "w", "o", "kh", "kw", "stride", "pad", "dilation", "groups"];
    /// Number of columns that every file must have.
    const REQUIRED: usize = Self::NAMES.len() - DEFAULTS.len();

    fn new(header: &StringRecord) -> Result<Self, String> {
        let place = |name: &str| header.iter().position(|column| column == name);
        let columns = Self { extents: Self::NAMES.map(place), id: place("id") };
        if let Some((at, twice)) = header.iter().enumerate().find(|&(at, name)| place(name) < Some(at)) {
            return Err(format!("column {} has the name {twice} again", at + 1));
        }
        let absent = |name: &&str| place(name).is_none();
        let optional = || Self::NAMES[Self::REQUIRED..].iter().copied().chain(["id"]).filter(absent);
        for column in header {
            if let Some(meant) = optional().find(|name| resembles(column, name)) {
                return Err(format!("no column is called {column}, did you mean {meant}?"));
            }
        }
        match Self::NAMES[..Self::REQUIRED].iter().find(|name| absent(name)) {
            None => Ok(columns),
            Some(missing) => {
                let (expected, got) =
                    (Self::NAMES[..Self::REQUIRED].join(", "), header.iter().collect::<Vec<_>>());
                Err(format!("the column {missing} is missing: expected {expected}, got {}", got.join(", ")))
            }
        }
    }

    fn layer(&self, record: &StringRecord) -> Result<LayerSpec, String> {
        let mut extents = [0; 11];
        extents[Self::REQUIRED..].copy_from_slice(&DEFAULTS);
        for ((extent, name), &place) in extents.iter_mut().zip(Self::NAMES).zip(&self.extents) {
            if let Some(text) = place.and_then(|place| record.get(place)) {
                *extent = text.parse().map_err(|_| format!("{name}: expected a number, got {text}"))?;
            }
        }
        let mut layer = LayerSpec::unlisted(GIVEN, extents);
        if let Some(id) = self.id.and_then(|place| record.get(place)).filter(|id| !id.is_empty()) {
            id.clone_into(&mut layer.id);
        }
        checked(layer)
    }
}

/// Whether a column that has no meaning is probably `name` misspelt: the beginning of it, longer than it, or at most two
/// letters away.
fn resembles(column: &str, name: &str) -> bool {
    let lower = column.to_lowercase();
    let is_cut = !column.is_empty() && (lower.starts_with(name) || name.starts_with(&lower));
    // Short names are two letters away from everything.
    let is_typo = name.len() > 3 && strsim::damerau_levenshtein(&lower, name) <= 2;
    (is_cut || is_typo) && !Columns::NAMES.contains(&column)
}

/// The extents that the parts of a description name.
fn extents<'a>(input: &str, mut rest: impl Iterator<Item = &'a str>) -> Result<[usize; 11], String> {
    let [n, c, h, w] = numbers(input, "the input NxCxHxW, as in 1x64x56x56")?;
    let [o] = numbers(rest.next().unwrap_or_default(), "the output channels after the input, as in 128")?;
    let [kh, kw] =
        numbers(rest.next().unwrap_or_default(), "the kernel KHxKW after the output channels, as in 3x3")?;
    let [stride, pad, dilation, groups] = DEFAULTS;
    let mut extents = [n, c, h, w, o, kh, kw, stride, pad, dilation, groups];
    let mut seen = String::new();
    for part in rest {
        let wrong = || format!("expected s, p, g or d with one number, as in s2, got {part}");
        let letter = part.chars().next().ok_or_else(wrong)?;
        let &(_, place) = OPTIONS.iter().find(|(known, _)| *known == letter).ok_or_else(wrong)?;
        if seen.contains(letter) {
            return Err(format!("expected each of s, p, g and d at most once, got {part} again"));
        }
        seen.push(letter);
        extents[place] = part[letter.len_utf8()..].parse().map_err(|_| wrong())?;
    }
    Ok(extents)
}

/// `N` numbers separated by `x`.
fn numbers<const N: usize>(text: &str, expected: &str) -> Result<[usize; N], String> {
    let numbers = text.split('x').map(|number| number.parse().ok()).collect::<Option<Vec<usize>>>();
    let got = if text.is_empty() { "nothing" } else { text };
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| format!("expected {expected}, got {got}"))
}

/// The layer with its multiply-accumulates, if it is valid and not too large.
fn checked(mut layer: LayerSpec) -> Result<LayerSpec, String> {
    let desc = layer.builder().build().map_err(|error| error.to_string())?;
    let len = |shape: kernels::Shape4| shape.len(kernels::Layout::Nchw16c).map_err(|error| error.to_string());
    let elements = len(desc.input())?.saturating_add(len(desc.output())?).saturating_add(desc.filter_len());
    layer.macs = desc.cost().macs;
    if elements > MOST_ELEMENTS {
        return Err(format!("expected at most {MOST_ELEMENTS} elements in all tensors, got {elements}"));
    }
    if layer.macs > MOST_MACS {
        return Err(format!("expected at most {MOST_MACS} multiply-accumulates, got {}", layer.macs));
    }
    Ok(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_every_extent_in_any_order() {
        let full = by_text("1x64x56x50 -> 128 3x5 s2 p1 g4 d3").unwrap();
        assert_eq!(full.extents(), [1, 64, 56, 50, 128, 3, 5, 2, 1, 3, 4]);
        assert_eq!(full.id, "layer.1x64x56x50-128-3x5-s2-p1-g4-d3");
        assert_eq!(full.macs, full.builder().build().unwrap().cost().macs);
        assert_eq!(by_text(" 1x64x56x50->128  3x5 d3 g4 p1 s2 ").unwrap(), full);
        let short = by_text("2x3x9x9 -> 4 1x1").unwrap();
        assert_eq!(short.extents(), [2, 3, 9, 9, 4, 1, 1, 1, 0, 1, 1]);
        for layer in [full, short] {
            assert_eq!(by_id(&layer.id).unwrap().unwrap(), layer);
            assert_eq!(of_row("x", Some(&layer.shape())).unwrap().unwrap().extents(), layer.extents());
        }
    }

    #[test]
    fn a_bad_text_says_what_was_expected() {
        let refused = |text: &str, parts: &[&str]| {
            let error = by_text(text).unwrap_err();
            assert!(
                parts.iter().all(|part| error.contains(part)) && error.lines().count() == 1,
                "{text}: {error}"
            );
        };
        refused("1x64x56x56 128 3x3", &["NxCxHxW -> O KHxKW", "got 1x64x56x56 128 3x3"]);
        refused("1x64x56 -> 128 3x3", &["the input NxCxHxW", "got 1x64x56"]);
        refused("1x64x56x-1 -> 128 3x3", &["the input NxCxHxW", "got 1x64x56x-1"]);
        refused("1x64x56x56 ->", &["the output channels", "got nothing"]);
        refused("1x64x56x56 -> 3x3", &["the output channels", "got 3x3"]);
        refused("1x64x56x56 -> 128", &["the kernel KHxKW", "got nothing"]);
        refused("1x64x56x56 -> 128 3", &["the kernel KHxKW", "got 3"]);
        refused("1x64x56x56 -> 128 3x3 q1", &["s, p, g or d", "got q1"]);
        refused("1x64x56x56 -> 128 3x3 é", &["s, p, g or d", "got é"]);
        refused("1x64x56x56 -> 128 3x3 s1x2", &["one number", "got s1x2"]);
        refused("1x64x56x56 -> 128 3x3 s1 s2", &["at most once", "got s2"]);
        refused("1x64x56x56 -> 128 3x3 g3", &["groups: expected a divisor of the 64 input channels, got 3"]);
        refused("1x64x56x56 -> 128 99x3", &["the dilated kernel is 99x3"]);
        refused("0x64x56x56 -> 128 3x3", &["input.n: expected at least 1, got 0"]);
        refused("1x1x65536x65536 -> 1 1x1", &["at most 268435456 elements"]);
        refused("1x1x99999999999x99999999999 -> 1 1x1", &["got"]);
        refused("1x4096x64x64 -> 16384 9x9 p4", &["elements"]);
        refused("64x512x32x32 -> 512 15x15 p7", &["at most 1099511627776 multiply-accumulates"]);
    }

    #[test]
    fn ids_select_layers_beside_names() {
        let names = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let ids = |text: &str| {
            let layers = select(List::Networks, &names(text)).unwrap();
            layers.into_iter().map(|layer| layer.id).collect::<Vec<_>>()
        };
        let id = "random.1x5x73x73-17-1x1-s1-p0-g1";
        assert_eq!(ids(id), [id]);
        assert_eq!(ids(&format!("{id},lenet5.c3")), ["lenet5.c3", id]);
        assert_eq!(select(List::Networks, &names("all")).unwrap().len(), layers::all().len());
        assert_eq!(select(List::Networks, &[]).unwrap().len(), layers::all().len());
        let error = select(List::Networks, &names("random.1x5x73")).unwrap_err();
        assert!(error.contains("random.1x5x73: expected the input NxCxHxW"), "{error}");
    }

    #[test]
    fn an_id_stands_for_one_layer() {
        let [one, other] = ["1x3x9x9 -> 4 1x1", "1x3x9x9 -> 5 1x1"].map(|text| by_text(text).unwrap());
        let twice = vec![one.clone(), other.clone(), one.clone()];
        assert_eq!(distinct(twice).unwrap(), [one.clone(), other.clone()]);
        let error = distinct(vec![one.clone(), LayerSpec { id: one.id, ..other }]).unwrap_err();
        assert!(error.contains("1x3x9x9-4-1x1-s1-p0-g1 and 1x3x9x9-5-1x1-s1-p0-g1"), "{error}");
    }

    #[test]
    fn a_row_is_the_listed_layer_or_the_described_one() {
        let listed = layers::by_id("lenet5.c3");
        let of_row = |id: &str, shape: Option<&str>| of_row(id, shape).map(Result::unwrap);
        assert_eq!(of_row("lenet5.c3", None).as_ref(), Some(listed));
        assert_eq!(of_row("lenet5.c3", Some(&listed.shape())).as_ref(), Some(listed));
        assert_eq!(of_row("lenet5.c3", Some("1x3x9x9-4-1x1")).unwrap().o, 4);
        assert_eq!(of_row("mine", Some("1x3x9x9-4-1x1")).unwrap().id, "mine");
        assert_eq!(of_row("layer.1x3x9x9-4-1x1", None).unwrap().o, 4);
        assert_eq!(of_row("mine", None), None);
    }
}
