//! The chart of layers under the roofs of a machine.

use super::roofs::Roofs;
use nets::plot::{Axis, Line, PlaneChart, Point};

/// The roofs as lines, and room for all points. Points are at operations per byte and 10^9 operations per second.
pub(super) fn chart(title: String, mut notes: Vec<String>, roofs: &Roofs, points: Vec<Point>) -> PlaneChart {
    notes.push("The name of every point is under the pointer, and beside it where there is room.".to_owned());
    let ridge = roofs.ridge();
    let range = |values: &mut dyn Iterator<Item = f64>, first: f64| {
        values.fold((first, first), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (low, high) = range(&mut points.iter().map(|point| point.at.0), ridge);
    let (left, right) = (low / 1.6, high * 1.6);
    let (slow, fast) = range(&mut points.iter().map(|point| point.at.1), roofs.gflops);
    let bottom = slow.min(roofs.at(low)) / 1.6;
    let (name, start) = (format!("memory, {:.1} GB/s", roofs.gbs), left.max(bottom / roofs.gbs));
    let slope = line(name, [start, ridge].map(|x| (x, roofs.at(x))));
    let flat = line(
        format!("{}, {:.0} GFLOP/s", roofs.arithmetic, roofs.gflops),
        [(right, roofs.gflops), (ridge, roofs.gflops)],
    );
    PlaneChart {
        title,
        notes,
        x: Axis {
            title: "operations per byte that must be moved".to_owned(),
            range: (left, right),
            is_log: true,
        },
        y: Axis { title: "GFLOP/s".to_owned(), range: (bottom, fast * 1.6), is_log: true },
        series: ["convolutions and matrix products", "other layers"].map(str::to_owned).to_vec(),
        points,
        lines: vec![slope, flat],
    }
}

fn line(name: String, points: [(f64, f64); 2]) -> Line {
    Line { name, points: points.to_vec(), colour: None, is_dashed: false }
}
