//! Decodes this program's own machine code, on x86-64 and AArch64.

use std::collections::{BTreeMap, BTreeSet};

/// The properties of an instruction that the tests need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Its address.
    pub at: u64,
    /// The address of the next instruction.
    pub next: u64,
    pub flow: Flow,
    /// Whether it is a fused multiply-add (or subtract) of `f32` lanes, or a dot product of bf16 lanes.
    pub fma: bool,
    /// Whether it is a product of matrix tiles of bf16 numbers.
    pub tiles: bool,
    /// Size in bytes of the largest vector register that it names; 0 if it names none.
    pub vector: usize,
    /// Whether it reads or writes memory relative to the stack pointer.
    pub stack: bool,
    /// Whether its first operand is memory: it is a store, if it is a move.
    pub to_memory: bool,
    /// Whether it does nothing, as what lies between two functions.
    pub padding: bool,
}

/// Where execution continues after an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// At the next instruction, or after it through a jump table (a `match`).
    Next,
    /// At `target` or the next instruction.
    Branch {
        target: u64,
    },
    /// At `target`.
    Jump {
        target: u64,
    },
    Call,
    /// A call through a pointer.
    IndirectCall,
    /// A return or a trap.
    End,
}

impl Instruction {
    /// The target of a backward branch or jump, which ends a loop.
    fn backward(&self) -> Option<u64> {
        match self.flow {
            Flow::Branch { target } | Flow::Jump { target } if target <= self.at => Some(target),
            _ => None,
        }
    }

    pub fn is_call(&self) -> bool {
        matches!(self.flow, Flow::Call | Flow::IndirectCall)
    }
}

/// The instructions of the function at `start`, up to the last one that a branch inside it can reach.
///
/// Cold code after the last return may end in a call that never returns, a panic. Padding follows it, or the next function,
/// which x86-64 aligns to 16 bytes.
pub fn function(start: *const u8) -> Vec<Instruction> {
    let mut decoder = decoder::Decoder::new(start);
    let (mut instructions, mut reach): (Vec<Instruction>, u64) = (Vec::new(), 0);
    let mut returned = false;
    loop {
        let instruction = decoder.decode();
        let next_function =
            instruction.padding || (cfg!(target_arch = "x86_64") && instruction.at.is_multiple_of(16));
        let after_call = instructions.last().is_some_and(Instruction::is_call) && instruction.at > reach;
        if returned && after_call && next_function {
            return instructions;
        }
        if let Flow::Branch { target } | Flow::Jump { target } = instruction.flow {
            reach = reach.max(target);
        }
        instructions.push(instruction);
        let ends = matches!(instruction.flow, Flow::Jump { .. } | Flow::End);
        returned |= ends;
        if ends && instruction.next > reach {
            return instructions;
        }
    }
}

/// The bodies of the innermost loops, in the order of addresses.
pub fn innermost_loops(code: &[Instruction]) -> Vec<Vec<Instruction>> {
    let loops = natural_loops(code);
    let ends =
        |header: usize| loops.iter().filter(move |other| other.header != header).map(|other| other.end);
    let innermost = loops.iter().filter(|outer| ends(outer.header).all(|end| !outer.body.contains(&end)));
    innermost.map(|inner| inner.body.iter().map(|&i| code[i]).collect()).collect()
}

/// A loop: its first instruction, the instruction that jumps back to it, and the body.
struct Loop {
    header: usize,
    end: usize,
    body: BTreeSet<usize>,
}

/// For each way back to an instruction, the instructions that lead there without passing it. A backward jump can be a way
/// back, and so can a step to the next instruction, because a loop can be entered in the middle of its code. If the start
/// of the function is among the instructions, there is no loop: the jump returns from code that was moved out of line.
fn natural_loops(code: &[Instruction]) -> Vec<Loop> {
    let at: BTreeMap<u64, usize> =
        code.iter().enumerate().map(|(i, instruction)| (instruction.at, i)).collect();
    let mut before = vec![Vec::new(); code.len()];
    let mut backs = Vec::new();
    for (i, instruction) in code.iter().enumerate() {
        let (next, target) = match instruction.flow {
            Flow::Next | Flow::Call | Flow::IndirectCall => (Some(i + 1), None),
            Flow::Branch { target } => (Some(i + 1), at.get(&target).copied()),
            Flow::Jump { target } => (None, at.get(&target).copied()),
            Flow::End => (None, None),
        };
        next.into_iter().chain(target).filter(|&to| to < code.len()).for_each(|to| before[to].push(i));
        backs.extend(instruction.backward().and_then(|to| Some((*at.get(&to)?, i))));
    }
    for (header, from) in before.iter().enumerate().filter(|(header, from)| *header > 0 && from.len() > 1) {
        backs.extend(from.contains(&(header - 1)).then_some((header, header - 1)));
    }
    let loops = backs.into_iter().map(|(header, end)| {
        let (mut body, mut left, mut is_closed) = (BTreeSet::from([header]), vec![end], header == end);
        while let Some(i) = left.pop() {
            if body.insert(i) {
                is_closed |= before[i].contains(&header);
                left.extend(&before[i]);
            }
            // From the start, every instruction leads here: there is nothing more to learn.
            if header != 0 && i == 0 {
                break;
            }
        }
        (Loop { header, end, body }, is_closed)
    });
    let is_loop = |found: &Loop| found.header == 0 || !found.body.contains(&0);
    loops.filter(|(found, is_closed)| *is_closed && is_loop(found)).map(|(found, _)| found).collect()
}

