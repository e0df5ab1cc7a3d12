//! The decisions of a convolution with bf16 products before it runs.

use super::slab::SlabLens;
use super::weights::{KOrder, PartsForm, Stored};
use super::writes_planes;
use crate::algo::direct::{groups_fit_blocks, span};
use crate::algo::panels::PanelShape;
use crate::algo::planes::{layout_of_panels, matrices_len};
use crate::algo::pointwise::covers_image;
use crate::describe::{Algorithm, ConvDesc, Layout, Method, Products, Size2, Unsupported};
use crate::tile::parts::{COLUMNS, PART_WORDS, ROW, ROW_WORDS};
use crate::tile::parts_table::{PixelParts, rows_of_step, tiles_of_pixels};
use crate::tile::shape::TileShape;
use crate::tile::table::KernelSet;
use crate::work::Caches;
use crate::work::parts::SplitUnits;

/// Maximum number of tiles of a stretch.
pub(super) const MOST_TILES: usize = 256;
/// Tiles of a stretch, unless one row of the output has more. Their sums stay in the second-level cache.
const NEAR_TILES: usize = 64;
/// The pixels of the smallest of the largest tiles of any instruction set.
const FEWEST_ROWS: usize = 14;
/// The share of the second-level cache for the split pixels of a stretch, and for the weights of a block of K.
/// The weights of the next block, the sums and the outputs take the rest.
const PIXELS_SHARE: f64 = 3.0 / 8.0;
const WEIGHTS_SHARE: f64 = 1.0 / 8.0;
/// Steps of a block of K whose sums are added to those of the other blocks, for six products. Each step adds
/// six numbers to a sum, and longer sums lose accuracy.
const BLOCK_OF_SIX: usize = 36;
/// Pixels below which six products take `f32` weights and split them as they are read. The stream of weights
/// takes longer than the products there, and split weights are half as large again.
const FEW_PIXELS: usize = 64;
/// Rows of outputs that are rounded to bf16 together, from the first-level cache.
pub(super) const ROUNDED_ROWS: usize = 64;
/// Maximum number of words of a slab.
const MOST_WORDS: usize = 1 << 28;
/// Output width below which tiles do not end with the rows of the output.
const NARROW: usize = 12;

/// The panels of all kernels.
static PANEL: TileShape = TileShape { rows: 16, vectors: &[2], lanes: 16 };

/// How the pixels of a stretch are laid out in the slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    /// Input rows with their padding, `pitch` pixels each. Tiles end with the rows of the output.
    Rows { pitch: usize },
    /// For each kernel column, the pixels that it reads, in the order of the outputs: `[kernel column][row
    /// modulo stride][row][output column]`. Tiles hold any consecutive outputs.
    Columns { classes: usize, rows: usize },
    /// The pixels of a 1x1 kernel, in the order of the outputs.
    Pixels,
    /// All taps of a pixel, 32 at a time (im2col).
    Matrix,
}

/// The decisions of a convolution with bf16 products.
pub(crate) struct PartsSchedule {
    pub(crate) form: PartsForm,
    pub(super) layer: Layer,
    /// Whether the layout allows all images to be one row of pixels.
    pub(crate) mergeable: bool,
    /// Whether outputs are transposed to planes.
    pub(super) planes: bool,
    /// Whether pixels are read in place, because they are bf16 numbers in the order of the outputs; then the words
    /// from one block of 32 channels to the next.
    pub(super) in_place: Option<usize>,
    /// Whether outputs are rounded to bf16.
    pub(super) rounds: bool,
    /// Steps of a block of K.
    pub(super) block: usize,
    /// Whether the sums of each block start from zero. Otherwise they continue those of the block before.
    pub(super) blocks_apart: bool,
    /// Output pixels of a stretch.
    pub(super) stretch: usize,
    /// Pixels of one part of 32 channels in the slab.
    pub(super) positions: usize,
    /// Whether the next block of weights is prefetched.
    pub(super) ahead: bool,
    /// Whether threads share the image and not the weights.
    channels_first: bool,
    /// What the driver needs of the descriptor and the kernels.
    pub(super) output_width: usize,
    stride: Size2,
    dilation: Size2,
    kernel: Size2,
    most_rows: usize,
    together: usize,
}

/// Consecutive outputs whose sums are consecutive.
pub(super) struct Run {
    /// The first row of sums.
    pub(super) row: usize,
    /// The first pixel of the stretch.
    pub(super) pixel: usize,
    pub(super) len: usize,
}

