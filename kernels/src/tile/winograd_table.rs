//! [`WinogradKernels`]: the kernels of Winograd convolution for one instruction set, behind safe,
//! length-checked calls.
//!
//! The table belongs to a [`KernelSet`](super::table::KernelSet), which is returned only after its features
//! were detected.

use super::activate::SumsArgs;
use super::boundary::Entry;
use super::gemm::{LineOfStep, ProductArgs, ProductOperands};
use super::measure::{product, require, span};
use super::output::OutputTile;
use super::post::Post;
use super::shape::{TileShape, even_piece};
use super::winograd::{Coefficients, InputArgs, MOST_OUTPUTS, MOST_POINTS};
use super::winograd_filter::FilterArgs;
use super::winograd_operands::{InputRows, Products, ProductsOfRow, WeightsOf, WinogradTile, measured_rows};
use super::winograd_output::{Apart, OutputArgs};
use super::winograd_weights::{WeightsArgs, scratch_len};
use crate::describe::BLOCK;

/// The kernels of one instruction set.
pub struct WinogradKernels {
    pub(super) name: &'static str,
    /// The register tile of the products: tiles of the image by vectors of output channels.
    pub(crate) shape: TileShape,
    /// Kernels by number of tiles, then by number of vectors.
    pub(super) product: &'static [&'static [Entry<ProductArgs>]],
    pub(super) transforms: &'static [Transforms],
    /// The transforms of pixels that take the place of a filter.
    pub(super) filters: &'static [FilterTransform],
    /// The transform of filters.
    pub(super) weights: Entry<WeightsArgs>,
    pub(super) activate: Entry<SumsArgs>,
}

/// The transforms of one kind of tile.
pub(super) struct Transforms {
    pub(super) tile: WinogradTile,
    pub(super) input: Entry<InputArgs>,
    /// Kernels by number of vectors. There are none for tiles of one column, whose outputs are computed as a row.
    pub(super) output: &'static [Entry<OutputArgs>],
}

/// The transform of tiles with as many pixels as `tile` has outputs.
pub(super) struct FilterTransform {
    pub(super) tile: WinogradTile,
    pub(super) run: Entry<FilterArgs>,
}

impl WinogradKernels {
    /// `winograd_f32_<tiles>x<columns>_<isa>`. Code, tests, benches and reports use this name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Number of output channels of the widest tile.
    pub fn columns(&self) -> usize {
        self.shape.columns()
    }

    fn transforms(&self, tile: WinogradTile) -> &Transforms {
        self.transforms.iter().find(|transforms| transforms.tile == tile).expect("a tile that is planned")
    }

