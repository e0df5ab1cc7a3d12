//! The loops of the optimisers. Each is one pass over the elements without branches, which the compiler vectorises.

use super::rule::{Penalty, Rule};

/// What is the same for all elements of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// The learning rate.
    pub(super) rate: f32,
    pub(super) penalty: Penalty,
    /// The number of this step, from 1.
    pub(super) count: u64,
    /// The decay of AdamW for these weights.
    pub(super) decay: f32,
}

/// Updates `weights`. `first` and `second` are the buffers of the rule, in the order of [`Rule::buffers`]; those that a
/// rule does not have are empty.
pub(super) fn update(
    rule: Rule,
    step: Step,
    weights: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    match rule {
        Rule::Sgd => sgd(step, weights, gradient),
        Rule::Momentum { momentum } => velocity(step, momentum, 1.0, 0.0, (weights, gradient, first)),
        Rule::Nesterov { momentum } => velocity(step, momentum, momentum, 1.0, (weights, gradient, first)),
        Rule::LookAhead { momentum } => look_ahead(step, momentum, (weights, gradient, first, second)),
        Rule::AdaGrad { epsilon } => squares(step, (1.0, 1.0), epsilon, (weights, gradient, first)),
        Rule::RmsProp { decay, epsilon } => {
            squares(step, (decay as f32, (1.0 - decay) as f32), epsilon, (weights, gradient, first));
        }
        Rule::Adam { betas, epsilon, correction } => {
            let adam = Adam::new(step, betas, epsilon, correction);
            adam.run((weights, gradient, first, second));
        }
        Rule::AdamW { betas, epsilon, .. } => {
            Adam::new(step, betas, epsilon, true).run((weights, gradient, first, second));
        }
    }
}

fn sgd(step: Step, weights: &mut [f32], gradient: &[f32]) {
    for (weight, &gradient) in weights.iter_mut().zip(gradient) {
        *weight -= step.rate * step.penalty.gradient(gradient, *weight);
    }
}

type Three<'a> = (&'a mut [f32], &'a [f32], &'a mut [f32]);
type Four<'a> = (&'a mut [f32], &'a [f32], &'a mut [f32], &'a mut [f32]);

/// `v = m v + g`, `w -= a (of_v v + of_g g)`: momentum and Nesterov.
fn velocity(step: Step, momentum: f32, of_velocity: f32, of_gradient: f32, slices: Three<'_>) {
    let (weights, gradient, velocity) = slices;
    for ((weight, &gradient), velocity) in weights.iter_mut().zip(gradient).zip(velocity) {
        let gradient = step.penalty.gradient(gradient, *weight);
        *velocity = momentum * *velocity + gradient;
        *weight -= step.rate * (of_gradient * gradient + of_velocity * *velocity);
    }
}

/// `v = m v - a g`, `p += v`; the next gradient is taken at `p + m v`. Before the first step, `p` is `w`, and `v` is 0.
fn look_ahead(step: Step, momentum: f32, slices: Four<'_>) {
    let (weights, gradient, velocity, position) = slices;
    if step.count == 1 {
        position.copy_from_slice(weights);
    }
    for (((weight, &gradient), velocity), position) in
        weights.iter_mut().zip(gradient).zip(velocity).zip(position)
    {
        let gradient = step.penalty.gradient(gradient, *weight);
        *velocity = momentum * *velocity - step.rate * gradient;
        *position += *velocity;
        *weight = *position + momentum * *velocity;
    }
}

/// `s = old s + new g^2`, `w -= a g / (sqrt(s) + e)`: AdaGrad and RMSProp.
fn squares(step: Step, (old, new): (f32, f32), epsilon: f32, slices: Three<'_>) {
    let (weights, gradient, squares) = slices;
    for ((weight, &gradient), square) in weights.iter_mut().zip(gradient).zip(squares) {
        let gradient = step.penalty.gradient(gradient, *weight);
        *square = old * *square + new * (gradient * gradient);
        *weight -= step.rate * gradient / (square.sqrt() + epsilon);
    }
}

/// The numbers of a step of Adam.
struct Adam {
    penalty: Penalty,
    betas: (f64, f64),
    epsilon: f32,
    /// What each weight is multiplied by first: 1, or with AdamW a little less.
    keep: f32,
    /// The learning rate, divided by the missing part of the mean.
    rate: f32,
    /// The reciprocal of the square root of the missing part of the squares.
    square: f32,
}

impl Adam {
    fn new(step: Step, betas: (f64, f64), epsilon: f32, correction: bool) -> Self {
        // In double precision, because the second beta is near 1.
        let missing = |beta: f64| match correction {
            true => 1.0 - beta.powi(i32::try_from(step.count).unwrap_or(i32::MAX)),
            false => 1.0,
        };
        let rate = (f64::from(step.rate) / missing(betas.0)) as f32;
        let square = missing(betas.1).sqrt().recip() as f32;
        let keep = 1.0 - step.rate * step.decay;
        Self { penalty: step.penalty, betas, epsilon, keep, rate, square }
    }

    fn run(&self, slices: Four<'_>) {
        let (weights, gradient, means, squares) = slices;
        let [b1, b2] = [self.betas.0, self.betas.1].map(|beta| beta as f32);
        let [c1, c2] = [self.betas.0, self.betas.1].map(|beta| (1.0 - beta) as f32);
        for (((weight, &gradient), mean), square) in weights.iter_mut().zip(gradient).zip(means).zip(squares)
        {
            let gradient = self.penalty.gradient(gradient, *weight);
            *mean = b1 * *mean + c1 * gradient;
            *square = b2 * *square + c2 * (gradient * gradient);
            let size = square.sqrt() * self.square + self.epsilon;
            *weight = *weight * self.keep - self.rate * *mean / size;
        }
    }
}
