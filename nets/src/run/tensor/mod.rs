//! [`TensorKernel`]: an operator on row-major tensors of any rank, as plain loops.

mod elementwise;
mod index;
mod product;
mod recurrent;
mod reduce;
mod sample;
#[cfg(test)]
mod tests;
mod walk;
mod window;

use crate::error::LayerError;
use crate::layer::{Blend, Operand, Recurrent, TensorLayer, TensorOp, axes_of};
use crate::shape::Shape;
use crate::weights::MEMORY_LIMIT;
use elementwise::Zip;
use index::{Around, Elements, Permute, Selection, Tuples};
use kernels::{ConvError, Threads};
use product::{Einsum, MatMul, Matrices};
use recurrent::{Sequence, States};
use reduce::Split;
use sample::{Displaced, Sampled};
use window::Images;

/// An operator with its extents and constants.
#[derive(Debug)]
pub(crate) struct TensorKernel {
    op: TensorOp,
    operands: Vec<Value>,
    /// The extents of each operand.
    dims: Vec<Vec<usize>>,
    loops: Loops,
}

/// Where the elements of an operand are.
#[derive(Debug)]
enum Value {
    /// The input of this index.
    Input(usize),
    Data(Vec<f32>),
}

/// What an operator needs besides its attributes, computed once.
#[derive(Debug)]
enum Loops {
    None,
    Zip(Zip),
    MatMul(MatMul),
    Gemm(Matrices, Option<Zip>),
    Einsum(Einsum),
    Split(Split),
    Permute(Permute),
    Selection(Selection),
    Around(Around),
    Arounds(Vec<Around>),
    Images(Images),
    Elements(Elements),
    Tuples(Tuples),
    Sampled(Sampled),
    Displaced(Displaced),
}

impl TensorKernel {
    /// The kernel of a layer whose inputs have these shapes. `params` has the elements of each parameter.
    ///
    /// # Errors
    /// [`LayerError`] for operands that the operator does not accept.
    pub(crate) fn new(
        layer: &TensorLayer,
        inputs: &[Shape],
        batch: usize,
        mut params: Vec<Vec<f32>>,
    ) -> Result<Self, LayerError> {
        let unknown = || LayerError::Input { expected: "known extents", got: Shape::Unknown };
        let dims = layer.operand_dims(inputs, batch).ok_or_else(unknown)?;
        let output = layer.output.full(batch).ok_or_else(unknown)?;
        let operands = layer.operands.iter().map(|operand| match *operand {
            Operand::Input(index) => Value::Input(index),
            Operand::Param(index) => {
                Value::Data(params.get_mut(index).map(std::mem::take).unwrap_or_default())
            }
            Operand::Number(number) => Value::Data(vec![number]),
        });
        let operands = operands.collect();
        // The extents of another batch size can differ from those that the layer was made for. A constant scalar has none,
        // so leading ones can be missing.
        let states = matches!(layer.op, TensorOp::Reshape | TensorOp::Expand);
        let differ = |found: &[usize]| {
            let [found, stated] = [found, &output].map(|dims| dims.iter().skip_while(|&&dim| dim == 1));
            !found.eq(stated)
        };
        if !states && differ(&layer.op.output(&dims)?) {
            return Err(LayerError::Input { expected: "the extents of its batch size", got: layer.output });
        }
        let loops = loops(&layer.op, &dims, &output)?;
        Ok(Self { op: layer.op.clone(), operands, dims, loops })
    }

    /// Elements of scratch memory that a run needs.
    pub(crate) fn scratch_len(&self) -> usize {
        match (&self.op, &self.loops) {
            (TensorOp::Recurrent(layer), _) => recurrent::scratch_len(layer),
            (_, Loops::Displaced(displaced)) => displaced.columns(),
            _ => 0,
        }
    }

