//! Puts the phases of a transposed convolution in place.

use crate::subpixel::{Axis, SubPixel};
use crate::threads::{self, PARALLEL};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Writes every element of `output` (NCHW) from `phases`, the output of the ordinary convolution. `rest` is the
/// value of the outputs of a channel that no tap reaches.
pub(crate) fn interleave(
    plan: &SubPixel,
    phases: &[f32],
    output: &mut [MaybeUninit<f32>],
    rest: impl Fn(usize) -> f32 + Sync,
) {
    let SubPixel { problem, rows, columns } = plan;
    let plane = rows.outputs * columns.outputs;
    let positions = rows.positions * columns.positions * plan.phases();
    assert_eq!(output.len() / plane, phases.len() / positions, "channels of all images");
    let fill = |(index, (output, phases)): (usize, (&mut [MaybeUninit<f32>], &[f32]))| {
        channel(rows, columns, phases, output, rest(index % problem.output.c));
    };
    let parallel = output.len() >= PARALLEL && threads::count() > 1;
    if parallel {
        output.par_chunks_mut(plane).zip(phases.par_chunks(positions)).enumerate().for_each(fill);
    } else {
        output.chunks_mut(plane).zip(phases.chunks(positions)).enumerate().for_each(fill);
    }
}

/// Interleaves one channel of one image.
fn channel(rows: &Axis, columns: &Axis, phases: &[f32], output: &mut [MaybeUninit<f32>], rest: f32) {
    let phase_len = rows.positions * columns.positions;
    for (y, line) in output.chunks_mut(columns.outputs).enumerate() {
        let place = y + rows.padding;
        let row = rows.phases.iter().position(|&phase| phase == place % rows.stride);
        if row.is_none() || columns.phases.len() < columns.stride {
            line.fill(MaybeUninit::new(rest));
        }
        let Some(row) = row else { continue };
        let start = (place / rows.stride - rows.first) * columns.positions;
        for (column, &phase) in columns.phases.iter().enumerate() {
            let source = &phases[(row * columns.phases.len() + column) * phase_len + start..];
            // The first output of this phase, and its position.
            let x = (phase + columns.stride - columns.padding % columns.stride) % columns.stride;
            let Some(count) = columns.outputs.checked_sub(x).map(|rest| rest.div_ceil(columns.stride)) else {
                continue;
            };
            let first = (x + columns.padding) / columns.stride - columns.first;
            let outputs = line.iter_mut().skip(x).step_by(columns.stride);
            for (output, &value) in outputs.zip(&source[first..][..count]) {
                output.write(value);
            }
        }
    }
}
