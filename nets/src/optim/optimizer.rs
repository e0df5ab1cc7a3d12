//! [`Optimizer`]: a rule with what it remembers of each parameter.

use super::rule::{Penalty, Rule};
use super::update::{Step, update};
use std::collections::HashMap;
use thiserror::Error;

/// A rule with what it remembers of each parameter. All memory is allocated by [`new`](Self::new).
#[derive(Debug, Clone)]
pub struct Optimizer {
    rule: Rule,
    penalty: Penalty,
    steps: u64,
    slots: Vec<Slot>,
}

/// What the rule remembers of one parameter.
#[derive(Debug, Clone)]
struct Slot {
    name: String,
    len: usize,
    buffers: [Vec<f32>; 2],
}

/// Why a saved state does not fit an optimiser.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("state of the optimiser: tensor `{tensor}`: expected {expected} elements, got {got}")]
pub struct StateError {
    /// The tensor.
    pub tensor: String,
    /// Its number of elements.
    pub expected: usize,
    /// What the saved state has: a number of elements, or no such tensor.
    pub got: String,
}

impl Optimizer {
    /// An optimiser for parameters with these names and numbers of elements.
    pub fn new<N: Into<String>>(
        rule: Rule,
        penalty: Penalty,
        parameters: impl IntoIterator<Item = (N, usize)>,
    ) -> Self {
        let count = rule.buffers().len();
        let slots = parameters.into_iter().map(|(name, len)| {
            let buffer = |index: usize| if index < count { vec![0.0; len] } else { Vec::new() };
            Slot { name: name.into(), len, buffers: [buffer(0), buffer(1)] }
        });
        Self { rule, penalty, steps: 0, slots: slots.collect() }
    }

    /// The rule.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The penalty.
    pub fn penalty(&self) -> Penalty {
        self.penalty
    }

    /// The number of steps that have begun.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Begins a step. Call it once before the parameters are updated.
    pub fn begin(&mut self) {
        self.steps += 1;
    }

    /// Updates one parameter. `is_weight` says whether the penalty and the decay apply to it.
    ///
    /// # Panics
    /// If there is no parameter `index`, or if it has another number of elements.
    pub fn step(&mut self, index: usize, rate: f64, weights: &mut [f32], gradient: &[f32], is_weight: bool) {
        let slot = &mut self.slots[index];
        assert_eq!((weights.len(), gradient.len()), (slot.len, slot.len), "elements of `{}`", slot.name);
        let (penalty, decay) = match (is_weight, self.rule) {
            (true, Rule::AdamW { decay, .. }) => (self.penalty, decay),
            (true, _) => (self.penalty, 0.0),
            (false, _) => (Penalty::default(), 0.0),
        };
        let step = Step { rate: rate as f32, penalty, count: self.steps, decay };
        let [first, second] = &mut slot.buffers;
        update(self.rule, step, weights, gradient, first, second);
    }

    /// What the rule remembers: tensors `parameter/buffer`.
    pub fn state(&self) -> impl Iterator<Item = (String, &[f32])> {
        self.slots.iter().flat_map(|slot| {
            let names = self.rule.buffers().iter();
            names.zip(&slot.buffers).map(|(name, buffer)| (format!("{}/{name}", slot.name), &buffer[..]))
        })
    }

    /// Continues from a saved state after `steps` steps.
    ///
    /// # Errors
    /// If a tensor is missing or has another number of elements. The optimiser is unchanged then.
    pub fn restore(&mut self, steps: u64, state: &HashMap<String, Vec<f32>>) -> Result<(), StateError> {
        for (tensor, buffer) in self.state() {
            let expected = buffer.len();
            let got = state.get(&tensor).map(Vec::len);
            if got != Some(expected) {
                let got = got.map_or("no such tensor".to_owned(), |len| len.to_string());
                return Err(StateError { tensor, expected, got });
            }
        }
        let names = self.rule.buffers();
        for slot in &mut self.slots {
            for (name, buffer) in names.iter().zip(&mut slot.buffers) {
                buffer.copy_from_slice(&state[&format!("{}/{name}", slot.name)]);
            }
        }
        self.steps = steps;
        Ok(())
    }
}