    /// Computes the output from the inputs.
    ///
    /// # Errors
    /// [`ConvError::InvalidField`] for an index outside of its axis.
    pub(crate) fn run<'a>(
        &'a self,
        input: &dyn Fn(usize) -> &'a [f32],
        scratch: &mut [f32],
        to: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let get = |operand: usize| -> &'a [f32] {
            match self.operands.get(operand) {
                Some(Value::Input(index)) => input(*index),
                Some(Value::Data(data)) => data,
                None => &[],
            }
        };
        match (&self.op, &self.loops) {
            (TensorOp::Map(function), _) => {
                let (from, operations) = (get(0), operations(to, 16));
                threads.share_rows(to, 1, operations, |first, to| {
                    function.map(&from[first..first + to.len()], to);
                });
            }
            (TensorOp::Zip(function), Loops::Zip(zip)) => zip.fold(*function, &get, to, threads),
            (TensorOp::Where, Loops::Zip(zip)) => zip.select(&get, to),
            (TensorOp::Expand, Loops::Zip(zip)) => zip.expand(0, get(0), to),
            (TensorOp::MatMul, Loops::MatMul(product)) => product.run(get(0), get(1), to, threads),
            (TensorOp::Gemm { alpha, beta, .. }, Loops::Gemm(matrices, addend)) => {
                matrices.multiply(get(0), get(1), to);
                to.iter_mut().for_each(|to| *to *= alpha);
                if let Some(zip) = addend {
                    zip.add(get(2), *beta, to);
                }
            }
            (TensorOp::Einsum { .. }, Loops::Einsum(einsum)) => einsum.run(&get, to),
            (TensorOp::Reduce { kind, .. }, Loops::Split(split)) => split.reduce(*kind, get(0), to, threads),
            (TensorOp::Normalize { eps, center, .. }, Loops::Split(split)) => {
                split.normalize((*eps, *center), get(0), to, threads);
            }
            (TensorOp::Permute(_), Loops::Permute(permute)) => permute.run(get(0), to),
            (TensorOp::Reshape, _) => to.copy_from_slice(get(0)),
            (TensorOp::Pick { .. }, Loops::Selection(selection)) => selection.run(get(0), to),
            (TensorOp::Concat { .. }, Loops::Arounds(arounds)) => index::concat(arounds, &get, to),
            (TensorOp::GatherElements { .. }, Loops::Elements(elements)) => {
                return elements.gather(get(0), get(1), to);
            }
            (TensorOp::ScatterElements { how, .. }, Loops::Elements(elements)) => {
                return elements.scatter(*how, (get(0), get(1), get(2)), to);
            }
            (TensorOp::GatherNd { .. }, Loops::Tuples(tuples)) => return tuples.gather(get(0), get(1), to),
            (TensorOp::ScatterNd { how }, Loops::Tuples(tuples)) => {
                return tuples.scatter(*how, (get(0), get(1), get(2)), to);
            }
            (TensorOp::GridSample(layer), Loops::Sampled(sampled)) => {
                sampled.run(*layer, (get(0), get(1)), to)
            }
            (TensorOp::Deform(layer), Loops::Displaced(displaced)) => displaced.run(layer, &get, scratch, to),
            (_, Loops::Images(images)) => self.windows(images, &get, to),
            (TensorOp::Softmax { kind, .. }, Loops::Around(around)) => {
                reduce::softmax(*kind, *around, get(0), to, threads);
            }
            (TensorOp::Blend(layer), Loops::Around(around)) => blend(layer, *around, get(0), to, threads),
            (_, Loops::Around(around)) => return self.along(*around, &get, to),
            (TensorOp::Recurrent(layer), _) => self.recurrent(layer, &get, scratch, to),
            _ => {}
        }
        Ok(())
    }

    /// Operators along one axis.
    fn along<'a>(
        &self,
        around: Around,
        get: &dyn Fn(usize) -> &'a [f32],
        to: &mut [f32],
    ) -> Result<(), ConvError> {
        match &self.op {
            TensorOp::ArgExtreme { max, last, .. } => reduce::arg_extreme((*max, *last), around, get(0), to),
            TensorOp::CumSum { exclusive, reverse, .. } => {
                reduce::cum_sum((*exclusive, *reverse), around, get(0), to);
            }
            TensorOp::TopK { count, largest, indices, .. } => {
                reduce::top_k(around, *count, (*largest, *indices), get(0), to);
            }
            TensorOp::Lrn(lrn) => reduce::lrn(lrn, around, get(0), to),
            TensorOp::Gather { .. } => return index::gather(around, get(0), get(1), to),
            TensorOp::OneHot { .. } => index::one_hot(around, get(0), [get(1)[0], get(1)[1]], to),
            TensorOp::Trilu { upper, diagonal } => {
                index::triangle((around.len, around.inner), (*upper, *diagonal), get(0), to);
            }
            _ => {}
        }
        Ok(())
    }

    fn windows<'a>(&self, images: &Images, get: &dyn Fn(usize) -> &'a [f32], to: &mut [f32]) {
        let bias = (self.operands.len() > 2).then(|| get(2));
        match &self.op {
            TensorOp::Conv(conv) | TensorOp::ConvTranspose(conv) => {
                window::conv(conv, images, (get(0), get(1), bias), to);
            }
            TensorOp::Pool { kind, windows } => window::pool(*kind, windows, images, get(0), to),
            TensorOp::Overlap(layer) => window::overlap(&layer.windows, images, get(0), to),
            _ => {}
        }
    }

    fn recurrent<'a>(
        &self,
        layer: &Recurrent,
        get: &dyn Fn(usize) -> &'a [f32],
        scratch: &mut [f32],
        to: &mut [f32],
    ) {
        let &[time, batch, width] = self.dims[0].as_slice() else { return };
        // A scalar stands for an operand that is absent.
        let part = |operand: usize| match self.dims.get(operand) {
            Some(dims) if !dims.is_empty() => get(operand),
            _ => &[],
        };
        let states = States {
            input: get(0),
            weights: get(1),
            recurrence: get(2),
            bias: part(3),
            hidden: part(4),
            cell: part(5),
            peepholes: part(6),
        };
        recurrent::run(layer, Sequence { time, batch, width }, &states, scratch, to);
    }
}

