//! The loops of bf16 products: dot products in vector registers, and products of matrix tiles.

use super::Work;
use kernels::Isa;

/// The products of bf16 numbers that `isa` has instructions for, if this machine has that instruction set.
pub(super) fn products(isa: Isa) -> Option<Work> {
    // This also asks the operating system for the permission to use tiles.
    if !Isa::available().any(|available| available == isa) {
        return None;
    }
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this CPU has the instruction set.
        Isa::Avx512Bf16 => Some(Work { flops: x86::DOT_FLOPS, call: || unsafe { x86::dots() } }),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this CPU has the instruction set, and the process its permission.
        Isa::Amx => Some(Work { flops: x86::TILE_FLOPS, call: || unsafe { x86::tiles() } }),
        _ => None,
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use crate::peak::{CHAINS, STEPS};
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Two products and two sums in each of 16 lanes.
    pub(super) const DOT_FLOPS: f64 = (64 * CHAINS * STEPS) as f64;
    /// Iterations of four products of tiles. One takes about 64 cycles, so a call some 10 microseconds.
    const TILE_STEPS: usize = 500;
    /// 16 by 16 sums of 32 products.
    pub(super) const TILE_FLOPS: f64 = (2 * 16 * 16 * 32 * 4 * TILE_STEPS) as f64;

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn dots() {
        let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        let (x, y) = (_mm512_cvtne2ps_pbh(a, b), _mm512_cvtne2ps_pbh(b, a));
        let mut acc = [b; CHAINS];
        for _ in 0..STEPS {
            for acc in &mut acc {
                *acc = _mm512_dpbf16_ps(*acc, x, y);
            }
        }
        black_box(acc);
    }

    /// The operand of `ldtilecfg`.
    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    /// Six whole tiles: four of sums, and one for each operand.
    const WHOLE: Config = {
        let (mut row_bytes, mut rows, mut tile) = ([0; 16], [0; 16], 0);
        while tile < 6 {
            (row_bytes[tile], rows[tile]) = (64, 16);
            tile += 1;
        }
        Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    };

    /// A tile of bf16 numbers.
    #[repr(C, align(64))]
    struct Tile([u16; 512]);

    /// Stable Rust has no intrinsics for tiles, and promises nothing about them between two blocks of assembly.
    ///
    /// # Safety
    /// The CPU must have AMX-BF16, and the process its permission.
    pub(super) unsafe fn tiles() {
        // 1.0, which is 0x3f80, and a little less. Multiplying zeros would cost less power.
        let operand = black_box(Tile(std::array::from_fn(|index| 0x3f80 - (index % 16) as u16)));
        // SAFETY: the block reads the configuration and one tile of 16 rows of 64 bytes. It leaves no tile in use.
        unsafe {
            asm!(
                "ldtilecfg [{config}]",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "tileloadd tmm4, [{operand} + {row}*1]",
                "tileloadd tmm5, [{operand} + {row}*1]",
                "2:",
                "tdpbf16ps tmm0, tmm4, tmm5",
                "tdpbf16ps tmm1, tmm4, tmm5",
                "tdpbf16ps tmm2, tmm4, tmm5",
                "tdpbf16ps tmm3, tmm4, tmm5",
                "dec {steps}",
                "jnz 2b",
                "tilerelease",
                config = in(reg) &WHOLE,
                operand = in(reg) &operand,
                row = in(reg) 64usize,
                steps = inout(reg) TILE_STEPS => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _,
                options(nostack, readonly),
            );
        }
    }
}
