//! What is allocated: refused memory is an error, and scratch memory is replaced and not doubled.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::*;
use convkernels_ndarray::*;
use ndarray::{Array4, ArrayView2, s};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Requests of at least so many bytes can be refused. Smaller ones, such as the lists of an algorithm's variants, do
/// not grow with the arrays.
const LARGE: usize = 128 << 10;

thread_local! {
    /// Number of large requests that will be granted.
    static GRANTED: Cell<usize> = const { Cell::new(usize::MAX) };
    /// Bytes that are allocated now, and the most since the variable was set.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Watched;

#[global_allocator]
static WATCHED: Watched = Watched;

fn count(bytes: usize) {
    LIVE.set(LIVE.get() + bytes as isize);
    PEAK.set(PEAK.get().max(LIVE.get()));
}

// SAFETY: the memory is the system's. The counters are numbers, whose access allocates nothing.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE {
            let Some(left) = GRANTED.get().checked_sub(1) else {
                return std::ptr::null_mut();
            };
            GRANTED.set(left);
        }
        count(layout.size());
        // SAFETY: the caller's promise is that of this function.
        unsafe { System.alloc(layout) }
    }

    // Never refused: safe code can ask for zeroed pages only by `vec!`, after the crate has tried the same size.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is that of this function.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - layout.size() as isize);
        // SAFETY: the caller's promise is that of this function.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Runs `call` with 0, 1, ... large requests granted until it succeeds, which must not be at once.
fn refuse<T>(what: &str, call: impl Fn() -> Result<T, Error>) {
    call().unwrap(); // what the library keeps for the whole process
    for granted in 0.. {
        GRANTED.set(granted);
        let result = call();
        GRANTED.set(usize::MAX);
        match result {
            Ok(_) => {
                assert!(granted > 0, "{what}: no large memory was asked for");
                return;
            }
            Err(Error::Conv(ConvError::OutOfMemory { .. })) => (),
            Err(other) => panic!("{what}: {other}"),
        }
    }
}

/// [`filter2d`] of arrays that exist before any memory is refused.
fn refuse_filter(what: &str, image: ArrayView2<'_, f32>, kernel: ArrayView2<'_, f32>, border: Border) {
    refuse(what, || filter2d(image, kernel, border));
}

#[test]
fn refused_memory_is_an_error_in_every_path() {
    let long = separable((2, 17_000), 2);
    refuse("factors", || Filter2d::new(long.view(), &FilterOptions::default()));
    refuse("factors", || Filter2d::new(long.t(), &FilterOptions::default()));
    let (image, wide) = (random((4, 9000), 1), separable((7, 5600), 2));
    refuse_filter("long row", image.view(), wide.view(), Border::Reflect);
    refuse_filter("long column", image.t(), wide.t(), Border::Wrap);
    refuse_filter("one pass", image.view(), random((2, 5600), 3).view(), Border::Replicate);
    refuse_filter("blur", random((90, 416), 1).view(), separable((9, 15), 2).view(), Border::Zero);
    refuse_filter("transforms", random((200, 180), 1).t(), random((27, 27), 2).view(), Border::Wrap);
    let (small, large) = (random((3, 4), 1), random((200, 190), 2));
    let sequence = random((1, 40_000), 3);
    for mode in [Mode::Full, Mode::Valid] {
        refuse("exchanged", || correlate2d(small.view(), large.view(), mode));
        refuse("exchanged", || convolve2d(small.view(), large.view(), mode));
        refuse("sequences", || correlate1d(small.row(1), sequence.row(0), mode));
    }
    let (input, weights) =
        (Array4::from_elem((2, 5, 120, 150), 0.5), Array4::from_elem((7000, 5, 1, 1), 0.25));
    let (turned, options) = (input.view().permuted_axes([0, 1, 3, 2]), ConvOptions::default());
    refuse("turned images", || conv2d(turned, weights.slice(s![..3, .., .., ..]), &options));
    let few = input.slice(s![.., .., ..8, ..10]);
    refuse("turned weights", || conv2d(few, weights.slice(s![..;-1, .., .., ..]), &options));
}

#[test]
fn scratch_that_is_too_small_is_freed_first() {
    let weights = Array4::from_elem((1, 1, 1, 1), 2.0);
    let conv = Conv2d::new(weights.view(), &ConvOptions::default().stride(Size2::square(10))).unwrap();
    let input = Array4::from_elem((1, 1, 1001, 1000), 0.5);
    let turned = |rows: usize| input.slice(s![.., .., ..rows, ..;-1]);
    conv.run(turned(1000)).unwrap();
    let before = LIVE.get();
    PEAK.set(before);
    conv.run(turned(1001)).unwrap();
    let copy = 1000 * 1000 * size_of::<f32>() as isize;
    assert!(before > copy, "the copy of the first input is kept");
    assert!(PEAK.get() - before < copy / 2, "{} bytes beside those of the first run", PEAK.get() - before);
}
