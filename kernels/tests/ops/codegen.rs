//! The machine code of every kernel must not call anything in a loop, and must use whole vectors. A body that
//! was not inlined into its `#[target_feature]` boundary computes the same values, but many times slower.
//! Only this test notices that.
#![cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(debug_assertions)))]

#[path = "../common/machine_code.rs"]
mod machine_code;

use kernels::Isa;
use kernels::internal::KernelSet;
use machine_code::{Instruction, function, innermost_loops};

/// Calls outside of loops over pixels. `pool_planes` clears the buffer of an average with `memset` once per
/// strip, and panics on a wrong index. Code that ends in a panic ends in a call, so calls of the next
/// function in memory are counted too, and their number varies. Local response normalisation clears its stage
/// with `memset` once per tile, and calls `powf` for unusual exponents. Gradients of planes clear their buffers with
/// `memset` once per strip.
const COLD_CALLS: [(&str, usize); 6] = [
    ("average_pool_gradient_planes", 1),
    ("max_pool_gradient_planes", 2),
    ("average_pool_planes", 20),
    ("max_pool_planes", 20),
    ("lrn_columns", if cfg!(target_arch = "aarch64") { 9 } else { 7 }),
    ("lrn_rows", 3),
];

fn check(isa: Isa, vector: usize) {
    let Some(set) = KernelSet::get(isa) else { return };
    let kernels: Vec<_> = set
        .code()
        .into_iter()
        .filter(|kernel| ["copies", "ops", "gradients"].contains(&kernel.table))
        .collect();
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
        // A NEON vector is a quarter of a block, so there is less to unroll.
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
