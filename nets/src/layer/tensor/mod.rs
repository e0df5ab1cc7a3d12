//! [`TensorLayer`]: an operator on tensors of any rank, with the meaning of each axis in its attributes.
//!
//! The kernels of convolutional networks know maps and vectors. Every other operator works on plain row-major tensors,
//! with the batch as an ordinary axis.

mod erf;
mod function;
mod macs;
mod output;
mod sample;
mod window;

use super::param::{Param, Role};
use crate::shape::Shape;
pub(crate) use function::{Binary, Unary, sigmoid};
pub(crate) use output::{axes_of, broadcast};
pub(crate) use sample::{Deform, GridSample, Interpolation, Outside, Overlap, cubic};
use std::sync::Arc;
pub(crate) use window::Windows;

/// An operator with its operands, as imported from a model. Its attributes are private: only imports make such layers.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorLayer {
    pub(crate) op: TensorOp,
    pub(crate) operands: Vec<Operand>,
    /// The parameters that operands refer to.
    pub(crate) params: Vec<Param>,
    pub(crate) output: Shape,
}

/// An operand of a [`TensorLayer`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Operand {
    /// The output of the layer's input of this index.
    Input(usize),
    /// The parameter of this index.
    Param(usize),
    /// A constant scalar.
    Number(f32),
}

/// What a window operator does along each axis of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConvNd {
    pub(crate) windows: Windows,
    pub(crate) groups: usize,
    /// For transposed convolutions: the output extents.
    pub(crate) output: Vec<usize>,
}

/// How pooling combines a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum PoolOp {
    Max,
    /// The place of the maximum in the whole input, in row-major or column-major order.
    MaxPlace {
        column_major: bool,
    },
    Average {
        count_include_pad: bool,
    },
    /// The `p` norm.
    Lp(f32),
}

/// How a reduction combines elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduction {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    /// The sum of absolute values.
    L1,
    /// The square root of the sum of squares.
    L2,
    LogSum,
    LogSumExp,
    SumSquare,
}

impl Reduction {
    /// The kind in tables.
    const fn name(self) -> &'static str {
        match self {
            Self::Sum => "reduce_sum",
            Self::Mean => "reduce_mean",
            Self::Max => "reduce_max",
            Self::Min => "reduce_min",
            Self::Prod => "reduce_prod",
            Self::L1 => "reduce_l1",
            Self::L2 => "reduce_l2",
            Self::LogSum => "reduce_log_sum",
            Self::LogSumExp => "reduce_log_sum_exp",
            Self::SumSquare => "reduce_sum_square",
        }
    }
}

/// Softmax and its relatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SoftKind {
    Soft,
    Log,
    /// 1 for the first maximum, else 0.
    Hard,
}

/// How an element is scattered to a place that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scatter {
    Replace,
    With(Binary),
}

/// The weighted sources of each output element along one axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Blend {
    pub(crate) axis: usize,
    /// For each output its sources and their weights; no source for the fill value.
    pub(crate) outputs: Arc<[Vec<(usize, f32)>]>,
    pub(crate) fill: f32,
}

/// The source of each output element along an axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Pick {
    /// Every element in its place.
    All,
    /// The element of this index; `None` for the fill value.
    Index(Arc<[Option<usize>]>),
}

/// A kind of recurrent layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    Rnn,
    Gru { linear_before_reset: bool },
    Lstm { input_forget: bool },
}

impl Cell {
    /// Number of gates, each with a matrix for the input and one for the state.
    pub(crate) const fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Gru { .. } => 3,
            Self::Lstm { .. } => 4,
        }
    }
}

/// A recurrent layer. The operands are X `[time, batch, input]`, W `[directions, gates * hidden, input]`,
/// R `[directions, gates * hidden, hidden]`, B `[directions, 2 * gates * hidden]`, the initial h and c
/// `[directions, batch, hidden]`, and the peepholes P `[directions, 3 * hidden]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recurrent {
    pub(crate) cell: Cell,
    pub(crate) hidden: usize,
    /// For each direction, whether it runs backwards in time.
    pub(crate) reversed: Vec<bool>,
    /// The functions of each direction.
    pub(crate) functions: Vec<Vec<Unary>>,
    pub(crate) clip: Option<f32>,
    /// 0 for the states of all times `[time, directions, batch, hidden]`, 1 for the last state, 2 for the last cell.
    pub(crate) part: usize,
}

