//! [`Average`]: averages of weights over the steps of a training.

/// An average of the weights of many steps.
///
/// Step `t` moves it by the share `max(1 - decay, 1 / t)` towards the weights. With a decay of 1 it is the mean
/// of all steps (Polyak and Juditsky 1992; Izmailov et al. 2018). With a smaller decay it forgets old steps exponentially,
/// and is the plain mean only at the beginning, so that the initial weights do not linger.
#[derive(Debug, Clone, PartialEq)]
pub struct Average {
    decay: f64,
    count: u64,
    values: Vec<Vec<f32>>,
}

impl Average {
    /// An average for parameters of these lengths.
    pub fn new(decay: f64, lens: impl IntoIterator<Item = usize>) -> Self {
        Self { decay, count: 0, values: lens.into_iter().map(|len| vec![0.0; len]).collect() }
    }

    /// The decay.
    pub fn decay(&self) -> f64 {
        self.decay
    }

    /// The number of steps in the average.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Begins a step. Call it once before the parameters are added.
    pub fn begin(&mut self) {
        self.count += 1;
    }

    /// Adds the weights of one parameter after a step.
    ///
    /// # Panics
    /// If there is no parameter `index`, or if it has another length.
    pub fn add(&mut self, index: usize, weights: &[f32]) {
        let share = (1.0 - self.decay).max(1.0 / self.count.max(1) as f64) as f32;
        let average = &mut self.values[index];
        assert_eq!(average.len(), weights.len(), "elements of an averaged parameter");
        for (average, &weight) in average.iter_mut().zip(weights) {
            *average += share * (weight - *average);
        }
    }

    /// The averages, in the order of the lengths.
    pub fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// Continues from saved values after `count` steps. Returns `false`, and changes nothing, if they have other lengths.
    pub fn restore(&mut self, count: u64, values: Vec<Vec<f32>>) -> bool {
        let fits = self.values.iter().map(Vec::len).eq(values.iter().map(Vec::len));
        if fits {
            (self.count, self.values) = (count, values);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(average: &mut Average, parameters: &[&[f32]]) {
        average.begin();
        parameters.iter().enumerate().for_each(|(index, weights)| average.add(index, weights));
    }

    #[test]
    fn a_decay_of_one_is_the_mean() {
        let mut average = Average::new(1.0, [2, 1]);
        for number in [1.0f32, 2.0, 6.0] {
            step(&mut average, &[&[number, -number], &[2.0 * number]]);
        }
        assert_eq!(average.values(), [vec![3.0, -3.0], vec![6.0]]);
    }

    #[test]
    fn a_smaller_decay_forgets() {
        let mut average = Average::new(0.5, [1]);
        step(&mut average, &[&[8.0]]);
        step(&mut average, &[&[4.0]]);
        assert_eq!(average.values()[0], [6.0]);
        step(&mut average, &[&[0.0]]);
        assert_eq!(average.values()[0], [3.0], "half of the old one, and no longer two thirds");
        assert!(!average.restore(1, vec![vec![0.0; 2]]));
        assert!(average.restore(7, vec![vec![1.0]]) && average.count() == 7);
    }
}