/// The loops of an operator on operands of these extents.
fn loops(op: &TensorOp, dims: &[Vec<usize>], output: &[usize]) -> Result<Loops, LayerError> {
    let first = &dims[0];
    Ok(match op {
        TensorOp::Zip(_) | TensorOp::Where | TensorOp::Expand => Loops::Zip(Zip::new(dims, output)),
        TensorOp::MatMul => Loops::MatMul(MatMul::new(first, &dims[1])),
        TensorOp::Gemm { trans_a, trans_b, .. } => {
            let turned = |dims: &[usize], turn: bool| if turn { [1, dims[1]] } else { [dims[1], 1] };
            let inner = if *trans_a { first[0] } else { first[1] };
            let (a, b) = (turned(first, *trans_a), turned(&dims[1], *trans_b));
            let matrices = Matrices { rows: output[0], inner, columns: output[1], a, b };
            Loops::Gemm(matrices, dims.get(2).map(|addend| Zip::new(std::slice::from_ref(addend), output)))
        }
        TensorOp::Einsum { inputs, output } => {
            Loops::Einsum(Einsum::new(dims, inputs, output, &axes_of(dims, inputs)?))
        }
        TensorOp::Reduce { axes, .. } | TensorOp::Normalize { axes, .. } => {
            Loops::Split(Split::new(first, axes))
        }
        TensorOp::GatherElements { axis } | TensorOp::ScatterElements { axis, .. } => {
            Loops::Elements(Elements::new(first, &dims[1], *axis))
        }
        TensorOp::GatherNd { batch_dims } => Loops::Tuples(Tuples::new(first, &dims[1], *batch_dims)),
        TensorOp::ScatterNd { .. } => Loops::Tuples(Tuples::new(first, &dims[1], 0)),
        TensorOp::Permute(order) => Loops::Permute(Permute::new(first, order, output)),
        TensorOp::Pick { axes, fill } => Loops::Selection(Selection::new(first, axes, *fill)),
        TensorOp::Concat { axis } => {
            Loops::Arounds(dims.iter().map(|dims| Around::new(dims, *axis)).collect())
        }
        TensorOp::Conv(_) | TensorOp::ConvTranspose(_) | TensorOp::Pool { .. } => {
            Loops::Images(Images::new(first, output, matches!(op, TensorOp::ConvTranspose(_))))
        }
        TensorOp::Overlap(layer) => Loops::Images(Images::grid(&layer.windows, output)?),
        TensorOp::GridSample(_) => Loops::Sampled(Sampled::new(first, output)),
        TensorOp::Deform(layer) => Loops::Displaced(Displaced::new(layer, first, output)),
        TensorOp::Softmax { first: start, end, .. } => Loops::Around(Around::span(first, *start, *end)),
        TensorOp::ArgExtreme { axis, .. }
        | TensorOp::CumSum { axis, .. }
        | TensorOp::TopK { axis, .. }
        | TensorOp::Gather { axis }
        | TensorOp::Blend(Blend { axis, .. }) => Loops::Around(Around::new(first, *axis)),
        TensorOp::OneHot { axis, .. } => Loops::Around(Around::new(output, *axis)),
        TensorOp::Lrn(_) => Loops::Around(Around::new(first, 1)),
        TensorOp::Trilu { .. } => Loops::Around(Around::new(first, first.len() - 2)),
        _ => Loops::None,
    })
}

