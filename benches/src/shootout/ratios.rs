//! Compares peers with the library's own choice: their times divided by the library's.

use super::row::LayerRow;
use crate::direction::Direction;
use std::collections::BTreeMap;

/// One layer in one direction, with one instruction set, layout and number of threads.
pub(super) struct LayerRatio<'a> {
    /// The row of the library's choice.
    pub(super) ours: &'a LayerRow,
    /// The rows of the peers with a right output. Peers have their own layouts, so every layout of the library is
    /// compared with the same rows.
    peers: Vec<&'a LayerRow>,
}

/// PyTorch in both of its layouts.
pub(super) const TORCH: [&str; 2] = ["torch", "torch-channels-last"];

/// The peer that keeps its tensors like this library does in `layout`.
pub(super) fn layout_peer(layout: &str, direction: Direction) -> Option<&'static str> {
    match layout {
        "nchw16c" => Some("onednn"),
        "nchw" if direction == Direction::Forward => Some("ort"),
        "nchw" => Some("torch"),
        "nhwc" => Some("torch-channels-last"),
        _ => None,
    }
}

impl<'a> LayerRatio<'a> {
    /// All comparisons, in the order of the rows.
    pub(super) fn all(rows: &'a [LayerRow]) -> Vec<Self> {
        let is_right = |row: &&LayerRow| row.peer().is_some() && row.ms_median.is_some() && !row.is_wrong;
        let mut peers: BTreeMap<_, Vec<&LayerRow>> = BTreeMap::new();
        for row in rows.iter().filter(is_right) {
            peers.entry((&row.layer, row.direction, row.isa, row.threads)).or_default().push(row);
        }
        let ours = rows.iter().filter(|row| row.algorithm == "auto" && row.ms_median.is_some());
        let ratio = |ours: &'a LayerRow| {
            let peers = peers.get(&(&ours.layer, ours.direction, ours.isa, ours.threads))?.clone();
            Some(Self { ours, peers })
        };
        ours.filter_map(ratio).collect()
    }

    /// The peer's median divided by the library's: above 1, the library is faster.
    fn of(&self, peer: &LayerRow) -> Option<f64> {
        Some(peer.ms_median? / self.ours.ms_median?)
    }

    /// The fastest peer with a right output, and its ratio.
    pub(super) fn best(&self) -> Option<(&'a str, f64)> {
        let ratios = self.peers.iter().filter_map(|row| Some((row.peer()?, self.of(row)?)));
        ratios.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// The ratio of PyTorch in the layout in which it is faster, if both outputs are right.
    pub(super) fn better_torch(&self) -> Option<f64> {
        let [plain, last] = TORCH.map(|name| self.engine(name));
        Some(plain?.min(last?))
    }

    /// The ratio of the engine called `name`, if its output is right.
    pub(super) fn engine(&self, name: &str) -> Option<f64> {
        self.peers.iter().find(|row| row.peer() == Some(name)).and_then(|row| self.of(row))
    }

    /// The peer of the layout, and its ratio if its output is right.
    pub(super) fn of_layout(&self) -> Option<(&'static str, f64)> {
        let name = layout_peer(self.ours.layout, self.ours.direction)?;
        Some((name, self.engine(name)?))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::layers::by_id;
    use crate::problem::{Errors, Problem};
    use kernels::Isa;

    /// A row of one thread in the layout nchw16c.
    pub(in super::super) fn row(layer: &str, algorithm: &str, ms: f64, error: f64) -> LayerRow {
        let problem = Problem::bare(by_id(layer));
        let mut row = LayerRow::new(&problem, algorithm.to_owned(), Isa::Portable, "nchw16c");
        row.checked(Errors::all(error), 1e-4);
        row.ms_median = Some(ms);
        row
    }

    #[test]
    fn only_right_peers_of_the_same_run_count() {
        let rows = [
            row("lenet5.c1", "auto", 1.0, 1e-7),
            row("lenet5.c1", "peer:onednn", 4.0, 1e-7),
            row("lenet5.c1", "peer:ort", 2.0, 1e-7),
            row("lenet5.c1", "peer:mnn", 0.5, 1e-2),
            LayerRow { threads: 2, ..row("lenet5.c1", "peer:ort", 0.1, 1e-7) },
            row("lenet5.c3", "auto", 1.0, 1e-7),
            row("lenet5.c3", "peer:onednn", 0.25, 1e-7),
            row("lenet5.c5", "auto", 1.0, 1e-7),
        ];
        let ratios = LayerRatio::all(&rows);
        assert_eq!(ratios.len(), 2);
        assert_eq!((ratios[0].best(), ratios[0].of_layout()), (Some(("ort", 2.0)), Some(("onednn", 4.0))));
        assert_eq!(ratios[0].engine("mnn"), None);
    }

    #[test]
    fn every_layout_is_compared_with_its_peer() {
        let rows = [
            row("lenet5.c1", "auto", 1.0, 1e-7),
            LayerRow { layout: "nchw", ..row("lenet5.c1", "auto", 2.0, 1e-7) },
            LayerRow { layout: "nhwc", ..row("lenet5.c1", "auto", 4.0, 1e-7) },
            row("lenet5.c1", "peer:onednn", 4.0, 1e-7),
            row("lenet5.c1", "peer:ort", 8.0, 1e-7),
        ];
        let ratios = LayerRatio::all(&rows);
        let of_layout: Vec<_> = ratios.iter().map(LayerRatio::of_layout).collect();
        assert_eq!(of_layout, [Some(("onednn", 4.0)), Some(("ort", 4.0)), None]);
        let best: Vec<_> = ratios.iter().map(LayerRatio::best).collect();
        assert_eq!(best, [4.0, 2.0, 1.0].map(|ratio| Some(("onednn", ratio))));
    }
}
