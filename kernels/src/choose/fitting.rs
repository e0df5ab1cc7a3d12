//! Access to the cost model for the tool that fits its constants.

use super::constants::of;
use super::cost::Machine;
use super::model::{Limits, Select, choose};
use super::numerics::Numerics;
use super::profile::Profile;
use crate::algo::Schedule;
use crate::describe::{Algorithm, Algorithms, ConvDesc, Isa, Method, ProductsSet};
use crate::tile::table::KernelSet;
use crate::work::Family;
use crate::work::prices::{Constants, Table};
use std::collections::BTreeMap;

/// The family of `method`, the parts of its time in seconds before constants, and the constants.
pub fn parts_of(
    desc: &ConvDesc,
    method: Method,
    kernels: &'static KernelSet,
    profile: &Profile,
    parts: usize,
) -> (&'static str, Vec<f64>, Vec<f64>) {
    let machine = Machine::new(kernels, profile, parts, parts);
    let desc = &desc.reduced().desc;
    let schedule = Schedule::new(method, desc, kernels, &machine.share.typical);
    let work = schedule.estimate(desc, kernels, &machine.share).work;
    let Constants { terms, memory } = &machine.prices.constants[work.family as usize];
    let constants = terms.iter().chain(memory).copied().collect();
    (Family::NAMES[work.family as usize], machine.prices.raw(&work).to_vec(), constants)
}

/// The algorithm among `among` that would be chosen for `desc` on `parts` threads, with the constants of the
/// families in `fitted` replaced.
pub fn choice_with(
    desc: &ConvDesc,
    kernels: &'static KernelSet,
    profile: &Profile,
    parts: usize,
    among: &[Algorithm],
    fitted: &BTreeMap<&str, Vec<f64>>,
) -> Option<Algorithm> {
    let others = Algorithm::ALL.into_iter().filter(|algorithm| !among.contains(algorithm));
    let limits = Limits {
        select: Select::Auto,
        numerics: Numerics::Default,
        forbidden_products: ProductsSet::NONE,
        forbidden: others.fold(Algorithms::NONE, Algorithms::with),
        max_workspace_bytes: None,
        max_packed_bytes: None,
    };
    let constants = constants_with(kernels.isa(), fitted);
    let mut machine = Machine::new(kernels, profile, parts, parts);
    machine.prices.constants = &constants;
    choose(desc, &desc.reduced().desc, &limits, &machine).ok().map(|choice| choice.method.algorithm)
}

/// The constants of an instruction set, with the families in `fitted` replaced. Each vector holds the terms,
/// then the memory constants.
fn constants_with(isa: Isa, fitted: &BTreeMap<&str, Vec<f64>>) -> Table {
    let mut table = *of(isa);
    for (constants, name) in table.iter_mut().zip(Family::NAMES) {
        let others = fitted.get(name).and_then(|others| others.split_first_chunk());
        if let Some((&terms, &[l2, l3, dram])) = others {
            *constants = Constants { terms, memory: [l2, l3, dram] };
        }
    }
    table
}
