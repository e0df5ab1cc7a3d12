//! [`Reduced`]: a smaller convolution that computes the same output in the same tensors.
//!
//! Four things are removed. Taps that meet only padding: of a 9x9 kernel on a map of one pixel, one tap is left. Strides
//! and dilations that nothing depends on, because there is one output or one tap. Maps of one column: their rows become
//! the columns of a map of one row, which has the same memory order in every layout. Images of one pixel, in NCHW and NHWC:
//! they become the pixels of one image in NHWC.

use super::{ConvDesc, Layout, Pad2, Shape4, Size2};

/// Maximum extent of a kernel whose taps are visited one by one.
const MOST_TAPS: usize = 1 << 12;

/// The convolution that is computed in the place of another one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reduced {
    pub(crate) desc: ConvDesc,
    /// The taps that are left, if some were removed.
    pub(crate) cut: Option<FilterCut>,
    /// Whether the images are the pixels of one image: the views of all tensors are merged.
    pub(crate) merged: bool,
}

/// The part of a filter that is left: rows `first.h..first.h + kept.h` and columns `first.w..first.w + kept.w` of each
/// kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FilterCut {
    kernel: Size2,
    first: Size2,
    kept: Size2,
}

impl FilterCut {
    /// The kernel rows that are left of `filters`, which are whole kernels of any number of channels, without the taps
    /// that were removed.
    pub(crate) fn rows(self, filters: &[f32]) -> impl Iterator<Item = &[f32]> {
        let Self { kernel, first, kept } = self;
        let rows_of = move |taps| <[f32]>::chunks_exact(taps, kernel.w).skip(first.h).take(kept.h);
        let rows = filters.chunks_exact(kernel.h * kernel.w).flat_map(rows_of);
        rows.map(move |row| &row[first.w..][..kept.w])
    }

    /// Number of taps that are left of `taps` taps.
    pub(crate) fn count(self, taps: usize) -> usize {
        taps / (self.kernel.h * self.kernel.w) * (self.kept.h * self.kept.w)
    }
}

/// A window along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Axis {
    /// Extent of the input and of the output.
    input: usize,
    output: usize,
    taps: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    after: usize,
}

impl Axis {
    /// Whether tap `tap` meets an element of the input for any output.
    fn meets_input(&self, tap: usize) -> bool {
        let ahead = tap * self.dilation;
        let output = self.before.saturating_sub(ahead).div_ceil(self.stride);
        output < self.output && output * self.stride + ahead < self.before + self.input
    }

    /// The number of outputs that the extents lead to; `None` if the window is larger than the padded input.
    fn outputs(&self) -> Option<usize> {
        let padded = self.input + self.before + self.after;
        Some(padded.checked_sub(self.dilation * (self.taps - 1) + 1)? / self.stride + 1)
    }

    /// The same axis without the first `first` taps and with `taps` taps in all.
    fn cut(&self, first: usize, taps: usize) -> Self {
        let dilation = if taps == 1 { 1 } else { self.dilation };
        let before = self.before - first * self.dilation;
        let reach = (self.output - 1) * self.stride + dilation * (taps - 1) + 1;
        Self { taps, dilation, before, after: reach.saturating_sub(self.input + before), ..*self }
    }

    /// Returns the reduced axis, and the number of taps that were removed before its first.
    fn reduced(self) -> (Self, usize) {
        if self.taps > MOST_TAPS {
            return (self, 0);
        }
        let mut met = (0..self.taps).filter(|&tap| self.meets_input(tap));
        let first = met.next().unwrap_or(0);
        let last = met.next_back().unwrap_or(first);
        // The padding cannot be negative.
        let first = first.min(self.before / self.dilation);
        let cut = self.cut(first, last + 1 - first);
        let once = Self { stride: 1, ..cut };
        let is_other =
            |axis: &Self| (axis.taps, axis.stride, axis.dilation) != (self.taps, self.stride, self.dilation);
        let same_outputs = |axis: &Self| axis.outputs() == Some(self.output);
        let best = [once, cut].into_iter().find(|axis| is_other(axis) && same_outputs(axis));
        best.map_or((self, 0), |axis| (axis, first))
    }
}

