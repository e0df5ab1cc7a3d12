//! The order of the vertices of each layer: few crossings.

use super::layers::Layered;

/// Sweeps over all layers; later ones hardly ever find a better order.
const SWEEPS: usize = 12;

/// Orders each layer by the barycentres of the neighbours in the layer before, and keeps the order with least crossings.
pub(super) fn order(graph: &mut Layered) {
    let mut best = (crossings(graph, &graph.rows), graph.rows.clone());
    let mut rows = graph.rows.clone();
    for sweep in 0..SWEEPS {
        if best.0 == 0 {
            break;
        }
        let neighbours = if sweep % 2 == 0 { &graph.up } else { &graph.down };
        let count = rows.len();
        for step in 1..count {
            let row = if sweep % 2 == 0 { step } else { count - 1 - step };
            let before = if sweep % 2 == 0 { row - 1 } else { row + 1 };
            let places = places(graph.owners.len(), &rows[before]);
            let mut keyed: Vec<(f64, usize)> = Vec::with_capacity(rows[row].len());
            for (place, &vertex) in rows[row].iter().enumerate() {
                let near = &neighbours[vertex];
                let sum: usize = near.iter().map(|&vertex| places[vertex]).sum();
                let centre = if near.is_empty() { place as f64 } else { sum as f64 / near.len() as f64 };
                keyed.push((centre, vertex));
            }
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            rows[row] = keyed.into_iter().map(|(_, vertex)| vertex).collect();
        }
        let crossings = crossings(graph, &rows);
        if crossings < best.0 {
            best = (crossings, rows.clone());
        }
    }
    graph.rows = best.1;
}

/// The place of each vertex in its row; 0 for those of other rows.
fn places(vertices: usize, row: &[usize]) -> Vec<usize> {
    let mut places = vec![0; vertices];
    for (place, &vertex) in row.iter().enumerate() {
        places[vertex] = place;
    }
    places
}

/// Pairs of edges that cross: for each pair of layers the inversions of the lower ends, in the order of the upper ones.
fn crossings(graph: &Layered, rows: &[Vec<usize>]) -> usize {
    let mut all = vec![0; graph.owners.len()];
    for row in rows {
        row.iter().enumerate().for_each(|(place, &vertex)| all[vertex] = place);
    }
    let mut sum = 0;
    for row in rows {
        let mut seen: Vec<usize> = Vec::new();
        for &vertex in row {
            let mut ends: Vec<usize> = graph.down[vertex].iter().map(|&end| all[end]).collect();
            ends.sort_unstable();
            for &end in &ends {
                sum += seen.len() - seen.partition_point(|&other| other <= end);
            }
            for end in ends {
                seen.insert(seen.partition_point(|&other| other <= end), end);
            }
        }
    }
    sum
}
