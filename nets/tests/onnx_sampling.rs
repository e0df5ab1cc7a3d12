//! Grid sampling, deformable convolution, sums of windows and attention equal loops in `f64`, written from the definitions.

#[macro_use]
mod model;

use kernels::Threads;
use model::Attribute::{Float, Int, Ints, Text};
use model::{Attribute, Model};
use nets::import::onnx::{ImportOptions, load_bytes};
use nets::{Net, NetOptions, count};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

/// Numbers from -1.5 to 1.5.
fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = Pcg64::new(seed.into(), 1);
    (0..len).map(|_| (f64::from(rng.next_u32()) / f64::from(u32::MAX) * 3.0 - 1.5) as f32).collect()
}

/// The output of a model, and its multiply-accumulates for its own batch.
fn run(bytes: &[u8], batch: usize, x: &[f32]) -> (Vec<f32>, u64) {
    let model = load_bytes(bytes, "it", &ImportOptions::default().strict(true)).unwrap();
    let weights = model.weights.read(&model.graph).unwrap();
    let mut net = Net::new(&model.graph, &weights, &NetOptions::default().batch(batch)).unwrap();
    (net.run(x, Threads::Seq).unwrap().to_vec(), count(&model.graph).unwrap().macs)
}

/// The largest difference is a few roundings of sums of `terms` products below 10.
fn assert_close(got: &[f32], expected: &[f64], terms: usize, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let most = 10.0 * f64::from(f32::EPSILON) * (terms as f64 + 4.0);
    for (number, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        assert!((f64::from(got) - expected).abs() <= most, "{what}: element {number}: {got}, not {expected}");
    }
    assert!(expected.iter().any(|value| value.abs() > 0.1), "{what}: nearly all is 0");
}

/// Reflects at both limits, one after the other.
fn reflect(mut x: f64, (lo, hi): (f64, f64)) -> f64 {
    while x < lo || x > hi {
        x = if x < lo { 2.0 * lo - x } else { 2.0 * hi - x };
    }
    x
}

/// Keys' cubic kernel with a = -0.75.
fn keys(distance: f64) -> f64 {
    let (d, a) = (distance.abs(), -0.75);
    match d {
        d if d < 1.0 => (a + 2.0) * d.powi(3) - (a + 3.0) * d.powi(2) + 1.0,
        d if d < 2.0 => a * d.powi(3) - 5.0 * a * d.powi(2) + 8.0 * a * d - 4.0 * a,
        _ => 0.0,
    }
}

#[derive(Clone, Copy, Debug)]
struct Sampling<'a> {
    mode: &'a str,
    padding: &'a str,
    align: bool,
}

impl Sampling<'_> {
    /// The weight of every element of an axis for a coordinate from -1 to 1.
    fn weights(self, at: f32, extent: usize) -> Vec<f64> {
        let (n, at) = (extent as f64, f64::from(at));
        let x = if self.align { (at + 1.0) / 2.0 * (n - 1.0) } else { ((at + 1.0) * n - 1.0) / 2.0 };
        let x = if self.mode == "nearest" { x.round_ties_even() } else { x };
        let limits = if self.align { (0.0, n - 1.0) } else { (-0.5, n - 0.5) };
        let outside = x < limits.0 || x > limits.1;
        let x = match self.padding {
            "border" if outside && !self.mode.ends_with("cubic") => x.clamp(0.0, n - 1.0),
            "reflection" if outside => reflect(x, limits),
            _ => x,
        };
        let mut weights = vec![0.0; extent];
        let first = x.floor() as i64;
        for index in first - 2..=first + 3 {
            let distance = x - index as f64;
            let weight = match self.mode {
                "nearest" => f64::from(u8::from(distance == 0.0)),
                "linear" | "bilinear" => (1.0 - distance.abs()).max(0.0),
                _ => keys(distance),
            };
            let place = match self.padding {
                "border" => index.clamp(0, extent as i64 - 1),
                "reflection" => reflect(index as f64, limits) as i64,
                _ => index,
            };
            if let Some(sum) = usize::try_from(place).ok().and_then(|place| weights.get_mut(place)) {
                *sum += weight;
            }
        }
        weights
    }
}

