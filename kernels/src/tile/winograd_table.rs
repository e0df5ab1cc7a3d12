//! [`WinogradKernels`]: the kernels of Winograd convolution of one instruction set, behind safe, length-checked calls.
//!
//! Part of a [`KernelSet`](super::table::KernelSet), which is handed out only after its features were detected.

use super::boundary::Entry;
use super::gemm::{LineOfStep, ProductArgs, ProductOperands};
use super::measure::{product, require, span};
use super::output::OutputTile;
use super::post::Post;
use super::shape::{TileShape, even_piece};
use super::store::SumsArgs;
use super::winograd::{Coefficients, InputArgs, MOST_OUTPUTS, MOST_POINTS, OutputArgs};
use crate::describe::{BLOCK, Size2};

/// The kernels of one instruction set.
pub struct WinogradKernels {
    pub(super) name: &'static str,
    /// Tiles of the image by vectors of output channels: the register tile of the products.
    pub(crate) shape: TileShape,
    /// By tiles, then by vectors.
    pub(super) product: &'static [&'static [Entry<ProductArgs>]],
    pub(super) transforms: &'static [Transforms],
    pub(super) activate: Entry<SumsArgs>,
}

/// The transforms of one kind of tile.
pub(super) struct Transforms {
    pub(super) tile: WinogradTile,
    pub(super) input: Entry<InputArgs>,
    /// By vectors.
    pub(super) output: &'static [Entry<OutputArgs>],
}

/// F(outputs, kernel): `points = outputs + kernel - 1`, each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WinogradTile {
    pub(crate) points: Size2,
    pub(crate) outputs: Size2,
}

impl WinogradTile {
    /// Matrix products per tile and channel.
    pub(crate) fn products(&self) -> usize {
        self.points.h * self.points.w
    }

    /// Columns of the image that a row of tiles reads.
    pub(crate) fn columns(&self, tiles: usize) -> usize {
        (tiles - 1).saturating_mul(self.outputs.w).saturating_add(self.points.w)
    }
}

/// What a row of tiles reads of a block of channels.
#[derive(Clone, Copy)]
pub(crate) struct InputRows<'a> {
    pub(crate) data: &'a [f32],
    /// Where column `lo` of each row is; `None` for a row of padding.
    pub(crate) rows: [Option<usize>; MOST_POINTS],
    /// From one column to the next.
    pub(crate) step: usize,
    /// Columns that are inside the image.
    pub(crate) lo: usize,
    pub(crate) hi: usize,
    pub(crate) tiles: usize,
    /// At most 16.
    pub(crate) channels: usize,
}

/// Transformed tiles, panels and products: how they lie, and which of them are wanted.
#[derive(Clone, Copy)]
pub(crate) struct Products<'a> {
    /// `[point][channel / 16][tile][16]`.
    pub(crate) v: &'a [f32],
    pub(crate) v_point: usize,
    /// `[point][channel][width]`.
    pub(crate) u: &'a [f32],
    pub(crate) width: usize,
    /// From one point to the next of `[point][tile][width]`.
    pub(crate) m_point: usize,
    pub(crate) points: usize,
    pub(crate) tiles: usize,
    pub(crate) channels: usize,
    /// Channels that are summed up by themselves: whole blocks of 16.
    pub(crate) k_block: usize,
    /// Whether the matrix after each is worth a hint.
    pub(crate) ahead: bool,
}

/// What stands where there is padding.
static ZEROS: [f32; BLOCK] = [0.0; BLOCK];

impl WinogradKernels {
    /// `winograd_f32_<tiles>x<columns>_<isa>`, the same in code, tests, benches and reports.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Output channels of the widest.
    pub fn columns(&self) -> usize {
        self.shape.columns()
    }

    fn transforms(&self, tile: WinogradTile) -> &Transforms {
        self.transforms.iter().find(|transforms| transforms.tile == tile).expect("a tile that is planned")
    }

