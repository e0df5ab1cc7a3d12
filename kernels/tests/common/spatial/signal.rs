//! 1-D plans against the definition.

use super::super::{JUNK, Pool};
use super::volume::{compare_bias, placed, plain, with_threads};
use super::{After, Extents, Spatial, junk, selections, supported, transforms};
use kernels::*;

/// The layout of volumes with the same order, for one slice of one row.
fn of_volumes(layout: Layout) -> VolumeLayout {
    match layout {
        Layout::Nhwc => VolumeLayout::Ndhwc,
        Layout::Nchw16c => VolumeLayout::Ncdhw16c,
        _ => VolumeLayout::Ncdhw,
    }
}

impl Spatial {
    /// Layouts of input and output.
    fn signal_layouts(&self) -> (Layout, Layout) {
        let layout = Layout::ALL[self.layouts.0 % 3];
        (layout, if self.layouts.1 == 0 { Layout::Nchw16c } else { layout })
    }

    pub fn conv1d(&self, epilogue: EpilogueSpec) -> Result<Conv1dDesc, ConvError> {
        let (layout, output_layout) = self.signal_layouts();
        let shape = Shape3::new(self.n, self.ins * self.groups, self.size[2]);
        Conv1dDesc::builder(shape, self.outs * self.groups, self.kernel[2])
            .stride(self.stride[2])
            .dilation(self.dilation[2])
            .pad(Pad1 { before: self.before[2], after: self.after[2] })
            .groups(self.groups)
            .layout(layout)
            .output_layout(output_layout)
            .epilogue(epilogue)
            .build()
    }
}

/// The operands of a problem in its layouts.
struct Placed {
    input: Vec<f32>,
    output: Vec<f32>,
    layouts: (VolumeLayout, VolumeLayout),
    extents: (Extents, Extents),
}

impl Placed {
    fn new(problem: &Spatial) -> Self {
        let (data, output) = (problem.data(), problem.output().expect("a valid problem"));
        let (from, to) = problem.signal_layouts();
        let layouts = (of_volumes(from), of_volumes(to));
        Self {
            input: placed(layouts.0, problem.input(), &data.input),
            output: placed(layouts.1, output, &data.output),
            layouts,
            extents: (problem.input(), output),
        }
    }
}

pub fn check_forward(problem: &Spatial, pools: &[Pool]) -> Result<(), String> {
    let desc = problem.conv1d(problem.epilogue).map_err(|error| error.to_string())?;
    let (data, memory, epilogue) = (problem.data(), Placed::new(problem), problem.epilogue);
    let (truth, output) = (problem.forward(&data), memory.extents.1);
    assert_eq!(desc.output(), Shape3::new(output.n, output.c, output.size[2]));
    let after = After {
        bias: epilogue.bias.then_some(&data.bias),
        residual: epilogue.residual.then_some(&data.output),
        slope: (epilogue.activation == Activation::PRelu).then_some(&data.slope),
        activation: epilogue.activation,
        extents: output,
    };
    let weights = Weights { filter: &data.filter, bias: after.bias, slope: after.slope };
    for options in selections() {
        let Some(plan) = supported(Conv1dPlan::new(&desc, weights, &options))? else { continue };
        let got = with_threads(pools, |threads| {
            let mut y = vec![JUNK; memory.output.len()];
            let mut io = ConvIo::new(
                TensorRef::packed(&memory.input, desc.input().into(), desc.layout())?,
                TensorMut::packed(&mut y, desc.output().into(), desc.output_layout())?,
            );
            if epilogue.residual {
                let residual = &memory.output;
                io = io.residual(TensorRef::packed(residual, desc.output().into(), desc.output_layout())?);
            }
            plan.run(io, &mut junk(plan.workspace_req()), threads)?;
            Ok(y)
        })?;
        truth
            .compare(
                after,
                plan.plans().any(|plan| transforms(plan.algorithm())),
                &plain(memory.layouts.1, output, &got, true)?,
            )
            .map_err(|fault| format!("{desc} {options:?}: {fault}"))?;
    }
    Ok(())
}

pub fn check_gradients(problem: &Spatial, pools: &[Pool]) -> Result<(), String> {
    let desc = problem.conv1d(EpilogueSpec::NONE).map_err(|error| error.to_string())?;
    for options in selections() {
        check_data(problem, &desc, &options, pools)
            .and_then(|()| check_weights(problem, &desc, &options, pools))
            .map_err(|fault| format!("{desc} {options:?}: {fault}"))?;
    }
    Ok(())
}

