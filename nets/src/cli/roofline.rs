//! The chart of layers under the roofs of a machine.

use super::roofs::{BF16, Roofs};
use nets::plot::{Axis, Line, PlaneChart, Point};

/// The roofs as lines, and room for all points. Points are at operations per byte and 10^9 operations per second.
pub(super) fn chart(title: String, mut notes: Vec<String>, roofs: &Roofs, points: Vec<Point>) -> PlaneChart {
    notes.push("The name of every point is under the pointer, and beside it where there is room.".to_owned());
    let ridge = roofs.ridge();
    let highest = roofs.bf16_gflops.map_or(roofs.gflops, |bf16| bf16.max(roofs.gflops));
    let last_ridge = highest / roofs.gbs;
    let range = |values: &mut dyn Iterator<Item = f64>, first: f64| {
        values.fold((first, first), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (low, high) = range(&mut points.iter().map(|point| point.at.0), ridge);
    let (left, right) = (low / 1.6, high.max(last_ridge) * 1.6);
    let (slow, fast) = range(&mut points.iter().map(|point| point.at.1), roofs.gflops);
    let bottom = slow.min(roofs.at(low)) / 1.6;
    let (name, start) = (format!("memory, {:.1} GB/s", roofs.gbs), left.max(bottom / roofs.gbs));
    let slope = line(name, [start, last_ridge].map(|x| (x, x * roofs.gbs)));
    let flat = |what: &str, gflops: f64| {
        line(format!("{what}, {gflops:.0} GFLOP/s"), [(right, gflops), (gflops / roofs.gbs, gflops)])
    };
    let flats = [Some(flat(roofs.arithmetic, roofs.gflops)), roofs.bf16_gflops.map(|bf16| flat(BF16, bf16))];
    PlaneChart {
        title,
        notes,
        x: Axis {
            title: "operations per byte that must be moved".to_owned(),
            range: (left, right),
            is_log: true,
        },
        y: Axis { title: "GFLOP/s".to_owned(), range: (bottom, fast.max(highest) * 1.6), is_log: true },
        series: ["convolutions and matrix products", "other layers"].map(str::to_owned).to_vec(),
        points,
        lines: flats.into_iter().flatten().chain([slope]).collect(),
    }
}

fn line(name: String, points: [(f64, f64); 2]) -> Line {
    Line { name, points: points.to_vec(), colour: None, is_dashed: false }
}
