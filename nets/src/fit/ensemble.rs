//! [`Ensemble`]: the average answer of several networks, or the answer of their average weights.

use crate::error::NetError;
use crate::graph::Graph;
use crate::weights::WeightSet;

/// The sum of the probabilities that several networks give to the classes of the same pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Ensemble {
    classes: usize,
    sums: Vec<f64>,
}

impl Ensemble {
    /// Without a network yet.
    pub fn new(pictures: usize, classes: usize) -> Self {
        Self { classes, sums: vec![0.0; pictures * classes] }
    }

    /// Adds the answers of a network: one number for each class of each picture, before the softmax.
    ///
    /// # Panics
    /// If there are not as many as pictures times classes.
    pub fn add(&mut self, logits: &[f32]) {
        assert_eq!(logits.len(), self.sums.len(), "answers of a network");
        for (sums, logits) in self.sums.chunks_exact_mut(self.classes).zip(logits.chunks_exact(self.classes))
        {
            // Less the largest, so that no power overflows.
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let powers = || logits.iter().map(|&logit| f64::from(logit - largest).exp());
            let total: f64 = powers().sum();
            sums.iter_mut().zip(powers()).for_each(|(sum, power)| *sum += power / total);
        }
    }

    /// Right answers, where the largest sum is the answer.
    pub fn correct(&self, labels: impl IntoIterator<Item = u32>) -> usize {
        let answers = self.sums.chunks_exact(self.classes).map(|sums| {
            let largest = sums.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            largest.map_or(0, |(class, _)| class)
        });
        answers.zip(labels).filter(|&(answer, label)| answer == label as usize).count()
    }

    /// The mean of several sets of weights of one network, for snapshots of one training. Weights of independent
    /// trainings have no useful mean, because their units are in different orders.
    ///
    /// # Errors
    /// [`NetError::TooLarge`] as for any weights.
    pub fn mean(graph: &Graph, sets: &[WeightSet]) -> Result<WeightSet, NetError> {
        let share = 1.0 / sets.len().max(1) as f64;
        WeightSet::from_params(graph, |name, param| {
            let mut sums = vec![0.0f64; param.dims.iter().product()];
            for tensor in sets.iter().filter_map(|set| set.get(name)) {
                sums.iter_mut().zip(tensor.data()).for_each(|(sum, &number)| *sum += f64::from(number));
            }
            Ok(sums.into_iter().map(|sum| (sum * share) as f32).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Init;
    use crate::zoo;

    #[test]
    fn sure_networks_outvote_unsure_ones() {
        let mut ensemble = Ensemble::new(2, 2);
        ensemble.add(&[0.1, 0.0, 0.0, 1000.0]);
        assert_eq!(ensemble.correct([0, 1]), 2);
        ensemble.add(&[0.0, 3.0, 0.0, 0.0]);
        assert_eq!(ensemble.correct([1, 1]), 2);
    }

    #[test]
    fn weights_are_averaged_by_element() {
        let graph = zoo::lenet5().unwrap();
        let sets = [1, 2].map(|seed| WeightSet::seeded(&graph, Init::He, seed).unwrap());
        let mean = Ensemble::mean(&graph, &sets).unwrap();
        let at = |set: &WeightSet| set.get("c3.weight").unwrap().data()[7];
        assert_eq!(at(&mean), ((f64::from(at(&sets[0])) + f64::from(at(&sets[1]))) / 2.0) as f32);
    }
}