fn check_data(
    problem: &Spatial,
    desc: &Conv1dDesc,
    options: &PlanOptions,
    pools: &[Pool],
) -> Result<(), String> {
    let (data, memory) = (problem.data(), Placed::new(problem));
    let spec = DataSpec { accumulate: problem.accumulate };
    let Some(plan) = supported(BackwardData1d::new(desc, &data.filter, spec, options))? else {
        return Ok(());
    };
    let got = with_threads(pools, |threads| {
        let old = &memory.input;
        let mut gx = if spec.accumulate { old.clone() } else { vec![JUNK; old.len()] };
        let io = BackwardDataIo::new(
            TensorRef::packed(&memory.output, desc.output().into(), desc.output_layout())?,
            TensorMut::packed(&mut gx, desc.input().into(), desc.layout())?,
        );
        plan.run(io, &mut junk(plan.workspace_req()), threads)?;
        Ok(gx)
    })?;
    let transformed = plan.as_2d().phases().any(|(_, plan)| transforms(plan.algorithm()));
    let after = After::adding(problem.input(), spec.accumulate.then_some(&data.input));
    let got = plain(memory.layouts.0, problem.input(), &got, !spec.accumulate)?;
    problem.backward_data(&data).compare(after, transformed, &got)
}

fn check_weights(
    problem: &Spatial,
    desc: &Conv1dDesc,
    options: &PlanOptions,
    pools: &[Pool],
) -> Result<(), String> {
    let (data, memory) = (problem.data(), Placed::new(problem));
    let mut spec = WeightsSpec::default();
    (spec.bias, spec.accumulate) = (problem.epilogue.bias, problem.accumulate);
    let Some(plan) = supported(BackwardWeights1d::new(desc, &spec, options))? else { return Ok(()) };
    let got = with_threads(pools, |threads| {
        let mut gw = if spec.accumulate { data.filter.clone() } else { vec![JUNK; data.filter.len()] };
        let mut gb = if spec.accumulate { data.bias.clone() } else { vec![JUNK; data.bias.len()] };
        let io = BackwardWeightsIo::new(
            TensorRef::packed(&memory.input, desc.input().into(), desc.layout())?,
            TensorRef::packed(&memory.output, desc.output().into(), desc.output_layout())?,
            &mut gw,
        );
        let io = if spec.bias { io.bias(&mut gb) } else { io };
        plan.run(io, &mut junk(plan.workspace_req()), threads)?;
        gw.extend(gb);
        Ok(gw)
    })?;
    let (gw, gb) = got.split_at(data.filter.len());
    let filter = Extents { n: memory.extents.1.c, c: problem.ins, size: problem.kernel };
    let after = After::adding(filter, spec.accumulate.then_some(&data.filter));
    let transformed = transforms(plan.explain().choice.method.algorithm);
    problem.backward_weights(&data).compare(after, transformed, gw)?;
    if spec.bias { compare_bias(problem, &data, gb) } else { Ok(()) }
}

/// A transposed convolution has the sums of the gradient of the input.
pub fn check_transposed(problem: &Spatial, pools: &[Pool]) -> Result<(), String> {
    let (data, memory) = (problem.data(), Placed::new(problem));
    let (small, large) = (memory.extents.1, problem.input());
    let layout = Layout::ALL[problem.layouts.0 % 3];
    let [stride, dilation, kernel] = [problem.stride[2], problem.dilation[2], problem.kernel[2]];
    let reach = (small.size[2] - 1) * stride + (kernel - 1) * dilation + 1;
    let desc = Transposed1dDesc::builder(Shape3::new(small.n, small.c, small.size[2]), large.c, kernel)
        .stride(stride)
        .dilation(dilation)
        .pad(Pad1 { before: problem.before[2], after: problem.after[2] })
        .output_pad(large.size[2] + problem.before[2] + problem.after[2] - reach)
        .groups(problem.groups)
        .layout(layout)
        .build();
    let Ok(desc) = desc else { return Ok(()) };
    assert_eq!(desc.output(), Shape3::new(large.n, large.c, large.size[2]));
    let input = placed(of_volumes(layout), small, &data.output);
    let plan =
        Transposed1dPlan::new(&desc, Weights::filter(&data.filter), &PlanOptions::default().max_threads(8))
            .map_err(|error| error.to_string())?;
    let got = with_threads(pools, |threads| {
        let mut y = vec![JUNK; desc.output().len(layout)?];
        let io = ConvIo::new(
            TensorRef::packed(&input, desc.input().into(), layout)?,
            TensorMut::packed(&mut y, desc.output().into(), layout)?,
        );
        plan.run(io, &mut junk(plan.workspace_req()), threads)?;
        Ok(y)
    })?;
    let transformed = plan.as_2d().phases().any(|(_, plan)| transforms(plan.algorithm()));
    let got = plain(of_volumes(layout), large, &got, true)?;
    problem.backward_data(&data).compare(After::adding(large, None), transformed, &got)
}
