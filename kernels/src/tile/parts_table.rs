//! [`PartsKernels`]: the kernels of bf16 products for one instruction set, behind safe, length-checked calls.
//!
//! The table belongs to a [`KernelSet`](super::table::KernelSet), which is returned only after its features
//! were detected.

use super::activate::SumsArgs;
use super::boundary::Entry;
use super::measure::{product, require, span};
use super::output::OutputTile;
use super::parts::{
    AccumulateArgs, COLUMNS, FinishArgs, FinishWordsArgs, PART_WORDS, ProductArgs, ROW, ROW_WORDS, SplitArgs,
    WidenArgs,
};
use super::post::{Addend, Post};
use crate::describe::{Activation, BLOCK, ConvError, Products};
use crate::memory::{try_push, try_vec};

/// The kernels of bf16 products.
pub(crate) struct PartsKernels {
    /// Names, by the number of parts.
    pub(super) names: [&'static str; 3],
    /// Maximum number of pixels of a tile.
    pub(super) rows: usize,
    /// Tiles that are multiplied together.
    pub(super) together: usize,
    pub(super) split: [Entry<SplitArgs>; 3],
    /// [`split`](Self::split) of two rows at a time, whose numbers become pairs.
    pub(super) split_pairs: [Entry<SplitArgs>; 3],
    /// By the number of parts, the number of pixels, and whether these are a row apart (first) or further. The
    /// last entry takes any greater number of pixels.
    pub(super) products: [&'static [[Entry<ProductArgs>; 2]]; 3],
    pub(super) accumulate: Entry<AccumulateArgs>,
    pub(super) widen: Entry<WidenArgs>,
    pub(super) finish: Entry<FinishArgs>,
    /// [`finish`](Self::finish) and rounding in one pass, if there is such a kernel.
    pub(super) finish_words: Option<Entry<FinishWordsArgs>>,
    pub(super) activate: Entry<SumsArgs>,
}

/// [`Steps`] that are computed once.
pub(crate) struct Offsets {
    words: Vec<usize>,
    most: usize,
}

impl Offsets {
    pub(crate) fn new(words: impl ExactSizeIterator<Item = usize>) -> Result<Self, ConvError> {
        let mut offsets = Self { words: try_vec("steps of K", words.len())?, most: 0 };
        for word in words {
            offsets.most = offsets.most.max(word);
            try_push("steps of K", &mut offsets.words, word)?;
        }
        Ok(offsets)
    }

    pub(crate) fn steps(&self) -> Steps<'_> {
        Steps { words: &self.words, most: self.most }
    }
}

/// The words before the rows of each step of K, and their maximum.
#[derive(Clone, Copy)]
pub(crate) struct Steps<'a> {
    words: &'a [usize],
    most: usize,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(words: &'a [usize]) -> Self {
        Self { words, most: words.iter().copied().max().unwrap_or(0) }
    }
}

/// The pixels of some tiles, split into parts.
#[derive(Clone, Copy)]
pub(crate) struct PixelParts<'a> {
    pub(crate) data: &'a [f32],
    /// Words from one part to the next, and from one pixel of a tile to the next.
    pub(crate) part: usize,
    pub(crate) row: usize,
    /// The words before each tile.
    pub(crate) tiles: &'a [usize],
    /// Pixels of each tile.
    pub(crate) rows: usize,
}

/// The weights of the steps of a block of K.
#[derive(Clone, Copy)]
pub(crate) struct WeightParts<'a> {
    /// `[step][part]`. What follows the block is prefetched if `ahead`.
    pub(crate) data: &'a [f32],
    pub(crate) ahead: bool,
}

/// Rows of `f32` that are split.
#[derive(Clone, Copy)]
pub(crate) struct SplitRows<'a> {
    pub(crate) data: &'a [f32],
    /// Where each half of the first row begins, and how many of its 16 values exist. The others are zero.
    pub(crate) halves: [(usize, usize); 2],
    /// Distance between rows.
    pub(crate) step: usize,
    pub(crate) rows: usize,
    /// Number of blocks of rows, and the distance between them.
    pub(crate) blocks: (usize, usize),
}

/// Where split rows are written: the words from one row to the next, one part to the next, and one block of
/// rows to the next.
#[derive(Clone, Copy)]
pub(crate) struct SplitTo {
    pub(crate) row: usize,
    pub(crate) part: usize,
    pub(crate) block: usize,
}

