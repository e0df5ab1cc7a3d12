//! The counts of one network, layer by layer.

use super::Counted;
use crate::cli::rows::{Align, Rows};
use crate::cli::text::{bytes, thousands};
use nets::{Convention, LayerCount, NetCount, Receptive, Shape};
use serde::Serialize;

/// The output of `--format json`. Bytes, MACs and operations are for the whole batch.
#[derive(Serialize)]
pub(super) struct CountReport {
    /// The version of this object. A field that is renamed, removed or given another meaning raises it; new fields do not.
    schema: u32,
    pub(super) name: String,
    input: Vec<usize>,
    pub(super) batch: u64,
    pub(super) params: u64,
    weights: u64,
    biases: u64,
    norms: u64,
    slopes: u64,
    untrained: u64,
    pub(super) macs: u64,
    flops: u64,
    other_ops: u64,
    convention: &'static str,
    cost: u64,
    activation_bytes: u64,
    peak_activation_bytes: u64,
    weight_bytes: u64,
    /// Number of unknown operators. If there are any, the totals are lower bounds.
    unknown_layers: u64,
    pub(super) layers: Vec<LayerRow>,
}

#[derive(Serialize)]
pub(super) struct LayerRow {
    pub(super) name: String,
    op: String,
    /// The shape of the first input.
    input: Vec<usize>,
    inputs: Vec<Vec<usize>>,
    output: Vec<usize>,
    pub(super) params: u64,
    weights: u64,
    biases: u64,
    norms: u64,
    slopes: u64,
    untrained: u64,
    pub(super) macs: u64,
    pub(super) flops: u64,
    pub(super) other_ops: u64,
    cost: u64,
    share: f64,
    activation_bytes: u64,
    weight_bytes: u64,
    live_bytes: u64,
    pub(super) intensity: Option<f64>,
    receptive_field: Option<[u64; 2]>,
    jump: Option<[u64; 2]>,
    offset: Option<[i64; 2]>,
}

impl LayerRow {
    fn new(layer: &LayerCount, cost: u64, total: u64) -> Self {
        let field = |part: fn(&Receptive) -> [u64; 2]| layer.receptive.as_ref().map(part);
        Self {
            name: layer.name.clone(),
            op: layer.op.clone(),
            input: layer.inputs.first().map_or(Vec::new(), |shape| shape.dims()),
            inputs: layer.inputs.iter().map(|shape| shape.dims()).collect(),
            output: layer.output.dims(),
            params: layer.params,
            weights: layer.kinds.weights,
            biases: layer.kinds.biases,
            norms: layer.kinds.norms,
            slopes: layer.kinds.slopes,
            untrained: layer.untrained,
            macs: layer.macs,
            flops: layer.flops(),
            other_ops: layer.other_ops,
            cost,
            share: cost as f64 / total.max(1) as f64,
            activation_bytes: layer.activation_bytes,
            weight_bytes: layer.weight_bytes(),
            live_bytes: layer.live_bytes,
            intensity: layer.intensity(),
            receptive_field: field(|field| field.size),
            jump: field(|field| field.jump),
            offset: layer.receptive.map(|field| field.offset),
        }
    }
}

/// The version of the JSON object; see `docs/counting.md`.
const SCHEMA: u32 = 1;

impl CountReport {
    pub(super) fn new(counted: &Counted, convention: Convention, costs: &[u64]) -> anyhow::Result<Self> {
        let total = costs.iter().try_fold(0u64, |sum, &cost| sum.checked_add(cost));
        let Some(cost) = total else {
            anyhow::bail!("operations: expected a number that fits 64 bits, got an overflow")
        };
        let count: &NetCount = &counted.count;
        let layers = count.layers.iter().zip(costs).filter(|(layer, _)| !layer.inputs.is_empty());
        Ok(Self {
            schema: SCHEMA,
            name: counted.graph.name().to_owned(),
            input: counted.graph.input().dims(),
            batch: count.batch,
            params: count.params,
            weights: count.kinds.weights,
            biases: count.kinds.biases,
            norms: count.kinds.norms,
            slopes: count.kinds.slopes,
            untrained: count.untrained,
            macs: count.macs,
            flops: count.flops(),
            other_ops: count.other_ops,
            convention: convention.name(),
            cost,
            activation_bytes: count.activation_bytes,
            peak_activation_bytes: count.peak_activation_bytes,
            weight_bytes: count.weight_bytes(),
            unknown_layers: count.unknown_layers,
            layers: layers.map(|(layer, &own)| LayerRow::new(layer, own, cost)).collect(),
        })
    }

    /// Text for people: a table as wide as the terminal, then the totals.
    pub(super) fn text(&self) -> String {
        let images = if self.batch == 1 { "1 image".to_owned() } else { format!("{} images", self.batch) };
        let title = format!("{}, {images} of {}\n\n", self.name, extents(&self.input));
        let mut out = title + &self.rows(true).text();
        let mut line = |what: &str, value: String| out.push_str(&format!("{what:<13}{value}\n"));
        let least = if self.unknown_layers > 0 { "at least " } else { "" };
        line("\nParameters", format!(" {least}{}: {}", thousands(self.params), self.parts()));
        line("MACs", format!("{least}{}", thousands(self.macs)));
        line(
            "FLOPs",
            format!(
                "{least}{} (2 x MACs), and {} other operations",
                thousands(self.flops),
                thousands(self.other_ops)
            ),
        );
        if self.convention != Convention::Mac.name() {
            line("Cost", format!("{least}{} by the convention {}", thousands(self.cost), self.convention));
        }
        line("Weights", format!("{least}{}", bytes(self.weight_bytes)));
        line(
            "Activations",
            format!(
                "{least}{} in total, at most {} at the same time",
                bytes(self.activation_bytes),
                bytes(self.peak_activation_bytes)
            ),
        );
        out
    }