/// About how many operations compute `to`, with so many for each element.
fn operations(to: &[f32], each: usize) -> u64 {
    (to.len() as u64).saturating_mul(each as u64)
}

/// Weighted sums along an axis.
fn blend(layer: &Blend, around: Around, from: &[f32], to: &mut [f32], threads: Threads<'_>) {
    let Around { len, inner, .. } = around;
    let operations = operations(to, 8);
    threads.share_rows(to, layer.outputs.len() * inner, operations, |first, to| {
        blend_rows(layer, around, &from[first * len * inner..], to);
    });
}

fn blend_rows(layer: &Blend, Around { len, inner, .. }: Around, from: &[f32], to: &mut [f32]) {
    let outputs = layer.outputs.len();
    for (from, to) in
        from.chunks_exact((len * inner).max(1)).zip(to.chunks_exact_mut((outputs * inner).max(1)))
    {
        for (sources, to) in layer.outputs.iter().zip(to.chunks_exact_mut(inner)) {
            match &sources[..] {
                [] => to.fill(layer.fill),
                [(first, weight), others @ ..] => {
                    let row = |place: usize| &from[place * inner..(place + 1) * inner];
                    to.iter_mut().zip(row(*first)).for_each(|(to, from)| *to = from * weight);
                    for (place, weight) in others {
                        to.iter_mut().zip(row(*place)).for_each(|(to, from)| *to += from * weight);
                    }
                }
            }
        }
    }
}

/// The result of an operator on constants. `params` has the elements of its operands.
///
/// # Errors
/// [`LayerError`] for operands that the operator does not accept.
pub(crate) fn evaluate(layer: &TensorLayer, params: Vec<Vec<f32>>) -> Result<Vec<f32>, LayerError> {
    let len = layer.output.elements(1)?;
    if len as u64 > MEMORY_LIMIT / size_of::<f32>() as u64 {
        return Err(ConvError::SizeOverflow { what: "a constant" }.into());
    }
    let kernel = TensorKernel::new(layer, &[], 1, params)?;
    let (mut scratch, mut to) = (vec![0.0; kernel.scratch_len()], vec![0.0; len]);
    kernel.run(&|_| &[], &mut scratch, &mut to, Threads::Seq)?;
    Ok(to)
}