impl SplitRows<'_> {
    /// The arguments that split these rows to `to`.
    ///
    /// # Panics
    /// If the source is too short. That is a bug in this library.
    fn measured(&self, to: *mut f32, place: SplitTo) -> SplitArgs {
        let Self { data, halves, step, rows, blocks: (blocks, block) } = *self;
        for (first, len) in halves {
            assert!(len <= BLOCK);
            let needed = if len == 0 {
                0
            } else {
                span([(blocks, block), (rows, step), (len, 1)]).saturating_add(first)
            };
            require("rows to split", needed, data.len());
        }
        SplitArgs {
            halves: halves.map(|(first, _)| data.as_ptr().wrapping_add(first)),
            lens: halves.map(|(_, len)| len),
            step,
            rows,
            blocks,
            block,
            to_block: place.block,
            to,
            to_row: place.row,
            to_part: place.part,
        }
    }
}

impl PartsKernels {
    /// `parts_bf16x6_<pixels>x32_<isa>` and so on.
    pub(crate) fn name(&self, products: Products) -> &'static str {
        self.names[products.parts() - 1]
    }

    /// Maximum number of pixels of a tile.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Tiles that are multiplied together. They share the loads of their weights.
    pub(crate) fn together(&self) -> usize {
        self.together
    }

    /// Splits rows into the parts of `products`.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn split(&self, products: Products, from: &SplitRows<'_>, to: &mut [f32], place: SplitTo) {
        split_with(&self.split, products, from, to, place);
    }

    /// Splits rows of B, whose columns are channels: the halves of a source row are the same 16 channels of two values of K, and
    /// each word has both values of a channel.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn split_pairs(
        &self,
        products: Products,
        from: &SplitRows<'_>,
        to: &mut [f32],
        place: SplitTo,
    ) {
        split_with(&self.split_pairs, products, from, to, place);
    }

    /// Splits the weights of a step, `[half][pair of K][16 channels][2]`, into `[part]` of the same order.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn split_step(&self, products: Products, floats: &[f32], to: &mut [f32]) {
        let halves = [(0, BLOCK), (BLOCK, BLOCK)];
        let rows = PART_WORDS / ROW_WORDS;
        let rows = SplitRows { data: floats, halves, step: ROW, rows, blocks: (1, 0) };
        self.split(products, &rows, to, SplitTo { row: ROW_WORDS, part: PART_WORDS, block: 0 });
    }

    /// Rounds rows to bf16 and writes them to `out`, whose columns are words.
    ///
    /// # Panics
    /// If an operand is too short, or `out` has other rows. That is a bug in this library.
    pub(crate) fn round(&self, from: &SplitRows<'_>, out: OutputTile<'_>) {
        assert!(from.rows == out.rows && from.blocks.0 == 1 && (out.lo, out.hi) == (0, ROW_WORDS));
        if from.rows == 0 {
            return;
        }
        let args = from.measured(out.place.base, SplitTo { row: out.place.row, part: 0, block: 0 });
        // SAFETY: the source was measured. The output lies in a region that this call borrows. The features
        // were detected.
        unsafe { self.split[0](&args) }
    }

    /// Applies the epilogue to rows of 32 sums, adds a residual of bf16 numbers, and rounds the results to `out`, whose
    /// columns are words. Returns whether there is a kernel for this epilogue; otherwise it does nothing.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn finish_words(
        &self,
        sums: &[f32],
        residual: Option<(&[f32], usize)>,
        out: &OutputTile<'_>,
        post: &Post<'_>,
    ) -> bool {
        let relu = post.activation == Activation::Relu;
        let Some(kernel) = self.finish_words.filter(|_| relu || post.activation == Activation::None) else {
            return false;
        };
        assert!(
            (out.lo, out.hi) == (0, ROW_WORDS)
                && matches!(post.residual, Addend::None)
                && post.first
                && post.last
        );
        require("sums", product([out.rows, COLUMNS]), sums.len());
        require("bias", if post.bias.is_empty() { 0 } else { COLUMNS }, post.bias.len());
        let (data, residual_row) = residual.unwrap_or((&[], 0));
        let needed = if residual.is_some() { span([(out.rows, residual_row), (ROW_WORDS, 1)]) } else { 0 };
        require("residual", needed, data.len());
        let pointer = |numbers: &[f32]| if numbers.is_empty() { std::ptr::null() } else { numbers.as_ptr() };
        let args = FinishWordsArgs {
            sums: sums.as_ptr(),
            rows: out.rows,
            bias: pointer(post.bias),
            residual: pointer(data),
            residual_row,
            relu,
            out: out.place.base,
            out_row: out.place.row,
        };
        // SAFETY: all operands were measured. The output lies in a region that the tile borrows. The features
        // were detected.
        unsafe { kernel(&args) };
        true
    }

    /// Converts `rows` adjacent rows of bf16 numbers to `f32`.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn widen(&self, from: &[f32], to: &mut [f32], rows: usize) {
        require("rows of bf16", product([rows, ROW_WORDS]), from.len());
        require("rows of f32", product([rows, ROW]), to.len());
        let args = WidenArgs { from: from.as_ptr(), to: to.as_mut_ptr(), rows };
        // SAFETY: both operands were measured. The features were detected.
        unsafe { (self.widen)(&args) }
    }

    /// Multiplies tiles of pixels with 32 output channels, over the `steps` of a block of K. The sums
    /// `[tile][row][32]` start from zero if this is the `first` block.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn product(
        &self,
        products: Products,
        a: &PixelParts<'_>,
        steps: Steps<'_>,
        b: &WeightParts<'_>,
        sums: &mut [f32],
        first: bool,
    ) {
        let (parts, count) = (products.parts(), a.tiles.len());
        if count == 0 || steps.words.is_empty() {
            assert!(!first || count == 0);
            return;
        }
        assert!(a.rows > 0 && a.rows <= self.rows);
        let last = a.tiles.iter().copied().max().unwrap_or(0).saturating_add(steps.most);
        let needed = span([(a.rows, a.row), (parts, a.part), (ROW_WORDS, 1)]).saturating_add(last);
        require("parts of pixels", needed, a.data.len());
        let block = product([steps.words.len(), parts, PART_WORDS]);
        require("parts of weights", block, b.data.len());
        require("sums", product([count, a.rows, COLUMNS]), sums.len());
        let iterations = count.div_ceil(self.together);
        let lines = if b.ahead { (parts * PART_WORDS / ROW_WORDS).div_ceil(iterations) } else { 0 };
        let args = ProductArgs {
            a: a.data.as_ptr(),
            a_row: a.row,
            a_part: a.part,
            tiles: a.tiles.as_ptr(),
            count,
            rows: a.rows,
            steps: steps.words.as_ptr(),
            step_count: steps.words.len(),
            b: b.data.as_ptr(),
            sums: sums.as_mut_ptr(),
            first,
            hint: b.data.as_ptr().wrapping_add(block),
            hint_lines: lines,
        };
        let table = self.products[parts - 1];
        let kernel = table[(a.rows - 1).min(table.len() - 1)][usize::from(a.row != ROW_WORDS)];
        // SAFETY: all operands were measured. The features were detected.
        unsafe { kernel(&args) }
    }

    /// Adds the sums of a block of K to those of the blocks before it.
    ///
    /// # Panics
    /// If they differ in length, or are not rows of 32. That is a bug in this library.
    pub(crate) fn accumulate(&self, sums: &mut [f32], more: &[f32]) {
        assert!(sums.len() == more.len() && sums.len().is_multiple_of(COLUMNS));
        let args = AccumulateArgs { sums: sums.as_mut_ptr(), more: more.as_ptr(), len: sums.len() };
        // SAFETY: both operands have the same length. The features were detected.
        unsafe { (self.accumulate)(&args) }
    }

    /// Applies the epilogue to rows of 32 sums and stores them in `out`, whose rows are pixels.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn finish(&self, sums: &[f32], mut out: OutputTile<'_>, post: &Post<'_>) {
        if out.rows == 0 || out.lo >= out.hi {
            return;
        }
        assert!(out.hi <= COLUMNS);
        require("sums", product([out.rows, COLUMNS]), sums.len());
        out.zeros = out.zeros.min(COLUMNS);
        let rows = out.rows;
        let target = post.target(&out, COLUMNS, self.activate);
        // SAFETY: the sums were measured. The output lies in a region that this call borrows. The features were
        // detected.
        unsafe { (self.finish)(&FinishArgs { sums: sums.as_ptr(), rows, target }) }
    }
}

