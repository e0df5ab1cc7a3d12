//! [`SegmentedPlan`]: a convolution of long rows, as one of short images that overlap.
//!
//! Drivers keep whole rows in the second-level cache. A signal of many samples has one row, which does not fit. Its outputs are
//! therefore cut into segments, and each segment becomes an image of its own: it reads its samples in place, and shares the
//! last ones with the next segment. The outputs whose windows reach into the padding are two problems of their own.
//!
//! ```text
//! outputs  |before|   segment   |   segment   |   segment   |after|
//! ```

use super::{ConvPlan, PlanOptions, PlanWeights};
use crate::describe::{ConvDesc, ConvError, Layout, Pad2, Shape4, TensorOut, TensorRef, Weights};
use crate::memory::{WorkspaceReq, try_push, try_vec};
use crate::run::{ConvIo, Threads, check};

/// Elements of the samples that a segment reads, about half of a second-level cache.
const SEGMENT: usize = 128 << 10;
/// Outputs of a segment, at least and at most.
const LENGTH: (usize, usize) = (1 << 10, 1 << 14);

/// A convolution of which some outputs of every row are an image.
pub(crate) struct SegmentedPlan {
    desc: ConvDesc,
    parts: Vec<Part>,
}

/// Some outputs of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    /// The first output, the outputs of a segment, and the number of segments.
    first: usize,
    len: usize,
    segments: usize,
    /// The first sample, and the number of samples that a segment reads.
    input: (usize, usize),
    /// Padding before and after.
    pad: (usize, usize),
}

struct Part {
    cut: Cut,
    plan: ConvPlan,
}

/// The cuts of a convolution of one long row; none if its row is short.
fn cuts(desc: &ConvDesc) -> Option<[Option<Cut>; 3]> {
    let (input, output, stride) = (desc.input(), desc.output().w, desc.stride().w);
    let is_row = input.h == 1 && desc.output().h == 1 && desc.kernel().h == 1;
    // Other layouts are read in place.
    if !is_row || !matches!(desc.layout(), Layout::Nchw | Layout::Nhwc) {
        return None;
    }
    let reach = (desc.kernel().w - 1) * desc.dilation().w + 1;
    let len = (SEGMENT / input.c / stride).clamp(LENGTH.0, LENGTH.1).max(2 * reach.div_ceil(stride));
    // Outputs whose windows have no padding.
    let first = desc.pad().left.div_ceil(stride);
    let end = (input.w + desc.pad().left).checked_sub(reach)? / stride + 1;
    let segments = end.min(output).checked_sub(first)? / len;
    if segments < 2 {
        return None;
    }
    let cut = |first: usize, end: usize, segments: usize| {
        let outputs = (end - first) / segments;
        let start = first * stride;
        let reads = (outputs - 1) * stride + reach;
        let before = desc.pad().left.saturating_sub(start);
        let sample = (start + before) - desc.pad().left;
        let samples = reads.min(before + input.w - sample) - before;
        let pad = (before, reads - before - samples);
        Cut { first, len: outputs, segments, input: (sample, samples), pad }
    };
    let whole = first + segments * len;
    Some([
        (first > 0).then(|| cut(0, first, 1)),
        Some(cut(first, whole, segments)),
        (whole < output).then(|| cut(whole, output, 1)),
    ])
}

impl Cut {
    /// The convolution of the segments.
    fn desc(&self, of: &ConvDesc) -> Result<ConvDesc, ConvError> {
        let input = Shape4 { n: of.input().n * self.segments, w: self.input.1, ..of.input() };
        ConvDesc::builder(input, of.output().c, of.kernel())
            .stride(of.stride())
            .pad(Pad2 { top: 0, bottom: 0, left: self.pad.0, right: self.pad.1 })
            .dilation(of.dilation())
            .groups(of.groups())
            .layout(of.layout())
            .output_layout(of.output_layout())
            .epilogue(of.epilogue())
            .build()
    }
}

impl SegmentedPlan {
    pub(crate) fn new(
        desc: &ConvDesc,
        weights: PlanWeights<'_>,
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        // Padding above a row has taps of its own, which `Reduced` removes.
        let plain = desc.pad().top == 0 && desc.pad().bottom == 0;
        let segmented =
            cuts(desc).filter(|_| plain).map(|cuts| Self::segmented(desc, cuts, weights, options));
        match segmented {
            Some(Ok(plan)) => Ok(plan),
            // A forced algorithm can support the whole row only.
            _ => Self::whole(desc, weights, options),
        }
    }

    fn whole(desc: &ConvDesc, weights: PlanWeights<'_>, options: &PlanOptions) -> Result<Self, ConvError> {
        let (input, output) = (desc.input().w, desc.output().w);
        let pad = (desc.pad().left, desc.pad().right);
        let cut = Cut { first: 0, len: output, segments: 1, input: (0, input), pad };
        let mut parts = try_vec("segments", 1)?;
        parts.push(Part { cut, plan: ConvPlan::new(desc, weights, options)? });
        Ok(Self { desc: *desc, parts })
    }

    fn segmented(
        desc: &ConvDesc,
        cuts: [Option<Cut>; 3],
        weights: PlanWeights<'_>,
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        let mut parts = try_vec("segments", cuts.len())?;
        for cut in cuts.into_iter().flatten() {
            let plan = ConvPlan::new(&cut.desc(desc)?, weights, options)?;
            try_push("segments", &mut parts, Part { cut, plan })?;
        }
        Ok(Self { desc: *desc, parts })
    }

