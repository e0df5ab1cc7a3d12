//! How a [`Team`] gets its threads: as jobs of the rayon pool that the leader is in.
//!
//! `rayon::join` keeps its jobs on the stack, so nothing is allocated. But a thread that waits in rayon
//! executes any job of its pool, on top of the call that waits. A leader whose closure waits for another pool
//! can therefore pick up a place in its own team. For this reason a place is a job that ends by itself
//! ([`Team::serve`]), and a thread that leads a team declines places.

use super::team::Team;
use std::cell::Cell;

thread_local! {
    /// Number of teams that this thread leads.
    static LED_TEAMS: Cell<usize> = const { Cell::new(0) };
}

/// Identifies the calling thread by the address of one of its thread-local variables.
fn this_thread() -> usize {
    LED_TEAMS.with(|led| std::ptr::from_ref(led).addr())
}

/// Calls `work` with a team of at most `members` threads of the pool that the caller is in.
pub(super) fn gather<R: Send>(members: usize, work: impl FnOnce(&Team) -> R + Send) -> R {
    if rayon::current_thread_index().is_none() {
        // Outside of any pool, this moves to a thread of the global pool.
        return rayon::join(|| gather(members, work), || ()).0;
    }
    let team = Team::new(members, this_thread());
    let _leads = Leads::new();
    offer_places(&team, members - 1, || {
        let _close = Close(&team);
        work(&team)
    })
}

/// Calls `work`, and offers places in the team to the other threads of the pool. When `work` returns, it
/// takes back the places that no thread has taken.
fn offer_places<R: Send>(team: &Team, places: usize, work: impl FnOnce() -> R + Send) -> R {
    if places == 0 {
        return work();
    }
    let serve = || if LED_TEAMS.get() > 0 { team.decline() } else { team.serve(places) };
    rayon::join(|| offer_places(team, places - 1, work), serve).0
}

/// [`Team::run`], with a helper from the pool for each member that has left. A helper helps with this job
/// only.
pub(super) fn run<F: Fn(usize) + Sync>(team: &Team, parts: usize, work: &F) {
    team.run(parts, work, |missing, lead| {
        // On another thread, `rayon::join` would use another pool, or rayon's global one.
        if team.home() == this_thread() {
            recruit(team, missing, lead);
        }
    });
}

fn recruit(team: &Team, helpers: usize, lead: &(dyn Fn() + Sync)) {
    if helpers == 0 {
        return lead();
    }
    rayon::join(|| recruit(team, helpers - 1, lead), || team.help(helpers));
}

/// Counts a team that this thread leads, until no job of the team is left in the pool.
struct Leads;

impl Leads {
    fn new() -> Self {
        LED_TEAMS.set(LED_TEAMS.get() + 1);
        Self
    }
}

impl Drop for Leads {
    fn drop(&mut self) {
        LED_TEAMS.set(LED_TEAMS.get() - 1);
    }
}

/// Dismisses the members, also if the work panics.
struct Close<'a>(&'a Team);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    fn in_pool<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can start").install(work)
    }

    /// Runs jobs until more than one thread has worked on the same job. Each part takes long enough to wake a
    /// thread.
    fn expect_help(team: &Team) {
        let start = Instant::now();
        loop {
            let helped = AtomicUsize::new(0);
            run(team, 2, &|_| {
                if this_thread() != team.home() {
                    helped.fetch_add(1, Ordering::Relaxed);
                }
                sleep(Duration::from_millis(2));
            });
            if helped.into_inner() > 0 {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "the leader is left alone");
        }
    }

    #[test]
    fn members_that_have_left_are_replaced() {
        in_pool(2, || {
            gather(2, |team| {
                expect_help(team);
                let start = Instant::now();
                while team.missing(2) == 0 {
                    assert!(start.elapsed() < Duration::from_secs(60), "the member stays without a job");
                    sleep(Duration::from_millis(1));
                }
                (0..5).for_each(|_| expect_help(team));
            });
        });
    }

    #[test]
    fn who_leads_declines_a_place() {
        let round = || {
            gather(3, |team| {
                let start = Instant::now();
                assert_eq!(
                    rayon::yield_now(),
                    Some(rayon::Yield::Executed),
                    "a place is what there is to do"
                );
                assert_eq!(rayon::yield_now(), Some(rayon::Yield::Executed), "and another one");
                let time = start.elapsed();
                assert_eq!(team.missing(3), 2);
                run(team, 3, &|_| ());
                time
            })
        };
        // The thread may be interrupted.
        let shortest = in_pool(1, || (0..20).map(|_| round()).min());
        assert!(
            shortest < Some(Duration::from_millis(5)),
            "who serves stays for at least 10 ms: {shortest:?}"
        );
    }

    /// The test thread belongs to no pool.
    #[test]
    fn a_team_can_be_gathered_from_outside() {
        let thread = gather(2, |team| {
            run(team, 2, &|_| ());
            rayon::current_thread_index()
        });
        assert!(thread.is_some(), "the closure is called in the global pool");
        assert_eq!(LED_TEAMS.get(), 0);
    }
}
