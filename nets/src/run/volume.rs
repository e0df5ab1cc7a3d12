//! Convolutions, transposed convolutions and pooling of tensors by the kernels of volumes.
//!
//! An image of fewer than three axes is a volume of one slice, or of one row.

use super::operand::Context;
use crate::layer::{ConvNd, Operand, PoolOp, TensorLayer, TensorOp, Windows};
use kernels::{
    Activation, Conv3dDesc, Conv3dIo, Conv3dPlan, ConvError, EpilogueSpec, Pad3, PlanOptions, Pool3dDesc,
    PoolKind, Shape5, Size3, Transposed3dDesc, Transposed3dPlan, VolumeLayout, VolumeMut, VolumeRef, Weights,
    Workspace, WorkspaceReq,
};

const LAYOUT: VolumeLayout = VolumeLayout::Ncdhw;

/// An operator on volumes that the kernels compute.
pub(super) enum VolumeKernel {
    Conv(Conv3dPlan),
    Transposed(Transposed3dPlan),
    Pool(Pool3dDesc),
}

impl VolumeKernel {
    /// The kernel of an operator whose operands have the extents `dims` and whose output has the extents `output`; `None` for an
    /// operator that the kernels do not have. `params` has the elements of each parameter.
    ///
    /// # Errors
    /// Those of [`Conv3dPlan::new`] and [`Transposed3dPlan::new`].
    pub(super) fn new(
        layer: &TensorLayer,
        (dims, output): (&[Vec<usize>], &[usize]),
        params: &[Vec<f32>],
        options: &PlanOptions,
    ) -> Result<Option<Self>, ConvError> {
        let (Some(input), Some(output)) = (volume(&dims[0]), volume(output)) else { return Ok(None) };
        let param = |operand: &Operand| match *operand {
            Operand::Param(index) => params.get(index).map(Vec::as_slice),
            _ => None,
        };
        let (filter, bias) = match layer.operands[..] {
            [Operand::Input(0)] => (&[][..], None),
            [Operand::Input(0), ref filter] => (param(filter).unwrap_or_default(), None),
            [Operand::Input(0), ref filter, ref bias] => match (param(filter), param(bias)) {
                (Some(filter), Some(bias)) => (filter, Some(bias)),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let weights = Weights { filter, bias, slope: None };
        let epilogue = EpilogueSpec { bias: bias.is_some(), residual: false, activation: Activation::None };
        Ok(match &layer.op {
            TensorOp::Conv(conv) if !filter.is_empty() => match conv_desc(conv, (input, output), epilogue) {
                Some(desc) => Some(Self::Conv(Conv3dPlan::new(&desc, weights, options)?)),
                None => None,
            },
            TensorOp::ConvTranspose(conv) if !filter.is_empty() => {
                match transposed_desc(conv, (input, output), epilogue) {
                    Some(desc) => Some(Self::Transposed(Transposed3dPlan::new(&desc, weights, options)?)),
                    None => None,
                }
            }
            TensorOp::Pool { kind, windows } => pool_desc(*kind, windows, (input, output)).map(Self::Pool),
            _ => None,
        })
    }

    pub(super) fn workspace_req(&self) -> WorkspaceReq {
        match self {
            Self::Conv(plan) => plan.workspace_req(),
            Self::Transposed(plan) => plan.workspace_req(),
            Self::Pool(desc) => desc.workspace_req(),
        }
    }

    /// Computes the output from the input.
    ///
    /// # Errors
    /// Those of the kernels.
    pub(super) fn run(
        &self,
        context: &Context<'_>,
        (from, to): (&[f32], &mut [f32]),
        workspace: &mut Workspace,
    ) -> Result<(), ConvError> {
        let (input, output) = match self {
            Self::Conv(plan) => (plan.desc().input(), plan.desc().output()),
            Self::Transposed(plan) => (plan.desc().input(), plan.desc().output()),
            Self::Pool(desc) => (desc.input(), desc.output()),
        };
        let (from, to) = (VolumeRef::packed(from, input, LAYOUT)?, VolumeMut::packed(to, output, LAYOUT)?);
        match self {
            Self::Conv(plan) => plan.run(Conv3dIo::new(from, to), workspace, context.threads),
            Self::Transposed(plan) => plan.run(Conv3dIo::new(from, to), workspace, context.threads),
            Self::Pool(desc) => context.ops.pool3d(desc, from, to, workspace, context.threads),
        }
    }
}

/// A tensor as a volume; `None` if it has more than three axes besides batch and channels, or fewer than one.
fn volume(dims: &[usize]) -> Option<Shape5> {
    let (&[n, c], image) = dims.split_first_chunk()?;
    let [d, h, w] = three(image, 1)?;
    Some(Shape5::new(n, c, d, h, w))
}

/// One number for each axis of a volume. Axes before those given have the number `fill`.
fn three<T: Copy>(values: &[T], fill: T) -> Option<[T; 3]> {
    let mut all = [fill; 3];
    all[3usize.checked_sub(values.len())?..].copy_from_slice(values);
    (!values.is_empty()).then_some(all)
}

fn size(values: &[usize], fill: usize) -> Option<Size3> {
    three(values, fill).map(|[d, h, w]| Size3::new(d, h, w))
}

fn pad(windows: &Windows) -> Option<Pad3> {
    let [(front, back), (top, bottom), (left, right)] = three(&windows.pad, (0, 0))?;
    Some(Pad3 { front, back, top, bottom, left, right })
}

/// The description of a convolution with this output. A convolution that the kernels reject has none.
fn conv_desc(conv: &ConvNd, (input, output): (Shape5, Shape5), epilogue: EpilogueSpec) -> Option<Conv3dDesc> {
    let Windows { kernel, stride, dilation, .. } = &conv.windows;
    let desc = Conv3dDesc::builder(input, output.c, size(kernel, 1)?)
        .stride(size(stride, 1)?)
        .pad(pad(&conv.windows)?)
        .dilation(size(dilation, 1)?)
        .groups(conv.groups)
        .epilogue(epilogue)
        .build();
    desc.ok().filter(|desc| desc.output() == output)
}

fn transposed_desc(
    conv: &ConvNd,
    (input, output): (Shape5, Shape5),
    epilogue: EpilogueSpec,
) -> Option<Transposed3dDesc> {
    let windows @ Windows { kernel, stride, dilation, .. } = &conv.windows;
    // What the output has beyond the last window is added at its end.
    let extents = |shape: Shape5| [shape.d, shape.h, shape.w];
    let axes = extents(input).into_iter().zip(extents(output));
    let (k, s, d, p) =
        (three(kernel, 1)?, three(stride, 1)?, three(dilation, 1)?, three(&windows.pad, (0, 0))?);
    let more = axes.enumerate().map(|(axis, (input, output))| {
        let full = (input - 1) * s[axis] + (k[axis] - 1) * d[axis] + 1;
        (output + p[axis].0 + p[axis].1).checked_sub(full)
    });
    let more: Vec<usize> = more.collect::<Option<_>>()?;
    let desc = Transposed3dDesc::builder(input, output.c, size(kernel, 1)?)
        .stride(size(stride, 1)?)
        .pad(pad(windows)?)
        .output_pad(size(&more, 0)?)
        .dilation(size(dilation, 1)?)
        .groups(conv.groups)
        .epilogue(epilogue)
        .build();
    desc.ok().filter(|desc| desc.output() == output)
}

fn pool_desc(kind: PoolOp, windows: &Windows, (input, output): (Shape5, Shape5)) -> Option<Pool3dDesc> {
    let kind = match kind {
        PoolOp::Max => PoolKind::Max,
        PoolOp::Average { count_include_pad } => PoolKind::Average { count_include_pad },
        PoolOp::MaxPlace { .. } | PoolOp::Lp(_) => return None,
    };
    let desc = Pool3dDesc::builder(input, size(&windows.kernel, 1)?, kind)
        .stride(size(&windows.stride, 1)?)
        .pad(pad(windows)?)
        .dilation(size(&windows.dilation, 1)?)
        .ceil_mode(windows.ceil)
        .build();
    desc.ok().filter(|desc| desc.output() == output)
}

#[cfg(test)]
mod tests {
    use super::super::tensor::TensorKernel;
    use super::*;
    use crate::layer::{Param, Role};
    use crate::shape::{Shape, TensorShape};
    use kernels::{Numerics, Ops, Threads};
    use rand_pcg::Pcg64;
    use rand_pcg::rand_core::Rng;

    fn below(rng: &mut Pcg64, limit: usize) -> usize {
        rng.next_u32() as usize % limit
    }

    fn numbers(rng: &mut Pcg64, len: usize) -> Vec<f32> {
        (0..len).map(|_| rng.next_u32() as f32 / u32::MAX as f32 - 0.5).collect()
    }

    /// Windows that fit an image with these extents.
    fn windows(rng: &mut Pcg64, image: &[usize]) -> Windows {
        let mut each = |from: usize, limit: usize| -> Vec<usize> {
            image.iter().map(|_| from + below(rng, limit)).collect()
        };
        let (kernel, stride, dilation) = (each(1, 3), each(1, 2), each(1, 2));
        let pad = kernel.iter().map(|&k| (below(rng, k), below(rng, k))).collect();
        Windows { kernel, stride, dilation, pad, ceil: below(rng, 2) == 0 }
    }

    /// A layer of random extents with its input; `None` if the extents do not fit each other.
    fn draw(rng: &mut Pcg64, number: usize) -> Option<(TensorLayer, Vec<usize>, Vec<Vec<f32>>)> {
        let image: Vec<usize> = (0..1 + number % 3).map(|_| 4 + below(rng, 5)).collect();
        let groups = 1 + below(rng, 2);
        let (channels, outputs) = (groups * (1 + below(rng, 3)), groups * (1 + below(rng, 9)));
        let input = [&[1 + below(rng, 2), channels], &image[..]].concat();
        let windows = windows(rng, &image);
        let filter = |a: usize, b: usize| [&[a, b / groups], &windows.kernel[..]].concat();
        let conv = |output| ConvNd { windows: Windows { ceil: false, ..windows.clone() }, groups, output };
        let (op, mut dims) = match number % 4 {
            0 => (TensorOp::Conv(conv(Vec::new())), vec![filter(outputs, channels), vec![outputs]]),
            1 => {
                let full = |axis: usize| {
                    let full = (image[axis] - 1) * windows.stride[axis] + windows.reach(axis)?;
                    let cut = windows.pad[axis].0 + windows.pad[axis].1;
                    (full + below(&mut rng.clone(), windows.stride[axis])).checked_sub(cut)
                };
                let output = (0..image.len()).map(full).collect::<Option<Vec<usize>>>()?;
                (TensorOp::ConvTranspose(conv(output)), vec![filter(channels, outputs), vec![outputs]])
            }
            2 => (TensorOp::Pool { kind: PoolOp::Max, windows: windows.clone() }, Vec::new()),
            _ => {
                let kind = PoolOp::Average { count_include_pad: below(rng, 2) == 0 };
                (TensorOp::Pool { kind, windows: windows.clone() }, Vec::new())
            }
        };
        dims.truncate(below(rng, 2) + 1);
        let operands =
            std::iter::once(Operand::Input(0)).chain((0..dims.len()).map(Operand::Param)).collect();
        let output = op
            .output(&[std::slice::from_ref(&input), &dims].concat())
            .ok()
            .filter(|dims| !dims.contains(&0))?;
        let params =
            dims.iter().map(|dims| Param { name: "operand0", dims: dims.clone(), role: Role::Fixed });
        let layer = TensorLayer {
            op,
            operands,
            params: params.collect(),
            output: Shape::Tensor(TensorShape::new(&output)?),
        };
        let data = dims.iter().map(|dims| numbers(rng, dims.iter().product())).collect();
        Some((layer, input, data))
    }

    #[test]
    fn the_kernels_of_volumes_compute_what_plain_loops_compute() {
        let (mut rng, ops) = (Pcg64::new(28, 1), Ops::new(None).unwrap());
        let (mut compared, mut rejected) = ([0; 4], 0);
        let options = PlanOptions::default().numerics(Numerics::Strict);
        for number in 0..400 {
            let Some((layer, input, params)) = draw(&mut rng, number) else { continue };
            let shape = Shape::Tensor(TensorShape::new(&input).unwrap());
            let output = layer.output.full(1).unwrap();
            let dims = layer.operand_dims(&[shape], 1).unwrap();
            let kernel = VolumeKernel::new(&layer, (&dims, &output), &params, &options).unwrap();
            let Some(kernel) = kernel else {
                rejected += 1;
                continue;
            };
            let x = numbers(&mut rng, input.iter().product());
            let (mut got, mut expected) =
                (vec![f32::NAN; output.iter().product()], vec![0.0; output.iter().product()]);
            let context = Context { ops: &ops, threads: Threads::Seq, inputs: &[] };
            let mut workspace = Workspace::for_req(kernel.workspace_req()).unwrap();
            kernel.run(&context, (&x, &mut got), &mut workspace).unwrap();
            let terms = params.first().map_or(27, |filter| filter.len()) as f32;
            let plain = TensorKernel::new(&layer, &[shape], 1, params).unwrap();
            plain.run(&|_| &x, &mut [], &mut expected, Threads::Seq).unwrap();
            for (got, expected) in got.iter().zip(&expected) {
                assert!(
                    (got - expected).abs() <= terms * f32::EPSILON,
                    "{layer:?} of {input:?}: {got}, {expected}"
                );
            }
            compared[number % 4] += 1;
        }
        assert!(compared.iter().all(|&count| count > 50), "{compared:?}, rejected {rejected}");
        assert!(rejected < 60, "{compared:?}, rejected {rejected}");
    }

    #[test]
    fn other_pooling_is_left_to_plain_loops() {
        let windows = Windows {
            kernel: vec![2; 3],
            stride: vec![1; 3],
            dilation: vec![1; 3],
            pad: vec![(0, 0); 3],
            ceil: false,
        };
        let shapes = (Shape5::new(1, 1, 3, 3, 3), Shape5::new(1, 1, 2, 2, 2));
        for kind in [PoolOp::Lp(2.0), PoolOp::MaxPlace { column_major: false }] {
            assert!(pool_desc(kind, &windows, shapes).is_none());
        }
        assert!(pool_desc(PoolOp::Max, &windows, shapes).is_some());
    }
}