/// Splits rows with the kernel of `products`. The features of the kernels were detected.
fn split_with(
    kernels: &[Entry<SplitArgs>; 3],
    products: Products,
    from: &SplitRows<'_>,
    to: &mut [f32],
    place: SplitTo,
) {
    let (parts, (blocks, _)) = (products.parts(), from.blocks);
    let SplitTo { row, part, block } = place;
    if from.rows == 0 || blocks == 0 {
        return;
    }
    let needed = span([(blocks, block), (from.rows, row), (parts, part), (ROW_WORDS, 1)]);
    require("words of parts", needed, to.len());
    let args = from.measured(to.as_mut_ptr(), place);
    // SAFETY: both operands were measured. The features were detected.
    unsafe { kernels[parts - 1](&args) }
}

/// The position of value `k` of K of output channel `channel` among the weights of a step.
pub(crate) fn position_in_step(channel: usize, k: usize) -> usize {
    channel / BLOCK * PART_WORDS + k / 2 * (2 * BLOCK) + channel % BLOCK * 2 + k % 2
}

/// Splits `pixels` into tiles of at most `most` pixels: their number, and the pixels of each. Tiles that are multiplied
/// `together` share loads, so their number is a multiple of that if there are several.
pub(crate) fn tiles_of_pixels(pixels: usize, most: usize, together: usize) -> (usize, usize) {
    let mut tiles = pixels.div_ceil(most);
    if tiles > 1 {
        tiles = tiles.next_multiple_of(together);
    }
    let rows = pixels.div_ceil(tiles);
    (pixels.div_ceil(rows), rows)
}

