//! Times each GEMM register tile with operands in cache, and two 1x1 layers, in per cent of the FMA roof
//! measured in the same rounds. Run `cargo bench -p benches --bench tiles`; `-- --test` runs everything once.

use benches::layer::{Layer, Layouts, Memory};
use benches::layers::by_id;
use benches::peak::{self, Arithmetic};
use benches::problem::Problem;
use benches::turns::{Rival, median, take_turns};
use benches::values;
use kernels::internal::{GemmTile, KernelSet};
use kernels::{Algorithm, Isa, Layout, PlanOptions, Threads};
use std::time::Duration;

/// Steps of K: the largest number with which both operands fit into a first-level cache of 48 KB.
fn steps(tile: &GemmTile) -> usize {
    46 * 1024 / size_of::<f32>() / (tile.rows() + tile.columns()) / 32 * 32
}

fn tile<'a>(tile: &'static GemmTile) -> Rival<'a> {
    let (rows, columns, k_len) = (tile.rows(), tile.columns(), steps(tile));
    let (a, b) = (values(k_len * rows, 1), values(k_len * columns, 2));
    let mut c = vec![f32::NAN; rows * columns];
    tile.multiply(k_len, &a, &b, &mut c);
    for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
        let product =
            |k: usize| f64::from(a[k / 16 * (rows * 16) + i * 16 + k % 16]) * f64::from(b[k * columns + j]);
        let (sum, magnitude) = (0..k_len).map(product).fold((0.0, 0.0), |(s, m), p| (s + p, m + p.abs()));
        let error = (f64::from(c[i * columns + j]) - sum).abs();
        assert!(
            error <= k_len as f64 * f64::from(f32::EPSILON) * magnitude,
            "{} is wrong at {i}, {j}",
            tile.name()
        );
    }
    let flops = (2 * k_len * rows * columns) as f64;
    // A call takes well under a microsecond. Many calls per reading hide the cost of the clock.
    const CALLS: usize = 64;
    Rival::new(tile.name(), flops * CALLS as f64, move || {
        for _ in 0..CALLS {
            tile.multiply(k_len, &a, &b, &mut c);
        }
    })
}

fn pointwise(isa: Isa, problem: &Problem) -> Rival<'_> {
    let options = PlanOptions::default().isa(isa).force(Algorithm::Pointwise).max_threads(1);
    let layer = Layer::new(problem, Layouts::same(Layout::Nchw16c), &options, Memory::Warm);
    let mut layer = layer.expect("a pointwise layer");
    layer.run(Threads::Seq);
    layer.assert_right();
    let desc = &problem.desc;
    let name = format!("pointwise_{}x{}_{}_{isa}", desc.input().size(), desc.input().c, desc.output().c);
    Rival::new(name, problem.spec.flops(), move || layer.run(Threads::Seq))
}

fn main() {
    let once = std::env::args().any(|argument| argument == "--test");
    let (rounds, slice) = if once { (1, Duration::ZERO) } else { (25, Duration::from_millis(16)) };
    let layers = ["resnet50.s1.1x1in", "resnet50.s3.1x1in"].map(|id| Problem::with_relu(by_id(id)));
    println!("{:<36} {:>9} {:>9} {:>8}", "kernel", "median", "best", "% roof");
    // The other sets have the `f32` kernels of one of these.
    for isa in Isa::available().filter(|isa| isa.of_f32() == *isa) {
        let Some(set) = KernelSet::get(isa) else { continue };
        let mut rivals: Vec<Rival<'_>> = peak::roof(Arithmetic::Fma, isa).into_iter().collect();
        let has_roof = !rivals.is_empty();
        rivals.extend(set.gemm_tiles().iter().map(tile));
        rivals.extend(layers.iter().map(|problem| pointwise(isa, problem)));
        take_turns(&mut rivals, rounds, slice);
        let roof = if has_roof { rivals[0].median_gflops() } else { f64::NAN };
        for rival in &rivals {
            let (middle, best) = (rival.median_gflops(), rival.best_gflops());
            println!("{:<36} {middle:>9.1} {best:>9.1} {:>8.1}", rival.name, 100.0 * middle / roof);
        }
        if has_roof {
            let seconds = median(&rivals[0].seconds).max(slice.as_secs_f64()) * rounds as f64;
            println!(
                "  roof {roof:.1} GFLOP/s: median of {rounds} rounds, {seconds:.2} s of register-only FMAs\n"
            );
        }
    }
}
