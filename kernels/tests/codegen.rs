//! The machine code of every tile: a lost `#[target_feature]` boundary changes no value, only all of the speed, so
//! the code itself is read. In a whole tile every FMA of a step is there, in full-width registers, nothing is called
//! but (through a pointer) the activations that need an exponential, and the loop over K keeps its accumulators in
//! registers.
#![cfg(all(target_arch = "x86_64", not(debug_assertions)))]

#[path = "common/machine_code.rs"]
mod machine_code;

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};
use kernels::Isa;
use kernels::internal::KernelSet;
use machine_code::function;

fn is_fma(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Vfmadd132ps | Mnemonic::Vfmadd213ps | Mnemonic::Vfmadd231ps)
}

fn is_negated_fma(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Vfnmadd132ps | Mnemonic::Vfnmadd213ps | Mnemonic::Vfnmadd231ps)
}

fn touches_stack(instruction: &Instruction) -> bool {
    let memory = (0..instruction.op_count()).any(|i| instruction.op_kind(i) == OpKind::Memory);
    memory && instruction.memory_base() == Register::RSP
}

/// The bodies of loops without a loop in them.
fn innermost_loops(code: &[Instruction]) -> Vec<&[Instruction]> {
    let backward = |i: &Instruction| {
        matches!(i.flow_control(), FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch)
            && i.near_branch_target() <= i.ip()
    };
    let mut loops = Vec::new();
    for (end, jump) in code.iter().enumerate().filter(|(_, i)| backward(i)) {
        let Some(begin) = code.iter().position(|i| i.ip() == jump.near_branch_target()) else { continue };
        let body = &code[begin..=end];
        if !body[..body.len() - 1].iter().any(backward) {
            loops.push(body);
        }
    }
    loops
}

/// A tile's machine code: where it is, what it is called, and the sums that it keeps in registers.
struct Code {
    name: String,
    start: *const u8,
    accumulators: usize,
}

/// The register tiles of a set, in their widest form.
fn tiles(set: &KernelSet) -> Vec<Code> {
    let mut tiles = Vec::new();
    for tile in set.gemm_tiles() {
        for (start, rows) in tile.code().into_iter().zip(["packed rows", "strided rows"]) {
            let name = format!("{}, {rows}", tile.name());
            tiles.push(Code { name, start, accumulators: tile.accumulators() });
        }
    }
    let direct = set.direct_tile();
    for (start, pixels) in direct.code().into_iter().zip(["image", "packed rows"]) {
        let name = format!("{}, {pixels}", direct.name());
        tiles.push(Code { name, start, accumulators: direct.accumulators() });
    }
    let winograd = set.winograd();
    let (start, accumulators) = winograd.product_code();
    tiles.push(Code { name: format!("{}, product", winograd.name()), start, accumulators });
    tiles
}

/// Every body of a transform is behind its boundary: all that may be called are activations, through their pointer.
fn check_transforms(set: &KernelSet) {
    for (name, start) in set.winograd().transforms_code() {
        let code = function(start);
        let calls = code.iter().filter(|i| i.flow_control() == FlowControl::Call).count();
        assert_eq!(calls, 0, "{name}: a body was not inlined behind its boundary");
        assert!(code.iter().any(is_fma), "{name}: no FMA");
    }
}

fn check(set: &KernelSet, vector: impl Fn(Register) -> bool) {
    for Code { name, start, accumulators } in tiles(set) {
        let code = function(start);
        // The one call there may be goes through the pointer to the activations that are not done on registers.
        let count = |flow| code.iter().filter(|i| i.flow_control() == flow).count();
        assert_eq!(count(FlowControl::Call), 0, "{name}: a body was not inlined behind its boundary");
        assert!(count(FlowControl::IndirectCall) <= 1, "{name}: calls through pointers");
        let whole = |i: &&Instruction| is_fma(i) && vector(i.op0_register());
        let fmas = code.iter().filter(whole).count();
        assert!(fmas >= accumulators, "{name}: {fmas} full-width FMAs, a step of K needs {accumulators}");
        // The loop over K: all accumulators at least once, none of them moved to or from the stack.
        let steps: Vec<_> = innermost_loops(&code)
            .into_iter()
            .filter(|body| body.iter().filter(whole).count() >= accumulators)
            .collect();
        assert!(!steps.is_empty(), "{name}: no loop has the {accumulators} FMAs of a step");
        for body in steps {
            let spills = body.iter().filter(|i| touches_stack(i) && vector(i.op0_register())).count();
            assert_eq!(spills, 0, "{name}: the loop over K reloads vectors from the stack");
        }
    }
}

