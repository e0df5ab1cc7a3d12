//! [`Feed`]: batches of pictures. A thread prepares them ahead of the training.

use super::augment::Augment;
use super::dataset::{Dataset, Frame};
use super::normalise::Normalisation;
use super::random::{Purpose, Random};
use crate::error::NetError;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// Batches that are prepared ahead, besides the one that is being read.
const AHEAD: usize = 3;

/// How pictures become batches.
#[derive(Debug, Clone)]
pub struct Feed {
    /// The pictures.
    pub data: Dataset,
    /// The shape that the network reads.
    pub frame: Frame,
    /// Applied to every picture.
    pub normalisation: Normalisation,
    /// Applied to every picture before, with numbers that depend on the seed, the epoch and the place.
    pub augment: Augment,
    /// Pictures per batch.
    pub batch: usize,
    /// The seed of the order and of the augmentation; `None` for the order of the data.
    pub seed: Option<u64>,
}

/// The batches to prepare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first epoch, from 0.
    pub epoch: u64,
    /// The first batch of this epoch.
    pub batch: u64,
    /// The end of the epochs.
    pub end: u64,
}

/// Pictures in NCHW order, and their labels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// The numbers.
    pub images: Vec<f32>,
    /// The classes.
    pub labels: Vec<u32>,
}

impl Feed {
    /// Batches of an epoch. In a random order, what is left of the last batch is left out; in the order of the data, the
    /// last batch can be smaller.
    pub fn batches_per_epoch(&self) -> u64 {
        let batches = match self.seed {
            Some(_) => self.data.len() / self.batch,
            None => self.data.len().div_ceil(self.batch),
        };
        batches as u64
    }

    /// Starts a thread that prepares batches. It is at most a few batches ahead.
    ///
    /// # Errors
    /// [`NetError::Io`] if the system has no thread.
    pub fn start(&self, span: Span) -> Result<Batches, NetError> {
        let (filled, receiver) = sync_channel(AHEAD);
        let (returned, empty) = channel();
        let feed = self.clone();
        let thread = std::thread::Builder::new().name("batches".to_owned());
        let thread = thread.spawn(move || feed.run(span, &filled, &empty));
        let failed =
            |cause| NetError::Io { action: "start a thread for", path: self.data.name().into(), cause };
        Ok(Batches { receiver: Some(receiver), returned, thread: Some(thread.map_err(failed)?) })
    }

    /// Prepares batches until the span ends, a picture cannot be read, or nobody listens.
    fn run(&self, span: Span, filled: &SyncSender<Result<Batch, NetError>>, empty: &Receiver<Batch>) {
        let mut scratch = vec![0.0; self.frame.len()];
        for epoch in span.epoch..span.end {
            let order = self.order(epoch);
            let first = if epoch == span.epoch { span.batch } else { 0 };
            for number in first..self.batches_per_epoch() {
                let mut batch = empty.try_recv().unwrap_or_default();
                let result = self.fill(&mut batch, &order, epoch, number, &mut scratch);
                let failed = result.is_err();
                if filled.send(result.map(|()| batch)).is_err() || failed {
                    return;
                }
            }
        }
    }

    /// The order of an epoch.
    fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.data.len()).collect();
        if let Some(seed) = self.seed {
            Random::new(seed, Purpose::Order, epoch, 0).shuffle(&mut order);
        }
        order
    }

    fn fill(
        &self,
        batch: &mut Batch,
        order: &[usize],
        epoch: u64,
        number: u64,
        scratch: &mut [f32],
    ) -> Result<(), NetError> {
        let first = number as usize * self.batch;
        let members = &order[first..(first + self.batch).min(order.len())];
        batch.images.resize(members.len() * self.frame.len(), 0.0);
        batch.labels.clear();
        batch.labels.extend(members.iter().map(|&index| self.data.label(index)));
        let pictures = batch.images.chunks_exact_mut(self.frame.len());
        for ((picture, &index), place) in pictures.zip(members).zip(first as u64..) {
            self.data.read(index, self.frame, picture)?;
            let mut random = Random::new(self.seed.unwrap_or(0), Purpose::Augment, epoch, place);
            self.augment.apply(picture, scratch, self.frame, &mut random);
            self.normalisation.apply(picture);
            self.augment.cut_out(picture, self.frame, &mut random);
        }
        Ok(())
    }
}

/// The batches of a [`Feed`], in order. The thread ends when this is dropped.
#[derive(Debug)]
pub struct Batches {
    receiver: Option<Receiver<Result<Batch, NetError>>>,
    returned: Sender<Batch>,
    thread: Option<JoinHandle<()>>,
}

impl Batches {
    /// The next batch; `None` after the last.
    ///
    /// # Errors
    /// [`NetError::Io`] and [`NetError::Picture`] for a picture that cannot be read. No batches come after that.
    ///
    /// # Panics
    /// If the thread did. An early end would pass for the last batch.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, NetError> {
        let batch = self.receiver.as_ref().and_then(|receiver| receiver.recv().ok());
        if batch.is_none()
            && let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
        {
            std::panic::resume_unwind(panic);
        }
        batch.transpose()
    }

    /// Gives back the memory of a batch.
    pub fn reuse(&self, batch: Batch) {
        // If the thread has ended, nobody needs it.
        let _ = self.returned.send(batch);
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // Without a receiver, the thread fails to send and ends.
        drop(self.receiver.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
