//! [`Heads`]: the losses of the network and of its side classifiers.

use super::loss::{BatchLoss, Loss};
use super::unit::{Mode, Run, as_row, read, split};
use crate::run::operand::Operand;
use kernels::{ConvError, Layout, Shape4, TensorMut, TensorRef};

/// All classifiers of a network. The first one is that of the network.
pub(super) struct Heads {
    heads: Vec<Head>,
    loss: Loss,
    /// The loss of each example.
    losses: Vec<f32>,
}

struct Head {
    logits: Operand,
    gradient: Operand,
    weight: f32,
    /// Distances with the sign of logits, if the network computes distances.
    negated: Option<Vec<f32>>,
}

/// The labels of a batch, which can be smaller than that of the network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labels<'a> {
    pub(super) labels: &'a [u32],
    pub(super) images: usize,
    /// The factor of the gradient of the mean loss.
    pub(super) weight: f32,
}

impl Heads {
    /// Classifiers with logits, their gradient and the weight of their loss.
    pub(super) fn new(heads: Vec<(Operand, Operand, f32)>, loss: Loss, are_distances: bool) -> Self {
        let examples = |operand: &Operand| operand.shape.n * operand.shape.h * operand.shape.w;
        let most = heads.iter().map(|(logits, ..)| examples(logits)).max().unwrap_or(0);
        let heads = heads.into_iter().map(|(logits, gradient, weight)| {
            let negated = are_distances.then(|| vec![0.0; examples(&logits) * logits.shape.c]);
            Head { logits, gradient, weight, negated }
        });
        Self { heads: heads.collect(), loss, losses: vec![0.0; most] }
    }

    /// The logits of the network.
    pub(super) fn logits(&self) -> &Operand {
        &self.heads[0].logits
    }

    /// Computes the losses and the gradients of the logits. At inference, side classifiers do not count.
    pub(super) fn run(&mut self, run: &mut Run<'_>, labels: Labels<'_>) -> Result<BatchLoss, ConvError> {
        let mut all = BatchLoss::default();
        let counted = if run.mode == Mode::Training { self.heads.len() } else { 1 };
        for (number, head) in self.heads.iter_mut().take(counted).enumerate() {
            let (value, correct) = head.run(self.loss, run, labels, &mut self.losses)?;
            all.value += f64::from(head.weight) * value;
            if number == 0 {
                all.correct = correct;
            }
        }
        Ok(all)
    }
}

/// The first `images` of a tensor.
fn first_images(operand: &Operand, images: usize) -> Operand {
    as_row(&Operand { shape: Shape4 { n: images, ..operand.shape }, ..operand.clone() })
}

impl Head {
    /// The mean loss and the number of right answers.
    fn run(
        &mut self,
        loss: Loss,
        run: &mut Run<'_>,
        labels: Labels<'_>,
        losses: &mut [f32],
    ) -> Result<(f64, usize), ConvError> {
        let logits = first_images(&self.logits, labels.images);
        let gradient = first_images(&self.gradient, labels.images);
        let Shape4 { n, h, w, .. } = logits.shape;
        let losses = &mut losses[..n * h * w];
        let weight = labels.weight * self.weight / losses.len() as f32;
        let (sources, data) = split(run.arena, run.inputs, &gradient);
        let x = match &mut self.negated {
            Some(negated) => {
                let from = logits.images(sources.get(&logits)).flatten();
                negated.iter_mut().zip(from).for_each(|(to, x)| *to = -x);
                let len = logits.shape.len(Layout::Nhwc)?;
                TensorRef::packed(&negated[..len], logits.shape, logits.layout)?
            }
            None => read(&sources, &logits)?,
        };
        let mean = match loss {
            Loss::CrossEntropy => {
                let dx = gradient.tensor_mut(data)?;
                run.ops.cross_entropy(x, labels.labels, weight, losses, dx, run.threads)?
            }
            Loss::Hinge { margin } => {
                hinge(x, labels.labels, (margin, weight), losses, gradient.tensor_mut(data)?)?
            }
        };
        let correct = correct(x, labels.labels);
        if self.negated.is_some() {
            gradient.images_mut(data).flatten().for_each(|g| *g = -*g);
        }
        Ok((mean, correct))
    }
}

/// The image, row and column of each example, in the order of the labels.
fn examples(shape: Shape4) -> impl Iterator<Item = (usize, usize, usize)> {
    let Shape4 { n, h, w, .. } = shape;
    (0..n).flat_map(move |n| (0..h).flat_map(move |h| (0..w).map(move |w| (n, h, w))))
}

/// Number of examples whose largest logit is that of their label.
fn correct(x: TensorRef<'_>, labels: &[u32]) -> usize {
    let is_right = |&((n, h, w), label): &((usize, usize, usize), &u32)| {
        let (label, of) = (*label as usize, |class: usize| x.data()[x.offset(n, class, h, w)]);
        let own = of(label);
        // The first of equals wins, as in PyTorch.
        (0..label).all(|class| of(class) < own) && (label + 1..x.shape().c).all(|class| of(class) <= own)
    };
    examples(x.shape()).zip(labels).filter(is_right).count()
}

/// The hinge loss of each example and its gradient: `weight` for each class whose margin is too small, and minus their sum for
/// the label. Returns the mean of the losses.
fn hinge(
    x: TensorRef<'_>,
    labels: &[u32],
    (margin, weight): (f32, f32),
    losses: &mut [f32],
    mut dx: TensorMut<'_>,
) -> Result<f64, ConvError> {
    let classes = x.shape().c;
    if labels.len() != losses.len() {
        return Err(ConvError::BufferLen { what: "labels", expected: losses.len(), got: labels.len() });
    }
    if let Some(label) = labels.iter().find(|label| **label as usize >= classes) {
        let (expected, got) = (format!("less than the {classes} channels"), label.to_string());
        return Err(ConvError::InvalidField { field: "labels", expected, got });
    }
    for (((n, h, w), label), loss) in examples(x.shape()).zip(labels).zip(losses.iter_mut()) {
        let (label, of) = (*label as usize, |class: usize| x.data()[x.offset(n, class, h, w)]);
        let mut wrong = 0;
        *loss = 0.0;
        for class in 0..classes {
            let excess = of(class) - of(label) + margin;
            let counts = class != label && excess > 0.0;
            *loss += if counts { excess } else { 0.0 };
            wrong += usize::from(counts);
            let at = dx.offset(n, class, h, w);
            dx.data_mut()[at] = if counts { weight } else { 0.0 };
        }
        let at = dx.offset(n, label, h, w);
        dx.data_mut()[at] = -weight * wrong as f32;
    }
    Ok(losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / losses.len() as f64)
}
