//! The single kernels of a set and their machine code, for the tests and benches of this workspace.

use super::boundary::Entry;
use super::copy_table::CopyTable;
use super::depthwise_table::{DepthwiseKernels, Windows};
use super::direct_table::DirectTile;
use super::few_table::FewKernels;
use super::fft_table::FftKernels;
use super::gemm_table::{ColumnsOf, GemmTile, Hint, RowsOf};
#[cfg(feature = "ops")]
use super::grad::table::GradTable;
#[cfg(feature = "ops")]
use super::layer_table::LayerTable;
#[cfg(feature = "ops")]
use super::ops_table::{OpsTable, PoolTable};
use super::output::OutputTile;
use super::parts_table::PartsKernels;
use super::post::Post;
use super::rows_table::RowsTile;
use super::table::KernelSet;
use super::taps_table::GradientKernels;
use super::winograd_operands::WinogradTile;
use super::winograd_table::{FilterTransform, Transforms, WinogradKernels};
use crate::describe::BLOCK;

/// The machine code of one entry of a table.
pub struct KernelCode {
    /// The name of the tile or table in reports.
    pub table: &'static str,
    /// The entry of that table.
    pub entry: String,
    /// The address of the first instruction.
    pub start: *const u8,
    /// The properties that its loops must have.
    pub loops: Loops,
}

/// The properties that the machine code of a kernel must have. No loop may call a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loops {
    /// An innermost loop has at least this many FMAs of whole vectors, one for each sum. In a loop with that
    /// many FMAs, no vector moves to or from the stack.
    Sums(usize),
    /// The code has FMAs of whole vectors. Its loops can use the stack, because their data do not fit into
    /// registers.
    Fmas,
    /// The code moves or computes whole vectors.
    Vectors,
    /// The code has this many products of matrix tiles.
    Tiles(usize),
}

/// The list of the entries of one table.
struct Listing {
    table: &'static str,
    kernels: Vec<KernelCode>,
}

impl Listing {
    fn new(table: &'static str) -> Self {
        Self { table, kernels: Vec::new() }
    }

    fn push<A>(&mut self, entry: impl Into<String>, code: Entry<A>, loops: Loops) {
        let start = code as *const u8;
        self.kernels.push(KernelCode { table: self.table, entry: entry.into(), start, loops });
    }
}

impl KernelSet {
    /// Every entry of every table.
    pub fn code(&self) -> Vec<KernelCode> {
        let mut kernels: Vec<_> = self.gemm.iter().flat_map(gemm_code).collect();
        kernels.extend(direct_code(&self.direct));
        kernels.extend(rows_code(&self.rows));
        kernels.extend(few_code(&self.few));
        kernels.extend(depthwise_code(&self.depthwise));
        kernels.extend(winograd_code(&self.winograd));
        kernels.extend(fft_code(&self.fft));
        kernels.extend(gradient_code(&self.gradient));
        kernels.extend(parts_code(&self.parts));
        kernels.extend(copy_code(&self.copy));
        #[cfg(feature = "ops")]
        kernels.extend(ops_code(&self.ops));
        #[cfg(feature = "ops")]
        kernels.extend(grad_code(&self.grad));
        let mut epilogue = Listing::new("epilogue");
        epilogue.push("activations of sums", self.direct.activate, Loops::Vectors);
        kernels.extend(epilogue.kernels);
        kernels
    }

    /// The GEMM tiles.
    pub fn gemm_tiles(&self) -> &'static [GemmTile] {
        self.gemm
    }

    /// The tile of direct convolution over rows that store their padding.
    pub fn rows_tile(&self) -> &RowsTile {
        &self.rows
    }

    /// The tile of direct convolution.
    pub fn direct_tile(&self) -> &DirectTile {
        &self.direct
    }

    /// The kernels of Winograd convolution.
    pub fn winograd(&self) -> &WinogradKernels {
        &self.winograd
    }
}

impl GemmTile {
    /// Computes `c = a * b` over `k` steps, for a bench of the tile alone. `a` is packed as
    /// `[k / 16][rows][16]`, and `b` as `[k][columns]`. `c` is row-major.
    ///
    /// # Panics
    /// If an operand is too short.
    pub fn multiply(&self, k: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
        let (rows, columns) = (self.rows(), self.columns());
        let a = RowsOf { data: a, row: BLOCK, chunk: Some(rows * BLOCK) };
        let post = Post { per_row: true, ..Post::NONE };
        let out = OutputTile::of_matrix_columns(c, rows, columns, 0..columns);
        self.run(k, a, ColumnsOf { data: b, step: columns, tile: 0 }, out, &post, Hint::NONE);
    }
}

