//! 3-D plans against the definition.

use super::super::{JUNK, Pool};
use super::{After, Extents, Spatial, SpatialData, junk, same_bits, selections, supported, transforms};
use kernels::*;

pub fn shape(of: Extents) -> Shape5 {
    Shape5::new(of.n, of.c, of.size[0], of.size[1], of.size[2])
}

fn size([d, h, w]: super::Axes) -> Size3 {
    Size3::new(d, h, w)
}

/// The offset of an element, by the documentation of the layouts.
fn offset(layout: VolumeLayout, of: Extents, n: usize, c: usize, at: super::Axes) -> usize {
    let ([d, h, w], [z, y, x], blocks) = (of.size, at, of.c.div_ceil(16));
    match layout {
        VolumeLayout::Ncdhw => (((n * of.c + c) * d + z) * h + y) * w + x,
        VolumeLayout::Ndhwc => (((n * d + z) * h + y) * w + x) * of.c + c,
        VolumeLayout::Ndchw => (((n * d + z) * of.c + c) * h + y) * w + x,
        VolumeLayout::Ncdhw16c => ((((n * blocks + c / 16) * d + z) * h + y) * w + x) * 16 + c % 16,
        VolumeLayout::Ndchw16c => ((((n * d + z) * blocks + c / 16) * h + y) * w + x) * 16 + c % 16,
        other => panic!("an unknown layout {other}"),
    }
}

/// Values in `layout`, with junk in the padding lanes.
pub fn placed(layout: VolumeLayout, of: Extents, values: &[f32]) -> Vec<f32> {
    let mut data = vec![JUNK; shape(of).len(layout).expect("a small shape")];
    for ((n, c, at), &value) in of.each().zip(values) {
        data[offset(layout, of, n, c, at)] = value;
    }
    data
}

/// Values in plain order. Padding lanes must be zero if `zeros`.
pub fn plain(layout: VolumeLayout, of: Extents, data: &[f32], zeros: bool) -> Result<Vec<f32>, String> {
    let mut left = data.to_vec();
    let values = of.each().map(|(n, c, at)| std::mem::take(&mut left[offset(layout, of, n, c, at)]));
    let values: Vec<f32> = values.collect();
    match left.iter().find(|lane| zeros && lane.to_bits() != 0) {
        Some(lane) => Err(format!("a padding lane is {lane}, expected 0")),
        None => Ok(values),
    }
}

impl Spatial {
    pub fn volume_layouts(&self) -> (VolumeLayout, VolumeLayout) {
        (VolumeLayout::ALL[self.layouts.0], VolumeLayout::ALL[self.layouts.1])
    }

    pub fn conv3d(&self, epilogue: EpilogueSpec) -> Result<Conv3dDesc, ConvError> {
        let ([front, top, left], [back, bottom, right]) = (self.before, self.after);
        let (layout, output_layout) = self.volume_layouts();
        Conv3dDesc::builder(shape(self.input()), self.outs * self.groups, size(self.kernel))
            .stride(size(self.stride))
            .dilation(size(self.dilation))
            .pad(Pad3 { front, back, top, bottom, left, right })
            .groups(self.groups)
            .layout(layout)
            .output_layout(output_layout)
            .epilogue(epilogue)
            .build()
    }

    /// The transposed convolution with the input and the filter of the gradient of the input, if its parameters are allowed.
    fn transposed3d(&self) -> Option<Transposed3dDesc> {
        let output = self.output()?;
        let ([front, top, left], [back, bottom, right]) = (self.before, self.after);
        let mut rest = [0; 3];
        for (axis, rest) in rest.iter_mut().enumerate() {
            let reach = (output.size[axis] - 1) * self.stride[axis];
            let reach = reach + (self.kernel[axis] - 1) * self.dilation[axis] + 1;
            *rest = self.size[axis] + self.before[axis] + self.after[axis] - reach;
        }
        let desc = Transposed3dDesc::builder(shape(output), self.ins * self.groups, size(self.kernel))
            .stride(size(self.stride))
            .dilation(size(self.dilation))
            .pad(Pad3 { front, back, top, bottom, left, right })
            .output_pad(size(rest))
            .groups(self.groups)
            .layout(self.volume_layouts().0)
            .epilogue(self.epilogue)
            .build();
        desc.ok()
    }
}

