//! Matrix tiles (AMX): the detection of bf16 units, and the product of tiles of bf16 numbers.
//!
//! Stable Rust has no intrinsics for tiles. What a tile register holds between two blocks of assembly is not
//! promised either, so one block configures the tiles, computes all sums of a call and stores them.

use super::boundary::Body;
use super::parts::{COLUMNS, ProductArgs, ROW_WORDS};
use crate::simd::Simd;
use std::arch::asm;
use std::sync::OnceLock;

/// Whether this process can use tiles of bf16 numbers: the CPU has them, and the operating system saves them.
#[cfg(target_os = "linux")]
pub(super) fn detect() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    #[cfg(feature = "internal")]
    if emulation::is_on() {
        return true;
    }
    *USABLE.get_or_init(|| has_tiles() && is_enabled() && is_permitted())
}

/// Tiles need the permission of the operating system. Only Linux's interface is known here.
#[cfg(not(target_os = "linux"))]
pub(super) fn detect() -> bool {
    false
}

/// Whether dot products of bf16 numbers do twice the work of multiply-adds. On Intel's CPUs they do half of it (a
/// Xeon of the fourth generation: 87 to 176 GFLOP/s), on AMD's twice (Zen 5: 532 to 268).
pub(super) fn has_fast_dot_products() -> bool {
    // Every plan asks. In a virtual machine, the host answers CPUID, which takes longer than planning.
    static FAST: OnceLock<bool> = OnceLock::new();
    *FAST.get_or_init(|| {
        let std::arch::x86_64::CpuidResult { ebx, ecx, edx, .. } = std::arch::x86_64::__cpuid(0);
        [ebx, edx, ecx].map(u32::to_le_bytes) == [*b"Auth", *b"enti", *b"cAMD"]
    })
}

/// Whether the CPU has AMX-TILE and AMX-BF16 (CPUID leaf 7, EDX bits 24 and 22).
#[cfg(target_os = "linux")]
fn has_tiles() -> bool {
    const BITS: u32 = 1 << 24 | 1 << 22;
    std::arch::x86_64::__cpuid(0).eax >= 7 && std::arch::x86_64::__cpuid_count(7, 0).edx & BITS == BITS
}

/// Whether the operating system saves the configuration and the data of tiles (XCR0 bits 17 and 18).
#[cfg(target_os = "linux")]
fn is_enabled() -> bool {
    const BITS: u32 = 1 << 17 | 1 << 18;
    // OSXSAVE: XGETBV may be executed.
    if std::arch::x86_64::__cpuid(1).ecx & 1 << 27 == 0 {
        return false;
    }
    let low: u32;
    // SAFETY: the CPU has XGETBV, which only writes the two registers.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack)) };
    low & BITS == BITS
}

/// Asks Linux for the permission to use tile data, which it gives to a whole process. It refuses a process
/// that has a signal stack too small for the larger frames.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: this system call reads and writes no memory of the process.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// Lets tests run the kernels of this file on a CPU without tiles, below a handler that emulates them.
#[cfg(feature = "internal")]
pub mod emulation {
    use std::sync::atomic::{AtomicBool, Ordering};

    static ON: AtomicBool = AtomicBool::new(false);

    /// Treats tiles as available. The process must emulate the instructions that its CPU does not have.
    pub fn start() {
        ON.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_on() -> bool {
        ON.load(Ordering::Relaxed)
    }
}

/// The operand of `ldtilecfg`: the rows of each tile, and their bytes.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    /// Tiles 0 to 3 are sums and 4 and 5 pixels, with `rows` rows each. Tiles 6 and 7 are weights.
    fn new(rows: usize) -> Self {
        let mut config =
            Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        for tile in 0..8 {
            config.row_bytes[tile] = 64;
            config.rows[tile] = if tile < 6 { rows as u8 } else { 16 };
        }
        config
    }
}

/// What the assembly reads and changes in memory, because it has too few registers. Addresses are bytes.
#[repr(C)]
struct Frame {
    /// The last part of the pixels.
    a: *const f32,
    /// Bytes from one part of the pixels to the next.
    a_part: usize,
    tiles: *const usize,
    steps: *const usize,
    steps_end: *const usize,
    b: *const f32,
    hint_lines: usize,
    /// Whether the sums start from zero.
    first: usize,
    /// Iterations that are left.
    count: usize,
    /// Bytes of the sums of one tile.
    tile_bytes: usize,
}

