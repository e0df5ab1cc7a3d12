//! The two loops that need intrinsics: FMAs in registers, and reads of whole vectors.

use super::{CHAINS, STEPS, Work};
use kernels::Isa;

/// The FMAs of the `f32` kernels of `isa`, if this machine has that instruction set.
pub(super) fn fma_chains(isa: Isa) -> Option<Work> {
    if !Isa::available().any(|available| available == isa) {
        return None;
    }
    let work = |lanes: usize, call| Some(Work { flops: (2 * CHAINS * STEPS * lanes) as f64, call });
    match isa.of_f32() {
        // SAFETY: this CPU has the instruction set.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512F => work(16, || unsafe { x86::fma_512() }),
        // SAFETY: this CPU has the instruction set.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2Fma => work(8, || unsafe { x86::fma_256() }),
        // SAFETY: this CPU has the instruction set.
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => work(4, || unsafe { arm::fma_128() }),
        _ => None,
    }
}

/// Reads all of `data` once, with the widest loads of this machine.
pub(super) fn read(data: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    match Isa::detect().of_f32() {
        // SAFETY: the instruction set was just detected.
        Isa::Avx512F => return unsafe { x86::read_512(data) },
        // SAFETY: the instruction set was just detected.
        Isa::Avx2Fma => return unsafe { x86::read_256(data) },
        _ => {}
    }
    read_plain(data);
}

/// The fallback: whatever vectors the compiler chooses.
fn read_plain(data: &[f32]) {
    let mut all = [0u32; 64];
    for values in data.as_chunks::<64>().0 {
        for (all, value) in all.iter_mut().zip(values) {
            *all |= value.to_bits();
        }
    }
    std::hint::black_box(all);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use crate::peak::{CHAINS, STEPS};
    use std::arch::x86_64::*;
    use std::hint::black_box;

    #[target_feature(enable = "avx512f")]
    pub(super) fn fma_512() {
        let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        let mut acc = [b; CHAINS];
        for _ in 0..STEPS {
            for acc in &mut acc {
                *acc = _mm512_fmadd_ps(*acc, a, b);
            }
        }
        black_box(acc);
    }

    /// Half as many chains as AVX-512, twice as often: there are only sixteen registers.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn fma_256() {
        let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
        let mut acc = [b; CHAINS / 2];
        for _ in 0..2 * STEPS {
            for acc in &mut acc {
                *acc = _mm256_fmadd_ps(*acc, a, b);
            }
        }
        black_box(acc);
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn read_512(data: &[f32]) {
        let mut all = [_mm512_setzero_si512(); 8];
        for values in data.as_chunks::<128>().0 {
            for (all, vector) in all.iter_mut().zip(values.as_chunks::<16>().0) {
                // SAFETY: the chunk is one vector.
                let vector = unsafe { _mm512_loadu_si512(vector.as_ptr().cast()) };
                *all = _mm512_or_si512(*all, vector);
            }
        }
        black_box(all);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn read_256(data: &[f32]) {
        let mut all = [_mm256_setzero_si256(); 8];
        for values in data.as_chunks::<64>().0 {
            for (all, vector) in all.iter_mut().zip(values.as_chunks::<8>().0) {
                // SAFETY: the chunk is one vector.
                let vector = unsafe { _mm256_loadu_si256(vector.as_ptr().cast()) };
                *all = _mm256_or_si256(*all, vector);
            }
        }
        black_box(all);
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use crate::peak::{CHAINS, STEPS};
    use std::arch::aarch64::*;
    use std::hint::black_box;

    /// Advanced SIMD is part of the baseline, but not every compiler allows its intrinsics without the attribute.
    #[target_feature(enable = "neon")]
    pub(super) fn fma_128() {
        let (a, b) = (vdupq_n_f32(black_box(0.999)), vdupq_n_f32(black_box(0.001)));
        let mut acc = [b; CHAINS];
        for _ in 0..STEPS {
            for acc in &mut acc {
                *acc = vfmaq_f32(b, *acc, a);
            }
        }
        black_box(acc);
    }
}