/// Runs with one thread and with several, which must give the same bits.
pub fn with_threads(
    pools: &[Pool],
    mut run: impl FnMut(Threads<'_>) -> Result<Vec<f32>, ConvError>,
) -> Result<Vec<f32>, String> {
    let got = run(Threads::Seq).map_err(|error| error.to_string())?;
    for pool in pools {
        let other = run(pool.threads()).map_err(|error| error.to_string())?;
        if !same_bits(&got, &other) {
            return Err(format!("{} threads give other bits", pool.threads().count()));
        }
    }
    Ok(got)
}

pub fn check_forward(problem: &Spatial, pools: &[Pool]) -> Result<(), String> {
    let desc = problem.conv3d(problem.epilogue).map_err(|error| error.to_string())?;
    let (data, output) = (problem.data(), problem.output().expect("a valid problem"));
    let (from, to) = problem.volume_layouts();
    assert_eq!(desc.output(), shape(output));
    let truth = problem.forward(&data);
    let (x, residual) = (placed(from, problem.input(), &data.input), placed(to, output, &data.output));
    let after = after(&problem.epilogue, output, &data);
    let weights = Weights { filter: &data.filter, bias: after.bias, slope: after.slope };
    for options in selections() {
        let Some(plan) = supported(Conv3dPlan::new(&desc, weights, &options))? else { continue };
        let got = with_threads(pools, |threads| {
            let mut y = vec![JUNK; residual.len()];
            let io = Conv3dIo {
                input: VolumeRef::packed(&x, desc.input(), from)?,
                output: VolumeMut::packed(&mut y, desc.output(), to)?,
                residual: match problem.epilogue.residual {
                    true => Some(VolumeRef::packed(&residual, desc.output(), to)?),
                    false => None,
                },
            };
            plan.run(io, &mut junk(plan.workspace_req()), threads)?;
            Ok(y)
        });
        let compared = got.and_then(|got| {
            let transformed = plan.explain().plans().any(|plan| transforms(plan.algorithm()));
            truth.compare(after, transformed, &plain(to, output, &got, true)?)
        });
        compared.map_err(|fault| format!("{options:?}: {fault}\n{}", plan.explain()))?;
    }
    Ok(())
}

fn after<'a>(epilogue: &EpilogueSpec, extents: Extents, data: &'a SpatialData) -> After<'a> {
    After {
        bias: epilogue.bias.then_some(&data.bias[..extents.c]),
        residual: epilogue.residual.then_some(&data.output),
        slope: (epilogue.activation == Activation::PRelu).then_some(&data.slope[..extents.c]),
        activation: epilogue.activation,
        extents,
    }
}

pub fn check_data(problem: &Spatial, pools: &[Pool]) -> Result<(), String> {
    let desc = problem.conv3d(EpilogueSpec::NONE).map_err(|error| error.to_string())?;
    let (data, output) = (problem.data(), problem.output().expect("a valid problem"));
    let (from, to) = problem.volume_layouts();
    let truth = problem.backward_data(&data);
    let go = placed(to, output, &data.output);
    let old = placed(from, problem.input(), &data.input);
    let after = After::adding(problem.input(), problem.accumulate.then_some(&data.input));
    let spec = DataSpec { accumulate: problem.accumulate };
    for options in selections() {
        let Some(plan) = supported(BackwardData3d::new(&desc, &data.filter, spec, &options))? else {
            continue;
        };
        let got = with_threads(pools, |threads| {
            let mut gx = if problem.accumulate { old.clone() } else { vec![JUNK; old.len()] };
            let io = BackwardData3dIo::new(
                VolumeRef::packed(&go, desc.output(), to)?,
                VolumeMut::packed(&mut gx, desc.input(), from)?,
            );
            plan.run(io, &mut junk(plan.workspace_req()), threads)?;
            Ok(gx)
        });
        let compared = got.and_then(|got| {
            let transformed = plan.explain().plans().any(|plan| transforms(plan.algorithm()));
            truth.compare(after, transformed, &plain(from, problem.input(), &got, !problem.accumulate)?)
        });
        compared.map_err(|fault| format!("{options:?}: {fault}\n{}", plan.explain()))?;
    }
    Ok(())
}

