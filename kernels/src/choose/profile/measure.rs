//! Measures rates with the library's own kernels: multiply-adds of the most used tile, products of bf16 numbers, and
//! reads of vectors.

use super::Profile;
use crate::describe::{ConvError, Isa, Products};
use crate::memory::Buffer;
use crate::tile::detect::kernels;
use crate::tile::gemm_table::{ColumnsOf, Hint, RowsOf};
use crate::tile::output::OutputTile;
use crate::tile::parts::{COLUMNS, PART_WORDS, ROW, ROW_WORDS};
use crate::tile::parts_table::{PixelParts, Steps, WeightParts};
use crate::tile::post::Post;
use crate::tile::table::KernelSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Time budget of each bandwidth, after a warm-up pass.
const EACH: Duration = Duration::from_millis(12);
/// Time budget of the multiply-adds: long enough to leave the turbo clock of the first milliseconds.
const SUSTAINED: Duration = Duration::from_millis(50);
/// Maximum bytes read by all threads together. The first touch of these pages takes most of the time.
const MOST_READ: usize = 256 << 20;
/// Fraction of peak that the default tile reaches on operands in the first-level cache.
const OF_PEAK: f64 = 0.94;

pub(super) fn measure(isa: Isa) -> Result<Profile, ConvError> {
    let kernels = kernels(Some(isa))?;
    let mut profile = Profile::detect(isa);
    let threads = profile.cores.min(pool_threads()).max(1);
    profile.cores = threads;
    profile.fma_mflops = (multiply_adds(kernels)? / OF_PEAK / 1e6) as u64;
    if isa.products().contains(&Products::Bf16) {
        profile.bf16_mflops = (bf16_products(kernels)? / OF_PEAK / 1e6) as u64;
    }
    let l2 = profile.l2_bytes / 2;
    let l3 = (profile.l3_bytes / 4).clamp(2 * profile.l2_bytes, 4 * profile.l2_bytes);
    let dram = (4 * profile.l3_bytes).min(MOST_READ / threads).max(l3);
    let mut memory = zeroed(threads.saturating_mul(dram) / size_of::<f32>())?;
    // Untouched zero pages can all map to one physical page.
    memory.fill(1.0);
    let all = |bytes: usize, threads: usize| {
        let len = bytes / size_of::<f32>();
        let parts: Vec<&[f32]> = memory.chunks_exact(dram / size_of::<f32>()).take(threads).collect();
        (reads(&parts, len) / 1e6) as u64
    };
    (profile.l2_mbs, profile.l3_mbs, profile.dram_mbs) = (all(l2, 1), all(l3, 1), all(dram, 1));
    (profile.l2_mbs_all, profile.l3_mbs_all, profile.dram_mbs_all) =
        (all(l2, threads), all(l3, threads), all(dram, threads));
    if let Some(nanoseconds) = region() {
        profile.region_ns = nanoseconds;
    }
    for rate in [&mut profile.fma_mflops, &mut profile.bf16_mflops, &mut profile.region_ns] {
        *rate = (*rate).max(1);
    }
    Ok(profile)
}

fn zeroed(len: usize) -> Result<Buffer, ConvError> {
    Buffer::zeroed_for("memory to measure with", len)
}

/// Floating-point operations per second of the default tile.
fn multiply_adds(kernels: &'static KernelSet) -> Result<f64, ConvError> {
    const K: usize = 256;
    let tile = &kernels.gemm[0];
    let (rows, columns) = (tile.shape.rows, tile.shape.columns());
    let (a, b) = (zeroed(rows * K)?, zeroed(columns * K)?);
    let mut c = zeroed(rows * columns)?;
    let post = Post::NONE;
    let seconds = least(SUSTAINED, || {
        for _ in 0..64 {
            let a = RowsOf { data: &a, row: crate::describe::BLOCK, chunk: None };
            let b = ColumnsOf { data: &b, step: columns, tile: 0 };
            let out = OutputTile::of_matrix_columns(&mut c, rows, columns, 0..columns);
            tile.run(K, a, b, out, &post, Hint::NONE);
        }
    });
    Ok((64 * 2 * rows * columns * K) as f64 / seconds)
}

/// Floating-point operations per second of products of bf16 numbers, with operands in the first-level cache.
fn bf16_products(kernels: &'static KernelSet) -> Result<f64, ConvError> {
    const STEPS: usize = 8;
    let parts = &kernels.parts;
    let (count, rows) = (parts.together(), parts.rows());
    let a = zeroed(count * rows * ROW_WORDS)?;
    let b = zeroed(STEPS * PART_WORDS)?;
    let mut sums = zeroed(count * rows * COLUMNS)?;
    let steps = Steps::new(&[0; STEPS]);
    let tiles: Vec<usize> = (0..count).map(|tile| tile * rows * ROW_WORDS).collect();
    let seconds = least(SUSTAINED, || {
        for _ in 0..64 {
            let a = PixelParts { data: &a, part: 0, row: ROW_WORDS, tiles: &tiles, rows };
            let b = WeightParts { data: &b, ahead: false };
            parts.product(Products::Bf16, &a, steps, &b, &mut sums, true);
        }
    });
    Ok((64 * 2 * count * rows * COLUMNS * STEPS * ROW) as f64 / seconds)
}

/// Bytes per second when one thread per part repeatedly reads the first `len` elements of its part.
fn reads(parts: &[&[f32]], len: usize) -> f64 {
    fn each(parts: &[&[f32]], len: usize) -> f64 {
        match parts {
            [] => 0.0,
            [part] => (len * size_of::<f32>()) as f64 / least(EACH, || read(&part[..len])),
            _ => {
                let (left, right) = parts.split_at(parts.len() / 2);
                let (left, right) = join(|| each(left, len), || each(right, len));
                left + right
            }
        }
    }
    each(parts, len)
}

/// Reads everything once. The compiler vectorizes it for the build's baseline; 64 independent accumulators
/// hide the latency.
fn read(data: &[f32]) {
    let mut all = [0u32; 64];
    for values in data.as_chunks::<64>().0 {
        for (all, value) in all.iter_mut().zip(values) {
            *all |= value.to_bits();
        }
    }
    black_box(all);
}

/// Nanoseconds of handing nothing to another thread and waiting for it; the middle of many.
#[cfg(feature = "rayon")]
fn region() -> Option<u64> {
    let mut times: Vec<u64> = (0..200)
        .map(|_| {
            let start = Instant::now();
            join(|| black_box(()), || black_box(()));
            start.elapsed().as_nanos() as u64
        })
        .collect();
    times.sort_unstable();
    Some(times[times.len() / 2])
}

#[cfg(not(feature = "rayon"))]
fn region() -> Option<u64> {
    None
}

#[cfg(feature = "rayon")]
use rayon::{current_num_threads as pool_threads, join};

#[cfg(not(feature = "rayon"))]
fn pool_threads() -> usize {
    1
}

#[cfg(not(feature = "rayon"))]
fn join<A, B>(first: impl FnOnce() -> A, second: impl FnOnce() -> B) -> (A, B) {
    (first(), second())
}

/// Seconds of the fastest call within the time budget `most`. The first call is a warm-up.
fn least(most: Duration, mut call: impl FnMut()) -> f64 {
    call();
    let (start, mut least) = (Instant::now(), f64::INFINITY);
    while least.is_infinite() || start.elapsed() < most {
        let before = Instant::now();
        call();
        least = least.min(before.elapsed().as_secs_f64());
    }
    least.max(1e-9)
}
