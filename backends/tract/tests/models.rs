//! Small models with everything that stands between convolutions, and the ways to call the transformation.

mod builder;
mod common;

use builder::{Builder, POINT, SAME, image};
use common::{Numbers, PROMISED, check, check_with, distance};
use convkernels_tract::{NAME, Options, accelerate, accelerate_with_report};
use kernels::{Algorithm, Method, Numerics, PlanOptions, Products};
use tract_core::internal::*;
use tract_core::ops::array::{Slice, TypedConcat};
use tract_core::ops::cnn::{Conv, Deconv, KernelFormat, MaxPool, SumPool};
use tract_core::ops::nn::{NearestUpsample, Reduce, Reducer};
use tract_core::ops::{math, nn};
use tract_core::transform::get_transform;

fn deconv(b: &mut Builder, wire: OutletId, outs: usize) -> OutletId {
    let pool_spec = b.spec(wire, outs, (2, 2, 0));
    let kernel = b.numbers.tensor(&[outs, pool_spec.input_channels, 2, 2]);
    let bias = b.numbers.tensor(&[outs]);
    let (kernel, bias) = (b.constant(kernel), b.constant(bias));
    let op = Deconv { pool_spec, kernel_format: KernelFormat::OIHW, adjustments: tvec!(0, 0), group: 1 };
    b.wire(op, &[wire, kernel, bias])
}

#[test]
fn a_residual_block_is_three_layers() {
    let mut b = Builder::new();
    let x = b.input([2, 24, 9, 11]);
    let first = b.conv(x, 24, SAME, 1);
    let first = b.relu(first);
    let second = b.conv(first, 24, SAME, 1);
    let sum = b.wire(math::add(), &[first, second]);
    let sum = b.relu(sum);
    let third = b.conv(sum, 5, POINT, 1);
    let report = check(b.build(&[third]), &[image(&[2, 24, 9, 11])]);
    assert_eq!(report.replaced.len(), 3, "{report}");
    assert!(report.replaced.iter().any(|layer| layer.layer.contains("residual, relu")), "{report}");
    assert!(report.fell_back.is_empty(), "{report}");
}

#[test]
fn squeeze_and_excite_stays_in_blocks() {
    for plus_one in [false, true] {
        let mut b = Builder::new();
        let x = b.input([3, 8, 12, 10]);
        let x = b.conv(x, 40, SAME, 1);
        let x = b.wire(nn::silu::silu(), &[x]);
        let sum = b.wire(Reduce::new(tvec!(2, 3), Reducer::Sum), &[x]);
        let pixels = b.scalar(1.0 / 120.0);
        let mean = b.wire(math::mul(), &[sum, pixels]);
        let squeezed = b.conv(mean, 6, POINT, 1);
        let squeezed = b.relu(squeezed);
        let gate = b.conv(squeezed, 40, POINT, 1);
        let gate = b.wire(nn::sigmoid(), &[gate]);
        let scaled = b.wire(math::mul(), &[x, gate]);
        let scaled = if plus_one { b.wire(math::add(), &[x, scaled]) } else { scaled };
        let last = b.conv(scaled, 8, POINT, 1);
        let report = check(b.build(&[last]), &[image(&[3, 8, 12, 10])]);
        // Only the output of the model is copied to a plain tensor.
        assert_eq!((report.replaced.len(), report.reorders), (6, 1), "{report}");
    }
}

#[test]
fn pooling_in_blocks_agrees() {
    let average = |pool_spec, count_include_pad| SumPool { pool_spec, count_include_pad, normalize: true };
    for (kernel, stride, pad) in [(2, 2, 0), (3, 2, 1), (3, 1, 1), (5, 3, 2)] {
        let mut b = Builder::new();
        let x = b.input([1, 3, 17, 19]);
        let x = b.conv(x, 20, SAME, 1);
        let spec = b.spec(x, 20, (kernel, stride, pad));
        let max = b.wire(MaxPool { pool_spec: spec.clone(), with_index_outputs: None }, &[x]);
        let with_pad = b.wire(average(spec.clone(), true), &[x]);
        let without_pad = b.wire(average(spec, false), &[x]);
        let outputs = [max, with_pad, without_pad].map(|x| b.conv(x, 4, SAME, 1));
        let report = check(b.build(&outputs), &[image(&[1, 3, 17, 19])]);
        assert_eq!(report.replaced.len(), 7, "{report}");
    }
}

#[test]
fn concatenations_slices_and_upsampling_agree() {
    for (first, second) in [(32, 20), (20, 32)] {
        let mut b = Builder::new();
        let x = b.input([2, 5, 6, 7]);
        let (left, right) = (b.conv(x, first, SAME, 1), b.conv(x, second, SAME, 1));
        let both = b.wire(TypedConcat { axis: 1 }, &[left, right]);
        let last = b.conv(both, 8, POINT, 1);
        let slice = b.wire(Slice::new(1, 16, 40), &[both]);
        let slice = b.conv(slice, 8, POINT, 1);
        let large = b.wire(NearestUpsample { scales: tvec!(1, 1, 2, 3) }, &[both]);
        let large = b.conv(large, 17, SAME, 1);
        let report = check(b.build(&[last, slice, large]), &[image(&[2, 5, 6, 7])]);
        assert!(report.fell_back.is_empty(), "{report}");
    }
}

