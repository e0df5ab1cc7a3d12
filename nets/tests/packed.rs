//! Packed weights of a network: shared with another batch, and in a file.

use kernels::{Algorithm, Method, Numerics, PackedError, Products, Select, Threads};
use nets::{CompiledNet, Init, NetError, NetOptions, PackedWeights, SeededWeights, WeightSet, zoo};

fn run(net: &CompiledNet) -> Vec<f32> {
    let input: Vec<f32> = (0..net.input_len()).map(|i| (i % 23) as f32 * 0.05).collect();
    let mut output = vec![f32::NAN; net.output_len()];
    net.run(&input, &mut output, &mut net.memory().unwrap(), Threads::Seq).unwrap();
    output
}

/// The bits of a network that is compiled with packed weights are those of one that packs them.
#[test]
fn networks_compiled_with_packed_weights_give_the_same_bits() {
    for name in ["lenet5", "resnet20-cifar", "inception"] {
        let graph = zoo::find(name).unwrap().graph().unwrap();
        let weights = SeededWeights::new(&graph, Init::He, 3).unwrap();
        let options = NetOptions::default().max_threads(1);
        let net = CompiledNet::new(&graph, &weights, &options).unwrap();
        let packed = net.packed_weights(&graph, &weights).unwrap();
        // The weights of layers whose packed form is shared count once.
        assert!(packed.bytes() > 0 && packed.bytes() <= net.packed_bytes(), "{name}");
        let mut file = Vec::new();
        packed.write(&mut file).unwrap();
        let read = PackedWeights::read(&mut &file[..]).unwrap();
        for packed in [&packed, &read] {
            let again = CompiledNet::with_packed(&graph, &weights, &options, packed).unwrap();
            assert!(run(&again) == run(&net), "{name}");
        }
        let two = options.batch(2);
        let (packed, own) = (
            CompiledNet::with_packed(&graph, &weights, &two, &read).unwrap(),
            CompiledNet::new(&graph, &weights, &two).unwrap(),
        );
        // Another batch may have other algorithms, and so other bits.
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
        assert!(run(&packed).iter().zip(&run(&own)).all(close), "{name}");
    }
}

/// Weights that are packed for products of bf16 are not used at a stricter level.
#[test]
fn packed_weights_of_a_looser_level_are_packed_anew() {
    let graph = zoo::find("resnet20-cifar").unwrap().graph().unwrap();
    let weights = SeededWeights::new(&graph, Init::He, 3).unwrap();
    let strict = NetOptions::default().max_threads(1).numerics(Numerics::Strict);
    let bf16 = strict.select(Select::Force(Method::new(Algorithm::Im2colGemm, Products::Bf16)));
    let packed = CompiledNet::new(&graph, &weights, &bf16).unwrap().packed_weights(&graph, &weights).unwrap();
    let again = CompiledNet::with_packed(&graph, &weights, &bf16, &packed).unwrap();
    assert!(again.steps().filter_map(|step| step.products).all(|products| products == Products::Bf16));
    let again = CompiledNet::with_packed(&graph, &weights, &strict, &packed).unwrap();
    assert!(again.steps().filter_map(|step| step.products).all(|products| products == Products::F32));
    assert!(run(&again) == run(&CompiledNet::new(&graph, &weights, &strict).unwrap()));
}

#[test]
fn packed_weights_of_others_and_damaged_files_are_refused() {
    let graph = zoo::find("lenet5").unwrap().graph().unwrap();
    let (weights, other) = [1, 2].map(|seed| WeightSet::seeded(&graph, Init::Xavier, seed).unwrap()).into();
    let options = NetOptions::default();
    let net = CompiledNet::new(&graph, &weights, &options).unwrap();
    let packed = net.packed_weights(&graph, &weights).unwrap();
    let refused = CompiledNet::with_packed(&graph, &other, &options, &packed).err();
    assert!(
        matches!(refused, Some(NetError::Packed { cause: PackedError::OtherWeights, .. })),
        "{refused:?}"
    );

    let mut file = Vec::new();
    packed.write(&mut file).unwrap();
    for at in (0..2000).chain((2000..file.len()).step_by(499)) {
        file[at] ^= 0x10;
        let read = PackedWeights::read(&mut &file[..]);
        // What is before the first layer is checked against the network: its name, and the fingerprint of the weights.
        let refused = read.and_then(|packed| CompiledNet::with_packed(&graph, &weights, &options, &packed));
        // A layer whose name has changed is packed anew.
        if let Ok(net) = refused {
            assert!(run(&net) == run(&CompiledNet::new(&graph, &weights, &options).unwrap()), "byte {at}");
        }
        file[at] ^= 0x10;
    }
    for len in (0..200).chain((200..file.len()).step_by(997)) {
        assert!(PackedWeights::read(&mut &file[..len]).is_err(), "{len} bytes");
    }
}
