//! Recurrent layers with their usual activations.

use super::functions::sigmoid;
use super::{Attr, Draw, DrawOp, Id, Value};
use arbitrary::Result;

pub const OPS: &[(&str, DrawOp)] = &[
    ("RNN", |d| recurrent(d, "RNN", 1)),
    ("GRU", |d| recurrent(d, "GRU", 3)),
    ("LSTM", |d| recurrent(d, "LSTM", 4)),
];

/// The parameters of one direction of a layer, and how it computes.
struct Cell {
    op: &'static str,
    units: usize,
    /// `[gates, units, features]`, `[gates, units, units]`, and two biases `[gates, units]`.
    weights: Vec<f64>,
    recurrence: Vec<f64>,
    biases: [Vec<f64>; 2],
    /// The weights of the cell in the gates of input, output and forgetting.
    peepholes: Vec<f64>,
    is_reset_last: bool,
}

impl Cell {
    /// What a row of the weights and its bias give for the features.
    fn input(&self, row: usize, x: &[f64]) -> f64 {
        let weights = &self.weights[row * x.len()..][..x.len()];
        weights.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + self.biases[0][row]
    }

    /// The same for the units.
    fn state(&self, row: usize, h: &[f64]) -> f64 {
        let weights = &self.recurrence[row * h.len()..][..h.len()];
        weights.iter().zip(h).map(|(w, h)| w * h).sum::<f64>()
    }

    /// One step: new units and a new cell.
    fn step(&self, x: &[f64], h: &[f64], c: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let units = self.units;
        let sum = |gate: usize, unit: usize| {
            let row = gate * units + unit;
            self.input(row, x) + self.state(row, h) + self.biases[1][row]
        };
        let all = |f: &dyn Fn(usize) -> f64| (0..units).map(f).collect::<Vec<_>>();
        match self.op {
            "RNN" => (all(&|unit| sum(0, unit).tanh()), c.to_vec()),
            "GRU" => {
                let (update, reset) =
                    (all(&|unit| sigmoid(sum(0, unit))), all(&|unit| sigmoid(sum(1, unit))));
                let gated = all(&|unit| reset[unit] * h[unit]);
                let hidden = |unit: usize| {
                    let row = 2 * units + unit;
                    let bias = self.biases[1][row];
                    let from_state = match self.is_reset_last {
                        true => reset[unit] * (self.state(row, h) + bias),
                        false => self.state(row, &gated) + bias,
                    };
                    (self.input(row, x) + from_state).tanh()
                };
                (all(&|unit| (1.0 - update[unit]) * hidden(unit) + update[unit] * h[unit]), c.to_vec())
            }
            _ => {
                let peephole = |part: usize, unit: usize| self.peepholes[part * units + unit];
                let kept = |unit: usize| sigmoid(sum(2, unit) + peephole(2, unit) * c[unit]);
                let taken = |unit: usize| sigmoid(sum(0, unit) + peephole(0, unit) * c[unit]);
                let cell = all(&|unit| kept(unit) * c[unit] + taken(unit) * sum(3, unit).tanh());
                let open = |unit: usize| sigmoid(sum(1, unit) + peephole(1, unit) * cell[unit]);
                (all(&|unit| open(unit) * cell[unit].tanh()), cell)
            }
        }
    }
}

/// The operands of a layer besides the sequence; states are `[directions, batch, units]`.
struct Operands {
    weights: Id,
    recurrence: Id,
    bias: Option<Id>,
    states: [Option<Id>; 2],
    peepholes: Option<Id>,
}

fn operands(
    d: &mut Draw<'_, '_>,
    op: &str,
    gates: usize,
    [directions, units, features]: [usize; 3],
    state_dims: &[usize],
) -> Result<Operands> {
    let weights = d.constant(&[directions, gates * units, features], -1.0, 1.0)?;
    let recurrence = d.constant(&[directions, gates * units, units], -1.0, 1.0)?;
    let mut some =
        |dims: &[usize]| if d.once_in(2)? { d.constant(dims, -1.0, 1.0).map(Some) } else { Ok(None) };
    let bias = some(&[directions, 2 * gates * units])?;
    let mut states = [some(state_dims)?, None];
    let mut peepholes = None;
    if op == "LSTM" {
        (states[1], peepholes) = (some(state_dims)?, some(&[directions, 3 * units])?);
    }
    Ok(Operands { weights, recurrence, bias, states, peepholes })
}

