//! Summarises the comparison with the peers: over all layers, and by kind of layer.

use super::ratios::{LayerRatio, layout_peer};
use super::row::Run;
use crate::cli::{Format, once_each};
use crate::direction::Direction;
use crate::kind::Kind;
use crate::peers::Engine;
use crate::table::{number, table, written};
use crate::turns::geometric_mean;
use serde::Serialize;

/// The fastest peer of each layer, as the name of a peer.
const BEST: &str = "best peer";
/// PyTorch in the layout in which it is faster on a layer, as the name of a peer.
const BETTER_TORCH: &str = "better torch";
/// The kind of a summary over all layers.
const ALL: &str = "all";
/// The ratios below which a layer is slow, or clearly slower.
const LIMITS: [f64; 2] = [0.7, 0.9];

/// The ratios to one peer of all layers of one kind, with one instruction set, layout and number of threads.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary<'a> {
    kind: &'static str,
    layout: &'static str,
    against: &'static str,
    isa: &'static str,
    threads: usize,
    /// Number of layers on which the output of the peer was right.
    layers: usize,
    geometric_mean: f64,
    worst: f64,
    worst_layer: &'a str,
    below_0_7: usize,
    percent_below_0_7: f64,
    below_0_9: usize,
    percent_below_0_9: f64,
    as_fast_or_faster: usize,
    direction: Direction,
}

