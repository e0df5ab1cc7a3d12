//! The choice of a method for the gradient of a filter.

use super::cost::Estimate;
use super::model::{Candidate, Choice, Limits, Rejection, Select, decide};
use super::numerics::Numerics;
use super::profile::Profile;
use super::terms::Terms;
use crate::algo::weights_gradient::{WeightsGradient, WeightsWork, exists, supports};
use crate::describe::{AlgorithmKind, ConvDesc, ConvError, Method};
use crate::tile::table::KernelSet;
use crate::work::Traffic;

/// Chooses the method that is predicted to be fastest within `limits`, unless one is forced. `threads` is the number of
/// threads with a workspace and the number that the problem is large enough for.
pub(crate) fn choose_weights(
    desc: &ConvDesc,
    kernels: &'static KernelSet,
    limits: &Limits,
    profile: &Profile,
    threads: (usize, usize),
) -> Result<Choice, ConvError> {
    if let Select::Force(method) = limits.select {
        supports(method, desc).map_err(|reason| ConvError::Unsupported { method, reason })?;
    }
    let (mut candidates, mut rejected) = (Vec::new(), Vec::new());
    for method in limits.methods(kernels.isa()).into_iter().filter(|&method| exists(method)) {
        match supports(method, desc) {
            Err(reason) => rejected.push((method, Rejection::Unsupported(reason))),
            Ok(()) => {
                let gradient = WeightsGradient::new(method, desc, kernels);
                let estimate = estimate(&gradient, kernels, profile, threads);
                candidates.push(Candidate { method, estimate, measured: None });
            }
        }
    }
    decide(limits, (candidates, rejected), numerics)
}

/// The strictest numerics under which a method can be chosen. Products of `f32` only reorder sums, except for transforms. No tile
/// of a gradient has eight points along both axes.
fn numerics(method: Method) -> Numerics {
    match method.algorithm.kind() {
        AlgorithmKind::Winograd(_) => Numerics::Default,
        _ => method.products.numerics(),
    }
}

fn estimate(
    gradient: &WeightsGradient,
    kernels: &KernelSet,
    profile: &Profile,
    (threads, parts): (usize, usize),
) -> Estimate {
    let WeightsWork { products, bf16_rows, edges, packing, calls, flops } = gradient.work();
    let lanes = kernels.gemm[0].shape.lanes as f64;
    let slot = 2.0 * lanes / (profile.fma_mflops as f64 * 1e6) / parts as f64;
    let region = if parts > 1 { profile.region_ns as f64 * 1e-9 } else { 0.0 };
    let row = f64::from(2 * 32 * 16) / (profile.bf16_mflops as f64 * 1e6) / parts as f64;
    let needed = (flops / (2.0 * lanes)).min(products);
    let terms = Terms {
        arithmetic: slot * needed + row * bf16_rows,
        edges: slot * (products - needed + edges),
        packing: slot * packing,
        calls: slot * calls + region,
        ..Terms::default()
    };
    let slabs = gradient.workspace_len().saturating_mul(threads);
    Estimate {
        seconds: terms.total(),
        terms,
        bound: terms.bound(),
        flops,
        traffic: Traffic::default(),
        workspace_bytes: slabs.saturating_add(gradient.shared_len(false)).saturating_mul(size_of::<f32>()),
        packed_bytes: 0,
    }
}
