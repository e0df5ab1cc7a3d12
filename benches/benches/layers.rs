//! A cross-section of the networks' layers, warm, on one thread: the library's choice in each layout, and im2col
//! where the choice is another. `cargo bench -p benches --bench layers`; elements per second are FLOP/s.

use benches::layer::Layer;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kernels::{Algorithm, ConvDesc, ConvDescBuilder, Layout, Pad2, PlanOptions, Shape4, Size2, Threads};
use std::time::Duration;

/// Name, channels, side of the image, output channels, side of the kernel, stride, groups; "same" padding.
const LAYERS: [(&str, usize, usize, usize, usize, usize, usize); 8] = [
    ("lenet5.c3", 6, 14, 16, 5, 1, 1),
    ("resnet50.conv1", 3, 224, 64, 7, 2, 1),
    ("resnet50.3x3_64_56", 64, 56, 64, 3, 1, 1),
    ("resnet50.3x3_256_14", 256, 14, 256, 3, 1, 1),
    ("resnet50.1x1_256_64_56", 256, 56, 64, 1, 1, 1),
    ("resnet50.1x1_1024_256_14", 1024, 14, 256, 1, 1, 1),
    ("resnet50.1x1s2_512_1024_28", 512, 28, 1024, 1, 2, 1),
    ("googlenet.5x5_16_32_28", 16, 28, 32, 5, 1, 1),
];

fn layers(criterion: &mut Criterion) {
    for (name, c, side, o, k, stride, groups) in LAYERS {
        let mut group = criterion.benchmark_group(name);
        for layout in Layout::ALL {
            let pad = if name == "lenet5.c3" { 0 } else { k / 2 };
            let builder: ConvDescBuilder =
                ConvDesc::builder(Shape4::new(1, c, side, side), o, Size2::square(k))
                    .stride(Size2::square(stride))
                    .pad(Pad2::all(pad))
                    .groups(groups)
                    .layout(layout);
            let options = PlanOptions::default().max_threads(1);
            let mut rivals = vec![Layer::new(builder, &options)];
            if rivals[0].plan.algorithm() != Algorithm::Im2colGemm {
                rivals.push(Layer::new(builder, &options.force(Algorithm::Im2colGemm)));
            }
            for mut layer in rivals {
                group.throughput(Throughput::Elements(layer.desc().cost().flops));
                let id = BenchmarkId::new(layer.plan.algorithm().name(), layout);
                group.bench_function(id, |bencher| bencher.iter(|| layer.run(Threads::Seq)));
            }
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700));
    targets = layers
}
criterion_main!(benches);
