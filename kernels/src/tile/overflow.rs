//! Every table must refuse sizes whose products do not fit into `usize`, even in a build that does not check
//! arithmetic.

use super::copy_table::InputTile;
use super::depthwise_read::{Axis, Reading};
use super::depthwise_table::{Image, Window};
use super::direct::{KernelRows, TapRun};
use super::direct_table::{DirectImage, DirectK, DirectWeights, TileRow};
use super::fft::{COMPLEX, Length};
use super::fft_table::{Factors, Plane};
use super::gemm_table::{ColumnsOf, Hint, RowsOf};
use super::grad::table::{GradLines, GradTiles, LossOf, SumLines, SumOf};
use super::ops_table::{PoolSpec, Slopes};
use super::output::{OutputRegion, OutputTile, TileOffset};
use super::post::{Addend, Post};
use super::table::KernelSet;
use super::taps::TapsLine;
use super::taps_table::{
    BoxOperands, BoxPixels, BoxSums, BoxTaps, ImagePixels, OutputPixels, Partials, TapsSums,
};
use super::window::{AxisSpec, WindowAxis};
use super::winograd::{Coefficients, MOST_POINTS, OneWay};
use super::winograd_operands::{InputRows, Products, ProductsOfRow, WinogradTile};
use crate::describe::{Activation, BLOCK, Isa, Layout, PixelRef, PixelView, Shape4, Size2, TensorMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Half of the range of `usize`. If nothing checks, twice this number is 0.
const HALF: usize = 1 << (usize::BITS - 1);

fn set() -> &'static KernelSet {
    KernelSet::get(Isa::Portable).expect("always there")
}

/// The step for which the second of two rows of `columns` elements ends at element 0, if the arithmetic
/// wraps.
fn back(columns: usize) -> usize {
    (columns - 1).wrapping_neg()
}

/// Checks that `call` panics because `operand` is too short, and not because an addition of this library
/// overflows.
#[track_caller]
fn refused(operand: &str, call: impl FnOnce()) {
    let panic = catch_unwind(AssertUnwindSafe(call)).expect_err("sizes that overflow are refused");
    let message = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    let expected = format!("{operand}: needs {} elements", usize::MAX);
    assert!(message.starts_with(&expected), "expected {expected:?}, got {message:?}");
}

/// Two rows and eight columns of a matrix that is long enough.
fn two_rows(c: &mut [f32]) -> OutputTile<'_> {
    OutputTile::of_matrix_columns(c, 2, 8, 0..8)
}

#[test]
fn gemm_refuses_steps_that_overflow() {
    let mut c = [0.0; 1024];
    refused("rows of a product", || set().gemm[0].multiply(HALF, &[], &[], &mut c));
}

#[test]
fn gemm_refuses_operands_that_overflow() {
    let (tile, data) = (&set().gemm[0], [0.0; 64]);
    let packed = RowsOf { data: &data, row: BLOCK, chunk: None };
    let columns = ColumnsOf { data: &data, step: 8, tile: 0 };
    let run = |k, a, b| {
        let mut c = [0.0; 16];
        tile.run(k, a, b, two_rows(&mut c), &Post::NONE, Hint::NONE);
    };
    refused("rows of a product", || run(2, RowsOf { row: back(2), chunk: Some(0), ..packed }, columns));
    refused("rows of a product", || run(32, RowsOf { chunk: Some(back(32)), ..packed }, columns));
    refused("rows of a product", || run(HALF, packed, columns));
    refused("columns of a product", || run(2, packed, ColumnsOf { step: back(8), ..columns }));
}

#[test]
fn tiles_of_a_matrix_and_their_residual_refuse_rows_that_overflow() {
    let mut c = [0.0; 16];
    refused("matrix", || {
        OutputTile::of_matrix_columns(&mut c, 3, HALF, 0..8);
    });
    let data = [0.0; 16];
    let at = TileOffset { offset: 0, row: back(8), block: BLOCK };
    let post = Post { residual: Addend::Tile(&data, at), ..Post::NONE };
    let out = two_rows(&mut c);
    refused("residual", || {
        post.target(&out, 8, set().direct.activate);
    });
}

