//! The results of one rival on one layer.

use crate::direction::Direction;
use crate::kind::Kind;
use crate::problem::{Errors, Problem};
use crate::turns::{Figures, Rival};
use kernels::Isa;
use serde::Serialize;

/// One row of the results. Times are `None` if the output was wrong or the rival failed.
#[derive(Debug, Clone, Serialize)]
pub struct LayerRow {
    /// The layer's id.
    pub layer: String,
    /// `auto`, `measured`, an algorithm, or `peer:` and the name of an engine.
    pub algorithm: String,
    /// The instruction set.
    pub isa: &'static str,
    /// The layout of the tensors; `own` for peers.
    pub layout: &'static str,
    /// Number of threads.
    pub threads: usize,
    /// Milliseconds per call in the fastest round.
    pub ms_min: Option<f64>,
    /// Milliseconds per call in the median round.
    pub ms_median: Option<f64>,
    /// Floating-point operations of the definition per second in the median round, in 10^9.
    pub gflops: Option<f64>,
    /// Per cent of the sustained FMA roof with the same instruction set and threads. Algorithms that save
    /// operations can exceed 100.
    pub roof_percent: Option<f64>,
    /// The roof of bf16 products with the same instruction set and threads, in 10^9 operations per second. `None`
    /// if the instruction set has no such products.
    pub bf16_roof_gflops: Option<f64>,
    /// Relative L2 error against sums in `f64`; NaN if an element was not written.
    pub rel_l2_error: f64,
    /// The largest absolute error, as a fraction of the largest expected value.
    pub max_error: f64,
    /// The extents of the layer, as in [`LayerSpec::shape`](crate::layers::LayerSpec::shape). `None` in the rows of older files.
    pub shape: Option<String>,
    /// The methods that the library chose, if it chose any: one, or one for each phase.
    pub chosen: Option<String>,
    /// What was computed of the layer.
    pub direction: Direction,
    /// The chosen method and its kernel, or what a peer says about itself.
    #[serde(skip)]
    pub note: String,
    /// The kind of layer. `None` if the extents are unknown.
    #[serde(skip)]
    pub kind: Option<&'static str>,
    /// Whether the error exceeds the tolerance.
    #[serde(skip)]
    pub is_wrong: bool,
    /// Floating-point operations per byte of compulsory traffic.
    #[serde(skip)]
    pub intensity: f64,
    /// Bytes of compulsory traffic.
    #[serde(skip)]
    pub bytes: f64,
    /// The median time divided by the roofline's bound. Only algorithms that save operations can fall below 1.
    #[serde(skip)]
    pub bound_ratio: Option<f64>,
    /// Milliseconds of planning, including packing and any timing; 0 if the plan was shared.
    #[serde(skip)]
    pub plan_ms: f64,
}

impl LayerRow {
    /// A row of a layer of the lists, without times.
    pub(super) fn new(problem: &Problem, algorithm: String, isa: Isa, layout: &'static str) -> Self {
        let cost = problem.desc.cost();
        Self {
            shape: Some(problem.spec.shape()),
            kind: Some(Kind::of(&problem.spec).name),
            intensity: cost.intensity(),
            bytes: cost.min_bytes as f64,
            ..Self::bare((problem.spec.id.clone(), problem.direction), algorithm, isa, layout)
        }
    }

    /// A row of a layer of which only its name is known, without times.
    pub(super) fn bare(
        (layer, direction): (String, Direction),
        algorithm: String,
        isa: Isa,
        layout: &'static str,
    ) -> Self {
        Self {
            layer,
            algorithm,
            isa: isa.name(),
            layout,
            threads: 1,
            ms_min: None,
            ms_median: None,
            gflops: None,
            roof_percent: None,
            bf16_roof_gflops: None,
            rel_l2_error: f64::NAN,
            max_error: f64::NAN,
            shape: None,
            chosen: None,
            direction,
            note: String::new(),
            kind: None,
            is_wrong: true,
            intensity: f64::NAN,
            bytes: f64::NAN,
            bound_ratio: None,
            plan_ms: 0.0,
        }
    }

    /// Records the errors of the output, which is wrong above a relative L2 error of `tolerance`.
    pub(super) fn checked(&mut self, errors: Errors, tolerance: f64) {
        (self.rel_l2_error, self.max_error) = (errors.l2, errors.largest);
        // NaN counts as wrong.
        self.is_wrong = errors.l2.is_nan() || errors.l2 > tolerance;
    }