/// The loops over the lines of a window: all products of a line, and no vector of them moves to or from the stack.
fn check_depthwise(set: &KernelSet, vector: impl Fn(Register) -> bool) {
    for (name, products, start) in set.depthwise().code() {
        let code = function(start);
        let calls = code.iter().filter(|i| i.flow_control() == FlowControl::Call).count();
        assert_eq!(calls, 0, "{name}: a body was not inlined behind its boundary");
        let fmas =
            |body: &[Instruction]| body.iter().filter(|i| is_fma(i) && vector(i.op0_register())).count();
        let lines: Vec<_> =
            innermost_loops(&code).into_iter().filter(|body| fmas(body) >= products).collect();
        assert!(!lines.is_empty(), "{name}: no loop has the {products} FMAs of a line of taps");
        for body in lines {
            let moves_vector = |i: &&Instruction| {
                let registers = (0..i.op_count()).filter(|&o| i.op_kind(o) == OpKind::Register);
                touches_stack(i) && registers.into_iter().any(|o| vector(i.op_register(o)))
            };
            let spills = body.iter().filter(moves_vector).count();
            assert_eq!(spills, 0, "{name}: the loop over lines moves vectors to or from the stack");
        }
    }
}

/// Transforms and products of spectra: full-width vectors, nothing is called, and no vector of the loop over channels moves to
/// or from the stack.
fn check_fft(set: &KernelSet, vector: impl Fn(Register) -> bool) {
    for (name, products, start) in set.fft().code() {
        let code = function(start);
        let calls = code.iter().filter(|i| i.flow_control() == FlowControl::Call).count();
        assert_eq!(calls, 0, "{name}: a body was not inlined behind its boundary");
        let full = code.iter().filter(|i| vector(i.op0_register())).count();
        assert!(full > 0, "{name}: no full-width vectors");
        if products == 0 {
            continue;
        }
        let fmas = |body: &[Instruction]| {
            body.iter().filter(|i| (is_fma(i) || is_negated_fma(i)) && vector(i.op0_register())).count()
        };
        let steps: Vec<_> =
            innermost_loops(&code).into_iter().filter(|body| fmas(body) >= products).collect();
        assert!(!steps.is_empty(), "{name}: no loop has the {products} FMAs of a channel");
        for body in steps {
            let spills = body.iter().filter(|i| touches_stack(i) && vector(i.op0_register())).count();
            assert_eq!(spills, 0, "{name}: the loop over channels reloads vectors from the stack");
        }
    }
}

#[test]
fn avx512_tiles_are_whole() {
    let Some(set) = KernelSet::get(Isa::Avx512F) else { return };
    check(set, Register::is_zmm);
    check_depthwise(set, Register::is_zmm);
    check_transforms(set);
    check_fft(set, Register::is_zmm);
}

#[test]
fn avx2_tiles_are_whole() {
    let Some(set) = KernelSet::get(Isa::Avx2Fma) else { return };
    check(set, Register::is_ymm);
    check_depthwise(set, Register::is_ymm);
    check_transforms(set);
    check_fft(set, Register::is_ymm);
}

/// The test above can fail: the portable tile, entered without a boundary, is exactly what a lost one looks like.
#[test]
fn a_body_without_boundary_would_be_noticed() {
    let set = KernelSet::get(Isa::Portable).expect("always there");
    let code = function(set.gemm_tiles()[0].code()[0]);
    let whole = |i: &&Instruction| is_fma(i) && (i.op0_register().is_zmm() || i.op0_register().is_ymm());
    assert_eq!(
        code.iter().filter(whole).count(),
        0,
        "the build's baseline has FMA: this test needs another witness"
    );
}