fn recurrent(d: &mut Draw<'_, '_>, op: &'static str, gates: usize) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() == 3 && value.len() <= 600)? else { return Ok(()) };
    let value = d.value(id).clone();
    let units = 1 + d.below(5)?;
    let (direction, is_reset_last, batch_first) = (d.below(4)?, d.once_in(2)?, d.once_in(3)?);
    let reversed: &[bool] = [&[false][..], &[false], &[true], &[false, true]][direction];
    let directions = reversed.len();
    let (time, batch) =
        if batch_first { (value.dims[1], value.dims[0]) } else { (value.dims[0], value.dims[1]) };
    let features = value.dims[2];
    // Places in sequences and states, which have the batch first with layout 1.
    let state_dims =
        if batch_first { vec![batch, directions, units] } else { vec![directions, batch, units] };
    let extents = [directions, units, features];
    let given = operands(d, op, gates, extents, &state_dims)?;
    let state_at = |direction: usize, image: usize| {
        units * if batch_first { image * directions + direction } else { direction * batch + image }
    };
    let part = |id: Option<Id>, start: usize, len: usize| -> Vec<f64> {
        id.map_or_else(|| vec![0.0; len], |id| d.value(id).data[start..start + len].to_vec())
    };
    let rows = gates * units;
    let mut sequence = vec![0.0; time * directions * batch * units];
    let mut last = [vec![0.0; directions * batch * units], vec![0.0; directions * batch * units]];
    for (direction, &is_reversed) in reversed.iter().enumerate() {
        let cell = Cell {
            op,
            units,
            weights: part(Some(given.weights), direction * rows * features, rows * features),
            recurrence: part(Some(given.recurrence), direction * rows * units, rows * units),
            biases: [0, 1].map(|which| part(given.bias, (2 * direction + which) * rows, rows)),
            peepholes: part(given.peepholes, direction * 3 * units, 3 * units),
            is_reset_last,
        };
        for image in 0..batch {
            let start = state_at(direction, image);
            let [mut h, mut c] = given.states.map(|id| part(id, start, units));
            for step in 0..time {
                let at = if is_reversed { time - 1 - step } else { step };
                let place = if batch_first { image * time + at } else { at * batch + image };
                (h, c) = cell.step(&value.data[place * features..][..features], &h, &c);
                let place = if batch_first {
                    (image * time + at) * directions + direction
                } else {
                    (at * directions + direction) * batch + image
                };
                sequence[place * units..][..units].copy_from_slice(&h);
            }
            last[0][start..start + units].copy_from_slice(&h);
            last[1][start..start + units].copy_from_slice(&c);
        }
    }
    let dims =
        if batch_first { vec![batch, time, directions, units] } else { vec![time, directions, batch, units] };
    let mut attrs = vec![("hidden_size", Attr::Int(units as i64))];
    if direction > 0 {
        attrs.push(("direction", Attr::Text(["forward", "reverse", "bidirectional"][direction - 1])));
    }
    if batch_first {
        attrs.push(("layout", Attr::Int(1)));
    }
    if op == "GRU" {
        attrs.push(("linear_before_reset", Attr::Int(is_reset_last.into())));
    }
    let mut inputs =
        vec![Some(id), Some(given.weights), Some(given.recurrence), given.bias, None, given.states[0]];
    let [h, c] = last;
    let mut outputs = vec![Value::new(dims, sequence), Value::new(state_dims.clone(), h)];
    if op == "LSTM" {
        inputs.extend([given.states[1], given.peepholes]);
        outputs.push(Value::new(state_dims, c));
    }
    outputs.truncate(1 + d.below(outputs.len())?);
    d.node_many(op, &inputs, &attrs, outputs);
    Ok(())
}
