//! The lists of layers: `benches/layers.csv` has the layers of the networks, and shapes that occur in none, and the files
//! in `benches/lists` have others.

use clap::ValueEnum;
use kernels::{ConvDesc, ConvDescBuilder, Pad2, Shape4, Size2};
use serde::Deserialize;
use std::sync::LazyLock;

/// The network of layers that occur in none.
const OFFNET: &str = "offnet";
/// The name that selects every layer.
const EVERY: &str = "all";

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
    /// A layer that is not in the list, with the values of [`extents`](Self::extents). Its id is `prefix` and its
    /// [`shape`](Self::shape). Its multiply-accumulates are 0 until somebody counts them.
    pub(crate) fn unlisted(prefix: &str, extents: [usize; 11]) -> Self {
        let [n, c, h, w, o, kh, kw, stride, pad, dilation, groups] = extents;
        let (id, net, count) = (String::new(), OFFNET.to_owned(), "1".to_owned());
        let mut layer =
            Self { id, net, n, c, h, w, o, kh, kw, stride, pad, dilation, groups, count, macs: 0 };
        layer.id = format!("{prefix}.{}", layer.shape());
        layer
    }

    /// The extents as text without spaces, such as `1x64x56x56-128-3x3-s1-p1-g1`, followed by `-d2` if the
    /// dilation is 2. [`described`](crate::described) parses it.
    pub fn shape(&self) -> String {
        let [n, c, h, w, o, kh, kw, stride, pad, dilation, groups] = self.extents();
        let dilated = if dilation == 1 { String::new() } else { format!("-d{dilation}") };
        format!("{n}x{c}x{h}x{w}-{o}-{kh}x{kw}-s{stride}-p{pad}-g{groups}{dilated}")
    }

    /// The layer with `n` images. Its id says so, unless the layer had as many.
    pub(crate) fn at_batch(mut self, n: usize) -> Self {
        if n == self.n {
            return self;
        }
        let before = self.shape();
        self.macs = self.macs / self.n as u64 * n as u64;
        self.n = n;
        self.id = match self.id.strip_suffix(&before) {
            Some(prefix) => format!("{prefix}{}", self.shape()),
            None => {
                let is_batch =
                    |prefix: &str| prefix.strip_prefix('b').is_some_and(|n| n.parse::<usize>().is_ok());
                let other = self.id.split_once('.').filter(|(prefix, _)| is_batch(prefix));
                format!("b{n}.{}", other.map_or(&*self.id, |(_, name)| name))
            }
        };
        self
    }

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

    /// Whether `name` is a prefix of the id, the name of one of its networks, or `all`.
    fn is_among(&self, name: &str) -> bool {
        name == EVERY || self.id.starts_with(name) || self.net.split('+').any(|net| net == name)
    }
}

/// A list of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum List {
    /// The layers of the networks, most of them at batch 1, and shapes that occur in none
    Networks,
    /// At batch 8: the layers of ResNet-50, the depthwise layers of MobileNet, and the transposed layers of a U-Net and a
    /// DCGAN, each as the convolution that it inverts
    Training,
    /// Convolutions along one axis, as images of one row: WaveNet and the first layers of speech networks
    Sequences,
    /// 3-D layers: a 3-D U-net, C3D, and networks for medical images
    Volumes,
}

impl List {
    /// Every list of 2-D layers.
    pub const ALL: [Self; 3] = [Self::Networks, Self::Training, Self::Sequences];

    /// The layers, in their order. 3-D layers are [`VolumeSpec`](crate::volume::VolumeSpec)s instead.
    pub fn layers(self) -> &'static [LayerSpec] {
        static NETWORKS: LazyLock<Vec<LayerSpec>> = LazyLock::new(|| read(include_str!("../layers.csv")));
        static TRAINING: LazyLock<Vec<LayerSpec>> = LazyLock::new(|| {
            let resnet = NETWORKS.iter().filter(|layer| layer.is_among(RESNET)).cloned();
            let others = read(include_str!("../lists/training.csv"));
            resnet.map(|layer| layer.at_batch(TRAINING_BATCH)).chain(others).collect()
        });
        static SEQUENCES: LazyLock<Vec<LayerSpec>> =
            LazyLock::new(|| read(include_str!("../lists/sequences.csv")));
        match self {
            Self::Networks => &NETWORKS,
            Self::Training => &TRAINING,
            Self::Sequences => &SEQUENCES,
            Self::Volumes => &[],
        }
    }
}

/// The network whose layers are trained.
const RESNET: &str = "resnet50";
/// Images of the layers of [`List::Training`].
const TRAINING_BATCH: usize = 8;

fn read(text: &str) -> Vec<LayerSpec> {
    let rows = csv::Reader::from_reader(text.as_bytes()).into_deserialize();
    rows.collect::<Result<_, _>>().expect("the lists are checked by a test")
}

