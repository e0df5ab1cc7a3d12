//! Shared state of the parts of a convolution, for the thread sanitizer (`.ci/run sanitizers`). Everything happens
//! inside one pool, because the sanitizer does not see the standard library's locks with which a pool is entered.

mod common;

use common::ConvProblem;
use kernels::{Activation, Algorithm, EpilogueSpec, Layout, Pad2, PlanOptions, Shape4, Size2, Threads};

fn problems() -> impl Iterator<Item = ConvProblem> {
    let epilogue = EpilogueSpec { residual: true, ..EpilogueSpec::bias(Activation::Relu) };
    let base = ConvProblem { pad: Pad2::all(1), epilogue, ..ConvProblem::simple() };
    let shapes = [
        (Shape4::new(4, 16, 7, 7), 32, 3, 1),   // images
        (Shape4::new(1, 32, 13, 11), 48, 1, 1), // pixels
        (Shape4::new(1, 48, 5, 5), 100, 3, 1),  // channels
        (Shape4::new(1, 20, 9, 9), 20, 3, 20),  // depthwise
        (Shape4::new(2, 12, 12, 12), 36, 3, 2), // groups that end inside of a block
        (Shape4::new(1, 4, 20, 20), 16, 9, 1),  // spectra
    ];
    shapes.into_iter().flat_map(move |(input, out_channels, side, groups)| {
        let (kernel, pad) = (Size2::square(side), Pad2::all(side / 2));
        Layout::ALL.map(|layout| ConvProblem { input, out_channels, kernel, pad, groups, layout, ..base })
    })
}

#[test]
fn parts_are_apart() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().expect("threads can start");
    pool.install(|| {
        for problem in problems() {
            let (data, desc) = (problem.data(), problem.desc().expect("a valid problem"));
            for algorithm in Algorithm::ALL.into_iter().filter(|a| a.supports(&desc).is_ok()) {
                let options = PlanOptions::default().force(algorithm).max_threads(4).macs_per_thread(1);
                let plan = problem.plan(&data, &options).expect("a valid problem");
                let run = |threads: Threads<'_>| problem.run(&plan, &data, threads).expect("a valid run");
                let alone = run(Threads::Seq);
                assert!(alone == run(Threads::Current), "{algorithm}: {desc}");
                assert!(alone == Threads::Current.with_team(run), "{algorithm} with a team: {desc}");
            }
        }
    });
}
