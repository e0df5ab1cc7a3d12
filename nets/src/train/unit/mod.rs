//! [`Unit`]: one operation of a network that trains, forward and backward.

pub(super) mod activation;
pub(super) mod batch_norm;
pub(super) mod combine;
pub(super) mod conv;
pub(super) mod dropout;
pub(super) mod linear;
pub(super) mod moves;
pub(super) mod multiply;
pub(super) mod norm;
pub(super) mod pool;
pub(super) mod scale;

use crate::run::operand::{Operand, Place, Sources};
use kernels::{
    Activation, ConvError, Gradient, Layout, Ops, Pitch, Shape4, SliceGradient, TensorMut, TensorRef,
    Threads, Workspace, WorkspaceReq,
};

/// What a pass computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The statistics of the batch, dropout, and values that the backward pass needs.
    Training,
    /// What the network computes once it is trained.
    Inference,
}

/// The numbers that random masks depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    pub(super) seed: u64,
    /// Number of training passes before this one.
    pub(super) pass: u64,
}

/// The surroundings of a pass.
pub(super) struct Run<'a> {
    pub(super) ops: &'a Ops,
    pub(super) threads: Threads<'a>,
    pub(super) inputs: &'a [&'a [f32]],
    /// Values and gradients of tensors.
    pub(super) arena: &'a mut [f32],
    pub(super) workspace: &'a mut Workspace,
    /// Parameters and running statistics, and the gradients of parameters.
    pub(super) values: &'a mut [Vec<f32>],
    pub(super) gradients: &'a mut [Vec<f32>],
    pub(super) mode: Mode,
    pub(super) draw: Draw,
    /// The blocks that stochastic depth drops in this pass.
    pub(super) dropped: &'a [bool],
}

/// One operation with its gradient.
pub(super) trait Unit: Send + Sync {
    /// The tensors of the unit.
    fn wiring_mut(&mut self) -> &mut Wiring;

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError>;

    /// Computes the gradients of the inputs and of the parameters. The gradient of the output is complete, and nothing else
    /// reads it afterwards, unless another gradient shares its memory and its values.
    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError>;

    /// Computes the output of this training pass again, to the same bits.
    fn recompute(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        self.forward(run)
    }

    /// Packs the present weights.
    fn repack(&mut self, values: &[Vec<f32>]) -> Result<(), ConvError> {
        let _ = values;
        Ok(())
    }

    /// The workspace of both passes.
    fn workspace_req(&self, threads: usize) -> WorkspaceReq {
        let _ = threads;
        WorkspaceReq::default()
    }

    /// Uses `mask`, in NCHW order, instead of random ones from now on, or random ones again. Returns whether the unit has
    /// masks of this length.
    fn set_mask(&mut self, mask: Option<&[f32]>) -> bool {
        let _ = mask;
        false
    }
}

/// Calls `work` while the unit reads and writes the tensors of the reverse pass.
pub(super) fn in_reverse<T>(unit: &mut dyn Unit, work: impl FnOnce(&mut dyn Unit) -> T) -> T {
    unit.wiring_mut().turn();
    let result = work(unit);
    unit.wiring_mut().turn();
    result
}

/// The gradient of one input.
#[derive(Debug, Clone)]
pub(super) struct Dx {
    pub(super) operand: Operand,
    /// Whether other units have written it before, so that this one adds.
    pub(super) adds: bool,
}

/// The tensors of a unit.
#[derive(Debug, Clone)]
pub(super) struct Wiring {
    pub(super) sources: Vec<Operand>,
    pub(super) target: Operand,
    /// The gradient of the target.
    pub(super) dy: Operand,
    /// The gradients of the sources. `None` if a gradient is not needed, or is in the memory of `dy` and the same.
    pub(super) dx: Vec<Option<Dx>>,
    /// The sources and the target in the reverse pass, if other ones hold their numbers then.
    pub(super) saved: Option<(Vec<Operand>, Operand)>,
}