    pub(crate) fn desc(&self) -> &ConvDesc {
        &self.desc
    }

    /// The plans, of which the one with most outputs is [`main`](Self::main).
    pub(crate) fn plans(&self) -> impl Iterator<Item = &ConvPlan> {
        self.parts.iter().map(|part| &part.plan)
    }

    /// The plan that computes most outputs.
    pub(crate) fn main(&self) -> &ConvPlan {
        let outputs = |part: &&Part| part.cut.len * part.cut.segments;
        let largest = self.parts.iter().max_by_key(outputs);
        &largest.unwrap_or(&self.parts[0]).plan
    }

    pub(crate) fn workspace_req(&self) -> WorkspaceReq {
        let mut all = self.plans().map(ConvPlan::workspace_req);
        let first = all.next().unwrap_or_default();
        all.fold(first, WorkspaceReq::union)
    }

    /// See [`ConvPlan::repack`].
    pub(crate) fn repack(&mut self, weights: Weights<'_>) -> Result<(), ConvError> {
        self.parts.iter_mut().try_for_each(|part| part.plan.repack(weights))
    }

    pub(crate) fn packed_bytes(&self) -> usize {
        self.plans().map(ConvPlan::packed_bytes).sum()
    }

    /// See [`Driver::writes_lines`](crate::algo::Driver::writes_lines).
    pub(crate) fn writes_lines(&self) -> bool {
        self.plans().all(|plan| plan.conv.driver.writes_lines())
    }

    /// Whether the output is written past the caches.
    pub(super) fn stream(&mut self, streams: bool) {
        self.parts.iter_mut().for_each(|part| part.plan.conv.streams = streams);
    }

    /// Whether [`add_to`](Self::add_to) can be called.
    pub(crate) fn adds_in_place(&self) -> bool {
        matches!(&self.parts[..], [Part { plan, .. }] if plan.conv.driver.adds_in_place())
    }

    /// Adds the convolution to `output`, as its residual.
    pub(crate) fn add_to(
        &self,
        input: TensorRef<'_>,
        output: TensorOut<'_>,
        scratch: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        self.main().conv.add_to(input, output, scratch, threads)
    }

    /// See [`ConvPlan::run`].
    pub(crate) fn run(
        &self,
        io: ConvIo<'_>,
        scratch: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        if let [Part { plan, .. }] = &self.parts[..] {
            return plan.run(io, scratch, threads);
        }
        let ConvIo { input, mut output, residual } = io;
        let desc = &self.desc;
        let of_output = (desc.output(), desc.output_layout());
        check("input", (desc.input(), desc.layout()), (input.shape(), input.layout()))?;
        check("output", of_output, (output.shape(), output.layout()))?;
        let planned = desc.epilogue().residual;
        if planned != residual.is_some() {
            return Err(ConvError::EpilogueMismatch { what: "residual", planned });
        }
        if let Some(residual) = &residual {
            check("residual", of_output, (residual.shape(), residual.layout()))?;
        }
        self.workspace_req().check(scratch)?;
        for Part { cut, plan } in &self.parts {
            let (step, segments) = (cut.len * desc.stride().w, cut.segments);
            let of_output = (cut.first, cut.len);
            let input = input.segments(cut.input, (step, segments))?;
            let residual = residual.map(|all| all.segments(of_output, (cut.len, segments))).transpose()?;
            let output: TensorOut<'_> = output.segments(of_output, (cut.len, segments))?;
            plan.run(ConvIo { input, output, residual }, scratch, threads)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::Size2;

    /// All cuts have the windows of the whole row, and each output belongs to one of them.
    #[test]
    fn cuts_cover_the_row() {
        let mut cases = 0;
        for (width, stride, dilation, taps) in [(9000, 1, 1, 3), (12345, 2, 5, 4), (40000, 3, 700, 2)] {
            for (left, right) in [(0, 0), (1, 4), (700, 0), (3, 1500)] {
                let desc = ConvDesc::builder(Shape4::new(2, 40, 1, width), 8, Size2::new(1, taps))
                    .stride(Size2::new(1, stride))
                    .dilation(Size2::new(1, dilation))
                    .pad(Pad2 { left, right, ..Pad2::VALID })
                    .build()
                    .unwrap();
                let mut next = 0;
                for cut in cuts(&desc).expect("a long row").into_iter().flatten() {
                    assert_eq!(cut.first, next);
                    next += cut.len * cut.segments;
                    assert_eq!(cut.desc(&desc).unwrap().output().w, cut.len, "{desc} {cut:?}");
                    // The first tap of the first output.
                    let tap = (cut.first * stride) as isize - left as isize;
                    assert_eq!(cut.input.0 as isize - cut.pad.0 as isize, tap, "{desc} {cut:?}");
                    let last = (cut.segments - 1) * cut.len * stride + cut.input.0 + cut.input.1;
                    assert!(last <= width, "{desc} {cut:?}");
                    assert!(cut.segments == 1 || cut.pad == (0, 0));
                }
                assert_eq!(next, desc.output().w);
                cases += 1;
            }
        }
        assert_eq!(cases, 12);
    }

    #[test]
    fn short_rows_are_whole() {
        let builder = ConvDesc::builder(Shape4::new(1, 64, 1, 2000), 8, Size2::new(1, 3));
        assert_eq!(cuts(&builder.build().unwrap()), None);
        assert_eq!(cuts(&builder.layout(Layout::Nchw16c).build().unwrap()), None);
    }
}
