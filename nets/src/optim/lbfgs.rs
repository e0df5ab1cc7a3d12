//! [`Lbfgs`]: the quasi-Newton method with limited memory.

use std::collections::VecDeque;

/// L-BFGS (Liu and Nocedal 1989; Nocedal and Wright, "Numerical optimization", 2006, algorithms 7.4 and 7.5).
///
/// It needs the same loss in each evaluation: the full batch, without dropout and augmentation. It keeps `2 history`
/// vectors as long as all weights together, so it is for small networks.
///
/// The step length is `rate`, as in PyTorch without a line search, and in the first step `rate min(1, 1 / |g|_1)`. If a
/// step does not lower the loss, it is halved, at most [`Lbfgs::HALVINGS`] times.
#[derive(Debug, Clone)]
pub struct Lbfgs {
    rate: f64,
    history: usize,
    /// Differences of weights and of gradients, and the reciprocal of their product; the newest last.
    pairs: VecDeque<(Vec<f32>, Vec<f32>, f64)>,
    /// The gradient at the weights, and the loss, once it is known.
    last: Option<(f64, Vec<f32>)>,
}

impl Lbfgs {
    /// How often a step is halved before it is taken as it is.
    pub const HALVINGS: u32 = 20;

    /// With a step length, and the number of steps to remember.
    pub fn new(rate: f64, history: usize) -> Self {
        Self { rate, history: history.max(1), pairs: VecDeque::new(), last: None }
    }

    /// One step. `evaluate` returns the loss at its first argument and writes the gradient to its second. Returns the loss
    /// after the step.
    ///
    /// # Errors
    /// Those of `evaluate`.
    pub fn step<E>(
        &mut self,
        weights: &mut [f32],
        mut evaluate: impl FnMut(&[f32], &mut [f32]) -> Result<f64, E>,
    ) -> Result<f64, E> {
        let (loss, gradient) = match self.last.take() {
            Some(last) => last,
            None => {
                let mut gradient = vec![0.0; weights.len()];
                (evaluate(weights, &mut gradient)?, gradient)
            }
        };
        let direction = self.direction(&gradient);
        let mut length = match self.pairs.is_empty() {
            true => self.rate * (1.0 / sum_of_sizes(&gradient).max(f64::MIN_POSITIVE)).min(1.0),
            false => self.rate,
        };
        let before = weights.to_vec();
        let mut new_gradient = vec![0.0; weights.len()];
        let mut new_loss = f64::NAN;
        for _ in 0..=Self::HALVINGS {
            for ((weight, &before), &direction) in weights.iter_mut().zip(&before).zip(&direction) {
                *weight = before + (length * f64::from(direction)) as f32;
            }
            new_loss = evaluate(weights, &mut new_gradient)?;
            if new_loss <= loss {
                break;
            }
            length /= 2.0;
        }
        self.remember(differences(weights, &before), differences(&new_gradient, &gradient));
        self.last = Some((new_loss, new_gradient));
        Ok(new_loss)
    }

    /// What it remembers: pairs of differences of weights and of gradients, the oldest first.
    pub fn state(&self) -> impl ExactSizeIterator<Item = (&[f32], &[f32])> {
        self.pairs.iter().map(|(step, change, _)| (&step[..], &change[..]))
    }

    /// Continues from saved pairs. The gradient at the weights is evaluated again by the next step.
    pub fn restore(&mut self, pairs: impl IntoIterator<Item = (Vec<f32>, Vec<f32>)>) {
        (self.pairs, self.last) = (VecDeque::new(), None);
        pairs.into_iter().for_each(|(step, change)| self.remember(step, change));
    }

    /// The two loops of algorithm 7.4: minus the gradient, times the estimate of the inverse Hessian.
    fn direction(&self, gradient: &[f32]) -> Vec<f32> {
        let mut direction: Vec<f32> = gradient.iter().map(|&number| -number).collect();
        let mut shares = Vec::with_capacity(self.pairs.len());
        for (step, change, reciprocal) in self.pairs.iter().rev() {
            let share = reciprocal * dot(step, &direction);
            add(&mut direction, -share, change);
            shares.push(share);
        }
        if let Some((_, change, reciprocal)) = self.pairs.back() {
            let scale = 1.0 / (reciprocal * dot(change, change));
            direction.iter_mut().for_each(|number| *number = (f64::from(*number) * scale) as f32);
        }
        for ((step, change, reciprocal), share) in self.pairs.iter().zip(shares.iter().rev()) {
            let other = reciprocal * dot(change, &direction);
            add(&mut direction, share - other, step);
        }
        direction
    }

    /// Keeps a pair if the loss curves upwards along the step; otherwise the estimate would not be positive definite.
    fn remember(&mut self, step: Vec<f32>, change: Vec<f32>) {
        const LEAST_CURVATURE: f64 = 1e-10;
        let product = dot(&step, &change);
        if product > LEAST_CURVATURE {
            if self.pairs.len() == self.history {
                self.pairs.pop_front();
            }
            self.pairs.push_back((step, change, 1.0 / product));
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn add(to: &mut [f32], factor: f64, what: &[f32]) {
    to.iter_mut().zip(what).for_each(|(to, &what)| *to = (f64::from(*to) + factor * f64::from(what)) as f32);
}

fn differences(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn sum_of_sizes(numbers: &[f32]) -> f64 {
    numbers.iter().map(|&number| f64::from(number).abs()).sum()
}
