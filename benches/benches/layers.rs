//! Times a cross-section of the list of layers, warm, on one thread, with bias and ReLU. Each layer runs with the
//! library's choice in every layout, and with im2col if the choice differs. Run `cargo bench -p benches --bench
//! layers`; elements per second are FLOP/s. The program `shootout` compares all layers with roofs and peers.

use benches::layer::{Layer, Layouts, Memory};
use benches::layers::{SAMPLE, by_id};
use benches::problem::Problem;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kernels::{Algorithm, Layout, Method, PlanOptions, Threads};
use std::time::Duration;

fn layers(criterion: &mut Criterion) {
    for id in SAMPLE {
        let problem = Problem::with_relu(by_id(id));
        let mut group = criterion.benchmark_group(id);
        for layout in Layout::ALL {
            let options = PlanOptions::default().max_threads(1);
            let planned = |options: &PlanOptions| {
                let layer = Layer::new(&problem, Layouts::same(layout), options, Memory::Warm);
                let mut layer = layer.unwrap_or_else(|error| panic!("{id}: {error}"));
                layer.run(Threads::Seq);
                layer.assert_right();
                layer
            };
            let mut rivals = vec![planned(&options)];
            if rivals[0].methods() != [Method::from(Algorithm::Im2colGemm)] {
                rivals.push(planned(&options.force(Algorithm::Im2colGemm)));
            }
            for mut layer in rivals {
                group.throughput(Throughput::Elements(problem.desc.cost().flops));
                let bench = BenchmarkId::new(layer.method(), layout);
                group.bench_function(bench, |bencher| bencher.iter(|| layer.run(Threads::Seq)));
            }
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(700));
    targets = layers
}
criterion_main!(benches);
