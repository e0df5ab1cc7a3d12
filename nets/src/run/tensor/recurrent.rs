//! Recurrent layers, as ONNX defines them.

use crate::layer::{Cell, Recurrent, sigmoid};

/// The operands of a recurrent layer. An empty slice stands for zeros.
pub(super) struct States<'a> {
    pub(super) input: &'a [f32],
    pub(super) weights: &'a [f32],
    pub(super) recurrence: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) hidden: &'a [f32],
    pub(super) cell: &'a [f32],
    pub(super) peepholes: &'a [f32],
}

/// The extents of the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sequence {
    pub(super) time: usize,
    pub(super) batch: usize,
    pub(super) width: usize,
}

/// One direction: its part of each operand.
struct Direction<'a> {
    layer: &'a Recurrent,
    number: usize,
    weights: &'a [f32],
    recurrence: &'a [f32],
    bias: &'a [f32],
    peepholes: &'a [f32],
}

/// Elements of scratch memory: the state, the cell, and two rows of gates.
pub(super) fn scratch_len(layer: &Recurrent) -> usize {
    layer.hidden * (2 + 2 * layer.cell.gates())
}

pub(super) fn run(
    layer: &Recurrent,
    sequence: Sequence,
    states: &States<'_>,
    scratch: &mut [f32],
    to: &mut [f32],
) {
    let Sequence { time, batch, width } = sequence;
    let (hidden, gates, directions) = (layer.hidden, layer.cell.gates(), layer.reversed.len());
    for (number, &reversed) in layer.reversed.iter().enumerate() {
        let part = |data: &'_ [f32], len: usize| -> std::ops::Range<usize> {
            if data.is_empty() { 0..0 } else { number * len..(number + 1) * len }
        };
        let direction = Direction {
            layer,
            number,
            weights: &states.weights[part(states.weights, gates * hidden * width)],
            recurrence: &states.recurrence[part(states.recurrence, gates * hidden * hidden)],
            bias: &states.bias[part(states.bias, 2 * gates * hidden)],
            peepholes: &states.peepholes[part(states.peepholes, 3 * hidden)],
        };
        for image in 0..batch {
            let (h, rest) = scratch.split_at_mut(hidden);
            let (c, sums) = rest.split_at_mut(hidden);
            let first = (number * batch + image) * hidden;
            let initial = |from: &[f32], to: &mut [f32]| match from.get(first..first + hidden) {
                Some(from) => to.copy_from_slice(from),
                None => to.fill(0.0),
            };
            initial(states.hidden, h);
            initial(states.cell, c);
            for step in 0..time {
                let at = if reversed { time - 1 - step } else { step };
                let start = (at * batch + image) * width;
                direction.step(&states.input[start..start + width], h, c, sums);
                if layer.part == 0 {
                    let start = ((at * directions + number) * batch + image) * hidden;
                    to[start..start + hidden].copy_from_slice(h);
                }
            }
            if layer.part > 0 {
                to[first..first + hidden].copy_from_slice(if layer.part == 1 { h } else { c });
            }
        }
    }
}

impl Direction<'_> {
    /// Replaces the state and the cell by those of the next time. `sums` has room for two rows of gates.
    fn step(&self, x: &[f32], h: &mut [f32], c: &mut [f32], sums: &mut [f32]) {
        let (rows, hidden) = (self.layer.cell.gates() * self.layer.hidden, self.layer.hidden);
        let (from_input, from_state) = sums.split_at_mut(rows);
        product(self.weights, x, self.bias.get(..rows), from_input);
        product(self.recurrence, h, self.bias.get(rows..2 * rows), &mut from_state[..rows]);
        match self.layer.cell {
            Cell::Rnn => {
                for i in 0..hidden {
                    h[i] = self.function(0, from_input[i] + from_state[i]);
                }
            }
            Cell::Gru { linear_before_reset } => {
                self.gru(linear_before_reset, h, from_input, &mut from_state[..rows]);
            }
            Cell::Lstm { input_forget } => self.lstm(input_forget, (h, c), from_input, from_state),
        }
    }

    /// Gates in the order update, reset, candidate.
    fn gru(&self, linear_before_reset: bool, h: &mut [f32], from_input: &mut [f32], from_state: &mut [f32]) {
        let hidden = self.layer.hidden;
        for i in 0..2 * hidden {
            from_input[i] = self.function(0, from_input[i] + from_state[i]);
        }
        if !linear_before_reset {
            // The state is reset before the product. The first rows of `from_state` are free.
            let (reset, candidate) = from_state.split_at_mut(2 * hidden);
            for i in 0..hidden {
                reset[i] = from_input[hidden + i] * h[i];
            }
            let bias = self.bias.get(5 * hidden..6 * hidden);
            product(&self.recurrence[2 * hidden * hidden..], &reset[..hidden], bias, candidate);
        }
        for i in 0..hidden {
            let reset = if linear_before_reset { from_input[hidden + i] } else { 1.0 };
            let candidate = self.function(1, from_input[2 * hidden + i] + reset * from_state[2 * hidden + i]);
            let update = from_input[i];
            h[i] = (1.0 - update) * candidate + update * h[i];
        }
    }

    /// Gates in the order input, output, forget, cell.
    fn lstm(
        &self,
        input_forget: bool,
        (h, c): (&mut [f32], &mut [f32]),
        from_input: &[f32],
        from_state: &[f32],
    ) {
        let hidden = self.layer.hidden;
        for i in 0..hidden {
            let sum = |gate: usize| from_input[gate * hidden + i] + from_state[gate * hidden + i];
            let peep = |gate: usize| self.peepholes.get(gate * hidden + i).copied().unwrap_or(0.0);
            let input = self.function(0, sum(0) + peep(0) * c[i]);
            let forget = if input_forget { 1.0 - input } else { self.function(0, sum(2) + peep(2) * c[i]) };
            let next = forget * c[i] + input * self.function(1, sum(3));
            let output = self.function(0, sum(1) + peep(1) * next);
            c[i] = next;
            h[i] = output * self.function(2, next);
        }
    }

    /// The function of this number, after clipping its argument.
    fn function(&self, number: usize, x: f32) -> f32 {
        let x = match self.layer.clip {
            // The last function of an LSTM reads the cell, which is not clipped.
            Some(limit) if number < 2 => x.clamp(-limit, limit),
            _ => x,
        };
        match self.layer.functions.get(self.number).and_then(|functions| functions.get(number)) {
            Some(function) => function.at(x),
            None => sigmoid(x),
        }
    }
}

/// `matrix * vector + bias`.
fn product(matrix: &[f32], vector: &[f32], bias: Option<&[f32]>, to: &mut [f32]) {
    for (number, (to, row)) in to.iter_mut().zip(matrix.chunks_exact(vector.len())).enumerate() {
        let sum: f32 = row.iter().zip(vector).map(|(a, b)| a * b).sum();
        *to = sum + bias.map_or(0.0, |bias| bias[number]);
    }
}
