//! Inspects the machine code of every entry of every kernel table. A lost `#[target_feature]` boundary
//! changes no value but costs most of the speed, so only the code itself shows it.
//!
//! The loop over K must contain every FMA of a step, in full-width registers, and must not move vectors to or
//! from the stack. No loop contains a call. A tile has one call, through a pointer, to the activations that
//! need an exponential.
#![cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(debug_assertions)))]

#[path = "common/machine_code.rs"]
mod machine_code;

use kernels::Isa;
use kernels::internal::{KernelCode, KernelSet, Loops};
use machine_code::{Flow, Instruction, function, innermost_loops};
use std::collections::BTreeMap;

/// Bytes per vector of each instruction set.
const VECTORS: [(Isa, usize); 5] =
    [(Isa::Avx512F, 64), (Isa::Avx512Bf16, 64), (Isa::Amx, 64), (Isa::Avx2Fma, 32), (Isa::Neon, 16)];

/// Minimum number of full-width vector instructions in a kernel without sums.
const LEAST_WHOLE: usize = 8;

/// Statistics of a table: entries, full-width FMAs in all of them, and loops over products.
#[derive(Default)]
struct Found {
    entries: usize,
    fmas: usize,
    loops: usize,
}

/// Returns everything that is wrong with a kernel, and adds its statistics to `found`.
fn faults(kernel: &KernelCode, vector: usize, found: &mut Found) -> Vec<String> {
    let code = function(kernel.start);
    let count = |flow| code.iter().filter(|i| i.flow == flow).count();
    let fmas = whole_fmas(&code, vector);
    found.entries += 1;
    found.fmas += fmas;
    let mut faults = Vec::new();
    let (calls, through_pointers) = (count(Flow::Call), count(Flow::IndirectCall));
    if calls > known_calls(kernel, through_pointers) {
        faults.push(format!(
            "{calls} calls and {through_pointers} through pointers: a body was not inlined behind its boundary"
        ));
    }
    // A tile has one epilogue; other kernels finish tiles of several sizes.
    if through_pointers > 1 && ["gemm", "direct"].iter().any(|tile| kernel.table.starts_with(tile)) {
        faults.push(format!("{through_pointers} calls through pointers"));
    }
    // On AArch64, the edges of large tiles of rows put up to 23 sums on the stack.
    if cfg!(target_arch = "x86_64")
        && ["gemm", "direct", "rows"].iter().any(|tile| kernel.table.starts_with(tile))
    {
        faults.extend(fault_of_end(&code, vector));
    }
    match kernel.loops {
        Loops::Vectors => {
            let whole = code.iter().filter(|i| i.vector == vector).count();
            if whole < LEAST_WHOLE {
                faults.push(format!("{whole} instructions with full-width vectors"));
            }
        }
        Loops::Tiles(expected) => {
            let products = code.iter().filter(|i| i.tiles).count();
            if products != expected {
                faults.push(format!("{products} products of tiles, expected {expected}"));
            }
        }
        Loops::Fmas if fmas == 0 => faults.push("no full-width FMA".into()),
        Loops::Fmas => {}
        Loops::Sums(sums) => {
            let mut steps = innermost_loops(&code);
            steps.retain(|body| whole_fmas(body, vector) >= sums);
            found.loops += steps.len();
            if steps.is_empty() {
                faults.push(format!("no loop has the {sums} full-width FMAs of a step ({fmas} in all)"));
            }
            let spills = known_spills(kernel);
            faults.extend(steps.iter().filter_map(|body| fault_of_step(body, vector, spills)));
        }
    }
    faults
}

/// Direct calls that do not indicate a lost boundary. There are none on x86-64. On AArch64, the compiler
/// calls `memcpy` to save and restore the sums of a large tile around each call of an activation. The output
/// transform of Winograd calls `memset` to clear a tile, and checks the index of the row it reads.
fn known_calls(kernel: &KernelCode, through_pointers: usize) -> usize {
    let output = kernel.table.starts_with("winograd") && kernel.entry.starts_with("output");
    if cfg!(target_arch = "aarch64") { 2 * through_pointers + if output { 2 } else { 0 } } else { 0 }
}

/// Known spills in loops. On NEON, the compiler orders the products of a permuted line of five taps by weight
/// instead of by position, so that all positions occupy registers at once. On AVX2, the kernel for any window of permuted
/// lanes moves two vectors.
fn known_spills(kernel: &KernelCode) -> usize {
    let known = [
        ("depthwise_f32_14x4_neon", "NHWC, permuted, 5 taps, stride 2", 20),
        ("depthwise_f32_7x8_avx2fma", "any window, permuted vectors of channels", 2),
    ];
    let of_kernel =
        known.into_iter().find(|&(table, entry, _)| (table, entry) == (kernel.table, kernel.entry.as_str()));
    of_kernel.map_or(0, |(_, _, spills)| spills)
}

