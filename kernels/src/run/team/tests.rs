//! Tests of the team with threads of their own. The tests with rayon's threads are in `gather.rs`.

use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU32;
use std::thread::scope;
use std::time::Instant;

fn alone(_: usize, _: &(dyn Fn() + Sync)) {}

/// Runs `jobs` jobs of 1 to `parts` parts. Every part must be called once, and none after `run` has returned.
fn count(team: &Team, jobs: usize, parts: usize) {
    for job in 0..jobs {
        let calls = [const { AtomicU32::new(0) }; MOST_PARTS];
        let parts = job % parts + 1;
        let work = |part: usize| {
            calls[part].fetch_add(1, Ordering::Relaxed);
        };
        team.run(parts, &work, alone);
        for (part, calls) in calls.iter().enumerate() {
            assert_eq!(calls.load(Ordering::Relaxed), u32::from(part < parts), "part {part} of {parts}");
        }
    }
}

/// Calls `work` while the other members serve, then closes the team. It passes panics on, also those of
/// members.
fn with_members<R: Send>(members: usize, work: impl FnOnce(&Team) -> R + Send) -> R {
    struct Close<'a>(&'a Team);
    impl Drop for Close<'_> {
        fn drop(&mut self) {
            self.0.close();
        }
    }
    let team = &Team::new(members, 0);
    scope(|threads| {
        (1..members).for_each(|place| drop(threads.spawn(move || team.serve(place))));
        let _close = Close(team);
        work(team)
    })
}

/// Also with more members than cores, and with more members than bits of a word.
#[test]
fn every_part_is_done_once() {
    let jobs = if cfg!(miri) { 20 } else { 3_000 };
    for members in [1, 2, 3, 7] {
        with_members(members, |team| count(team, jobs, members + 2));
    }
    with_members(2, |team| count(team, jobs / 10, MOST_PARTS));
    let many = if cfg!(miri) { 66 } else { 150 };
    with_members(many, |team| count(team, jobs / 10, many + 1));
}

#[test]
fn jobs_are_done_after_members_have_left() {
    with_members(3, |team| {
        count(team, 5, 3);
        let start = Instant::now();
        while team.missing(3) < 2 {
            assert!(start.elapsed() < Duration::from_secs(60), "members stay without a job");
            yield_now();
        }
        count(team, 5, 3);
    });
}

/// The team is never closed here, because its leader can be the one that waits for this thread.
#[test]
fn a_member_leaves_by_itself() {
    Team::new(2, 0).serve(1);
}

#[test]
#[cfg_attr(miri, ignore = "half a second is long")]
fn a_member_leaves_while_there_are_jobs() {
    let team = &Team::new(2, 0);
    scope(|threads| {
        let member = threads.spawn(|| team.serve(1));
        let start = Instant::now();
        while !member.is_finished() {
            count(team, 10, 3);
            assert!(start.elapsed() < Duration::from_secs(60), "the member stays as long as there are jobs");
        }
    });
}

#[test]
fn two_leaders_at_once_are_not_mixed_up() {
    with_members(2, |team| {
        scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| count(team, if cfg!(miri) { 10 } else { 2_000 }, 2));
            }
        });
    });
}

#[test]
fn a_panic_ends_the_work_and_nothing_else() {
    for victim in 0..4 {
        let result = catch_unwind(AssertUnwindSafe(|| {
            with_members(2, |team| {
                team.run(4, &|part| assert_ne!(part, victim, "as it should"), alone);
                count(team, 10, 2);
            });
        }));
        assert!(result.is_err(), "part {victim} has panicked");
    }
}

#[test]
fn a_panic_while_a_job_is_published_leaves_nothing_behind() {
    let team = Team::new(2, 0);
    team.fails_to_publish.store(true, Ordering::Relaxed);
    let result = catch_unwind(AssertUnwindSafe(|| team.run(2, &|_| (), alone)));
    assert!(result.is_err(), "it fails as asked for");
    let unclaimed = team.board.0.unclaimed.each_ref().map(|word| word.load(Ordering::Relaxed));
    assert_eq!(
        unclaimed,
        [0; MOST_PARTS / WORD_PARTS],
        "parts that members would claim of a closure that is gone"
    );
    assert!(!team.has_leader.0.load(Ordering::Relaxed), "the team has a leader that is gone");
    team.fails_to_publish.store(false, Ordering::Relaxed);
    count(&team, 10, 2);
}
