//! Where the vertices of each layer stand: the longest path and each lane in a straight line.

use super::layers::{Layered, Owner};

/// Pixels between two neighbours of a layer.
const APART: f64 = 14.0;
/// Rounds in which every line of vertices moves towards those that it is joined with.
const ROUNDS: usize = 24;

/// The centre of each vertex, from the left.
pub(super) fn place(graph: &Layered, widths: &[f64], tail: Option<usize>) -> Vec<f64> {
    let lower = aligned(graph);
    let lines = lines(graph, &lower, tail);
    if let Some(x) = solved(graph, widths, &lines) {
        return x;
    }
    // Some other line is left of the head and right of the tail. Nothing is beside the tail, so it can be moved.
    let lines = self::lines(graph, &lower, None);
    let mut x = solved(graph, widths, &lines).unwrap_or_else(|| side_by_side(graph, widths));
    if let Some(tail) = tail {
        x[tail] = x[0];
    }
    x
}

/// For each vertex the one that stands straight below it. Of edges that cross, the first ones are straight: those of
/// lanes, and then those of long paths.
fn aligned(graph: &Layered) -> Vec<Option<usize>> {
    let length = path_lengths(graph);
    let mut edges: Vec<(usize, usize)> = Vec::new();
    for (from, ends) in graph.down.iter().enumerate() {
        edges.extend(ends.iter().map(|&to| (from, to)));
    }
    let is_lane = |&(from, to): &(usize, usize)| matches!((graph.owners[from], graph.owners[to]), (Owner::Lane(a), Owner::Lane(b)) if a == b);
    let through = |&(from, to): &(usize, usize)| length[from].0 + length[to].1;
    edges.retain(|edge| {
        let (from, to) = *edge;
        let is_longest = |one: (usize, usize), others: &mut dyn Iterator<Item = (usize, usize)>| {
            others.filter(|other| *other != one).all(|other| through(&other) < through(&one))
        };
        is_lane(edge)
            || graph.down[from].len() < 3
                && graph.up[to].len() < 3
                && is_longest(*edge, &mut graph.down[from].iter().map(|&end| (from, end)))
                && is_longest(*edge, &mut graph.up[to].iter().map(|&end| (end, to)))
    });
    edges.sort_by_key(|edge| (!is_lane(edge), std::cmp::Reverse(through(edge))));
    let mut place = vec![0; graph.owners.len()];
    for row in &graph.rows {
        row.iter().enumerate().for_each(|(index, &vertex)| place[vertex] = index);
    }
    let (mut lower, mut has_upper) = (vec![None; place.len()], vec![false; place.len()]);
    let mut straight: Vec<Vec<(usize, usize)>> = vec![Vec::new(); graph.rows.len()];
    for (from, to) in edges {
        let (a, b) = (place[from], place[to]);
        let others = &mut straight[graph.layer[from]];
        let crosses = others.iter().any(|&(c, d)| (a < c) != (b < d));
        if lower[from].is_none() && !has_upper[to] && !crosses {
            lower[from] = Some(to);
            has_upper[to] = true;
            others.push((a, b));
        }
    }
    lower
}

/// How many boxes the longest path down to each vertex has, and the longest one from it.
fn path_lengths(graph: &Layered) -> Vec<(usize, usize)> {
    let mut lengths = vec![(0, 0); graph.owners.len()];
    for &vertex in graph.rows.iter().flatten() {
        let above = graph.up[vertex].iter().map(|&near| lengths[near].0).max().unwrap_or(0);
        lengths[vertex].0 = above + usize::from(graph.is_box(vertex));
    }
    for &vertex in graph.rows.iter().rev().flatten() {
        let below = graph.down[vertex].iter().map(|&near| lengths[near].1).max().unwrap_or(0);
        lengths[vertex].1 = below + usize::from(graph.is_box(vertex));
    }
    lengths
}

