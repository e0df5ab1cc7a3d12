//! The decisions of a convolution as a matrix product before there are weights, and the estimate of its work.

use super::pixels::Access;
use crate::algo::packed::{GemmForm, Side};
use crate::describe::{BLOCK, ConvDesc, Layout};
use crate::tile::gemm_table::GemmTile;
use crate::tile::shape::IN_FLIGHT;
use crate::work::parts::SplitUnits;
use crate::work::{Family, LargestPart, PlanEstimate, Term, ThreadShare, Work};

/// The source of the pixel operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PixelSource {
    /// The image, read in place.
    Image(Access),
    /// Panels packed into the workspace.
    Packed,
}

/// What a tile prefetches into the second-level cache while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookahead {
    Nothing,
    /// The next panel of weights.
    Weights,
    /// The next stretch of the image. The first stretch prefetches weights instead: it is the first to read them, and in a network
    /// they come from far away, while the image was written only just before.
    Pixels,
}

/// The decisions of a matrix product.
pub(crate) struct GemmSchedule {
    pub(crate) tile: &'static GemmTile,
    pub(crate) form: GemmForm,
    pub(crate) source: PixelSource,
    /// Whether the layout allows all images to be one row of pixels.
    pub(crate) mergeable: bool,
    /// Steps of K per block: whole chunks.
    pub(crate) k_block: usize,
    /// Pixels per stretch: whole tiles.
    pub(crate) stretch: usize,
    pub(crate) ahead: Lookahead,
}

impl GemmSchedule {
    /// Pixels of a whole tile.
    pub(crate) fn tile_pixels(&self) -> usize {
        tile_pixels(self.tile, self.form.side)
    }

    pub(crate) fn split_units(&self, desc: &ConvDesc) -> SplitUnits {
        let channels = self.form.panels.width;
        // Tiles of channels as columns can have any number of pixels. With few pixels, an FMA waits for the previous one.
        let (pixels, few_pixels) = match self.form.side {
            Side::Columns => (1, (IN_FLIGHT * self.tile.shape.lanes).div_ceil(channels)),
            Side::Rows => (self.tile_pixels(), 1),
        };
        // Two parts with the same pixels would both pack them, so parts share pixels only if nothing is
        // packed.
        let in_place = self.source != PixelSource::Packed;
        let channels_first = in_place && self.form.outweighs_image(desc);
        SplitUnits { pixels, channels, few_pixels, channels_first }
    }

    /// Elements of workspace: a packed stretch. A 1x1 convolution on NCHW packs one tile at a time, and only
    /// pixels that it cannot read in place.
    pub(crate) fn workspace_len(&self) -> usize {
        let k = self.form.k.min(self.k_block).next_multiple_of(BLOCK);
        match (self.source, self.form.side) {
            (PixelSource::Packed, _) => k * self.stretch,
            (PixelSource::Image(_), Side::Rows) => k * self.tile_pixels(),
            (PixelSource::Image(_), Side::Columns) => 0,
        }
    }

    pub(crate) fn estimate(&self, desc: &ConvDesc, share: &ThreadShare) -> PlanEstimate {
        let part = LargestPart::new(desc, &self.split_units(desc), self.mergeable, share.parts);
        PlanEstimate {
            packed_bytes: self.form.bytes(),
            workspace_len: self.workspace_len(),
            work: self.work(desc, &part, share),
        }
    }

    fn work(&self, desc: &ConvDesc, part: &LargestPart, share: &ThreadShare) -> Work {
        let mut work = Work::new(match (self.source, self.form.side) {
            (PixelSource::Packed, Side::Columns) => Family::Im2colColumns,
            (PixelSource::Packed, Side::Rows) => Family::Im2colRows,
            (PixelSource::Image(_), Side::Columns) => Family::PointwiseColumns,
            (PixelSource::Image(_), Side::Rows) => Family::PointwiseRows,
        });
        let k = self.form.k as f64;
        let k_blocks = self.form.k.div_ceil(self.k_block) as f64;
        let panels = self.form.panels.in_part(part);
        let tiles = part.images * self.tiles(part.pixels);
        let width = self.form.panels.width as f64;
        let vectors = match self.form.side {
            Side::Columns => width / self.tile.shape.lanes as f64,
            Side::Rows => (self.tile_pixels() / self.tile.shape.lanes) as f64,
        };
        let rows = match self.form.side {
            Side::Columns => part.images * part.pixels / tiles,
            Side::Rows => width,
        };
        work.add(Term::Fma, panels * tiles * k * step(rows, vectors));
        work.add(Term::Tile, panels * tiles * k_blocks);
        work.add(Term::Store, panels * tiles * rows * vectors * (2.0 * k_blocks - 1.0));
        let stretches = part.images * (part.pixels / self.stretch as f64).ceil();
        let strips = match self.source {
            PixelSource::Image(access) if access.unbroken != usize::MAX => {
                part.images * part.pixels / access.unbroken as f64
            }
            _ if self.source == PixelSource::Packed && self.form.side == Side::Columns => tiles,
            _ => stretches,
        };
        work.add(Term::Call, panels * k_blocks * strips.max(stretches) + stretches * k_blocks * part.groups);
        self.pack(desc, part, tiles, &mut work);
        self.traffic(part, stretches, panels, share, &mut work);
        work.flops = 2.0 * desc.cost().macs as f64;
        work
    }

