//! `--trace`: the fastest pass of each measurement as a timeline, in Chrome's trace event format.

use super::measure::Measured;
use serde_json::{Value, json};

/// One process per measurement, and one event per layer.
pub(super) fn json(name: &str, results: &[Measured]) -> serde_json::Result<String> {
    let mut events: Vec<Value> = Vec::new();
    for (process, run) in results.iter().enumerate() {
        let title = format!("{name}: batch {}, {} thread(s)", run.batch, run.threads);
        events.push(json!({
            "name": "process_name", "ph": "M", "pid": process, "tid": 0, "args": { "name": title }
        }));
        for layer in run.layers.iter().filter(|layer| layer.step.layout.is_some()) {
            let (start, duration) = layer.span;
            let step = &layer.step;
            events.push(json!({
                "name": step.name, "cat": step.op, "ph": "X", "pid": process, "tid": 0,
                "ts": start.as_secs_f64() * 1e6, "dur": duration.as_secs_f64() * 1e6,
                "args": {
                    "op": step.op, "output": step.output.to_string(), "macs": step.macs,
                    "algorithm": step.algorithm.map(|algorithm| algorithm.name()),
                    "products": step.products.map(|products| products.name()), "kernel": step.kernel,
                }
            }));
        }
    }
    Ok(serde_json::to_string(&json!({ "traceEvents": events, "displayTimeUnit": "ms" }))? + "\n")
}