/// The line of each vertex, by number. The tail is in the line of the head.
fn lines(graph: &Layered, lower: &[Option<usize>], tail: Option<usize>) -> Vec<usize> {
    let mut line: Vec<usize> = (0..graph.owners.len()).collect();
    for &vertex in graph.rows.iter().flatten() {
        if let Some(below) = lower[vertex] {
            line[below] = line[vertex];
        }
    }
    let Some(tail) = tail.filter(|_| !graph.down[0].is_empty()) else { return line };
    let (head, from) = (line[0], line[tail]);
    let rows = |wanted: usize| {
        let row = |&vertex: &usize| (line[vertex] == wanted).then(|| graph.layer[vertex]);
        graph.rows.iter().flatten().filter_map(row).collect::<Vec<_>>()
    };
    let both = rows(head).iter().any(|row| rows(from).contains(row));
    match head != from && both {
        // The tail leaves its line.
        true => line[tail] = head,
        false => line.iter_mut().filter(|line| **line == from).for_each(|line| *line = head),
    }
    line
}

/// Stands lines side by side and moves them to where their arrows are short. `None` if each of two lines is left of the
/// other somewhere.
fn solved(graph: &Layered, widths: &[f64], line: &[usize]) -> Option<Vec<f64>> {
    let count = graph.owners.len();
    let mut gaps: Vec<(usize, usize, f64)> = Vec::new();
    for pair in graph.rows.iter().flat_map(|row| row.windows(2)) {
        gaps.push((line[pair[0]], line[pair[1]], (widths[pair[0]] + widths[pair[1]]) / 2.0 + APART));
    }
    let (mut left, mut right) = (vec![Vec::new(); count], vec![Vec::new(); count]);
    for &(a, b, gap) in &gaps {
        left[b].push((a, gap));
        right[a].push((b, gap));
    }
    let order = in_order(&left, &right)?;
    let mut pulls = vec![Vec::new(); count];
    for (from, ends) in graph.down.iter().enumerate() {
        for &to in ends.iter().filter(|&&to| line[to] != line[from]) {
            pulls[line[from]].push(line[to]);
            pulls[line[to]].push(line[from]);
        }
    }
    let mut at = vec![0.0; count];
    for &one in &order {
        at[one] = left[one].iter().map(|&(other, gap)| at[other] + gap).fold(0.0, f64::max);
    }
    for round in 0..ROUNDS {
        let step = |index: usize| if round % 2 == 0 { order[order.len() - 1 - index] } else { order[index] };
        for one in (0..order.len()).map(step).filter(|&one| !pulls[one].is_empty()) {
            let centres = || pulls[one].iter().map(|&other| at[other]);
            let wanted = match pulls[one].len() {
                1 | 2 => centres().sum::<f64>() / pulls[one].len() as f64,
                // A fork stands in the middle of its branches.
                _ => (centres().fold(f64::MAX, f64::min) + centres().fold(f64::MIN, f64::max)) / 2.0,
            };
            let low = left[one].iter().map(|&(other, gap)| at[other] + gap).fold(f64::MIN, f64::max);
            let high = right[one].iter().map(|&(other, gap)| at[other] - gap).fold(f64::MAX, f64::min);
            at[one] = wanted.min(high).max(low);
        }
    }
    Some(line.iter().map(|&line| at[line]).collect())
}

/// An order of the lines in which each is behind those left of it.
fn in_order(left: &[Vec<(usize, f64)>], right: &[Vec<(usize, f64)>]) -> Option<Vec<usize>> {
    let mut waits: Vec<usize> = left.iter().map(Vec::len).collect();
    let mut order: Vec<usize> = (0..left.len()).filter(|&line| waits[line] == 0).collect();
    let mut next = 0;
    while next < order.len() {
        for &(other, _) in &right[order[next]] {
            waits[other] -= 1;
            if waits[other] == 0 {
                order.push(other);
            }
        }
        next += 1;
    }
    (order.len() == left.len()).then_some(order)
}

/// Each row in the middle.
fn side_by_side(graph: &Layered, widths: &[f64]) -> Vec<f64> {
    let mut at = vec![0.0; widths.len()];
    for row in &graph.rows {
        let total: f64 = row.iter().map(|&vertex| widths[vertex] + APART).sum();
        let mut x = -total / 2.0;
        for &vertex in row {
            at[vertex] = x + (widths[vertex] + APART) / 2.0;
            x += widths[vertex] + APART;
        }
    }
    at
}