#[cfg(target_arch = "x86_64")]
mod decoder {
    use super::{Flow, Instruction};
    use iced_x86::{DecoderOptions, FlowControl, Mnemonic, OpKind, Register};

    pub struct Decoder(iced_x86::Decoder<'static>);

    impl Decoder {
        pub fn new(start: *const u8) -> Self {
            // SAFETY: `start` is the first byte of a function of this program; the text after it is mapped for at least as
            // long as the function is, and decoding stops at its end. 64 KiB is a bound, not a claim: fewer are read.
            let code = unsafe { std::slice::from_raw_parts(start, 1 << 16) };
            Self(iced_x86::Decoder::with_ip(64, code, start as u64, DecoderOptions::NONE))
        }

        pub fn decode(&mut self) -> Instruction {
            let i = self.0.decode();
            assert!(!i.is_invalid(), "not code at {:#x}", i.ip());
            let target = i.near_branch_target();
            let memory = (0..i.op_count()).any(|o| i.op_kind(o) == OpKind::Memory);
            let registers = (0..i.op_count()).filter(|&o| i.op_kind(o) == OpKind::Register);
            Instruction {
                at: i.ip(),
                next: i.next_ip(),
                flow: match i.flow_control() {
                    FlowControl::Next | FlowControl::IndirectBranch => Flow::Next,
                    FlowControl::Interrupt | FlowControl::XbeginXabortXend => Flow::Next,
                    FlowControl::ConditionalBranch => Flow::Branch { target },
                    FlowControl::UnconditionalBranch => Flow::Jump { target },
                    FlowControl::Call => Flow::Call,
                    FlowControl::IndirectCall => Flow::IndirectCall,
                    FlowControl::Return | FlowControl::Exception => Flow::End,
                },
                fma: is_fma(i.mnemonic()),
                tiles: i.mnemonic() == Mnemonic::Tdpbf16ps,
                vector: registers.map(|o| bytes(i.op_register(o))).max().unwrap_or(0),
                stack: memory && i.memory_base() == Register::RSP,
                to_memory: i.op_count() > 0 && i.op0_kind() == OpKind::Memory,
                padding: matches!(i.mnemonic(), Mnemonic::Nop | Mnemonic::Int3),
            }
        }
    }

    fn is_fma(mnemonic: Mnemonic) -> bool {
        use Mnemonic::*;
        let added = matches!(mnemonic, Vfmadd132ps | Vfmadd213ps | Vfmadd231ps | Vdpbf16ps);
        added || matches!(mnemonic, Vfnmadd132ps | Vfnmadd213ps | Vfnmadd231ps)
    }

    fn bytes(register: Register) -> usize {
        if register.is_vector_register() { register.size() } else { 0 }
    }
}

/// Every instruction has 32 bits, and the relevant ones each match a pattern (Arm Architecture Reference
/// Manual for A-profile, DDI 0487, chapter C4.1, "A64 instruction set encoding").
#[cfg(target_arch = "aarch64")]
mod decoder {
    use super::{Flow, Instruction};

    pub struct Decoder(*const u32);

    impl Decoder {
        pub fn new(start: *const u8) -> Self {
            Self(start.cast())
        }

        pub fn decode(&mut self) -> Instruction {
            // SAFETY: the next instruction of a function of this program that has not ended yet.
            let word = unsafe { self.0.read() };
            let at = self.0 as u64;
            self.0 = self.0.wrapping_add(1);
            let vector = vector_bytes(word);
            Instruction {
                at,
                next: at + 4,
                flow: flow(word, at),
                fma: is_fma(word),
                tiles: false,
                vector,
                stack: on_stack(word),
                to_memory: is(word, 1 << 22, 0),
                padding: word == 0xD503_201F,
            }
        }
    }

    /// Whether the bits of `mask` equal `pattern`.
    fn is(word: u32, mask: u32, pattern: u32) -> bool {
        word & mask == pattern
    }

    /// `at` plus four times the signed number in `bits` bits of `word` from bit `lowest` on.
    fn relative(word: u32, at: u64, lowest: u32, bits: u32) -> u64 {
        let offset = (word << (32 - lowest - bits)) as i32 >> (32 - bits);
        at.wrapping_add_signed(4 * i64::from(offset))
    }

