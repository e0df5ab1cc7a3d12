//! The pass of a stripe that reads neighbouring columns.

use super::banded::plan_pass;
use super::{Engine, Geometry, Kernel, run_plan};
use crate::memory::{Edges, collected, plan};
use kernels::{
    ConvDesc, ConvDescBuilder, ConvError, ConvPlan, Layout, Pad2, Shape4, Size2, Threads, Workspace,
};
use std::ops::Range;

/// The pass over input rows that are as wide as the image.
pub(super) struct Across {
    lanes: usize,
    /// Extents of the input in pixels.
    input: Size2,
    /// Extents of the output in pixels.
    output: Size2,
    /// Computes all columns, as if there were zeros left and right; `None` if the edges are all columns.
    main: Option<ConvPlan>,
    edges: Vec<Edge>,
}

/// Columns of the output that read values outside of the image, and those are not zeros.
struct Edge {
    plan: ConvPlan,
    columns: Range<usize>,
    /// The column of the image whose values stand in each column that they read, as far as there is one.
    sources: Vec<Option<usize>>,
}

impl Across {
    pub(super) fn new(
        engine: &Engine,
        kernel: &Kernel,
        Geometry { image, lanes, .. }: Geometry,
        rows: usize,
        threads: usize,
    ) -> Result<Self, ConvError> {
        let (filter, Pad2 { left, right, .. }) = (&kernel.filter, engine.pad);
        let size = filter.shape().kernel;
        let input = Size2::new(rows, image.w);
        let desc = |columns: usize| -> ConvDescBuilder {
            ConvDesc::builder(Shape4::new(1, 1, rows, columns * lanes), 1, size)
                .dilation(Size2::new(1, lanes))
        };
        let overflow = ConvError::SizeOverflow { what: "border" };
        let (Some(pad_left), Some(pad_right)) = (left.checked_mul(lanes), right.checked_mul(lanes)) else {
            return Err(overflow);
        };
        let main = desc(image.w).pad(Pad2 { left: pad_left, right: pad_right, ..Pad2::VALID }).build()?;
        let output = Size2::new(main.output().h, main.output().w / lanes);

        let mut edges = Vec::new();
        if !engine.border.is_zero() {
            let first_right = output.w.saturating_sub(right).max(left);
            for columns in [0..left.min(output.w), first_right..output.w] {
                if !columns.is_empty() {
                    let read = columns.len() + size.w - 1;
                    let plan = plan(filter, &desc(read).build()?, threads)?;
                    let source = |x: usize| {
                        engine.border.source((columns.start + x) as isize - left as isize, image.w)
                    };
                    let sources = collected("columns at an edge", (0..read).map(source))?;
                    edges.push(Edge { plan, columns, sources });
                }
            }
        }
        let at_edges: usize = edges.iter().map(|edge| edge.columns.len()).sum();
        let main = if at_edges < output.w { Some(plan_pass(kernel, &main, threads)?) } else { None };
        Ok(Self { lanes, input, output, main, edges })
    }

    /// Computes the columns that are not at an edge, and wrong values at the edges.
    pub(super) fn main(
        &self,
        input: &[f32],
        output: &mut [f32],
        how: (&mut Option<Workspace>, Threads<'_>),
    ) -> Result<(), ConvError> {
        match &self.main {
            Some(plan) => run_plan(plan, input, output, how),
            None => Ok(()),
        }
    }

    /// Computes the columns at the edges. `constant` is the value outside of the image, if it is a constant.
    pub(super) fn edges(
        &self,
        constant: f32,
        input: &[f32],
        output: &mut [f32],
        (rooms, workspace): (&mut Edges, &mut Option<Workspace>),
    ) -> Result<(), ConvError> {
        let lanes = self.lanes;
        for Edge { plan, columns, sources } in &self.edges {
            let copy = rooms.input.of(plan.desc().input().len(Layout::Nchw)?)?;
            let rows = input.chunks_exact(self.input.w * lanes);
            for (row, copy) in rows.zip(copy.chunks_exact_mut(sources.len() * lanes)) {
                for (pixel, source) in copy.chunks_exact_mut(lanes).zip(sources) {
                    match *source {
                        Some(x) => pixel.copy_from_slice(&row[x * lanes..][..lanes]),
                        None => pixel.fill(constant),
                    }
                }
            }
            let edge = rooms.output.of(plan.desc().output().len(Layout::Nchw)?)?;
            run_plan(plan, copy, edge, (workspace, Threads::Seq))?;
            let rows = output.chunks_exact_mut(self.output.w * lanes);
            for (row, edge) in rows.zip(edge.chunks_exact(columns.len() * lanes)) {
                row[columns.start * lanes..columns.end * lanes].copy_from_slice(edge);
            }
        }
        Ok(())
    }
}