#[test]
fn transposed_convolutions_agree() {
    for outs in [1, 7, 8, 16, 24] {
        let mut b = Builder::new();
        let x = b.input([2, 3, 5, 6]);
        let x = b.conv(x, 16, SAME, 1);
        let x = deconv(&mut b, x, outs);
        let scale = b.numbers.tensor(&[1, outs, 1, 1]);
        let scale = b.constant(scale);
        let x = b.wire(math::mul(), &[x, scale]);
        let x = b.relu(x);
        let y = b.conv(x, 4, SAME, 1);
        let report = check(b.build(&[x, y]), &[image(&[2, 3, 5, 6])]);
        assert!(report.fell_back.is_empty(), "{report}");
    }
}

#[test]
fn a_transposed_convolution_takes_a_residual() {
    let mut b = Builder::new();
    let x = b.input([2, 3, 5, 6]);
    let x = b.conv(x, 16, SAME, 1);
    let skip = deconv(&mut b, x, 20);
    let y = deconv(&mut b, x, 20);
    let sum = b.wire(math::add(), &[y, skip]);
    let sum = b.relu(sum);
    let last = b.conv(sum, 4, SAME, 1);
    let report = check(b.build(&[last]), &[image(&[2, 3, 5, 6])]);
    assert!(report.fell_back.is_empty(), "{report}");
    let fused = |layer: &str| layer.contains("transposed convolution") && layer.contains("residual, relu");
    assert!(report.replaced.iter().any(|replaced| fused(&replaced.layer)), "{report}");
}

#[test]
fn hard_swish_of_its_parts_is_fused() {
    let mut b = Builder::new();
    let x = b.input([1, 6, 8, 8]);
    let x = b.conv(x, 18, SAME, 18 / 3);
    let (three, zero, six, sixth) = (b.scalar(3.0), b.scalar(0.0), b.scalar(6.0), b.scalar(1.0 / 6.0));
    let gate = b.wire(math::add(), &[x, three]);
    let gate = b.wire(math::max(), &[gate, zero]);
    let gate = b.wire(math::min(), &[gate, six]);
    let x = b.wire(math::mul(), &[x, gate]);
    let x = b.wire(math::mul(), &[x, sixth]);
    let report = check(b.build(&[x]), &[image(&[1, 6, 8, 8])]);
    assert_eq!(report.replaced.len(), 1, "{report}");
    assert!(report.replaced[0].layer.ends_with("hard_swish"), "{report}");
}

#[test]
fn a_tensor_that_is_an_output_is_not_fused_away() {
    let mut b = Builder::new();
    let x = b.input([1, 4, 6, 6]);
    let conv = b.conv(x, 16, SAME, 1);
    let relu = b.relu(conv);
    let last = b.conv(relu, 16, SAME, 1);
    check(b.build(&[conv, relu, last]), &[image(&[1, 4, 6, 6])]);
}

#[test]
fn one_model_takes_many_sizes() {
    let mut b = Builder::new();
    let (n, s) = (b.model.symbols.sym("N"), b.model.symbols.sym("S"));
    let x = b.input(&[n.to_dim(), 3.to_dim(), s.to_dim(), 20.to_dim()]);
    let x = b.conv(x, 16, (3, 2, 1), 1);
    let x = b.relu(x);
    let x = b.conv(x, 32, SAME, 16);
    let sum = b.wire(Reduce::new(tvec!(2, 3), Reducer::Sum), &[x]);
    let model = b.build(&[x, sum]);
    let inputs: Vec<TVec<Tensor>> =
        [(1, 8), (4, 9), (1, 31), (2, 8), (1, 8)].iter().map(|(n, s)| image(&[*n, 3, *s, 20])).collect();
    // A cache of one plan makes every change of the shape plan again.
    for plans in [1, 32] {
        let mut options = Options::default();
        options.plans = plans;
        let report = check_with(model.clone(), &options, &inputs);
        assert!(report.fell_back.is_empty(), "{report}");
    }
}

#[test]
fn an_empty_batch_gives_an_empty_output() {
    let mut b = Builder::new();
    let n = b.model.symbols.sym("N");
    let x = b.input(&[n.to_dim(), 3.to_dim(), 8.to_dim(), 8.to_dim()]);
    let x = b.conv(x, 16, SAME, 1);
    let x = b.relu(x);
    let x = b.conv(x, 16, SAME, 1);
    let model = accelerate(b.build(&[x]), &Options::default()).unwrap();
    let runnable = model.into_optimized().unwrap().into_runnable().unwrap();
    let output = runnable.run(tvec!(Tensor::zero::<f32>(&[0, 3, 8, 8]).unwrap().into_tvalue())).unwrap();
    assert_eq!(output[0].shape(), [0, 16, 8, 8]);
}