/// The time that a step takes in a tile of `rows` pixels, in rows of 32 by 16 products, if `together` tiles share
/// the loads of their weights.
///
/// A tile of weights is 16 cache lines, and one of pixels `rows`. Two of them load in the time of a row.
pub(crate) fn rows_of_step(products: Products, rows: usize, together: usize) -> f64 {
    let (rows, parts) = (rows as f64, products.parts());
    let multiplied = 2.0 * [1.0, 3.0, 6.0][parts - 1] * rows;
    // Pixels are loaded once for each part; weights too, and their first part twice if there are three.
    let weights = ((parts + parts / 3) * BLOCK / together) as f64;
    multiplied.max(weights + parts as f64 * rows / 2.0)
}

/// The tables: `parts_kernels!(tiles)`, `parts_kernels!(dots)`, `parts_kernels!(plain enter_isa, vectors)`.
macro_rules! parts_kernels {
    (@dots [$($mr:literal)+]) => {
        &[$([
            <super::parts::Dots<$mr, 16>>::enter_avx512bf16 as Entry<_>,
            <super::parts::Dots<$mr, 0>>::enter_avx512bf16 as Entry<_>,
        ]),+]
    };
    (@split $pairs:literal) => {
        [
            <super::parts::Split<1, $pairs>>::enter_avx512bf16,
            <super::parts::Split<2, $pairs>>::enter_avx512bf16,
            <super::parts::Split<3, $pairs>>::enter_avx512bf16,
        ]
    };
    (@plain split $enter:ident, $pairs:literal) => {
        [
            <super::parts_plain::Split<1, $pairs>>::$enter,
            <super::parts_plain::Split<2, $pairs>>::$enter,
            <super::parts_plain::Split<3, $pairs>>::$enter,
        ]
    };
    (@tiles $parts:literal) => {
        &[[<super::amx::Tiles<$parts>>::enter_avx512bf16 as Entry<_>, <super::amx::Tiles<$parts>>::enter_avx512bf16]]
    };
    (@plain $enter:ident, $parts:literal) => {
        &[[<super::parts_plain::Product<$parts>>::$enter as Entry<_>, <super::parts_plain::Product<$parts>>::$enter]]
    };
    (dots $rows:tt) => {
        super::parts_table::PartsKernels {
            names: ["parts_bf16_14x32_avx512bf16", "parts_bf16x3_plain", "parts_bf16x6_plain"],
            rows: 14,
            together: 1,
            split: parts_kernels!(@split false),
            split_pairs: parts_kernels!(@split true),
            products: [
                parts_kernels!(@dots $rows), parts_kernels!(@plain enter_avx512f, 2), parts_kernels!(@plain enter_avx512f, 3)
            ],
            accumulate: super::parts::Accumulate::enter_avx512f,
            widen: super::parts::Widen::enter_avx512f,
            finish: <super::parts::Finish<2>>::enter_avx512f,
            finish_words: Some(super::parts::FinishWords::enter_avx512bf16),
            activate: ActivateSums::enter_avx512f,
        }
    };
    (tiles) => {
        super::parts_table::PartsKernels {
            names: ["parts_bf16_32x32_amx", "parts_bf16x3_32x32_amx", "parts_bf16x6_32x32_amx"],
            rows: 16,
            together: 2,
            split: parts_kernels!(@split false),
            split_pairs: parts_kernels!(@split true),
            products: [parts_kernels!(@tiles 1), parts_kernels!(@tiles 2), parts_kernels!(@tiles 3)],
            accumulate: super::parts::Accumulate::enter_avx512f,
            widen: super::parts::Widen::enter_avx512f,
            finish: <super::parts::Finish<2>>::enter_avx512f,
            finish_words: Some(super::parts::FinishWords::enter_avx512bf16),
            activate: ActivateSums::enter_avx512f,
        }
    };
    (plain $enter:ident, $vectors:literal) => {
        super::parts_table::PartsKernels {
            names: ["parts_bf16_plain", "parts_bf16x3_plain", "parts_bf16x6_plain"],
            rows: 16,
            together: 1,
            split: parts_kernels!(@plain split $enter, false),
            split_pairs: parts_kernels!(@plain split $enter, true),
            products: [
                parts_kernels!(@plain $enter, 1), parts_kernels!(@plain $enter, 2), parts_kernels!(@plain $enter, 3)
            ],
            accumulate: super::parts::Accumulate::$enter,
            widen: super::parts::Widen::$enter,
            finish: <super::parts::Finish<$vectors>>::$enter,
            finish_words: None,
            activate: ActivateSums::$enter,
        }
    };
}
pub(super) use parts_kernels;