#[test]
fn regions_refuse_positions_that_overflow() {
    let (shape, layout) = (Shape4::new(1, 16, 2, 2), Layout::Nhwc);
    let mut data = [0.0; 64];
    let tensor = TensorMut::packed(&mut data, shape, layout).expect("64 elements");
    let mut region = OutputRegion::new(tensor, false);
    let end =
        |call: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(call)).expect_err("outside of the region");
    end(&mut || {
        region.channels_as_columns(0, 0..1, usize::MAX, 1..9);
    });
    end(&mut || {
        region.run_mut(0, 1, 0, usize::MAX);
    });
}

#[test]
fn direct_refuses_operands_that_overflow() {
    let data = [0.0; 64];
    let run = TapRun { first: 0, lo: 0, hi: 2, taps: 1 };
    let row = TileRow::new(&set().direct, 1, &[2], vec![run]).expect("memory for one run");
    let lines = [KernelRows { first: 0, rows: 2, input_row: 0 }];
    let k = DirectK { chunks: 1, channels: 2, skip: 0, last_channels: 2, lines: &lines, kernel_rows: 2 };
    let image =
        DirectImage { data: &data, line: 2, chunk: 0, row: 2, pixel: 2, fetch: false, next_row: None };
    let weights = DirectWeights { data: &data, step: 8, hint: &[] };
    let run = |k, image, weights| {
        let mut c = [0.0; 16];
        set().direct.run(&row, &k, image, weights, two_rows(&mut c), &Post::NONE);
    };
    refused("image of a direct tile", || run(k, DirectImage { row: back(4), ..image }, weights));
    refused("image of a direct tile", || run(k, DirectImage { pixel: back(4), ..image }, weights));
    let below = [KernelRows { input_row: HALF, ..lines[0] }];
    let below = DirectK { lines: &below, ..k };
    refused("image of a direct tile", || run(below, DirectImage { line: 4, ..image }, weights));
    let chunks = DirectK { chunks: 2, ..k };
    refused("image of a direct tile", || run(chunks, DirectImage { chunk: back(6), ..image }, weights));
    refused("weights of a direct tile", || run(k, image, DirectWeights { step: HALF, ..weights }));
}

/// The distance of 16 points for which the last point begins at element 14, if the arithmetic wraps.
const AROUND: usize = usize::MAX / 15 + 1;

fn winograd_tile() -> (WinogradTile, Coefficients) {
    let tile = WinogradTile { points: Size2::square(4), outputs: Size2::square(2) };
    (tile, Coefficients { y: OneWay::default(), x: OneWay::default() })
}

#[test]
fn winograd_refuses_rows_that_overflow() {
    let ((tile, coefficients), data) = (winograd_tile(), [0.0; 64]);
    let mut rows = [None; MOST_POINTS];
    rows[0] = Some(0);
    let input = |tiles, step, v_point| {
        let (mut scratch, mut v) = ([0.0; 256], [0.0; 256]);
        let rows = InputRows { data: &data, rows, step, lo: 0, hi: 2, tiles, channels: 16 };
        set().winograd.input(tile, &coefficients, &rows, &mut scratch, (&mut v, v_point));
    };
    refused("rows of a Winograd tile", || input(1, back(16), 16));
    refused("transformed tiles", || input(1, 16, AROUND));
    refused("scratch of a Winograd tile", || input(HALF, 16, 16));
}

