//! Activations that no other layer computes.

use super::{InputGradient, Run, Unit, Wiring, as_row, parameter, read, split};
use kernels::{Activation, ActivationValue, ConvError};

/// An activation.
pub(in crate::train) struct ActivationUnit {
    wiring: Wiring,
    activation: Activation,
    accumulates: bool,
    slopes: Option<Slopes>,
}

/// The slopes of PReLU.
struct Slopes {
    /// Their place among the parameters.
    param: usize,
    input: InputGradient,
    /// The gradient of slopes that are not trained.
    discarded: Option<Vec<f32>>,
}

impl ActivationUnit {
    pub(in crate::train) fn new(
        wiring: Wiring,
        activation: Activation,
        slope: Option<usize>,
        (trains, accumulates): (bool, bool),
    ) -> Result<Self, ConvError> {
        let channels = wiring.source().shape.c;
        let wiring = wiring.seen_as(as_row);
        let slopes = slope.map(|param| {
            let discarded = (!trains).then(|| vec![0.0; channels]);
            Ok(Slopes { param, input: InputGradient::new(&wiring, trains)?, discarded })
        });
        Ok(Self { wiring, activation, accumulates, slopes: slopes.transpose()? })
    }

    fn is_in_place(&self) -> bool {
        self.wiring.source().place == self.wiring.target.place
    }
}

impl Unit for ActivationUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let (sources, data) = split(run.arena, run.inputs, &self.wiring.target);
        if !self.is_in_place() {
            let x = read(&sources, self.wiring.source())?;
            run.ops.copy(x, self.wiring.target.tensor_mut(data)?, run.threads)?;
        }
        let slope = self.slopes.as_ref().map(|slopes| &run.values[slopes.param][..]);
        run.ops.activate(self.activation, slope, self.wiring.target.tensor_mut(data)?, run.threads)
    }

    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let Wiring { target, dy, .. } = &self.wiring;
        if let Some(Slopes { param, input, discarded }) = &mut self.slopes {
            let Some((sources, to)) = input.split(run.arena, run.inputs)? else { return Ok(()) };
            let (x, gradient) = (read(&sources, self.wiring.source())?, read(&sources, dy)?);
            let dslope =
                parameter(discarded.as_mut().unwrap_or(&mut run.gradients[*param]), self.accumulates);
            return run.ops.prelu_gradient(&run.values[*param], x, gradient, to, dslope, run.threads);
        }
        // Without one of its own, the gradient of the input is in the memory of that of the output.
        let Some(dx) = self.wiring.dx() else { return self.wiring.undo(self.activation, run) };
        let (sources, data) = split(run.arena, run.inputs, &dx.operand);
        let value = match self.activation.is_known_by_output() {
            true => ActivationValue::Output(read(&sources, target)?),
            false => ActivationValue::Input(read(&sources, self.wiring.source())?),
        };
        let (gradient, to) = (read(&sources, dy)?, dx.gradient(data)?);
        run.ops.activate_gradient(self.activation, value, gradient, to, run.threads)
    }
}
