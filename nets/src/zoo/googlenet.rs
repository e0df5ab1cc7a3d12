//! GoogLeNet: C. Szegedy et al., "Going deeper with convolutions", CVPR 2015, table 1 and figure 2. Also
//! torchvision's variant, and the single modules of figure 2.

use crate::error::NetError;
use crate::graph::{Graph, GraphBuilder, NodeId};
use crate::layer::{AdaptivePool, Conv, Layer, Linear, Lrn, Norm, Pool};
use crate::shape::Shape;
use kernels::Activation::Relu;
use kernels::Size2;

/// A row of table 1: `#1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj`.
type Row = [usize; 6];

/// The nine modules. There is a pooling layer before the third and the eighth module, and a side classifier
/// after the third and the sixth.
const TABLE_1: [(&str, Row); 9] = [
    ("3a", [64, 96, 128, 16, 32, 32]),
    ("3b", [128, 128, 192, 32, 96, 64]),
    ("4a", [192, 96, 208, 16, 48, 64]),
    ("4b", [160, 112, 224, 24, 64, 64]),
    ("4c", [128, 128, 256, 24, 64, 64]),
    ("4d", [112, 144, 288, 32, 64, 64]),
    ("4e", [256, 160, 320, 32, 128, 128]),
    ("5a", [256, 160, 320, 32, 128, 128]),
    ("5b", [384, 192, 384, 48, 128, 128]),
];

pub(super) fn googlenet(name: &str, input: Shape) -> Result<Graph, NetError> {
    Builder::new(name, input, &PAPER).build(false)
}

pub(super) fn googlenet_aux(name: &str, input: Shape) -> Result<Graph, NetError> {
    Builder::new(name, input, &PAPER).build(true)
}

pub(super) fn torchvision(name: &str, input: Shape) -> Result<Graph, NetError> {
    Builder::new(name, input, &TORCHVISION).build(false)
}

pub(super) fn torchvision_aux(name: &str, input: Shape) -> Result<Graph, NetError> {
    Builder::new(name, input, &TORCHVISION).build(true)
}

/// Figure 2b: module 3a alone, with 1x1 layers before the large kernels.
pub(super) fn module(name: &str, input: Shape) -> Result<Graph, NetError> {
    let mut net = Builder::new(name, input, &PAPER);
    net.inception(TABLE_1[0].0, TABLE_1[0].1);
    net.graph.build()
}

/// Figure 2a: the module without the 1x1 layers. The pooling path keeps all of its channels.
pub(super) fn naive_module(name: &str, input: Shape) -> Result<Graph, NetError> {
    let [ones, _, threes, _, fives, _] = TABLE_1[0].1;
    let mut net = GraphBuilder::new(name, input);
    let start = net.last();
    let paths = [("1x1", ones, 1), ("3x3", threes, 3), ("5x5", fives, 5)];
    let mut ends = paths
        .map(|(path, channels, kernel)| {
            net.at(start).then(path, Conv::new(channels, kernel).pad(kernel / 2)).act(Relu).last()
        })
        .to_vec();
    ends.push(net.at(start).then("pool", Pool::max(3, 1).pad(1)).last());
    net.add("concat", Layer::Concat, &ends);
    net.build()
}

/// The differences between the paper and torchvision.
struct Variant {
    /// Batch normalisation after each convolution, which replaces the bias.
    norm: Option<Norm>,
    /// Whether there is local response normalisation around the second stage.
    response: bool,
    /// The kernel size of the fourth path. torchvision uses 3, an early mistake that its trained weights preserve.
    fives: usize,
    /// The pooling layer before module 5a.
    last_pool: Pool,
    /// The names of the stem's layers and of the paths in a module.
    names: &'static Names,
}

