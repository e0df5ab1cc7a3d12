//! Plans shared between threads, pools of the caller, and bits that depend on neither.

mod common;

use common::ConvProblem;
use kernels::{Algorithm, ConvPlan, Executor, Layout, Pad2, PlanOptions, Shape4, Size2, Threads};
use std::sync::atomic::{AtomicUsize, Ordering};

fn assert_shareable<T: Send + Sync>() {}

#[test]
fn plans_are_shareable() {
    assert_shareable::<ConvPlan>();
    assert_shareable::<kernels::PlanReport>();
    assert_shareable::<kernels::Buffer>();
}

/// Large enough for all threads at the default grain size, with shapes that are cut along each of the axes.
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
            let in_team = Threads::Pool(&pool)
                .with_team(|team| [(); 3].map(|()| problem.run(&plan, &data, team).expect("a valid run")));
            assert!(in_team.iter().all(|run| *run == alone), "{} with a team of {threads}", plan.desc());
        }
    }
}

/// Fourier transforms use tiles of the whole output, independent of a thread's part.
#[test]
fn tiles_of_transforms_do_not_depend_on_threads() {
    let base = ConvProblem { kernel: Size2::square(15), pad: Pad2::all(7), ..ConvProblem::simple() };
    let shapes = [
        (Shape4::new(1, 16, 70, 40), 16, 1),
        (Shape4::new(1, 8, 30, 150), 40, 1),
        (Shape4::new(3, 40, 33, 35), 40, 40),
        (Shape4::new(1, 20, 90, 33), 44, 4),
    ];
    let pools: Vec<_> = [2, 3, 5, 16]
        .map(|threads| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can start")
        })
        .into();
    for (input, out_channels, groups) in shapes {
        for layout in Layout::ALL {
            let problem = ConvProblem { input, out_channels, groups, layout, ..base };
            let data = problem.data();
            let options = PlanOptions::default().max_threads(16).macs_per_thread(1).force(Algorithm::Fft);
            let plan = problem.plan(&data, &options).expect("a valid problem");
            let alone = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
            for pool in &pools {
                let parallel = problem.run(&plan, &data, Threads::Pool(pool)).expect("a valid run");
                assert!(alone == parallel, "{} with {} threads", plan.desc(), pool.current_num_threads());
            }
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

/// A pool with more teams than its threads can lead at once, some nested in others, finishes all work.
#[test]
fn many_teams_of_one_pool() {
    let problem =
        ConvProblem { input: Shape4::new(1, 16, 40, 37), out_channels: 24, ..ConvProblem::simple() };
    let data = problem.data();
    let plan = problem.plan(&data, &PlanOptions::default().max_threads(4)).expect("a valid problem");
    let alone = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads can start");
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let same = Threads::Pool(&pool).with_team(|team| {
                        let inner = team.with_team(|team| problem.run(&plan, &data, team));
                        // In the pool, next to the team.
                        let beside = Threads::Current.with_team(|team| problem.run(&plan, &data, team));
                        [inner, beside].map(|run| run.expect("a valid run") == alone)
                    });
                    assert_eq!(same, [true; 2]);
                }
            });
        }
    });
}

/// Pretends to have many threads, and keeps the number of parts of the last run.
struct ManyThreads {
    threads: usize,
    parts: AtomicUsize,
}

impl Executor for ManyThreads {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) {
        self.parts.store(parts, Ordering::Relaxed);
        (0..parts).for_each(part);
    }
}

/// A run has up to 1,024 parts, in lists of three lengths.
#[test]
fn more_than_64_threads_share_a_run() {
    for layout in Layout::ALL {
        let problem = ConvProblem {
            input: Shape4::new(1, 8, 64, 64),
            out_channels: 40,
            layout,
            ..ConvProblem::simple()
        };
        let data = problem.data();
        for algorithm in [Algorithm::Im2colGemm, Algorithm::Reference] {
            let options = PlanOptions::default().max_threads(3000).macs_per_thread(1).force(algorithm);
            let plan = problem.plan(&data, &options).expect("a valid problem");
            let alone = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
            for threads in [64, 65, 100, 256, 257, 1024, 3000] {
                let many = ManyThreads { threads, parts: AtomicUsize::new(0) };
                let shared = problem.run(&plan, &data, Threads::Executor(&many)).expect("a valid run");
                assert!(alone == shared, "{} with {threads} threads", plan.desc());
                let (parts, most) = (many.parts.into_inner(), threads.min(1024));
                assert!(parts <= most, "{parts} parts for {threads} threads");
                // The reference splits between any two outputs.
                let all = algorithm == Algorithm::Reference;
                assert!(if all { parts == most } else { parts > 32 }, "{parts} parts for {threads} threads");
            }
        }
    }
}
