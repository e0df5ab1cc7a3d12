//! Sharing: plans between threads, pools of the caller's, and bits that depend on neither.

mod common;

use common::ConvProblem;
use kernels::{ConvPlan, Layout, Pad2, PlanOptions, Shape4, Size2, Threads};

fn assert_shareable<T: Send + Sync>() {}

#[test]
fn plans_are_shareable() {
    assert_shareable::<ConvPlan>();
    assert_shareable::<kernels::PlanReport>();
    assert_shareable::<kernels::Buffer>();
}

/// Large enough that the default grain uses every thread, in shapes that are cut along each of the axes.
fn problems() -> Vec<ConvProblem> {
    let base = ConvProblem { pad: Pad2::all(1), ..ConvProblem::simple() };
    let shapes = [
        (Shape4::new(16, 8, 14, 14), 16), // images
        (Shape4::new(1, 16, 40, 37), 24), // pixels
        (Shape4::new(1, 64, 3, 3), 300),  // channels
    ];
    let with =
        |(input, out_channels)| Layout::ALL.map(|layout| ConvProblem { input, out_channels, layout, ..base });
    let groups = |(groups, side)| {
        let input = Shape4::new(1, 4 * groups, side, side);
        Layout::ALL.map(|layout| ConvProblem { input, out_channels: 4 * groups, groups, layout, ..base })
    };
    shapes.into_iter().flat_map(with).chain([(4, 37), (80, 3)].into_iter().flat_map(groups)).collect()
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (base, kernel) in problems().into_iter().flat_map(|p| [(p, 1), (p, 3)]) {
        let problem = ConvProblem { kernel: Size2::square(kernel), pad: Pad2::all(kernel / 2), ..base };
        let data = problem.data();
        let plan = problem.plan(&data, &PlanOptions::default().max_threads(16)).expect("a valid problem");
        let alone = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
        for threads in [1, 2, 3, 5, 8, 16, 24] {
            let pool =
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can start");
            let outside = problem.run(&plan, &data, Threads::Pool(&pool)).expect("a valid run");
            let inside = pool.install(|| problem.run(&plan, &data, Threads::Current)).expect("a valid run");
            assert!(alone == outside && alone == inside, "{} with {threads} threads", plan.desc());
        }
    }
}

#[test]
fn one_plan_runs_on_many_threads_at_once() {
    let problem =
        ConvProblem { input: Shape4::new(2, 17, 13, 15), out_channels: 33, ..ConvProblem::simple() };
    let data = problem.data();
    let plan = problem.plan(&data, &PlanOptions::default()).expect("a valid problem");
    let expected = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| problem.run(&plan, &data, Threads::Seq))).collect();
        for run in runs {
            assert_eq!(run.join().expect("no panic").expect("a valid run"), expected);
        }
    });
}