/// Grid sampling of planes `[planes, rows, columns]` by one grid for each `per_grid` planes.
fn sampled(
    how: Sampling<'_>,
    x: &[f32],
    [rows, columns]: [usize; 2],
    grid: &[f32],
    per_grid: usize,
) -> Vec<f64> {
    let planes = x.len() / (rows * columns);
    let places = grid.len() / 2 * per_grid / planes;
    let mut output = Vec::new();
    for plane in 0..planes {
        for place in 0..places {
            let at = 2 * (plane / per_grid * places + place);
            let (across, down) = (how.weights(grid[at], columns), how.weights(grid[at + 1], rows));
            let mut sum = 0.0;
            for (row, &factor) in down.iter().enumerate() {
                for (column, &weight) in across.iter().enumerate() {
                    sum += factor * weight * f64::from(x[(plane * rows + row) * columns + column]);
                }
            }
            output.push(sum);
        }
    }
    output
}

#[test]
fn grids_of_pictures_are_sampled_in_every_mode() {
    let (x, grid) = (random(1, 2 * 3 * 5 * 4), random(2, 2 * 3 * 6 * 2));
    for (opset, modes) in [(16, ["bilinear", "nearest", "bicubic"]), (20, ["linear", "nearest", "cubic"])] {
        for mode in modes {
            for padding in ["zeros", "border", "reflection"] {
                for align in [false, true] {
                    let how = Sampling { mode, padding, align };
                    let attributes = [
                        ("mode", Text(mode)),
                        ("padding_mode", Text(padding)),
                        ("align_corners", Int(align.into())),
                    ];
                    let model = Model::new(opset, extents![2, 3, 5, 4]).floats("g", &[2, 3, 6, 2], &grid);
                    let bytes = model.node_with("GridSample", &["x", "g"], &["y"], &attributes).done();
                    let (got, _) = run(&bytes, 2, &x);
                    assert_close(&got, &sampled(how, &x, [5, 4], &grid, 3), 16, &format!("{how:?}"));
                }
            }
        }
    }
}

#[test]
fn a_grid_can_be_an_input_and_an_image_a_volume() {
    // The places of a volume begin with the last axis. Each is the centre of an element.
    let x = random(3, 2 * 3 * 4);
    let centre = |index: usize, extent: usize| (2 * index + 1) as f32 / extent as f32 - 1.0;
    let order = [23usize, 0, 7, 12];
    let grid: Vec<f32> =
        order.iter().flat_map(|&i| [centre(i % 4, 4), centre(i / 4 % 3, 3), centre(i / 12, 2)]).collect();
    let model = Model::new(20, extents![1, 1, 2, 3, 4]).input("g", extents![1, 1, 2, 2, 3]);
    let bytes = model.node_with("GridSample", &["x", "g"], &["y"], &[("mode", Text("linear"))]).done();
    let model = load_bytes(&bytes, "it", &ImportOptions::default()).unwrap();
    let weights = model.weights.read(&model.graph).unwrap();
    let net = nets::CompiledNet::new(&model.graph, &weights, &NetOptions::default()).unwrap();
    let mut output = vec![0.0; 4];
    net.run_all(&[&x, &grid], &mut [&mut output], &mut net.memory().unwrap(), Threads::Seq).unwrap();
    let expected: Vec<f64> = order.iter().map(|&i| f64::from(x[i])).collect();
    assert_close(&output, &expected, 8, "a volume");
}

#[test]
fn windows_are_added_at_their_places() {
    let (image, kernel, stride, dilation, pads) =
        ([6usize, 7], [2usize, 3], [2, 1], [1, 2], [1usize, 0, 0, 2]);
    let (rows, columns) = ((6 + 1 - 2) / 2 + 1, 7 + 2 - 5 + 1);
    let x = random(4, 2 * 12 * rows * columns);
    let mut expected = vec![0.0f64; 2 * 2 * 42];
    for (number, &value) in x.iter().enumerate() {
        let (window, channel) = (number % (rows * columns), number / (rows * columns));
        let (tap, plane) = (channel % 6, channel / 6);
        let y = (window / columns * stride[0] + tap / 3 * dilation[0]).checked_sub(pads[0]);
        let place = (y, window % columns * stride[1] + tap % 3 * dilation[1]);
        if let (Some(y), x) = place
            && y < image[0]
            && x < image[1]
        {
            expected[(plane * image[0] + y) * image[1] + x] += f64::from(value);
        }
    }
    let ints = |values: &[usize]| values.iter().map(|&value| value as i64).collect::<Vec<_>>();
    let attributes = [
        ("strides", Ints(&ints(&stride))),
        ("dilations", Ints(&ints(&dilation))),
        ("pads", Ints(&ints(&pads))),
    ];
    let model = Model::new(18, extents![2, 12, (rows * columns) as i64]);
    let model = model.ints("image", &ints(&image)).ints("block", &ints(&kernel));
    let bytes = model.node_with("Col2Im", &["x", "image", "block"], &["y"], &attributes).done();
    let (got, macs) = run(&bytes, 2, &x);
    assert_close(&got, &expected, 6, "Col2Im");
    assert_eq!(macs, 0);
}

