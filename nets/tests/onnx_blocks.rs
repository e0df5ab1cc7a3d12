//! Maps in blocks of 16 channels stay in blocks through operators on tensors, with the results of row-major order.

#[macro_use]
mod model;

use kernels::{Layout, Numerics, Threads};
use model::Attribute::{Int, Ints, Text};
use model::Model;
use nets::import::onnx::{ImportOptions, InputExtents, load_bytes_for};
use nets::{CompiledNet, NetOptions};

fn noise(seed: u64, len: usize) -> Vec<f32> {
    let hash = |i: usize| (i as u64 + seed * 7919).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (0..len).map(|i| hash(i) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// A step down and up: a skip, a resized map beside it, arithmetic, and a part of the channels.
fn model(channels: i64, resized: &[(&str, model::Attribute<'_>)]) -> Vec<u8> {
    let c = channels as usize;
    let weights = |seed: u64, inputs: usize, outputs: usize| {
        let scale = (3.0 / (9 * inputs) as f32).sqrt();
        noise(seed, outputs * inputs * 9).iter().map(|x| x * scale).collect::<Vec<f32>>()
    };
    let pads = [("pads", Ints(&[1, 1, 1, 1]))];
    let half = [("pads", Ints(&[1, 1, 1, 1])), ("strides", Ints(&[2, 2]))];
    Model::new(17, extents!["N", 16, 12, 20])
        .floats("w1", &[channels, 16, 3, 3], &weights(1, 16, c))
        .floats("w2", &[channels, channels, 3, 3], &weights(2, c, c))
        .floats("w3", &[16, channels, 3, 3], &weights(3, c, 16))
        .floats("none", &[0], &[])
        .floats("scales", &[4], &[1.0, 1.0, 2.0, 2.0])
        .floats("shift", &[2 * channels, 1, 1], &noise(4, 2 * c))
        .ints("start", &[channels / 2])
        .ints("end", &[channels / 2 + channels])
        .ints("axis", &[1])
        .node_with("Conv", &["x", "w1"], &["a"], &pads)
        .node_with("Conv", &["a", "w2"], &["b"], &half)
        .node_with("Resize", &["b", "none", "scales"], &["c"], resized)
        .node("Sub", &["a", "c"], &["d"])
        .node_with("Concat", &["d", "c"], &["e"], &[("axis", Int(1))])
        .node("Sub", &["e", "shift"], &["f"])
        .node("Erf", &["f"], &["g"])
        .node("Slice", &["g", "start", "end", "axis"], &["h"])
        .node_with("Conv", &["h", "w3"], &["y"], &pads)
        .done()
}

/// The output for a layout of maps, and what the steps are.
fn run(bytes: &[u8], batch: usize, layout: Layout) -> (Vec<f32>, Vec<String>) {
    let extents = [InputExtents { name: "", dims: &[batch, 16, 12, 20] }];
    let model = load_bytes_for(bytes, "it", &ImportOptions::default(), &extents).unwrap();
    let weights = model.weights.read(&model.graph).unwrap();
    let options = NetOptions::default().batch(batch).layout(layout).numerics(Numerics::Strict);
    let net = CompiledNet::new(&model.graph, &weights, &options).unwrap();
    let (input, mut output) = (noise(9, net.input_len()), vec![f32::NAN; net.output_len()]);
    net.run(&input, &mut output, &mut net.memory().unwrap(), Threads::Seq).unwrap();
    (output, net.steps().map(|step| step.op).collect())
}

#[test]
fn maps_stay_in_blocks_through_operators() {
    let modes: [&[(&str, model::Attribute<'_>)]; 3] = [
        &[("mode", Text("nearest")), ("coordinate_transformation_mode", Text("asymmetric"))],
        &[("mode", Text("linear"))],
        &[("mode", Text("cubic")), ("coordinate_transformation_mode", Text("align_corners"))],
    ];
    for mode in modes {
        for batch in [1, 2] {
            let bytes = model(32, mode);
            let ((blocks, steps), (plain, _)) =
                (run(&bytes, batch, Layout::Nchw16c), run(&bytes, batch, Layout::Nchw));
            let error = blocks.iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(error < 1e-5 && plain.iter().any(|y| y.abs() > 0.1), "batch {batch}: {error}");
            // The input and the output of the network are in NCHW.
            let reordered = steps.iter().filter(|step| *step == "reorder").count();
            assert!(reordered <= 2, "batch {batch}: {steps:?}");
        }
    }
}

#[test]
fn channels_that_do_not_fill_blocks_are_row_major_in_operators() {
    // 24 channels: a block and a half.
    for batch in [1, 2] {
        let bytes = model(24, &[("mode", Text("linear"))]);
        let ((blocks, _), (plain, _)) =
            (run(&bytes, batch, Layout::Nchw16c), run(&bytes, batch, Layout::Nchw));
        let error = blocks.iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error < 1e-5, "batch {batch}: {error}");
    }
}

/// Two outputs that are views of one map in blocks, which is converted once: both are written.
#[test]
fn two_views_of_a_map_are_outputs() {
    for channels in [16, 20] {
        let weights = noise(5, channels * 16 * 9);
        let bytes = Model::new(17, extents!["N", 16, 12, 20])
            .floats("w", &[channels as i64, 16, 3, 3], &weights)
            .ints("rows", &[0, -1, 4])
            .node_with("Conv", &["x", "w"], &["a"], &[("pads", Ints(&[1, 1, 1, 1]))])
            .node("Flatten", &["a"], &["flat"])
            .node("Reshape", &["a", "rows"], &["wide"])
            .outputs(&["flat", "wide"]);
        let extents = [InputExtents { name: "", dims: &[2, 16, 12, 20] }];
        let model = load_bytes_for(&bytes, "it", &ImportOptions::default(), &extents).unwrap();
        let weights = model.weights.read(&model.graph).unwrap();
        let options = NetOptions::default().batch(2).layout(Layout::Nchw16c).all_outputs(true);
        let net = CompiledNet::new(&model.graph, &weights, &options).unwrap();
        let input = noise(9, net.input_len());
        let [mut flat, mut wide] = [0, 1].map(|_| vec![f32::NAN; 2 * channels * 12 * 20]);
        let memory = &mut net.memory().unwrap();
        net.run_all(&[&input], &mut [&mut flat, &mut wide], memory, Threads::Seq).unwrap();
        assert!(flat.iter().all(|x| x.is_finite()), "{channels} channels");
        assert_eq!(flat, wide, "{channels} channels");
    }
}

/// One pixel of a map in blocks is a row of channels, which can be seen as a map of another shape and be read in blocks again.
#[test]
fn one_pixel_becomes_a_map() {
    for (channels, rows) in [(64, 2i64), (80, 1), (48, 1)] {
        let narrow = channels / (2 * rows as usize);
        let bytes = Model::new(17, extents!["N", 16, 12, 20])
            .floats("w", &[channels as i64, 16, 3, 3], &noise(5, channels * 16 * 9))
            .ints("shape", &[0, narrow as i64, rows, 2])
            .floats("v", &[32, narrow as i64, 1, 1], &noise(6, 32 * narrow))
            .node_with("Conv", &["x", "w"], &["a"], &[("pads", Ints(&[1, 1, 1, 1]))])
            .node("GlobalAveragePool", &["a"], &["b"])
            .node("Reshape", &["b", "shape"], &["c"])
            .node("Conv", &["c", "v"], &["y"])
            .done();
        let [(blocked, _), (plain, _)] = [Layout::Nchw16c, Layout::Nchw].map(|layout| run(&bytes, 2, layout));
        let largest = plain.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        for (x, y) in blocked.iter().zip(&plain) {
            // The averages of noise cancel most digits. An element in a wrong place is off by its own size.
            assert!((x - y).abs() <= 1e-4 * largest, "{channels} channels: {x} and {y}");
        }
    }
}