impl WinogradKernels {
    /// Number of image tiles in the largest register tile.
    pub fn tiles(&self) -> usize {
        self.shape.rows
    }
}

fn gemm_code(tile: &GemmTile) -> Vec<KernelCode> {
    let mut list = Listing::new(tile.name);
    for (what, table) in [("packed rows", tile.packed), ("strided rows", tile.strided)] {
        for (row, widths) in table.iter().enumerate() {
            for (&code, vectors) in widths.iter().zip(tile.shape.vectors) {
                let rows = row + 1;
                list.push(format!("{rows} {what} by {vectors} vectors"), code, Loops::Sums(rows * vectors));
            }
        }
    }
    list.kernels
}

fn direct_code(tile: &DirectTile) -> Vec<KernelCode> {
    let mut list = Listing::new(tile.name);
    for (widths, pixels) in tile.entries.iter().zip(tile.pixels) {
        for (&code, vectors) in widths.iter().zip(tile.shape.vectors) {
            list.push(format!("{pixels} pixels by {vectors} vectors"), code, Loops::Sums(pixels * vectors));
        }
    }
    list.kernels
}

fn rows_code(tile: &RowsTile) -> Vec<KernelCode> {
    let mut list = Listing::new(tile.name);
    for (step, table) in tile.entries.iter().enumerate() {
        for (sizes, vectors) in table.iter().zip(tile.shape.vectors) {
            for (&code, outputs) in sizes.iter().zip(1..) {
                let entry = format!("{outputs} outputs, {step} apart, by {vectors} vectors");
                list.push(entry, code, Loops::Sums(outputs * vectors));
            }
        }
    }
    list.kernels
}

fn few_code(kernels: &FewKernels) -> Vec<KernelCode> {
    let mut list = Listing::new(kernels.name);
    for (index, tiles) in kernels.tiles.iter().enumerate() {
        let (pixels, outputs) = (tiles.pixels, index + 1);
        list.push(
            format!("{pixels} pixels by {outputs} outputs"),
            tiles.large,
            Loops::Sums(pixels * outputs),
        );
        if let Some(edge) = tiles.edge {
            let entry = format!("{pixels} pixels at an edge by {outputs} outputs");
            list.push(entry, edge, Loops::Sums(pixels * outputs));
        }
        list.push(format!("one pixel by {outputs} outputs"), tiles.single, Loops::Sums(outputs));
    }
    list.kernels
}

fn depthwise_code(kernels: &DepthwiseKernels) -> Vec<KernelCode> {
    let mut list = Listing::new(kernels.name);
    let outputs = kernels.tile.0;
    let tables: [(&str, Windows); 5] = [
        ("NHWC", kernels.channels[0]),
        ("Nchw16c", kernels.channels[1]),
        ("NHWC, permuted", kernels.permuted[0]),
        ("Nchw16c, permuted", kernels.permuted[1]),
        ("NCHW", kernels.pixels),
    ];
    for (what, windows) in tables {
        for &(taps, stride, code) in windows {
            // All products of a line of taps with a line of outputs.
            list.push(format!("{what}, {taps} taps, stride {stride}"), code, Loops::Sums(taps * outputs));
        }
    }
    let [channels, permuted, partial, pixels] = kernels.any;
    for (what, code) in [("vectors", channels), ("permuted vectors", permuted), ("partial vectors", partial)]
    {
        list.push(format!("any window, {what} of channels"), code, Loops::Sums(outputs));
    }
    list.push("small maps", kernels.points, Loops::Sums(1));
    // Vectors of pixels with any stride are gathered on the stack.
    list.push("any window, vectors of pixels", pixels, Loops::Fmas);
    list.kernels
}

