//! A model checker explores the team. `loom` runs each model once for every order in which its threads can
//! act with a given number of preemptions, and for every value that the memory model allows a load to see. A
//! model fails on a data race (also on the published job), a deadlock, an endless wait, or a failed
//! assertion. `.ci/run models` runs the models.

use super::team::Team;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use loom::thread;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicBool;

/// Explores `model` with at most `preemptions` preemptions per execution (`None` for any number), and prints
/// the number of executions.
fn explore(name: &str, preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let executions: &std::sync::atomic::AtomicUsize = Box::leak(Box::default());
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        executions.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let executions = executions.load(Ordering::Relaxed);
    let bound = preemptions.map_or("any number of".into(), |most| format!("at most {most}"));
    println!("model {name}: {executions} executions, with {bound} preemptions");
    assert!(executions > 1, "nothing was explored");
}

fn alone(_: usize, _: &(dyn Fn() + Sync)) {}

/// The output of a job: how often each part was done.
struct Counters {
    of_parts: [AtomicU32; 3],
    /// Whether [`Team::run`] has returned or panicked. It is not part of the model and orders nothing.
    is_over: AtomicBool,
}

impl Counters {
    fn new() -> Self {
        Self { of_parts: std::array::from_fn(|_| AtomicU32::new(0)), is_over: AtomicBool::new(false) }
    }

    fn add(&self, part: usize) {
        assert!(!self.is_over.load(Ordering::Relaxed), "part {part} is done after the job has ended");
        self.of_parts[part].fetch_add(1, Ordering::Relaxed);
    }

    /// Loom checks that all counting happened before this call.
    fn counts(mut self) -> [u32; 3] {
        self.of_parts.each_mut().map(|count| count.with_mut(|count| *count))
    }
}

/// Runs a job of `parts` parts. Each part must be done once, before `run` returns.
fn job(team: &Team, parts: usize, recruit: impl FnOnce(usize, &(dyn Fn() + Sync))) {
    let counters = Counters::new();
    team.run(parts, &|part| counters.add(part), recruit);
    assert_eq!(counters.counts(), [0, 1, 2].map(|part| u32::from(part < parts)));
}

fn spawn(team: &Arc<Team>, act: impl FnOnce(&Team) + 'static) -> thread::JoinHandle<()> {
    let team = Arc::clone(team);
    thread::spawn(move || act(&team))
}

/// A member can come before, during or after a job. It can leave early or when the team is closed.
#[test]
fn a_member_comes_and_goes() {
    explore("a member comes and goes", Some(3), || {
        let team = Arc::new(Team::new(2, 0));
        let member = spawn(&team, |team| team.serve(1));
        job(&team, 2, alone);
        job(&team, 2, alone);
        team.close();
        member.join().unwrap();
    });
}

/// The member leaves when no job has come for a while, and comes back at any time during the jobs.
#[test]
fn a_member_comes_back() {
    explore("a member comes back", Some(2), || {
        let team = Arc::new(Team::new(2, 0));
        let member = spawn(&team, |team| {
            team.serve(1);
            team.come_back();
            team.serve(1);
        });
        job(&team, 2, alone);
        job(&team, 2, alone);
        team.close();
        member.join().unwrap();
    });
}

#[test]
fn two_members() {
    explore("two members", Some(1), || {
        let team = Arc::new(Team::new(3, 0));
        let members = [1, 2].map(|place| spawn(&team, move |team| team.serve(place)));
        job(&team, 3, alone);
        team.close();
        for member in members {
            member.join().unwrap();
        }
    });
}

#[test]
fn two_leaders() {
    explore("two leaders", Some(2), || {
        let team = Arc::new(Team::new(2, 0));
        let member = spawn(&team, |team| team.serve(1));
        let leader = spawn(&team, |team| job(team, 2, alone));
        job(&team, 2, alone);
        leader.join().unwrap();
        team.close();
        member.join().unwrap();
    });
}

/// The team is not closed while this thread serves. This thread is its leader and has picked up a place.
#[test]
fn a_leader_serves_itself() {
    explore("a leader serves itself", Some(2), || {
        let team = Arc::new(Team::new(3, 0));
        let member = spawn(&team, |team| team.serve(1));
        job(&team, 3, alone);
        team.serve(2);
        job(&team, 2, alone);
        team.close();
        member.join().unwrap();
    });
}

/// All members have left. A helper can come in time or late.
#[test]
fn a_helper_is_recruited() {
    explore("a helper is recruited", Some(5), || {
        let team = Arc::new(Team::new(2, 0));
        team.decline();
        (0..2).for_each(|_| job_with_helpers(&team, 2));
    });
}

#[test]
fn one_helper_for_one_job() {
    explore("one helper for one job", None, || {
        let team = Arc::new(Team::new(2, 0));
        team.decline();
        job_with_helpers(&team, 2);
    });
}

#[test]
fn two_helpers() {
    explore("two helpers", Some(3), || {
        let team = Arc::new(Team::new(3, 0));
        (0..2).for_each(|_| team.decline());
        job_with_helpers(&team, 3);
    });
}

fn job_with_helpers(team: &Arc<Team>, parts: usize) {
    let mut recruited = 0;
    job(team, parts, |missing, lead| {
        recruited = missing;
        let helpers: Vec<_> = (1..=missing).map(|place| spawn(team, move |team| team.help(place))).collect();
        lead();
        helpers.into_iter().for_each(|helper| helper.join().unwrap());
    });
    assert_eq!(recruited, parts - 1);
}

/// Whichever thread does the part that panics, no other thread stays in the job, and the team remains usable.
#[test]
fn a_part_panics() {
    explore("a part panics", Some(3), || {
        let team = Arc::new(Team::new(2, 0));
        let member = spawn(&team, |team| drop(catch_unwind(AssertUnwindSafe(|| team.serve(1)))));
        let entered = AtomicUsize::new(0);
        let counters = Counters::new();
        let result = catch_unwind(AssertUnwindSafe(|| {
            let work = |part| {
                entered.fetch_add(1, Ordering::Relaxed);
                counters.add(part);
                if part == 1 {
                    resume_unwind(Box::new("as it should"));
                }
            };
            team.run(3, &work, alone);
        }));
        let counts = counters.counts();
        assert_eq!(counts.iter().sum::<u32>() as usize, entered.load(Ordering::Relaxed));
        assert!(counts[1] == 1 && (result.is_err() || counts == [1; 3]));
        job(&team, 2, alone);
        team.close();
        member.join().unwrap();
    });
}

/// The member can have claimed a part of the job before its leader panics.
#[test]
fn publishing_panics() {
    explore("publishing panics", Some(4), || {
        let team = Arc::new(Team::new(2, 0));
        team.fails_to_publish.store(true, Ordering::Relaxed);
        let member = spawn(&team, |team| team.serve(1));
        let counters = Counters::new();
        let work = |part| counters.add(part);
        let result = catch_unwind(AssertUnwindSafe(|| team.run(2, &work, alone)));
        assert!(result.is_err());
        counters.is_over.store(true, Ordering::Relaxed);
        team.fails_to_publish.store(false, Ordering::Relaxed);
        job(&team, 2, alone);
        team.close();
        member.join().unwrap();
    });
}