#[test]
fn winograd_refuses_products_that_overflow() {
    let data = [0.0; 512];
    let products = Products {
        v: &data,
        v_point: 64,
        u: &data,
        width: 8,
        m_point: 32,
        points: 3,
        tiles: 4,
        channels: 16,
        k_block: 16,
        ahead: false,
    };
    let run = |products: Products<'_>| {
        let mut m = [0.0; 512];
        set().winograd.products(&products, &mut m);
    };
    refused("transformed tiles", || run(Products { v_point: HALF, ..products }));
    refused("transformed tiles", || run(Products { tiles: HALF, ..products }));
    refused("products of Winograd tiles", || run(Products { m_point: HALF, ..products }));
    refused("weights of Winograd tiles", || {
        run(Products { v: &[0.0; 0], channels: HALF, tiles: 1, ..products })
    });
}

#[test]
fn winograd_refuses_outputs_that_overflow() {
    let ((tile, coefficients), data) = (winograd_tile(), [0.0; 256]);
    let m = ProductsOfRow { m: &data, width: 8, m_point: 8, tiles: 1, rows: 2, last: 1, line: 1, step: 2 };
    let output = |m: ProductsOfRow<'_>| {
        let mut c = [0.0; 16];
        set().winograd.output(tile, &coefficients, &m, two_rows(&mut c), &Post::NONE);
    };
    refused("products of Winograd tiles", || output(ProductsOfRow { m_point: AROUND, ..m }));
    refused("pixels of Winograd tiles", || output(ProductsOfRow { line: back(2), ..m }));
}

#[test]
fn depthwise_refuses_operands_that_overflow() {
    let data = [0.0; 64];
    let axis = Axis { input: 2, step: 8, taps: 1, stride: 1, dilation: 1, before: 0, start: 0, end: 1 };
    let window = Window {
        reading: Reading::Channels,
        inner: axis,
        outer: Axis { end: 2, ..axis },
        channels: 1,
        vectors: 1,
        small: false,
        outs: 1,
        skip: 0,
        line: 1,
        fetch: false,
    };
    let run = |window: Window, plane| {
        let mut c = [0.0; 16];
        let image = Image { data: &data, plane, sources: &[] };
        set().depthwise.run(&window, image, &data, two_rows(&mut c), &Post::NONE);
    };
    let outer = |outer| Window { outer, ..window };
    refused("image of a depthwise tile", || run(outer(Axis { step: back(16), ..window.outer }), 0));
    refused("image of a depthwise tile", || run(outer(Axis { input: HALF, step: 16, ..window.outer }), 0));
    refused("weights of a depthwise tile", || run(outer(Axis { taps: HALF, ..window.outer }), 0));
    refused("outputs of a depthwise tile", || run(Window { line: usize::MAX, ..window }, 0));
    let pixels = Window { reading: Reading::Pixels, channels: 3, ..window };
    refused("image of a depthwise tile", || run(pixels, HALF));
    refused("image of a depthwise tile", || run(Window { vectors: HALF, ..pixels }, 16));
    refused("image of a depthwise tile", || run(Window { skip: HALF, ..pixels }, 16));
    refused("image of a depthwise tile", || run(Window { vectors: HALF, ..window }, 16));
}

#[test]
fn fft_refuses_planes_and_spectra_that_overflow() {
    let (length, fft) = (Length::new(4), &set().fft);
    let columns = |step, column| {
        let (mut from, mut to, mut scratch) = ([0.0; 512], [0.0; 512], vec![0.0; length.scratch_len()]);
        let from = Plane { data: &mut from, step, column };
        let to = Plane { data: &mut to, step: COMPLEX, column: 4 * COMPLEX };
        fft.columns(&length, 3, from, to, false, &mut scratch);
    };
    refused("plane of a transform", || columns(COMPLEX, HALF));
    refused("plane of a transform", || columns(HALF, COMPLEX));
    let data = [0.0; 64];
    let factors = |bins, channels| Factors { image: &data, weights: &data, bins, channels };
    let mut out = [0.0; 64];
    refused("spectra of the image", || fft.product(1, &factors(HALF, 1), &mut out));
    refused("spectra of the weights", || fft.lane_product(&factors(2, HALF), false, &mut out));
}

