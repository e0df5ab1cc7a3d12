//! Executes tile instructions on the tiles of a thread.

use super::decode::{Instruction, Memory};
use super::{EXECUTED, fail};
use std::arch::asm;
use std::ptr;
use std::sync::atomic::Ordering;

const TILES: usize = 8;
const MAX_ROWS: usize = 16;
const ROW_BYTES: usize = 64;

/// The data of one tile. Bytes outside the configured rows and columns are zero.
#[repr(C, align(64))]
struct Tile([[u8; ROW_BYTES]; MAX_ROWS]);

/// The tile configuration and data of one thread.
pub(super) struct TileFile {
    configured: bool,
    rows: [usize; TILES],
    /// Bytes per row.
    colsb: [usize; TILES],
    tiles: [Tile; TILES],
}

impl TileFile {
    pub(super) const RELEASED: Self = TileFile {
        configured: false,
        rows: [0; TILES],
        colsb: [0; TILES],
        tiles: [const { Tile([[0; ROW_BYTES]; MAX_ROWS]) }; TILES],
    };

    /// # Safety
    ///
    /// Memory operands must be valid for what the instruction does with them, and
    /// the CPU must have AVX2 and FMA.
    pub(super) unsafe fn execute(&mut self, instruction: Instruction) {
        match instruction {
            Instruction::LoadConfig(Memory { start, stride }) => {
                // SAFETY: the caller vouches for the operand, here 64 bytes.
                let config = unsafe { *(start.wrapping_add(stride) as *const [u8; 64]) };
                self.configure(&config);
            }
            Instruction::Release => self.release(),
            Instruction::Zero(tile) => {
                self.check(tile);
                self.tiles[tile].0.as_flattened_mut().fill(0);
            }
            Instruction::Load(tile, memory) => {
                self.check(tile);
                let (rows, colsb) = (self.rows[tile], self.colsb[tile]);
                let mut address = memory.start;
                for row in &mut self.tiles[tile].0[..rows] {
                    // SAFETY: the caller vouches for the memory, and colsb is at
                    // most the size of a row. What lies beyond is zero already.
                    unsafe { ptr::copy(address as *const u8, row.as_mut_ptr(), colsb) };
                    address = address.wrapping_add(memory.stride);
                }
            }
            Instruction::Store(tile, memory) => {
                self.check(tile);
                let (rows, colsb) = (self.rows[tile], self.colsb[tile]);
                let mut address = memory.start;
                for row in &self.tiles[tile].0[..rows] {
                    // SAFETY: as for the load.
                    unsafe { ptr::copy(row.as_ptr(), address as *mut u8, colsb) };
                    address = address.wrapping_add(memory.stride);
                }
            }
            Instruction::DotBf16(dst, src1, src2) => {
                for tile in [dst, src1, src2] {
                    self.check(tile);
                }
                // SAFETY: the caller vouches for the CPU features.
                unsafe { self.dot_bf16(dst, src1, src2) };
                EXECUTED.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Fails unless the tile may be used.
    fn check(&self, tile: usize) {
        if !self.configured {
            fail("tile used without configuration");
        }
        if self.rows[tile] == 0 {
            fail("tile used that is not part of the configuration");
        }
    }

    fn release(&mut self) {
        self.configured = false;
        self.rows = [0; TILES];
        self.colsb = [0; TILES];
        for tile in &mut self.tiles {
            tile.0.as_flattened_mut().fill(0);
        }
    }

    /// LDTILECFG: palette, start_row, 14 reserved bytes, then colsb as 16 x u16
    /// and rows as 16 x u8, of which those for tiles 8 to 15 are reserved.
    fn configure(&mut self, config: &[u8; 64]) {
        self.release();
        match config[0] {
            0 => return,
            1 => {}
            _ => fail("LDTILECFG: unknown palette"),
        }
        if config[1] != 0 {
            fail("LDTILECFG: start_row is not supported");
        }
        let mut reserved = [&config[2..16], &config[32..48], &config[56..64]].into_iter().flatten();
        if reserved.any(|&byte| byte != 0) {
            fail("LDTILECFG: reserved bytes are not zero");
        }
        for tile in 0..TILES {
            let colsb = u16::from_le_bytes([config[16 + 2 * tile], config[17 + 2 * tile]]) as usize;
            let rows = config[48 + tile] as usize;
            if rows > MAX_ROWS {
                fail("LDTILECFG: more than 16 rows");
            }
            if colsb > ROW_BYTES || !colsb.is_multiple_of(4) {
                fail("LDTILECFG: colsb above 64 or not a multiple of 4");
            }
            if (rows == 0) != (colsb == 0) {
                fail("LDTILECFG: only one of rows and colsb is zero");
            }
            self.rows[tile] = rows;
            self.colsb[tile] = colsb;
        }
        self.configured = true;
    }

    /// TDPBF16PS. For each element of `dst`, one f32 sum of the products of even
    /// bf16 elements and one of odd ones; their sum is added to the element.
    ///
    /// # Safety
    ///
    /// The CPU must have AVX2 and FMA.
    unsafe fn dot_bf16(&mut self, dst: usize, src1: usize, src2: usize) {
        if dst == src1 || dst == src2 || src1 == src2 {
            fail("TDPBF16PS: the tiles are not distinct");
        }
        if self.rows[dst] != self.rows[src1]
            || self.colsb[src1] / 4 != self.rows[src2]
            || self.colsb[dst] != self.colsb[src2]
        {
            fail("TDPBF16PS: the tile dimensions do not match");
        }
        let (rows, pairs, colsb) = (self.rows[dst], self.colsb[src1] / 4, self.colsb[dst]);

        // All exceptions masked, round to nearest even, flush to zero, denormals
        // are zero. This cannot be Rust code: it must not run with such an MXCSR,
        // and would be slow without optimisation.
        let mxcsr = 0x9fc0_u32;
        let mut saved_mxcsr = 0_u32;
        // SAFETY: touches only the given tiles and variables. `rows` and `pairs`
        // are at least 1 and at most 16 as `check` and `configure` ensure. MXCSR
        // is restored, vector registers are declared, the stack is not used.
        unsafe {
            asm!(
                "stmxcsr [{saved_mxcsr}]",
                "ldmxcsr [{mxcsr}]",
                "vpcmpeqd ymm15, ymm15, ymm15", // mask for odd elements, the high
                "vpslld ymm15, ymm15, 16",      // half of each 32 bits
                "2:", // For each row of dst and src1.
                "vpxor xmm0, xmm0, xmm0", "vpxor xmm1, xmm1, xmm1", // even sums
                "vpxor xmm2, xmm2, xmm2", "vpxor xmm3, xmm3, xmm3", // odd sums
                "mov {b}, {src2}",
                "xor {k:e}, {k:e}",
                "3:", // For each pair k of the row, all 16 columns at once.
                "vpbroadcastd ymm5, dword ptr [{a} + 4*{k}]",
                "vpslld ymm4, ymm5, 16",                           // src1, even
                "vpand ymm5, ymm5, ymm15",                         // src1, odd
                "vmovdqa ymm8, [{b}]", "vmovdqa ymm9, [{b} + 32]",
                "vpslld ymm6, ymm8, 16", "vpslld ymm7, ymm9, 16",  // src2, even
                "vpand ymm8, ymm8, ymm15", "vpand ymm9, ymm9, ymm15", // src2, odd
                "vfmadd231ps ymm0, ymm4, ymm6", "vfmadd231ps ymm1, ymm4, ymm7",
                "vfmadd231ps ymm2, ymm5, ymm8", "vfmadd231ps ymm3, ymm5, ymm9",
                "add {b}, 64",
                "inc {k}",
                "cmp {k}, {pairs}",
                "jb 3b",
                "vaddps ymm0, ymm0, ymm2", "vaddps ymm1, ymm1, ymm3",
                "vmovaps ymm2, [{dst}]", "vmovaps ymm3, [{dst} + 32]",
                "vaddps ymm2, ymm2, ymm0", "vaddps ymm3, ymm3, ymm1",
                "vmovaps [{dst}], ymm2", "vmovaps [{dst} + 32], ymm3",
                "add {a}, 64",
                "add {dst}, 64",
                "dec {rows}",
                "jnz 2b",
                "vzeroupper",
                "ldmxcsr [{saved_mxcsr}]",
                saved_mxcsr = in(reg) &mut saved_mxcsr,
                mxcsr = in(reg) &mxcsr,
                dst = inout(reg) &mut self.tiles[dst] => _,
                a = inout(reg) &self.tiles[src1] => _,
                src2 = in(reg) &self.tiles[src2],
                rows = inout(reg) rows => _,
                pairs = in(reg) pairs,
                b = out(reg) _,
                k = out(reg) _,
                out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _,
                out("ymm5") _, out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _,
                // vzeroupper changes the others.
                out("ymm10") _, out("ymm11") _, out("ymm12") _, out("ymm13") _, out("ymm14") _,
                out("ymm15") _,
                options(nostack),
            );
        }
        // The loop computes all 16 columns, and those beyond the configured ones
        // need not be zero: infinity times zero is NaN.
        for row in &mut self.tiles[dst].0[..rows] {
            row[colsb..].fill(0);
        }
    }
}
