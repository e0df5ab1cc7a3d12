//! The choice is total and valid: for every layer of the list and 300 random ones, in every layout, on every
//! instruction set of this machine. `shootout --assert-choice` measures how good it is.

use benches::layer::Layouts;
use benches::{layers, random};
use kernels::{
    Algorithm, Choice, ConvDesc, ConvError, ConvPlan, Difference, Isa, Layout, Method, Numerics, PlanOptions,
    Products, Rejection, Weights,
};

/// Maximum weights that this test packs, which limits its time under an emulator.
const PACKED: usize = 1 << 13;

/// Every layer, in every layout that a network would use for it.
fn descs() -> impl Iterator<Item = (String, ConvDesc)> {
    let specs = layers::all().iter().cloned().chain(random::layers(300, 7));
    specs.flat_map(|spec| {
        Layout::ALL.map(|layout| {
            let desc = Layouts::of_network(layout, &spec).on(spec.builder()).build();
            let name = format!("{} in {layout}", spec.id);
            (name.clone(), desc.unwrap_or_else(|error| panic!("{name}: {error}")))
        })
    })
}

/// The numerics that differ on `isa`: without bf16 products, the two loosest allow nothing more.
fn levels(isa: Isa) -> &'static [Numerics] {
    if isa.products() == [Products::F32] { &Numerics::ALL[..3] } else { &Numerics::ALL }
}

/// All combinations of options without memory limits.
fn options() -> impl Iterator<Item = PlanOptions> {
    let isas = Isa::available().flat_map(|isa| [1, 2].map(|threads| (isa, threads)));
    isas.flat_map(|(isa, threads)| {
        let options = PlanOptions::default().isa(isa).max_threads(threads);
        levels(isa).iter().map(move |&numerics| options.numerics(numerics))
    })
}

/// Checks that `choice` respects `options` and gives a reason for every method.
#[track_caller]
fn assert_valid(name: &str, desc: &ConvDesc, options: &PlanOptions, choice: &Choice) {
    let method = choice.method;
    assert_eq!(method.supports(desc), Ok(()), "{name}: {method}, {options:?}");
    assert!(method.numerics(desc) <= options.numerics, "{name}: {method}, {options:?}");
    let mut known = vec![method];
    known.extend(choice.rejected.iter().map(|&(other, _)| other));
    known.sort();
    let mut all: Vec<Method> = Method::all(options.isa.expect("it is set").products()).collect();
    all.sort();
    assert_eq!(known, all, "{name}: {choice:?}");
    let estimate = choice.candidate().unwrap_or_else(|| panic!("{name}: {choice:?}")).estimate;
    assert!(estimate.seconds.is_finite() && estimate.seconds > 0.0, "{name}: {choice:?}");
    assert!(
        options.max_workspace_bytes.is_none_or(|most| estimate.workspace_bytes <= most),
        "{name}: {choice:?}"
    );
    assert!(options.max_packed_bytes.is_none_or(|most| estimate.packed_bytes <= most), "{name}: {choice:?}");
}

#[test]
fn every_layer_has_a_valid_choice() {
    for (name, desc) in descs() {
        for options in options() {
            let choice = ConvPlan::choice(&desc, &options);
            let choice = choice.unwrap_or_else(|error| panic!("{name}: {error}, {options:?}"));
            assert_valid(&name, &desc, &options, &choice);
            assert_ne!(choice.method.algorithm, Algorithm::Reference, "{name}, {options:?}");
        }
    }
}

