//! Shared state of the parts of a network's layers, for the thread sanitizer (`.ci/run sanitizers`).
//! Everything happens inside one pool, for the reason in `kernels/tests/races.rs`.

use kernels::Threads;
use nets::{CompiledNet, Init, NetOptions, SeededWeights, Shape, zoo};

#[test]
fn layers_and_passes_are_apart() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    pool.install(|| {
        for (name, input, batch) in [
            ("lenet5", Shape::map(1, 32, 32), 16),
            ("googlenet", Shape::map(3, 64, 64), 2),
            ("resnet18", Shape::map(3, 64, 64), 2),
        ] {
            let graph = zoo::find(name).and_then(|entry| entry.graph_for(input)).unwrap();
            let weights = SeededWeights::new(&graph, Init::He, 1).unwrap();
            let options = NetOptions::default().batch(batch).max_threads(4);
            let net = CompiledNet::new(&graph, &weights, &options).unwrap();
            let input: Vec<f32> = (0..net.input_len()).map(|i| (i % 23) as f32 * 0.1 - 1.0).collect();
            let run = |threads| {
                let mut output = vec![0.0; net.output_len()];
                net.run(&input, &mut output, &mut net.memory().unwrap(), threads).unwrap();
                output
            };
            // Two passes at the same time, each with its own memory, divided among the same threads.
            let (first, second) = rayon::join(|| run(Threads::Current), || run(Threads::Current));
            let alone = run(Threads::Seq);
            assert!(first == alone && second == alone, "{name}");
        }
    });
}
