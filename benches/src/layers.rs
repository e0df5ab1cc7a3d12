//! The list of layers (`benches/layers.csv`): the layers of the networks, and shapes that occur in none.

use kernels::{ConvDesc, ConvDescBuilder, Pad2, Shape4, Size2};
use serde::Deserialize;
use std::sync::LazyLock;

/// One row of the list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LayerSpec {
    /// The identifier in results and arguments.
    pub id: String,
    /// The networks that contain the layer, joined by `+`; `offnet` if none does.
    pub net: String,
    /// Images per batch.
    pub n: usize,
    /// Input channels.
    pub c: usize,
    /// Height of the input.
    pub h: usize,
    /// Width of the input.
    pub w: usize,
    /// Output channels.
    pub o: usize,
    /// Height of the kernel.
    pub kh: usize,
    /// Width of the kernel.
    pub kw: usize,
    /// Stride on both axes.
    pub stride: usize,
    /// Padding on all four sides.
    pub pad: usize,
    /// Dilation on both axes.
    pub dilation: usize,
    /// Groups, as in [`ConvDesc::groups`].
    pub groups: usize,
    /// Number of occurrences in each of the networks, joined by `+`.
    pub count: String,
    /// Multiply-accumulates by the definition of the convolution.
    pub macs: u64,
}

impl LayerSpec {
    /// The problem in NCHW without an epilogue.
    pub fn builder(&self) -> ConvDescBuilder {
        ConvDesc::builder(Shape4::new(self.n, self.c, self.h, self.w), self.o, Size2::new(self.kh, self.kw))
            .stride(Size2::square(self.stride))
            .pad(Pad2::all(self.pad))
            .dilation(Size2::square(self.dilation))
            .groups(self.groups)
    }

    /// Floating-point operations by the definition, independent of the algorithm.
    pub fn flops(&self) -> f64 {
        2.0 * self.macs as f64
    }

    /// The values of the list's columns from `n` to `groups`.
    pub fn extents(&self) -> [usize; 11] {
        let Self { n, c, h, w, o, kh, kw, stride, pad, dilation, groups, .. } = *self;
        [n, c, h, w, o, kh, kw, stride, pad, dilation, groups]
    }

    /// Whether `name` is a prefix of the id or the name of one of its networks.
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

/// A cross-section of the list: what the cargo benches time.
pub const SAMPLE: [&str; 10] = [
    "lenet5.c3",
    "googlenet.conv1",
    "resnet18.s1.3x3",
    "resnet18.s3.3x3",
    "resnet50.s1.1x1in",
    "resnet50.s3.1x1in",
    "resnet50.s3.down",
    "googlenet.3a.5x5",
    "dw3x3.256.28s1",
    "group32.3x3.128.56",
];

/// The layer with this id.
///
/// # Panics
/// If there is none. Ids in code are checked by running it.
pub fn by_id(id: &str) -> &'static LayerSpec {
    all().iter().find(|layer| layer.id == id).unwrap_or_else(|| panic!("no layer {id} in layers.csv"))
}

/// The layers that `names` select: each name is an id, a prefix of ids, or a network. No names select all layers.
///
/// # Errors
/// A name that selects nothing; the message suggests the nearest name.
pub fn select(names: &[String]) -> Result<Vec<&'static LayerSpec>, String> {
    if names.is_empty() {
        return Ok(all().iter().collect());
    }
    let mut meant = vec![false; all().len()];
    for name in names {
        // A complete id selects only that layer, even if it is a prefix of others.
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

/// The suggestion `, did you mean NAME?` for a misspelled `name`, or an empty text if no known name is
/// similar. Names that begin with `name` come first, then those with the smallest edit distance.
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
        // Listed under another network, which comes first in the list.
        assert!(ids("resnet152").contains(&"googlenet.conv1"));
        assert_eq!(select(&[]).unwrap().len(), all().len());
        let error = select(&names("vgg.conv3_2,vgg.con3_2x")).unwrap_err();
        assert!(error.contains("vgg.con3_2x, did you mean vgg.conv3_2?"), "{error}");
        assert!(!select(&names("zzz")).unwrap_err().contains("did you mean"));
    }
}