pub(crate) fn supports(algorithm: Algorithm, desc: &ConvDesc) -> Result<(), Unsupported> {
    let rows = if algorithm == Algorithm::Direct { desc.output().w } else { COLUMNS };
    let (span, window) = (span(desc), desc.kernel().h * desc.kernel().w);
    let width = desc.input().w.saturating_add(desc.pad().left).saturating_add(desc.pad().right);
    let pixels = match algorithm {
        Algorithm::Direct => span.saturating_mul(width.max(rows.saturating_mul(desc.kernel().w))),
        _ => rows,
    };
    let taps = if algorithm == Algorithm::Direct { 1 } else { window };
    let values = desc.ins().next_multiple_of(ROW).saturating_mul(taps).saturating_mul(pixels);
    if algorithm == Algorithm::Direct {
        groups_fit_blocks(desc)?;
        if rows > MOST_TILES * FEWEST_ROWS {
            return Err(Unsupported::RowsTooLong);
        }
    }
    if values.saturating_mul(2) > MOST_WORDS {
        return Err(Unsupported::PartsTooLarge);
    }
    Ok(())
}

/// Whether a tensor of `desc` holds bf16 numbers.
pub(crate) fn has_bf16_tensor(desc: &ConvDesc) -> bool {
    [desc.layout(), desc.output_layout()].contains(&Layout::Nchw32cBf16)
}

/// Whether `method` can compute `desc`, which has a tensor of bf16 numbers.
pub(crate) fn supports_bf16_tensor(method: Method, desc: &ConvDesc) -> Result<(), Unsupported> {
    let is_1x1 = desc.kernel() == Size2::square(1) && desc.pad().is_zero();
    match method {
        Method { algorithm: Algorithm::Pointwise, products: Products::Bf16 } if !is_1x1 => {
            Err(Unsupported::NotPointwise)
        }
        Method { algorithm: Algorithm::Pointwise | Algorithm::Direct, products: Products::Bf16 } => {
            supports(method.algorithm, desc)
        }
        _ => Err(Unsupported::Bf16Layout),
    }
}

/// Whether all images can be one row of pixels in the layouts of `desc`.
fn merges(desc: &ConvDesc) -> bool {
    desc.layout() == desc.output_layout() && !matches!(desc.layout(), Layout::Nchw | Layout::Nchw32cBf16)
}

impl PartsSchedule {
    /// The schedule of `algorithm`, which must support `desc`.
    pub(crate) fn new(
        algorithm: Algorithm,
        products: Products,
        desc: &ConvDesc,
        kernels: &'static KernelSet,
        caches: &Caches,
    ) -> Self {
        let (output, stride) = (desc.output(), desc.stride());
        let covers = algorithm == Algorithm::Pointwise && covers_image(desc);
        let layer = layer(algorithm, desc);
        let order = match layer {
            Layer::Matrix => {
                KOrder::Dense { channels: desc.ins(), window: desc.kernel().h * desc.kernel().w }
            }
            Layer::Pixels => KOrder::Steps { channels: desc.taps(), window: 1 },
            _ => KOrder::Steps { channels: desc.ins(), window: desc.kernel().h * desc.kernel().w },
        };
        let panels = PanelShape::new(desc, &PANEL, layout_of_panels(desc));
        let few = output.n * output.h * output.w <= FEW_PIXELS;
        let weights =
            order.steps().saturating_mul(panels.count).saturating_mul(products.parts() * PART_WORDS * 4);
        let stored = if products == Products::Bf16x6 && few && weights as f64 > caches.l2 {
            Stored::Floats
        } else {
            Stored::Parts
        };
        let form = PartsForm { products, order, panels, stored };
        let words_of_step = products.parts() * PART_WORDS;
        let most = ((caches.l2 * WEIGHTS_SHARE) as usize / (words_of_step * size_of::<f32>())).max(1);
        let blocks_apart = products == Products::Bf16x6;
        let block = if blocks_apart { most.min(BLOCK_OF_SIX) } else { most };
        // Whole groups of 32 channels, because the steps of each block have the same offsets.
        let window = order.window();
        let block = (block / window).max(1) * window;
        let unit_stride = stride == Size2::square(1);
        let mut schedule = Self {
            form,
            layer,
            mergeable: covers || (layer == Layer::Pixels && unit_stride && merges(desc)),
            planes: writes_planes(desc, covers),
            in_place: (layer == Layer::Pixels && unit_stride && desc.layout() == Layout::Nchw32cBf16)
                .then(|| desc.input().h * desc.input().w * ROW_WORDS),
            rounds: desc.output_layout() == Layout::Nchw32cBf16,
            block,
            blocks_apart,
            stretch: 0,
            positions: 0,
            ahead: weights as f64 > caches.l2 * WEIGHTS_SHARE,
            channels_first: weights / size_of::<f32>()
                > 2 * desc.input().n * desc.input().c * desc.input().h * desc.input().w,
            output_width: output.w,
            stride,
            dilation: desc.dilation(),
            kernel: desc.kernel(),
            most_rows: kernels.parts.rows(),
            together: kernels.parts.together(),
        };
        schedule.set_stretch(desc, (caches.l2 * PIXELS_SHARE) as usize / size_of::<f32>());
        schedule
    }

