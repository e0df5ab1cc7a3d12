//! The machine code of every kernel: nothing is called inside a loop, and whole vectors are moved. A body that was not
//! inlined behind its boundary computes the same values, many times slower; only this test would notice.
#![cfg(all(target_arch = "x86_64", not(debug_assertions)))]

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Register};
use kernels::Isa;
use kernels::internal::KernelSet;

/// The instructions of the function at `start`: on to the last one that a branch inside can reach.
fn function(start: *const u8) -> Vec<Instruction> {
    // SAFETY: `start` is the first byte of a function of this program; the text after it is mapped for at least as
    // long as the function is, and decoding stops at its end. 64 KiB is a bound, not a claim: fewer bytes are read.
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

/// Calls that are no part of a loop over pixels: of `pool_planes`, which fills the margins of a strip with `memset` and
/// panics if an index into the strip's buffer is wrong (how many the compiler keeps varies a little); and of local response
/// normalisation, which clears its stage with `memset` once per tile and calls `powf` for an unusual exponent.
const COLD_CALLS: [(&str, usize); 3] = [("pool_planes", 20), ("lrn_columns", 7), ("lrn_rows", 3)];

fn check(isa: Isa, vector: impl Fn(Register) -> bool) {
    let Some(set) = KernelSet::get(isa) else { return };
    for (name, start) in set.ops_code() {
        let code = function(start);
        let is_call =
            |i: &Instruction| matches!(i.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        let calls = code.iter().filter(|i| is_call(i)).count();
        let whole = code.iter().filter(|i| vector(i.op0_register()) || vector(i.op1_register())).count();
        println!("{isa} {name}: {} instructions, {whole} with whole vectors, {calls} calls", code.len());
        let cold = COLD_CALLS.iter().find(|(cold, _)| *cold == name).map_or(0, |(_, count)| *count);
        assert!(calls <= cold, "{isa} {name}: {calls} calls, at most {cold} are cold");
        assert!(whole >= 8, "{isa} {name}: {whole} instructions with whole vectors");
    }
}

#[test]
fn avx512_kernels_are_whole() {
    check(Isa::Avx512F, Register::is_zmm);
}

#[test]
fn avx2_kernels_are_whole() {
    check(Isa::Avx2Fma, Register::is_ymm);
}