    fn tiles(&self, pixels: f64) -> f64 {
        let most = self.tile_pixels() as f64;
        match self.source {
            PixelSource::Image(access)
                if access.unbroken != usize::MAX && (access.unbroken as f64) < pixels =>
            {
                let row = access.unbroken as f64;
                pixels / row * (row / most).ceil()
            }
            _ => (pixels / most).ceil(),
        }
    }

    /// Counts the copies: runs of channels or pixels that are copied as vectors, and elements that are copied
    /// one by one.
    fn pack(&self, desc: &ConvDesc, part: &LargestPart, tiles: f64, work: &mut Work) {
        let window = (desc.kernel().h * desc.kernel().w) as f64;
        let elements = part.groups * part.images * part.pixels * window * part.ins as f64;
        match (self.source, self.form.side) {
            (PixelSource::Packed, Side::Columns) if desc.layout() == Layout::Nchw => {
                work.add(Term::Gather, elements);
            }
            (PixelSource::Packed, Side::Columns) => {
                let runs = part.groups * part.images * part.pixels * window;
                work.add(Term::Pack, runs * part.ins.div_ceil(BLOCK) as f64);
                work.add(Term::Gather, runs);
            }
            (PixelSource::Packed, Side::Rows) => {
                // A tile is split into lines, and each line is copied for every step of K.
                let lines = tiles + part.images * part.pixels / desc.output().w as f64;
                work.add(Term::Pack, part.groups * lines * window * part.ins as f64);
                let strided = if desc.stride().w > 1 { elements } else { elements / 16.0 };
                work.add(Term::Gather, strided);
            }
            (PixelSource::Image(_), Side::Rows) => {
                let rest = part.pixels % self.tile_pixels() as f64;
                work.add(Term::Pack, part.groups * part.images * (rest / 16.0).ceil() * part.ins as f64);
            }
            (PixelSource::Image(_), Side::Columns) => {}
        }
    }

    fn traffic(&self, part: &LargestPart, stretches: f64, panels: f64, share: &ThreadShare, work: &mut Work) {
        let float = size_of::<f32>() as f64;
        let (k, width) = (self.form.k as f64, self.form.panels.width as f64);
        let weights = panels * k * width * float;
        let workspace = (self.workspace_len() as f64) * float;
        let images = part.input_bytes + part.output_bytes;
        let traffic = &mut work.traffic;
        let caches = &share.caches;
        traffic.add_first(weights, images, weights + images + workspace, caches);
        // Every stretch re-reads the weights, and every panel re-reads the stretch.
        let passes = stretches.max(1.0);
        let pixels = part.images * part.pixels * part.groups * k * float;
        let stretch = pixels / passes / part.groups;
        traffic.add(weights * (passes - 1.0), weights + stretch, caches);
        let of_group = panels / part.groups;
        let panel = k.min(self.k_block as f64) * width * float;
        let near = stretch.min(k.min(self.k_block as f64) * self.stretch as f64 * float);
        traffic.add(pixels * (of_group - 1.0), near + panel, caches);
        let tiles = part.images * part.pixels / self.tile_pixels() as f64;
        traffic.add((tiles - passes).max(0.0) * weights, 2.0 * panel, caches);
        if self.source == PixelSource::Packed {
            traffic.add(2.0 * pixels, near, caches);
        }
    }
}

/// Slots of two FMA pipes that one step of K takes in a tile of `rows` by `vectors`. Two loads take the time
/// of two FMAs. Each sum depends on the same sum of the step before.
pub(crate) fn step(rows: f64, vectors: f64) -> f64 {
    (rows * vectors).max(rows + vectors).max(IN_FLIGHT as f64)
}

/// Pixels of a whole tile if the filter is the operand `side`.
pub(crate) fn tile_pixels(tile: &GemmTile, side: Side) -> usize {
    match side {
        Side::Columns => tile.rows(),
        Side::Rows => tile.columns(),
    }
}