fn winograd_code(kernels: &WinogradKernels) -> Vec<KernelCode> {
    let mut list = Listing::new(kernels.name);
    for (row, widths) in kernels.product.iter().enumerate() {
        for (&code, vectors) in widths.iter().zip(kernels.shape.vectors) {
            let rows = row + 1;
            list.push(
                format!("product of {rows} tiles by {vectors} vectors"),
                code,
                Loops::Sums(rows * vectors),
            );
        }
    }
    for Transforms { tile, input, output } in kernels.transforms {
        let (of, loops) = transform(*tile);
        list.push(format!("input of {of}"), *input, loops);
        for (&code, vectors) in output.iter().zip(kernels.shape.vectors) {
            list.push(format!("output of {of} by {vectors} vectors"), code, loops);
        }
    }
    for FilterTransform { tile, run } in kernels.filters {
        let (of, loops) = transform(tile.exchanged());
        list.push(format!("filter of {of}"), *run, loops);
    }
    list.kernels
}

/// The name of a tile, and the loops of its transforms.
fn transform(tile: WinogradTile) -> (String, Loops) {
    let WinogradTile { outputs, .. } = tile;
    let taps = tile.exchanged().outputs;
    let name = format!("F({}x{}, {}x{})", outputs.h, outputs.w, taps.h, taps.w);
    // A single point is copied.
    (name, if tile.products() == 1 { Loops::Vectors } else { Loops::Fmas })
}

fn fft_code(kernels: &FftKernels) -> Vec<KernelCode> {
    let mut list = Listing::new(kernels.name);
    for (i, &code) in kernels.products.iter().enumerate() {
        // A complex product is four FMAs.
        list.push(format!("product of {} tiles", i + 1), code, Loops::Sums(4 * (i + 1)));
    }
    list.push("forward rows", kernels.forward_rows, Loops::Vectors);
    list.push("inverse rows", kernels.inverse_rows, Loops::Vectors);
    list.push("columns", kernels.columns, Loops::Vectors);
    list.push("product of lanes", kernels.lane_product, Loops::Vectors);
    list.push("product of a column", kernels.column_product, Loops::Vectors);
    list.push("gather rows", kernels.gather_rows, Loops::Vectors);
    list.push("scatter rows", kernels.scatter_rows, Loops::Vectors);
    list.push("finish", kernels.finish, Loops::Fmas);
    list.kernels
}

fn gradient_code(kernels: &GradientKernels) -> Vec<KernelCode> {
    let tile = &kernels.taps;
    let mut list = Listing::new(tile.name);
    for (of_run, taps) in tile.runs.iter().zip(1..) {
        for (row, vectors) in of_run.entries.iter().zip(of_run.vectors) {
            for (&code, channels) in row.iter().zip(1..) {
                let entry = format!("{taps} taps by {channels} channels by {vectors} vectors");
                list.push(entry, code, Loops::Sums(taps * channels * vectors));
            }
        }
    }
    list.push("partial sums", kernels.partials, Loops::Vectors);
    let mut of_boxes = Listing::new(kernels.depthwise.name);
    for (row, kernel_rows) in kernels.depthwise.entries.iter().zip(1..) {
        for (&code, kernel_columns) in row.iter().zip(1..) {
            let entry = format!("{kernel_rows} by {kernel_columns} taps");
            of_boxes.push(entry, code, Loops::Sums(kernel_rows * kernel_columns));
        }
    }
    list.kernels.extend(of_boxes.kernels);
    list.kernels
}

/// The kernels of bf16 products, unless they are plain loops.
fn parts_code(kernels: &PartsKernels) -> Vec<KernelCode> {
    let mut list = Listing::new(kernels.names[0]);
    if kernels.names[0].ends_with("plain") {
        return list.kernels;
    }
    // Rounding to one part takes too few instructions to tell whole vectors from lost ones.
    for (what, table) in [("split", &kernels.split), ("split pairs", &kernels.split_pairs)] {
        for (parts, &code) in table.iter().enumerate().skip(1) {
            list.push(format!("{what} into {} parts", parts + 1), code, Loops::Vectors);
        }
    }
    for (rows, entries) in kernels.products[0].iter().enumerate() {
        for (what, &code) in ["packed", "strided"].iter().zip(entries) {
            // On tiles, two tiles of pixels meet two of weights, and in another loop one meets two.
            let loops = if kernels.together == 2 { Loops::Tiles(6) } else { Loops::Sums(2 * (rows + 1)) };
            list.push(format!("products of {} {what} rows", rows + 1), code, loops);
        }
    }
    if kernels.together == 2 {
        list.push("three products of two parts", kernels.products[1][0][0], Loops::Tiles(18));
        list.push("six products of three parts", kernels.products[2][0][0], Loops::Tiles(36));
    }
    list.push("finish", kernels.finish, Loops::Vectors);
    list.kernels
}