    /// Records the times of `rival` and of the roofs in the same rounds, of FMAs and of bf16 products, unless a
    /// turn failed.
    pub(super) fn timed(&mut self, rival: &Rival<'_>, [fma, bf16]: [Option<&Rival<'_>>; 2]) {
        if let Some(Figures { ms_min, ms_median, gflops, roof_percent }) = rival.figures(fma) {
            (self.ms_min, self.ms_median) = (Some(ms_min), Some(ms_median));
            (self.gflops, self.roof_percent) = (Some(gflops), roof_percent);
            self.bf16_roof_gflops = bf16.map(Rival::median_gflops);
        }
    }

    /// Removes the times, because the output is wrong.
    pub(super) fn untimed(&mut self) {
        (self.ms_min, self.ms_median, self.gflops) = (None, None, None);
        (self.roof_percent, self.bf16_roof_gflops) = (None, None);
    }

    /// What the row has in common with the rows of other layers that it is compared with.
    pub(super) fn run(&self) -> Run {
        let Self { direction, threads, isa, layout, .. } = *self;
        Run { direction, threads, isa, layout }
    }

    /// Whether both rows have the times of the same run of the same layer. The library's choice is not timed again under
    /// the name of its algorithm.
    pub(super) fn is_same_run(&self, other: &Self) -> bool {
        let key = |row: &Self| (row.run(), row.ms_min, row.ms_median);
        self.layer == other.layer && self.ms_median.is_some() && key(self) == key(other)
    }

    /// The method that computed the layer: of a choice, the chosen one if it is known.
    pub(super) fn method(&self) -> &str {
        self.chosen.as_deref().unwrap_or(&self.algorithm)
    }

    /// The name of the engine, if the row belongs to a peer.
    pub fn peer(&self) -> Option<&str> {
        self.algorithm.strip_prefix("peer:")
    }
}

/// A direction, number of threads, instruction set and layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run {
    pub(super) direction: Direction,
    pub(super) threads: usize,
    pub(super) isa: &'static str,
    pub(super) layout: &'static str,
}

impl Run {
    /// The direction before the rest of a title, unless it is the usual one.
    pub(super) fn prefix(&self) -> String {
        match self.direction {
            Direction::Forward => String::new(),
            other => format!("{other}, "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::by_id;

    #[test]
    fn json_has_the_promised_fields_and_no_others() {
        let problem = Problem::bare(by_id("lenet5.c3"));
        let mut row = LayerRow::new(&problem, "auto".to_owned(), Isa::Portable, "nchw16c");
        row.checked(Errors { l2: 1e-7, largest: 3e-7 }, 2e-6);
        let mut rival = Rival::new("auto", problem.spec.flops(), || {});
        rival.seconds = vec![2e-3, 1e-3, 3e-3];
        let mut roof = Rival::new("roof", 1.2e6, || {});
        roof.seconds = vec![1e-3];
        let mut bf16 = Rival::new("bf16", 3e6, || {});
        bf16.seconds = vec![1e-3];
        row.timed(&rival, [Some(&roof), Some(&bf16)]);
        row.chosen = Some("direct".to_owned());
        let json = serde_json::to_value(&row).unwrap();
        let expected = serde_json::json!({
            "layer": "lenet5.c3", "algorithm": "auto", "isa": "portable", "layout": "nchw16c", "threads": 1,
            "ms_min": 1.0, "ms_median": 2.0, "gflops": 0.24, "roof_percent": 20.0, "bf16_roof_gflops": 3.0,
            "rel_l2_error": 1e-7, "max_error": 3e-7, "shape": "1x6x14x14-16-5x5-s1-p0-g1", "chosen": "direct",
            "direction": "forward",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn what_is_wrong_or_failed_has_no_times() {
        let problem = Problem::bare(by_id("lenet5.c3"));
        let mut row = LayerRow::new(&problem, "auto".to_owned(), Isa::Portable, "nchw16c");
        for (error, is_wrong) in [(f64::NAN, true), (f64::INFINITY, true), (1e-5, true), (1e-6, false)] {
            row.checked(Errors::all(error), 2e-6);
            assert_eq!(row.is_wrong, is_wrong, "{error}");
        }
        let mut rival = Rival::new("auto", 1.0, || {});
        rival.seconds = vec![1.0, f64::NAN];
        row.timed(&rival, [None; 2]);
        assert!(row.ms_median.is_none());
        let json = serde_json::to_value(LayerRow { rel_l2_error: f64::NAN, ..row }).unwrap();
        assert!(json["rel_l2_error"].is_null() && json["ms_min"].is_null());
    }
}
