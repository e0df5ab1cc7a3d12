//! Figures cited by papers, notes and tools, for comparison with the counts. Nothing is computed from them.

/// The quantity of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Trained parameters.
    Params,
    /// Multiply-accumulates, under whatever name.
    Macs,
}

/// A cited figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cited {
    /// The quantity it states.
    pub quantity: Quantity,
    /// The figure as printed.
    pub text: &'static str,
    /// The value of the figure.
    pub value: f64,
    /// One unit of its last digit.
    pub digit: f64,
    /// The source.
    pub source: &'static str,
    /// The reason why the exact count differs by more than rounding; empty if it does not.
    pub reason: &'static str,
}

impl Cited {
    const fn params(text: &'static str, value: f64, digit: f64, source: &'static str) -> Self {
        Self { quantity: Quantity::Params, text, value, digit, source, reason: "" }
    }

    const fn macs(text: &'static str, value: f64, digit: f64, source: &'static str) -> Self {
        Self { quantity: Quantity::Macs, text, value, digit, source, reason: "" }
    }

    const fn because(self, reason: &'static str) -> Self {
        Self { reason, ..self }
    }

    /// Whether `exact` rounds to this figure.
    pub fn agrees(&self, exact: u64) -> bool {
        (exact as f64 - self.value).abs() <= self.digit / 2.0
    }
}

const HE: &str = "He et al. 2016, table 1";
const HE_6: &str = "He et al. 2016, table 6";
const TORCHVISION: &str = "torchvision";

pub(super) const LENET5_1998: &[Cited] = &[
    Cited::params("60,000", 60e3, 1.0, "LeCun et al. 1998"),
    Cited::params("6,000", 6e3, 1e3, "a lecture note")
        .because("a slip of a factor of ten: the paper says 60,000"),
    Cited::macs("340,908", 340_908.0, 1.0, "LeCun et al. 1998, connections").because(
        "the paper counts connections: these MACs, 6,508 biases, 7,880 in S2 and S4, 840 to the output codes",
    ),
];
pub(super) const LENET5: &[Cited] = &[
    Cited::params("61,706", 61_706.0, 1.0, "textbooks"),
    Cited::params("60k", 60e3, 1.0, "LeCun et al. 1998")
        .because("C3 sees all 6 maps (+900 weights), no trained subsampling (-44), linear output (+850)"),
];
pub(super) const ALEXNET: &[Cited] = &[Cited::params("60M", 60e6, 1e6, "Krizhevsky et al. 2012")
    .because("the paper rounds down: \"60 million\"")];
pub(super) const ALEXNET_TORCHVISION: &[Cited] = &[
    Cited::params("61.1M", 61.1e6, 1e5, TORCHVISION),
    Cited::params("60M", 60e6, 1e6, "Krizhevsky et al. 2012")
        .because("one tower of other widths (2014): more weights in the convolutions, fewer maps"),
    Cited::macs("0.71e9", 0.71e9, 1e7, TORCHVISION),
];
pub(super) const VGG16: &[Cited] = &[
    Cited::params("138M", 138e6, 1e6, "Simonyan and Zisserman 2015, table 2"),
    Cited::macs("15.47e9", 15.47e9, 1e7, TORCHVISION),
];
pub(super) const VGG19: &[Cited] = &[
    Cited::params("144M", 144e6, 1e6, "Simonyan and Zisserman 2015, table 2"),
    Cited::macs("19.6e9", 19.6e9, 1e8, "He et al. 2016, section 3.3"),
];
pub(super) const NIN: &[Cited] =
    &[Cited::params("29 MB", 29.0 * 1048576.0 / 4.0, 1048576.0 / 4.0, "Caffe model zoo")];
pub(super) const GOOGLENET: &[Cited] = &[
    Cited::params("4M", 4e6, 1e6, "lecture notes").because(
        "a popular misquotation: no counting of the published architecture gives it (6,998,552 at inference, \
         13,378,280 with the side classifiers)",
    ),
    Cited::params("6.8M", 6.8e6, 1e5, "Szegedy et al. 2015, sums of table 1")
        .because("table 1 cuts each row off in units of 1,024 and prints 2.7K for a first layer of 9.4K"),
    Cited::macs("1.5e9", 1.5e9, 1e8, "Szegedy et al. 2015, section 1")
        .because("the paper gives a budget, \"1.5 billion multiply-adds\", not a count"),
];
pub(super) const GOOGLENET_AUX: &[Cited] = &[Cited::params("4M", 4e6, 1e6, "lecture notes")
    .because("the side classifiers alone have 6.4M: their fully connected layers see 2,048 numbers each")];