#[test]
fn caps_below_what_was_chosen_lead_to_another_choice_or_an_error() {
    for (name, desc) in descs() {
        for options in options() {
            let free = ConvPlan::choice(&desc, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
            let needed = free.candidate().expect("the chosen one");
            let (workspace, packed) = (needed.estimate.workspace_bytes, needed.estimate.packed_bytes);
            let mut capped = Vec::new();
            if workspace > 0 {
                capped.push(options.max_workspace_bytes(workspace / 2));
            }
            if packed > 0 {
                capped.push(options.max_packed_bytes(packed - 1));
                capped.push(options.max_packed_bytes(packed - 1).max_workspace_bytes(workspace));
            }
            for options in capped {
                match ConvPlan::choice(&desc, &options) {
                    Ok(choice) => {
                        assert_ne!(choice.method, free.method, "{name}, {options:?}");
                        assert_valid(&name, &desc, &options, &choice);
                    }
                    Err(error) => assert!(matches!(error, ConvError::TooLarge { .. }), "{name}: {error}"),
                }
            }
        }
    }
}

/// Layers with few weights are packed. The plan must match the choice and its predicted size.
#[test]
fn plans_are_as_chosen() {
    let filter = benches::values(PACKED, 1);
    let mut planned = 0;
    for (name, desc) in descs().filter(|(_, desc)| desc.filter_len() <= PACKED) {
        for options in options() {
            let choice = ConvPlan::choice(&desc, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
            let plan = ConvPlan::new(&desc, Weights::filter(&filter[..desc.filter_len()]), &options);
            let plan = plan.unwrap_or_else(|error| panic!("{name}: {error}, {options:?}"));
            assert_eq!(plan.explain().choice, choice, "{name}, {options:?}");
            let estimate = choice.candidate().expect("the chosen one").estimate;
            let workspace = plan.workspace_req().len() * size_of::<f32>();
            assert_eq!(
                (plan.packed_bytes(), workspace),
                (estimate.packed_bytes, estimate.workspace_bytes),
                "{name}"
            );
            planned += 1;
        }
    }
    assert!(planned > 1000, "{planned}");
}

/// Parses `slower: 0.8100 ms to 0.4200; arithmetic 0.6000 to 0.3100, rest 0.2100 to 0.1100`: both times, and
/// those of each term.
fn read(reason: &str) -> ((f64, f64), Vec<(f64, f64)>) {
    let (times, terms) =
        reason.strip_prefix("slower: ").and_then(|text| text.split_once("; ")).expect(reason);
    let pair = |text: &str| {
        let (other, chosen) = text.rsplit_once(" to ").expect(reason);
        let last = |text: &str| text.rsplit(' ').next().and_then(|number| number.parse().ok()).expect(reason);
        (last(other), last(chosen))
    };
    (pair(&times.replace(" ms", "")), terms.split(", ").map(pair).collect())
}

/// A reader of `nets explain` can check that the terms of a reason sum to both times, and that the named
/// terms explain the difference.
#[test]
fn every_reason_against_a_layer_of_resnet_50_adds_up_and_explains_the_ranking() {
    let specs = layers::select(&["resnet50".to_owned()]).expect("a network of the list");
    let mut checked = 0;
    for (spec, layout) in specs.iter().flat_map(|spec| Layout::ALL.map(|layout| (spec, layout))) {
        let desc = Layouts::of_network(layout, spec).on(spec.builder()).build().expect("valid");
        for options in options() {
            let choice = ConvPlan::choice(&desc, &options).expect("it can be done");
            let slower = choice.rejected.iter().filter(|(_, why)| *why == Rejection::Slower);
            for &(method, _) in slower {
                let comparison = choice.comparison(method).expect("it can do the problem");
                let reason = choice.against(method).expect("it is rejected");
                assert_eq!(reason, format!("slower: {comparison}"));
                let time = |method: Method| {
                    let candidate = choice.candidates.iter().find(|c| c.method == method);
                    candidate.expect("it can do the problem").estimate.seconds
                };
                let (other, chosen) = (time(method), time(choice.method));
                let all = comparison.differences();
                let sum = |of: fn(&Difference) -> f64| all.iter().map(of).sum::<f64>();
                assert!((sum(|d| d.other) / other - 1.0).abs() < 1e-9, "{}: {reason}", spec.id);
                assert!((sum(|d| d.chosen) / chosen - 1.0).abs() < 1e-9, "{}: {reason}", spec.id);
                let named = all.iter().filter(|d| d.name != "rest").map(|d| d.other - d.chosen).sum::<f64>();
                assert!(
                    (named - (other - chosen)).abs() <= 0.1001 * (other - chosen),
                    "{}: {reason}",
                    spec.id
                );
                let (times, terms) = read(&reason);
                let (left, right) =
                    terms.iter().fold((0.0, 0.0), |sum, term| (sum.0 + term.0, sum.1 + term.1));
                // Each number is rounded to four digits.
                let rounded = 0.5e-4 * (terms.len() + 1) as f64 + 1e-9;
                assert!((left - times.0).abs() <= rounded && (right - times.1).abs() <= rounded, "{reason}");
                checked += 1;
            }
        }
    }
    assert!(checked > 500, "{checked}");
}