/// The names of the layers.
struct Names {
    stem: [&'static str; 3],
    pools: [&'static str; 4],
    prefix: &'static str,
    paths: [&'static str; 6],
    fc: &'static str,
    aux: [&'static str; 2],
}

const PAPER: Variant = Variant {
    norm: None,
    response: true,
    fives: 5,
    last_pool: Pool::max(3, 2).ceil_mode(),
    names: &Names {
        stem: ["conv1/7x7_s2", "conv2/3x3_reduce", "conv2/3x3"],
        pools: ["pool1/3x3_s2", "pool2/3x3_s2", "pool3/3x3_s2", "pool4/3x3_s2"],
        prefix: "inception_",
        paths: ["/1x1", "/3x3_reduce", "/3x3", "/5x5_reduce", "/5x5", "/pool_proj"],
        fc: "loss3/classifier",
        aux: ["loss1", "loss2"],
    },
};

const TORCHVISION: Variant = Variant {
    norm: Some(Norm::batch().eps(1e-3)),
    response: false,
    fives: 3,
    last_pool: Pool::max(2, 2).ceil_mode(),
    names: &Names {
        stem: ["conv1", "conv2", "conv3"],
        pools: ["maxpool1", "maxpool2", "maxpool3", "maxpool4"],
        prefix: "inception",
        paths: [".branch1", ".branch2.0", ".branch2.1", ".branch3.0", ".branch3.1", ".branch4.1"],
        fc: "fc",
        aux: ["aux1", "aux2"],
    },
};

struct Builder {
    graph: GraphBuilder,
    variant: &'static Variant,
}

impl Builder {
    fn new(name: &str, input: Shape, variant: &'static Variant) -> Self {
        Self { graph: GraphBuilder::new(name, input), variant }
    }

    fn build(mut self, aux: bool) -> Result<Graph, NetError> {
        let Variant { last_pool, names, .. } = *self.variant;
        let pool = Pool::max(3, 2).ceil_mode();
        self.conv(names.stem[0], Conv::new(64, 7).stride(2).pad(3)); //     64@112x112
        self.graph.then(names.pools[0], pool); //                           64@56x56
        self.response("pool1/norm1");
        self.conv(names.stem[1], Conv::new(64, 1)); //                      64@56x56
        self.conv(names.stem[2], Conv::new(192, 3).pad(1)); //             192@56x56
        self.response("conv2/norm2");
        self.graph.then(names.pools[1], pool); //                          192@28x28
        for (module, row) in TABLE_1 {
            match module {
                "4a" => _ = self.graph.then(names.pools[2], pool), //      480@14x14
                "5a" => _ = self.graph.then(names.pools[3], last_pool), // 832@7x7
                _ => {}
            }
            self.inception(module, row);
            match module {
                "4a" if aux => self.side(names.aux[0]),
                "4d" if aux => self.side(names.aux[1]),
                _ => {}
            }
        }
        self.graph.then("avgpool", Pool::global_average()).then("flatten", Layer::Flatten); // 1024
        self.graph.then("dropout", Layer::Dropout).then(names.fc, Linear::new(1000));
        self.graph.build()
    }

    /// Adds a convolution with its normalisation and activation.
    fn conv(&mut self, name: &str, conv: Conv) -> NodeId {
        match self.variant.norm {
            None => self.graph.then(name, conv),
            Some(norm) => {
                let (conv_name, norm_name) = (format!("{name}.conv"), format!("{name}.bn"));
                self.graph.then(&conv_name, conv.no_bias()).then(&norm_name, norm)
            }
        };
        self.graph.act(Relu).last()
    }

    fn response(&mut self, name: &str) {
        if self.variant.response {
            // As in the authors' framework and in Caffe's model; the paper gives no numbers.
            self.graph.then(name, Lrn { size: 5, alpha: 1e-4, beta: 0.75, k: 1.0 });
        }
    }

    /// Adds four paths and concatenates their channels.
    fn inception(&mut self, module: &str, [ones, reduce3, threes, reduce5, fives, projection]: Row) {
        let (start, names, large) = (self.graph.last(), self.variant.names, self.variant.fives);
        let name = |path: usize| format!("{}{module}{}", names.prefix, names.paths[path]);
        let a = self.conv(&name(0), Conv::new(ones, 1));
        self.graph.at(start);
        self.conv(&name(1), Conv::new(reduce3, 1));
        let b = self.conv(&name(2), Conv::new(threes, 3).pad(1));
        self.graph.at(start);
        self.conv(&name(3), Conv::new(reduce5, 1));
        let c = self.conv(&name(4), Conv::new(fives, large).pad(large / 2));
        self.graph.at(start).then(&format!("{}{module}.pool", names.prefix), Pool::max(3, 1).pad(1));
        let d = self.conv(&name(5), Conv::new(projection, 1));
        self.graph.add(&format!("{}{module}.concat", names.prefix), Layer::Concat, &[a, b, c, d]);
    }

    /// Adds a side classifier (section 5): a separate output for training.
    fn side(&mut self, name: &str) {
        let module = self.graph.last();
        let name =
            |part: &str| format!("{name}{}{part}", if self.variant.norm.is_some() { "." } else { "/" });
        let pool: Layer = match self.variant.norm {
            None => Pool::average(5, 3).into(), //                                 4x4
            Some(_) => Layer::AdaptivePool(AdaptivePool { output: Size2::square(4) }),
        };
        let (fc1, fc2) = (name("fc1"), name("fc2"));
        self.graph.then(&name("pool"), pool);
        self.conv(&name("conv"), Conv::new(128, 1)); //                           128@4x4
        self.graph.then(&name("flatten"), Layer::Flatten).then(&fc1, Linear::new(1024)).act(Relu);
        self.graph.then(&name("dropout"), Layer::Dropout).then(&fc2, Linear::new(1000));
        self.graph.at(module);
    }
}
