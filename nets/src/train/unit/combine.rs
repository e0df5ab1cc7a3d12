//! Sums of tensors: residual connections, with stochastic depth.

use super::{Dx, Mode, Run, Unit, Wiring, read, split};
use crate::run::operand::Operand;
use kernels::{Activation, ConvError, Gradient};

/// The sum of all inputs with its activation.
pub(in crate::train) struct AddUnit {
    pub(in crate::train) wiring: Wiring,
    pub(in crate::train) activation: Activation,
    pub(in crate::train) block: Option<Block>,
}

/// The residual block that a sum ends. Its first input is the branch, and its second one is the shortcut.
pub(in crate::train) struct Block {
    pub(in crate::train) number: usize,
    /// The probability that the branch is kept, for each channel: the scale at inference (Huang et al. 2016, eq. 5).
    pub(in crate::train) survival: Vec<f32>,
    pub(in crate::train) zeros: Vec<f32>,
}

impl AddUnit {
    fn is_dropped(&self, run: &Run<'_>) -> bool {
        run.mode == Mode::Training && self.block.as_ref().is_some_and(|block| run.dropped[block.number])
    }

    /// Copies a source to the target, unless it is there.
    fn begin(&self, source: &Operand, run: &mut Run<'_>) -> Result<(), ConvError> {
        let target = &self.wiring.target;
        if source.place == target.place {
            return Ok(());
        }
        let (sources, data) = split(run.arena, run.inputs, target);
        run.ops.copy(read(&sources, source)?, target.tensor_mut(data)?, run.threads)
    }
}

impl Unit for AddUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let Wiring { sources: operands, target, .. } = &self.wiring;
        let dropped = self.is_dropped(run);
        let (first, others) = match dropped {
            true => (&operands[1], &[][..]),
            false => (&operands[0], &operands[1..]),
        };
        self.begin(first, run)?;
        let (sources, data) = split(run.arena, run.inputs, target);
        if let Some(Block { survival, zeros, .. }) =
            self.block.as_ref().filter(|_| run.mode == Mode::Inference)
        {
            run.ops.scale_shift(survival, zeros, target.tensor_mut(data)?, run.threads)?;
        }
        let Some((last, others)) = others.split_last() else {
            return run.ops.activate(self.activation, None, target.tensor_mut(data)?, run.threads);
        };
        for addend in others {
            run.ops.add(read(&sources, addend)?, target.tensor_mut(data)?, Activation::None, run.threads)?;
        }
        run.ops.add(read(&sources, last)?, target.tensor_mut(data)?, self.activation, run.threads)
    }

    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        self.wiring.undo(self.activation, run)?;
        let Wiring { dy, dx, .. } = &self.wiring;
        let skipped = usize::from(self.is_dropped(run));
        dx.iter().skip(skipped).flatten().try_for_each(|dx| pass_on(dy, dx, run))
    }
}

/// Writes or adds the gradient of the output as the gradient of an input.
pub(super) fn pass_on(dy: &Operand, dx: &Dx, run: &mut Run<'_>) -> Result<(), ConvError> {
    let (sources, data) = split(run.arena, run.inputs, &dx.operand);
    let gradient = read(&sources, dy)?;
    match dx.gradient(data)? {
        Gradient::Add(tensor) => run.ops.add(gradient, tensor, Activation::None, run.threads),
        Gradient::Write(tensor) => run.ops.copy(gradient, tensor, run.threads),
    }
}