    fn flow(word: u32, at: u64) -> Flow {
        match word {
            // B.cond and BC.cond; CBZ and CBNZ; TBZ and TBNZ.
            _ if is(word, 0xFF00_0000, 0x5400_0000) => Flow::Branch { target: relative(word, at, 5, 19) },
            _ if is(word, 0x7E00_0000, 0x3400_0000) => Flow::Branch { target: relative(word, at, 5, 19) },
            _ if is(word, 0x7E00_0000, 0x3600_0000) => Flow::Branch { target: relative(word, at, 5, 14) },
            // B, BL, BLR.
            _ if is(word, 0xFC00_0000, 0x1400_0000) => Flow::Jump { target: relative(word, at, 0, 26) },
            _ if is(word, 0xFC00_0000, 0x9400_0000) => Flow::Call,
            _ if is(word, 0xFFFF_FC1F, 0xD63F_0000) => Flow::IndirectCall,
            // RET, BRK, UDF. BR goes through a table.
            _ if is(word, 0xFFFF_FC1F, 0xD65F_0000) => Flow::End,
            _ if is(word, 0xFFE0_001F, 0xD420_0000) || is(word, 0xFFFF_0000, 0) => Flow::End,
            _ => Flow::Next,
        }
    }

    /// FMLA and FMLS of four `f32` lanes: by vector, and by element.
    fn is_fma(word: u32) -> bool {
        is(word, 0xFF60_FC00, 0x4E20_CC00) || is(word, 0xFFC0_B400, 0x4F80_1000)
    }

    /// LDR and STR of 16 bytes in all their addressing modes; LDP and STP of them; LD1 to LD4 and ST1 to ST4 of whole
    /// registers.
    fn moves_whole_vectors(word: u32) -> bool {
        let one = is(word, 0xFE80_0000, 0x3C80_0000);
        let pair = is(word, 0xFE00_0000, 0xAC00_0000);
        one || pair || is(word, 0xFF20_0000, 0x4C00_0000)
    }

    /// Moves of whole vectors, and Advanced SIMD arithmetic with the bit for whole registers.
    fn vector_bytes(word: u32) -> usize {
        if moves_whole_vectors(word) || is(word, 0xDE00_0000, 0x4E00_0000) { 16 } else { 0 }
    }

    /// A move of whole vectors whose base register (bits 5 to 9) is 31, the stack pointer.
    fn on_stack(word: u32) -> bool {
        moves_whole_vectors(word) && (word >> 5) & 31 == 31
    }

    /// Instruction words as `aarch64-linux-gnu-objdump` prints them.
    #[test]
    fn patterns_match_what_they_are_for() {
        // fmla v0.4s, v1.4s, v2.4s; fmls v0.4s, v1.4s, v2.4s; fmla v0.4s, v1.4s, v2.s[3]; fmls v0.4s, v1.4s, v18.s[1]
        for word in [0x4E22_CC20, 0x4EA2_CC20, 0x4FA2_1820, 0x4FB2_5020] {
            assert!(is_fma(word) && vector_bytes(word) == 16, "{word:#x}");
        }
        // fmla v0.2s, v1.2s, v2.2s; fmla v0.2d, v1.2d, v2.2d; fmul v0.4s, v1.4s, v2.4s; fmadd s0, s1, s2, s3
        for word in [0x0E22_CC20, 0x4E62_CC20, 0x6E22_DC20, 0x1F02_0C20] {
            assert!(!is_fma(word), "{word:#x}");
        }
        // ldr q0, [sp, #16]; str q1, [sp]; ldp q0, q1, [sp, #32]; stp q0, q1, [sp, #-32]!; ldur q0, [sp, #1]
        for word in [0x3DC0_07E0, 0x3D80_03E1, 0xAD41_07E0, 0xADBF_07E0, 0x3CC0_13E0] {
            assert!(on_stack(word) && vector_bytes(word) == 16, "{word:#x}");
        }
        // ldr q0, [x0]; ldr d0, [sp]; ldr x0, [sp]; add sp, sp, #16
        for word in [0x3DC0_0000, 0xFD40_03E0, 0xF940_03E0, 0x9100_43FF] {
            assert!(!on_stack(word), "{word:#x}");
        }
        // b.ne .-8; cbz x0, .+8; tbnz w0, #3, .-4; b .-16; bl .+4; blr x3; ret; brk #1; br x1
        let at = 0x1000;
        assert_eq!(flow(0x54FF_FFC1, at), Flow::Branch { target: at - 8 });
        assert_eq!(flow(0xB400_0040, at), Flow::Branch { target: at + 8 });
        assert_eq!(flow(0x371F_FFE0, at), Flow::Branch { target: at - 4 });
        assert_eq!(flow(0x17FF_FFFC, at), Flow::Jump { target: at - 16 });
        assert_eq!(flow(0x9400_0001, at), Flow::Call);
        assert_eq!(flow(0xD63F_0060, at), Flow::IndirectCall);
        assert_eq!([0xD65F_03C0, 0xD420_0020].map(|word| flow(word, at)), [Flow::End; 2]);
        assert_eq!(flow(0xD61F_0020, at), Flow::Next);
    }
}