    /// Sets the longest stretch whose split pixels have at most `most` words, but at least one unit.
    fn set_stretch(&mut self, desc: &ConvDesc, most: usize) {
        let output = desc.output();
        let merged = if self.mergeable { output.n } else { 1 };
        let all = merged.saturating_mul(output.h * output.w);
        let unit = self.unit();
        let units = all.div_ceil(unit);
        let fits = |units: usize| {
            let pixels = units * unit;
            let words = self.split_words(self.positions_of(pixels));
            let (tiles, _) = self.count_tiles(pixels);
            tiles <= NEAR_TILES && words <= most
        };
        // Tiles of a row end with the row, so whole rows are counted.
        let (mut low, mut high) = (1, units.min(NEAR_TILES * self.most_rows));
        while low < high {
            let middle = (low + high).div_ceil(2);
            if fits(middle) { low = middle } else { high = middle - 1 }
        }
        let even = crate::tile::shape::even_piece(units, low);
        self.stretch = even * unit;
        self.positions = self.positions_of(self.stretch) | 1;
    }

    /// Output pixels that a stretch is a multiple of.
    fn unit(&self) -> usize {
        match self.layer {
            Layer::Rows { .. } | Layer::Columns { .. } => self.output_width,
            Layer::Pixels | Layer::Matrix => self.most_rows,
        }
    }

    /// Whole rows, or whole tiles, and whole panels.
    pub(crate) fn split_units(&self) -> SplitUnits {
        SplitUnits {
            channels_first: self.channels_first,
            ..SplitUnits::new(self.unit(), self.form.panels.width)
        }
    }

    /// Pixels of one part of 32 channels that a stretch of `pixels` outputs reads, with those that are
    /// computed past the end of a tile.
    fn positions_of(&self, pixels: usize) -> usize {
        let rows = pixels.div_ceil(self.output_width);
        let slack = self.most_rows;
        match self.layer {
            Layer::Rows { pitch } => {
                let span = (self.kernel.h - 1) * self.dilation.h + 1;
                ((rows - 1) * self.stride.h + span) * pitch + slack * self.stride.w
            }
            Layer::Columns { classes, rows: more } => {
                self.kernel.w * classes * (rows + more) * self.output_width + slack
            }
            Layer::Pixels | Layer::Matrix => pixels + slack,
        }
    }

    /// Words of pixels that are read in place are not in the slab.
    fn words_of(&self, positions: usize) -> usize {
        if self.in_place.is_some() { 0 } else { self.split_words(positions) }
    }

    fn split_words(&self, positions: usize) -> usize {
        let groups = self.form.order.groups().saturating_mul(self.form.products.parts());
        groups.saturating_mul(positions).saturating_mul(ROW_WORDS)
    }

    /// The number of tiles of a stretch, and the pixels of each.
    pub(super) fn count_tiles(&self, pixels: usize) -> (usize, usize) {
        if let Layer::Rows { .. } = self.layer {
            let in_row = self.output_width.div_ceil(self.most_rows);
            return (pixels / self.output_width * in_row, self.output_width.div_ceil(in_row));
        }
        tiles_of_pixels(pixels, self.most_rows, self.together)
    }

    /// Writes the words before each tile of a stretch to `tiles`. Returns their number, and the pixels of
    /// each.
    pub(super) fn tiles_of(&self, pixels: usize, tiles: &mut [usize; MOST_TILES]) -> (usize, usize) {
        let (count, rows) = self.count_tiles(pixels);
        let in_row = self.output_width.div_ceil(self.most_rows);
        for (tile, words) in tiles[..count].iter_mut().enumerate() {
            let position = match self.layer {
                Layer::Rows { pitch } => {
                    tile / in_row * self.stride.h * pitch + tile % in_row * rows * self.stride.w
                }
                // Nothing follows the pixels of a tensor, so its last tile ends with them.
                _ if self.in_place.is_some() => (tile * rows).min(pixels - rows),
                _ => tile * rows,
            };
            *words = position * ROW_WORDS;
        }
        (count, rows)
    }

    /// The pixels of a stretch as an operand.
    pub(super) fn pixel_parts<'a>(&self, data: &'a [f32], tiles: &'a [usize], rows: usize) -> PixelParts<'a> {
        if self.in_place.is_some() {
            return PixelParts { data, part: 0, row: ROW_WORDS, tiles, rows };
        }
        let apart = if let Layer::Rows { .. } = self.layer { self.stride.w } else { 1 };
        PixelParts { data, part: self.positions * ROW_WORDS, row: apart * ROW_WORDS, tiles, rows }
    }