    /// Transforms a row of tiles. Point `i` of tile `t` is written to `v[i * v_point + t * 16..]`. `scratch`
    /// must have as many rows as the tile has points down a column, each of [`WinogradTile::columns`] blocks. Thin tiles need
    /// none.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn input(
        &self,
        tile: WinogradTile,
        coefficients: &Coefficients,
        rows: &InputRows<'_>,
        scratch: &mut [f32],
        (v, v_point): (&mut [f32], usize),
    ) {
        let InputRows { lo, hi, tiles, channels, .. } = *rows;
        assert!(tiles > 0 && channels <= BLOCK && tile.points.h <= MOST_POINTS);
        let columns = tile.columns(tiles);
        assert!(hi <= columns);
        let needed = if tile.is_thin() { 0 } else { product([tile.points.h, columns, BLOCK]) };
        require("scratch of a Winograd tile", needed, scratch.len());
        let needed = span([(tile.products(), v_point), (tiles, BLOCK), (BLOCK, 1)]);
        require("transformed tiles", needed, v.len());
        let (rows, steps) = measured_rows(rows);
        let args = InputArgs {
            rows,
            steps,
            lo,
            hi,
            tiles,
            outputs: tile.outputs.w,
            channels,
            coefficients,
            scratch: scratch.as_mut_ptr(),
            out: v.as_mut_ptr(),
            out_point: v_point,
        };
        // SAFETY: rows, scratch memory and output were measured above. The features were detected.
        unsafe { (self.transforms(tile).input)(&args) }
    }

    /// Transforms a row of tiles that do not overlap, and that have as many pixels as `tile` has outputs. Rows begin with
    /// their first tile. Point `i` of tile `t` is written to `u[i * u_point + t * 16..]`. The sum of all pixels is added to
    /// `sums`, a block of channels.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn filter(
        &self,
        tile: WinogradTile,
        coefficients: &Coefficients,
        rows: &InputRows<'_>,
        (u, u_point): (&mut [f32], usize),
        sums: Option<&mut [f32]>,
    ) {
        let InputRows { lo, hi, tiles, channels, .. } = *rows;
        assert!(tiles > 0 && channels <= BLOCK && lo == 0);
        let sums = sums.map_or(std::ptr::null_mut(), |sums| {
            require("sums of a block of channels", BLOCK, sums.len());
            sums.as_mut_ptr()
        });
        let needed = span([(tile.products(), u_point), (tiles, BLOCK), (BLOCK, 1)]);
        require("transformed tiles", needed, u.len());
        let (rows, steps) = measured_rows(rows);
        let args = FilterArgs {
            rows,
            steps,
            columns: hi,
            tiles,
            channels,
            coefficients,
            out: u.as_mut_ptr(),
            out_point: u_point,
            sums,
        };
        let transform = self.filters.iter().find(|transform| transform.tile == tile);
        // SAFETY: rows and output were measured above. The features were detected.
        unsafe { (transform.expect("a tile that is planned").run)(&args) }
    }

    /// Transforms the filters of `count` output channels for one input channel. Tap `places[i]` of channel `o` is at
    /// `o * stride + places[i]` of `filters`. Point `i` of channel `o` is written to `i * out_point + o` of `out`.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn weights(
        &self,
        of: &WeightsOf<'_>,
        (filters, count): (&[f32], usize),
        scratch: &mut [f64],
        (out, out_point): (&mut [f32], usize),
    ) {
        let WeightsOf { stride, places, g, taps } = *of;
        assert!(count > 0 && taps.h > 0 && taps.w > 0 && places.len() == taps.h * taps.w);
        let [down, along] = [(g[0].len(), taps.h), (g[1].len(), taps.w)].map(|(len, taps)| {
            assert!(len > 0 && len.is_multiple_of(taps));
            len / taps
        });
        let last = places.iter().flatten().max().map_or(0, |last| last + 1);
        require("filters", product([count - 1, stride]).saturating_add(last), filters.len());
        let needed = scratch_len(count, taps, down);
        assert!(scratch.len() >= needed);
        require("transformed weights", span([(product([down, along]), out_point), (count, 1)]), out.len());
        let args = WeightsArgs {
            filters,
            stride,
            places,
            count,
            g: g.map(std::ptr::from_ref),
            taps,
            scratch: &raw mut scratch[..needed],
            out,
            out_point,
        };
        // SAFETY: all slices are borrowed by this function. The features were detected.
        unsafe { (self.weights)(&args) }
    }

    /// Multiplies some tiles with a panel, for all points, and writes the products to `m`.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn products(&self, products: &Products<'_>, m: &mut [f32]) {
        let Products { v, v_point, u, width, m_point, points, tiles, channels, k_block, ahead } = *products;
        assert!(tiles > 0 && points > 0 && channels > 0 && k_block > 0 && k_block.is_multiple_of(BLOCK));
        let (chunk, u_point) = (product([tiles, BLOCK]), product([channels, width]));
        require("weights of Winograd tiles", product([points, u_point]), u.len());
        let needed = span([(points, v_point), (channels.div_ceil(BLOCK), chunk), (chunk, 1)]);
        require("transformed tiles", needed, v.len());
        let needed = span([(points, m_point), (tiles, width), (width, 1)]);
        require("products of Winograd tiles", needed, m.len());
        let vectors = self.shape.index_of(width);
        // The prefetches of the next matrix are spread over the tiles that this matrix multiplies.
        let hint_step = width.div_ceil(tiles.div_ceil(self.shape.rows));
        for point in 0..points {
            let (u, m) = (u[point * u_point..].as_ptr(), m[point * m_point..].as_mut_ptr());
            let v = v[point * v_point..].as_ptr();
            let mut hinted = if ahead { 0 } else { u_point };
            for k in (0..channels).step_by(k_block) {
                let steps = k_block.min(channels - k);
                let mut tile = 0;
                while tile < tiles {
                    let rows = even_piece(tiles - tile, self.shape.rows);
                    let next = u.wrapping_add(u_point + hinted);
                    let at = if hinted < u_point { next } else { std::ptr::null() };
                    let args = ProductArgs {
                        operands: ProductOperands {
                            chunks: steps / BLOCK,
                            k_tail: steps % BLOCK,
                            a: v.wrapping_add(k / BLOCK * chunk + tile * BLOCK),
                            a_chunk: chunk,
                            b: u.wrapping_add(k * width),
                        },
                        c: m.wrapping_add(tile * width),
                        first: k == 0,
                        hint: LineOfStep { at, step: hint_step },
                    };
                    // SAFETY: all points, channels and tiles were measured above. The features were detected.
                    unsafe { self.product[rows - 1][vectors](&args) };
                    hinted += steps * hint_step;
                    tile += rows;
                }
            }
        }
    }

    /// Transforms the products of a row of tiles into `out`. The rows of `out` are pixels of the image, from
    /// the first output on. There are `rows` rows of outputs, `line` pixels apart. The last tile has `last`
    /// outputs in each row.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn output(
        &self,
        tile: WinogradTile,
        coefficients: &Coefficients,
        m: &ProductsOfRow<'_>,
        mut out: OutputTile<'_>,
        post: &Post<'_>,
    ) {
        let ProductsOfRow { m, width, m_point, tiles, rows, last, line, step } = *m;
        assert!(tiles > 0 && out.hi <= width && step >= tile.outputs.w);
        let needed = span([(tile.products(), m_point), (tiles, width), (width, 1)]);
        require("products of Winograd tiles", needed, m.len());
        assert!(
            rows > 0 && rows <= tile.outputs.h && last <= tile.outputs.w && tile.outputs.w <= MOST_OUTPUTS
        );
        let needed = span([(rows, line), (tiles, step), (last, 1)]);
        require("pixels of Winograd tiles", needed, out.rows);
        out.zeros = out.zeros.min(width);
        let vectors = self.shape.index_of(width);
        let mut target = post.target(&out, width, self.activate);
        let (of_tile, of_line) = (Apart::rows(&target, step), Apart::rows(&target, line));
        let (mut transforms, mut counts, mut coefficients) =
            (tile, (rows, tile.outputs.w, last), coefficients);
        let turned;
        if tile.outputs.w == 1 && tile.is_thin() {
            // The outputs of a column are a row whose pixels are further apart.
            transforms = tile.turned();
            turned = Coefficients { y: coefficients.x, x: coefficients.y };
            coefficients = &turned;
            (target.out.row, target.residual.row) = (of_line.out, of_line.residual);
            counts = (1, rows, rows);
        }
        let (rows, outputs, last) = counts;
        let args = OutputArgs {
            m: m.as_ptr(),
            m_point,
            tiles,
            rows,
            outputs,
            last,
            coefficients,
            target,
            tile: of_tile,
            line: of_line,
        };
        // SAFETY: the products and the pixels were measured above. The output lies in a region that this call
        // borrows. The features were detected.
        unsafe { self.transforms(transforms).output[vectors](&args) }
    }
}