    fn parts(&self) -> String {
        let kinds = [
            (self.weights, "weights"),
            (self.biases, "biases"),
            (self.norms, "scales and shifts"),
            (self.slopes, "slopes"),
        ];
        let parts = kinds.iter().filter(|(count, _)| *count > 0);
        let mut text =
            parts.map(|(count, kind)| format!("{} {kind}", thousands(*count))).collect::<Vec<_>>().join(", ");
        if self.untrained > 0 {
            text += &format!("; also {} that are not trained", thousands(self.untrained));
        }
        text
    }

    /// The layers as a table, for people or complete.
    pub(super) fn rows(&self, for_people: bool) -> Rows {
        if for_people { self.short() } else { self.long() }
    }

    fn short(&self) -> Rows {
        let cost = self.convention != Convention::Mac.name();
        // On a narrow terminal, columns with higher ranks are dropped first.
        let mut rows = Rows::new(&[
            ("Layer", Align::Left, 0),
            ("Op", Align::Left, 0),
            ("Output", Align::Right, 0),
            ("Params", Align::Right, 0),
            ("MACs", Align::Right, 0),
            (if cost { self.convention } else { "Other ops" }, Align::Right, if cost { 0 } else { 2 }),
            ("Share", Align::Right, 1),
            ("Activation", Align::Right, 4),
            ("Ops/byte", Align::Right, 3),
            ("Field", Align::Right, 5),
            ("Jump", Align::Right, 6),
            ("Offset", Align::Right, 7),
        ]);
        for row in &self.layers {
            let pair = |numbers: Option<[u64; 2]>| numbers.map_or("-".to_owned(), one_or_two);
            rows.push(vec![
                row.name.clone(),
                row.op.clone(),
                extents(&row.output),
                thousands(row.params),
                thousands(row.macs),
                thousands(if cost { row.cost } else { row.other_ops }),
                format!("{:.1} %", row.share * 100.0),
                bytes(row.activation_bytes),
                row.intensity.map_or("-".to_owned(), |intensity| format!("{intensity:.1}")),
                pair(row.receptive_field),
                pair(row.jump),
                row.offset.map_or("-".to_owned(), one_or_two),
            ]);
        }
        let other = if cost { self.cost } else { self.other_ops };
        let sums = [self.params, self.macs, other].map(thousands);
        let total = if self.unknown_layers > 0 { "at least" } else { "total" };
        let mut total = vec![total.to_owned(), String::new(), String::new()];
        total.extend(sums);
        total.extend(["100.0 %".to_owned(), bytes(self.activation_bytes)]);
        total.resize(12, String::new());
        rows.total(total);
        rows
    }

    fn long(&self) -> Rows {
        let left = ["name", "op", "input", "output"].map(|name| (name, Align::Left, 0));
        let right = LONG.map(|name| (name, Align::Right, 0));
        let mut rows = Rows::new(&[&left[..], &right[..]].concat());
        for row in &self.layers {
            let numbers = [
                row.params,
                row.weights,
                row.biases,
                row.norms,
                row.slopes,
                row.untrained,
                row.macs,
                row.flops,
                row.other_ops,
                row.cost,
                row.activation_bytes,
                row.weight_bytes,
                row.live_bytes,
            ];
            let pair = |numbers: Option<[u64; 2]>| numbers.map_or(String::new(), one_or_two);
            let mut line = vec![row.name.clone(), row.op.clone(), extents(&row.input), extents(&row.output)];
            line.extend(numbers.iter().map(u64::to_string));
            line.push(format!("{:.6}", row.share));
            line.push(row.intensity.map_or(String::new(), |intensity| format!("{intensity:.4}")));
            line.extend([pair(row.receptive_field), pair(row.jump)]);
            line.push(row.offset.map_or(String::new(), one_or_two));
            rows.push(line);
        }
        rows
    }
}

/// The columns of `--format csv` after name, op, input and output.
const LONG: [&str; 18] = [
    "params",
    "weights",
    "biases",
    "norms",
    "slopes",
    "untrained",
    "macs",
    "flops",
    "other_ops",
    "cost",
    "activation_bytes",
    "weight_bytes",
    "live_bytes",
    "share",
    "intensity",
    "receptive_field",
    "jump",
    "offset",
];

/// Formats `7`, or `7x1` if the axes differ.
fn one_or_two<T: PartialEq + ToString>([h, w]: [T; 2]) -> String {
    if h == w { h.to_string() } else { format!("{}x{}", h.to_string(), w.to_string()) }
}

fn extents(dims: &[usize]) -> String {
    match *dims {
        [c, h, w] => Shape::map(c, h, w).to_string(),
        [] => Shape::Unknown.to_string(),
        _ => dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
    }
}