/// A deformable convolution of 4 channels of 5x6 in 2 groups with 2 offset groups: 6 filters of 3x2, stride 2x1, padding 1
/// at the top and the left, dilation 1x2.
fn deformed(x: &[f32], filter: &[f32], offsets: &[f32], (bias, mask): (&[f32], Option<&[f32]>)) -> Vec<f64> {
    let (rows, columns) = (2usize, 5usize);
    let pixel = |channel: usize, y: i64, x_at: i64| match (0..5).contains(&y) && (0..6).contains(&x_at) {
        true => f64::from(x[(channel * 5 + y as usize) * 6 + x_at as usize]),
        false => 0.0,
    };
    let mut output = Vec::new();
    for filter_at in 0..6 {
        for place in 0..rows * columns {
            let mut sum = f64::from(bias[filter_at]);
            for channel in 0..2 {
                let from = filter_at / 3 * 2 + channel;
                for tap in 0..6 {
                    let number = from / 2 * 6 + tap;
                    let shift =
                        |axis: usize| f64::from(offsets[(2 * number + axis) * rows * columns + place]);
                    let y = (place / columns * 2 + tap / 2) as f64 - 1.0 + shift(0);
                    let x = (place % columns + tap % 2 * 2) as f64 - 1.0 + shift(1);
                    let (top, left) = (y.floor(), x.floor());
                    let mut value = 0.0;
                    for (dy, dx) in [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)] {
                        let weight = (1.0 - (y - top - dy).abs()) * (1.0 - (x - left - dx).abs());
                        value += weight * pixel(from, (top + dy) as i64, (left + dx) as i64);
                    }
                    let factor = mask.map_or(1.0, |mask| f64::from(mask[number * rows * columns + place]));
                    sum += f64::from(filter[(filter_at * 2 + channel) * 6 + tap]) * factor * value;
                }
            }
            output.push(sum);
        }
    }
    output
}

#[test]
fn taps_of_a_convolution_are_displaced_and_masked() {
    let (x, filter, bias) = (random(5, 120), random(6, 72), random(7, 6));
    let (offsets, mask) = (random(8, 24 * 10), random(9, 12 * 10));
    let attributes: [(&str, Attribute<'_>); 5] = [
        ("strides", Ints(&[2, 1])),
        ("pads", Ints(&[1, 1, 0, 0])),
        ("dilations", Ints(&[1, 2])),
        ("group", Int(2)),
        ("offset_group", Int(2)),
    ];
    let none = vec![0.0; 6];
    for (bias, mask) in [(&none, None), (&bias, Some(&mask[..])), (&bias, None)] {
        let mut model = Model::new(19, extents![1, 4, 5, 6]).floats("w", &[6, 2, 3, 2], &filter);
        model = model.floats("o", &[1, 24, 2, 5], &offsets).floats("b", &[6], bias);
        let mut inputs = vec!["x", "w", "o", if *bias == none { "" } else { "b" }];
        if let Some(mask) = mask {
            model = model.floats("m", &[1, 12, 2, 5], mask);
            inputs.push("m");
        }
        let (got, macs) = run(&model.node_with("DeformConv", &inputs, &["y"], &attributes).done(), 1, &x);
        let expected = deformed(&x, &filter, &offsets, (bias, mask));
        assert_close(&got, &expected, 4 * 12, &format!("{inputs:?}"));
        assert_eq!(macs, 6 * 10 * 12);
    }
}

/// What a query may read, and how its scores are bounded.
struct Heads<'a> {
    causal: bool,
    cap: f64,
    /// What is added to the scores, `[queries, keys]`.
    mask: &'a [f32],
}