fn copy_code(copies: &CopyTable) -> Vec<KernelCode> {
    let mut list = Listing::new("copies");
    list.push("copy_rows", copies.rows, Loops::Vectors);
    list.push("pad_rows", copies.pad, Loops::Vectors);
    list.push("transpose", copies.transpose, Loops::Vectors);
    list.kernels
}

#[cfg(feature = "ops")]
fn ops_code(ops: &OpsTable) -> Vec<KernelCode> {
    let OpsTable { activate, softmax_columns, softmax_rows, sum, max, layers } = ops;
    let mut list = Listing::new("ops");
    list.push("activate", *activate, Loops::Vectors);
    list.push("softmax_columns", *softmax_columns, Loops::Vectors);
    list.push("softmax_rows", *softmax_rows, Loops::Vectors);
    for (what, table) in [("average", sum), ("max", max)] {
        let PoolTable { windows, global, global_wide, planes, global_planes } = table;
        for &(width, stride, code) in windows {
            list.push(format!("{what}_pool_window, {width} wide, stride {stride}"), code, Loops::Vectors);
        }
        list.push(format!("{what}_pool_global"), *global, Loops::Vectors);
        list.push(format!("{what}_pool_global_wide"), *global_wide, Loops::Vectors);
        list.push(format!("{what}_pool_planes"), *planes, Loops::Vectors);
        list.push(format!("{what}_pool_global_planes"), *global_planes, Loops::Vectors);
    }
    layers_code(layers, &mut list);
    list.kernels
}

#[cfg(feature = "ops")]
fn layers_code(layers: &LayerTable, list: &mut Listing) {
    list.push("add", layers.combine[0], Loops::Vectors);
    list.push("multiply", layers.combine[1], Loops::Vectors);
    list.push("scale_shift", layers.affine[0], Loops::Vectors);
    list.push("normalize", layers.affine[1], Loops::Vectors);
    list.push("column_sums", layers.column_moments[0], Loops::Vectors);
    list.push("column_moments", layers.column_moments[1], Loops::Vectors);
    list.push("run_sums", layers.run_moments[0], Loops::Vectors);
    list.push("run_moments", layers.run_moments[1], Loops::Vectors);
    list.push("lrn_columns", layers.lrn_columns, Loops::Vectors);
    list.push("lrn_rows", layers.lrn_rows, Loops::Vectors);
    list.push("maxout_columns", layers.maxout_columns, Loops::Vectors);
    list.push("maxout_rows", layers.maxout_rows, Loops::Vectors);
}

#[cfg(feature = "ops")]
fn grad_code(grad: &GradTable) -> Vec<KernelCode> {
    let mut list = Listing::new("gradients");
    list.push("activate_gradient by input", grad.activate[0], Loops::Vectors);
    list.push("activate_gradient by output", grad.activate[1], Loops::Vectors);
    list.push("normalize_gradient", grad.affine[0], Loops::Vectors);
    list.push("normalize_gradient behind a rectifier", grad.affine[1], Loops::Vectors);
    for (of, what) in ["products", "negatives", "products behind a rectifier"].into_iter().enumerate() {
        list.push(format!("column_sums of {what}"), grad.column_sums[of], Loops::Vectors);
        list.push(format!("run_sums of {what}"), grad.run_sums[of], Loops::Vectors);
    }
    for (of, what) in ["average", "max"].into_iter().enumerate() {
        list.push(format!("{what}_pool_gradient_planes"), grad.pool_planes[of], Loops::Vectors);
    }
    let windows = ["average, any window", "max, any window", "max, 2x2", "max, 3x3"];
    for (window, code) in windows.into_iter().zip(grad.pool_block) {
        list.push(format!("pool_gradient, {window}"), code, Loops::Vectors);
    }
    list.push("loss_columns", grad.loss_columns, Loops::Vectors);
    list.push("loss_rows", grad.loss_rows, Loops::Vectors);
    list.kernels
}
