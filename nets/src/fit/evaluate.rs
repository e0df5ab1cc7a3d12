//! Measures on all pictures of a feed.

use crate::data::{Augment, Batches, Feed, Span};
use crate::error::NetError;
use crate::train::{BatchLoss, TrainNet};
use kernels::Threads;

/// All pictures, unchanged and in the order of the data.
fn batches(feed: &Feed) -> Result<Batches, NetError> {
    let feed = Feed { seed: None, augment: Augment::default(), ..feed.clone() };
    feed.start(Span { epoch: 0, batch: 0, end: 1 })
}

/// The mean loss and the right answers on all pictures of a feed.
pub(super) fn evaluate(net: &mut TrainNet, feed: &Feed, threads: Threads<'_>) -> Result<BatchLoss, NetError> {
    let mut batches = batches(feed)?;
    let (mut sum, mut correct) = (0.0, 0);
    while let Some(batch) = batches.next_batch()? {
        let loss = net.evaluate(&batch.images, &batch.labels, threads)?;
        sum += loss.value * batch.labels.len() as f64;
        correct += loss.correct;
        batches.reuse(batch);
    }
    Ok(BatchLoss { value: sum / feed.data.len() as f64, correct })
}

/// The first parameter or layer where numbers are not finite, on the first batch where there is one.
///
/// # Errors
/// Those of [`TrainNet::first_not_finite`] and of the data.
pub(super) fn first_not_finite(
    net: &mut TrainNet,
    feed: &Feed,
    threads: Threads<'_>,
) -> Result<Option<String>, NetError> {
    let mut batches = batches(feed)?;
    while let Some(mut batch) = batches.next_batch()? {
        batch.images.resize(feed.batch * feed.frame.len(), 0.0);
        if let Some(place) = net.first_not_finite(&batch.images, threads)? {
            return Ok(Some(place));
        }
        batches.reuse(batch);
    }
    Ok(None)
}