#[test]
fn what_cannot_be_taken_is_reported() {
    let mut b = Builder::new();
    let x = b.input([1, 4, 6, 6]);
    let kernel = b.input([8, 4, 3, 3]);
    let bias = b.constant(tensor0(0f32));
    let pool_spec = b.spec(x, 8, SAME);
    let op = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: 1, q_params: None };
    let variable = b.wire(op, &[x, kernel, bias]);
    let excluded = b.conv(x, 8, SAME, 1);
    let name = b.model.node(excluded.node).name.clone();
    let model = b.build(&[variable, excluded]);
    let mut options = Options::default();
    options.exclude.push(name);
    let inputs = tvec!(Numbers::new(1).tensor(&[1, 4, 6, 6]), Numbers::new(2).tensor(&[8, 4, 3, 3]));
    let report = check_with(model, &options, &[inputs]);
    let mut reasons: Vec<&str> = report.fell_back.iter().map(|node| node.reason.as_str()).collect();
    reasons.sort();
    assert_eq!(reasons, ["excluded by the options", "the weights are not constant"]);
    assert!(report.replaced.is_empty(), "{report}");
    assert!(report.to_string().contains("the weights are not constant"));
}

/// A network with two layers, and its input.
fn network() -> (TypedModel, Tensor) {
    let mut b = Builder::new();
    let x = b.input([1, 3, 40, 40]);
    let x = b.conv(x, 32, SAME, 1);
    let x = b.relu(x);
    let x = b.conv(x, 32, SAME, 1);
    (b.build(&[x]), Numbers::new(5).tensor(&[1, 3, 40, 40]))
}

#[test]
fn many_threads_run_one_model() {
    let (model, input) = network();
    let model = accelerate(model, &Options::default()).unwrap();
    let runnable = model.into_optimized().unwrap().into_runnable().unwrap();
    let run = || runnable.run(tvec!(input.clone().into_tvalue())).unwrap().remove(0);
    let expected = run();
    std::thread::scope(|scope| {
        let runs: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..20).map(|_| run()).collect::<Vec<_>>())).collect();
        for output in runs.into_iter().flat_map(|run| run.join().unwrap()) {
            assert_eq!(output, expected);
        }
    });
}

#[cfg(feature = "multithread")]
#[test]
fn every_executor_agrees() {
    use tract_linalg::multithread::{Executor, multithread_tract_scope};
    let (model, input) = network();
    let model = accelerate(model, &Options::default()).unwrap();
    let runnable = model.into_optimized().unwrap().into_runnable().unwrap();
    let run = |executor| {
        multithread_tract_scope(executor, || runnable.run(tvec!(input.clone().into_tvalue())).unwrap())
    };
    let expected = run(Executor::SingleThread);
    for executor in [Executor::multithread(1), Executor::multithread(3), Executor::RayonGlobal] {
        let output = run(executor);
        assert!(distance(&output[0], &expected[0]) <= PROMISED);
    }
}

#[test]
fn tract_finds_the_transformation_by_its_name() {
    let (mut model, input) = network();
    let plain = model.clone().into_optimized().unwrap().into_runnable().unwrap();
    let transform = get_transform(NAME).unwrap().expect("the transformation is registered");
    model.transform(&*transform).unwrap();
    assert!(model.nodes().iter().any(|node| node.op.name().starts_with("Convkernels")));
    let runnable = model.into_optimized().unwrap().into_runnable().unwrap();
    let (with, without) =
        (runnable.run(tvec!(input.clone().into_tvalue())), plain.run(tvec!(input.into_tvalue())));
    assert!(distance(&with.unwrap()[0], &without.unwrap()[0]) <= PROMISED);
}

/// Two layers, each with the error that a level of numerics promises.
#[test]
fn layers_have_the_numerics_and_the_products_of_the_options() {
    let (model, input) = network();
    let run = |model: TypedModel| {
        let runnable = model.into_optimized().unwrap().into_runnable().unwrap();
        runnable.run(tvec!(input.clone().into_tvalue())).unwrap().remove(0)
    };
    let without = run(model.clone());
    let with = |plan: PlanOptions| {
        let mut options = Options::default();
        options.plan = plan;
        let (model, report) = accelerate_with_report(model.clone(), &options).unwrap();
        assert_eq!(report.replaced.len(), 2, "{report}");
        distance(&run(model), &without)
    };
    let forced = |products| with(PlanOptions::default().force(Method::new(Algorithm::Im2colGemm, products)));
    for (numerics, promised) in [(Numerics::Tf32, 5e-4), (Numerics::Bf16, 4e-3)] {
        let distance = with(PlanOptions::default().numerics(numerics));
        assert!(distance <= 2.0 * promised, "{numerics}: {distance:e}");
    }
    assert!(forced(Products::Bf16x6) <= PROMISED);
    let distance = forced(Products::Bf16);
    assert!(distance > 5e-4 && distance <= 8e-3, "{distance:e}");
}

#[test]
fn blocks_can_be_switched_off() {
    let (model, input) = network();
    let mut options = Options::default();
    options.blocks = false;
    let (_, report) = accelerate_with_report(model.clone(), &options).unwrap();
    assert_eq!((report.replaced.len(), report.reorders), (2, 0));
    check_with(model, &options, &[tvec!(input)]);
}