pub fn check_weights(problem: &Spatial, pools: &[Pool]) -> Result<(), String> {
    let desc = problem.conv3d(EpilogueSpec::NONE).map_err(|error| error.to_string())?;
    let (data, output) = (problem.data(), problem.output().expect("a valid problem"));
    let (from, to) = problem.volume_layouts();
    let truth = problem.backward_weights(&data);
    let (x, go) = (placed(from, problem.input(), &data.input), placed(to, output, &data.output));
    let mut spec = WeightsSpec::default();
    (spec.bias, spec.accumulate) = (problem.epilogue.bias, problem.accumulate);
    let filter = Extents { n: output.c, c: problem.ins, size: problem.kernel };
    let after = After::adding(filter, problem.accumulate.then_some(&data.filter));
    for options in selections() {
        let Some(plan) = supported(BackwardWeights3d::new(&desc, &spec, &options))? else { continue };
        let got = with_threads(pools, |threads| {
            let mut gw = if spec.accumulate { data.filter.clone() } else { vec![JUNK; data.filter.len()] };
            let mut gb = if spec.accumulate { data.bias.clone() } else { vec![JUNK; data.bias.len()] };
            let io = BackwardWeights3dIo::new(
                VolumeRef::packed(&x, desc.input(), from)?,
                VolumeRef::packed(&go, desc.output(), to)?,
                &mut gw,
            );
            let io = if spec.bias { io.bias(&mut gb) } else { io };
            plan.run(io, &mut junk(plan.workspace_req()), threads)?;
            gw.extend(gb);
            Ok(gw)
        });
        let compared = got.and_then(|got| {
            let (gw, gb) = got.split_at(data.filter.len());
            let transformed = plan.plans().any(|plan| transforms(plan.algorithm()));
            truth.compare(after, transformed, gw)?;
            if spec.bias { compare_bias(problem, &data, gb) } else { Ok(()) }
        });
        compared.map_err(|fault| format!("{options:?}: {fault}\n{plan}"))?;
    }
    Ok(())
}

/// The gradient of the bias is the sum of the gradients of the output.
pub fn compare_bias(problem: &Spatial, data: &SpatialData, got: &[f32]) -> Result<(), String> {
    let output = problem.output().expect("a valid problem");
    let mut sums = vec![(0.0, 0.0); output.c];
    for ((_, c, _), &value) in output.each().zip(&data.output) {
        sums[c].0 += f64::from(value);
        sums[c].1 += f64::from(value.abs());
    }
    let count = (output.elements() / output.c) as f64;
    for (channel, (&got, (sum, magnitude))) in got.iter().zip(sums).enumerate() {
        let old = if problem.accumulate { f64::from(data.bias[channel]) } else { 0.0 };
        let tolerance = (count + 5.0) * f64::from(f32::EPSILON) * (magnitude + old.abs());
        let error = (f64::from(got) - sum - old).abs();
        if error.is_nan() || error > tolerance {
            return Err(format!("the bias of channel {channel} is {got}, expected {}", sum + old));
        }
    }
    Ok(())
}

pub fn check_transposed(problem: &Spatial, pools: &[Pool]) -> Result<(), String> {
    let Some(desc) = problem.transposed3d() else { return Ok(()) };
    let (data, output, layout) = (problem.data(), problem.output().expect("a valid problem"), desc.layout());
    let truth = problem.backward_data(&data);
    assert_eq!(desc.output(), shape(problem.input()));
    let (x, residual) = (placed(layout, output, &data.output), placed(layout, problem.input(), &data.input));
    let channels = problem.input().c;
    let per_channel: Vec<f32> = data.filter.iter().cycle().take(2 * channels).copied().collect();
    let (bias, slope) = per_channel.split_at(channels);
    let epilogue = problem.epilogue;
    let after = After {
        bias: epilogue.bias.then_some(bias),
        residual: epilogue.residual.then_some(&data.input),
        slope: (epilogue.activation == Activation::PRelu).then_some(slope),
        activation: epilogue.activation,
        extents: problem.input(),
    };
    let weights = Weights { filter: &data.filter, bias: after.bias, slope: after.slope };
    for options in selections() {
        let Some(plan) = supported(Transposed3dPlan::new(&desc, weights, &options))? else { continue };
        let got = with_threads(pools, |threads| {
            let mut y = vec![JUNK; residual.len()];
            let mut io = Conv3dIo::new(
                VolumeRef::packed(&x, desc.input(), layout)?,
                VolumeMut::packed(&mut y, desc.output(), layout)?,
            );
            if epilogue.residual {
                io = io.residual(VolumeRef::packed(&residual, desc.output(), layout)?);
            }
            plan.run(io, &mut junk(plan.workspace_req()), threads)?;
            Ok(y)
        });
        let compared = got.and_then(|got| {
            let transformed = plan.explain().plans().any(|plan| transforms(plan.algorithm()));
            truth.compare(after, transformed, &plain(layout, problem.input(), &got, true)?)
        });
        compared.map_err(|fault| format!("{options:?}: {fault}\n{}", plan.explain()))?;
    }
    Ok(())
}
