//! The loss and gradient of a whole training part, for L-BFGS.

use super::trained::Trained;
use crate::data::{Feed, Span};
use crate::error::NetError;
use crate::optim::Penalty;
use crate::train::TrainNet;
use kernels::Threads;

/// A network with all its batches.
pub(super) struct FullBatch<'a> {
    pub(super) net: &'a mut TrainNet,
    pub(super) parameters: &'a [Trained],
    pub(super) penalty: Penalty,
    /// In the order of the data, so that it is the same in each evaluation.
    pub(super) feed: &'a Feed,
    pub(super) threads: Threads<'a>,
}

/// Places of the parameters in a vector of all weights.
fn ranges(parameters: &[Trained]) -> Vec<std::ops::Range<usize>> {
    let mut start = 0;
    let range = |parameter: &Trained| {
        let range = start..start + parameter.len;
        start = range.end;
        range
    };
    parameters.iter().map(range).collect()
}

/// All trained weights as one vector.
pub(super) fn weights(net: &TrainNet) -> Vec<f32> {
    net.parameters().flat_map(|parameter| parameter.value).copied().collect()
}

impl FullBatch<'_> {
    /// The mean loss over all whole batches at `weights`, with the penalty; and its gradient.
    pub(super) fn evaluate(&mut self, weights: &[f32], gradient: &mut [f32]) -> Result<f64, NetError> {
        let ranges = ranges(self.parameters);
        let own = |index: usize| &weights[ranges[index].clone()];
        self.net.update(|index, parameter| parameter.value.copy_from_slice(own(index)), self.threads)?;
        gradient.fill(0.0);
        let (mut loss, mut count) = (0.0, 0);
        let mut batches = self.feed.start(Span { epoch: 0, batch: 0, end: 1 })?;
        while let Some(batch) = batches.next_batch()?.filter(|batch| batch.labels.len() == self.feed.batch) {
            loss += self.net.gradients(&batch.images, &batch.labels, self.threads)?.value;
            count += 1;
            let of_batch = self.net.parameters().flat_map(|parameter| parameter.gradient);
            gradient.iter_mut().zip(of_batch).for_each(|(sum, number)| *sum += number);
            batches.reuse(batch);
        }
        let share = 1.0 / f64::from(count.max(1));
        gradient.iter_mut().for_each(|number| *number *= share as f32);
        loss *= share;
        let weights_only = self.parameters.iter().zip(&ranges).filter(|(parameter, _)| parameter.is_weight);
        for (_, range) in weights_only {
            loss += self.penalty.cost(&weights[range.clone()]);
            self.penalty.add_gradient(&mut gradient[range.clone()], &weights[range.clone()]);
        }
        Ok(loss)
    }
}