impl ConvDesc {
    /// The smaller convolution that computes the same output in the same tensors, often this one itself.
    pub(crate) fn reduced(&self) -> Reduced {
        let (input, output, kernel, pad) = (self.input(), self.output(), self.kernel(), self.pad());
        let (stride, dilation) = (self.stride(), self.dilation());
        let along = |input, output, taps, stride, dilation, (before, after)| {
            Axis { input, output, taps, stride, dilation, before, after }.reduced()
        };
        let (mut y, top) = along(input.h, output.h, kernel.h, stride.h, dilation.h, (pad.top, pad.bottom));
        let (mut x, left) = along(input.w, output.w, kernel.w, stride.w, dilation.w, (pad.left, pad.right));
        let (first, kept) = (Size2::new(top, left), Size2::new(y.taps, x.taps));
        let cut = (kept != kernel).then_some(FilterCut { kernel, first, kept });
        let is_column = |axis: &Axis| (axis.input, axis.output, axis.taps) == (1, 1, 1);
        if is_column(&x) && !is_column(&y) {
            (y, x) = (x, y);
        }
        let pad = Pad2 { top: y.before, bottom: y.after, left: x.before, right: x.after };
        let is_pixel = is_column(&x) && is_column(&y) && pad == Pad2::all(0);
        let merged = is_pixel
            && self.layout() == self.output_layout()
            && matches!(self.layout(), Layout::Nchw | Layout::Nhwc);
        let (images, width) = if merged { (1, input.n) } else { (input.n, x.input) };
        let layout = |layout| if merged { Layout::Nhwc } else { layout };
        let desc =
            Self::builder(Shape4::new(images, input.c, y.input, width), output.c, Size2::new(y.taps, x.taps))
                .stride(Size2::new(y.stride, x.stride))
                .pad(pad)
                .dilation(Size2::new(y.dilation, x.dilation))
                .groups(self.groups())
                .layout(layout(self.layout()))
                .output_layout(layout(self.output_layout()))
                .epilogue(self.epilogue())
                .build();
        let same = Reduced { desc: *self, cut: None, merged: false };
        desc.map_or(same, |desc| Reduced { desc, cut, merged })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::ConvDescBuilder;

    fn reduced(
        h: usize,
        w: usize,
        kernel: Size2,
        set: fn(ConvDescBuilder) -> ConvDescBuilder,
    ) -> (String, Option<FilterCut>) {
        let desc = set(ConvDesc::builder(Shape4::new(1, 2, h, w), 3, kernel)).build().unwrap();
        let Reduced { desc, cut, .. } = desc.reduced();
        (desc.to_string(), cut)
    }

    #[test]
    fn taps_that_only_meet_padding_are_removed() {
        let nine = Size2::square(9);
        let (desc, cut) = reduced(1, 1, nine, |builder| builder.pad(Pad2::all(4)));
        assert_eq!(desc, "1x2x1x1 -> 3 1x1 nhwc");
        let centre = FilterCut { kernel: nine, first: Size2::square(4), kept: Size2::square(1) };
        assert_eq!(cut, Some(centre));
        let filters: Vec<f32> = (0..162).map(|i| i as f32).collect();
        assert_eq!(centre.rows(&filters).collect::<Vec<_>>().concat(), [40.0, 121.0]);
        assert_eq!(centre.count(filters.len()), 2);
        let (desc, _) = reduced(2, 3, nine, |builder| builder.pad(Pad2::all(4)));
        assert_eq!(desc, "1x2x2x3 -> 3 3x5 pad 1x2 nchw");
        let (desc, _) =
            reduced(3, 3, Size2::square(11), |builder| builder.pad(Pad2::all(5)).stride(Size2::square(3)));
        assert_eq!(desc, "1x2x3x3 -> 3 3x3 nchw");
    }

    #[test]
    fn what_nothing_depends_on_becomes_one() {
        let (desc, cut) = reduced(7, 7, Size2::square(7), |builder| builder.stride(Size2::square(3)));
        assert_eq!((desc.as_str(), cut), ("1x2x7x7 -> 3 7x7 nchw", None));
        // There are more rows than the one output reads, so the stride remains.
        let (desc, _) = reduced(8, 8, Size2::square(7), |builder| builder.stride(Size2::square(3)));
        assert_eq!(desc, "1x2x8x8 -> 3 7x7 stride 3x3 nchw");
        let (desc, _) = reduced(8, 8, Size2::square(1), |builder| builder.dilation(Size2::square(3)));
        assert_eq!(desc, "1x2x8x8 -> 3 1x1 nchw");
    }

    #[test]
    fn a_column_becomes_a_row() {
        let (desc, cut) = reduced(40, 1, Size2::new(5, 1), |builder| {
            builder.pad(Pad2 { top: 2, bottom: 1, left: 0, right: 0 })
        });
        assert_eq!((desc.as_str(), cut), ("1x2x1x40 -> 3 1x5 pad [0,2,0,1] nchw", None));
        let (desc, _) =
            reduced(40, 1, Size2::square(3), |builder| builder.pad(Pad2::all(1)).stride(Size2::square(2)));
        assert_eq!(desc, "1x2x1x40 -> 3 1x3 stride 1x2 pad 0x1 nchw");
    }

    #[test]
    fn images_of_one_pixel_become_the_pixels_of_an_image() {
        let builder = |layout| {
            ConvDesc::builder(Shape4::new(5, 2, 1, 1), 4, Size2::square(3)).pad(Pad2::all(1)).layout(layout)
        };
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let reduced = builder(layout).build().unwrap().reduced();
            assert_eq!((reduced.desc.to_string().as_str(), reduced.merged), ("1x2x1x5 -> 4 1x1 nhwc", true));
        }
        // Of blocks of channels, each is a tensor of its own.
        let blocked = builder(Layout::Nchw16c).build().unwrap().reduced();
        assert_eq!((blocked.desc.to_string().as_str(), blocked.merged), ("5x2x1x1 -> 4 1x1 nchw16c", false));
        let mixed = builder(Layout::Nchw).output_layout(Layout::Nchw16c).build().unwrap().reduced();
        assert!(!mixed.merged);
    }

    #[test]
    fn other_convolutions_stay_as_they_are() {
        for (h, w, kernel, pad, stride) in
            [(56, 56, 3, 1, 1), (56, 56, 3, 1, 2), (5, 4, 3, 0, 1), (1, 9, 1, 0, 1), (9, 9, 2, 1, 3)]
        {
            let desc =
                ConvDesc::builder(Shape4::new(1, 2, h, w), 3, Size2::square(kernel)).pad(Pad2::all(pad));
            let desc = desc.stride(Size2::square(stride)).build().unwrap();
            assert_eq!(desc.reduced(), Reduced { desc, cut: None, merged: false }, "{desc}");
        }
    }
}
