//! The FMA roof of one core: chains of register-only FMAs, enough of them to hide the latency.
//!
//! The roof moves: under sustained load the clock drops by a tenth. So it is measured for at least 0.3 s, in turns
//! with what is held against it, and the median is the roof.

use crate::turns::Rival;
use kernels::Isa;

/// Independent chains: more than latency times throughput on every core there is (4 cycles, 4 pipes).
const CHAINS: usize = 24;
/// FMAs per chain and call: about 20 microseconds.
const STEPS: usize = 2_000;

/// Operations of one call of [`fma_chains`].
fn flops(lanes: usize) -> f64 {
    (2 * CHAINS * STEPS * lanes) as f64
}

/// The roof of `isa` as a rival to be timed, if this machine has it.
pub fn roof(isa: Isa) -> Option<Rival<'static>> {
    let name = format!("fma_roof_{isa}");
    #[cfg(target_arch = "x86_64")]
    match isa {
        Isa::Avx512F if std::arch::is_x86_feature_detected!("avx512f") => {
            let chains = || {
                // SAFETY: the instruction set was just detected.
                unsafe { x86::fma_512() }
            };
            return Some(Rival::new(name, flops(16), chains));
        }
        Isa::Avx2Fma
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") =>
        {
            let chains = || {
                // SAFETY: the instruction set was just detected.
                unsafe { x86::fma_256() }
            };
            return Some(Rival::new(name, flops(8), chains));
        }
        _ => {}
    }
    #[cfg(target_arch = "aarch64")]
    if isa == Isa::Neon {
        let chains = || {
            // SAFETY: Advanced SIMD is in the baseline.
            unsafe { arm::fma_128() }
        };
        return Some(Rival::new(name, flops(4), chains));
    }
    let _ = name;
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHAINS, STEPS};
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// # Safety
    /// The CPU must have AVX-512F.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn fma_512() {
        let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        let mut acc = [b; CHAINS];
        for _ in 0..STEPS {
            for acc in &mut acc {
                *acc = _mm512_fmadd_ps(*acc, a, b);
            }
        }
        black_box(acc);
    }

    /// Half the chains of AVX-512, twice: sixteen registers hold no more.
    ///
    /// # Safety
    /// The CPU must have AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn fma_256() {
        let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
        let mut acc = [b; CHAINS / 2];
        for _ in 0..2 * STEPS {
            for acc in &mut acc {
                *acc = _mm256_fmadd_ps(*acc, a, b);
            }
        }
        black_box(acc);
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{CHAINS, STEPS};
    use std::arch::aarch64::*;
    use std::hint::black_box;

    /// # Safety
    /// None beyond the baseline of the architecture.
    pub(super) unsafe fn fma_128() {
        // SAFETY: Advanced SIMD is in the baseline.
        unsafe {
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
}