fn whole_fmas(code: &[Instruction], vector: usize) -> usize {
    code.iter().filter(|i| i.fma && i.vector == vector).count()
}

/// The fault of a loop that sums products, if it has one.
fn fault_of_step(body: &[Instruction], vector: usize, known: usize) -> Option<String> {
    let spills = body.iter().filter(|i| moves_vector_on_stack(i, vector)).count();
    let calls = body.iter().filter(|i| i.is_call()).count();
    (spills > known || calls > 0).then(|| {
        let instructions = body.len();
        format!("a loop of {instructions} instructions has {spills} vectors on the stack and {calls} calls")
    })
}

/// The fault of the end of a tile, if it has one: sums that are stored on the stack although no function is called next. The
/// compiler does so if it needs their addresses anywhere in the tile.
fn fault_of_end(code: &[Instruction], vector: usize) -> Option<String> {
    const MANY: usize = 8;
    let is_flow = |i: &Instruction| i.flow != Flow::Next;
    let blocks =
        code.split_inclusive(is_flow).filter(|block| !block.last().is_some_and(Instruction::is_call));
    let stored = blocks.map(|block| {
        let mut vectors: Vec<bool> = Vec::new();
        vectors.extend(block.iter().filter(|i| i.vector == vector).map(|i| i.stack && i.to_memory));
        vectors.chunk_by(|a, b| a == b).filter(|run| run[0]).map(<[bool]>::len).max().unwrap_or(0)
    });
    let most = stored.max().unwrap_or(0);
    (most >= MANY).then(|| format!("{most} sums are stored on the stack without a call"))
}

fn moves_vector_on_stack(i: &Instruction, vector: usize) -> bool {
    i.stack && i.vector == vector
}

fn check(isa: Isa) {
    let Some(set) = KernelSet::get(isa) else { return };
    let (_, vector) = VECTORS.into_iter().find(|&(known, _)| known == isa).expect("its vectors have a size");
    let (mut tables, mut wrong) = (BTreeMap::<_, Found>::new(), Vec::new());
    // The kernels of other layers, their gradients and copies may call functions outside of loops; see
    // tests/ops/codegen.rs.
    let elsewhere = ["copies", "ops", "gradients"];
    for kernel in set.code().iter().filter(|kernel| !elsewhere.contains(&kernel.table)) {
        let found = tables.entry(kernel.table).or_default();
        for fault in faults(kernel, vector, found) {
            wrong.push(format!("{}, {}: {fault}", kernel.table, kernel.entry));
        }
    }
    for (table, Found { entries, fmas, loops }) in &tables {
        println!("{table}: {entries} entries, {fmas} full-width FMAs, {loops} loops over products");
        assert!(*entries > 0);
    }
    assert!(wrong.is_empty(), "{isa}:\n{}", wrong.join("\n"));
}

#[test]
fn avx512_tiles_are_whole() {
    check(Isa::Avx512F);
}

#[test]
fn dot_products_are_whole() {
    check(Isa::Avx512Bf16);
}

/// The code of the matrix tiles is read, not run, so a CPU without them can check it.
#[test]
#[cfg(target_arch = "x86_64")]
fn matrix_tiles_are_multiplied_as_planned() {
    kernels::internal::emulation::start();
    check(Isa::Amx);
}

#[test]
fn avx2_tiles_are_whole() {
    check(Isa::Avx2Fma);
}

#[test]
fn neon_tiles_are_whole() {
    check(Isa::Neon);
}

/// Checks that the tests above can fail. The portable tile, entered without a boundary, looks like a lost
/// boundary if the build's baseline does not have the instruction set.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_body_without_boundary_would_be_noticed() {
    let set = KernelSet::get(Isa::Portable).expect("always there");
    let code = set.code();
    let tile = code.iter().find(|kernel| matches!(kernel.loops, Loops::Sums(_))).expect("a tile");
    let faults = faults(tile, 32, &mut Found::default());
    assert!(
        faults.iter().any(|fault| fault.starts_with("no loop has")),
        "the build's baseline has FMA: this test needs another witness: {faults:?}"
    );
}

/// A kernel that needs more vectors than there are registers must be reported as using the stack.
#[test]
fn vectors_on_the_stack_would_be_noticed() {
    for (isa, vector) in VECTORS {
        let Some(set) = KernelSet::get(isa) else { continue };
        let transforms = set.code().into_iter().filter(|kernel| kernel.entry.starts_with("output of F(6x6"));
        for kernel in transforms {
            let moves = function(kernel.start).iter().filter(|i| moves_vector_on_stack(i, vector)).count();
            assert!(moves > 0, "{}, {}: 48 vectors in registers", kernel.table, kernel.entry);
        }
    }
}
