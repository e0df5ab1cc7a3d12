//! The passes over a compiled network: [`forward`] and [`backward`].

use super::figures::Kind;
use super::heads::Heads;
use super::parameter::Params;
use super::unit::{Draw, Mode, Run, Unit, all, in_reverse, split};
use crate::error::NetError;
use crate::run::operand::Operand;
use kernels::{Buffer, ConvError, Ops, Threads, Workspace};

/// What compilation makes.
pub(super) struct Parts {
    pub(super) ops: Ops,
    pub(super) steps: Vec<Step>,
    pub(super) heads: Heads,
    pub(super) params: Params,
    pub(super) arena: Buffer,
    pub(super) workspace: Workspace,
    /// The probability that each residual block is kept.
    pub(super) survivals: Vec<f32>,
}

/// One operation of a pass.
pub(super) struct Step {
    /// The name of the layer, for errors.
    pub(super) name: String,
    pub(super) unit: Box<dyn Unit>,
    pub(super) has_gradient: bool,
    /// Gradients that are set to zero before the backward pass of the unit.
    pub(super) zeros: Vec<Operand>,
    /// Steps whose outputs are computed again before the backward pass of the unit.
    pub(super) again: Vec<usize>,
    /// The residual block whose branch the operation belongs to.
    pub(super) block: Option<usize>,
    /// The gradients of inputs that the unit writes first: zero if the block is dropped.
    pub(super) skipped: Vec<Operand>,
    /// The parameters of the unit, whose gradients are zero if the block is dropped.
    pub(super) params: Vec<usize>,
    pub(super) target: Operand,
    pub(super) figures: Option<Kind>,
    /// Where the figures are written.
    pub(super) row: Option<usize>,
}

impl Step {
    /// Whether stochastic depth drops the operation in this pass.
    fn is_dropped(&self, run: &Run<'_>) -> bool {
        run.mode == Mode::Training && self.block.is_some_and(|block| run.dropped[block])
    }
}

/// Calls the steps of a pass, and names the layer in errors.
impl Parts {
    pub(super) fn run<'a>(&'a mut self, of: PassOf<'a>) -> (&'a mut [Step], &'a mut Heads, Run<'a>) {
        let Self { ops, steps, heads, params, arena, workspace, .. } = self;
        let run = Run {
            ops,
            threads: of.threads,
            inputs: of.inputs,
            arena,
            workspace,
            values: &mut params.values,
            gradients: &mut params.gradients,
            mode: of.mode,
            draw: of.draw,
            dropped: of.dropped,
        };
        (steps, heads, run)
    }
}

/// What a pass computes.
#[derive(Clone, Copy)]
pub(super) struct PassOf<'a> {
    pub(super) threads: Threads<'a>,
    pub(super) inputs: &'a [&'a [f32]],
    pub(super) mode: Mode,
    pub(super) draw: Draw,
    pub(super) dropped: &'a [bool],
}

pub(super) fn named(step: &str) -> impl FnOnce(ConvError) -> NetError + '_ {
    move |error| NetError::layer(step, error)
}

/// Computes all values, and calls `done` after each step.
pub(super) fn forward(
    steps: &mut [Step],
    run: &mut Run<'_>,
    mut done: impl FnMut(&Step, &[f32]),
) -> Result<(), NetError> {
    for step in steps {
        if !step.is_dropped(run) {
            step.unit.forward(run).map_err(named(&step.name))?;
            done(step, all(run.arena, run.inputs).get(&step.target));
        }
    }
    Ok(())
}

/// Computes all gradients.
pub(super) fn backward(steps: &mut [Step], run: &mut Run<'_>, accumulates: bool) -> Result<(), NetError> {
    for index in (0..steps.len()).rev() {
        recompute(steps, index, run)?;
        let step = &mut steps[index];
        if !step.has_gradient {
            continue;
        }
        step.zeros.iter().for_each(|operand| clear(operand, run));
        if step.is_dropped(run) {
            step.skipped.iter().for_each(|operand| clear(operand, run));
            let params = step.params.iter().filter(|_| !accumulates);
            params.for_each(|&param| run.gradients[param].fill(0.0));
        } else {
            in_reverse(&mut *step.unit, |unit| unit.backward(run)).map_err(named(&step.name))?;
        }
    }
    Ok(())
}

/// Computes values again that the backward pass of step `index` is the first to read.
fn recompute(steps: &mut [Step], index: usize, run: &mut Run<'_>) -> Result<(), NetError> {
    for place in 0..steps[index].again.len() {
        let other = steps[index].again[place];
        let step = &mut steps[other];
        if !step.is_dropped(run) {
            in_reverse(&mut *step.unit, |unit| unit.recompute(run)).map_err(named(&step.name))?;
        }
    }
    Ok(())
}

fn clear(operand: &Operand, run: &mut Run<'_>) {
    let (_, data) = split(run.arena, run.inputs, operand);
    operand.images_mut(data).for_each(|image| image.fill(0.0));
}
