//! Plans with filters passed in parts compute the same bits as plans with whole filters.

mod common;

use common::{ConvProblem, Data};
use kernels::{
    Activation, Algorithm, ConvError, ConvPlan, EpilogueSpec, Isa, Layout, Packing, Pad2, PlanOptions,
    Select, Shape4, Size2, Threads, Weights,
};

/// Filters of several megabytes on small images, so that there are several parts.
fn problems() -> impl Iterator<Item = ConvProblem> {
    let epilogue = EpilogueSpec::bias(Activation::PRelu);
    let base = ConvProblem { pad: Pad2::all(1), epilogue, ..ConvProblem::simple() };
    let shapes = [
        (Shape4::new(1, 72, 5, 6), 700, 3, 1),
        (Shape4::new(1, 720, 4, 5), 120, 3, 2), // groups that end inside of a block
        (Shape4::new(2, 1500, 1, 1), 333, 1, 1),
    ];
    shapes.into_iter().flat_map(move |(input, out_channels, side, groups)| {
        let (kernel, pad) = (Size2::square(side), Pad2::all(side / 2));
        Layout::ALL.map(|layout| ConvProblem { input, out_channels, kernel, pad, groups, layout, ..base })
    })
}

fn packed(problem: &ConvProblem, data: &Data, options: &PlanOptions) -> Result<(ConvPlan, usize), ConvError> {
    let desc = problem.desc()?;
    let taps = desc.filter_len() / problem.out_channels;
    let weights = Weights { filter: &[], bias: data.bias.as_deref(), slope: data.slope.as_deref() };
    let mut packing = ConvPlan::packing(&desc, weights, options)?;
    let mut parts = 0;
    while !packing.next_channels().is_empty() {
        let channels = packing.next_channels();
        packing.fill(&data.filter[channels.start * taps..channels.end * taps])?;
        parts += 1;
    }
    Ok((packing.finish()?, parts))
}

#[test]
fn parts_give_the_same_bits() {
    for problem in problems() {
        let (data, desc) = (problem.data(), problem.desc().unwrap());
        for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| algorithm.supports(&desc).is_ok()) {
            for isa in Isa::available() {
                let options = PlanOptions::default().force(algorithm).isa(isa);
                let whole = problem.plan(&data, &options).unwrap();
                let (plan, parts) = packed(&problem, &data, &options).unwrap();
                let context = format!("{algorithm} on {isa}: {desc}");
                assert!(parts > 1, "{context}");
                assert_eq!(plan.packed_bytes(), whole.packed_bytes(), "{context}");
                let [expected, got] =
                    [&whole, &plan].map(|plan| problem.run(plan, &data, Threads::Seq).unwrap());
                let same = expected.iter().zip(&got).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{context}");
            }
        }
    }
}

#[test]
fn what_is_measured_is_collected() {
    let problem = problems().next().unwrap();
    let data = problem.data();
    let (plan, _) = packed(&problem, &data, &PlanOptions::default().select(Select::Measured)).unwrap();
    assert!(problem.run(&plan, &data, Threads::Seq).is_ok());
}

#[test]
fn misuse_is_an_error() {
    let problem = problems().next().unwrap();
    let (data, desc) = (problem.data(), problem.desc().unwrap());
    let begin = |filter, bias| {
        let weights = Weights { filter, bias, slope: data.slope.as_deref() };
        ConvPlan::packing(&desc, weights, &PlanOptions::default())
    };
    let what = |result: Result<Packing, ConvError>| result.map(|_| ()).unwrap_err();
    let len = |what, expected, got| ConvError::BufferLen { what, expected, got };
    assert_eq!(what(begin(&[1.0], data.bias.as_deref())), len("filter", 0, 1));
    assert_eq!(what(begin(&[], None)), ConvError::EpilogueMismatch { what: "bias", planned: true });
    let mut packing = begin(&[], data.bias.as_deref()).unwrap();
    let part = packing.next_channels().len() * 72 * 9;
    let error = packing.fill(&data.filter[..part - 1]).unwrap_err();
    assert_eq!(error, len("filters of the next channels", part, part - 1));
    packing.fill(&data.filter[..part]).unwrap();
    assert_eq!(packing.finish().map(|_| ()).unwrap_err(), len("filter", desc.filter_len(), part));
}