impl Wiring {
    /// The same tensors, seen in another way.
    pub(super) fn seen_as(&self, view: impl Fn(&Operand) -> Operand) -> Self {
        let all = |operands: &[Operand]| operands.iter().map(&view).collect();
        let dx = |dx: &Dx| Dx { operand: view(&dx.operand), adds: dx.adds };
        Self {
            sources: all(&self.sources),
            target: view(&self.target),
            dy: view(&self.dy),
            dx: self.dx.iter().map(|of| of.as_ref().map(dx)).collect(),
            saved: self.saved.as_ref().map(|(sources, target)| (all(sources), view(target))),
        }
    }

    /// Turns to the tensors of the reverse pass, or back.
    fn turn(&mut self) {
        if let Some((sources, target)) = &mut self.saved {
            std::mem::swap(&mut self.sources, sources);
            std::mem::swap(&mut self.target, target);
        }
    }

    /// The first source. Most units have one.
    pub(super) fn source(&self) -> &Operand {
        &self.sources[0]
    }

    pub(super) fn dx(&self) -> Option<&Dx> {
        self.dx.first().and_then(Option::as_ref)
    }

    /// Multiplies the gradient of the target by the derivative of the activation that wrote the target.
    pub(super) fn undo(&self, activation: Activation, run: &mut Run<'_>) -> Result<(), ConvError> {
        if activation == Activation::None {
            return Ok(());
        }
        let (sources, data) = split(run.arena, run.inputs, &self.dy);
        let (y, gradient) = (read(&sources, &self.target)?, self.dy.tensor_mut(data)?);
        run.ops.activate_gradient_in_place(activation, y, gradient, run.threads)
    }
}

/// The gradient of the input of a unit whose kernel computes it together with those of parameters.
pub(super) enum InputGradient {
    /// Neither is needed.
    Neither,
    Needed(Dx),
    /// Only those of parameters are: memory that nobody reads.
    Discarded(Shape4, Layout, Vec<f32>),
}

impl InputGradient {
    /// `trains` says whether the parameters have gradients.
    pub(super) fn new(wiring: &Wiring, trains: bool) -> Result<Self, ConvError> {
        let &Operand { shape, layout, .. } = wiring.source();
        Ok(match wiring.dx() {
            Some(dx) => Self::Needed(dx.clone()),
            None if trains => Self::Discarded(shape, layout, vec![0.0; shape.len(layout)?]),
            None => Self::Neither,
        })
    }

    /// The memory to read, and the gradient to compute.
    pub(super) fn split<'m>(
        &'m mut self,
        arena: &'m mut [f32],
        inputs: &'m [&'m [f32]],
    ) -> Result<Option<(Sources<'m>, Gradient<'m>)>, ConvError> {
        Ok(match self {
            Self::Neither => None,
            Self::Needed(dx) => {
                let (sources, data) = split(arena, inputs, &dx.operand);
                Some((sources, dx.gradient(data)?))
            }
            Self::Discarded(shape, layout, data) => {
                Some((all(arena, inputs), TensorMut::packed(data, *shape, *layout)?.into()))
            }
        })
    }
}

impl Dx {
    pub(super) fn gradient<'a>(&self, data: &'a mut [f32]) -> Result<Gradient<'a>, ConvError> {
        let tensor = self.operand.tensor_mut(data)?;
        Ok(if self.adds { Gradient::Add(tensor) } else { tensor.into() })
    }

    /// The gradient as a slice. Its images must be adjacent.
    pub(super) fn slice<'a>(&self, data: &'a mut [f32]) -> SliceGradient<'a> {
        if self.adds { SliceGradient::Add(data) } else { SliceGradient::Write(data) }
    }
}

/// The gradient of a parameter as a result.
pub(super) fn parameter(gradient: &mut [f32], adds: bool) -> SliceGradient<'_> {
    if adds { SliceGradient::Add(gradient) } else { SliceGradient::Write(gradient) }
}