/// Every layer of the networks, in the order of the list.
pub fn all() -> &'static [LayerSpec] {
    List::Networks.layers()
}

/// The layer with this id in any list.
pub(crate) fn listed(id: &str) -> Option<&'static LayerSpec> {
    List::ALL.into_iter().flat_map(List::layers).find(|layer| layer.id == id)
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

/// The layer with this id in any list.
///
/// # Panics
/// If there is none. Ids in code are checked by running it.
pub fn by_id(id: &str) -> &'static LayerSpec {
    listed(id).unwrap_or_else(|| panic!("no layer {id} in the lists"))
}

/// The layers of the networks that `names` select: each name is an id, a prefix of ids, a network, or `all`. No names
/// select all layers.
///
/// # Errors
/// A name that selects nothing; the message suggests the nearest name.
pub fn select(names: &[String]) -> Result<Vec<&'static LayerSpec>, String> {
    select_from(all(), names)
}

/// [`select`] among the layers `known`.
///
/// # Errors
/// As [`select`].
pub(crate) fn select_from<'a>(
    known: &'a [LayerSpec],
    names: &[String],
) -> Result<Vec<&'a LayerSpec>, String> {
    if names.is_empty() {
        return Ok(known.iter().collect());
    }
    let mut meant = vec![false; known.len()];
    for name in names {
        // A complete id selects only that layer, even if it is a prefix of others.
        let exact = known.iter().position(|layer| layer.id == *name);
        let among = || (0..known.len()).filter(|&index| known[index].is_among(name)).collect();
        let indices: Vec<usize> = exact.map_or_else(among, |index| vec![index]);
        if indices.is_empty() {
            let nets = known.iter().flat_map(|layer| layer.net.split('+'));
            let hint = nearest(name, known.iter().map(|layer| layer.id.as_str()).chain(nets));
            return Err(format!("no layer or network is called {name}{hint}"));
        }
        indices.into_iter().for_each(|index| meant[index] = true);
    }
    Ok(known.iter().zip(meant).filter_map(|(layer, meant)| meant.then_some(layer)).collect())
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
    use std::collections::{HashMap, HashSet};

    #[test]
    fn the_list_parses_and_its_macs_are_those_of_the_library() {
        for layer in List::ALL.into_iter().flat_map(List::layers) {
            let desc = layer.builder().build().unwrap_or_else(|error| panic!("{}: {error}", layer.id));
            assert_eq!(desc.cost().macs, layer.macs, "{}", layer.id);
            assert_eq!(layer.net.matches('+').count(), layer.count.matches('+').count(), "{}", layer.id);
        }
        let all = List::ALL.into_iter().flat_map(List::layers);
        let mut by_id: HashMap<&str, [usize; 11]> = HashMap::new();
        for layer in all {
            // A layer at another batch can be in two lists.
            let known = *by_id.entry(&layer.id).or_insert(layer.extents());
            assert_eq!(known, layer.extents(), "{} is there twice", layer.id);
        }
        for list in List::ALL {
            let ids: HashSet<&str> = list.layers().iter().map(|layer| layer.id.as_str()).collect();
            assert_eq!(ids.len(), list.layers().len(), "an id is there twice in {list:?}");
        }
    }

    #[test]
    fn a_batch_is_in_the_id_and_in_the_work() {
        let batch = |id: &str, n| by_id(id).clone().at_batch(n);
        for (id, n, expected) in [
            ("lenet5.c3", 4, "b4.lenet5.c3"),
            ("lenet5.c3", 1, "lenet5.c3"),
            ("b8.lenet5.c3", 2, "b2.lenet5.c3"),
        ] {
            let layer = batch(id, n);
            assert_eq!((layer.id.as_str(), layer.n), (expected, n));
            assert_eq!(layer.builder().build().unwrap().cost().macs, layer.macs);
        }
        let described = LayerSpec::unlisted("layer", [1, 3, 9, 9, 4, 1, 1, 1, 0, 1, 1]).at_batch(2);
        assert_eq!(described.id, "layer.2x3x9x9-4-1x1-s1-p0-g1");
        let trained = List::Training.layers();
        assert!(trained.iter().all(|layer| layer.n == 8));
        assert!(trained.iter().any(|layer| layer.id == "b8.resnet50.s2.3x3s2"));
        assert!(List::Sequences.layers().iter().all(|layer| layer.h == 1));
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
        assert_eq!(select(&names("lenet5.c1,all")).unwrap().len(), all().len());
        let error = select(&names("vgg.conv3_2,vgg.con3_2x")).unwrap_err();
        assert!(error.contains("vgg.con3_2x, did you mean vgg.conv3_2?"), "{error}");
        assert!(!select(&names("zzz")).unwrap_err().contains("did you mean"));
    }
}
