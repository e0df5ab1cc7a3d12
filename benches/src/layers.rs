//! The list of layers (`benches/layers.csv`): those of the networks, and shapes that no network has.

use kernels::{ConvDesc, ConvDescBuilder, Pad2, Shape4, Size2};
use serde::Deserialize;
use std::sync::LazyLock;

/// One row of the list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LayerSpec {
    /// What it is called everywhere.
    pub id: String,
    /// The networks that have it, joined by `+`; `offnet` if none does.
    pub net: String,
    /// Images.
    pub n: usize,
    /// Input channels.
    pub c: usize,
    /// Rows of the input.
    pub h: usize,
    /// Columns of the input.
    pub w: usize,
    /// Output channels.
    pub o: usize,
    /// Rows of the kernel.
    pub kh: usize,
    /// Columns of the kernel.
    pub kw: usize,
    /// On both axes.
    pub stride: usize,
    /// On all four sides.
    pub pad: usize,
    /// On both axes.
    pub dilation: usize,
    /// As in [`ConvDesc::groups`].
    pub groups: usize,
    /// How often each of the networks has it, joined by `+`.
    pub count: String,
    /// Multiply-accumulates by the definition.
    pub macs: u64,
}

impl LayerSpec {
    /// The problem, in NCHW and without an epilogue.
    pub fn builder(&self) -> ConvDescBuilder {
        ConvDesc::builder(Shape4::new(self.n, self.c, self.h, self.w), self.o, Size2::new(self.kh, self.kw))
            .stride(Size2::square(self.stride))
            .pad(Pad2::all(self.pad))
            .dilation(Size2::square(self.dilation))
            .groups(self.groups)
    }

    /// Floating-point operations by the definition, whatever an algorithm saves of them.
    pub fn flops(&self) -> f64 {
        2.0 * self.macs as f64
    }

    /// The extents as numbers in the order of the list's columns, from `n` to `groups`.
    pub fn extents(&self) -> [usize; 11] {
        let Self { n, c, h, w, o, kh, kw, stride, pad, dilation, groups, .. } = *self;
        [n, c, h, w, o, kh, kw, stride, pad, dilation, groups]
    }

    /// Whether `name` means it, if it is no layer's whole id.
    fn is_among(&self, name: &str) -> bool {
        self.id.starts_with(name) || self.net.split('+').any(|net| net == name)
    }
}

static ALL: LazyLock<Vec<LayerSpec>> = LazyLock::new(|| {
    let rows = csv::Reader::from_reader(include_str!("../layers.csv").as_bytes()).into_deserialize();
    rows.collect::<Result<_, _>>().expect("layers.csv is checked by a test")
});

/// Every layer, in the order of the list.
pub fn all() -> &'static [LayerSpec] {
    &ALL
}

/// The layer of that id.
///
/// # Panics
/// If there is none: ids in code are checked by running it.
pub fn by_id(id: &str) -> &'static LayerSpec {
    all().iter().find(|layer| layer.id == id).unwrap_or_else(|| panic!("no layer {id} in layers.csv"))
}

/// The layers that any of `names` means: an id, the beginning of ids, or a network. All of them for no names.
///
/// # Errors
/// A name that means nothing, with the nearest that does.
pub fn select(names: &[String]) -> Result<Vec<&'static LayerSpec>, String> {
    if names.is_empty() {
        return Ok(all().iter().collect());
    }
    let mut meant = vec![false; all().len()];
    for name in names {
        // The beginning of other ids too, as often as not: who says all of one id means that layer.
        let exact = all().iter().position(|layer| layer.id == *name);
        let among = || (0..all().len()).filter(|&index| all()[index].is_among(name)).collect();
        let indices: Vec<usize> = exact.map_or_else(among, |index| vec![index]);
        if indices.is_empty() {
            let nets = all().iter().flat_map(|layer| layer.net.split('+'));
            let hint = nearest(name, all().iter().map(|layer| layer.id.as_str()).chain(nets));
            return Err(format!("no layer or network is called {name}{hint}; benches/layers.csv lists them"));
        }
        indices.into_iter().for_each(|index| meant[index] = true);
    }
    Ok(all().iter().zip(meant).filter_map(|(layer, meant)| meant.then_some(layer)).collect())
}

/// `, did you mean this?` of the known name that `name` begins, or else the one with the fewest slips; nothing if even
/// that is far off.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let lower = name.to_lowercase();
    let slips = |known: &&str| (!known.starts_with(&lower), strsim::damerau_levenshtein(&lower, known));
    let near = known.min_by_key(slips).filter(|known| strsim::jaro_winkler(&lower, known) > 0.7);
    near.map_or(String::new(), |known| format!(", did you mean {known}?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_list_parses_and_its_macs_are_those_of_the_library() {
        for layer in all() {
            let desc = layer.builder().build().unwrap_or_else(|error| panic!("{}: {error}", layer.id));
            assert_eq!(desc.cost().macs, layer.macs, "{}", layer.id);
            assert_eq!(layer.net.matches('+').count(), layer.count.matches('+').count(), "{}", layer.id);
        }
        let ids: HashSet<&str> = all().iter().map(|layer| layer.id.as_str()).collect();
        assert_eq!(ids.len(), all().len(), "an id is there twice");
    }

    #[test]
    fn names_are_ids_beginnings_or_networks() {
        let names = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let ids = |text: &str| {
            let layers = select(&names(text)).unwrap();
            layers.iter().map(|layer| layer.id.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(ids("vgg.conv3_2"), ["vgg.conv3_2"]);
        assert_eq!(ids("resnet18.s3.3x3"), ["resnet18.s3.3x3"]);
        assert_eq!(ids("lenet5.c"), ["lenet5.c1", "lenet5.c3", "lenet5.c5"]);
        // Not an id of its own: another network had it first.
        assert!(ids("resnet152").contains(&"googlenet.conv1"));
        assert_eq!(select(&[]).unwrap().len(), all().len());
        let error = select(&names("vgg.conv3_2,vgg.con3_2x")).unwrap_err();
        assert!(error.contains("vgg.con3_2x, did you mean vgg.conv3_2?"), "{error}");
        assert!(!select(&names("zzz")).unwrap_err().contains("did you mean"));
    }
}
