//! The program `fit`: fits the constants of the library's cost model to the results of `shootout --format csv`.
//!
//! The predicted time of a run is a sum of terms, each multiplied by a nonnegative constant. The fit minimizes the
//! sum of the squared logarithms of predicted over measured time. It uses coordinate descent with iteratively renewed
//! weights. Large errors get less weight, so that a few disturbed rows do not dominate.

use crate::direction::Direction;
use crate::layer::Layouts;
use crate::turns::geometric_mean;
use crate::{described, layers};
use anyhow::Context;
use kernels::internal::{KernelSet, choice_with, parts_of};
use kernels::{Algorithm, ConvDesc, ConvPlan, Isa, Layout, Method, Numerics, PlanOptions, Products, Profile};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// Number of reweightings, and of passes over all coordinates in each.
const ROUNDS: (usize, usize) = (60, 60);
/// Logarithmic error beyond which a row gets less weight.
const FAR: f64 = 0.35;

/// A row of the `shootout` results.
#[derive(Debug, Deserialize)]
struct TimedRow {
    layer: String,
    algorithm: String,
    isa: String,
    layout: String,
    threads: usize,
    ms_min: Option<f64>,
    /// Missing in the results of older versions, like `direction`.
    shape: Option<String>,
    direction: Option<Direction>,
}

/// A layer with its layout, instruction set and number of threads.
struct Setting {
    /// Instruction set, number of threads, layout and layer, separated by spaces.
    name: String,
    desc: ConvDesc,
    kernels: &'static KernelSet,
    threads: usize,
}

/// The terms and the measured time of one run, in seconds.
struct TimedRun {
    problem: Setting,
    method: Method,
    parts: Vec<f64>,
    seconds: f64,
}

/// Constants by instruction set and loop family.
type Constants<'a> = BTreeMap<&'a str, BTreeMap<&'static str, Vec<f64>>>;

/// All runs of one instruction set and loop family.
struct Family {
    samples: Vec<TimedRun>,
    constants: Vec<f64>,
}

