//! Activations that no other layer computes.

use super::{Dx, Run, Unit, Wiring, as_row, parameter, read, split};
use kernels::{Activation, ActivationValue, ConvError};

/// An activation.
pub(in crate::train) struct ActivationUnit {
    wiring: Wiring,
    activation: Activation,
    /// The slopes of PReLU among the parameters.
    slope: Option<usize>,
    accumulates: bool,
    /// The gradient of slopes that are not trained.
    discarded: Option<Vec<f32>>,
}

impl ActivationUnit {
    pub(in crate::train) fn new(
        wiring: Wiring,
        activation: Activation,
        slope: Option<usize>,
        (trains, accumulates): (bool, bool),
    ) -> Self {
        let channels = wiring.source().shape.c;
        let dx = wiring.dx().map(|dx| Dx { operand: as_row(&dx.operand), adds: dx.adds });
        let wiring = Wiring {
            sources: vec![as_row(wiring.source())],
            target: as_row(&wiring.target),
            dy: as_row(&wiring.dy),
            dx: vec![dx],
        };
        let discarded = slope.filter(|_| !trains).map(|_| vec![0.0; channels]);
        Self { wiring, activation, slope, accumulates, discarded }
    }

    fn is_in_place(&self) -> bool {
        self.wiring.source().place == self.wiring.target.place
    }
}

impl Unit for ActivationUnit {
    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let (sources, data) = split(run.arena, run.inputs, &self.wiring.target);
        if !self.is_in_place() {
            let x = read(&sources, self.wiring.source())?;
            run.ops.copy(x, self.wiring.target.tensor_mut(data)?, run.threads)?;
        }
        let slope = self.slope.map(|slope| &run.values[slope][..]);
        run.ops.activate(self.activation, slope, self.wiring.target.tensor_mut(data)?, run.threads)
    }

    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let Wiring { target, dy, .. } = &self.wiring;
        let Some(dx) = self.wiring.dx() else {
            // The gradient of the input is in the memory of that of the output.
            let (sources, data) = split(run.arena, run.inputs, dy);
            let (y, tensor) = (read(&sources, target)?, dy.tensor_mut(data)?);
            return run.ops.activate_gradient_in_place(self.activation, y, tensor, run.threads);
        };
        let (sources, data) = split(run.arena, run.inputs, &dx.operand);
        let (gradient, to) = (read(&sources, dy)?, dx.gradient(data)?);
        let Some(slope) = self.slope else {
            let value = match self.activation.is_known_by_output() {
                true => ActivationValue::Output(read(&sources, target)?),
                false => ActivationValue::Input(read(&sources, self.wiring.source())?),
            };
            return run.ops.activate_gradient(self.activation, value, gradient, to, run.threads);
        };
        let x = read(&sources, self.wiring.source())?;
        let dslope = self.discarded.as_mut().unwrap_or(&mut run.gradients[slope]);
        let dslope = parameter(dslope, self.accumulates);
        run.ops.prelu_gradient(&run.values[slope], x, gradient, to, dslope, run.threads)
    }
}
