//! LeNet-5: the published counts, and the forward pass on every instruction set.

mod common;

use kernels::{Isa, Products, Threads};
use nets::digits::{Digits, trained_weights};
use nets::{Init, Net, NetError, NetOptions, Shape, WeightSet, count, zoo};

/// Layer by layer. LeCun et al. 1998, section II.B, states 156 parameters for C1, 48,120 for C5 and 10,164 for F6.
/// With every map connected, C3 has (6 * 25 + 1) * 16 = 2,416. A linear output layer has 84 * 10 + 10.
#[test]
fn counts_are_the_published_ones() {
    let total = count(&zoo::lenet5().unwrap()).unwrap();
    let published = [
        ("c1", 156, 28 * 28 * 6 * 25),
        ("s2", 0, 0),
        ("c3", 2_416, 10 * 10 * 16 * 150),
        ("s4", 0, 0),
        ("c5", 48_120, 120 * 400),
        ("f6", 10_164, 84 * 120),
        ("output", 850, 10 * 84),
    ];
    for (name, params, macs) in published {
        let layer = total.layers.iter().find(|layer| layer.name == name).unwrap();
        assert_eq!((layer.params, layer.macs), (params, macs), "{name}");
    }
    assert_eq!((total.params, total.macs), (61_706, 416_520));
}

#[test]
fn shapes_are_those_of_figure_2() {
    let graph = zoo::lenet5().unwrap();
    let shape = |name| graph.nodes().iter().find(|node| node.name == name).unwrap().output;
    assert_eq!(shape("c1"), Shape::map(6, 28, 28));
    assert_eq!(shape("s2"), Shape::map(6, 14, 14));
    assert_eq!(shape("c3"), Shape::map(16, 10, 10));
    assert_eq!(shape("s4"), Shape::map(16, 5, 5));
    assert_eq!(shape("c5"), Shape::map(120, 1, 1));
    assert_eq!(shape("f6"), Shape::vector(84));
    assert_eq!(graph.output(), Shape::vector(10));
}

#[test]
fn forward_agrees_with_plain_loops_on_every_isa() {
    let graph = zoo::lenet5().unwrap();
    for isa in Isa::available() {
        for batch in [1, 3] {
            common::check(&graph, &NetOptions::default().isa(isa).batch(batch).max_threads(1));
        }
    }
}

#[test]
fn trained_forward_agrees_with_plain_loops() {
    let graph = zoo::lenet5().unwrap();
    let weights = trained_weights(&graph).unwrap();
    let inputs = Digits::held_out().unwrap().inputs();
    for isa in Isa::available() {
        let options = NetOptions::default().isa(isa).batch(8);
        let mut net = Net::new(&graph, &weights, &options).unwrap();
        let images = &inputs[..8 * 1024];
        common::compare(&graph, &weights, images, net.run(images, Threads::Seq).unwrap(), &options);
    }
}

#[test]
fn bits_depend_neither_on_threads_nor_on_the_batch() {
    let graph = zoo::lenet5().unwrap();
    let weights = WeightSet::seeded(&graph, Init::Xavier, 1).unwrap();
    let input = common::noise(15 * 1024, 11);
    let options = NetOptions::default().batch(15).max_threads(8);
    let mut many = Net::new(&graph, &weights, &options).unwrap();
    let alone = many.run(&input, Threads::Seq).unwrap().to_vec();
    for threads in [2, 3, 8] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(many.run(&input, Threads::Pool(&pool)).unwrap(), alone, "{threads} threads");
        let current = pool.install(|| many.run(&input, Threads::Current).unwrap().to_vec());
        assert_eq!(current, alone, "{threads} threads, pool entered by the caller");
    }
}

#[test]
fn every_layer_fuses_its_activation_and_says_how_it_runs() {
    let graph = zoo::lenet5().unwrap();
    let weights = trained_weights(&graph).unwrap();
    let net = Net::new(&graph, &weights, &NetOptions::default()).unwrap();
    let steps: Vec<_> = net.steps().collect();
    let ops: Vec<_> = steps.iter().map(|step| step.op.as_str()).collect();
    let fused =
        ["conv+tanh", "avg_pool", "conv+tanh", "avg_pool", "conv+tanh", "flatten", "linear+tanh", "linear"];
    assert_eq!(ops, fused);
    for step in &steps {
        assert_eq!(step.kernel.is_some(), step.macs > 0, "{}", step.name);
        let isa = if step.products == Some(Products::F32) { net.isa().of_f32() } else { net.isa() };
        assert!(step.kernel.is_none_or(|kernel| kernel.ends_with(isa.name())), "{step:?}");
    }
    assert_eq!(steps.iter().map(|step| step.params).sum::<u64>(), net.count().params);
    assert_eq!(steps.iter().map(|step| step.macs).sum::<u64>(), net.count().macs);
}

#[test]
fn held_out_digits_are_read() {
    let graph = zoo::lenet5().unwrap();
    let digits = Digits::held_out().unwrap();
    assert_eq!(digits.len(), 1000);
    for class in 0..10 {
        assert_eq!(digits.labels().iter().filter(|&&label| label == class).count(), 100, "digit {class}");
    }
    let mut net =
        Net::new(&graph, &trained_weights(&graph).unwrap(), &NetOptions::default().batch(1000)).unwrap();
    let inputs = digits.inputs();
    let logits = net.run(&inputs, Threads::Seq).unwrap();
    let best = |logits: &[f32]| (0..10).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
    let right =
        logits.chunks(10).zip(digits.labels()).filter(|(l, label)| best(l) == usize::from(**label)).count();
    assert!(right >= 980, "{right} of 1000");
}

#[test]
fn wrong_input_length_is_an_error() {
    let graph = zoo::lenet5().unwrap();
    let weights = trained_weights(&graph).unwrap();
    let mut net = Net::new(&graph, &weights, &NetOptions::default().batch(2)).unwrap();
    let error = net.run(&[0.0; 1024], Threads::Seq).unwrap_err();
    assert!(matches!(error, NetError::InputLen { expected: 2048, got: 1024, .. }), "{error}");
    assert_eq!(error.to_string(), "input: expected 2048 elements (2 x 1x32x32), got 1024");
}

#[test]
fn absurd_options_are_errors() {
    let graph = zoo::lenet5().unwrap();
    let weights = trained_weights(&graph).unwrap();
    let plan =
        |options: NetOptions| Net::new(&graph, &weights, &options).err().expect("an error").to_string();
    assert_eq!(plan(NetOptions::default().batch(0)), "batch: expected at least 1, got 0");
    assert_eq!(plan(NetOptions::default().max_threads(0)), "threads: expected at least 1, got 0");
    for batch in [1 << 24, 1 << 40, usize::MAX] {
        let message = plan(NetOptions::default().batch(batch));
        assert!(message.starts_with("activations of network `lenet5`"), "{message}");
        assert!(message.contains("expected at most 4.0 GiB"), "{message}");
    }
    if let Some(missing) =
        [Isa::Neon, Isa::Avx512F].into_iter().find(|isa| Isa::available().all(|i| i != *isa))
    {
        assert!(plan(NetOptions::default().isa(missing)).starts_with("instruction set"));
    }
}
