//! The closure of a team can wait for anything that other threads do: jobs of its own pool, other pools,
//! channels, other teams. Each test runs many rounds on a separate thread, and fails if they do not end.

mod common;

use common::ConvProblem;
use kernels::{ConvPlan, Pad2, PlanOptions, Shape4, Threads};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::{Duration, Instant};

/// Time limit for all rounds of a test, hundreds of times what they need.
const LIMIT: Duration = Duration::from_secs(60);
const ROUNDS: usize = 30;

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can start")
}

/// A layer that is split into two parts, and its output on one thread.
struct Layer {
    problem: ConvProblem,
    data: common::Data,
    plan: ConvPlan,
    expected: Vec<f32>,
}

impl Layer {
    fn new() -> Self {
        let problem = ConvProblem {
            input: Shape4::new(1, 16, 14, 13),
            out_channels: 24,
            pad: Pad2::all(1),
            ..ConvProblem::simple()
        };
        let data = problem.data();
        let options = PlanOptions::default().max_threads(2).macs_per_thread(1);
        let plan = problem.plan(&data, &options).expect("a valid problem");
        let expected = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
        Self { problem, data, plan, expected }
    }

    fn run(&self, threads: Threads<'_>) {
        let output = self.problem.run(&self.plan, &self.data, threads).expect("a valid run");
        assert!(output == self.expected, "the bits do not depend on the threads");
    }
}

/// Runs `round` many times on a separate thread. If a round deadlocks, the test abandons the thread and fails.
fn every_round_ends(mut round: impl FnMut(&Layer) + Send + 'static) {
    let (ended, end) = mpsc::channel();
    let rounds = std::thread::spawn(move || {
        let layer = Layer::new();
        for number in 0..ROUNDS {
            round(&layer);
            let _ = ended.send(number + 1);
        }
    });
    let start = Instant::now();
    let mut done = 0;
    while done < ROUNDS {
        match end.recv_timeout(LIMIT.saturating_sub(start.elapsed())) {
            Ok(number) => done = number,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("waits for itself: {done} of {ROUNDS} rounds ended within {LIMIT:?}")
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    if let Err(panic) = rounds.join() {
        std::panic::resume_unwind(panic);
    }
}

fn busy_for(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Prevents another worker of `pool` from joining a team immediately.
fn keep_a_worker_busy(pool: &ThreadPool) {
    let (started, start) = mpsc::channel();
    pool.spawn(move || {
        let _ = started.send(());
        busy_for(Duration::from_micros(300));
    });
    start.recv().expect("the job starts");
}

#[test]
fn a_closure_may_run_on_another_pool() {
    let (a, b) = (pool(2), pool(2));
    every_round_ends(move |layer| {
        keep_a_worker_busy(&a);
        Threads::Pool(&a).with_team(|_| b.install(|| layer.run(Threads::Current)));
    });
}

#[test]
fn a_closure_may_yield_to_its_pool() {
    let a = pool(2);
    every_round_ends(move |layer| {
        keep_a_worker_busy(&a);
        Threads::Pool(&a).with_team(|team| {
            rayon::yield_now();
            layer.run(team);
        });
    });
}

#[test]
fn a_closure_may_broadcast() {
    let a = pool(2);
    every_round_ends(move |layer| {
        keep_a_worker_busy(&a);
        Threads::Pool(&a).with_team(|team| {
            layer.run(team);
            assert_eq!(a.broadcast(|context| context.index()), [0, 1]);
            layer.run(team);
        });
    });
}

#[test]
fn a_closure_may_wait_for_a_job_of_its_pool() {
    let a = pool(2);
    every_round_ends(move |layer| {
        Threads::Pool(&a).with_team(|team| {
            layer.run(team); // the other worker has come
            let (sent, received) = mpsc::channel();
            rayon::spawn(move || sent.send(7).expect("somebody receives"));
            assert_eq!(received.recv(), Ok(7));
            layer.run(team);
        });
    });
}

#[test]
fn a_closure_may_run_layers_until_a_job_of_its_pool_is_done() {
    let a = pool(2);
    let mut rounds = 0;
    every_round_ends(move |layer| {
        rounds += 1;
        if rounds > 3 {
            return; // each takes as long as a member may stay
        }
        Threads::Pool(&a).with_team(|team| {
            layer.run(team);
            let done = Arc::new(AtomicBool::new(false));
            rayon::spawn({
                let done = Arc::clone(&done);
                move || done.store(true, Ordering::Release)
            });
            while !done.load(Ordering::Acquire) {
                layer.run(team);
            }
        });
    });
}

/// Both jobs must run at the same time, and the pool has two threads.
#[test]
fn a_closure_may_need_every_thread_of_its_pool() {
    let a = pool(2);
    every_round_ends(move |layer| {
        Threads::Pool(&a).with_team(|team| {
            layer.run(team);
            let meet = Barrier::new(2);
            rayon::join(|| meet.wait(), || meet.wait());
            rayon::scope(|scope| {
                scope.spawn(|_| {
                    meet.wait();
                });
                meet.wait();
            });
            layer.run(team);
        });
    });
}

#[test]
fn a_closure_may_wait_for_a_thread_that_enters_its_pool() {
    let a = pool(2);
    every_round_ends(move |layer| {
        Threads::Pool(&a).with_team(|team| {
            layer.run(team);
            std::thread::scope(|scope| {
                scope.spawn(|| layer.run(Threads::Pool(&a)));
                scope.spawn(|| Threads::Pool(&a).with_team(|team| layer.run(team)));
            });
            layer.run(team);
        });
    });
}

#[test]
fn teams_of_two_pools_may_be_nested_both_ways() {
    let (a, b) = (pool(2), pool(2));
    every_round_ends(move |layer| {
        let nested = |outer, inner| {
            keep_a_worker_busy(outer);
            Threads::Pool(outer).with_team(|team| {
                layer.run(team);
                Threads::Pool(inner).with_team(|inner| layer.run(inner));
                layer.run(team);
            });
        };
        std::thread::scope(|scope| {
            scope.spawn(|| nested(&a, &b));
            scope.spawn(|| nested(&b, &a));
        });
    });
}

/// More leaders than threads, and each leader waits for a pool in which others lead.
#[test]
fn many_teams_may_wait_for_each_other() {
    let pools = [pool(2), pool(3)];
    every_round_ends(move |layer| {
        std::thread::scope(|scope| {
            for number in 0..4 {
                let [mine, other] = [&pools[number % 2], &pools[1 - number % 2]];
                scope.spawn(move || {
                    Threads::Pool(mine).with_team(|team| {
                        other.install(|| layer.run(Threads::Current));
                        layer.run(team);
                        other.install(|| Threads::Current.with_team(|inner| layer.run(inner)));
                        layer.run(team);
                        Threads::Current.with_team(|beside| layer.run(beside));
                    });
                });
            }
        });
    });
}