/// An operator on tensors. Axes are counted from the first, which can be the batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TensorOp {
    /// A function of each element.
    Map(Unary),
    /// A function of two or more tensors that are broadcast to each other, folded from the left.
    Zip(Binary),
    /// The second operand where the first is not 0, else the third.
    Where,
    /// The matrix product over the last two axes.
    MatMul,
    /// `alpha * op(a) * op(b) + beta * c`, where c is broadcast.
    Gemm {
        alpha: f32,
        beta: f32,
        trans_a: bool,
        trans_b: bool,
    },
    /// A sum of products. Each axis has a number, and the output keeps some of them.
    Einsum {
        inputs: Vec<Vec<u8>>,
        output: Vec<u8>,
    },
    Reduce {
        kind: Reduction,
        axes: Vec<bool>,
        keep: bool,
    },
    /// The index of the first or last extreme.
    ArgExtreme {
        max: bool,
        axis: usize,
        keep: bool,
        last: bool,
    },
    /// Over the axes from `first` to before `end` together.
    Softmax {
        kind: SoftKind,
        first: usize,
        end: usize,
    },
    CumSum {
        axis: usize,
        exclusive: bool,
        reverse: bool,
    },
    /// The order of axes.
    Permute(Vec<usize>),
    /// The same elements with other extents.
    Reshape,
    /// Broadcasts the operand to the output.
    Expand,
    /// Selects along every axis: slices, flips, repeats and padding.
    Pick {
        axes: Vec<Pick>,
        fill: f32,
    },
    Blend(Blend),
    Concat {
        axis: usize,
    },
    /// The slices of the first operand along an axis, for each index of the second.
    Gather {
        axis: usize,
    },
    GatherElements {
        axis: usize,
    },
    GatherNd {
        batch_dims: usize,
    },
    ScatterElements {
        axis: usize,
        how: Scatter,
    },
    ScatterNd {
        how: Scatter,
    },
    OneHot {
        axis: usize,
        depth: usize,
    },
    /// The largest or smallest elements, or their indices.
    TopK {
        axis: usize,
        count: usize,
        largest: bool,
        indices: bool,
    },
    /// The upper or lower triangle of the last two axes.
    Trilu {
        upper: bool,
        diagonal: i64,
    },
    Conv(ConvNd),
    ConvTranspose(ConvNd),
    Pool {
        kind: PoolOp,
        windows: Windows,
    },
    /// `(x - mean) / sqrt(variance + eps)` over the marked axes together, or without the mean.
    Normalize {
        axes: Vec<bool>,
        eps: f32,
        center: bool,
    },
    /// Local response normalisation over axis 1.
    Lrn(super::Lrn),
    GridSample(GridSample),
    Deform(Deform),
    Overlap(Overlap),
    Recurrent(Recurrent),
}

/// The names of parameters by operand.
pub(crate) const OPERANDS: [&str; 8] =
    ["operand0", "operand1", "operand2", "operand3", "operand4", "operand5", "operand6", "operand7"];

impl TensorLayer {
    /// The number of inputs that the operands refer to.
    pub(super) fn arity(&self) -> usize {
        let input = |operand: &Operand| match operand {
            Operand::Input(index) => Some(index + 1),
            _ => None,
        };
        self.operands.iter().filter_map(input).max().unwrap_or(0)
    }

    /// The rows and columns of the trained matrix, if this is the product of an activation and such a matrix.
    pub(crate) fn trained_matrix(&self) -> Option<[usize; 2]> {
        match (&self.op, &self.operands[..]) {
            (TensorOp::MatMul, &[Operand::Input(_), Operand::Param(param)]) => {
                self.params[param].dims.as_slice().try_into().ok()
            }
            _ => None,
        }
    }

    /// The full extents of each operand for a batch size; `None` if one is not known.
    pub(crate) fn operand_dims(&self, inputs: &[Shape], batch: usize) -> Option<Vec<Vec<usize>>> {
        let dims = |operand: &Operand| match *operand {
            Operand::Input(index) => inputs.get(index)?.full(batch),
            Operand::Param(index) => self.params.get(index).map(|param| param.dims.clone()),
            Operand::Number(_) => Some(Vec::new()),
        };
        self.operands.iter().map(dims).collect()
    }