/// The gradients of a scale and a shift as results, if they are `trained`.
pub(super) fn scale_and_shift(
    gradients: &mut [Vec<f32>],
    trained: Option<(usize, usize)>,
    adds: bool,
) -> (Option<SliceGradient<'_>>, Option<SliceGradient<'_>>) {
    let Some((scale, shift)) = trained else { return (None, None) };
    let (scale, shift) = pair_mut(gradients, scale, Some(shift));
    (Some(parameter(scale, adds)), shift.map(|shift| parameter(shift, adds)))
}

/// The values of a scale and a shift, if a layer has them.
pub(super) fn values_of(
    values: &[Vec<f32>],
    scale_and_shift: Option<(usize, usize)>,
) -> (Option<&[f32]>, Option<&[f32]>) {
    scale_and_shift.map(|(scale, shift)| (&values[scale][..], &values[shift][..])).unzip()
}

/// The tensor `first`, and the tensor `second` if there is one. They are different.
pub(super) fn pair_mut(
    tensors: &mut [Vec<f32>],
    first: usize,
    second: Option<usize>,
) -> (&mut Vec<f32>, Option<&mut Vec<f32>>) {
    let Some(second) = second else { return (&mut tensors[first], None) };
    let [first, second] = tensors.get_disjoint_mut([first, second]).expect("different tensors");
    (first, Some(second))
}

/// The memory of `target`, and all other memory.
pub(super) fn split<'m>(
    arena: &'m mut [f32],
    inputs: &'m [&'m [f32]],
    target: &Operand,
) -> (Sources<'m>, &'m mut [f32]) {
    let range = match &target.place {
        Place::Arena(range) => range.clone(),
        // Compilation places every target in the arena.
        Place::Input(_) | Place::Output(..) => 0..0,
    };
    let (before, rest) = arena.split_at_mut(range.start);
    let (data, behind) = rest.split_at_mut(range.len());
    (Sources { inputs, before, behind, behind_start: range.end }, data)
}

/// All memory, to read.
pub(super) fn all<'m>(arena: &'m [f32], inputs: &'m [&'m [f32]]) -> Sources<'m> {
    Sources { inputs, before: arena, behind: &[], behind_start: usize::MAX }
}

/// A tensor to read.
pub(super) fn read<'m>(sources: &Sources<'m>, operand: &Operand) -> Result<TensorRef<'m>, ConvError> {
    operand.tensor(sources.get(operand))
}

/// Images of one pixel without gaps as one row of pixels, one pixel per image. Its channels are adjacent, which is faster.
pub(super) fn as_row(operand: &Operand) -> Operand {
    let Shape4 { n, c, h, w } = operand.shape;
    if operand.layout != Layout::Nchw || (h, w) != (1, 1) {
        return operand.clone();
    }
    let image = operand.pitch.image;
    Operand {
        shape: Shape4::new(1, c, 1, n),
        layout: Layout::Nhwc,
        pitch: Pitch { image: n * image, pixel: image },
        place: operand.place.clone(),
    }
}

/// The operand of a tensor of the same shape and layout without gaps.
pub(super) fn packed(operand: &Operand) -> Operand {
    let Shape4 { c, h, w, .. } = operand.shape;
    let lanes = operand.image().lanes;
    let pitch = Pitch { image: c.next_multiple_of(lanes) * h * w, pixel: lanes };
    Operand { pitch, ..operand.clone() }
}

/// Calls `each` with every channel of every image of a tensor, and with its elements.
pub(super) fn channels<'a>(
    operand: &Operand,
    data: &'a [f32],
    mut each: impl FnMut(usize, &mut dyn Iterator<Item = &'a f32>),
) {
    let pixels = operand.shape.h * operand.shape.w;
    let lanes = operand.image().lanes;
    let images = operand.images(data);
    if operand.layout == Layout::Nhwc {
        images.for_each(|pixel| pixel.iter().enumerate().for_each(|(c, x)| each(c, &mut std::iter::once(x))));
        return;
    }
    for image in images {
        for (block, block_data) in image.chunks_exact(pixels * lanes).enumerate() {
            for lane in 0..lanes.min(operand.shape.c - block * lanes) {
                each(block * lanes + lane, &mut block_data[lane..].iter().step_by(lanes));
            }
        }
    }
}