/// Two tiles of pixels by two tiles of weights: `pair`. One tile of pixels: `one`.
macro_rules! variant {
    (pair, $pair:expr, $one:expr) => {
        $pair
    };
    (one, $pair:expr, $one:expr) => {
        $one
    };
}

/// Loads the pixels of the current part.
macro_rules! load_a {
    ($n:ident) => {
        variant!(
            $n,
            "tileloadd tmm4, [{t0} + {a_row}*1]\n tileloadd tmm5, [{t1} + {a_row}*1]\n",
            "tileloadd tmm4, [{t0} + {a_row}*1]\n"
        )
    };
}

/// Goes to the previous part of the pixels, which is larger, and loads it.
macro_rules! load_previous_a {
    ($n:ident) => {
        concat!("sub {t0}, [{f} + 8]\n", variant!($n, "sub {t1}, [{f} + 8]\n", ""), load_a!($n))
    };
}

/// Loads both halves of a part of the weights.
macro_rules! load_b {
    ($at0:literal, $at1:literal) => {
        concat!(
            "tileloadd tmm6, [{b} + {b_row}*1 + ",
            $at0,
            "]\n",
            "tileloadd tmm7, [{b} + {b_row}*1 + ",
            $at1,
            "]\n"
        )
    };
}

/// Multiplies the loaded tiles.
macro_rules! multiply {
    ($n:ident) => {
        concat!(
            "tdpbf16ps tmm0, tmm4, tmm6\n tdpbf16ps tmm1, tmm4, tmm7\n",
            variant!($n, "tdpbf16ps tmm2, tmm5, tmm6\n tdpbf16ps tmm3, tmm5, tmm7\n", "")
        )
    };
}

/// The products of one step, in the order of `parts::products`. No operand is loaded twice except the first
/// part of the weights.
macro_rules! products {
    ($n:ident, 3) => {
        concat!(
            load_a!($n),
            load_b!("0", "1024"),
            multiply!($n),
            load_previous_a!($n),
            multiply!($n),
            load_b!("2048", "3072"),
            multiply!($n),
            load_previous_a!($n),
            multiply!($n),
            load_b!("4096", "5120"),
            multiply!($n),
            load_b!("0", "1024"),
            multiply!($n),
            "add {b}, 6144\n"
        )
    };
    ($n:ident, 2) => {
        concat!(
            load_a!($n),
            load_b!("0", "1024"),
            multiply!($n),
            load_previous_a!($n),
            multiply!($n),
            load_b!("2048", "3072"),
            multiply!($n),
            "add {b}, 4096\n"
        )
    };
    ($n:ident, 1) => {
        concat!(load_a!($n), load_b!("0", "1024"), multiply!($n), "add {b}, 2048\n")
    };
}