    /// Transforms a row of tiles: point `i` of tile `t` goes to `v[i * v_point + t * 16..]`. `scratch` is for as many rows
    /// as there are points, of [`WinogradTile::columns`] blocks.
    ///
    /// # Panics
    /// If an operand is too short: a defect of this library.
    pub(crate) fn input(
        &self,
        tile: WinogradTile,
        coefficients: &Coefficients,
        rows: &InputRows<'_>,
        scratch: &mut [f32],
        (v, v_point): (&mut [f32], usize),
    ) {
        let InputRows { data, step, lo, hi, tiles, channels, .. } = *rows;
        assert!(tiles > 0 && channels <= BLOCK && tile.points.h <= MOST_POINTS);
        let columns = tile.columns(tiles);
        assert!(hi <= columns);
        require("scratch of a Winograd tile", product([tile.points.h, columns, BLOCK]), scratch.len());
        let needed = span([(tile.products(), v_point), (tiles, BLOCK), (BLOCK, 1)]);
        require("transformed tiles", needed, v.len());
        let mut args = InputArgs {
            rows: [ZEROS.as_ptr(); MOST_POINTS],
            steps: [0; MOST_POINTS],
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
        for (i, row) in rows.rows.iter().enumerate() {
            if let Some(first) = *row
                && lo < hi
            {
                let needed = span([(hi - lo, step), (channels, 1)]).saturating_add(first);
                require("rows of a Winograd tile", needed, data.len());
                args.rows[i] = data.as_ptr().wrapping_add(first).wrapping_sub(lo.wrapping_mul(step));
                args.steps[i] = step;
            }
        }
        // SAFETY: rows, scratch and output were measured above; the features were detected.
        unsafe { (self.transforms(tile).input)(&args) }
    }

    /// The products of all points of some tiles by a panel, into `m`.
    ///
    /// # Panics
    /// If an operand is too short: a defect of this library.
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
        // The next matrix, spread over the tiles that go through this one.
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
                    // SAFETY: all points, channels and tiles were measured above; the features were detected.
                    unsafe { self.product[rows - 1][vectors](&args) };
                    hinted += steps * hint_step;
                    tile += rows;
                }
            }
        }
    }

    /// Transforms the products of a row of tiles into `out`, whose rows are the pixels of the image's rows from the first
    /// output on. There are `rows` rows of outputs, `line` pixels apart, and `last` in each row of the last tile.
    ///
    /// # Panics
    /// If an operand is too short: a defect of this library.
    pub(crate) fn output(
        &self,
        tile: WinogradTile,
        coefficients: &Coefficients,
        m: &ProductsOfRow<'_>,
        mut out: OutputTile<'_>,
        post: &Post<'_>,
    ) {
        let ProductsOfRow { m, width, m_point, tiles, rows, last, line } = *m;
        assert!(tiles > 0 && out.hi <= width);
        let needed = span([(tile.products(), m_point), (tiles, width), (width, 1)]);
        require("products of Winograd tiles", needed, m.len());
        assert!(
            rows > 0 && rows <= tile.outputs.h && last <= tile.outputs.w && tile.outputs.w <= MOST_OUTPUTS
        );
        let needed = span([(rows, line), (tiles, tile.outputs.w), (last, 1)]);
        require("pixels of Winograd tiles", needed, out.rows);
        out.zeros = out.zeros.min(width);
        let vectors = self.shape.index_of(width);
        let target = post.target(&out, width, self.activate);
        let args = OutputArgs {
            m: m.as_ptr(),
            m_point,
            tiles,
            rows,
            last,
            coefficients,
            target,
            // Of one row of outputs, `line` may be any number.
            line: line.wrapping_mul(target.out.row),
            residual_line: line.wrapping_mul(target.residual.row),
        };
        // SAFETY: the products and the pixels were measured above, the output is inside a region that this call borrows;
        // the features were detected.
        unsafe { self.transforms(tile).output[vectors](&args) }
    }
}

/// The products of a row of tiles with one panel, and what is wanted of them.
#[derive(Clone, Copy)]
pub(crate) struct ProductsOfRow<'a> {
    /// `[point][tile][width]` from the row's first tile on.
    pub(crate) m: &'a [f32],
    pub(crate) width: usize,
    pub(crate) m_point: usize,
    pub(crate) tiles: usize,
    /// Rows of outputs, and outputs of the last tile in a row, that are inside the output.
    pub(crate) rows: usize,
    pub(crate) last: usize,
    /// Pixels from one row of outputs to the next.
    pub(crate) line: usize,
}

/// The table of one instruction set: `winograd_kernels!(enter_isa, name: lanes 16, widths [1 2], tiles [1 2 3 4])`.
macro_rules! winograd_kernels {
    (@row $enter:ident, $mr:literal, [$($nv:literal)+]) => {
        &[$(<super::gemm::Product<$mr, $nv>>::$enter as Entry<_>),+]
    };
    // Points, pairs of them and outputs, down the columns and along the rows.
    (@transforms $enter:ident, [$($nv:literal)+], $ny:literal $py:literal $ry:literal, $nx:literal $px:literal $rx:literal) => {
        super::winograd_table::Transforms {
            tile: super::winograd_table::WinogradTile {
                points: crate::describe::Size2::new($ny, $nx),
                outputs: crate::describe::Size2::new($ry, $rx),
            },
            input: <super::winograd::Input<$ny, $py, $nx, $px>>::$enter,
            output: &[
                $(<super::winograd::Output<$ny, $py, $ry, $nx, $px, $rx, $nv>>::$enter as Entry<_>),+
            ],
        }
    };
    ($enter:ident, $name:literal: lanes $lanes:literal, widths $widths:tt, tiles [$($mr:literal)+]) => {
        super::winograd_table::WinogradKernels {
            name: $name,
            shape: tile_shape!($lanes, $widths, [$($mr)+]),
            product: &[$(winograd_kernels!(@row $enter, $mr, $widths)),+],
            transforms: &[
                winograd_kernels!(@transforms $enter, $widths, 4 1 2, 4 1 2),
                winograd_kernels!(@transforms $enter, $widths, 6 2 4, 6 2 4),
                winograd_kernels!(@transforms $enter, $widths, 6 2 4, 4 1 2),
                winograd_kernels!(@transforms $enter, $widths, 6 2 3, 6 2 3),
                winograd_kernels!(@transforms $enter, $widths, 6 2 2, 6 2 2),
                winograd_kernels!(@transforms $enter, $widths, 8 3 6, 8 3 6),
                winograd_kernels!(@transforms $enter, $widths, 8 3 4, 8 3 4),
            ],
            activate: ActivateSums::$enter,
        }
    };
}
pub(super) use winograd_kernels;