/// Pooling with three adjacent windows of one element each.
fn pooling() -> PoolSpec {
    let spec = AxisSpec {
        pads: ["before", "after"],
        dilation_name: "dilation",
        input: 3,
        kernel: 1,
        stride: 1,
        dilation: 1,
        before: 0,
        after: 0,
        ceil: false,
    };
    let axis = |input| WindowAxis::new(&AxisSpec { input, ..spec }).expect("valid").expect("a window");
    PoolSpec { h: axis(1), w: axis(3), max: true, count_include_pad: false, sum: false }
}

#[test]
fn pooling_refuses_operands_that_overflow() {
    let (data, mut c) = ([0.0; 64], [0.0; 64]);
    refused("image of a pooling tile", || {
        let out = OutputTile::of_matrix_columns(&mut c, 3, 8, 0..8);
        set().ops.pool_block(&pooling(), &data, HALF, 0..1, out);
    });
    refused("image of a pooling tile", || {
        let out = OutputTile::of_matrix_columns(&mut c, 3, 8, 0..3);
        set().ops.pool_planes(&pooling(), &data, HALF, 0..1, out);
    });
}

/// An image of two pixels in NHWC with eight channels, `pixel` elements apart.
fn two_pixels(pixel: usize) -> PixelView {
    PixelView {
        layout: Layout::Nhwc,
        images: 1,
        series: 1,
        volume: 0,
        channels: 8,
        pixels: 2,
        image: 16,
        plane: 1,
        pixel,
        lines: None,
    }
}

#[test]
fn layers_refuse_sources_that_overflow() {
    let data = [0.0; 64];
    let view = two_pixels(back(8));
    let mut c = [0.0; 16];
    refused("source of a layer", || {
        let source = InputTile::new(&PixelRef { data: &data, view }, 0, 0, 0);
        set().copy.copy(source, false, two_rows(&mut c));
    });
    let blocked =
        PixelView { layout: Layout::Nchw16c, channels: 3 * BLOCK, plane: HALF, pixel: BLOCK, ..view };
    refused("source of a layer", || {
        let source = InputTile::new(&PixelRef { data: &data, view: blocked }, 0, 0, 0);
        set().ops.layers.maxout(2, source, 32, false, two_rows(&mut c));
    });
}

fn grad_tiles<'c, 'a>(c: &'c mut [f32], gradient: InputTile<'a>, value: InputTile<'a>) -> GradTiles<'c, 'a> {
    GradTiles { out: two_rows(c), add: false, gradient, value }
}

#[test]
fn gradients_refuse_sources_that_overflow() {
    let data = [0.0; 64];
    let of = |pixel| {
        let view = two_pixels(pixel);
        InputTile::new(&PixelRef { data: &data, view }, 0, 0, 0)
    };
    let (good, bad, grad) = (of(8), of(back(8)), &set().grad);
    let mut c = [0.0; 16];
    for (gradient, value) in [(good, bad), (bad, good)] {
        refused("source of a layer", || {
            let slopes = Slopes { values: &[], per_row: false };
            grad.activate(Activation::Relu, slopes, false, grad_tiles(&mut c, gradient, value));
        });
        refused("source of a layer", || {
            let lines = GradLines { centre: &data, factor: &data, slope: &data, shift: &data };
            grad.affine(lines, None, false, grad_tiles(&mut c, gradient, value));
        });
        refused("source of a layer", || {
            let lines = SumLines { centre: &data, gate: None };
            grad.column_sums(SumOf::Products, [gradient, value], (2, 8), lines);
        });
    }
    refused("source of a layer", || {
        let of = LossOf { labels: &[0, 0], weight: 1.0, per_row: false };
        grad.loss(&of, grad_tiles(&mut c, good, bad), &mut [0.0; 2]);
    });
}