    /// The layer for any batch, if `a` is it for a batch of `one` and `b` for a batch of `two`.
    pub(crate) fn unify(a: &Self, b: &Self, batches: (usize, usize)) -> Option<Self> {
        let output = Shape::unify(a.output, b.output, batches)?;
        let same = a.op == b.op && a.operands == b.operands && a.params == b.params;
        same.then(|| Self { output, ..a.clone() })
    }

    /// The kind in tables.
    pub(super) fn name(&self) -> &'static str {
        match &self.op {
            TensorOp::Map(function) => function.name(),
            TensorOp::Zip(function) => function.name(),
            TensorOp::Where => "where",
            TensorOp::MatMul => "matmul",
            TensorOp::Gemm { .. } => "gemm",
            TensorOp::Einsum { .. } => "einsum",
            TensorOp::Reduce { kind, .. } => kind.name(),
            TensorOp::ArgExtreme { max: true, .. } => "arg_max",
            TensorOp::ArgExtreme { .. } => "arg_min",
            TensorOp::Softmax { kind: SoftKind::Soft, .. } => "softmax",
            TensorOp::Softmax { kind: SoftKind::Log, .. } => "log_softmax",
            TensorOp::Softmax { .. } => "hardmax",
            TensorOp::CumSum { .. } => "cum_sum",
            TensorOp::Permute(_) => "transpose",
            TensorOp::Reshape => "reshape",
            TensorOp::Expand => "expand",
            TensorOp::Pick { .. } => "select",
            TensorOp::Blend(_) => "resize",
            TensorOp::Concat { .. } => "concat",
            TensorOp::Gather { .. } | TensorOp::GatherElements { .. } | TensorOp::GatherNd { .. } => "gather",
            TensorOp::ScatterElements { .. } | TensorOp::ScatterNd { .. } => "scatter",
            TensorOp::OneHot { .. } => "one_hot",
            TensorOp::TopK { .. } => "top_k",
            TensorOp::Trilu { .. } => "trilu",
            TensorOp::Conv(_) => "conv",
            TensorOp::ConvTranspose(_) => "conv_transpose",
            TensorOp::Pool { kind: PoolOp::Average { .. }, .. } => "avg_pool",
            TensorOp::Pool { kind: PoolOp::Lp(_), .. } => "lp_pool",
            TensorOp::Pool { .. } => "max_pool",
            TensorOp::Normalize { .. } => "normalize",
            TensorOp::Lrn(_) => "lrn",
            TensorOp::GridSample(_) => "grid_sample",
            TensorOp::Deform(_) => "deform_conv",
            TensorOp::Overlap(_) => "col2im",
            TensorOp::Recurrent(Recurrent { cell: Cell::Rnn, .. }) => "rnn",
            TensorOp::Recurrent(Recurrent { cell: Cell::Gru { .. }, .. }) => "gru",
            TensorOp::Recurrent(_) => "lstm",
        }
    }

    /// Whether the layer only passes on its input.
    pub(super) fn is_view(&self) -> bool {
        self.op == TensorOp::Reshape
    }
}

/// The role of a constant operand in a count of parameters.
pub(crate) fn role(op: &TensorOp, operand: usize, dims: &[usize]) -> Role {
    let weight = || Role::Weight {
        fan_in: dims.iter().skip(1).product::<usize>() as f64,
        fan_out: dims.first().copied().unwrap_or(1) as f64,
    };
    match (op, operand) {
        (TensorOp::MatMul | TensorOp::Einsum { .. }, _) => weight(),
        (TensorOp::Gemm { .. }, 0 | 1) => weight(),
        (TensorOp::Conv(_) | TensorOp::ConvTranspose(_) | TensorOp::Deform(_), 1) => weight(),
        (TensorOp::Gather { .. }, 0) => weight(),
        // Weights, recurrent weights and peepholes.
        (TensorOp::Recurrent(_), 1 | 2 | 6) => weight(),
        (TensorOp::Gemm { .. } | TensorOp::Conv(_) | TensorOp::ConvTranspose(_), _) => Role::Bias,
        (TensorOp::Recurrent(_) | TensorOp::Deform(_), 3) => Role::Bias,
        (TensorOp::Zip(Binary::PRelu), _) => Role::Slope,
        (TensorOp::Zip(Binary::Mul | Binary::Div | Binary::DivOrZero), _) => Role::Scale,
        (TensorOp::Zip(Binary::Add | Binary::Sub), _) => Role::Shift,
        _ => Role::Fixed,
    }
}
