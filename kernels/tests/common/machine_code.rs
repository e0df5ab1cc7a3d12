//! Reading this program's own machine code.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};

/// The instructions of the function at `start`: on to the last one that a branch inside can reach.
pub fn function(start: *const u8) -> Vec<Instruction> {
    // SAFETY: `start` is the first byte of a function of this program; the text after it is mapped for at least as long
    // as the function is, and decoding stops at its end. 64 KiB is a bound, not a claim: fewer bytes are read.
    let code = unsafe { std::slice::from_raw_parts(start, 1 << 16) };
    let mut decoder = Decoder::with_ip(64, code, start as u64, DecoderOptions::NONE);
    let (mut instructions, mut reach) = (Vec::new(), 0);
    loop {
        let instruction = decoder.decode();
        assert!(!instruction.is_invalid(), "not code at {:#x}", instruction.ip());
        let flow = instruction.flow_control();
        if matches!(flow, FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch) {
            reach = reach.max(instruction.near_branch_target());
        }
        instructions.push(instruction);
        let ends =
            matches!(flow, FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::Exception);
        if ends && instruction.next_ip() > reach {
            return instructions;
        }
    }
}
