//! Networks at every level of [`Numerics`] and with all products: the distance from strict results, and the same bits for
//! one thread and for two.

mod common;

use kernels::{Algorithm, Isa, Method, Numerics, Products, Select, Threads};
use nets::digits::{Digits, trained_weights};
use nets::{CompiledNet, Graph, Net, NetOptions, WeightSet, zoo};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// The relative L2 distance of a whole network's output from the strict one, at most: a few times what was measured.
const LEVELS: [(Numerics, f64); 5] = [
    (Numerics::Strict, 0.0),
    (Numerics::Default, 3e-6),
    (Numerics::Fast, 1.5e-5),
    (Numerics::Tf32, 1e-3),
    (Numerics::Bf16, 6e-3),
];

/// The same where every layer has these products.
const PRODUCTS: [(Products, f64); 3] =
    [(Products::Bf16x6, 1e-6), (Products::Bf16x3, 1.5e-5), (Products::Bf16, 6e-3)];

struct Case {
    graph: Graph,
    weights: WeightSet,
    batch: usize,
    input: Vec<f32>,
}

/// LeNet-5 reads digits. Its batch is large enough for two threads.
fn cases() -> [Case; 2] {
    let (lenet5, resnet20) = (zoo::lenet5().unwrap(), zoo::find("resnet20-cifar").unwrap().graph().unwrap());
    let digits = Digits::held_out().unwrap().inputs();
    let lenet5 = Case {
        weights: trained_weights(&lenet5).unwrap(),
        graph: lenet5,
        batch: 16,
        input: digits[..16 * 1024].to_vec(),
    };
    let resnet20 = Case {
        weights: common::weights(&resnet20),
        graph: resnet20,
        batch: 2,
        input: common::noise(2 * 3 * 32 * 32, 5),
    };
    [lenet5, resnet20]
}

impl Case {
    fn options(&self, isa: Isa) -> NetOptions {
        NetOptions::default().isa(isa).batch(self.batch).max_threads(2)
    }

    fn strict(&self, isa: Isa) -> Vec<f32> {
        let options = self.options(isa).numerics(Numerics::Strict);
        let mut net = Net::new(&self.graph, &self.weights, &options).unwrap();
        net.run(&self.input, Threads::Seq).unwrap().to_vec()
    }

    /// Checks the distance from `strict`, and the bits of two threads.
    fn check(&self, options: &NetOptions, (strict, bound): (&[f32], f64), pool: &ThreadPool) {
        let mut net = Net::new(&self.graph, &self.weights, options).unwrap();
        let one = net.run(&self.input, Threads::Seq).unwrap().to_vec();
        let (name, NetOptions { isa, numerics, select, .. }) = (self.graph.name(), options);
        let error = common::relative_l2(&one, strict);
        assert!(error <= bound, "{name} on {isa:?}, {numerics}, {select}: {error:e}");
        let two = net.run(&self.input, Threads::Pool(pool)).unwrap();
        assert!(two == one, "{name} on {isa:?}, {numerics}, {select}: other bits with two threads");
    }
}

fn two_threads() -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(2).build().unwrap()
}

#[test]
fn every_level_is_near_the_strict_one() {
    let pool = two_threads();
    for case in cases() {
        for isa in Isa::available() {
            let strict = case.strict(isa);
            for (numerics, bound) in LEVELS {
                case.check(&case.options(isa).numerics(numerics), (&strict, bound), &pool);
            }
        }
    }
}

/// Forced, because the choice depends on the machine.
#[test]
fn all_products_in_every_layer_are_near_the_strict_ones() {
    let pool = two_threads();
    for case in cases() {
        for isa in Isa::available() {
            let strict = case.strict(isa);
            for (products, bound) in PRODUCTS {
                let method = Method::new(Algorithm::Im2colGemm, products);
                case.check(&case.options(isa).select(Select::Force(method)), (&strict, bound), &pool);
            }
        }
    }
}

/// Also in fully connected layers, where the weights are most of the bytes.
#[test]
fn reports_name_the_products() {
    let [case, _] = cases();
    for products in Products::ALL {
        let method = Method::new(Algorithm::Im2colGemm, products);
        let options = case.options(Isa::detect()).select(Select::Force(method));
        let net = CompiledNet::new(&case.graph, &case.weights, &options).unwrap();
        let methods: Vec<Method> = net.steps().filter_map(|step| step.method()).collect();
        assert_eq!(methods, [method; 5]);
        let linear = net.steps().find(|step| step.name == "f6").unwrap();
        let weight = match products {
            Products::Bf16 => 2,
            Products::Bf16x6 => 6,
            _ => 4,
        };
        assert_eq!(linear.bytes, 4 * 16 * (120 + 84) + weight * 120 * 84);
    }
}