impl<'a> Summary<'a> {
    /// The summaries over all layers: for every run, the best peer, the better of both layouts of
    /// PyTorch, and each peer.
    pub(super) fn totals(ratios: &[LayerRatio<'a>]) -> Vec<Self> {
        let names = || [BEST, BETTER_TORCH].into_iter().chain(Engine::ALL.iter().map(|engine| engine.name));
        let pairs = runs(ratios).into_iter().flat_map(|run| names().map(move |against| (run, against)));
        pairs.filter_map(|(run, against)| Self::of(ratios, run, against, None)).collect()
    }

    /// The summaries of each kind: for every run, the peer of its layout and the best peer, and for gradients the better
    /// of both layouts of PyTorch.
    pub(super) fn by_kind(ratios: &[LayerRatio<'a>]) -> Vec<Self> {
        let names = |Run { layout, direction, .. }| {
            let torch = (direction != Direction::Forward).then_some(BETTER_TORCH);
            layout_peer(layout, direction).into_iter().chain([BEST]).chain(torch)
        };
        let pairs = runs(ratios).into_iter().flat_map(|run| names(run).map(move |against| (run, against)));
        let keys = pairs.flat_map(|pair| Kind::ALL.map(|kind| (pair, kind.name)));
        keys.filter_map(|((run, against), kind)| Self::of(ratios, run, against, Some(kind))).collect()
    }

    /// One line; `None` if no layer was compared.
    fn of(
        ratios: &[LayerRatio<'a>],
        run: Run,
        against: &'static str,
        kind: Option<&'static str>,
    ) -> Option<Self> {
        let is_meant =
            |ratio: &&LayerRatio<'_>| ratio.ours.run() == run && (kind.is_none() || ratio.ours.kind == kind);
        let value = |ratio: &LayerRatio<'a>| {
            let value = match against {
                BEST => ratio.best().map(|best| best.1),
                BETTER_TORCH => ratio.better_torch(),
                engine => ratio.engine(engine),
            };
            Some((value?, ratio.ours.layer.as_str()))
        };
        let values: Vec<(f64, &'a str)> = ratios.iter().filter(is_meant).filter_map(value).collect();
        let &(worst, worst_layer) = values.iter().min_by(|a, b| a.0.total_cmp(&b.0))?;
        let below = |limit: f64| values.iter().filter(|value| value.0 < limit).count();
        let percent = |count: usize| 100.0 * count as f64 / values.len() as f64;
        let [slow, slower] = LIMITS.map(below);
        let Run { direction, threads, isa, layout } = run;
        Some(Self {
            kind: kind.unwrap_or(ALL),
            layout,
            against,
            isa,
            threads,
            direction,
            layers: values.len(),
            geometric_mean: geometric_mean(values.iter().map(|value| value.0)),
            worst,
            worst_layer,
            below_0_7: slow,
            percent_below_0_7: percent(slow),
            below_0_9: slower,
            percent_below_0_9: percent(slower),
            as_fast_or_faster: values.len() - below(1.0),
        })
    }
}

fn runs(ratios: &[LayerRatio<'_>]) -> Vec<Run> {
    once_each(&ratios.iter().map(|ratio| ratio.ours.run()).collect::<Vec<_>>())
}

/// The summaries as a table.
pub(super) fn written_table(summaries: &[Summary<'_>], format: Format) -> String {
    let header = [
        "kind",
        "direction",
        "layout",
        "auto against",
        "isa",
        "threads",
        "layers",
        "geometric mean",
        "worst",
        "below 0.7",
        "%",
        "below 0.9",
        "%",
        "as fast or faster",
        "worst layer",
    ];
    let mut table = table(&header, &[5, 6, 7, 8, 9, 10, 11, 12, 13], format);
    for summary in summaries {
        table.add_row([
            summary.kind.to_owned(),
            summary.direction.to_string(),
            summary.layout.to_owned(),
            summary.against.to_owned(),
            summary.isa.to_owned(),
            summary.threads.to_string(),
            summary.layers.to_string(),
            number(Some(summary.geometric_mean), 3),
            number(Some(summary.worst), 2),
            summary.below_0_7.to_string(),
            number(Some(summary.percent_below_0_7), 1),
            summary.below_0_9.to_string(),
            number(Some(summary.percent_below_0_9), 1),
            summary.as_fast_or_faster.to_string(),
            summary.worst_layer.to_owned(),
        ]);
    }
    written(&table, format)
}

#[cfg(test)]
mod tests {
    use super::super::ratios::tests::row;
    use super::super::row::LayerRow;
    use super::*;

    #[test]
    fn a_summary_counts_the_layers_of_its_kind_and_peer() {
        let own = |layer: &str| row(layer, "auto", 1.0, 1e-7);
        let onednn = |layer: &str, ratio: f64| row(layer, "peer:onednn", ratio, 1e-7);
        let rows = [
            own("lenet5.c1"),
            onednn("lenet5.c1", 4.0),
            row("lenet5.c1", "peer:ort", 2.0, 1e-7),
            own("lenet5.c3"),
            onednn("lenet5.c3", 0.25),
            own("lenet5.c5"),
            onednn("lenet5.c5", 0.8),
            own("googlenet.conv1"),
            onednn("googlenet.conv1", 1.0),
            LayerRow { kind: None, ..own("vgg.conv3_2") },
            onednn("vgg.conv3_2", 1.0),
            LayerRow { layout: "nchw", ..own("lenet5.c3") },
        ];
        let ratios = LayerRatio::all(&rows);
        let totals = Summary::totals(&ratios);
        let find = |of: &[Summary<'_>], kind: &str, layout: &str, against: &str| {
            let is_meant =
                |line: &&Summary<'_>| (line.kind, line.layout, line.against) == (kind, layout, against);
            let line = of.iter().find(is_meant)?;
            let counts = (line.layers, line.below_0_7, line.below_0_9, line.as_fast_or_faster);
            Some((counts, (1e3 * line.geometric_mean).round(), line.worst, line.worst_layer.to_owned()))
        };
        let lenet5_c3 = "lenet5.c3".to_owned();
        let mean = 1e3 * 0.8f64.powf(0.2);
        assert_eq!(
            find(&totals, "all", "nchw16c", "onednn"),
            Some(((5, 1, 2, 3), mean.round(), 0.25, lenet5_c3.clone()))
        );
        assert_eq!(find(&totals, "all", "nchw16c", "ort").unwrap().0, (1, 0, 0, 1));
        let mean = (1e3 * (2.0f64 * 0.25 * 0.8).powf(0.2)).round();
        assert_eq!(find(&totals, "all", "nchw16c", BEST).unwrap().1, mean);
        assert_eq!(find(&totals, "all", "nchw", "ort"), None);

        let kinds = Summary::by_kind(&ratios);
        let few = find(&kinds, "few inputs", "nchw16c", "onednn").unwrap();
        assert_eq!((few.0, few.1), ((2, 0, 0, 2), 2000.0));
        assert_eq!(find(&kinds, "few inputs", "nchw16c", BEST).unwrap().1, (1e3 * 2.0f64.sqrt()).round());
        assert_eq!(find(&kinds, "tiny map", "nchw16c", "onednn").unwrap().0, (1, 0, 1, 0));
        assert_eq!(find(&kinds, "odd channels", "nchw", BEST), Some(((1, 1, 1, 0), 250.0, 0.25, lenet5_c3)));
        assert_eq!(kinds.iter().map(|line| line.layers).sum::<usize>(), 4 + 4 + 1, "one kind for each layer");

        let text = written_table(&kinds, Format::Markdown);
        assert!(text.contains("| tiny map") && text.contains("| 100.0 |"), "{text}");
        let percent: Vec<f64> = totals.iter().map(|line| line.percent_below_0_9).collect();
        assert_eq!(percent[0], 40.0, "{percent:?}");
    }
}
