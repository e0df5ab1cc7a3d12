//! Batch normalisation: with the statistics of the batch while training, and with running averages at inference.

use super::{InputGradient, Mode, Run, Unit, Wiring, as_row, read, scale_and_shift, split, values_of};
use kernels::{BatchNormSpec, BatchStatistics, ConvError, NormGradients};

/// A batch normalisation with its activation.
pub(in crate::train) struct BatchNormUnit {
    wiring: Wiring,
    gradient: InputGradient,
    spec: BatchNormSpec,
    params: BatchNormParams,
    /// The statistics of the batch: the mean, and one divided by the standard deviation. At inference, shift and scale.
    mean: Vec<f32>,
    inverse: Vec<f32>,
}

/// The tensors of a batch normalisation among the parameters.
#[derive(Debug, Clone, Copy)]
pub(in crate::train) struct BatchNormParams {
    pub(in crate::train) scale_and_shift: Option<(usize, usize)>,
    pub(in crate::train) running_mean: usize,
    pub(in crate::train) running_var: usize,
    pub(in crate::train) trains: bool,
    pub(in crate::train) accumulates: bool,
}

impl BatchNormUnit {
    pub(in crate::train) fn new(
        wiring: Wiring,
        spec: BatchNormSpec,
        params: BatchNormParams,
    ) -> Result<Self, ConvError> {
        let channels = wiring.target.shape.c;
        let wiring = wiring.seen_as(as_row);
        let gradient = InputGradient::new(&wiring, params.trains)?;
        let (mean, inverse) = (vec![0.0; channels], vec![0.0; channels]);
        Ok(Self { wiring, gradient, spec, params, mean, inverse })
    }

    /// Normalises with the statistics of the batch. Updates the running averages if they are given.
    fn normalise(
        &mut self,
        run: &mut Run<'_>,
        running: Option<(&mut [f32], &mut [f32])>,
    ) -> Result<(), ConvError> {
        let (sources, data) = split(run.arena, run.inputs, &self.wiring.target);
        let params = values_of(run.values, self.params.scale_and_shift);
        let statistics = BatchStatistics { mean: &mut self.mean, inverse: &mut self.inverse, running };
        let (x, y) = (read(&sources, self.wiring.source())?, self.wiring.target.tensor_mut(data)?);
        run.ops.batch_norm(self.spec, params, x, y, statistics, run.threads)
    }

    /// Normalises with the statistics of the batch, and updates the running averages.
    fn train(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let BatchNormParams { running_mean, running_var, .. } = self.params;
        let mut pick = |index: usize| std::mem::take(&mut run.values[index]);
        // Moved out for the call, because two of the four are written.
        let (mut mean, mut variance) = (pick(running_mean), pick(running_var));
        let result = self.normalise(run, Some((&mut mean, &mut variance)));
        (run.values[running_mean], run.values[running_var]) = (mean, variance);
        result
    }

    /// Normalises with the running averages.
    fn infer(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let BatchNormParams { scale_and_shift, running_mean, running_var, .. } = self.params;
        let (mean, variance) = (&run.values[running_mean], &run.values[running_var]);
        let params = scale_and_shift.map(|(scale, shift)| (&run.values[scale], &run.values[shift]));
        for c in 0..mean.len() {
            let (scale, shift) = params.map_or((1.0, 0.0), |(scale, shift)| (scale[c], shift[c]));
            let scale = f64::from(scale) / (f64::from(variance[c]) + f64::from(self.spec.eps)).sqrt();
            self.inverse[c] = scale as f32;
            self.mean[c] = (f64::from(shift) - f64::from(mean[c]) * scale) as f32;
        }
        let (sources, data) = split(run.arena, run.inputs, &self.wiring.target);
        let (x, y) = (read(&sources, self.wiring.source())?, self.wiring.target.tensor_mut(data)?);
        run.ops.affine((&self.inverse, &self.mean), self.spec.activation, x, y, run.threads)
    }
}

impl Unit for BatchNormUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        match run.mode {
            Mode::Training => self.train(run),
            Mode::Inference => self.infer(run),
        }
    }

    /// The statistics are computed again, because those in use are rounded.
    fn recompute(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        self.normalise(run, None)
    }

    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let Some((sources, input)) = self.gradient.split(run.arena, run.inputs)? else { return Ok(()) };
        let tensors = (read(&sources, self.wiring.source())?, read(&sources, &self.wiring.dy)?);
        let BatchNormParams { scale_and_shift: params, trains, accumulates, .. } = self.params;
        let (scale, shift) = scale_and_shift(run.gradients, params.filter(|_| trains), accumulates);
        let into = NormGradients { input, scale, shift };
        let params = values_of(run.values, params);
        let statistics = (&self.mean[..], &self.inverse[..]);
        run.ops.batch_norm_gradient(self.spec, params, statistics, tensors, into, run.threads)
    }
}