#[test]
fn gradients_of_pooling_refuse_sources_that_overflow() {
    let data = [0.0; 64];
    let view = two_pixels(8);
    let source = InputTile::new(&PixelRef { data: &data, view }, 0, 0, 0);
    let mut c = [0.0; 16];
    let axis = |input| {
        let spec = AxisSpec {
            pads: ["", ""],
            dilation_name: "",
            input,
            kernel: 1,
            stride: 1,
            dilation: 1,
            before: 0,
            after: 0,
            ceil: false,
        };
        WindowAxis::new(&spec).expect("a valid axis").expect("an output")
    };
    let (h, w) = (axis(2), axis(1));
    let spec = PoolSpec { h, w, max: true, count_include_pad: false, sum: false };
    let view = PixelView { pixel: back(8), ..view };
    let bad = InputTile::new(&PixelRef { data: &data, view }, 0, 0, 0);
    for (gradient, value) in [(source, bad), (bad, source)] {
        refused("source of a layer", || {
            set().grad.pool(&spec, false, grad_tiles(&mut c, gradient, value));
        });
    }
}

#[test]
fn gradients_refuse_operands_that_overflow() {
    let (kernels, data) = (&set().gradient, [0.0; 64]);
    let line = TapsLine { hi: 2, count: 2, ..TapsLine::default() };
    let go = OutputPixels { data: &data, pixel: 8, block: BLOCK, looks_ahead: false };
    let x = ImagePixels { data: &data, pixel: 1, channels: (2, 1), looks_ahead: false };
    let run = |line, go, x, channel| {
        let mut sums = [0.0; 64];
        kernels.taps.run(1, &[line], go, x, TapsSums { data: &mut sums, taps: (1, 0), channel });
    };
    refused("gradients of a tile", || run(TapsLine { go: usize::MAX, ..line }, go, x, 8));
    refused("gradients of a tile", || run(line, OutputPixels { pixel: back(8), ..go }, x, 8));
    refused("pixels of a tile", || run(TapsLine { x: usize::MAX, ..line }, go, x, 8));
    refused("pixels of a tile", || run(line, go, ImagePixels { pixel: back(2), ..x }, 8));
    refused("sums of a tile", || run(line, go, x, back(8)));
    let add = |row, parts| {
        let mut c = [0.0; 16];
        kernels.add_partials(&Partials { data: &data, row, parts }, false, two_rows(&mut c));
    };
    refused("partial sums", || add(back(8), (1, 8)));
    refused("partial sums", || add(8, (2, usize::MAX)));
}

#[test]
fn gradients_of_boxes_refuse_operands_that_overflow() {
    let (tile, data) = (&set().gradient.depthwise, [0.0; 64]);
    let pixels = BoxPixels { data: &data, steps: [8, 8, 8], ahead: 0 };
    let taps = BoxTaps { counts: [2, 2], steps: [8, 8] };
    let run_to = |extents, go, x, taps, steps| {
        let sums = BoxSums { taps: &mut [0.0; 64], steps, bias: None };
        tile.run(&mut BoxOperands { extents, go, x, taps, sums });
    };
    let run = |extents, go, x, taps| run_to(extents, go, x, taps, [16, 8]);
    let wrong = BoxPixels { steps: [8, back(8), 8], ..pixels };
    refused("gradients of a box", || run([1, 2, 1], wrong, pixels, taps));
    refused("pixels of a box", || run([1, 2, 1], pixels, wrong, taps));
    refused("pixels of a box", || run([1, 1, 1], pixels, pixels, BoxTaps { steps: [8, back(8)], ..taps }));
    refused("sums of a box", || run_to([1, 1, 1], pixels, pixels, taps, [back(16), 8]));
    refused("sums of a box", || run_to([1, 1, 1], pixels, pixels, taps, [16, back(8)]));
}
