//! The machine code of every kernel: nothing is called inside a loop, and whole vectors are moved. A body that was not
//! inlined behind its boundary computes the same values, many times slower; only this test would notice.
#![cfg(all(target_arch = "x86_64", not(debug_assertions)))]

#[path = "../common/machine_code.rs"]
mod machine_code;

use iced_x86::{FlowControl, Instruction, Register};
use kernels::Isa;
use kernels::internal::KernelSet;
use machine_code::function;

/// Calls that are no part of a loop over pixels: of `pool_planes`, which clears the buffer of an average with `memset` once
/// per strip and panics if an index into it is wrong (what ends in a panic ends in a call, so calls of the function that is
/// next in memory are counted too, and how many those are varies); and of local response normalisation, which clears its
/// stage with `memset` once per tile and calls `powf` for an unusual exponent.
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
