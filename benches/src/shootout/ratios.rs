//! Compares peers with the library's own choice: their times divided by the library's.

use super::row::LayerRow;
use crate::cli::once_each;
use crate::peers::Engine;
use crate::turns::geometric_mean;

/// One layer with one instruction set and number of threads.
pub(super) struct LayerRatio<'a> {
    /// The row of the library's choice, in the first layout.
    pub(super) ours: &'a LayerRow,
    /// The rows of the peers with a right output.
    pub(super) peers: Vec<&'a LayerRow>,
}

impl<'a> LayerRatio<'a> {
    /// All comparisons, in the order of the rows.
    pub(super) fn all(rows: &'a [LayerRow]) -> Vec<Self> {
        let same = |a: &LayerRow, b: &LayerRow| (&a.layer, a.isa, a.threads) == (&b.layer, b.isa, b.threads);
        let mut ratios: Vec<Self> = Vec::new();
        for ours in rows.iter().filter(|row| row.algorithm == "auto" && row.ms_median.is_some()) {
            let is_right = |row: &&LayerRow| row.peer().is_some() && row.ms_median.is_some() && !row.is_wrong;
            let peers: Vec<_> = rows.iter().filter(is_right).filter(|row| same(row, ours)).collect();
            if !peers.is_empty() && !ratios.iter().any(|ratio| same(ratio.ours, ours)) {
                ratios.push(Self { ours, peers });
            }
        }
        ratios
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

    /// The ratio of the engine called `name`, if its output is right.
    pub(super) fn engine(&self, name: &str) -> Option<f64> {
        self.peers.iter().find(|row| row.peer() == Some(name)).and_then(|row| self.of(row))
    }
}

/// One line of the summary: the number of layers, the geometric mean of their ratios, and the number of
/// layers on which the library is at least as fast.
#[derive(Debug, PartialEq)]
pub(super) struct Mean {
    pub(super) against: &'static str,
    pub(super) isa: &'static str,
    pub(super) threads: usize,
    pub(super) layers: usize,
    pub(super) ratio: f64,
    pub(super) won: usize,
}

/// The means over the best peer and over each peer, for every instruction set and number of threads.
pub(super) fn means(ratios: &[LayerRatio<'_>]) -> Vec<Mean> {
    let runs: Vec<_> = ratios.iter().map(|ratio| (ratio.ours.isa, ratio.ours.threads)).collect();
    let runs = once_each(&runs);
    let names = || std::iter::once("best peer").chain(Engine::ALL.iter().map(|engine| engine.name));
    let mean = |(isa, threads): (&'static str, usize), against: &'static str| {
        let of_run = ratios.iter().filter(|ratio| (ratio.ours.isa, ratio.ours.threads) == (isa, threads));
        let value = |ratio: &LayerRatio<'_>| match against {
            "best peer" => ratio.best().map(|(_, value)| value),
            name => ratio.engine(name),
        };
        let values: Vec<f64> = of_run.filter_map(value).collect();
        let ratio = geometric_mean(values.iter().copied());
        let won = values.iter().filter(|&&value| value >= 1.0).count();
        Mean { against, isa, threads, layers: values.len(), ratio, won }
    };
    let all = runs.iter().flat_map(|&run| names().map(move |against| mean(run, against)));
    all.filter(|mean| mean.layers > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::by_id;
    use crate::problem::{Errors, Problem};
    use kernels::Isa;

    #[test]
    fn only_right_peers_of_the_same_run_count() {
        let row = |layer: &str, algorithm: &str, ms: f64, error: f64| {
            let problem = Problem::bare(by_id(layer));
            let mut row = LayerRow::new(&problem, algorithm.to_owned(), Isa::Portable, "nchw16c");
            row.checked(Errors::all(error), 1e-4);
            row.ms_median = Some(ms);
            row
        };
        let mut other_run = row("lenet5.c1", "peer:ort", 0.1, 1e-7);
        other_run.threads = 2;
        let rows = [
            row("lenet5.c1", "auto", 1.0, 1e-7),
            row("lenet5.c1", "peer:onednn", 4.0, 1e-7),
            row("lenet5.c1", "peer:ort", 2.0, 1e-7),
            row("lenet5.c1", "peer:mnn", 0.5, 1e-2),
            other_run,
            row("lenet5.c3", "auto", 1.0, 1e-7),
            row("lenet5.c3", "peer:onednn", 0.25, 1e-7),
        ];
        let ratios = LayerRatio::all(&rows);
        assert_eq!(ratios.len(), 2);
        assert_eq!((ratios[0].best(), ratios[0].engine("onednn")), (Some(("ort", 2.0)), Some(4.0)));
        assert_eq!(ratios[0].engine("mnn"), None);
        let means = means(&ratios);
        let mean = |against: &str| means.iter().find(|mean| mean.against == against).unwrap();
        assert!((mean("best peer").ratio - 0.5f64.sqrt()).abs() < 1e-12);
        assert!((mean("onednn").ratio - 1.0).abs() < 1e-12);
        assert_eq!((mean("onednn").layers, mean("onednn").won, mean("ort").layers), (2, 1, 1));
    }
}
