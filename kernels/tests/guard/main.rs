//! Places guard pages on both sides of every operand, workspace and packed weights. Any access outside ends
//! the process, and the test reports what it was doing.

#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
#[path = "../common/mod.rs"]
mod common;
#[cfg(target_os = "linux")]
mod conv;
#[cfg(target_os = "linux")]
mod gradients;
#[cfg(target_os = "linux")]
mod ops;
#[cfg(target_os = "linux")]
mod pages;

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("skipped: guard pages and child processes are Linux's here");
}

#[cfg(target_os = "linux")]
fn main() {
    use pages::Side;
    guards_are_there();
    let mut failures = 0;
    for (name, work) in [
        ("convolutions", conv::all as fn()),
        ("gradients of weights", gradients::all),
        ("other layers", ops::all),
    ] {
        let children = [Side::Below, Side::Above].map(|side| {
            let child = child::Child::start(move || {
                pages::lie(side);
                work();
            });
            (side, child)
        });
        for (side, child) in children {
            let outcome = child.wait();
            println!("{name}, flush with the page {side:?}: {}", outcome.as_ref().err().map_or("ok", |e| e));
            failures += usize::from(outcome.is_err());
        }
    }
    assert_eq!(failures, 0, "something outside of an operand was read or written");
}

/// Tests the test: an access one element outside an operand, or one alignment past a buffer, must fault and
/// be reported with the current activity.
#[cfg(target_os = "linux")]
fn guards_are_there() {
    use child::{Child, note};
    use kernels::Buffer;
    use pages::{Guarded, Side, lie};
    let operand: fn() -> &'static [f32] = || Box::leak(Box::new(Guarded::copy_of(&[1.0; 7])));
    let buffer: fn() -> &'static [f32] = || Box::leak(Box::new(Buffer::copy_of(&[1.0; 7]).unwrap()));
    for (side, data, beyond, what) in [
        (Side::Below, operand, -1, "before an operand"),
        (Side::Above, operand, 7, "after an operand"),
        (Side::Below, buffer, -1, "before a buffer"),
        (Side::Above, buffer, 16, "after a buffer"),
    ] {
        let child = Child::start(move || {
            lie(side);
            let data = data();
            assert_eq!(data.iter().sum::<f32>(), 7.0);
            note(what);
            // SAFETY: it is outside, and meant to fault; the process has no other purpose.
            std::hint::black_box(unsafe { data.as_ptr().wrapping_offset(beyond).read_volatile() });
        });
        assert_eq!(child.wait(), Err(format!("touched a guard page (signal {}): {what}", libc::SIGSEGV)));
    }
}