    /// The runs of outputs of a stretch of `pixels`, whose tiles have `rows` pixels.
    pub(super) fn runs_of(&self, pixels: usize, rows: usize) -> impl Iterator<Item = Run> + use<> {
        let width = self.output_width;
        let of_row = width.div_ceil(self.most_rows) * rows;
        let split = matches!(self.layer, Layer::Rows { .. }) && of_row != width;
        let (count, len) = if split { (pixels / width, width) } else { (1, pixels) };
        // The last tile of pixels that are read in place repeats some of those before it.
        let whole = pixels / rows * rows;
        let rest = (self.in_place.is_some() && whole < pixels).then(|| {
            let len = pixels - whole;
            Run { row: whole + rows - len, pixel: whole, len }
        });
        let len = if rest.is_some() { whole } else { len };
        (0..count).map(move |i| Run { row: i * of_row, pixel: i * width, len }).chain(rest)
    }

    /// Words of the split pixels of a stretch.
    pub(super) fn words(&self) -> usize {
        self.words_of(self.positions)
    }

    /// See [`rows_of_step`].
    pub(super) fn rows_of_step(&self, rows: usize) -> f64 {
        rows_of_step(self.form.products, rows, self.together)
    }

    /// The words before the rows of a step of a block.
    pub(super) fn step_offset(&self, step: usize) -> usize {
        let (window, parts) = (self.form.order.window(), self.form.products.parts());
        let (group, tap) = (step / window, step % window);
        if let Some(plane) = self.in_place {
            return group * plane;
        }
        let (kh, kw) = if window == 1 { (0, 0) } else { (tap / self.kernel.w, tap % self.kernel.w) };
        let position = match self.layer {
            Layer::Rows { pitch } => kh * self.dilation.h * pitch + kw * self.dilation.w,
            Layer::Columns { classes, rows: more } => {
                let (row, class) = self.row_and_class(kh);
                let plane = self.rows_of_class(more) * self.output_width;
                (kw * classes + class) * plane + row * self.output_width
            }
            Layer::Pixels | Layer::Matrix => 0,
        };
        (group * parts * self.positions + position) * ROW_WORDS
    }

    /// The row of its class that the first output row reads through kernel row `kh`, and the class.
    fn row_and_class(&self, kh: usize) -> (usize, usize) {
        let y = kh * self.dilation.h;
        (y / self.stride.h, y % self.stride.h)
    }

    /// Rows of each class in the slab. `more` are those beyond the output rows of a stretch.
    pub(super) fn rows_of_class(&self, more: usize) -> usize {
        self.stretch / self.output_width + more
    }

    /// Elements of the parts of a slab.
    pub(super) fn lens(&self, desc: &ConvDesc) -> SlabLens {
        let sums = self.most_rows_of_sums() * COLUMNS;
        let several_blocks = self.form.steps() > self.block;
        let (floats, width) = (self.form.stored == Stored::Floats, desc.input().w);
        SlabLens {
            pixels: self.words(),
            sums,
            more: if self.blocks_apart && several_blocks { sums } else { 0 },
            weights: if floats { self.block * self.form.products.parts() * PART_WORDS } else { 0 },
            rows: match self.layer {
                Layer::Matrix => ROW * ROW,
                _ if desc.layout() == Layout::Nchw && !(self.mergeable) => ROW * width,
                _ => 0,
            },
            lines: match () {
                () if self.planes => matrices_len(desc, self.stretch, COLUMNS),
                () if self.form.products == Products::Bf16 => 2 * ROUNDED_ROWS * COLUMNS,
                () => 0,
            },
        }
    }

    /// Maximum number of rows of sums of a stretch.
    fn most_rows_of_sums(&self) -> usize {
        match self.layer {
            Layer::Rows { .. } => {
                let (tiles, rows) = self.count_tiles(self.stretch);
                tiles * rows
            }
            // The tiles of any shorter stretch end less than a tile after its last pixel.
            _ => self.stretch + self.most_rows,
        }
    }
}

/// How `algorithm` lays out the pixels.
fn layer(algorithm: Algorithm, desc: &ConvDesc) -> Layer {
    let (kernel, stride, dilation, width) = (desc.kernel(), desc.stride(), desc.dilation(), desc.output().w);
    match algorithm {
        Algorithm::Pointwise => Layer::Pixels,
        Algorithm::Im2colGemm => Layer::Matrix,
        _ if width < NARROW => {
            let last = (kernel.h - 1) * dilation.h;
            let classes = stride.h.min(last + 1);
            Layer::Columns { classes, rows: last / stride.h }
        }
        _ => Layer::Rows { pitch: (width - 1) * stride.w + (kernel.w - 1) * dilation.w + 1 },
    }
}