pub(super) const GOOGLENET_TORCHVISION: &[Cited] =
    &[Cited::params("6.6M", 6.6e6, 1e5, TORCHVISION), Cited::macs("1.50e9", 1.50e9, 1e7, TORCHVISION)];
pub(super) const PLAIN34: &[Cited] = &[Cited::macs("3.6e9", 3.6e9, 1e8, "He et al. 2016, figure 3")];
pub(super) const RESNET18: &[Cited] = &[Cited::macs("1.8e9", 1.8e9, 1e8, HE)];
pub(super) const RESNET34: &[Cited] = &[Cited::macs("3.6e9", 3.6e9, 1e8, HE)];
pub(super) const RESNET34_B: &[Cited] = &[Cited::macs("3.6e9", 3.6e9, 1e8, HE)
    .because("the paper's figure is that of shortcuts A; three projections add 0.02e9")];
pub(super) const RESNET50_V1: &[Cited] =
    &[Cited::macs("3.8e9", 3.8e9, 1e8, HE).because("the paper truncates: 3.858e9 with all layers")];
pub(super) const RESNET101_V1: &[Cited] = &[Cited::macs("7.6e9", 7.6e9, 1e8, HE)];
pub(super) const RESNET152_V1: &[Cited] = &[Cited::macs("11.3e9", 11.3e9, 1e8, HE)];
pub(super) const RESNET50: &[Cited] =
    &[Cited::macs("4.09e9", 4.09e9, 1e7, TORCHVISION), Cited::macs("3.8e9", 3.8e9, 1e8, HE).because(V1_5)];
pub(super) const RESNET101: &[Cited] =
    &[Cited::macs("7.80e9", 7.80e9, 1e7, TORCHVISION), Cited::macs("7.6e9", 7.6e9, 1e8, HE).because(V1_5)];
pub(super) const RESNET152: &[Cited] = &[
    Cited::macs("11.51e9", 11.51e9, 1e7, TORCHVISION),
    Cited::macs("11.3e9", 11.3e9, 1e8, HE).because(V1_5),
];
const V1_5: &str = "the stride is in the 3x3: three 1x1 layers still see the larger map, +0.231e9";
pub(super) const RESNET20: &[Cited] = &[Cited::params("0.27M", 0.27e6, 1e4, HE_6)];
pub(super) const RESNET56: &[Cited] = &[Cited::params("0.85M", 0.85e6, 1e4, HE_6)];
pub(super) const RESNET110: &[Cited] = &[Cited::params("1.7M", 1.7e6, 1e5, HE_6)];
pub(super) const RESNEXT50: &[Cited] = &[
    Cited::params("25.0M", 25.0e6, 1e5, "Xie et al. 2017, table 1"),
    Cited::macs("4.2e9", 4.2e9, 1e8, "Xie et al. 2017, table 1"),
    Cited::macs("4.23e9", 4.23e9, 1e7, TORCHVISION),
];
pub(super) const DENSENET121: &[Cited] = &[Cited::macs("2.834e9", 2.834e9, 1e6, TORCHVISION)];
pub(super) const MOBILENET_V2: &[Cited] = &[
    Cited::params("3.4M", 3.4e6, 1e5, "Sandler et al. 2018, table 4")
        .because("3,470,760 without batch normalisation, which rounds down to the paper's figure"),
    Cited::macs("300M", 300e6, 1e6, "Sandler et al. 2018, table 4").because("the paper rounds down"),
    Cited::macs("0.301e9", 0.301e9, 1e6, TORCHVISION),
];
pub(super) const EFFICIENTNET_B0: &[Cited] = &[
    Cited::params("5.3M", 5.3e6, 1e5, "Tan and Le 2019, table 2"),
    Cited::macs("0.39e9", 0.39e9, 1e7, "Tan and Le 2019, table 2"),
    Cited::macs("0.386e9", 0.386e9, 1e6, TORCHVISION),
];