/// Fits the constants of every instruction set and loop family to the rows in `files`.
///
/// The report lists the fitted constants, their error, and the error of the constants in the library. With
/// `check`, nothing is fitted and only the library's constants are judged.
///
/// # Errors
/// A file that cannot be read, or a row with an unknown layer or instruction set.
pub fn run(files: &[PathBuf], verbose: bool, check: bool) -> anyhow::Result<String> {
    let mut families: BTreeMap<(String, &'static str), Family> = BTreeMap::new();
    for file in files {
        let rows =
            csv::Reader::from_path(file).with_context(|| file.display().to_string())?.into_deserialize();
        for row in rows {
            let row: TimedRow = row?;
            let Some((key, sample, constants)) = sample(&row)? else { continue };
            let family = families.entry(key).or_insert_with(|| Family { samples: Vec::new(), constants });
            family.samples.push(sample);
        }
    }
    let mut text = String::new();
    let mut contests: BTreeMap<&str, Vec<(f64, &TimedRun)>> = BTreeMap::new();
    let mut constants = Constants::new();
    for ((isa, name), family) in &families {
        let fitted =
            if check { family.constants.clone() } else { fit(&family.samples, family.constants.len()) };
        text += &format!(
            "{isa} {name}: {} rows, typical error {:.0} % (now {:.0} %)\n    {}\n",
            family.samples.len(),
            error(&family.samples, &fitted),
            error(&family.samples, &family.constants),
            written(&fitted),
        );
        if verbose {
            text += &worst(&family.samples, &fitted);
        }
        let is_allowed = |sample: &&TimedRun| {
            let Method { products, .. } = sample.method;
            products == Products::F32 && sample.method.numerics(&sample.problem.desc) <= Numerics::Default
        };
        for sample in family.samples.iter().filter(is_allowed) {
            contests.entry(&sample.problem.name).or_default().push((predicted(sample, &fitted), sample));
        }
        constants.entry(isa.as_str()).or_default().insert(name, fitted);
    }
    Ok(text + &regret(&contests, &constants, verbose) + &duration()?)
}

/// Instruction set and family, one run, and the library's constants for the family.
type Keyed = ((String, &'static str), TimedRun, Vec<f64>);

fn sample(row: &TimedRow) -> anyhow::Result<Option<Keyed>> {
    let named = row.algorithm.parse::<Method>().ok();
    let (Some(method), Some(ms)) = (named, row.ms_min) else { return Ok(None) };
    // The phases of a gradient are forward convolutions, and a gradient of weights has constants of its own.
    if row.direction.is_some_and(|direction| direction != Direction::Forward) {
        return Ok(None);
    }
    let spec = described::of_row(&row.layer, row.shape.as_deref())
        .with_context(|| format!("no layer {}", row.layer))?
        .map_err(anyhow::Error::msg)?;
    let layout = Layout::ALL.into_iter().find(|layout| layout.name() == row.layout);
    let layouts = Layouts::of_network(layout.with_context(|| row.layout.clone())?, &spec);
    let desc = layouts.on(spec.builder()).build()?;
    let isa: Isa = row.isa.parse()?;
    let kernels = KernelSet::get(isa).with_context(|| format!("this machine has no {isa}"))?;
    let worth = desc.cost().macs / PlanOptions::default().macs_per_thread;
    let threads = (worth as usize).clamp(1, row.threads);
    let (family, parts, constants) = parts_of(&desc, method, kernels, &Profile::typical(isa), threads);
    let name = format!("{} {} {} {}", row.isa, row.threads, row.layout, row.layer);
    let problem = Setting { name, desc, kernels, threads };
    let sample = TimedRun { problem, method, parts, seconds: ms * 1e-3 };
    Ok(Some(((row.isa.clone(), family), sample, constants)))
}

fn predicted(sample: &TimedRun, constants: &[f64]) -> f64 {
    sample.parts.iter().zip(constants).map(|(part, constant)| part * constant).sum::<f64>().max(1e-12)
}

fn fit(samples: &[TimedRun], terms: usize) -> Vec<f64> {
    let mut constants = vec![1.0; terms];
    for _ in 0..ROUNDS.0 {
        let weights: Vec<f64> = samples
            .iter()
            .map(|sample| {
                let predicted = predicted(sample, &constants);
                let off = (predicted / sample.seconds).ln().abs();
                (FAR / off.max(FAR)) / (predicted * sample.seconds)
            })
            .collect();
        for _ in 0..ROUNDS.1 {
            (0..terms).for_each(|term| improve(samples, &weights, &mut constants, term));
        }
    }
    constants
}

/// Sets one constant to its weighted least-squares optimum, with all others fixed.
fn improve(samples: &[TimedRun], weights: &[f64], constants: &mut [f64], term: usize) {
    let (mut products, mut squares) = (0.0, 0.0);
    for (sample, weight) in samples.iter().zip(weights) {
        let part = sample.parts[term];
        let others: f64 = sample.parts.iter().zip(&*constants).map(|(a, b)| a * b).sum::<f64>();
        products += weight * part * (sample.seconds - others + part * constants[term]);
        squares += weight * part * part;
    }
    constants[term] = if squares > 0.0 { (products / squares).max(0.0) } else { 1.0 };
}

/// The root mean square of the logarithmic errors, converted to per cent.
fn error(samples: &[TimedRun], constants: &[f64]) -> f64 {
    let squares = samples.iter().map(|s| (predicted(s, constants) / s.seconds).ln().powi(2));
    100.0 * ((squares.sum::<f64>() / samples.len() as f64).sqrt().exp() - 1.0)
}

/// The mean time of one choice by the model, over all layers of the list.
fn duration() -> anyhow::Result<String> {
    const ROUNDS: u32 = 20;
    let descs = layers::all().iter().map(|layer| layer.builder().build()).collect::<Result<Vec<_>, _>>()?;
    let options = PlanOptions::default();
    let start = Instant::now();
    for _ in 0..ROUNDS {
        for desc in &descs {
            std::hint::black_box(ConvPlan::choice(desc, &options)?);
        }
    }
    let each = start.elapsed().as_secs_f64() / f64::from(ROUNDS) / descs.len() as f64;
    Ok(format!("the model takes {:.1} microseconds for a layer\n", 1e6 * each))
}

/// How much slower the choice with these constants is than the fastest measured algorithm, per run.
fn regret(
    contests: &BTreeMap<&str, Vec<(f64, &TimedRun)>>,
    constants: &Constants<'_>,
    verbose: bool,
) -> String {
    let mut runs: BTreeMap<String, Vec<(f64, String)>> = BTreeMap::new();
    for (contest, samples) in contests.iter().filter(|(_, samples)| samples.len() > 1) {
        let algorithm = chosen(samples, constants);
        let chosen = samples.iter().find(|(_, sample)| Some(sample.method.algorithm) == algorithm);
        let best = samples.iter().min_by(|a, b| a.1.seconds.total_cmp(&b.1.seconds));
        let (Some((_, chosen)), Some((_, best))) = (chosen, best) else { continue };
        let ratio = chosen.seconds / best.seconds;
        let run = contest.split(' ').take(3).collect::<Vec<_>>().join(" ");
        let times: Vec<String> = samples
            .iter()
            .map(|(t, s)| format!("{} {:.4} for {:.4}", s.method, 1e3 * t, 1e3 * s.seconds))
            .collect();
        let line = format!(
            "      {ratio:6.2} {contest}: {} for {}; {}\n",
            chosen.method,
            best.method,
            times.join(", ")
        );
        runs.entry(run).or_default().push((ratio, line));
    }
    let mut text = String::new();
    for (run, ratios) in &mut runs {
        ratios.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mean = geometric_mean(ratios.iter().map(|ratio| ratio.0));
        text += &format!(
            "{run}: choice relative to fastest {mean:.4}, 95th percentile {:.3}\n",
            ratios[ratios.len() / 20].0
        );
        if verbose {
            text.extend(ratios.iter().take(20).map(|ratio| ratio.1.as_str()));
        }
    }
    text
}

/// The algorithm that the library would choose among the samples of one problem.
fn chosen(samples: &[(f64, &TimedRun)], constants: &Constants<'_>) -> Option<Algorithm> {
    let Setting { desc, kernels, threads, .. } = &samples.first()?.1.problem;
    let profile = Profile::typical(kernels.isa());
    let among: Vec<Algorithm> = samples.iter().map(|(_, sample)| sample.method.algorithm).collect();
    choice_with(desc, kernels, &profile, *threads, &among, constants.get(kernels.isa().name())?)
}

/// The rows with the largest errors.
fn worst(samples: &[TimedRun], constants: &[f64]) -> String {
    let mut sorted: Vec<(f64, &TimedRun)> =
        samples.iter().map(|sample| (predicted(sample, constants) / sample.seconds, sample)).collect();
    sorted.sort_by(|a, b| b.0.ln().abs().total_cmp(&a.0.ln().abs()));
    let line = |(ratio, sample): &(f64, &TimedRun)| {
        let parts = sample.parts.iter().zip(constants).map(|(a, b)| format!("{:.4}", 1e3 * a * b));
        let parts = parts.collect::<Vec<_>>().join(" ");
        let TimedRun { problem: Setting { name, .. }, method, seconds, .. } = sample;
        format!("      {ratio:6.2} of {:.4} ms  {name} {method}  [{parts}]\n", 1e3 * seconds)
    };
    sorted.iter().take(12).map(line).collect()
}

fn written(constants: &[f64]) -> String {
    let (terms, memory) = constants.split_at(constants.len() - 3);
    let numbers =
        |numbers: &[f64]| numbers.iter().map(|number| format!("{number:.3}")).collect::<Vec<_>>().join(", ");
    format!("row([{}], [{}])", numbers(terms), numbers(memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem() -> Setting {
        Setting {
            name: "portable 1 nchw16c lenet5.c3".to_owned(),
            desc: layers::by_id("lenet5.c3").builder().build().unwrap(),
            kernels: KernelSet::get(Isa::Portable).unwrap(),
            threads: 1,
        }
    }

    #[test]
    fn what_is_judged_is_the_choice_of_the_library() {
        let desc = problem().desc;
        let choice =
            ConvPlan::choice(&desc, &PlanOptions::default().isa(Isa::Portable).max_threads(1)).unwrap();
        let supported = Algorithm::ALL.into_iter().filter(|algorithm| algorithm.supports(&desc).is_ok());
        let samples: Vec<TimedRun> = supported
            .map(|algorithm| TimedRun {
                problem: problem(),
                method: algorithm.into(),
                parts: Vec::new(),
                seconds: 1.0,
            })
            .collect();
        let samples: Vec<(f64, &TimedRun)> = samples.iter().map(|sample| (0.0, sample)).collect();
        let mut constants = Constants::from([("portable", BTreeMap::new())]);
        assert_eq!(chosen(&samples, &constants), Some(choice.method.algorithm));
        // The choice falls back to the other algorithms if the first choice was not timed. A constant of zero
        // makes a family win.
        let mut others = samples.clone();
        others.retain(|(_, sample)| sample.method != choice.method);
        assert!(
            others.iter().any(|(_, sample)| Some(sample.method.algorithm) == chosen(&others, &constants))
        );
        let kernels = problem().kernels;
        let (family, parts, _) =
            parts_of(&desc, Algorithm::Im2colGemm.into(), kernels, &Profile::typical(Isa::Portable), 1);
        constants.insert("portable", BTreeMap::from([(family, vec![0.0; parts.len()])]));
        assert_eq!(chosen(&samples, &constants), Some(Algorithm::Im2colGemm));
    }

    #[test]
    fn constants_are_found_again() {
        let constants = [1.5, 0.0, 20.0, 0.3];
        let parts = crate::values(400, 5).into_iter().map(|value| f64::from(value).abs() + 0.01);
        let parts: Vec<f64> = parts.collect();
        let samples: Vec<TimedRun> = parts
            .chunks_exact(4)
            .map(|parts| TimedRun {
                problem: problem(),
                method: Algorithm::Direct.into(),
                parts: parts.to_vec(),
                seconds: parts.iter().zip(constants).map(|(a, b)| a * b).sum(),
            })
            .collect();
        for (found, constant) in fit(&samples, 4).into_iter().zip(constants) {
            assert!((found - constant).abs() < 0.02, "{found} for {constant}");
        }
    }
}
