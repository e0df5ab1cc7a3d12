//! Decodes tile instructions.

use std::ffi::c_int;

/// The general registers of the interrupted code, as in `ucontext_t`.
pub(super) type Registers = [libc::greg_t; 23];

/// Where to find the registers in [`Registers`], by their number in the encoding.
#[rustfmt::skip]
pub(super) const REGISTER_SLOTS: [c_int; 16] = [
    libc::REG_RAX, libc::REG_RCX, libc::REG_RDX, libc::REG_RBX,
    libc::REG_RSP, libc::REG_RBP, libc::REG_RSI, libc::REG_RDI,
    libc::REG_R8, libc::REG_R9, libc::REG_R10, libc::REG_R11,
    libc::REG_R12, libc::REG_R13, libc::REG_R14, libc::REG_R15,
];

/// The mandatory prefix, as encoded in the `pp` field of a VEX prefix.
const PREFIX_NONE: u8 = 0;
const PREFIX_66: u8 = 1;
const PREFIX_F3: u8 = 2;
const PREFIX_F2: u8 = 3;

/// A memory operand with its registers already looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// Base plus displacement.
    pub(super) start: u64,
    /// Index times scale: the distance between rows for tile loads and stores.
    pub(super) stride: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    LoadConfig(Memory),
    Release,
    Zero(usize),
    Load(usize, Memory),
    Store(usize, Memory),
    /// TDPBF16PS dst, src1, src2.
    DotBf16(usize, usize, usize),
}

/// Decodes the instruction at RIP and returns it with the address of the next
/// one, or `None` if it is not one that this emulator implements.
///
/// # Safety
///
/// RIP must point to a complete instruction. Bytes are read one by one as the
/// encoding demands them, so that nothing behind the instruction is touched.
pub(super) unsafe fn decode(registers: &Registers) -> Option<(Instruction, u64)> {
    let mut rip = registers[libc::REG_RIP as usize] as u64;
    let mut byte = || {
        // SAFETY: the encoding so far says that the instruction has this byte.
        let byte = unsafe { *(rip as *const u8) };
        rip += 1;
        byte
    };

    // Three-byte VEX prefix: C4, ~R ~X ~B mmmmm, W ~vvvv L pp. The tile
    // instructions are in opcode map 2 (0F 38) and have W = L = 0. R would
    // extend ModRM.reg, but there are only eight tiles.
    if byte() != 0xc4 {
        return None;
    }
    let vex = byte();
    if vex & 0x1f != 2 || vex & 0x80 == 0 {
        return None;
    }
    let extend_index = (!vex >> 6 & 1) << 3;
    let extend_base = (!vex >> 5 & 1) << 3;
    let vex = byte();
    if vex & 0x84 != 0 {
        return None;
    }
    let (vvvv, prefix) = (!vex >> 3 & 15, vex & 3);
    let opcode = byte();
    let modrm = byte();
    let (mode, reg, rm) = (modrm >> 6, (modrm >> 3 & 7) as usize, modrm & 7);

    // Register forms.
    if mode == 3 {
        if extend_base != 0 {
            return None;
        }
        let instruction = match (opcode, prefix, vvvv) {
            (0x49, PREFIX_NONE, 0) if modrm == 0xc0 => Instruction::Release,
            (0x49, PREFIX_F2, 0) if rm == 0 => Instruction::Zero(reg),
            (0x5c, PREFIX_F3, 0..8) => Instruction::DotBf16(reg, rm as usize, vvvv as usize),
            _ => return None,
        };
        return Some((instruction, rip));
    }

    // Memory forms; tile loads and stores demand a SIB byte.
    let has_sib = rm == 4;
    let make: fn(usize, Memory) -> Instruction = match (opcode, prefix, vvvv) {
        (0x49, PREFIX_NONE, 0) if reg == 0 => |_, memory| Instruction::LoadConfig(memory),
        (0x4b, PREFIX_F2 | PREFIX_66, 0) if has_sib => Instruction::Load,
        (0x4b, PREFIX_F3, 0) if has_sib => Instruction::Store,
        _ => return None,
    };
    let register = |number: u8| registers[REGISTER_SLOTS[number as usize] as usize] as u64;
    let mut base = rm;
    let mut stride = 0;
    if has_sib {
        let sib = byte();
        base = sib & 7;
        // Index 4 means none; with the extension bit it is r12, a valid index.
        let index = extend_index | (sib >> 3 & 7);
        if index != 4 {
            stride = register(index) << (sib >> 6);
        }
    }
    // Base 5 (rbp, also r13) in mode 0 means a displacement without base register
    // and, without SIB byte, relative to the next instruction.
    let no_base = mode == 0 && base == 5;
    let displacement = match mode {
        0 if !no_base => 0,
        1 => i64::from(byte() as i8),
        _ => i64::from(i32::from_le_bytes([byte(), byte(), byte(), byte()])),
    };
    let base = match (no_base, has_sib) {
        (false, _) => register(extend_base | base),
        (true, true) => 0,
        (true, false) => rip,
    };
    let start = base.wrapping_add_signed(displacement);
    Some((make(reg, Memory { start, stride }), rip))
}
