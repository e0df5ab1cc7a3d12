//! The machine code of every kernel: nothing is called inside a loop, and whole vectors are moved. A body that was not
//! inlined behind its boundary computes the same values, many times slower; only this test would notice.
#![cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(debug_assertions)))]

#[path = "../common/machine_code.rs"]
mod machine_code;

use kernels::Isa;
use kernels::internal::KernelSet;
use machine_code::{Instruction, function, innermost_loops};

/// Calls that are no part of a loop over pixels: of `pool_planes`, which clears the buffer of an average with `memset` once
/// per strip and panics if an index into it is wrong (what ends in a panic ends in a call, so calls of the function that is
/// next in memory are counted too, and how many those are varies); and of local response normalisation, which clears its
/// stage with `memset` once per tile and calls `powf` for an unusual exponent.
const COLD_CALLS: [(&str, usize); 4] = [
    ("average_pool_planes", 20),
    ("max_pool_planes", 20),
    ("lrn_columns", if cfg!(target_arch = "aarch64") { 9 } else { 7 }),
    ("lrn_rows", 3),
];

fn check(isa: Isa, vector: usize) {
    let Some(set) = KernelSet::get(isa) else { return };
    let kernels: Vec<_> = set.code().into_iter().filter(|kernel| kernel.table == "ops").collect();
    println!("{isa}: {} entries", kernels.len());
    assert!(!kernels.is_empty());
    for kernel in kernels {
        let (name, code) = (kernel.entry, function(kernel.start));
        let calls = code.iter().filter(|i| i.is_call()).count();
        let whole = code.iter().filter(|i| i.vector == vector).count();
        let loops = innermost_loops(&code);
        let in_loops = loops.iter().filter(|body| body.iter().any(Instruction::is_call)).count();
        println!(
            "{isa} {name}: {} instructions, {whole} with whole vectors, {calls} calls; {} loops, {in_loops} with calls",
            code.len(),
            loops.len()
        );
        let cold = COLD_CALLS.iter().find(|(cold, _)| *cold == name).map_or(0, |(_, count)| *count);
        assert!(calls <= cold, "{isa} {name}: {calls} calls, at most {cold} are cold");
        // A vector of NEON is a quarter of a block, so there is less to unroll.
        let least = if vector == 16 { 4 } else { 8 };
        assert!(whole >= least, "{isa} {name}: {whole} instructions with whole vectors");
    }
}

#[test]
fn avx512_kernels_are_whole() {
    check(Isa::Avx512F, 64);
}

#[test]
fn avx2_kernels_are_whole() {
    check(Isa::Avx2Fma, 32);
}

#[test]
fn neon_kernels_are_whole() {
    check(Isa::Neon, 16);
}
