//! The zoo of networks, one file per family. The code of each network reads like the table of its paper.

mod alexnet;
mod cited;
mod densenet;
mod efficientnet;
mod googlenet;
mod lenet5;
mod mlp;
mod mobilenet;
mod nin;
mod resnet;
mod vgg;

pub use cited::{Cited, Quantity};
pub use lenet5::lenet5;

use crate::error::NetError;
use crate::graph::Graph;
use crate::layer::Norm;
use crate::shape::Shape;
use kernels::Activation;
use resnet::{Column, Shortcut};

/// A network that is available by name.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The name on the command line.
    pub name: &'static str,
    /// A description in one line.
    pub summary: &'static str,
    /// The input shape for which it was published.
    pub input: Shape,
    /// Figures cited for the network, with a reason for each that differs from the count.
    pub cited: &'static [Cited],
    build: fn(&str, Shape) -> Result<Graph, NetError>,
}

impl Entry {
    const fn new(
        name: &'static str,
        summary: &'static str,
        input: Shape,
        build: fn(&str, Shape) -> Result<Graph, NetError>,
    ) -> Self {
        Self { name, summary, input, cited: &[], build }
    }

    const fn cited(self, cited: &'static [Cited]) -> Self {
        Self { cited, ..self }
    }

    /// The graph for the published input shape.
    ///
    /// # Errors
    /// None.
    pub fn graph(&self) -> Result<Graph, NetError> {
        self.graph_for(self.input)
    }

    /// The graph for another input shape.
    ///
    /// # Errors
    /// [`NetError::Layer`] for the first layer that the input does not fit.
    pub fn graph_for(&self, input: Shape) -> Result<Graph, NetError> {
        (self.build)(self.name, input)
    }
}

const IMAGENET: Shape = Shape::map(3, 224, 224);
const CIFAR: Shape = Shape::map(3, 32, 32);
const DIGIT: Shape = Shape::map(1, 32, 32);

/// Blocks per stage, from the columns of table 1 of the ResNet paper.
const B18: [usize; 4] = [2, 2, 2, 2];
const B34: [usize; 4] = [3, 4, 6, 3]; // also ResNet-50 and ResNeXt-50
const B101: [usize; 4] = [3, 4, 23, 3];
const B152: [usize; 4] = [3, 8, 36, 3];

