//! Resizing of images.

use super::windows::{image, product};
use super::{Attr, Draw, DrawOp, Value, Walk, offset_in};
use arbitrary::Result;

pub const OPS: &[(&str, DrawOp)] = &[("Resize", resize)];

/// One axis of a resize: the elements that each output reads, with their weights.
type Weights = Vec<Vec<(usize, f64)>>;

/// The place in the input that output `at` of `outputs` stands for.
fn position(mode: &str, at: usize, (size, outputs, scale): (usize, usize, f64)) -> f64 {
    let at = at as f64;
    match mode {
        "asymmetric" => at / scale,
        "align_corners" if outputs == 1 => 0.0,
        // The length of the output before it is rounded down, as in the tests of ONNX.
        "align_corners" => at * (size - 1) as f64 / (scale * size as f64 - 1.0),
        "pytorch_half_pixel" if outputs == 1 => 0.0,
        "half_pixel_symmetric" => {
            let adjusted = outputs as f64 / (scale * size as f64);
            size as f64 / 2.0 * (1.0 - adjusted) + (at + 0.5) / scale - 0.5
        }
        _ => (at + 0.5) / scale - 0.5,
    }
}

fn nearest(mode: &str, place: f64) -> f64 {
    match mode {
        "floor" => place.floor(),
        "ceil" => place.ceil(),
        "round_prefer_ceil" => (place + 0.5).floor(),
        _ => (place - 0.5).ceil(),
    }
}

/// Cubic convolution (Keys 1981) with coefficient `a`, at distance `x`.
fn cubic(a: f64, x: f64) -> f64 {
    match x.abs() {
        x if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        x if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
        _ => 0.0,
    }
}

fn resize(draw: &mut Draw<'_, '_>) -> Result<()> {
    let Some(x) = image(draw)? else { return Ok(()) };
    let dims = draw.value(x).dims.clone();
    let kinds: &[&'static str] =
        if dims.len() == 4 { &["nearest", "linear", "cubic"] } else { &["nearest", "linear"] };
    let kind = kinds[draw.below(kinds.len())?];
    // Nearest elements at ties depend on every bit, so that their scales are powers of two.
    let (scales, modes): (&[f64], &[&'static str]) = if kind == "nearest" {
        (&[0.5, 1.0, 2.0, 4.0], &["half_pixel", "asymmetric", "pytorch_half_pixel"])
    } else {
        let modes =
            &["half_pixel", "asymmetric", "pytorch_half_pixel", "align_corners", "half_pixel_symmetric"];
        (&[0.5, 1.0, 1.5, 2.0, 2.5, 3.0], modes)
    };
    let mode = modes[draw.below(modes.len())?];
    let rounding = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"][draw.below(4)?];
    let (outside, a) = (draw.below(2)? == 1, [-0.75, -0.5][draw.below(2)?]);
    let (mut factors, mut out, mut weights) = (vec![1.0f32; 2], dims[..2].to_vec(), Vec::<Weights>::new());
    for &size in &dims[2..] {
        let scale = scales[draw.below(scales.len())?];
        let scale = if (size as f64 * scale) < 1.0 { 1.0 } else { scale };
        let outputs = (size as f64 * scale).floor() as usize;
        factors.push(scale as f32);
        out.push(outputs);
        let last = size - 1;
        let clamp = |at: f64| at.clamp(0.0, last as f64) as usize;
        let of = |at: usize| {
            let place = position(mode, at, (size, outputs, scale));
            match kind {
                "nearest" => vec![(clamp(nearest(rounding, place)), 1.0)],
                "linear" => {
                    let place = place.clamp(0.0, last as f64);
                    let (low, part) = (place.floor(), place - place.floor());
                    vec![(clamp(low), 1.0 - part), (clamp(low + 1.0), part)]
                }
                _ => {
                    let low = place.floor();
                    let taps = (-1..=2).map(|tap| low + f64::from(tap));
                    let inside = |tap: f64| !outside || (0.0..=last as f64).contains(&tap);
                    let taps: Vec<(usize, f64)> = taps
                        .map(|tap| (clamp(tap), if inside(tap) { cubic(a, place - tap) } else { 0.0 }))
                        .collect();
                    let sum: f64 = taps.iter().map(|tap| tap.1).sum();
                    taps.into_iter().map(|(at, weight)| (at, weight / sum)).collect()
                }
            }
        };
        weights.push((0..outputs).map(of).collect());
    }
    if product(&out) > 4_000 {
        return Ok(());
    }
    let from = draw.value(x);
    let image = product(&dims[2..]);
    let mut y = Vec::new();
    for at in Walk::new(&out) {
        let first = (at[0] * dims[1] + at[1]) * image;
        let taps: Vec<&Vec<(usize, f64)>> =
            weights.iter().zip(&at[2..]).map(|(axis, &at)| &axis[at]).collect();
        let counts: Vec<usize> = taps.iter().map(|taps| taps.len()).collect();
        let mut sum = 0.0;
        for tap in Walk::new(&counts) {
            let chosen: Vec<(usize, f64)> = taps.iter().zip(&tap).map(|(taps, &tap)| taps[tap]).collect();
            let weight: f64 = chosen.iter().map(|tap| tap.1).product();
            let place: Vec<usize> = chosen.iter().map(|tap| tap.0).collect();
            sum += weight * from.data[first + offset_in(&dims[2..], &place)];
        }
        y.push(sum);
    }
    let scales = draw.floats(&factors);
    let mut attrs = vec![("mode", Attr::Text(kind)), ("coordinate_transformation_mode", Attr::Text(mode))];
    match kind {
        "nearest" => attrs.push(("nearest_mode", Attr::Text(rounding))),
        "cubic" => {
            attrs.push(("cubic_coeff_a", Attr::Float(a as f32)));
            attrs.push(("exclude_outside", Attr::Int(outside.into())));
        }
        _ => {}
    }
    draw.node("Resize", &[Some(x), None, Some(scales)], &attrs, Value::new(out, y));
    Ok(())
}