/// Attention of 4 heads of 3 features, with 2 heads of keys and values, 5 queries and 7 keys.
fn attended(q: &[f32], k: &[f32], v: &[f32], how: &Heads<'_>) -> Vec<f64> {
    let mut output = Vec::new();
    for head in 0..4 {
        for query in 0..5 {
            let row = |from: &[f32], at: usize, feature: usize| f64::from(from[at * 3 + feature]);
            let score = |key: usize| {
                let dot = |feature| row(q, head * 5 + query, feature) * row(k, head / 2 * 7 + key, feature);
                let score = (0..3).map(dot).sum::<f64>() / 3f64.sqrt();
                let score = if how.cap > 0.0 { how.cap * (score / how.cap).tanh() } else { score };
                let hidden = how.causal && key > query;
                if hidden { f64::NEG_INFINITY } else { score + f64::from(how.mask[query * 7 + key]) }
            };
            let weights: Vec<f64> = (0..7).map(|key| score(key).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for feature in 0..3 {
                let value = |key: usize| weights[key] * row(v, head / 2 * 7 + key, feature);
                let all = (0..7).map(value).sum::<f64>();
                output.push(if sum > 0.0 { all / sum } else { 0.0 });
            }
        }
    }
    output
}

#[test]
fn queries_attend_to_the_keys_they_may_read() {
    let (q, k, v) = (random(10, 60), random(11, 42), random(12, 42));
    let mut mask = random(13, 35);
    // The third query reads nothing.
    mask[14..21].fill(f32::NEG_INFINITY);
    for (causal, cap) in [(false, 0.0), (true, 0.0), (true, 1.5)] {
        let model = Model::new(23, extents![1, 4, 5, 3]).floats("k", &[1, 2, 7, 3], &k);
        let model = model.floats("v", &[1, 2, 7, 3], &v).floats("m", &[5, 7], &mask);
        let attributes = [("is_causal", Int(causal.into())), ("softcap", Float(cap))];
        let bytes = model.node_with("Attention", &["x", "k", "v", "m"], &["y"], &attributes).done();
        let (got, macs) = run(&bytes, 1, &q);
        let expected = attended(&q, &k, &v, &Heads { causal, cap: f64::from(cap), mask: &mask });
        assert_close(&got, &expected, 16, &format!("causal {causal}, cap {cap}"));
        assert_eq!(macs, 2 * 4 * 5 * 7 * 3, "products with keys and with values");
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let refused = |bytes: &[u8], part: &str| {
        let result = load_bytes(bytes, "it", &ImportOptions::default().strict(true));
        let message = result.err().map_or_else(|| "no error".to_owned(), |error| error.to_string());
        assert!(message.contains(part), "{message}");
    };
    let grid = || Model::new(20, extents![1, 3, 5, 4]).filled("g", &[1, 6, 3], 0.0);
    refused(&grid().node("GridSample", &["x", "g"], &["y"]).done(), "places of 2 numbers");
    let mode = [("mode", Text("area"))];
    refused(&grid().node_with("GridSample", &["x", "g"], &["y"], &mode).done(), "as mode, got `area`");
    let model = Model::new(18, extents![1, 5, 4]).ints("i", &[3, 3]).ints("b", &[2, 2]);
    refused(&model.node("Col2Im", &["x", "i", "b"], &["y"]).done(), "a multiple of 4 channels");
    let model = Model::new(19, extents![1, 4, 5, 6]).filled("w", &[6, 4, 3, 2], 1.0);
    let model = model.filled("o", &[1, 12, 3, 4], 0.0);
    refused(&model.node("DeformConv", &["x", "w", "o"], &["y"]).done(), "offset");
    let model = Model::new(23, extents![1, 5, 8]).filled("k", &[1, 7, 8], 1.0);
    let heads = [("q_num_heads", Int(3)), ("kv_num_heads", Int(2))];
    refused(&model.node_with("Attention", &["x", "k", "k"], &["y"], &heads).done(), "q_num_heads");
}