/// All networks of the zoo.
pub const ALL: &[Entry] = &[
    Entry::new("mlp", "one hidden layer of 100 on 32x32 colour pictures", CIFAR, mlp::cifar),
    Entry::new("mlp-mnist", "28x28-300-100-10 (LeCun et al. 1998)", Shape::map(1, 28, 28), mlp::mnist),
    Entry::new(
        "lenet5-1998",
        "LeNet-5 of the paper: table of connections, trained subsampling",
        DIGIT,
        lenet5::original,
    )
    .cited(cited::LENET5_1998),
    Entry::new(
        "lenet5",
        "LeNet-5 as it is usually built today, 10 digits (LeCun et al. 1998)",
        DIGIT,
        lenet5::modern,
    )
    .cited(cited::LENET5),
    Entry::new("lenet5-sigmoid", "LeNet-5 with sigmoids", DIGIT, |name, input| {
        lenet5::activated(name, input, Activation::Sigmoid)
    }),
    Entry::new("lenet5-relu", "LeNet-5 with rectifiers", DIGIT, |name, input| {
        lenet5::activated(name, input, Activation::Relu)
    }),
    Entry::new("lenet5-leaky", "LeNet-5 with leaky rectifiers, slope 0.01", DIGIT, |name, input| {
        lenet5::activated(name, input, Activation::LeakyRelu { alpha: 0.01 })
    }),
    Entry::new("lenet5-prelu", "LeNet-5 with rectifiers of trained slope (2015)", DIGIT, |name, input| {
        lenet5::activated(name, input, Activation::PRelu)
    }),
    Entry::new("lenet5-elu", "LeNet-5 with exponential linear units (2016)", DIGIT, |name, input| {
        lenet5::activated(name, input, Activation::Elu { alpha: 1.0 })
    }),
    Entry::new("lenet5-maxout", "LeNet-5 with maxout of pairs (2013)", DIGIT, lenet5::maxout),
    Entry::new("lenet5-bn", "LeNet-5 with batch normalisation and rectifiers", DIGIT, |name, input| {
        lenet5::normalised(name, input, Norm::batch(), "bn")
    }),
    Entry::new("lenet5-ln", "LeNet-5 with layer normalisation and rectifiers", DIGIT, |name, input| {
        lenet5::normalised(name, input, Norm::layer(), "ln")
    }),
    Entry::new("lenet5-in", "LeNet-5 with instance normalisation and rectifiers", DIGIT, |name, input| {
        lenet5::normalised(name, input, Norm::instance(), "in")
    }),
    Entry::new("lenet5-gn", "LeNet-5 with group normalisation and rectifiers", DIGIT, |name, input| {
        lenet5::normalised(name, input, Norm::group(2), "gn")
    }),
    Entry::new("lenet5-dropout", "LeNet-5 with rectifiers and dropout", DIGIT, lenet5::dropout),
    Entry::new(
        "lenet5-fractional",
        "LeNet-5 with rectifiers and fractional max-pooling (2014)",
        DIGIT,
        lenet5::fractional,
    ),
    Entry::new(
        "alexnet",
        "AlexNet in two towers, with LRN (2012)",
        Shape::map(3, 227, 227),
        alexnet::grouped,
    )
    .cited(cited::ALEXNET),
    Entry::new(
        "alexnet-torchvision",
        "AlexNet in one tower, as in torchvision",
        IMAGENET,
        alexnet::torchvision,
    )
    .cited(cited::ALEXNET_TORCHVISION),
    Entry::new("vgg16", "VGG, configuration D (2015)", IMAGENET, vgg::vgg16).cited(cited::VGG16),
    Entry::new("vgg19", "VGG, configuration E (2015)", IMAGENET, vgg::vgg19).cited(cited::VGG19),
    Entry::new("nin", "Network in Network for ImageNet (2014)", IMAGENET, nin::imagenet).cited(cited::NIN),
    Entry::new("nin-cifar10", "Network in Network for CIFAR-10 (2014)", CIFAR, nin::cifar10),
    Entry::new(
        "inception-naive",
        "module 3a without 1x1 bottlenecks",
        Shape::map(192, 28, 28),
        googlenet::naive_module,
    ),
    Entry::new(
        "inception",
        "module 3a of GoogLeNet with its bottlenecks",
        Shape::map(192, 28, 28),
        googlenet::module,
    ),
    Entry::new("googlenet", "GoogLeNet of the paper, at inference (2015)", IMAGENET, googlenet::googlenet)
        .cited(cited::GOOGLENET),
    Entry::new("googlenet-aux", "GoogLeNet with both side classifiers", IMAGENET, googlenet::googlenet_aux)
        .cited(cited::GOOGLENET_AUX),
    Entry::new(
        "googlenet-torchvision",
        "GoogLeNet of torchvision: BN, 3x3 for 5x5",
        IMAGENET,
        googlenet::torchvision,
    )
    .cited(cited::GOOGLENET_TORCHVISION),
    Entry::new(
        "googlenet-torchvision-aux",
        "GoogLeNet of torchvision with side classifiers",
        IMAGENET,
        googlenet::torchvision_aux,
    ),
    Entry::new("plain18", "18 layers without shortcuts (2016)", IMAGENET, |name, input| {
        Column::basic(B18, Shortcut::None).build(name, input)
    }),
    Entry::new("plain34", "34 layers without shortcuts (2016)", IMAGENET, |name, input| {
        Column::basic(B34, Shortcut::None).build(name, input)
    })
    .cited(cited::PLAIN34),
    Entry::new("resnet18-a", "ResNet-18, shortcuts A: zero padding", IMAGENET, |name, input| {
        Column::basic(B18, Shortcut::A).build(name, input)
    })
    .cited(cited::RESNET18),
    Entry::new("resnet34-a", "ResNet-34, shortcuts A: zero padding", IMAGENET, |name, input| {
        Column::basic(B34, Shortcut::A).build(name, input)
    })
    .cited(cited::RESNET34),
    Entry::new("resnet18", "ResNet-18, shortcuts B: projection", IMAGENET, |name, input| {
        Column::basic(B18, Shortcut::B).build(name, input)
    })
    .cited(cited::RESNET18),
    Entry::new("resnet34", "ResNet-34, shortcuts B: projection", IMAGENET, |name, input| {
        Column::basic(B34, Shortcut::B).build(name, input)
    })
    .cited(cited::RESNET34_B),
    Entry::new("resnet50-v1", "ResNet-50, stride in the first 1x1", IMAGENET, |name, input| {
        Column::bottleneck(B34, true).build(name, input)
    })
    .cited(cited::RESNET50_V1),
    Entry::new("resnet101-v1", "ResNet-101, stride in the first 1x1", IMAGENET, |name, input| {
        Column::bottleneck(B101, true).build(name, input)
    })
    .cited(cited::RESNET101_V1),
    Entry::new("resnet152-v1", "ResNet-152, stride in the first 1x1", IMAGENET, |name, input| {
        Column::bottleneck(B152, true).build(name, input)
    })
    .cited(cited::RESNET152_V1),
    Entry::new("resnet50", "ResNet-50 v1.5, stride in the 3x3", IMAGENET, |name, input| {
        Column::bottleneck(B34, false).build(name, input)
    })
    .cited(cited::RESNET50),
    Entry::new("resnet101", "ResNet-101 v1.5, stride in the 3x3", IMAGENET, |name, input| {
        Column::bottleneck(B101, false).build(name, input)
    })
    .cited(cited::RESNET101),
    Entry::new("resnet152", "ResNet-152 v1.5, stride in the 3x3", IMAGENET, |name, input| {
        Column::bottleneck(B152, false).build(name, input)
    })
    .cited(cited::RESNET152),
    Entry::new("resnext50-32x4d", "ResNeXt-50, 32 groups of 4 channels (2017)", IMAGENET, |name, input| {
        Column::grouped(B34, 32, 4).build(name, input)
    })
    .cited(cited::RESNEXT50),
    Entry::new("densenet121", "DenseNet-121 (2017)", IMAGENET, densenet::densenet121)
        .cited(cited::DENSENET121),
    Entry::new("mobilenet-v2", "MobileNet-v2, width 1.0 (2018)", IMAGENET, mobilenet::v2)
        .cited(cited::MOBILENET_V2),
    Entry::new("efficientnet-b0", "EfficientNet-B0 (2019)", IMAGENET, efficientnet::b0)
        .cited(cited::EFFICIENTNET_B0),
    Entry::new("resnet20-cifar", "20 layers for CIFAR-10, shortcuts A", CIFAR, |name, input| {
        resnet::cifar(name, input, 20, Shortcut::A)
    })
    .cited(cited::RESNET20),
    Entry::new("resnet56-cifar", "56 layers for CIFAR-10, shortcuts A", CIFAR, |name, input| {
        resnet::cifar(name, input, 56, Shortcut::A)
    })
    .cited(cited::RESNET56),
    Entry::new("resnet110-cifar", "110 layers for CIFAR-10, shortcuts A", CIFAR, |name, input| {
        resnet::cifar(name, input, 110, Shortcut::A)
    })
    .cited(cited::RESNET110),
    Entry::new("plain20-cifar", "20 layers for CIFAR-10 without shortcuts", CIFAR, |name, input| {
        resnet::cifar(name, input, 20, Shortcut::None)
    }),
    Entry::new("plain56-cifar", "56 layers for CIFAR-10 without shortcuts", CIFAR, |name, input| {
        resnet::cifar(name, input, 56, Shortcut::None)
    }),
];

/// Finds a network by name.
///
/// # Errors
/// [`NetError::UnknownNetwork`], which lists all names and suggests the nearest.
pub fn find(name: &str) -> Result<&'static Entry, NetError> {
    ALL.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|entry| entry.name).collect();
        // The smallest edit distance; among equals, the name that begins most alike.
        let lower = name.to_lowercase();
        let slips = |candidate: &str| strsim::damerau_levenshtein(&lower, candidate);
        let likeness = |candidate: &str| strsim::jaro_winkler(&lower, candidate);
        let nearest = known
            .iter()
            .copied()
            .min_by(|a, b| slips(a).cmp(&slips(b)).then(likeness(b).total_cmp(&likeness(a))));
        let hint = nearest.filter(|nearest| likeness(nearest) > 0.7);
        NetError::UnknownNetwork {
            name: name.to_owned(),
            known: known.join(", "),
            hint: hint.map_or(String::new(), |nearest| format!(", did you mean `{nearest}`?")),
        }
    })
}