/// The whole block. The offsets after `{f}` are those of [`Frame`].
macro_rules! block {
    ($n:ident, $parts:tt, $config:ident, $frame:ident, $args:ident) => {
        asm!(
            concat!(
                "ldtilecfg [{p0}]\n",
                // The next tiles of pixels.
                "2:\n",
                "mov {t0}, [{f} + 16]\n",
                "mov {t1}, [{f}]\n",
                "mov {p0}, [{t0}]\n",
                "lea {p0}, [{t1} + {p0}*4]\n",
                variant!($n, "mov {p1}, [{t0} + 8]\n lea {p1}, [{t1} + {p1}*4]\n add {t0}, 16\n", "# {p1}\n add {t0}, 8\n"),
                "mov [{f} + 16], {t0}\n",
                "mov {b}, [{f} + 40]\n",
                "mov {step}, [{f} + 24]\n",
                "cmp qword ptr [{f} + 56], 0\n",
                "je 6f\n",
                "tilezero tmm0\n tilezero tmm1\n",
                variant!($n, "tilezero tmm2\n tilezero tmm3\n", ""),
                "jmp 3f\n",
                "6:\n",
                "mov {t0:e}, 128\n",
                "tileloadd tmm0, [{sums} + {t0}*1]\n tileloadd tmm1, [{sums} + {t0}*1 + 64]\n",
                variant!(
                    $n,
                    "mov {t1}, {sums}\n add {t1}, [{f} + 72]\n \
                     tileloadd tmm2, [{t1} + {t0}*1]\n tileloadd tmm3, [{t1} + {t0}*1 + 64]\n",
                    ""
                ),
                // The next step of K.
                "3:\n",
                "mov {t1}, [{step}]\n",
                "add {step}, 8\n",
                "lea {t0}, [{p0} + {t1}*4]\n",
                variant!($n, "lea {t1}, [{p1} + {t1}*4]\n", ""),
                products!($n, $parts),
                "mov {lines}, [{f} + 48]\n",
                "test {lines}, {lines}\n",
                "jz 5f\n",
                "4:\n",
                "prefetcht1 [{hint}]\n",
                "add {hint}, 64\n",
                "dec {lines}\n",
                "jnz 4b\n",
                "5:\n",
                "cmp {step}, [{f} + 32]\n",
                "jne 3b\n",
                "mov {t0:e}, 128\n",
                "tilestored [{sums} + {t0}*1], tmm0\n tilestored [{sums} + {t0}*1 + 64], tmm1\n",
                "add {sums}, [{f} + 72]\n",
                variant!(
                    $n,
                    "tilestored [{sums} + {t0}*1], tmm2\n tilestored [{sums} + {t0}*1 + 64], tmm3\n \
                     add {sums}, [{f} + 72]\n",
                    ""
                ),
                "dec qword ptr [{f} + 64]\n",
                "jnz 2b\n",
                "tilerelease\n",
            ),
            f = in(reg) &mut $frame,
            a_row = in(reg) $args.a_row * size_of::<f32>(),
            b_row = in(reg) 64usize,
            sums = inout(reg) $args.sums => _,
            hint = inout(reg) $args.hint => _,
            step = out(reg) _,
            b = out(reg) _,
            // The address of the configuration, then that of a tile.
            p0 = inout(reg) &$config => _,
            p1 = out(reg) _,
            t0 = out(reg) _,
            t1 = out(reg) _,
            lines = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// Multiplies tiles of at most 16 pixels, two at a time.
pub(crate) struct Tiles<const PARTS: usize>;

impl<const PARTS: usize> Body for Tiles<PARTS> {
    type Args = ProductArgs;

    /// # Safety
    /// All operands must be valid for `count` tiles of `rows` rows, at most 16, and `step_count` steps, at
    /// least one. The CPU must have AMX-BF16, and the process its permission.
    #[inline(always)]
    unsafe fn run<S: Simd>(_: S, args: &ProductArgs) {
        let config = Config::new(args.rows);
        let mut args = *args;
        let pairs = args.count / 2;
        // SAFETY: the caller guarantees the operands of all tiles.
        unsafe {
            if pairs > 0 {
                let mut frame = frame::<PARTS>(&args, pairs);
                match PARTS {
                    3 => block!(pair, 3, config, frame, args),
                    2 => block!(pair, 2, config, frame, args),
                    _ => block!(pair, 1, config, frame, args),
                }
            }
            if args.count % 2 == 1 {
                args.tiles = args.tiles.wrapping_add(2 * pairs);
                args.sums = args.sums.wrapping_add(2 * pairs * args.rows * COLUMNS);
                args.hint = args.hint.wrapping_add(pairs * args.step_count * args.hint_lines * ROW_WORDS);
                let mut frame = frame::<PARTS>(&args, 1);
                match PARTS {
                    3 => block!(one, 3, config, frame, args),
                    2 => block!(one, 2, config, frame, args),
                    _ => block!(one, 1, config, frame, args),
                }
            }
        }
    }
}

/// The frame of `count` iterations.
#[inline(always)]
fn frame<const PARTS: usize>(args: &ProductArgs, count: usize) -> Frame {
    Frame {
        a: args.a.wrapping_add((PARTS - 1) * args.a_part),
        a_part: args.a_part * size_of::<f32>(),
        tiles: args.tiles,
        steps: args.steps,
        steps_end: args.steps.wrapping_add(args.step_count),
        b: args.b,
        hint_lines: args.hint_lines,
        first: usize::from(args.first),
        count,
        tile_bytes: args.rows * COLUMNS * size_of::<f32>(),
    }
}