/// The table of one instruction set:
/// `winograd_kernels!(enter_isa, name: lanes 16, widths [1 2], tiles [1 2 3 4])`.
macro_rules! winograd_kernels {
    (@row $enter:ident, $mr:literal, [$($nv:literal)+]) => {
        &[$(<super::gemm::Product<$mr, $nv>>::$enter as Entry<_>),+]
    };
    // Points, pairs of points, and outputs, down the columns and along the rows.
    (@transforms $enter:ident, [$($nv:literal)+], $ny:literal $py:literal $ry:literal, $nx:literal $px:literal $rx:literal) => {
        super::winograd_table::Transforms {
            tile: super::winograd_operands::WinogradTile {
                points: crate::describe::Size2::new($ny, $nx),
                outputs: crate::describe::Size2::new($ry, $rx),
            },
            input: <super::winograd::Input<$ny, $py, $nx, $px>>::$enter,
            output: &[
                $(<super::winograd_output::Output<$ny, $py, $ry, $nx, $px, $rx, $nv>>::$enter as Entry<_>),+
            ],
        }
    };
    (@column $enter:ident, $ny:literal $py:literal $ry:literal) => {
        super::winograd_table::Transforms {
            tile: super::winograd_operands::WinogradTile {
                points: crate::describe::Size2::new($ny, 1),
                outputs: crate::describe::Size2::new($ry, 1),
            },
            input: <super::winograd::Input<$ny, $py, 1, 0>>::$enter,
            output: &[],
        }
    };
    // Points, pairs of points, and pixels, down the columns and along the rows.
    (@filter $enter:ident, $ny:literal $py:literal $ry:literal, $nx:literal $px:literal $rx:literal) => {
        super::winograd_table::FilterTransform {
            tile: super::winograd_operands::WinogradTile {
                points: crate::describe::Size2::new($ny, $nx),
                outputs: crate::describe::Size2::new($ry, $rx),
            },
            run: <super::winograd_filter::FilterTiles<$ny, $py, $ry, $nx, $px, $rx>>::$enter,
        }
    };
    ($enter:ident, $name:literal: lanes $lanes:literal, widths $widths:tt, tiles [$($mr:literal)+]) => {
        super::winograd_table::WinogradKernels {
            name: $name,
            shape: tile_shape!($lanes, $widths, [$($mr)+]),
            product: &[$(winograd_kernels!(@row $enter, $mr, $widths)),+],
            transforms: &[
                winograd_kernels!(@transforms $enter, $widths, 4 1 2, 4 1 2),
                winograd_kernels!(@transforms $enter, $widths, 4 1 3, 4 1 3),
                winograd_kernels!(@transforms $enter, $widths, 6 2 4, 6 2 4),
                winograd_kernels!(@transforms $enter, $widths, 6 2 4, 4 1 2),
                winograd_kernels!(@transforms $enter, $widths, 6 2 5, 6 2 5),
                winograd_kernels!(@transforms $enter, $widths, 6 2 3, 6 2 3),
                winograd_kernels!(@transforms $enter, $widths, 6 2 2, 6 2 2),
                winograd_kernels!(@transforms $enter, $widths, 8 3 6, 8 3 6),
                winograd_kernels!(@transforms $enter, $widths, 8 3 4, 8 3 4),
                // Kernels of one row or one column: one axis is not transformed.
                winograd_kernels!(@transforms $enter, $widths, 1 0 1, 1 0 1),
                winograd_kernels!(@transforms $enter, $widths, 1 0 1, 4 1 2),
                winograd_kernels!(@column $enter, 4 1 2),
                winograd_kernels!(@transforms $enter, $widths, 1 0 1, 4 1 3),
                winograd_kernels!(@column $enter, 4 1 3),
                winograd_kernels!(@transforms $enter, $widths, 1 0 1, 6 2 4),
                winograd_kernels!(@column $enter, 6 2 4),
                winograd_kernels!(@transforms $enter, $widths, 1 0 1, 6 2 3),
                winograd_kernels!(@column $enter, 6 2 3),
                winograd_kernels!(@transforms $enter, $widths, 1 0 1, 6 2 2),
                winograd_kernels!(@column $enter, 6 2 2),
                winograd_kernels!(@transforms $enter, $widths, 1 0 1, 6 2 5),
                winograd_kernels!(@column $enter, 6 2 5),
                winograd_kernels!(@transforms $enter, $widths, 1 0 1, 8 3 6),
                winograd_kernels!(@column $enter, 8 3 6),
                winograd_kernels!(@transforms $enter, $widths, 1 0 1, 8 3 5),
                winograd_kernels!(@column $enter, 8 3 5),
                winograd_kernels!(@transforms $enter, $widths, 1 0 1, 8 3 4),
                winograd_kernels!(@column $enter, 8 3 4),
                winograd_kernels!(@transforms $enter, $widths, 1 0 1, 8 3 3),
                winograd_kernels!(@column $enter, 8 3 3),
                winograd_kernels!(@transforms $enter, $widths, 1 0 1, 8 3 2),
                winograd_kernels!(@column $enter, 8 3 2),
            ],
            filters: &[
                winograd_kernels!(@filter $enter, 6 2 5, 6 2 5),
                winograd_kernels!(@filter $enter, 6 2 4, 6 2 4),
                winograd_kernels!(@filter $enter, 6 2 3, 6 2 3),
                winograd_kernels!(@filter $enter, 6 2 2, 6 2 2),
                // Kernels of one row or one column.
                winograd_kernels!(@filter $enter, 1 0 1, 1 0 1),
                winograd_kernels!(@filter $enter, 1 0 1, 6 2 5),
                winograd_kernels!(@filter $enter, 6 2 5, 1 0 1),
                winograd_kernels!(@filter $enter, 1 0 1, 6 2 4),
                winograd_kernels!(@filter $enter, 6 2 4, 1 0 1),
                winograd_kernels!(@filter $enter, 1 0 1, 6 2 3),
                winograd_kernels!(@filter $enter, 6 2 3, 1 0 1),
                winograd_kernels!(@filter $enter, 1 0 1, 6 2 2),
                winograd_kernels!(@filter $enter, 6 2 2, 1 0 1),
                winograd_kernels!(@filter $enter, 1 0 1, 8 3 6),
                winograd_kernels!(@filter $enter, 8 3 6, 1 0 1),
                winograd_kernels!(@filter $enter, 1 0 1, 8 3 5),
                winograd_kernels!(@filter $enter, 8 3 5, 1 0 1),
                winograd_kernels!(@filter $enter, 1 0 1, 8 3 4),
                winograd_kernels!(@filter $enter, 8 3 4, 1 0 1),
                winograd_kernels!(@filter $enter, 1 0 1, 8 3 3),
                winograd_kernels!(@filter $enter, 8 3 3, 1 0 1),
            ],
            weights: super::winograd_weights::TransformWeights::$enter,
            activate: ActivateSums::$enter,
        }
    };
}
pub(super) use winograd_kernels;
